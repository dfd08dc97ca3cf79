"""A worker does what the supervisor says, and tells what it has to know."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import threading
import types
from collections.abc import Coroutine, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.control.messages import (
    Abort,
    Count,
    Describe,
    Described,
    Door,
    Drain,
    Drained,
    Fetch,
    Fetched,
    Prepared,
    Refused,
    Running,
)
from gateway.control.metrics import Metrics, Supervision
from tests.support.backends import FakeBackend, Link, answering
from tests.support.gateways import KEY, SECOND_KEY, minimal
from tests.support.loops import run_within, until
from tests.support.overseer import Overseer
from tests.support.raw import Answer, RawClient, request

ENVIRONMENT = {"TEST_KEY": KEY, "TEST_SECOND_KEY": SECOND_KEY}


def run(story: Coroutine[Any, Any, None]) -> None:
    run_within(30, story)


def write(folder: Path, text: str) -> Path:
    path = folder / "gateway.yaml"
    path.write_text(text)
    return path


async def ask(address: tuple[str, int], data: bytes | None = None) -> Answer:
    """One request on a connection of its own, without holding up the worker's loop."""

    def talk() -> Answer:
        with RawClient(address, 10) as client:
            client.send(request(key=KEY) if data is None else data)
            return client.answer()

    return await asyncio.to_thread(talk)


async def serving(overseer: Overseer, path: Path) -> tuple[str, int]:
    """The address at which the worker serves a configuration."""
    overseer.prepare(path, ENVIRONMENT, [overseer.door(1)])
    await overseer.hears(Prepared)
    overseer.commit()
    await overseer.hears(Running)
    return overseer.address(1)


def test_it_serves_what_was_committed_and_ends_when_drained(tmp_path: Path) -> None:
    async def story() -> None:
        with FakeBackend(answering()) as backend:
            path = write(tmp_path, minimal(backend.url))
            async with Overseer() as overseer:
                address = await serving(overseer, path)
                assert (await ask(address)).status == 200
                overseer.channel.send(Describe(5))
                described = await overseer.hears(Described)
                assert described.number == 5
                assert list(described.state) == ["diabetes"]
                overseer.channel.send(Drain(5.0))
                assert await overseer.hears(Drained) == Drained(0)
                await overseer.lost.wait()

    run(story())


def test_what_is_prepared_changes_nothing_until_it_is_committed(tmp_path: Path) -> None:
    async def story() -> None:
        with FakeBackend(answering()) as one, FakeBackend(answering()) as other:
            async with Overseer() as overseer:
                address = await serving(overseer, write(tmp_path, minimal(one.url)))
                door = overseer.door(2)
                overseer.prepare(write(tmp_path, minimal(other.url)), ENVIRONMENT, [door])
                await overseer.hears(Prepared)
                await ask(address)
                assert (len(one.seen), len(other.seen)) == (1, 0)
                overseer.channel.send(Abort(overseer.generation))
                overseer.prepare(write(tmp_path, minimal(other.url)), ENVIRONMENT, [door])
                await overseer.hears(Prepared)
                overseer.commit()
                await overseer.hears(Running)
                await ask(overseer.address(2))
                assert (len(one.seen), len(other.seen)) == (1, 1)

    run(story())


def test_what_has_become_wrong_since_it_was_judged_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        logs = tmp_path / "logs"
        logs.mkdir()
        path = write(tmp_path, minimal("http://127.0.0.1:1", top="access_log: logs/access.log\n"))
        async with Overseer() as overseer:
            address = await serving(overseer, path)
            path = write(tmp_path, path.read_text().replace("access.log", "other.log"))
            (logs / "other.log").mkdir()
            door = overseer.door(2)
            with pytest.raises(Exception, match="is a directory"):
                overseer.prepare(path, ENVIRONMENT, [door])
            (logs / "other.log").rmdir()
            os.symlink("/proc/log", logs / "other.log")
            overseer.prepare(path, ENVIRONMENT, [door])
            refused = await overseer.hears(Refused)
            assert refused.generation == overseer.generation
            assert refused.why == (
                "cannot write the access log logs/other.log: No such file or directory"
            )
            assert (await ask(address)).status == 503

    run(story())


