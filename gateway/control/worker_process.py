"""One worker process, as the supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gateway.control.channel import Channel
from gateway.control.messages import Commit, Door, Prepare, Prepared, Refused, Running

# The folder that the package is in: the same program, wherever it was started from.
_ROOT = str(Path(__file__).resolve().parents[2])


class WorkerLost(Exception):
    """The process has ended, or does not answer."""


class CannotServe(Exception):
    """A worker cannot do what a configuration says; the message is for the operator."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a worker. ``descriptors`` are inherited under the same numbers."""

    module: str
    arguments: Sequence[str] = ()
    descriptors: Sequence[int] = ()


class WorkerProcess:
    """A process with a channel to it."""

    __slots__ = (
        "_answer",
        "_child",
        "_given",
        "_hear",
        "_passing",
        "_status",
        "channel",
        "cut_off",
        "ended",
        "generation",
        "heard",
        "index",
        "pid",
        "started",
    )

    def __init__(self, index: int, hear: Callable[[WorkerProcess, Any], None]) -> None:
        """:param hear: gets what the worker says of itself."""
        self.index = index
        self.pid = 0
        self.channel = Channel(self._take, self._settle)
        #: The configuration that it serves, 0 while that is none.
        self.generation = 0
        #: Monotonic seconds of its start and its last words.
        self.started = self.heard = 0.0
        #: How many connections it had to cut off when it was asked to end; None before.
        self.cut_off: int | None = None
        #: Set when it has ended, to its exit status (negative: the signal).
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._hear = hear
        self._answer: asyncio.Future[Any] | None = None
        self._given: set[int] = set()
        self._passing = cast(socket.socket, None)
        self._child: subprocess.Popen[bytes] | None = None
        self._status: int | None = None

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.index}, pid {self.pid}, generation {self.generation}>"

    @property
    def is_alive(self) -> bool:
        return not self.ended.done()

    async def start(self, launch: Launch) -> None:
        """Start the process.

        :raises OSError: the system has no room for it.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        self._passing, their_passing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        inherited = (theirs.fileno(), their_passing.fileno())
        try:
            self._child = subprocess.Popen(  # noqa: ASYNC220, S603  vfork; takes a millisecond
                [sys.executable, "-P", "-m", launch.module, str(self.index)]
                + [str(number) for number in inherited] + list(launch.arguments),
                pass_fds=(*inherited, *launch.descriptors),
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": _path(os.environ.get("PYTHONPATH"))},
            )  # fmt: skip
        except BaseException:
            ours.close()
            self._passing.close()
            raise
        finally:
            theirs.close()
            their_passing.close()
        self.pid = self._child.pid
        self.started = self.heard = loop.time()
        watched = os.pidfd_open(self.pid)
        loop.add_reader(watched, self._on_end, watched)
        await self.channel.open(ours)

    async def prepare(
        self, message: Prepare, sockets: Sequence[tuple[Door, socket.socket]]
    ) -> None:
        """Have it build what a configuration says.

        :param sockets: those of the doors in the message.
        :raises CannotServe: it cannot.
        :raises WorkerLost: it has ended.
        """
        for door, sock in sockets:
            if door.number not in self._given:
                self._given.add(door.number)
                socket.send_fds(self._passing, [b"%d" % door.number], [sock.fileno()])
        self._given = {door.number for door in message.doors}
        with contextlib.suppress(OSError):  # it has ended, and `_ask` will tell
            # Our limit has been raised as far as this configuration needs it, theirs as far as the
            # first one did.
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE, limits)
        answer = await self._ask(message)
        if isinstance(answer, Refused):
            raise CannotServe(answer.why)

    async def commit(self, generation: int) -> None:
        """Have it serve what it has prepared.

        :raises WorkerLost: it has ended.
        """
        await self._ask(Commit(generation))
        self.generation = generation

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._child is not None and self.is_alive:
            self._child.send_signal(number)

    async def _ask(self, message: Any) -> Any:
        if not self.is_alive:
            raise WorkerLost(f"worker {self.index} has ended")
        self._answer = answer = asyncio.get_running_loop().create_future()
        self.channel.send(message)
        await asyncio.wait((answer, self.ended), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise WorkerLost(f"worker {self.index} has ended")
        return answer.result()

    def _take(self, message: Any) -> None:
        self.heard = asyncio.get_running_loop().time()
        if isinstance(message, Prepared | Refused | Running):
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(message)
            return
        self._hear(self, message)

    def _on_end(self, watched: int) -> None:
        asyncio.get_running_loop().remove_reader(watched)
        os.close(watched)
        if self._child is not None:
            self._status = self._child.wait()
        self._passing.close()
        self._settle()

    def _settle(self) -> None:
        """It has ended when it is gone and what it said last has been read."""
        if self._status is not None and self.channel.is_closed and not self.ended.done():
            self.ended.set_result(self._status)


def _path(present: str | None) -> str:
    return _ROOT if not present else f"{_ROOT}{os.pathsep}{present}"
