"""Backends that do exactly what a test tells them, for faults that a real container cannot have."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Seen:
    """A request as it reached the backend."""

    head: bytes
    body: bytes
    #: Number of the connection it came on, from 1.
    connection: int

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode()

    def header(self, name: str) -> str | None:
        """The only value of a header, None if there is none; several are an error."""
        found = [
            value.strip().decode("latin-1")
            for key, _, value in (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
            if key.decode("latin-1").lower() == name.lower()
        ]
        if len(found) > 1:
            raise AssertionError(f"{name} is there {len(found)} times: {found}")
        return found[0] if found else None


@dataclass(slots=True)
class Link:
    """One accepted connection, in the hands of a behaviour."""

    socket: socket.socket
    number: int
    backend: FakeBackend
    _buffer: bytes = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        self.socket.close()

    def read_request(self) -> Seen | None:
        """The next request, None at the end of the connection. Chunked bodies are left in their
        coding."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return None
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        head += b"\r\n\r\n"
        if re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE):
            while not rest.endswith(b"0\r\n\r\n"):
                self._buffer = b""
                if not self._more():
                    return None
                rest += self._buffer
            body, rest = rest, b""
        else:
            match = _LENGTH.search(head)
            length = int(match[1]) if match else 0
            while len(rest) < length:
                self._buffer = b""
                if not self._more():
                    return None
                rest += self._buffer
            body, rest = rest[:length], rest[length:]
        self._buffer = rest
        seen = Seen(head, body, self.number)
        self.backend.seen.append(seen)
        return seen

    def read_head(self) -> bytes | None:
        """Only the head of the next request; what came of the body stays unread."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    def receive(self) -> bytes:
        """Whatever comes next, in its coding and unrecorded; empty at the end."""
        data, self._buffer = self._buffer, b""
        if data:
            return data
        try:
            return self.socket.recv(65536)
        except OSError:
            return b""

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.backend.dropped.add(self.number)
        self.backend.raw += data
        self._buffer += data
        return bool(data)


Behaviour = Callable[[Link], None]


@dataclass(slots=True)
class FakeBackend:
    """Accepts connections on loopback and gives each to ``behaviour`` in a thread of its own.

    The connection is closed when the behaviour returns. ``seen`` are the requests read so far,
    ``connections`` how many connections were accepted, ``dropped`` the numbers of those that were
    found closed or broken.
    """

    behaviour: Behaviour
    seen: list[Seen] = field(default_factory=list)
    #: Every byte that a behaviour has looked at, requests cut short included.
    raw: bytearray = field(default_factory=bytearray)
    connections: int = 0
    dropped: set[int] = field(default_factory=set)
    _listener: socket.socket = field(default_factory=socket.socket)
    _links: list[Link] = field(default_factory=list)
    _stopping: bool = False

    def __enter__(self) -> FakeBackend:
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(1024)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Close the listener and every connection."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._links:
            link.socket.close()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            link = Link(accepted, self.connections, self)
            self._links.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: Link) -> None:
        try:
            self.behaviour(link)
        except OSError:
            self.dropped.add(link.number)
        finally:
            link.socket.close()


def answering(
    body: bytes = b"[1.0]",
    *,
    status: str = "200 OK",
    headers: str = "Content-Type: application/json\r\n",
    keep: bool = True,
) -> Behaviour:
    """Answers every request alike; ``keep`` keeps the connection."""

    def behave(link: Link) -> None:
        while link.read_request() is not None:
            close = "" if keep else "Connection: close\r\n"
            head = f"HTTP/1.1 {status}\r\n{headers}{close}Content-Length: {len(body)}\r\n\r\n"
            link.send(head.encode() + body)
            if not keep:
                return

    return behave


def choosing(answers: Mapping[str, bytes | Behaviour], default: bytes) -> Behaviour:
    """Answers by the last segment of the path: sends the bytes that ``answers`` has for it, or lets
    the behaviour there go on with the connection. Everything else is answered with ``default``.
    """

    def behave(link: Link) -> None:
        while (seen := link.read_request()) is not None:
            path = seen.line.split(" ")[1].partition("?")[0]
            answer = answers.get(path.rpartition("/")[2], default)
            if isinstance(answer, bytes):
                link.send(answer)
            else:
                answer(link)

    return behave


def echoing(link: Link) -> None:
    """Answers with the request's own body, so that answers can be told apart."""
    while (seen := link.read_request()) is not None:
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Length: {len(seen.body)}\r\n\r\n"
        )
        link.send(head.encode() + seen.body)


def saying(data: bytes, *, then: str = "close") -> Behaviour:
    """Reads one request and sends exactly ``data``.

    :param then: ``close``, ``reset`` or ``wait`` (for the other side to close).
    """

    def behave(link: Link) -> None:
        link.read_request()
        link.send(data)
        if then == "reset":
            link.reset()
        elif then == "wait":
            link.socket.settimeout(30)
            with contextlib.suppress(OSError):
                while link.socket.recv(65536):
                    pass

    return behave
