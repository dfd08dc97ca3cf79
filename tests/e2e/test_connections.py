"""Thousands of connections, and what they do together: T16, T17 and T19 of the threat table.

The promise: everybody gets his own answer however many there are, a connection costs little, one
too many is told so, and whoever leaves takes along everything that was his: his place, his file
descriptor, his request.
"""

from __future__ import annotations

import contextlib
import functools
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.backends import FakeBackend, Link, echoing
from tests.support.gateways import KEY, GatewayProcess, wait_until
from tests.support.kernel import progress
from tests.support.raw import RawClient, request
from tests.support.resources import room_for

PLAIN = {"Content-Type": "text/plain"}
CROWD = 2000
# Measured: 3 KiB, with a request that waits as with one that was answered.
PER_CONNECTION = 8 << 10
# What waits for a slow peer: the high-water mark of 64 KiB, and the piece that went above it, which
# is what uvloop reads at once: 256 KiB.
PER_DIRECTION = (64 + 256) << 10
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def crowded(backend: str, connections: int = 3000, timeouts: str = "", more: str = "") -> str:
    """A configuration whose connections to the container do not outlive the test's patience."""
    return f"""
listen:
  address: 127.0.0.1:0
  limits: {{connections: {connections}}}
  timeouts: {{{timeouts}}}
admin: 127.0.0.1:0
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    {more}
    deployments:
      blue: {{backends: ["{backend}"], concurrency: 64,
        queue: {{max_wait: 60s, max_length: 5000}}, connections: {{max: 64, idle_timeout: 200ms}}}}
"""


def scoring(body: bytes) -> bytes:
    return request(body=body, key=KEY, headers=PLAIN)


def at_rest(gateway: GatewayProcess) -> int:
    """Descriptors that are open while nobody is connected."""
    assert gateway.ask(scoring(b"first")).status == 200
    empty(gateway)
    found = [gateway.descriptors()]  # the scrape's own is among them, or was

    def is_stable() -> bool:
        threading.Event().wait(0.05)
        found.append(gateway.descriptors())
        return found[-1] == found[-2]

    wait_until(is_stable, what="rest")
    return found[-1]


def empty(gateway: GatewayProcess) -> None:
    """Wait until nobody is connected on either side."""
    for name in ("gateway_connections", "gateway_upstream_connections"):
        wait_until(functools.partial(is_none, gateway, name), 10, f"no {name}")


def is_none(gateway: GatewayProcess, name: str) -> bool:
    return gateway.metric(name) == 0


@contextlib.contextmanager
def served_meanwhile(gateway: GatewayProcess) -> Iterator[list[int]]:
    """Another client that asks without a pause on one connection; yields its statuses so far."""
    statuses: list[int] = []
    stop = threading.Event()

    def run() -> None:
        with gateway.client(20) as client:
            while not stop.is_set():
                body = b"%d" % len(statuses)
                client.send(scoring(body))
                answer = client.answer()
                assert answer.body == body
                statuses.append(answer.status)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield statuses
        finally:
            stop.set()
            running.result(30)


