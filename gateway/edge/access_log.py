"""One JSON line per request, off the request path.

A request only appends a note of what happened. Notes become text in small batches, and the text is
written by a thread of its own, so a slow disk or a full pipe holds up nobody. What cannot be
written in time is dropped and counted: the log must never become the reason for an outage.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import queue
import select
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from gateway.core.identity import trace_id
from gateway.core.memo import Memo
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.exchange import Exchange
from gateway.engine.routed import Words

_log = logging.getLogger("gateway")
# Lines that are formatted in one go: less than half a millisecond of work.
BATCH = 256
# Lines that are handed over in one go. Waking the writer costs as much as a hundred lines, and it
# takes turns with whoever serves while it runs.
HANDFUL = 2048
_MILLISECONDS = tuple(b".%03dZ" % number for number in range(1000))
_END = orjson.OPT_APPEND_NEWLINE
# Kinds of requests whose words are kept ready.
REMEMBERED = 512
# Seconds that a line waits for company.
LINGER = 0.2
# Text that waits for a slow disk, in handfuls; more is dropped.
QUEUE = 32


class Writer:
    """Writes batches of lines to a file or standard output in a thread.

    A file is opened anew when its name stands for another file (or none), so log rotation needs no
    signal. Several processes may write to one file, pipe or socket: a line stays whole.
    """

    __slots__ = (
        "_descriptor",
        "_failing",
        "_identity",
        "_is_shared",
        "_path",
        "_queue",
        "_thread",
        "dropped",
    )

    def __init__(self, path: Path | None) -> None:
        """:param path: a file to append to, None for standard output."""
        self._path = path
        self._descriptor = 1
        self._failing = False
        self._identity: tuple[int, int] | None = None
        #: Whether what is written at a time may come out in pieces, with others' between them.
        self._is_shared = path is None and _may_mix(self._descriptor)
        self._queue: queue.Queue[tuple[bytes, int] | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        #: Lines that could not be written.
        self.dropped = 0

    def start(self) -> None:
        """
        :raises OSError: the file cannot be opened.
        """
        self._reopen()
        self._thread.start()

    def put(self, text: bytes, lines: int) -> None:
        """Hand over some lines; never waits."""
        try:
            self._queue.put_nowait((text, lines))
        except queue.Full:
            self.dropped += lines

    def stop(self, timeout: float) -> None:
        """Write what was handed over, for at most ``timeout`` seconds."""
        try:
            self._queue.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def finish(self) -> None:
        """Write what was handed over, and end then. Nobody waits for it."""
        threading.Thread(target=self._queue.put, args=(None,), daemon=True).start()

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            text, lines = entry
            try:
                self._reopen()
                self._write(text)
            except OSError as error:
                self.dropped += lines
                if not self._failing:
                    self._failing = True
                    _log.warning("the access log cannot be written: %s", error.strerror)
            else:
                if self._failing:
                    self._failing = False
                    _log.warning("the access log is written again; lines lost: %d", self.dropped)

    def _write(self, text: bytes) -> None:
        """
        :raises OSError: it cannot be written.
        """
        if not self._is_shared:
            _write_all(self._descriptor, memoryview(text))
            return
        # Workers take turns; the kernel ends the turn of one that dies. It is cheaper than writing
        # at the same time, too: 0.5 instead of 1.0 us of CPU for a line, four processes on a pipe.
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        try:
            # What is no worker, or writes to standard error, takes no turns; where both go to the
            # same pipe, only what the kernel writes as a whole stays whole (pipe(7), PIPE_BUF).
            for piece in cut_lines(text, select.PIPE_BUF):
                _write_all(self._descriptor, piece)
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def _reopen(self) -> None:
        if self._path is None:
            return
        try:
            found = self._path.stat()
            identity: tuple[int, int] | None = (found.st_dev, found.st_ino)
        except FileNotFoundError:
            identity = None
        if identity is not None and identity == self._identity:
            return
        if self._identity is not None:
            os.close(self._descriptor)
            self._identity = None
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o640)
        opened = os.fstat(self._descriptor)
        self._identity = (opened.st_dev, opened.st_ino)
        self._is_shared = _may_mix(self._descriptor)


def _may_mix(descriptor: int) -> bool:
    """Files and terminals take every write as a whole; pipes and sockets take what they have room
    for."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:  # it is closed, and writing will tell
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def cut_lines(text: bytes, most: int) -> Iterator[memoryview]:
    """Pieces of at most ``most`` bytes that end with a line; a longer line is a piece."""
    view, begin = memoryview(text), 0
    while len(text) - begin > most:
        end = text.rfind(b"\n", begin, begin + most) + 1 or text.find(b"\n", begin) + 1
        if not end:
            break
        yield view[begin:end]
        begin = end
    if begin < len(text):
        yield view[begin:]


def _write_all(descriptor: int, text: memoryview) -> None:
    while text:
        text = text[os.write(descriptor, text) :]


