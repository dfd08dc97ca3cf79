"""Kept upstream connections: never used after a cancel, never a reason to send a request twice.

Threats T25, T26 and T27. The promise: an answer that nobody waits for any more cannot be taken for
another's, and a request reaches a container once, unless it is one that may be repeated and the
container provably did not begin to answer it.
"""

from __future__ import annotations

import collections
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import FakeBackend, Link
from tests.support.gateways import KEY, GatewayProcess, minimal, wait_until
from tests.support.raw import Closed, request

CLOSED = "Replica closed connection before replying"
PLAIN = {"Content-Type": "text/plain"}


@contextlib.contextmanager
def gateway_to(folder: Path, *backends: FakeBackend, more: str = "") -> Iterator[GatewayProcess]:
    text = minimal(", ".join(backend.url for backend in backends), more)
    with GatewayProcess(text, folder) as running:
        yield running
        assert running.complaints() == []


def saying(name: str) -> bytes:
    """A request that asks the backend to say ``name``."""
    return request(body=name.encode(), key=KEY, headers=PLAIN)


def reply(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def echo(link: Link) -> None:
    while (seen := link.read_request()) is not None:
        link.send(reply(seen.body))


class LateEcho:
    """Echoes what begins with ``cancelled`` late: after ``pause`` seconds, or before whatever comes
    on the connection meanwhile, which is when the answer would be taken for another's."""

    def __init__(self, pause: float) -> None:
        self.arrived = threading.Semaphore(0)
        self._pause = pause

    def __call__(self, link: Link) -> None:
        while (seen := link.read_request()) is not None:
            if seen.body.startswith(b"cancelled"):
                self.arrived.release()
                link.socket.settimeout(self._pause)
                with contextlib.suppress(TimeoutError):
                    link.socket.recv(1, socket.MSG_PEEK)
                link.socket.settimeout(None)
            link.send(reply(seen.body))


@pytest.mark.parametrize(("leave", "pause"), [("reset", 5.0), ("close", 0.02)])
def test_t25_a_cancelled_requests_answer_goes_to_nobody_else(
    tmp_path: Path, leave: str, pause: float
) -> None:
    """100 clients leave before their answers come; those that stay get their own."""
    late = LateEcho(pause)
    with FakeBackend(late) as backend, gateway_to(tmp_path, backend) as gateway:
        for number in range(100):
            with gateway.client() as gone:
                gone.send(saying(f"cancelled {number}"))
                assert late.arrived.acquire(timeout=5)
                if leave == "reset":
                    gone.reset()
            answer = gateway.ask(saying(f"stayed {number}"))
            assert (answer.status, answer.text) == (200, f"stayed {number}")
        wait_until(lambda: gateway.metric("gateway_requests_in_flight") == 0)
        # A reset is seen at once; after a mere FIN a client may still be waiting (T51).
        if leave == "reset":
            assert gateway.metric("gateway_requests_total", code="499") == 100
            assert_last_on_its_connection(backend, b"cancelled")


def assert_last_on_its_connection(backend: FakeBackend, begin: bytes) -> None:
    """A connection left in the middle of an answer is not used again."""
    last = {seen.connection: seen for seen in backend.seen}
    left = [seen for seen in backend.seen if seen.body.startswith(begin)]
    assert left
    assert all(last[seen.connection] is seen for seen in left)


def test_t25_a_timed_out_requests_answer_goes_to_nobody_else(tmp_path: Path) -> None:
    def behave(link: Link) -> None:
        while (seen := link.read_request()) is not None:
            if seen.body.startswith(b"late"):
                threading.Event().wait(0.3)
            link.send(reply(seen.body))

    more = "    timeout: 100ms"
    with FakeBackend(behave) as backend, gateway_to(tmp_path, backend, more=more) as gateway:
        with gateway.client() as client:
            for number in range(10):
                client.send(saying(f"late {number}"))
                assert client.answer().status == 504
                client.send(saying(f"soon {number}"))
                assert client.answer().text == f"soon {number}"
        assert_last_on_its_connection(backend, b"late")


def closing_on_the_second(link: Link) -> None:
    """Answers once and closes when asked again: what a client sees of a keep-alive race."""
    if (seen := link.read_request()) is not None:
        link.send(reply(seen.body))
        link.read_request()


def test_t26_a_post_into_a_stale_connection_is_never_sent_again(tmp_path: Path) -> None:
    """The container may have begun on it: that the answer is lost is the honest thing to say."""
    with FakeBackend(closing_on_the_second) as backend, gateway_to(tmp_path, backend) as gateway:
        for number in range(10):
            assert gateway.ask(saying(f"first {number}")).status == 200
            answer = gateway.ask(saying(f"second {number}"))
            assert (answer.status, answer.text) == (502, CLOSED)
        counts = collections.Counter(seen.body for seen in backend.seen)
        assert len(counts) == 20
        assert set(counts.values()) == {1}
        assert gateway.metric("gateway_upstream_stale_total") == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_t26_a_get_into_a_stale_connection_is_sent_once_more(tmp_path: Path, method: str) -> None:
    with FakeBackend(closing_on_the_second) as backend, gateway_to(tmp_path, backend) as gateway:
        for number in range(10):
            path = f"/api/v1/service/diabetes/rows/{number}"
            data = request(path, None, method=method, key=KEY)
            assert gateway.ask(data, head_only=method == "HEAD").status == 200
        counts = collections.Counter(seen.line for seen in backend.seen)
        assert set(counts) == {f"GET /rows/{number} HTTP/1.1" for number in range(10)}
        # Every connection serves one request and swallows the next.
        assert [counts[f"GET /rows/{number} HTTP/1.1"] for number in range(10)] == [1] + [2] * 9
        assert gateway.metric("gateway_upstream_stale_total") == 9


def test_t26_a_get_is_sent_twice_at_most(tmp_path: Path) -> None:
    """A container that closes whenever it is asked is not asked for ever."""

    def behave(link: Link) -> None:
        link.read_request()

    with FakeBackend(behave) as backend, gateway_to(tmp_path, backend) as gateway:
        answer = gateway.ask(request("/api/v1/service/diabetes/", None, method="GET", key=KEY))
        assert (answer.status, answer.text) == (502, CLOSED)
        assert len(backend.seen) == 1, "a fresh connection is not stale: nothing to repeat"


def test_t26_a_get_is_not_sent_again_once_an_answer_has_begun(tmp_path: Path) -> None:
    def behave(link: Link) -> None:
        if (link.read_request()) is not None:
            link.send(reply(b"well"))
        if (link.read_request()) is not None:
            link.send(b"HTTP/1.1 200")

    with FakeBackend(behave) as backend, gateway_to(tmp_path, backend) as gateway:
        data = request("/api/v1/service/diabetes/", None, method="GET", key=KEY)
        assert gateway.ask(data).status == 200
        assert gateway.ask(data).status == 502
        assert len(backend.seen) == 2


def resetting(link: Link) -> None:
    """Answers and resets at once, without a word of warning."""
    if (seen := link.read_request()) is not None:
        link.send(reply(seen.body))
        link.reset()


def closing(link: Link) -> None:
    """Answers and closes at once, without a word of warning."""
    if (seen := link.read_request()) is not None:
        link.send(reply(seen.body))


@pytest.mark.parametrize("how", ["closing", "resetting"])
def test_t26_no_request_is_lost_or_doubled_when_a_backend_closes_after_each_answer(
    tmp_path: Path, how: str
) -> None:
    """Whether the next request meets the closing connection is a race; its ends are known."""
    behaviour = closing if how == "closing" else resetting
    with FakeBackend(behaviour) as backend, gateway_to(tmp_path, backend) as gateway:
        with gateway.client() as client:
            for number in range(500):
                client.send(saying(f"row {number}"))
                answer = client.answer()
                if answer.status == 200:
                    assert answer.text == f"row {number}"
        counts = collections.Counter(seen.body for seen in backend.seen)
        assert set(counts.values()) == {1}


def test_t26_a_connection_that_has_just_broken_is_not_a_missing_backend(tmp_path: Path) -> None:
    """The request was not sent, and its only backend is well: it goes on a new connection."""
    with (
        FakeBackend(resetting) as backend,
        gateway_to(tmp_path, backend) as gateway,
        gateway.client() as client,
    ):
        for number in range(3000):
            client.send(saying(f"row {number}"))
            assert client.answer().status != 503, f"no ready replicas after {number} answers"


def test_t26_an_idle_connection_is_closed_before_the_container_would(tmp_path: Path) -> None:
    """gunicorn keeps a connection for 2 s, uvicorn for 5: ours end sooner (1.5 s)."""
    with FakeBackend(echo) as backend, gateway_to(tmp_path, backend) as gateway:
        assert gateway.ask(saying("one")).status == 200
        assert gateway.ask(saying("two")).status == 200
        assert backend.connections == 1
        wait_until(lambda: backend.dropped == {1}, 1.95, "the end of the idle connection")
        assert gateway.ask(saying("three")).status == 200
        assert [seen.connection for seen in backend.seen] == [1, 1, 2]


def load(gateway: GatewayProcess, clients: int, each: int) -> None:
    """Mixed methods from several clients at once, some on new connections."""

    def run(who: int) -> None:
        client = gateway.client()
        for number in range(each):
            if number % 10 == 0:
                client.close()
                client = gateway.client()
            method = ("GET", "POST", "HEAD")[number % 3]
            path = f"/api/v1/service/diabetes/of/{who}/{number}"
            body = b"row" if method == "POST" else None
            client.send(request(path, body, method=method, key=KEY, headers=PLAIN))
            assert client.answer(head_only=method == "HEAD").status == 200
        client.close()

    threads = [threading.Thread(target=run, args=(who,)) for who in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def as_asked(link: Link) -> None:
    """Says of the connection what the request's body says, and does nothing about it."""
    while (seen := link.read_request()) is not None:
        link.send(reply(b"well").replace(b"\r\n", b"\r\nConnection: " + seen.body + b"\r\n", 1))


@pytest.mark.parametrize(
    "order",
    [
        ["keep-alive", "close"],
        ["close", "keep-alive"],
        ["keep-alive", "keep-alive"],
        ["close", "close"],
    ],
    ids=", ".join,
)
def test_an_answer_that_says_close_is_the_last_on_its_connection(
    tmp_path: Path, order: list[str]
) -> None:
    """And one that says keep-alive is not. The container closes a moment later, which is a 502 for
    the next request if that was sent meanwhile."""
    with FakeBackend(as_asked) as backend, gateway_to(tmp_path, backend) as gateway:
        said = order * 5
        with gateway.client() as client:
            for what in said:
                client.send(saying(what))
                assert client.answer().status == 200
        expected = [1 + said[:at].count("close") for at in range(len(said))]
        assert [seen.connection for seen in backend.seen] == expected


def test_t27_every_request_reaches_the_container_once(tmp_path: Path) -> None:
    with FakeBackend(echo) as backend, gateway_to(tmp_path, backend) as gateway:
        load(gateway, clients=4, each=100)
        paths = collections.Counter(seen.line.split(" ")[1] for seen in backend.seen)
        assert paths == {f"/of/{who}/{number}": 1 for who in range(4) for number in range(100)}


def test_a_connection_that_nobody_needed_any_more_serves_the_next_request(tmp_path: Path) -> None:
    """Its request was cancelled, or got another connection meanwhile: under load that is common."""
    with FakeBackend(echo) as backend, gateway_to(tmp_path, backend) as gateway:

        def opened_in_vain() -> bool:
            """Whether the request was cancelled between the connection's asking and opening; one
            that was sent already costs its connection."""
            with gateway.client() as client:
                client.send(saying("cancelled"))
                client.reset()
            wait_until(lambda: gateway.metric("gateway_requests_in_flight") == 0)
            used = {seen.connection for seen in backend.seen}
            return backend.connections > 0 and backend.connections not in used

        wait_until(opened_in_vain, what="a connection for a request that was cancelled at once")
        before = backend.connections
        assert gateway.ask(saying("next")).status == 200
        assert backend.connections == before


def test_t27_nothing_is_sent_again_after_a_timeout_or_a_broken_answer(tmp_path: Path) -> None:
    def behave(link: Link) -> None:
        while (seen := link.read_request()) is not None:
            if seen.line.startswith("GET /cut"):
                link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"a" * 70000)
                return

    more = "    timeout: 200ms"
    with FakeBackend(behave) as backend, gateway_to(tmp_path, backend, more=more) as gateway:
        late = request("/api/v1/service/diabetes/late", None, method="GET", key=KEY)
        assert gateway.ask(late).status == 504
        cut = request("/api/v1/service/diabetes/cut", None, method="GET", key=KEY)
        with pytest.raises(Closed):
            gateway.ask(cut)
        assert [seen.line for seen in backend.seen] == ["GET /late HTTP/1.1", "GET /cut HTTP/1.1"]
