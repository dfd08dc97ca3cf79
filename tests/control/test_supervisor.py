"""The supervisor: a configuration is served whole or not at all, ports are changed without a gap,
and stopping is told to everybody whom it concerns. The workers are puppets (tests/support/puppet).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.control.doors import Wanted, listen
from gateway.control.plans import BadPlan, Plan
from gateway.control.supervisor import CannotStart, Supervisor
from gateway.control.takeover import Handover
from tests.support.loops import run_within, until

HOST = "127.0.0.1"


def plan(words: str = "", **changes: Any) -> Plan:
    made = Plan(
        payload=words.encode(),
        workers=2,
        worker_timeout=3600.0,
        doors=[Wanted("listen", (HOST, 0), 16)],
        admin=(HOST, 0),
        token=None,
        drain_delay=0.0,
        drain=5.0,
        spots=[("diabetes", "blue", "127.0.0.1:5001")],
        takeover=None,
        files=frozenset(),
        watch=True,
        freshness={},
        scheme="http",
        endpoints=["diabetes"],
        description={"made": "up"},
    )
    return dataclasses.replace(made, **changes)


class Stage:
    """A supervisor whose file says what the test wants."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self.next: Plan | Exception = plan()
        self.supervisor = Supervisor(
            self._load, "tests.support.puppet", fetch=_fetch, environment=environment or {}
        )

    def _load(self) -> Plan:
        if isinstance(self.next, Exception):
            raise self.next
        return self.next

    @property
    def generations(self) -> set[int]:
        return {worker.generation for worker in self.supervisor._workforce.running}

    async def get(self, path: str, method: str = "GET", token: str = "") -> tuple[int, str]:
        host, port = self.supervisor.admin_address
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://{host}:{port}{path}", headers=headers) as answer,
        ):
            return answer.status, await answer.text()


async def _fetch(url: str) -> bytes:
    raise OSError("nothing is fetched here")


def run(
    story: Callable[[Stage], Awaitable[None]],
    first: Plan | None = None,
    environment: dict[str, str] | None = None,
) -> None:
    async def main() -> None:
        stage = Stage(environment)
        await stage.supervisor.start(first or plan())
        try:
            await story(stage)
        finally:
            stage.supervisor.stopping.set()
            await stage.supervisor.stop()

    run_within(40, main())


def is_open(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 2).close()
    except ConnectionRefusedError:
        return False
    return True


def test_it_starts_says_so_and_stops(caplog: pytest.LogCaptureFixture) -> None:
    async def story(stage: Stage) -> None:
        status, text = await stage.get("/readyz")
        assert (status, json.loads(text)) == (
            200,
            {"ready": True, "reasons": [], "generation": 1, "workers": 2, "reload_problems": []},
        )
        assert "generation 1" in repr(stage.supervisor)
        assert json.loads((await stage.get("/config"))[1]) == {"made": "up"}
        assert is_open(stage.supervisor.address)

    with caplog.at_level(logging.INFO, "gateway"):
        run(story)
    assert "serves diabetes on http://127.0.0.1:" in caplog.text


def test_a_new_configuration_is_served_by_all() -> None:
    async def story(stage: Stage) -> None:
        stage.next = plan(description={"made": "anew"})
        status, text = await stage.get("/reload", "POST")
        assert (status, json.loads(text)) == (
            200,
            {"reloaded": True, "generation": 2, "problems": []},
        )
        assert stage.generations == {2}
        assert json.loads((await stage.get("/config"))[1]) == {"made": "anew"}
        assert "gateway_config_generation 2" in (await stage.get("/metrics"))[1]

    run(story)