class Gate:
    """Echoes, but nothing before it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def __call__(self, link: Link) -> None:
        self.opened.wait(30)
        echoing(link)


def test_two_thousand_connections_at_once_each_get_their_own_answers(tmp_path: Path) -> None:
    gate = Gate()
    gate.opened.set()
    with contextlib.ExitStack() as stack:
        stack.enter_context(room_for(CROWD + 500))
        backend = stack.enter_context(FakeBackend(gate))
        gateway = stack.enter_context(GatewayProcess(crowded(backend.url), tmp_path))
        descriptors, memory = at_rest(gateway), gateway.own_memory()
        clients = [stack.enter_context(gateway.client(30)) for _ in range(CROWD)]
        wait_until(lambda: gateway.metric("gateway_connections") == CROWD, 10, "their arrival")

        gate.opened.clear()  # all of them are inside before the first is answered
        for number, client in enumerate(clients):
            client.send(scoring(b"first of %d" % number))
        wait_until(lambda: in_flight(gateway) == CROWD, 10, "all of their requests")
        busy = gateway.own_memory()
        gate.opened.set()
        order = list(range(CROWD))
        for number in order:
            answer = clients[number].answer()
            assert (answer.status, answer.body) == (200, b"first of %d" % number)

        random.Random(7).shuffle(order)  # the same connections, in an order of their own
        for number in order:
            clients[number].send(scoring(b"second of %d" % number))
        for number, client in enumerate(clients):
            answer = client.answer()
            assert (answer.status, answer.body) == (200, b"second of %d" % number)
        assert gateway.metric("gateway_connections") == CROWD
        assert gateway.descriptors() >= CROWD
        kept = gateway.own_memory()
        for what, now in (("waiting", busy), ("kept", kept)):
            each = (now - memory) / CROWD
            assert each < PER_CONNECTION, f"{each / 1024:.1f} KiB for every {what} connection"

        for number, client in enumerate(clients):
            client.reset() if number % 2 else client.close()
        wait_until(lambda: gateway.metric("gateway_connections") == 0, 10, "their leave")
        empty(gateway)
        wait_until(
            lambda: gateway.descriptors() <= descriptors, what="as few descriptors as before"
        )
        left = gateway.own_memory()
        again = [stack.enter_context(gateway.client(30)) for _ in range(CROWD)]
        all_served(again)
        for client in again:
            client.close()
        empty(gateway)
        # The allocator keeps what the first crowd needed, and the second one finds it there.
        grown = (gateway.own_memory() - left) / CROWD
        assert grown < PER_CONNECTION / 8, f"{grown / 1024:.1f} KiB more for every connection"
        assert gateway.metric("gateway_requests_total", code="200") == 3 * CROWD + 1
        assert gateway.metric("gateway_access_log_dropped_lines_total") == 0
        assert gateway.complaints() == []


LIMIT = 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway that takes twenty connections."""
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(FakeBackend(echoing))
        running = stack.enter_context(GatewayProcess(crowded(backend.url, LIMIT), tmp_path))
        yield running
        assert running.complaints() == []


def fill(gateway: GatewayProcess, stack: contextlib.ExitStack) -> list[RawClient]:
    clients = [stack.enter_context(gateway.client()) for _ in range(LIMIT)]
    all_served(clients)
    assert gateway.metric("gateway_connections") == LIMIT
    return clients


def all_served(clients: list[RawClient]) -> None:
    for number, client in enumerate(clients):
        client.send(scoring(b"%d" % number))
    for number, client in enumerate(clients):
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"%d" % number)
        assert answer.header("connection") is None


def test_one_connection_too_many_is_told_so_and_harms_nobody(small: GatewayProcess) -> None:
    with contextlib.ExitStack() as stack:
        clients = fill(small, stack)
        for turn in range(3):
            with small.client() as surplus:
                answer = surplus.answer()  # it need not even ask
                assert (answer.status, answer.text) == (503, "Too many connections")
                assert answer.header("connection") == "close"
                assert surplus.is_closed()
            all_served(clients)
            assert small.metric("gateway_connections_refused_total") == turn + 1
        assert small.metric("gateway_connections_limit") == LIMIT
        wait_until(lambda: small.metric("gateway_connections") == LIMIT)

        clients.pop().close()
        wait_until(lambda: small.metric("gateway_connections") == LIMIT - 1)
        newcomer = stack.enter_context(small.client())
        all_served([*clients, newcomer])
        with small.client() as surplus:
            assert surplus.answer().status == 503
        assert small.metric("gateway_faults_total", fault="too_many_connections") == 4


def test_far_too_many_connections_harm_nobody_either(small: GatewayProcess) -> None:
    with contextlib.ExitStack() as stack:
        clients = fill(small, stack)
        with served_by(clients) as rounds:
            for _ in range(5):
                crowd = [small.client() for _ in range(200)]
                for surplus in crowd:
                    surplus.close()
        assert rounds
        wait_until(lambda: small.metric("gateway_connections_accepted_total") == LIMIT + 1000)
        wait_until(lambda: small.metric("gateway_connections") == LIMIT)
        assert small.metric("gateway_connections_refused_total") == 1000
        all_served(clients)


@contextlib.contextmanager
def served_by(clients: list[RawClient]) -> Iterator[list[int]]:
    """All of the clients ask again and again; yields the rounds that went well."""
    rounds: list[int] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            all_served(clients)
            rounds.append(len(rounds))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield rounds
        finally:
            stop.set()
            running.result(30)


