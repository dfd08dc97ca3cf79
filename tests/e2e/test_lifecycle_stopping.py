"""SIGTERM, SIGINT and what becomes of those who are being served.

The promise: whoever is inside gets its answer, nobody else is taken in, and the process is gone a
second after the last of them.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateways import GatewayProcess, wait_until
from tests.support.hashing import HashingBackend
from tests.support.questions import Scoring
from tests.support.traffic import BROKEN, UNANSWERED, UNCONNECTED, Traffic
from tests.support.usage import is_running

IN_FLIGHT = 100
SLOW = 3.0


@pytest.fixture(scope="module")
def backend() -> Iterator[HashingBackend]:
    with HashingBackend() as running:
        yield running


def configuration(backend: HashingBackend, timeouts: str = "drain: 30s") -> str:
    return f"""
listen: {{address: 127.0.0.1:0, timeouts: {{{timeouts}}}}}
admin: 127.0.0.1:0
access_log: off
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments: {{blue: {{backends: ["{backend.url}/blue"], concurrency: 200}}}}
"""


def slow(seconds: float = SLOW) -> Scoring:
    return Scoring("slow", headers={"X-Delay": str(seconds)})


def full_of(gateway: GatewayProcess, clients: int) -> None:
    """Wait until so many requests are in flight."""
    wait_until(
        lambda: gateway.metric("gateway_requests_in_flight") == clients, 10, "everybody inside"
    )


def exit_within(gateway: GatewayProcess, seconds: float) -> int:
    """
    :raises subprocess.TimeoutExpired: it has not ended by then.
    """
    return gateway.process.wait(seconds)


def test_a_hundred_slow_requests_are_finished(backend: HashingBackend, tmp_path: Path) -> None:
    with GatewayProcess(configuration(backend), tmp_path) as gateway:
        half = IN_FLIGHT // 2
        clients = Traffic(gateway.address, slow(), kept=half, fresh=half, pause=0.01)
        with clients as traffic:
            full_of(gateway, IN_FLIGHT)
            gateway.process.send_signal(signal.SIGTERM)
            status = exit_within(gateway, SLOW + 10)
            ended = time.monotonic()
        account = traffic.account
        assert status == 0, gateway.log()
        assert account.right == IN_FLIGHT, str(account)
        # A second on a machine that has nothing else to do.
        assert ended - max(account.whens) < 3.0, "it goes with the last of them"
        # Those who came back for more found the door closed.
        assert set(account.fates) <= {"right", UNCONNECTED}, str(account)
        assert gateway.complaints() == []


def test_who_takes_longer_than_the_drain_is_cut_off(
    backend: HashingBackend, tmp_path: Path
) -> None:
    with GatewayProcess(configuration(backend, "drain: 500ms"), tmp_path) as gateway:
        clients = Traffic(gateway.address, slow(30), kept=5, fresh=0, pause=0.01, patience=20)
        with clients as traffic:
            full_of(gateway, 5)
            gateway.process.send_signal(signal.SIGTERM)
            assert exit_within(gateway, 3) == 1
        fates = traffic.account.fates
        assert fates["status 503"] + fates[UNANSWERED] + fates[BROKEN] == 5, str(traffic.account)
        assert "cut off: 5" in gateway.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_it_at_once(
    backend: HashingBackend, tmp_path: Path, number: signal.Signals
) -> None:
    with GatewayProcess(configuration(backend), tmp_path) as gateway:
        clients = Traffic(gateway.address, slow(5), kept=5, fresh=0, pause=0.01)
        with clients as traffic:
            full_of(gateway, 5)
            workers = gateway.workers()
            gateway.process.send_signal(number)
            wait_until(lambda: "finishing what is in flight" in gateway.log(), what="the first")
            threading.Event().wait(0.3)
            assert gateway.process.poll() is None, "one signal is a request"
            gateway.process.send_signal(number)
            assert exit_within(gateway, 1) == 128 + number
            wait_until(lambda: not any(map(is_running, workers)), 1, "their end")
        assert traffic.account.lost == traffic.account.fates.total() >= 5
