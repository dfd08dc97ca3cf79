"""Requests that nobody should send, and the check of what became of each."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.backends import FakeBackend, Seen, echoing
from tests.support.gateways import KEY, GatewayProcess, minimal
from tests.support.raw import Answer, RawClient, request

SCORE = "/api/v1/service/diabetes/score"
JSON = b'{"data": [[1, 2]]}'
# In every refused request. It must turn up neither in an answer nor in the gateway's log.
CANARY = "c4nary"

_GUID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_OWN_ID = re.compile(f"x-request-id: {_GUID}")


def post(
    *fields: str,
    body: bytes = b"",
    target: str = SCORE,
    version: str = "HTTP/1.1",
    host: str | None = "gateway.test",
) -> bytes:
    """A POST with exactly these fields besides host, key, content type and a canary."""
    lines = [f"POST {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"Authorization: Bearer {KEY}", "Content-Type: application/json"]
    lines += [f"X-Canary: {CANARY}", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def line(text: str | bytes, host: str | None = "gateway.test") -> bytes:
    """A request without a body that begins with exactly this line."""
    raw = text.encode("latin-1") if isinstance(text, str) else text
    fields = f"Host: {host}\r\n" if host is not None else ""
    fields += f"Authorization: Bearer {KEY}\r\nX-Canary: {CANARY}\r\n\r\n"
    return raw + b"\r\n" + fields.encode()


def canonical(*fields: str, start: str = "POST /score", host: str = "gateway.test") -> list[str]:
    """The lines of a head as the backend must get it, without those that differ every time."""
    return [
        f"{start} HTTP/1.1",
        *fields,
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        f"X-Forwarded-Host: {host}",
        f'Forwarded: for=127.0.0.1;proto=http;host="{host}"',
    ]


def read_head(seen: Seen) -> tuple[list[str], str | None]:
    """The lines of a head as the backend got it, without ``Host`` and the gateway's identifier,
    and the framing apart."""
    lines = seen.head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    assert re.fullmatch(r"Host: 127\.0\.0\.1:\d+", lines.pop(1))
    framing = None
    if lines[-1].startswith(("Content-Length: ", "Transfer-Encoding: ")):
        framing = lines.pop()
    assert _OWN_ID.fullmatch(lines.pop())
    return lines, framing


@contextlib.contextmanager
def open_range(folder: Path, more: str = "", top: str = "") -> Iterator[Range]:
    """Start both, and at the end check that the gateway complained of nothing and quoted nobody.

    :param more: further lines of the endpoint; ``top``: of the top level (see ``minimal``).
    """
    with FakeBackend(echoing) as backend:
        with GatewayProcess(minimal(backend.url, more, top), folder) as gateway:
            yield Range(gateway, backend)
        assert gateway.complaints() == []
        assert "Traceback" not in gateway.log()
        assert CANARY not in gateway.log()


@dataclass(slots=True)
class Range:
    """A gateway to shoot at, in front of a backend that echoes bodies and keeps every byte."""

    gateway: GatewayProcess
    backend: FakeBackend

    def refuses(self, sent: bytes, status: int, text: str | None, *, kept: bool = False) -> Answer:
        """Send it, and check that it gets this answer and reaches nobody.

        :param text: the whole body of the answer; None where it is in llhttp's words.
        :param kept: whether the connection can be used again afterwards.
        """
        before = len(self.backend.raw)
        with self.gateway.client() as client:
            client.send(sent)
            answer = client.answer()
            assert answer.status == status, answer
            expected = text if text is not None else answer.text
            assert answer.text == expected, answer
            assert answer.text.startswith("Bad request: ") or text is not None, answer
            assert CANARY not in answer.text, answer
            assert answer.header("content-type") == "text/plain; charset=utf-8", answer
            assert len(self.backend.raw) == before, bytes(self.backend.raw[before:])
            if kept:
                assert answer.header("connection") is None, answer
                self._scores(client)
            else:
                assert answer.header("connection") == "close", answer
                assert client.is_closed(), "the connection stays open"
        self.still_serves()
        return answer

    def forwards(self, sent: bytes) -> tuple[Answer, list[str], str | None, bytes]:
        """Send it, check that it is answered and the connection kept, and return the answer with
        the head's lines, the framing and the body that the backend got."""
        known = len(self.backend.seen)
        with self.gateway.client() as client:
            client.send(sent)
            answer = client.answer()
            assert answer.status == 200, answer
            (seen,) = self.backend.seen[known:]
            self._scores(client)
        self.still_serves()
        return answer, *read_head(seen), seen.body

    def still_serves(self) -> None:
        """A good request on a new connection gets its answer, and nothing but it is forwarded."""
        with self.gateway.client() as client:
            self._scores(client)

    def _scores(self, client: RawClient) -> None:
        known, before = len(self.backend.seen), len(self.backend.raw)
        client.send(request(body=JSON, key=KEY))
        answer = client.answer()
        assert (answer.status, answer.body) == (200, JSON), answer
        (seen,) = self.backend.seen[known:]
        assert self.backend.raw[before:] == seen.head + seen.body, "more was forwarded"