def test_t16_a_thousand_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    bodies = [b"%d:" % number + b"x" * (number % 700) for number in range(1000)]
    with FakeBackend(echoing) as backend, contextlib.ExitStack() as stack:
        gateway = stack.enter_context(GatewayProcess(crowded(backend.url), tmp_path))
        client = stack.enter_context(gateway.client(30))
        sender = threading.Thread(target=client.send, args=(b"".join(map(scoring, bodies)),))
        sender.start()
        for body in bodies:
            answer = client.answer()
            assert (answer.status, answer.body) == (200, body)
        sender.join()
        assert backend.connections == 1, "one at a time"
        assert [seen.body for seen in backend.seen] == bodies
        assert gateway.metric("gateway_pipelined_requests_total") > 0
        assert gateway.complaints() == []


@pytest.mark.parametrize(
    "count",
    [
        200,
        30_000,
    ],
)
def test_t16_a_client_that_resets_takes_its_pipelined_requests_along(
    tmp_path: Path, count: int
) -> None:
    gate = Gate()
    with FakeBackend(gate) as backend, contextlib.ExitStack() as stack:
        text = crowded(backend.url, more="timeout: 4s")
        gateway = stack.enter_context(GatewayProcess(text, tmp_path))
        with gateway.client() as client:
            push(client, b"".join(scoring(b"%d" % number) for number in range(count)))
            wait_until(lambda: backend.connections == 1, what="the first of them")
            client.reset()
        wait_until(lambda: in_flight(gateway) == 0, 2, "the end of the request")
        assert gateway.metric("gateway_requests_total", code="499") == 1
        wait_until(lambda: gateway.metric("gateway_upstream_connections") == 0)
        gate.opened.set()
        wait_until(lambda: backend.dropped == {1}, what="the break at the container")
        assert [seen.body for seen in backend.seen] == [b"0"], "no other got there"
        assert gateway.complaints() == []


def test_t16_pipelined_requests_wait_outside(tmp_path: Path) -> None:
    """Five megabytes of requests cost the memory of a few, and one place at the container."""
    gate = Gate()
    with FakeBackend(gate) as backend, contextlib.ExitStack() as stack:
        text = crowded(backend.url, more="timeout: 4s", timeouts="drain: 1s")
        gateway = stack.enter_context(GatewayProcess(text, tmp_path))
        gate.opened.set()
        at_rest(gateway)
        gate.opened.clear()
        memory, connections = gateway.own_memory(), backend.connections
        with gateway.client() as client:
            ends = gateway.address, client.socket.getsockname()
            push(client, b"".join(scoring(b"%d" % number) for number in range(30_000)))
            wait_until(lambda: backend.connections == connections + 1, what="the first of them")
            taken = progress(*ends).read
            assert taken <= PER_DIRECTION, f"the gateway has read {taken} bytes"
            grown = gateway.own_memory() - memory
            assert grown < 1 << 20, f"{grown >> 10} KiB more"
            assert in_flight(gateway) == 1
            gate.opened.set()
            for number in range(500):
                assert client.answer().body == b"%d" % number
        assert gateway.complaints() == []


def in_flight(gateway: GatewayProcess) -> float:
    return gateway.metric("gateway_requests_in_flight", endpoint="diabetes")


def push(client: RawClient, data: bytes) -> None:
    """Send until nobody takes any more of it."""
    client.socket.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < len(data):
            sent += client.socket.send(data[sent : sent + (1 << 20)])
    client.socket.settimeout(10)
    assert sent == len(data) or len(data) > 5 << 20


def test_t17_whoever_connects_and_vanishes_leaves_nothing_behind(tmp_path: Path) -> None:
    manners = [
        b"",  # not a word
        b"POST /api/v1/service/dia",
        scoring(b"12345")[:-3],
        scoring(b"never asked for"),
        CLIENT_HELLO,
    ]
    with FakeBackend(echoing) as backend, GatewayProcess(crowded(backend.url), tmp_path) as gateway:
        descriptors = at_rest(gateway)
        accepted = gateway.metric("gateway_connections_accepted_total")
        with served_meanwhile(gateway) as statuses:
            for number in range(3000):
                client = gateway.client()
                if word := manners[number % len(manners)]:
                    client.send(word)
                client.reset() if number % 3 else client.close()
        assert set(statuses) == {200}
        wait_until(
            lambda: gateway.metric("gateway_connections_accepted_total") >= accepted + 3001,
            what="the last of them",
        )
        empty(gateway)
        wait_until(
            lambda: gateway.descriptors() <= descriptors, what="as few descriptors as before"
        )
        assert gateway.metric("gateway_requests_in_flight") == 0
        # Requests are logged, visitors are not.
        own = [entry for entry in gateway.log_entries() if "request_id" not in entry]
        assert [entry["level"] for entry in own] == ["info"]
        assert "Traceback" not in gateway.log()


