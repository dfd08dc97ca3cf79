"""A new gateway takes over from an old one, without a moment in which nobody listens.

The new process asks at a local socket for the listening sockets, gets them beside the answer
(unix(7), SCM_RIGHTS), starts its workers on them and says that it is ready. The old one then closes
its admin port, says so, and finishes what it has in flight. Both accept for a while; what has
connected and was accepted by nobody belongs to the sockets, and so to the new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from gateway.engine.tasks import spawn

_ASK, _READY, _DONE = b"sockets", b"ready", b"done"
# Descriptors in one message at most; the kernel allows 253.
_MOST = 64
# Seconds that the other side is waited for.
PATIENCE = 10.0
_CREDENTIALS = struct.Struct("3i")


class TakeoverFailed(Exception):
    """The other gateway did not do its part; the message says what went wrong."""


class Takeover:
    """The side that takes over."""

    def __init__(self, link: socket.socket, sockets: Sequence[socket.socket]) -> None:
        self.sockets = sockets
        self._link = link

    async def finish(self) -> None:
        """Say that the workers serve, and wait until the other gateway has closed its admin port.

        :raises TakeoverFailed: it does not answer.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                await loop.sock_sendall(self._link, _READY)
                answer = await loop.sock_recv(self._link, 64)
        except (OSError, TimeoutError) as why:
            raise TakeoverFailed(str(why) or "no answer in time") from None
        finally:
            self._link.close()
        if answer != _DONE:
            raise TakeoverFailed("the connection was closed")

    def close(self) -> None:
        """Leave everything to the other gateway."""
        self._link.close()
        for sock in self.sockets:
            sock.close()


async def take_over(path: Path) -> Takeover | None:
    """The listening sockets of the gateway that answers at ``path``; None if none does.

    :raises TakeoverFailed: somebody is there, but does not answer as a gateway does.
    """
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE):
            await loop.sock_connect(link, str(path))
            await loop.sock_sendall(link, _ASK)
            await _readable(link)
            _, descriptors, _, _ = socket.recv_fds(link, 64, _MOST)
    except (FileNotFoundError, ConnectionRefusedError):
        link.close()
        return None
    except (OSError, TimeoutError) as why:
        link.close()
        raise TakeoverFailed(str(why) or "no answer in time") from None
    sockets = [socket.socket(fileno=number) for number in descriptors]
    for sock in sockets:
        sock.setblocking(False)
    if not sockets:
        link.close()
        raise TakeoverFailed("it hands over no sockets")
    return Takeover(link, sockets)


class Handover:
    """The side that is asked. It serves one at a time, and only who runs as the same user."""

    def __init__(
        self,
        path: Path,
        sockets: Callable[[], Sequence[socket.socket]],
        leave: Callable[[], Awaitable[None]],
    ) -> None:
        """
        :param sockets: what is handed over.
        :param leave: closes the admin port and begins to stop.
        """
        self.path = path
        self._sockets = sockets
        self._leave = leave
        self._listening: socket.socket | None = None
        self._identity: tuple[int, int] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Be there for whoever asks. What is at the path already is replaced: whoever could be
        asked there has handed over, or is gone.

        :raises OSError: there can be no socket at the path.
        """
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISSOCK(self.path.lstat().st_mode):
                    raise OSError(None, "is there and is not a socket", str(self.path))
            before = os.umask(0o177)
            try:
                listening.bind(str(fresh))
            finally:
                os.umask(before)
            listening.listen(4)
            listening.setblocking(False)
            found = fresh.stat()
            fresh.rename(self.path)
        except OSError:
            listening.close()
            raise
        self._identity = found.st_dev, found.st_ino
        self._listening = listening
        self._task = spawn(self._serve(listening), "handover")

    def close(self) -> None:
        """Be there no longer. The name is removed unless it stands for another's socket by now."""
        if self._task is not None:
            self._task.cancel()
        if self._listening is not None:
            self._listening.close()
        self._withdraw()

    def _withdraw(self) -> None:
        identity, self._identity = self._identity, None
        with contextlib.suppress(OSError):
            found = self.path.stat()
            if (found.st_dev, found.st_ino) == identity:
                self.path.unlink()

    async def _serve(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await _readable(listening)
            try:
                link, _ = listening.accept()
            except OSError:
                continue
            link.setblocking(False)
            with link, contextlib.suppress(OSError, TimeoutError):
                if not _is_ours(link):
                    continue
                async with asyncio.timeout(PATIENCE):
                    if await loop.sock_recv(link, 64) != _ASK:
                        continue
                    descriptors = [sock.fileno() for sock in self._sockets()]
                    socket.send_fds(link, [b"%d" % len(descriptors)], descriptors)
                # Its workers have to start; it is gone if they do not.
                if await loop.sock_recv(link, 64) == _READY:
                    # Before the other one hears of it: the name is its own from then on.
                    self._withdraw()
                    await self._leave()
                    await loop.sock_sendall(link, _DONE)


def _is_ours(link: socket.socket) -> bool:
    """Whether who asks runs as the same user, or as root."""
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(credentials)[1] in (os.getuid(), 0)


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, note)
    try:
        await ready
    finally:
        loop.remove_reader(sock)