def test_keys_that_are_gone_are_refused_from_the_next_request_on(tmp_path: Path) -> None:
    async def story() -> None:
        with FakeBackend(answering()) as backend:
            path = write(tmp_path, minimal(backend.url))
            async with Overseer() as overseer:
                door = overseer.door(1)
                overseer.prepare(path, ENVIRONMENT, [door])
                await overseer.hears(Prepared)
                overseer.commit()
                await overseer.hears(Running)
                with RawClient(overseer.address(1), 10) as client:
                    client.send(request(key=KEY))
                    assert (await asyncio.to_thread(client.answer)).status == 200
                    changed = {
                        "TEST_KEY": "another-key-of-the-tests",
                        "TEST_SECOND_KEY": SECOND_KEY,
                    }
                    overseer.prepare(path, changed, [door])
                    await overseer.hears(Prepared)
                    overseer.commit()
                    await overseer.hears(Running)
                    client.send(request(key=KEY))
                    assert (await asyncio.to_thread(client.answer)).status == 401
                    client.send(request(key="another-key-of-the-tests"))
                    assert (await asyncio.to_thread(client.answer)).status == 200

    run(story())


def test_what_was_counted_is_told_regularly_and_when_asked(tmp_path: Path) -> None:
    async def story() -> None:
        with FakeBackend(answering()) as backend:
            path = write(tmp_path, minimal(backend.url))
            async with Overseer() as overseer:
                address = await serving(overseer, path)
                await until(lambda: len(overseer.reports) >= 2)
                await ask(address)
                page = await counted(overseer)
                assert f"{ANSWERED} 1" in page
                assert "gateway_connections_accepted_total 1" in page

    run(story())


ANSWERED = 'gateway_requests_total{endpoint="diabetes",deployment="blue",code="200"}'


async def counted(overseer: Overseer) -> list[str]:
    """The page of metrics, by what the worker has told."""
    before = len(overseer.reports)
    overseer.channel.send(Count())
    await until(lambda: len(overseer.reports) > before)
    metrics = Metrics()
    for report in overseer.reports:
        if report.changes is not None:
            metrics.totals.apply(0, report.changes)
    return metrics.render(Supervision({0: os.getpid()})).decode().splitlines()


def test_what_a_deployment_has_counted_is_told_though_it_is_gone(tmp_path: Path) -> None:
    """It was there between two reports only, and a request is in flight when it goes."""
    held, released = threading.Event(), threading.Event()

    def second_waits(link: Link) -> None:
        while (seen := link.read_request()) is not None:
            if seen.body == b"[2]":
                held.set()
                released.wait(10)
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def story() -> None:
        with FakeBackend(second_waits) as backend:
            text = minimal(backend.url)
            async with Overseer() as overseer:
                address = await serving(overseer, write(tmp_path, text))
                path = write(tmp_path, text.replace("blue:", "green:"))
                overseer.prepare(path, ENVIRONMENT, [Door(1, "listen", ("127.0.0.1", 0), 16)])
                await overseer.hears(Prepared)
                assert (await ask(address)).status == 200
                waiting = asyncio.create_task(ask(address, request(body=b"[2]", key=KEY)))  # noqa: TID251
                await asyncio.to_thread(held.wait, 10)
                overseer.commit()
                await overseer.hears(Running)
                assert f"{ANSWERED} 1" in await counted(overseer)
                released.set()
                assert (await waiting).status == 200
                assert f"{ANSWERED} 2" in await counted(overseer)

    run(story())


def test_an_address_that_is_not_wanted_any_more_finishes_what_it_has(tmp_path: Path) -> None:
    async def story() -> None:
        with FakeBackend(answering()) as backend:
            path = write(tmp_path, minimal(backend.url))
            async with Overseer() as overseer:
                first = await serving(overseer, path)
                with RawClient(first, 10) as client:
                    half = request(key=KEY)
                    client.send(half[:-5])
                    await asyncio.sleep(0.1)
                    overseer.prepare(path, ENVIRONMENT, [overseer.door(2)])
                    await overseer.hears(Prepared)
                    overseer.commit()
                    await overseer.hears(Running)
                    client.send(half[-5:])
                    answer = await asyncio.to_thread(client.answer)
                    assert answer.status == 200
                    assert answer.header("connection") == "close"
                assert (await ask(overseer.address(2))).status == 200

    run(story())


