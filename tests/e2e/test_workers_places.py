"""Several workers send a container no more requests at a time than one would, take turns, and
harm nobody by dying."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.test_overload import Desk, ask, configuration
from tests.support.backends import FakeBackend
from tests.support.gateways import KEY, GatewayProcess, wait_until
from tests.support.raw import Answer, request

WORKERS = 3
QUEUE = "queue: {max_wait: 50s}"


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def backend(desk: Desk) -> Iterator[FakeBackend]:
    with FakeBackend(desk) as running:
        yield running


def text(backend: FakeBackend, concurrency: int, batching: str = "off") -> str:
    more = f", concurrency: {concurrency}, batching: {batching}, {QUEUE}"
    return f"workers: {WORKERS}\n{configuration(backend.url, more)}"


@pytest.mark.parametrize("concurrency", [1, 2, 24])
@pytest.mark.parametrize("batching", ["off", "on"])
def test_a_container_gets_no_more_than_it_can_work_on(
    tmp_path: Path, desk: Desk, backend: FakeBackend, concurrency: int, batching: str
) -> None:
    desk.pause = 0.01
    with (
        GatewayProcess(text(backend, concurrency, batching), tmp_path) as gateway,
        ThreadPoolExecutor(60) as pool,
    ):
        answers = list(pool.map(lambda n: ask(gateway, str(n)), range(150)))
        assert [answer.text for answer in answers] == [str(number) for number in range(150)]
        # 24 places of 3 workers are divided, and not all of them may find a use.
        assert desk.most == concurrency if concurrency < 24 else 8 <= desk.most <= 24
        assert gateway.metric("gateway_places") == concurrency
        assert gateway.metric("gateway_places_taken") == 0


def test_places_of_a_worker_that_is_killed_go_to_others(
    tmp_path: Path, desk: Desk, backend: FakeBackend
) -> None:
    desk.closed.clear()
    with (
        GatewayProcess(text(backend, 1), tmp_path) as gateway,
        ThreadPoolExecutor(40) as pool,
    ):
        asked = {str(n): pool.submit(ask_patiently, gateway, str(n)) for n in range(9)}
        wait_until(lambda: gateway.metric("gateway_queue_length") == 8, 30)
        # One of them has the place. Whoever that is, its end lets another one in.
        for round_, worker in enumerate(gateway.workers(), 1):
            os.kill(worker, signal.SIGKILL)
            names = [f"{round_}-{number}" for number in range(9)]
            asked.update({name: pool.submit(ask_patiently, gateway, name) for name in names})
            wait_until(lambda: waiting_or_lost(gateway, asked) == len(asked) - 1, 30)
        # Once at least, and each time to one who is to be killed next at most.
        assert 2 <= len(desk.order) <= 1 + WORKERS
        desk.closed.set()
        after = [ask(gateway, f"after {number}").text for number in range(20)]
        assert after == [f"after {number}" for number in range(20)]
        for name, call in asked.items():
            if call.exception(20) is None:
                assert call.result().text == name
        assert any(call.exception() for call in asked.values())
        assert gateway.metric("gateway_places_taken") == 0


def ask_patiently(gateway: GatewayProcess, name: str) -> Answer:
    with gateway.client(50.0) as client:
        client.send(request(body=name.encode(), key=KEY, headers={"Content-Type": "text/plain"}))
        return client.answer()


def waiting_or_lost(gateway: GatewayProcess, asked: Mapping[str, Future[Answer]]) -> float:
    lost = sum(call.done() for call in asked.values())
    return gateway.metric("gateway_queue_length") + lost
