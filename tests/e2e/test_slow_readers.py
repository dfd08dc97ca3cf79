"""A client that is slow to take its answer gets all of it, and harms nobody who comes after.

The gateway is done with a request when the container's whole answer lies in its own buffers; from
then on only the client decides how long it takes, up to the write timeout.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.chunks import LAST_CHUNK, encode_chunk
from tests.support.backends import FakeBackend, Link, answering
from tests.support.gateways import KEY, GatewayProcess, minimal, wait_until
from tests.support.kernel import Address, progress
from tests.support.raw import RawClient, request

# More than a hundred pieces go through, one at a time, until the kernel takes no more. Each waits
# for a processor: seconds on a busy machine. Only the idle and the linger timeout are short, which
# must not cut the answer off; the timeout of the request stays the usual 60 s.
LISTEN = """
listen:
  address: 127.0.0.1:0
  timeouts: {idle: 300ms, linger: 200ms, write: 40s}
"""
PATIENCE = 30.0  # seconds
# The gateway has between one ENOUGH and three in memory before the end comes. Its high-water mark
# of 64 KiB is passed with the long end, which still fits a segment of loopback.
ENOUGH = 16 << 10
PIECE = bytes(2 * ENOUGH)
SHORT, LONG = b"x", bytes(56 << 10)


class Overfull:
    """Answers GET with as much as the kernel takes for a client that does not read, so that the
    end of it stays in the gateway's memory. Answers everything else at once."""

    def __init__(self) -> None:
        #: The gateway's and the client's end of the connection in question.
        self.ends: tuple[Address, Address] = (("", 0), ("", 0))
        self.end = LONG
        self.data = 0
        self.done = False

    def __call__(self, link: Link) -> None:
        while (seen := link.read_request()) is not None:
            if not seen.line.startswith("GET"):
                link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            self.data = 0
            link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while not self._is_full(link):
                self._send(link, PIECE)
            self._send(link, self.end, LAST_CHUNK)
            self.done = True

    def _send(self, link: Link, data: bytes, more: bytes = b"") -> None:
        """Send, and wait until the gateway has read it."""
        self.data += len(data)
        written = encode_chunk(data) + more
        before = self._read_by_the_gateway(link)
        link.send(written)
        give_up = time.monotonic() + PATIENCE
        while self._read_by_the_gateway(link) < before + len(written):
            assert time.monotonic() < give_up, "the gateway does not read"

    def _read_by_the_gateway(self, link: Link) -> int:
        return progress(link.socket.getpeername(), link.socket.getsockname()).read

    def _is_full(self, link: Link) -> bool:
        """Whether the gateway cannot pass on what it has, and not just has not yet."""
        give_up = time.monotonic() + 0.1
        while time.monotonic() < give_up:
            if self._read_by_the_gateway(link) - progress(*self.ends).written < ENOUGH:
                return False
        return True

    def ask(
        self,
        client: RawClient,
        gateway: GatewayProcess,
        *,
        end: bytes = LONG,
        persistence: str = "keep-alive",
        half_close: bool = False,
    ) -> None:
        """Send a GET and read nothing until the gateway has the whole answer."""
        self.end, self.done = end, False
        self.ends = (gateway.address, client.socket.getsockname())
        headers = {"Connection": persistence}
        client.send(request(key=KEY, body=None, method="GET", headers=headers))
        if half_close:
            client.half_close()
        wait_until(lambda: self.done, PATIENCE, "the end of the container's answer")
        wait_until(lambda: gateway.metric("gateway_requests_in_flight") == 0, PATIENCE)


@pytest.fixture(scope="module")
def overfull() -> Overfull:
    return Overfull()


@pytest.fixture
def gateway(overfull: Overfull, tmp_path: Path) -> Iterator[GatewayProcess]:
    with FakeBackend(overfull) as backend:
        text = minimal(backend.url, top=LISTEN)
        with GatewayProcess(text, tmp_path) as running:
            yield running


@pytest.mark.parametrize(
    ("persistence", "end", "half_close"),
    [
        ("close", SHORT, False),
        ("close", LONG, False),
        ("keep-alive", SHORT, False),
        ("keep-alive", LONG, False),
        ("keep-alive", SHORT, True),
        ("keep-alive", LONG, True),
    ],
    ids=[
        "closing-little-left",
        "closing-much-left",
        "kept-little-left",
        "kept-much-left",
        "half-closed-little-left",
        "half-closed-much-left",
    ],
)
def test_an_answer_is_not_cut_off_because_its_end_is_taken_late(
    gateway: GatewayProcess, overfull: Overfull, persistence: str, end: bytes, half_close: bool
) -> None:
    with gateway.client() as client:
        overfull.ask(client, gateway, end=end, persistence=persistence, half_close=half_close)
        time.sleep(1)  # the client has something else to do
        answer = client.answer()
    assert answer.status == 200
    assert len(answer.body) == overfull.data


def test_an_answer_that_only_the_kernel_still_has_is_not_cut_off(tmp_path: Path) -> None:
    """The gateway has passed on everything and has waited in vain for the client to hang up."""
    # Half of what the kernel takes, and far more than the client's end can have.
    body = bytes(1 << 20)
    with FakeBackend(answering(body)) as backend:
        text = minimal(backend.url, top=LISTEN)
        with GatewayProcess(text, tmp_path) as gateway, gateway.client() as client:
            client.send(request(key=KEY, headers={"Connection": "close"}))
            wait_until(lambda: gateway.metric("gateway_requests_total", code="200") == 1, PATIENCE)
            wait_until(lambda: gateway.metric("gateway_connections") == 0, PATIENCE)
            assert client.answer().body == body


def test_the_container_s_connection_is_as_good_as_new_after_a_slow_client(
    gateway: GatewayProcess, overfull: Overfull
) -> None:
    with gateway.client() as slow:
        overfull.ask(slow, gateway)
        answer = gateway.ask(request(key=KEY))
        assert (answer.status, answer.body) == (200, b"ok")