@pytest.mark.parametrize(
    ("bad", "problems"),
    [
        (BadPlan(["f:1: a", "f:2: b"]), ["f:1: a", "f:2: b"]),
        (plan("refuse:1"), ["worker 1 cannot"]),
        (OSError("the disk is gone"), ["the disk is gone"]),
        (TypeError("a mistake of ours"), ["TypeError: see the log of the gateway"]),
    ],
)
def test_a_bad_configuration_changes_nothing_and_is_told_everywhere(
    caplog: pytest.LogCaptureFixture, bad: Plan | Exception, problems: list[str]
) -> None:
    async def story(stage: Stage) -> None:
        stage.next = bad
        address = stage.supervisor.address
        status, text = await stage.get("/reload", "POST")
        assert (status, json.loads(text)) == (
            422,
            {"reloaded": False, "generation": 1, "problems": problems},
        )
        assert stage.generations == {1}
        assert stage.supervisor.address == address
        status, text = await stage.get("/readyz")
        assert (status, json.loads(text)["reload_problems"]) == (200, problems)
        page = (await stage.get("/metrics"))[1]
        assert 'gateway_reloads_total{result="failure"} 1' in page
        assert "gateway_config_last_reload_successful 0" in page
        stage.next = plan()
        assert (await stage.get("/reload", "POST"))[0] == 200
        assert json.loads((await stage.get("/readyz"))[1])["reload_problems"] == []
        assert "gateway_config_last_reload_successful 1" in (await stage.get("/metrics"))[1]

    with caplog.at_level(logging.ERROR, "gateway"):
        run(story)
    assert f"the configuration was not reloaded: {'; '.join(problems)}" in caplog.text


def test_addresses_change_with_the_configuration(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        before = stage.supervisor.address, stage.supervisor.admin_address
        with socket.create_server((HOST, 0)) as one, socket.create_server((HOST, 0)) as two:
            ports = one.getsockname()[1], two.getsockname()[1]
        stage.next = plan(
            doors=[Wanted("listen", (HOST, ports[0]), 16)], admin=(HOST, ports[1]), token="t" * 16
        )
        assert (await stage.supervisor.reload())[0]
        assert stage.supervisor.address == (HOST, ports[0])
        assert stage.supervisor.admin_address == (HOST, ports[1])
        assert not is_open(before[0])
        assert not is_open(before[1])
        assert (await stage.get("/config"))[0] == 401
        assert (await stage.get("/config", token="t" * 16))[0] == 200
        # The token alone may change, too.
        stage.next = dataclasses.replace(stage.next, token=None)
        assert (await stage.supervisor.reload())[0]
        assert (await stage.get("/config"))[0] == 200

    run(story)


def test_an_address_that_cannot_be_had_changes_nothing() -> None:
    async def story(stage: Stage) -> None:
        with socket.create_server((HOST, 0)) as other:
            taken = other.getsockname()[1]
            stage.next = plan(doors=[Wanted("listen", (HOST, taken), 16)])
            good, told = await stage.supervisor.reload()
            assert (good, told["problems"]) == (
                False,
                [f"127.0.0.1:{taken} is in use by another program"],
            )
        assert is_open(stage.supervisor.address)
        assert stage.generations == {1}

    run(story)


def test_files_that_change_are_read(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.touch()

    async def story(stage: Stage) -> None:
        stage.next = plan(files=frozenset([file]))
        file.write_text("changed")
        await until(lambda: stage.generations == {2})

    run(story, plan(files=frozenset([file])))


def test_who_asks_for_no_watch_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.supervisor._WATCH", 0.02)
    file = tmp_path / "gateway.yaml"
    file.touch()

    async def story(stage: Stage) -> None:
        file.write_text("changed")
        await asyncio.sleep(0.3)
        assert stage.generations == {1}

    run(story, plan(files=frozenset([file]), watch=False))


def test_reloads_come_one_after_the_other() -> None:
    async def story(stage: Stage) -> None:
        results = await asyncio.gather(*(stage.supervisor.reload() for _ in range(5)))
        assert [told["generation"] for _, told in results] == [2, 3, 4, 5, 6]
        assert stage.generations == {6}

    run(story)


def test_a_reload_waits_for_the_start() -> None:
    async def main() -> None:
        stage = Stage()
        starting = asyncio.Task(stage.supervisor.start(plan()))
        await asyncio.sleep(0)
        assert (await stage.supervisor.reload())[1]["generation"] == 2
        assert starting.done()
        # One process for each of the two places.
        assert len(stage.supervisor._workforce._everybody) == 2
        await stage.supervisor.stop()

    run_within(20, main())


def test_who_is_stopping_takes_no_other_configuration() -> None:
    async def story(stage: Stage) -> None:
        address = stage.supervisor.address
        reloading = asyncio.Task(stage.supervisor.reload())
        await asyncio.sleep(0)
        stopping = asyncio.Task(stage.supervisor.stop())
        assert (await reloading)[0] is True
        assert await stage.supervisor.reload() == (
            False,
            {"reloaded": False, "generation": 2, "problems": ["the gateway is stopping"]},
        )
        await stopping
        assert not is_open(address)

    async def main() -> None:
        stage = Stage()
        await stage.supervisor.start(plan())
        await story(stage)

    run_within(20, main())


def test_without_workers_it_is_not_ready() -> None:
    async def story(stage: Stage) -> None:
        stage.next = plan("die-young")
        await stage.supervisor.reload()
        for worker in stage.supervisor._workforce.running:
            os.kill(worker.pid, signal.SIGKILL)
        await until(lambda: not stage.supervisor._workforce.running)
        status, text = await stage.get("/readyz")
        assert (status, json.loads(text)["reasons"]) == (503, ["no worker is running"])

    run(story, plan(workers=1))


def test_a_stop_is_told_before_it_begins() -> None:
    async def story(stage: Stage) -> None:
        stopping = asyncio.Task(stage.supervisor.stop())
        await asyncio.sleep(0.1)
        assert json.loads((await stage.get("/readyz"))[1])["reasons"] == ["stopping"]
        assert is_open(stage.supervisor.address)
        assert stage.generations == {1}
        assert await stopping == 1 + 2

    async def main() -> None:
        stage = Stage()
        await stage.supervisor.start(plan(drain_delay=0.5))
        stage.supervisor.stopping.set()
        await story(stage)

    run_within(20, main())


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (plan("refuse"), "worker 0 cannot"),
        (plan("die"), "worker 0 has ended"),
        (plan(takeover=Path("/proc/takeover")), "cannot be asked at /proc/takeover"),
        (plan(doors=[Wanted("listen", ("203.0.113.1", 80), 5)]), "cannot listen on 203.0.113.1:80"),
    ],
)
def test_what_keeps_it_from_starting_is_one_sentence(first: Plan, why: str) -> None:
    async def main() -> None:
        stage = Stage()
        with pytest.raises(CannotStart, match=why):
            await stage.supervisor.start(dataclasses.replace(first, workers=1))
        stage.supervisor.kill()
        await stage.supervisor._workforce.drain(0.0)
        await stage.supervisor._close_admin()
        stage.supervisor._doors.close()

    run_within(20, main())


