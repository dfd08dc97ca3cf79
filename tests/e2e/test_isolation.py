"""Many clients at once: nobody ever gets another's answer.

Threat T24. Every row is different and so is every answer, on kept connections and new ones,
pipelined and streamed, with clients that leave in the middle, against the real container and
against one that echoes.
"""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.backends import FakeBackend, Link
from tests.support.containers import Container
from tests.support.gateways import KEY, GatewayProcess, minimal, wait_until
from tests.support.raw import RawClient, request


def echo(link: Link) -> None:
    """Says what it was told, in one of several framings, sometimes a little late."""
    late = threading.Event()
    # Else a second small write waits 40 ms for the first to be acknowledged.
    link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while (seen := link.read_request()) is not None:
        body, number = seen.body, hash(seen.body)
        if number % 7 == 0:
            late.wait(0.003)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        if number % 3:
            link.send(head + b"Content-Length: %d\r\n\r\n" % len(body))
            link.send(body)
        else:
            half = len(body) // 2
            link.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for part in (body[:half], body[half:]):
                link.send(b"%x\r\n%b\r\n" % (len(part), part))
            link.send(b"0\r\n\r\n")


@pytest.fixture(scope="module")
def to_container(
    container: Container, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("real")
    with GatewayProcess(minimal(container.url), folder) as running:
        yield running
        assert running.complaints() == []


@pytest.fixture(scope="module")
def to_echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with FakeBackend(echo) as one, FakeBackend(echo) as two:
        text = minimal(f"{one.url}, {two.url}")
        with GatewayProcess(text, tmp_path_factory.mktemp("echo")) as running:
            yield running
            assert running.complaints() == []


def each(clients: int, run: Callable[[int], None]) -> None:
    """Run ``run(number)`` for every client at once; the first failure is raised."""
    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(run, number) for number in range(clients)]:
            done.result(50)


def row(number: int) -> list[float]:
    """A row that no other number has, within the range of the model's training data."""
    return [number / 10_000, *((number * factor % 97) / 1000 for factor in range(2, 11))]


@pytest.fixture(scope="module")
def expected(container: Container) -> list[float]:
    """What the container says of every row when it is asked directly, all in one call."""
    data = json.dumps({"data": [row(number) for number in range(2000)]}).encode()
    with RawClient(("127.0.0.1", container.port)) as client:
        client.send(request("/score", data))
        predictions: list[float] = json.loads(client.answer().body)
    assert len(set(predictions)) == 2000, "the rows must be told apart by their predictions"
    return predictions


@pytest.mark.parametrize(("clients", "count"), [(8, 100), (64, 12)])
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "new"])
def test_t24_everybody_gets_the_prediction_of_his_own_row(
    to_container: GatewayProcess, expected: list[float], clients: int, count: int, keep: bool
) -> None:
    def run(who: int) -> None:
        client = to_container.client(30)
        for turn in range(count):
            number = who * count + turn
            client.send(request(body=json.dumps({"data": [row(number)]}).encode(), key=KEY))
            answer = client.answer()
            assert answer.status == 200
            # One row or two thousand at once: the last bits of the sums may differ.
            assert json.loads(answer.body) == pytest.approx([expected[number]], rel=1e-12)
            if not keep:
                client.close()
                client = to_container.client(30)
        client.close()

    each(clients, run)
    wait_until(lambda: to_container.metric("gateway_requests_in_flight") == 0)


@pytest.mark.parametrize(("clients", "count"), [(8, 500), (64, 60)])
def test_t24_everybody_gets_his_own_echo_while_others_leave(
    to_echo: GatewayProcess, clients: int, count: int
) -> None:
    """One client in four resets or closes its connection instead of waiting for the answer."""
    before = to_echo.metric("gateway_requests_total", code="200")
    answered: list[int] = []

    def run(who: int) -> None:
        draw = random.Random(who)
        client = to_echo.client(30)
        good = 0
        for turn in range(count):
            body = f"{who}/{turn}/".encode() * draw.choice((1, 10, 1000, 20_000))
            kind = draw.choice(("application/octet-stream", "text/plain"))
            client.send(request(body=body, key=KEY, headers={"Content-Type": kind}))
            leaves = who % 4 == 0 and turn % 2 == 1
            if leaves:
                client.reset() if turn % 4 == 1 else client.close()
                client = to_echo.client(30)
                continue
            answer = client.answer()
            assert answer.status == 200
            assert answer.body == body
            good += 1
            if turn % 10 == 9:
                client.close()
                client = to_echo.client(30)
        client.close()
        answered.append(good)

    each(clients, run)
    wait_until(lambda: to_echo.metric("gateway_requests_in_flight") == 0)
    assert to_echo.metric("gateway_requests_total", code="200") >= before + sum(answered)
    assert to_echo.metric("gateway_faults_total", fault="internal") == 0


def test_t24_pipelined_requests_are_answered_in_their_order(to_echo: GatewayProcess) -> None:
    def run(who: int) -> None:
        bodies = [f"{who}/{turn}".encode() * (1 + turn % 50) for turn in range(100)]
        with to_echo.client(30) as client:
            client.send(b"".join(request(body=body, key=KEY) for body in bodies))
            for body in bodies:
                answer = client.answer()
                assert (answer.status, answer.body) == (200, body)

    each(8, run)


def test_t24_large_bodies_do_not_mix(to_echo: GatewayProcess) -> None:
    """Streamed in both directions, in pieces that alternate on the wire."""

    def run(who: int) -> None:
        body = bytes((who,)) * (2 << 20)
        with to_echo.client(30) as client:
            for _ in range(3):
                client.send(
                    request(body=body, key=KEY, headers={"Content-Type": "application/x-rows"})
                )
                answer = client.answer()
                assert answer.status == 200
                assert answer.body == body

    each(8, run)
