"""A container gets as many requests at a time as it can work on; what waits, waits in turn and not
for ever, and clients are told of an overload in the words of the front end (contract.md 1.3, 1.5).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.control.demo import ROWS
from tests.support.backends import FakeBackend, Link
from tests.support.containers import Container
from tests.support.gateways import KEY, GatewayProcess, wait_until
from tests.support.raw import Answer, request

BUSY = "Too many requests for service diabetes (overloaded)"


class Desk:
    """A container that notes who is being served, and serves for as long as it is told to."""

    def __init__(self) -> None:
        self.pause = 0.0
        self.closed = threading.Event()
        self.closed.set()
        self.most = 0
        self.order: list[str] = []
        self._lock = threading.Lock()
        self._inside = 0

    def __call__(self, link: Link) -> None:
        while (seen := link.read_request()) is not None:
            with self._lock:
                self._inside += 1
                self.most = max(self.most, self._inside)
                self.order.append(seen.body.decode())
            self.closed.wait(10)
            time.sleep(self.pause)
            with self._lock:
                self._inside -= 1
            link.send(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(seen.body), seen.body)
            )


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def backend(desk: Desk) -> Iterator[FakeBackend]:
    with FakeBackend(desk) as running:
        yield running


def configuration(backends: str, deployment: str = "", endpoint: str = "") -> str:
    return (
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nendpoints:\n  diabetes:\n"
        f"    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}\n{endpoint}\n"
        f"    deployments: {{blue: {{backends: [{backends}]{deployment}}}}}\n"
    )


def ask(gateway: GatewayProcess, name: str) -> Answer:
    return gateway.ask(request(body=name.encode(), key=KEY, headers={"Content-Type": "text/plain"}))


def waiting(gateway: GatewayProcess) -> float:
    return gateway.metric("gateway_queue_length", endpoint="diabetes", deployment="blue")


def logged(gateway: GatewayProcess, fault: str) -> list[dict[str, object]]:
    return [entry for entry in gateway.log_entries() if entry.get("fault") == fault]


@pytest.mark.parametrize(("concurrency", "backends"), [(1, 1), (3, 1), (2, 2)])
def test_a_container_gets_no_more_than_it_can_work_on(
    tmp_path: Path, desk: Desk, backend: FakeBackend, concurrency: int, backends: int
) -> None:
    desk.pause = 0.01
    more = f", concurrency: {concurrency}, queue: {{max_wait: 10s}}"
    other = FakeBackend(desk)
    with other, ThreadPoolExecutor(30) as pool:
        urls = ", ".join([backend.url, other.url][:backends])
        with GatewayProcess(configuration(urls, more), tmp_path) as gateway:
            answers = list(pool.map(lambda n: ask(gateway, str(n)), range(60)))
            assert [answer.text for answer in answers] == [str(number) for number in range(60)]
            assert desk.most == concurrency * backends
            assert gateway.metric("gateway_places") == concurrency * backends
            assert gateway.metric("gateway_places_taken") == 0


def test_who_comes_first_is_served_first(tmp_path: Path, desk: Desk, backend: FakeBackend) -> None:
    desk.closed.clear()
    text = configuration(backend.url, ", queue: {max_wait: 10s}")
    with GatewayProcess(text, tmp_path) as gateway, ThreadPoolExecutor(10) as pool:
        calls = []
        for number in range(10):
            calls.append(pool.submit(ask, gateway, str(number)))
            wait_until(lambda n=number: waiting(gateway) + len(desk.order) == n + 1)
        desk.closed.set()
        assert [call.result().status for call in calls] == [200] * 10
        assert desk.order == [str(number) for number in range(10)]


@pytest.mark.parametrize(("dialect", "status", "text"), [("v1", 503, BUSY), ("managed", 429, "")])
def test_who_has_waited_long_enough_is_told_of_the_overload(
    tmp_path: Path, desk: Desk, backend: FakeBackend, dialect: str, status: int, text: str
) -> None:
    desk.closed.clear()
    written = configuration(backend.url, endpoint=f"    dialect: {dialect}")
    with GatewayProcess(written, tmp_path) as gateway, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, gateway, "first")
        wait_until(lambda: desk.order == ["first"])
        begun = time.monotonic()
        late = ask(gateway, "late")
        # 500 ms is the default of the front end.
        assert 0.45 < time.monotonic() - begun < 1.5
        assert (late.status, late.text) == (status, text)
        assert late.header("connection") is None
        desk.closed.set()
        assert first.result().text == "first"
        assert desk.order == ["first"]
        assert gateway.metric("gateway_faults_total", fault="overloaded") == 1
        assert gateway.metric("gateway_queue_wait_seconds_count") == 1
        wait_until(lambda: logged(gateway, "overloaded"), what="its line in the access log")
        (entry,) = logged(gateway, "overloaded")
        assert 450 < float(str(entry["queue_ms"])) < 1500


def test_a_full_queue_refuses_at_once(tmp_path: Path, desk: Desk, backend: FakeBackend) -> None:
    desk.closed.clear()
    text = configuration(backend.url, ", queue: {max_wait: 10s, max_length: 2}")
    with GatewayProcess(text, tmp_path) as gateway, ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(ask, gateway, str(number)) for number in range(3)]
        wait_until(lambda: waiting(gateway) == 2)
        begun = time.monotonic()
        answer = ask(gateway, "one too many")
        assert (answer.status, answer.text) == (503, BUSY)
        assert time.monotonic() - begun < 2
        desk.closed.set()
        assert sorted(call.result().text for call in calls) == ["0", "1", "2"]
        assert ask(gateway, "again").text == "again"


def test_the_deadline_counts_while_waiting(
    tmp_path: Path, desk: Desk, backend: FakeBackend
) -> None:
    desk.closed.clear()
    text = configuration(backend.url, ", queue: {max_wait: 10s}", "    timeout: 400ms")
    with GatewayProcess(text, tmp_path) as gateway, ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(ask, gateway, name) for name in ("served", "waits")]
        assert [call.result().status for call in calls] == [504, 504]
        assert len(desk.order) == 1
        assert (waiting(gateway), gateway.metric("gateway_places_taken")) == (0, 0)
        desk.closed.set()


def test_who_leaves_the_queue_never_reaches_the_container(
    tmp_path: Path, desk: Desk, backend: FakeBackend
) -> None:
    desk.closed.clear()
    text = configuration(backend.url, ", queue: {max_wait: 10s}")
    with GatewayProcess(text, tmp_path) as gateway, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, gateway, "first")
        wait_until(lambda: desk.order == ["first"])
        with gateway.client() as client:
            client.send(request(body=b"gone", key=KEY, headers={"Content-Type": "text/plain"}))
            wait_until(lambda: waiting(gateway) == 1)
            last = pool.submit(ask, gateway, "last")
            wait_until(lambda: waiting(gateway) == 2)
            client.reset()
        wait_until(lambda: waiting(gateway) == 1)
        desk.closed.set()
        assert (first.result().text, last.result().text) == ("first", "last")
        assert desk.order == ["first", "last"]
        assert gateway.metric("gateway_requests_total", code="499") == 1


def test_a_dead_backend_costs_nobody_his_place(
    tmp_path: Path, desk: Desk, backend: FakeBackend
) -> None:
    text = configuration(f"http://127.0.0.1:1, {backend.url}", ", queue: {max_wait: 10s}")
    with GatewayProcess(text, tmp_path) as gateway, ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: ask(gateway, str(n)), range(50)))
        assert [answer.text for answer in answers] == [str(number) for number in range(50)]
        assert desk.most == 1
        assert (waiting(gateway), gateway.metric("gateway_places_taken")) == (0, 0)


def test_one_worker_of_the_real_container_is_never_given_two(
    container: Container, tmp_path: Path
) -> None:
    body = json.dumps({"data": [ROWS[0]]}).encode()
    text = configuration(container.url, ", queue: {max_wait: 30s}")
    with GatewayProcess(text, tmp_path) as gateway, ThreadPoolExecutor(16) as pool:
        asks = pool.map(lambda _: gateway.ask(request(body=body, key=KEY)), range(64))
        assert {(answer.status, answer.text) for answer in asks} == {
            (200, gateway.ask(request(body=body, key=KEY)).text)
        }
        assert gateway.metric("gateway_queue_wait_seconds_count") > 0
        assert gateway.complaints() == []