def test_a_new_gateway_takes_over_from_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "takeover.sock"

    async def story(old: Stage) -> None:
        address, admin = old.supervisor.address, old.supervisor.admin_address
        new = Stage()
        await new.supervisor.start(
            plan(takeover=path, doors=[Wanted("listen", address, 16)], admin=admin)
        )
        assert new.supervisor.address == address
        await until(old.supervisor.stopping.is_set)
        assert json.loads((await new.get("/readyz"))[1])["ready"] is True
        await old.supervisor.stop()
        assert is_open(address)
        assert (await new.get("/healthz"))[0] == 200
        assert path.exists()
        new.supervisor.stopping.set()
        await new.supervisor.stop()
        assert not path.exists()

    async def main() -> None:
        old = Stage()
        await old.supervisor.start(plan(takeover=path))
        await story(old)

    run_within(40, main())


def test_a_gateway_that_does_not_say_that_it_leaves_is_followed_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be leaving, and giving up would leave nobody."""
    path = tmp_path / "takeover.sock"
    sockets = [listen((HOST, 0), 5) for _ in range(3)]
    public, admin, unwanted = (sock.getsockname() for sock in sockets)

    async def leave() -> None:
        raise OSError

    async def main() -> None:
        old = Handover(path, lambda: sockets, leave)
        old.start()
        new = Stage()
        await new.supervisor.start(
            plan(takeover=path, doors=[Wanted("listen", public, 16)], admin=admin)
        )
        for sock in sockets:
            sock.close()
        assert (await new.get("/readyz"))[0] == 200
        assert new.supervisor.address == public
        # Nobody accepts there any more, so nobody shall wait there.
        assert not is_open(unwanted)
        await new.supervisor.stop()
        old.close()

    run_within(20, main())
    why = "the connection was closed"
    assert f"the gateway before this one does not say that it leaves: {why}" in caplog.messages


def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)

        async def story(stage: Stage) -> None:
            await stage.supervisor.reload()

        run(
            story,
            environment={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"},
        )
        told: list[list[str]] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(manager.recv(1000).decode().split("\n"))
    firsts = [lines[0] for lines in told if lines[0] != "WATCHDOG=1"]
    assert firsts == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert f"MAINPID={os.getpid()}" in told[0]
    assert any(lines == ["WATCHDOG=1"] for lines in told)
    assert any(line.startswith("MONOTONIC_USEC=") for lines in told for line in lines)
