"""Slow clients are waited for exactly as long as configured, and nobody else waits with them.

Threat T14: an absolute deadline for the header, a gap and a rate for the body, a deadline for
taking the answer, a bound for silence. What Debian's slowhttptest says of it is in
``test_slowhttptest``, what a slow client must still get whole in ``test_slow_readers``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.backends import FakeBackend, Link
from tests.support.gateways import KEY, GatewayProcess, minimal, wait_until
from tests.support.raw import Closed, RawClient, request

LISTEN = """
listen:
  address: 127.0.0.1:0
  timeouts: {headers: 500ms, body: 500ms, idle: 700ms, write: 700ms, linger: 300ms}
"""
# The sweep looks every 37 ms; the rest is for a busy machine.
LATE = 0.6
NO_HEADER = "The request took too long: the header did not arrive in time"
NO_BODY = "The request took too long: the body did not arrive in time"
SLOW_BODY = "The request took too long: the body arrives at less than 256 bytes per second"
SIZE = 32 << 20


def behave(link: Link) -> None:
    """Echoes, except that GET gets far more than any buffer holds."""
    while (seen := link.read_request()) is not None:
        if seen.line.startswith("GET"):
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            for _ in range(SIZE >> 16):
                link.send(bytes(65536))
        else:
            size = len(seen.body)
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + seen.body)


@pytest.fixture(scope="module")
def backend() -> Iterator[FakeBackend]:
    with FakeBackend(behave) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    text = minimal(backend.url, top=LISTEN)
    with GatewayProcess(text, tmp_path_factory.mktemp("gateway")) as running:
        yield running
        assert running.complaints() == []


def timeouts(gateway: GatewayProcess, kind: str) -> float:
    return gateway.metric("gateway_client_timeouts_total", waiting_for=kind)


def drip(client: RawClient, data: bytes, pause: float, stop: threading.Event) -> threading.Thread:
    """Send byte by byte, from a thread, until told to stop or sent away."""

    def run() -> None:
        for at in range(len(data)):
            try:
                client.send(data[at : at + 1])
            except OSError:
                return
            if stop.wait(pause):
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


HEADERS = {
    "nothing-after-the-line": (b"GET / HTTP/1.1\r\n", b""),
    "part-of-a-line": (b"GET / HT", b""),
    "byte-by-byte": (b"GET / HTTP/1.1\r\n", b"X: " + b"a" * 200),
    "header-by-header": (b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 40),
}


@pytest.mark.parametrize("served", [0, 1], ids=["first-request", "second-request"])
@pytest.mark.parametrize("case", HEADERS)
def test_t14_a_header_has_an_absolute_deadline(
    gateway: GatewayProcess, backend: FakeBackend, case: str, served: int
) -> None:
    before = timeouts(gateway, "head")
    begin, rest = HEADERS[case]
    stop = threading.Event()
    with gateway.client() as client:
        for _ in range(served):
            client.send(request(key=KEY))
            assert client.answer().status == 200
        reached = len(backend.raw)
        began = time.monotonic()
        client.send(begin)
        thread = drip(client, rest, 0.02, stop)
        answer = client.answer()
        assert 0.4 < time.monotonic() - began < 0.5 + LATE
        assert (answer.status, answer.text) == (408, NO_HEADER)
        assert answer.header("connection") == "close"
        stop.set()
        thread.join()
        assert client.is_closed()
    assert len(backend.raw) == reached
    assert timeouts(gateway, "head") == before + 1


BODIES = {
    "nothing": ("application/json", b"", 0, 0.0, NO_BODY),
    "half-of-it": ("application/json", b"1" * 50, 0, 0.0, NO_BODY),
    "half-of-a-stream": ("text/plain", b"1" * 50, 0, 0.0, NO_BODY),
    "a-trickle": ("application/json", b"", 10_000, 0.05, SLOW_BODY),
    "a-trickle-of-a-stream": ("text/plain", b"", 10_000, 0.05, SLOW_BODY),
}


@pytest.mark.parametrize("chunked", [False, True], ids=["with-length", "chunked"])
@pytest.mark.parametrize("case", BODIES)
def test_t14_a_body_must_keep_coming_at_some_speed(
    gateway: GatewayProcess, backend: FakeBackend, case: str, chunked: bool
) -> None:
    kind, part, more, pause, text = BODIES[case]
    framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": "10050"}
    sent = request(key=KEY, body=None, headers={"Content-Type": kind, **framing})
    known, stop = len(backend.seen), threading.Event()
    with gateway.client() as client:
        began = time.monotonic()
        client.send(sent + (b"2742\r\n" if chunked else b"") + part)
        thread = drip(client, b"1" * more, pause, stop)
        answer = client.answer()
        assert 0.4 < time.monotonic() - began < 0.5 + LATE
        assert (answer.status, answer.text) == (408, text)
        assert answer.header("connection") == "close"
        stop.set()
        thread.join()
        assert client.is_closed()
    if kind == "text/plain":  # a stream had begun to pass: it is cut, never ended
        wait_until(lambda: backend.connections in backend.dropped, 1.0, "the break upstream")
    assert len(backend.seen) == known


def test_a_body_that_is_just_fast_enough_is_taken(gateway: GatewayProcess) -> None:
    body = b"1" * 600
    with gateway.client() as client:
        began = time.monotonic()
        client.send(request(key=KEY, body=body)[:-600])
        client.send_slowly(body, 0.1, 40)
        answer = client.answer()
        assert (answer.status, answer.body) == (200, body)
        assert time.monotonic() - began > 1.4


@pytest.mark.parametrize(
    ("served", "patience"), [(0, 0.5), (1, 0.7)], ids=["never-spoke", "after-a-request"]
)
def test_a_silent_connection_is_closed_without_a_word(
    gateway: GatewayProcess, served: int, patience: float
) -> None:
    before = timeouts(gateway, "idle")
    with gateway.client() as client:
        for _ in range(served):
            client.send(request(key=KEY))
            assert client.answer().status == 200
        began = time.monotonic()
        assert client.is_closed()
        assert patience - 0.1 < time.monotonic() - began < patience + LATE
    assert timeouts(gateway, "idle") == before + 1


@pytest.mark.parametrize("after", [b"", request(key=KEY)], ids=["alone", "behind-a-request"])
def test_t14_a_connection_with_only_an_empty_line_is_silent(
    gateway: GatewayProcess, after: bytes
) -> None:
    with gateway.client() as client:
        client.send(after + b"\r\n")
        if after:
            assert client.answer().status == 200
        assert client.is_closed(0.7 + LATE)


def test_t14_a_client_that_does_not_take_its_answer_is_given_up(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    before = timeouts(gateway, "write")
    with gateway.client() as client:
        client.send(request(key=KEY, body=None, method="GET"))
        wait_until(lambda: timeouts(gateway, "write") == before + 1, 5.0, "giving up")
        wait_until(lambda: gateway.metric("gateway_connections") == 0, 1.0, "the break")
        # Not even with other requests' connections, which are kept for 1.5 s.
        wait_until(lambda: gateway.metric("gateway_upstream_connections") == 0, 3.0, "upstream")
        with pytest.raises(Closed):
            client.answer()


def test_a_client_that_takes_its_answer_slowly_but_steadily_gets_it(
    gateway: GatewayProcess,
) -> None:
    with gateway.client() as client:
        client.send(request(key=KEY, body=None, method="GET"))
        began, size = time.monotonic(), 0
        while size < SIZE:
            size += len(client.receive())
            if time.monotonic() - began < 1.5:
                time.sleep(0.01)
        assert time.monotonic() - began > 1.5
        assert client.is_closed()


def test_t14_others_are_not_kept_waiting(gateway: GatewayProcess) -> None:
    """While a hundred are slow in every way, good requests take no longer."""
    slow = [gateway.client() for _ in range(100)]
    kinds = [
        b"POST / HTTP/1.1\r\n",
        request(key=KEY)[:-9],
        request(key=KEY, body=b"1" * 900, headers={"Content-Type": "text/plain"})[:-800],
        request(key=KEY, body=None, method="GET"),
    ]
    times: list[float] = []
    try:
        for number, client in enumerate(slow):
            client.send(kinds[number % 4])
        with gateway.client() as client:
            give_up = time.monotonic() + 1.5
            while time.monotonic() < give_up:
                began = time.monotonic()
                client.send(request(key=KEY))
                assert client.answer().status == 200
                times.append(time.monotonic() - began)
    finally:
        for client in slow:
            client.close()
    assert len(times) > 100
    assert sorted(times)[len(times) * 99 // 100] < 0.1
    wait_until(lambda: gateway.metric("gateway_connections") == 0, 3.0, "letting go")
