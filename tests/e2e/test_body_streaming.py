"""A hundred megabytes in either direction: every byte arrives, and the gateway keeps few of them.

The side that takes them is slower than the side that sends, so that whatever is not held back piles
up in the gateway.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.core.chunks import LAST_CHUNK, ChunkedDecoder, encode_chunk
from tests.support.backends import FakeBackend, Link
from tests.support.gateways import KEY, GatewayProcess, minimal
from tests.support.raw import RawClient, request

MIB = 1 << 20
COUNT = 100
# No two pieces alike, so that one lost, doubled or displaced is found.
PIECES = [bytes([number]) * MIB for number in range(COUNT)]
DIGEST = hashlib.sha256(b"".join(PIECES)).hexdigest()
#: The most by which the gateway may grow.
ROOM = 16 * MIB


class Container:
    """Takes uploads and says what came; answers GET with a hundred megabytes."""

    def __init__(self) -> None:
        self.chunked = False

    def __call__(self, link: Link) -> None:
        while (head := link.read_head()) is not None:
            if head.startswith(b"GET"):
                self._send(link)
            else:
                said = self._take(link, head).encode()
                link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))

    def _send(self, link: Link) -> None:
        if self.chunked:
            link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in PIECES:
                link.send(encode_chunk(piece))
            link.send(LAST_CHUNK)
        else:
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (COUNT * MIB))
            for piece in PIECES:
                link.send(piece)

    def _take(self, link: Link, head: bytes) -> str:
        """The digest of a request's body."""
        taken = hashlib.sha256()
        decoder = ChunkedDecoder() if b"chunked" in head else None
        left = COUNT * MIB
        while left if decoder is None else not decoder.done:
            data = link.receive()
            if not data:
                return "cut short"
            linger(data)
            for piece in [data] if decoder is None else decoder.feed(data)[0]:
                taken.update(piece)
                left -= len(piece)
        return taken.hexdigest()


def linger(data: bytes) -> None:
    """Take no more than a few hundred MiB per second."""
    time.sleep(len(data) / (400 * MIB))


@pytest.fixture(scope="module")
def container() -> Container:
    return Container()


@pytest.fixture(scope="module")
def gateway(
    container: Container, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    with FakeBackend(container) as backend:
        with GatewayProcess(minimal(backend.url), tmp_path_factory.mktemp("gateway")) as running:
            yield running
        assert running.complaints() == []


def post(framing: dict[str, str]) -> bytes:
    fields = {"Content-Type": "application/octet-stream", **framing}
    return request(body=None, method="POST", key=KEY, headers=fields)


@contextmanager
def little_growth(gateway: GatewayProcess) -> Iterator[None]:
    gateway.peak_memory()
    before = gateway.peak_memory()
    yield
    grown = gateway.peak_memory() - before
    assert grown <= ROOM, f"the gateway grew by {grown / MIB:.1f} MiB"


def read_digest(client: RawClient, chunked: bool) -> str:
    """The digest of an answer's body, read no faster than ``linger`` allows."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.receive()
    head, _, data = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert (b"Transfer-Encoding: chunked" in head) is chunked
    decoder = ChunkedDecoder() if chunked else None
    taken = hashlib.sha256()
    left = COUNT * MIB
    while True:
        for piece in [data] if decoder is None else decoder.feed(data)[0]:
            taken.update(piece)
            left -= len(piece)
        if left <= 0 if decoder is None else decoder.done:
            return taken.hexdigest()
        data = client.receive()
        assert data, f"{left} bytes are missing"
        linger(data)


@pytest.mark.parametrize("chunked", [False, True], ids=["with-a-length", "in-chunks"])
def test_a_large_answer_passes_through(
    gateway: GatewayProcess, container: Container, chunked: bool
) -> None:
    container.chunked = chunked
    with little_growth(gateway), gateway.client() as client:
        client.send(request(key=KEY, body=None, method="GET"))
        assert read_digest(client, chunked) == DIGEST


@pytest.mark.parametrize("chunked", [False, True], ids=["with-a-length", "in-chunks"])
def test_a_large_body_passes_through(gateway: GatewayProcess, chunked: bool) -> None:
    framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(COUNT * MIB)}

    def send(client: RawClient) -> None:
        client.send(post(framing))
        for piece in PIECES:
            client.send(encode_chunk(piece) if chunked else piece)
        if chunked:
            client.send(LAST_CHUNK)

    with little_growth(gateway), gateway.client(timeout=30) as client:
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        assert client.answer().text == DIGEST
        sender.join(10)


def test_ten_large_answers_at_once_take_little_more(
    gateway: GatewayProcess, container: Container
) -> None:
    container.chunked = False
    clients = [gateway.client() for _ in range(10)]
    with little_growth(gateway):
        for client in clients:
            client.send(request(key=KEY, body=None, method="GET"))
        for client in clients:
            head = client.receive()
            assert head.startswith(b"HTTP/1.1 200 ")
        time.sleep(0.3)  # nobody takes more: now everything is full
    for client in clients:
        client.reset()
