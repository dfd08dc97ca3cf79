"""A new gateway gets the listening sockets of the old one, and nobody else does."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.control.doors import listen
from gateway.control.takeover import Handover, Takeover, TakeoverFailed, take_over
from gateway.engine.tasks import spawn
from tests.support.loops import run_within


class Old:
    """The gateway that gives way."""

    def __init__(self, path: Path, count: int = 2) -> None:
        self.sockets = [listen(("127.0.0.1", 0), 5) for _ in range(count)]
        self.left = 0
        self.handover = Handover(path, lambda: self.sockets, self._leave)

    async def _leave(self) -> None:
        self.left += 1

    def close(self) -> None:
        self.handover.close()
        for sock in self.sockets:
            sock.close()


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_within(20, story())


def test_sockets_change_hands_and_the_old_one_leaves_last(tmp_path: Path) -> None:
    path = tmp_path / "takeover.sock"

    async def story() -> None:
        old = Old(path)
        old.handover.start()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        found = await take_over(path)
        assert found is not None
        expected = [sock.getsockname() for sock in old.sockets]
        assert [sock.getsockname() for sock in found.sockets] == expected
        assert old.left == 0
        await found.finish()
        assert old.left == 1
        old.close()
        # What the old one closed is still open, and nothing in its queue was lost.
        with socket.create_connection(expected[0], 2) as client:
            found.sockets[0].setblocking(True)
            found.sockets[0].settimeout(2)
            found.sockets[0].accept()[0].close()
            assert client.recv(1) == b""
        for sock in found.sockets:
            sock.close()

    run(story)


def test_nobody_there_is_no_takeover(tmp_path: Path) -> None:
    async def story() -> None:
        assert await take_over(tmp_path / "none") is None
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stale:
            stale.bind(str(tmp_path / "stale"))
        assert await take_over(tmp_path / "stale") is None
        # A new one takes the place of what is stale.
        old = Old(tmp_path / "stale")
        old.handover.start()
        found = await take_over(tmp_path / "stale")
        assert isinstance(found, Takeover)
        found.close()
        old.close()
        assert not (tmp_path / "stale").exists()

    run(story)


def test_a_new_one_that_does_not_get_ready_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "takeover.sock"

    async def story() -> None:
        old = Old(path)
        old.handover.start()
        first = await take_over(path)
        assert first is not None
        first.close()
        second = await take_over(path)
        assert second is not None
        assert old.left == 0
        await second.finish()
        assert old.left == 1
        second.close()
        old.close()

    run(story)


def test_the_name_of_the_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "takeover.sock"

    async def story() -> None:
        old, new = Old(path), Old(path, 1)
        old.handover.start()
        new.handover.start()
        old.close()
        found = await take_over(path)
        assert found is not None
        assert len(found.sockets) == 1
        found.close()
        new.close()

    run(story)
    assert list(tmp_path.iterdir()) == []


def test_who_speaks_otherwise_gets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "takeover.sock"

    async def story() -> None:
        old = Old(path)
        old.handover.start()
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.setblocking(False)
            await loop.sock_connect(stranger, str(path))
            await loop.sock_sendall(stranger, b"GET / HTTP/1.1\r\n\r\n")
            assert await loop.sock_recv(stranger, 100) == b""
        assert old.left == 0
        old.close()

    run(story)


@pytest.mark.parametrize("answer", [b"", b"no sockets"])
def test_who_answers_otherwise_is_no_gateway(tmp_path: Path, answer: bytes) -> None:
    async def story() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            other.bind(str(tmp_path / "other"))
            other.listen(1)
            other.setblocking(False)

            async def behave() -> None:
                link, _ = await asyncio.get_running_loop().sock_accept(other)
                with link:
                    await asyncio.get_running_loop().sock_recv(link, 10)
                    if answer:
                        await asyncio.get_running_loop().sock_sendall(link, answer)

            behaving = spawn(behave(), "another program")
            with pytest.raises(TakeoverFailed, match="it hands over no sockets"):
                await take_over(tmp_path / "other")
            await behaving

    run(story)


def test_a_file_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "takeover.sock"
    path.write_text("precious")

    async def story() -> None:
        old = Old(path)
        with pytest.raises(OSError, match="is there and is not a socket"):
            old.handover.start()
        old.close()
        assert path.read_text() == "precious"

    run(story)
