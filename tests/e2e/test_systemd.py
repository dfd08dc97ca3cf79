"""The gateway under systemd, which is played here with its own protocols: what it is told
(sd_notify(3)), what it passes (sd_listen_fds(3)), and how units are upgraded. The unit files are
judged by systemd itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app import RESERVED_DESCRIPTORS
from gateway.cli import main
from gateway.settings.schema import Limits, Timeouts
from tests.support.backends import FakeBackend, answering
from tests.support.gateways import KEY, GatewayProcess, minimal, wait_until
from tests.support.raw import RawClient, request
from tests.support.tools import tool

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
# Puts a socket where systemd puts it, and becomes the gateway.
START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """Where the gateway tells its state."""

    def __init__(self, folder: Path, patience: float = 60.0) -> None:
        """:param patience: seconds without a heartbeat after which a service is given up."""
        folder.mkdir(exist_ok=True)
        self._patience = patience
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._told: list[dict[str, str]] = []

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": f"{self._patience * 1e6:.0f}"}

    def told(self, name: str, timeout: float = 10.0) -> dict[str, str]:
        """The next message that says ``name``, whatever was said before it."""
        give_up = time.monotonic() + timeout
        while True:
            self._socket.settimeout(max(0.01, give_up - time.monotonic()))
            text = self._socket.recv(4096).decode()
            message = dict(line.split("=", 1) for line in text.split("\n"))
            self._told.append(message)
            if name in message:
                return message

    @property
    def states(self) -> list[str]:
        """The first word of every message so far, heartbeats left out."""
        firsts = (next(iter(message)) for message in self._told)
        return [first for first in firsts if first != "WATCHDOG"]


@contextlib.contextmanager
def backend() -> Iterator[FakeBackend]:
    with FakeBackend(answering(b"[1]")) as found:
        yield found


def test_systemd_hears_of_every_state_and_of_the_heart(tmp_path: Path) -> None:
    text = minimal("http://127.0.0.1:1")
    with (
        Manager(tmp_path / "m", 0.4) as manager,
        GatewayProcess(text, tmp_path, environment=manager.environment) as gateway,
    ):
        ready = manager.told("READY")
        assert ready["MAINPID"] == str(gateway.process.pid)
        assert ready["STATUS"] == "generation 1, workers: 1"
        # Twice within the time after which systemd would lose patience.
        began = time.monotonic()
        for _ in range(5):
            manager.told("WATCHDOG")
        assert time.monotonic() - began < 5 * 0.4
        before = time.monotonic_ns() // 1000
        gateway.process.send_signal(signal.SIGHUP)
        assert before <= int(manager.told("RELOADING")["MONOTONIC_USEC"])
        assert manager.told("READY")["STATUS"] == "generation 2, workers: 1"
        assert gateway.stop() == 0
        assert manager.told("STOPPING")["STOPPING"] == "1"
        assert manager.states == ["READY", "RELOADING", "READY", "STOPPING"]


def test_who_connects_while_the_service_is_restarted_is_served_by_the_next(tmp_path: Path) -> None:
    with backend() as container, socket.create_server(("127.0.0.1", 0)) as port:
        address = port.getsockname()
        text = minimal(container.url, top=f"listen: 127.0.0.1:{address[1]}")
        gateway = GatewayProcess(
            text,
            tmp_path,
            prefix=(sys.executable, "-c", START, str(port.fileno())),
            inherited=(port.fileno(),),
        )
        with gateway:
            assert gateway.address == address
            assert gateway.ask().status == 200
        with RawClient(address, 20) as client:
            client.send(request(key=KEY))
            with gateway:
                assert client.answer().status == 200
                assert gateway.ask().status == 200


def test_one_instance_takes_over_from_another(tmp_path: Path) -> None:
    """As ``systemctl start scoring-gateway@new`` does it while ``scoring-gateway@old`` runs."""
    ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    public, admin = (port.getsockname()[1] for port in ports)
    for port in ports:
        port.close()
    with backend() as container, Manager(tmp_path / "o") as olds, Manager(tmp_path / "n") as news:
        listen = f"listen: 127.0.0.1:{public}\ntakeover: {tmp_path}/takeover.sock"
        text = minimal(container.url, top=listen)
        text = text.replace("admin: 127.0.0.1:0", f"admin: 127.0.0.1:{admin}")
        old = GatewayProcess(text, tmp_path / "o", environment=olds.environment)
        new = GatewayProcess(text, tmp_path / "n", environment=news.environment)
        with old, new:
            assert news.told("READY")["MAINPID"] == str(new.process.pid)
            assert olds.told("STOPPING")
            assert old.process.wait(15) == 0
            assert new.ask().status == 200
            assert json.loads(new.admin_get("/readyz")[1])["ready"] is True
            assert old.complaints() == new.complaints() == []


def test_a_worker_that_dies_does_not_end_the_service(tmp_path: Path) -> None:
    """systemd looks at the supervisor only (`OOMPolicy=continue`)."""
    with backend() as container, GatewayProcess(minimal(container.url), tmp_path) as gateway:
        first = gateway.worker()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: gateway.workers() not in ([first], [gateway.process.pid]), 10)
        wait_until(lambda: gateway.admin_get("/readyz")[0] == 200, 10)
        assert gateway.ask().status == 200
        assert gateway.stop() == 0


# The unit files.


def settings(name: str) -> dict[str, list[str]]:
    """What a unit sets, by name."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def seconds(value: str) -> int:
    match = re.fullmatch(r"(\d+)s", value)
    assert match is not None, value
    return int(match[1])


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    units = sorted([*UNITS.glob("*.service"), *UNITS.glob("*.socket")])
    assert len(units) == 3
    # It looks for the program as well.
    for unit in units:
        text = re.sub(r"^(Exec\w+)=\S+", r"\1=/bin/true", unit.read_text(), flags=re.MULTILINE)
        (tmp_path / unit.name.replace("@.", "@1.")).write_text(text)
    ended = subprocess.run(
        [analyze, "verify", *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", ["scoring-gateway.service", "scoring-gateway@.service"])
def test_the_units_fit_the_gateway(unit: str) -> None:
    found = settings(unit)
    times = Timeouts()
    assert seconds(found["TimeoutStopSec"][0]) >= times.drain_delay + times.drain + 10
    connections = Limits().connections + RESERVED_DESCRIPTORS
    assert int(found["LimitNOFILE"][0]) > 2 * connections
    for key in ("ExecStart", "ExecReload"):
        _, command, option, path = found[key][0].split()
        assert command in main.commands
        assert (option, path) == ("--config", "/etc/scoring-gateway/gateway.yaml")


def test_both_ways_to_run_it_differ_in_what_they_have_to() -> None:
    one, other = settings("scoring-gateway.service"), settings("scoring-gateway@.service")
    different = {key for key in one | other if one.get(key) != other.get(key)}
    assert different == {"Description", "ExecStart", "ExecReload", "RuntimeDirectoryPreserve"}