class AccessLog:
    """Takes notes of ended requests and turns them into lines."""

    __slots__ = (
        "_clock",
        "_formatted",
        "_handle",
        "_lines",
        "_lost",
        "_notes",
        "_text",
        "_wall",
        "_writer",
    )

    def __init__(
        self, writer: Writer | None, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        """:param writer: where lines go, None to keep no log."""
        self._writer = writer
        #: Lines that writers before this one could not write.
        self._lost = 0
        self._clock = clock
        self._wall = wall
        self._lines = _Lines()
        self._notes: list[tuple[Any, ...]] = []
        #: Lines that wait for a handful, and how many they are.
        self._text: list[bytes] = []
        self._formatted = 0
        self._handle: asyncio.TimerHandle | None = None

    @property
    def dropped(self) -> int:
        return self._lost + (self._writer.dropped if self._writer is not None else 0)

    def record(self, x: Exchange) -> None:
        """Note what happened. The exchange itself is not kept: it holds the body."""
        if self._writer is None:
            return
        notes = self._notes
        notes.append(
            (
                x.ended,
                x.request_id,
                x.routed,
                x.client.address,
                x.endpoint,
                x.deployment,
                x.upstream_name,
                x.status,
                x.fault,
                x.detail,
                x.ended - x.started,
                x.queue_seconds,
                x.upstream_seconds,
                x.attempts,
                x.received,
                x.sent,
                x.principal,
            )
        )
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(LINGER, self.flush)
        if len(notes) >= BATCH:
            self._format()
            if self._formatted >= HANDFUL:
                self.flush()

    def flush(self) -> None:
        """Hand over everything noted so far."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._format()
        if self._text and self._writer is not None:
            self._writer.put(b"".join(self._text), self._formatted)
            self._text = []
            self._formatted = 0

    def redirect(self, writer: Writer | None) -> None:
        """From now on, lines go elsewhere (None: nowhere); what was noted before does not.

        The one before writes what it has, and is not waited for.
        """
        self.flush()
        before, self._writer = self._writer, writer
        if before is not None:
            self._lost += before.dropped
            before.finish()

    def _format(self) -> None:
        notes, self._notes = self._notes, []
        offset = self._wall() - self._clock()
        line = self._lines.line
        self._text += [line(note, offset) for note in notes]
        self._formatted += len(notes)

    def stop(self, timeout: float) -> None:
        self.flush()
        if self._writer is not None:
            self._writer.stop(timeout)


# Formatting bytes costs half of building a dictionary for orjson, which is left to quote text.
_LINE = (
    b'{"time":"%b","request_id":"%b","client_request_id":%b,"trace_id":%b,%b,"status":%d,"duration_ms":%.3f,"queue_ms":%.3f,%b,'
    b'"bytes_in":%d,"bytes_out":%d,%b'
)
_CALL = b'"upstream_ms":%.3f,"attempts":%d'
_NOTHING = b'""'


class _Lines:
    """Formats notes; remembers the parts that they have in common."""

    __slots__ = ("_attempts", "_call", "_parts", "_second", "_seconds", "_stamp")

    def __init__(self) -> None:
        self._second = -1
        self._stamp = b""
        self._seconds, self._attempts = 0.0, 0
        self._call = _CALL % (0, 0)
        self._parts: Memo[
            tuple[str, Words, Endpoint | None, Deployment | None, str, str], tuple[bytes, bytes]
        ] = Memo(REMEMBERED)

    def line(self, note: tuple[Any, ...], offset: float) -> bytes:
        """One line. ``offset`` takes the monotonic clock to unix time."""
        (
            ended, request_id, routed, address, endpoint, deployment, backend, status, fault,
            detail, seconds, queued, upstream_seconds, attempts, received, sent, principal,
        ) = note  # fmt: skip
        milliseconds = int((ended + offset) * 1000)
        second = milliseconds // 1000
        if second != self._second:
            self._second = second
            stamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._stamp = stamp.encode()
        # Requests that shared a call follow one another.
        if upstream_seconds != self._seconds or attempts != self._attempts:
            self._seconds, self._attempts = upstream_seconds, attempts
            self._call = _CALL % (upstream_seconds * 1000, attempts)
        key = address, routed.words, endpoint, deployment, backend, principal
        middle, asker = self._parts.get(key) or self._write_parts(*key)
        client = routed.identifiers.client
        traceparent = routed.traceparent
        if fault is not None:
            more = {"fault": fault.slug, "detail": detail}
            asker = asker[:-2] + b"," + orjson.dumps(more, option=_END)[1:]
        return _LINE % (
            self._stamp + _MILLISECONDS[milliseconds % 1000],
            request_id,
            orjson.dumps(client) if client else _NOTHING,
            orjson.dumps(trace_id(traceparent)) if traceparent is not None else _NOTHING,
            middle,
            status,
            seconds * 1000,
            queued * 1000,
            self._call,
            received,
            sent,
            asker,
        )

    def _write_parts(
        self,
        address: str,
        words: Words,
        endpoint: Endpoint | None,
        deployment: Deployment | None,
        backend: str,
        principal: str,
    ) -> tuple[bytes, bytes]:
        """The middle of the line, and its end with who asked."""
        middle = orjson.dumps(
            {
                "client": address,
                "method": words.method,
                "path": words.path,
                "endpoint": endpoint.name if endpoint is not None else "",
                "deployment": deployment.name if deployment is not None else "",
                "backend": backend,
                "principal": principal,
            }
        )
        asker = orjson.dumps({"user_agent": words.user_agent}, option=_END)
        parts = middle[1:-1], asker[1:]
        self._parts.put((address, words, endpoint, deployment, backend, principal), parts)
        return parts
