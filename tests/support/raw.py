"""A raw HTTP client: sends exactly the given bytes and reads answers strictly."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from types import TracebackType


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. Header names are in lower case; repeated ones are all there."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    version: str = "HTTP/1.1"
    #: Interim answers (1xx) that came before it.
    interim: list[int] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The only value of a header, None if there is none; several are an error."""
        values = [value for key, value in self.headers if key == name.lower()]
        if len(values) > 1:
            raise AssertionError(f"{name} is there {len(values)} times: {values}")
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()


class Closed(Exception):
    """The other side closed before an answer was complete. ``data`` is what came of it."""

    def __init__(self, data: bytes, reset: bool) -> None:
        how = "reset" if reset else "closed"
        super().__init__(f"{how} after {len(data)} bytes that begin with {data[:500]!r}")
        self.data = data
        self.reset = reset


class RawClient:
    """One connection. Use as a context manager."""

    def __init__(self, address: tuple[str, int], timeout: float = 10.0) -> None:
        self.socket = socket.create_connection(address, timeout)
        self._buffer = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_slowly(self, data: bytes, pause: float, size: int = 1) -> None:
        """Send ``size`` bytes at a time with a pause after each."""
        for at in range(0, len(data), size):
            self.socket.sendall(data[at : at + size])
            time.sleep(pause)

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        self.socket.close()

    def receive(self) -> bytes:
        """Whatever comes next; empty at the end of the stream."""
        try:
            return self.socket.recv(65536)
        except ConnectionResetError:
            raise Closed(self._buffer, True) from None

    def answer(self, head_only: bool = False) -> Answer:
        """Read one final answer.

        :param head_only: the request was HEAD: no body follows, whatever the header says.
        :raises Closed: the connection ended before the answer was complete.
        :raises AssertionError: what came is not strict HTTP/1.1.
        """
        interim: list[int] = []
        while True:
            head = self._until(b"\r\n\r\n")
            lines = head[:-4].split(b"\r\n")
            version, _, rest = lines[0].decode("ascii").partition(" ")
            code, _, reason = rest.partition(" ")
            assert version in ("HTTP/1.1", "HTTP/1.0"), lines[0]
            assert len(code) == 3, lines[0]
            if code[0] != "1":
                break
            interim.append(int(code))
        headers: list[tuple[str, str]] = []
        for line in lines[1:]:
            name, colon, value = line.decode("latin-1").partition(":")
            assert colon, line
            assert name == name.strip(), line
            assert name, line
            headers.append((name.lower(), value.strip()))
        status = int(code)
        body = b"" if head_only or status in (204, 304) else self._body(headers)
        return Answer(status, reason, headers, body, version, interim)

    def is_closed(self, timeout: float = 5.0) -> bool:
        """Whether the other side closes now, without sending anything more."""
        assert not self._buffer, f"unread: {self._buffer!r}"
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(1)
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
        assert not data, f"more came: {data!r}"
        return True

    def _body(self, headers: list[tuple[str, str]]) -> bytes:
        lengths = [value for name, value in headers if name == "content-length"]
        codings = [value for name, value in headers if name == "transfer-encoding"]
        assert len(lengths) + len(codings) <= 1, headers
        if lengths:
            return self._exactly(int(lengths[0]))
        if codings:
            assert codings == ["chunked"], codings
            return self._chunks()
        body = self._buffer
        self._buffer = b""
        while data := self.receive():
            body += data
        return body

    def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int(self._until(b"\r\n"), 16)
            if size:
                body += self._exactly(size)
            assert self._until(b"\r\n") == b"\r\n"
            if not size:
                return body

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        end = self._buffer.index(mark) + len(mark)
        found, self._buffer = self._buffer[:end], self._buffer[end:]
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _more(self) -> None:
        data = self.receive()
        if not data:
            raise Closed(self._buffer, False)
        self._buffer += data


def request(
    path: str = "/api/v1/service/diabetes/score",
    body: bytes | None = b'{"data": [[1, 2]]}',
    *,
    method: str = "POST",
    key: str | None = None,
    headers: dict[str, str] | None = None,
    host: str = "gateway.test",
    version: str = "HTTP/1.1",
) -> bytes:
    """A well-formed request as bytes. ``headers`` replace or add to the usual ones."""
    fields = {"Host": host}
    if body is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    if key is not None:
        fields["Authorization"] = f"Bearer {key}"
    fields |= headers or {}
    lines = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")