def test_a_key_that_is_taken_back_opens_nothing_at_an_address_that_is_left(tmp_path: Path) -> None:
    async def story() -> None:
        with FakeBackend(answering()) as backend:
            text = minimal(backend.url)
            async with Overseer() as overseer:
                first = await serving(overseer, write(tmp_path, text))
                with RawClient(first, 10) as kept, RawClient(first, 10) as other:
                    for client in (kept, other):
                        client.send(request(key=KEY))
                        assert (await asyncio.to_thread(client.answer)).status == 200
                    for number in (2, 3):
                        path = write(tmp_path, text)
                        keys = {**ENVIRONMENT, "TEST_KEY": f"{number}-{SECOND_KEY}"}
                        overseer.prepare(path, keys, [overseer.door(number)])
                        await overseer.hears(Prepared)
                        overseer.commit()
                        await overseer.hears(Running)
                        # The first reload leaves the address, the second one is after that.
                        client = (kept, other)[number - 2]
                        client.send(request(key=KEY))
                        assert (await asyncio.to_thread(client.answer)).status == 401

    run(story())


def test_documents_are_fetched_by_the_supervisor() -> None:
    async def story() -> None:
        async with Overseer() as overseer:
            await until(lambda: bool(overseer.reports))
            fetching = [asyncio.Task(overseer.worker._fetch(f"https://i/{n}")) for n in range(2)]
            first, second = await overseer.hears(Fetch), await overseer.hears(Fetch)
            assert (first.url, second.url) == ("https://i/0", "https://i/1")
            overseer.channel.send(Fetched(second.number, b"", "no answer"))
            overseer.channel.send(Fetched(first.number, b"keys", None))
            overseer.channel.send(Fetched(99, b"never asked for", None))
            assert await fetching[0] == b"keys"
            with pytest.raises(OSError, match="no answer"):
                await fetching[1]

    run(story())


def test_without_a_supervisor_it_finishes_and_ends(tmp_path: Path) -> None:
    async def story() -> None:
        with FakeBackend(answering()) as backend:
            async with Overseer() as overseer:
                address = await serving(overseer, write(tmp_path, minimal(backend.url)))
                overseer.channel.close()
                await overseer._running
                # The test has the socket, too.
                overseer._sockets[1].close()
                with pytest.raises(ConnectionRefusedError):
                    await ask(address)

    run(story())


def test_t33_no_object_of_a_worker_holds_a_key_as_text(tmp_path: Path) -> None:
    keys = {"TEST_KEY": secrets.token_hex(20), "TEST_SECOND_KEY": secrets.token_hex(20)}
    for name, key in keys.items():
        (tmp_path / name).write_text(key)
    path = write(tmp_path, minimal("http://127.0.0.1:1").replace("env:", "file:"))

    async def story() -> None:
        async with Overseer() as overseer:
            await serving(overseer, path)
            held = [
                item
                for item in _reachable(overseer.worker)
                if isinstance(item, str | bytes)
                and any(
                    (key if isinstance(item, str) else key.encode()) in item  # type: ignore[operator]
                    for key in keys.values()
                )
            ]
            assert held == []
            # The search finds what is there: the digests are.
            digests = {sha256(key.encode()).digest() for key in keys.values()}
            found = {item for item in _reachable(overseer.worker) if isinstance(item, bytes)}
            assert digests <= found

    run(story())


_ENDS = (types.ModuleType, type, types.FrameType, asyncio.AbstractEventLoop)


def _reachable(root: object) -> Iterator[object]:
    """Everything that an object leads to; not by way of modules, classes and global names, nor of
    the event loop, which leads to the test itself."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, _ENDS):
            continue
        seen.add(id(item))
        yield item
        if isinstance(item, types.FunctionType):
            waiting += [cell.cell_contents for cell in item.__closure__ or ()]
            waiting += item.__defaults__ or ()
        else:
            waiting += gc.get_referents(item)
