"""Clients that leave before their answer: threat T51.

The promise: whoever leaves takes his request along, all the way to the container; nothing of it is
logged as an error, and nobody else notices. A client that has merely finished sending (half-close)
has not left, and gets its answer.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import FakeBackend, Link
from tests.support.containers import Container
from tests.support.gateways import KEY, GatewayProcess, minimal, wait_until
from tests.support.raw import RawClient, request

PLAIN = {"Content-Type": "text/plain"}
# More than the kernel holds on the way (33 MB for each of two readers), so that the gateway stops
# reading.
MUCH = 96 << 20
# Streams without end, and says when it was told to stop.
ENDLESS = """
import os
import pathlib
import time

from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse

NOTE = pathlib.Path(os.environ["NOTE"])


def init():
    pass


def pieces():
    try:
        while True:
            yield b"piece" * 1000
            time.sleep(0.02)
    finally:
        NOTE.write_text("stopped")


@rawhttp
def run(request):
    if request.args.get("do") == "stream":
        return AMLResponse(pieces(), 200)
    return AMLResponse("done", 200)
"""


class Silent:
    """Reads the head of every request, says nothing until it is told to, then answers ``late``.

    What ``trickle`` requests get is the beginning of an answer.
    """

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.speak = threading.Event()

    def __call__(self, link: Link) -> None:
        while (head := link.read_head()) is not None:
            if b"/trickle" in head:
                link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbeginning")
            self.arrived.release()
            if b"Content-Length: %d\r\n" % MUCH not in head:
                link.receive()
            while not self.speak.wait(0.02):
                if has_ended(link):
                    link.backend.dropped.add(link.number)
                    return
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")


def has_ended(link: Link) -> bool:
    """Whether the other side has closed or reset, whatever lies unread before that."""
    if link.socket.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(link.socket, select.POLLRDHUP)
    return bool(poll.poll(0))


@pytest.fixture
def silent() -> Silent:
    return Silent()


@pytest.fixture
def backend(silent: Silent) -> Iterator[FakeBackend]:
    with FakeBackend(silent) as running:
        yield running


@pytest.fixture
def gateway(backend: FakeBackend, tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(minimal(backend.url, "    timeout: 3s"), tmp_path) as running:
        yield running
        assert running.complaints() == []
        assert "Traceback" not in running.log()


def scoring(path: str = "score", body: bytes = b"some rows") -> bytes:
    return request(f"/api/v1/service/diabetes/{path}", body, key=KEY, headers=PLAIN)


REQUESTS = {
    "waits-for-its-answer": scoring(),
    "uploads": scoring(body=b"1" * 5000)[:-100],
    "downloads": scoring("trickle"),
    "pipelines": scoring() * 3,
}


@pytest.mark.parametrize("manner", ["reset", "close"])
@pytest.mark.parametrize("kind", REQUESTS)
def test_t51_whoever_leaves_takes_his_request_along(
    gateway: GatewayProcess, backend: FakeBackend, silent: Silent, kind: str, manner: str
) -> None:
    with gateway.client() as client:
        client.send(REQUESTS[kind])
        assert silent.arrived.acquire(timeout=5)
        client.reset() if manner == "reset" else client.close()
        # FIN alone may mean that no more is sent: the client is asked, twice in half a second.
        wait_until(lambda: backend.dropped == {1}, 2, "the end at the container")
    wait_until(lambda: in_flight(gateway) == 0, 1)
    wait_until(lambda: gateway.metric("gateway_connections") == 0, 1)
    assert gateway.metric("gateway_upstream_connections") == 0
    assert backend.connections == 1, "what was pipelined is not begun for nobody"
    ends = gateway.metric("gateway_requests_total", code="499")
    if (kind, manner) == ("uploads", "close"):
        ends = gateway.metric("gateway_requests_total", code="400")  # its body ended early
    assert ends == 1
    silent.speak.set()
    answer = gateway.ask(scoring())
    assert (answer.status, answer.text) == (200, "late")


def test_t51_whoever_leaves_while_he_is_held_up_takes_his_request_along(
    gateway: GatewayProcess, backend: FakeBackend, silent: Silent
) -> None:
    with gateway.client() as client:
        push(client, scoring(body=bytes(MUCH)))
        assert silent.arrived.acquire(timeout=5)
        client.reset()
        wait_until(lambda: backend.dropped == {1}, 2, "the end at the container")


def test_t51_who_has_only_finished_sending_gets_his_answer(
    gateway: GatewayProcess, backend: FakeBackend, silent: Silent
) -> None:
    with gateway.client() as client:
        client.send(scoring())
        client.half_close()
        assert silent.arrived.acquire(timeout=5)
        # Longer than the gateway takes to find out about somebody who has left.
        assert not threading.Event().wait(1)
        assert in_flight(gateway) == 1
        silent.speak.set()
        answer = client.answer()
        assert (answer.status, answer.text) == (200, "late")
        assert answer.header("connection") == "close"
        assert client.is_closed()
    assert backend.dropped == set()


def in_flight(gateway: GatewayProcess) -> float:
    return gateway.metric("gateway_requests_in_flight", endpoint="diabetes")


def push(client: RawClient, data: bytes) -> None:
    """Send until nobody takes any more of it."""
    client.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.socket.sendall(data)


@pytest.mark.parametrize("manner", ["reset", "close"])
def test_t51_the_real_container_stops_working_for_nobody(
    endless: tuple[Container, Path], tmp_path: Path, manner: str
) -> None:
    container, note = endless
    note.unlink(missing_ok=True)
    with GatewayProcess(minimal(container.url), tmp_path) as gateway, gateway.client() as client:
        client.send(scoring("score?do=stream"))
        received = b""
        while b"piecepiece" not in received:
            received += client.receive()
        assert not note.exists()
        client.reset() if manner == "reset" else client.close()
        wait_until(note.exists, 5, "the end of the stream in the container")
        wait_until(lambda: in_flight(gateway) == 0, 1)
        assert gateway.metric("gateway_faults_total", fault="client_gone") == 1
        assert gateway.ask(scoring()).text == "done", "the container is free for others"
        assert gateway.complaints() == []


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Container, Path]]:
    """A real container that streams without end, and the file that says that it stopped."""
    folder = tmp_path_factory.mktemp("endless")
    script, note = folder / "score.py", folder / "note"
    script.write_text(ENDLESS)
    with Container(folder, script, environment={"NOTE": str(note)}) as running:
        yield running, note