def test_t17_silent_connections_keep_their_places_only_so_long(tmp_path: Path) -> None:
    """Peers that vanished without FIN or RST look like this as well."""
    with FakeBackend(echoing) as backend, contextlib.ExitStack() as stack:
        text = crowded(backend.url, LIMIT, "headers: 1s, linger: 300ms")
        gateway = stack.enter_context(GatewayProcess(text, tmp_path))
        silent = [stack.enter_context(gateway.client()) for _ in range(LIMIT)]
        for client in silent[::2]:
            client.send(b"POST / HTTP/1.1\r\n")
        wait_until(lambda: gateway.metric("gateway_connections") == LIMIT, what="their arrival")
        with gateway.client() as surplus:
            assert surplus.answer().status == 503
        wait_until(lambda: gateway.metric("gateway_connections") == 0, 4, "the end of patience")
        assert gateway.ask(scoring(b"now")).body == b"now"
        assert gateway.metric("gateway_client_timeouts_total") == LIMIT
        for number, client in enumerate(silent):
            if number % 2 == 0:
                assert client.answer().status == 408
            assert client.is_closed()
        assert gateway.complaints() == []


SIZE = 16 << 20
SLOW = 40


class Flood:
    """Answers GET with 16 MiB; takes the head of a large POST and nothing of its body."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.heads = 0

    def __call__(self, link: Link) -> None:
        keep(link.socket, 32 << 10)
        while (head := link.read_head()) is not None:
            if head.startswith(b"GET"):
                link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
                for _ in range(SIZE >> 16):
                    link.send(bytes(65536))
            elif b"Content-Length: 2\r\n" in head:
                link.receive()
                link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            else:
                self.heads += 1
                self.release.wait(30)
                return


def keep(end: socket.socket, size: int) -> None:
    """How much of what is on its way the kernel may hold; if that is little, the gateway has to."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        end.setsockopt(socket.SOL_SOCKET, option, size)


def has_settled(gateway: GatewayProcess) -> bool:
    """The gateway's event loop has nothing to do but to sweep."""
    used = gateway.loop_seconds()
    threading.Event().wait(0.2)
    return gateway.loop_seconds() - used < 0.02


def upload_until_nothing_moves(clients: list[RawClient]) -> None:
    """All of them in turn; none of them gets rid of its body."""
    last, sent, piece = time.monotonic(), [0] * len(clients), bytes(65536)
    for client in clients:
        client.socket.setblocking(False)
    while time.monotonic() - last < 0.2:
        for number, client in enumerate(clients):
            with contextlib.suppress(BlockingIOError):
                sent[number] += client.socket.send(piece)
                last = time.monotonic()
        assert max(sent) < SIZE
    assert min(sent) > 0


@pytest.mark.parametrize("direction", ["answers", "uploads"])
def test_t19_what_waits_for_a_slow_peer_is_bounded(tmp_path: Path, direction: str) -> None:
    flood = Flood()
    with FakeBackend(flood) as backend, contextlib.ExitStack() as stack:
        gateway = stack.enter_context(GatewayProcess(crowded(backend.url), tmp_path))
        clients = [stack.enter_context(gateway.client(20)) for _ in range(SLOW)]
        assert gateway.ask(scoring(b"ok")).body == b"ok"
        before = gateway.own_memory()
        for client in clients:
            keep(client.socket, 32 << 10)
            if direction == "answers":
                client.send(request(body=None, key=KEY, method="GET"))
            else:
                length = {**PLAIN, "Content-Length": str(SIZE)}
                client.send(request(body=None, key=KEY, headers=length))
        if direction == "uploads":
            wait_until(lambda: flood.heads == SLOW, what="the requests at the container")
            upload_until_nothing_moves(clients)
        wait_until(lambda: has_settled(gateway), 15, "rest")
        each = (gateway.own_memory() - before) / SLOW
        assert each < PER_DIRECTION, f"{each / 1024:.0f} KiB for every slow peer"
        assert gateway.ask(scoring(b"ok")).body == b"ok", "others are served"
        flood.release.set()
        if direction == "answers":
            keep(clients[0].socket, 1 << 20)
            assert clients[0].answer().body == bytes(SIZE)
        for client in clients:
            client.reset()
        empty(gateway)
        assert gateway.complaints() == []
