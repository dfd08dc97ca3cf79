"""Workers that die or stand still, under load: who is not inside one notices nothing.

What a killed worker costs is compared with what was inside it: it is stopped first, so that nothing
moves while it is looked at which connections it has.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateways import GatewayProcess, wait_until
from tests.support.hashing import HashingBackend
from tests.support.killing import Killer, inside
from tests.support.questions import Scoring
from tests.support.scrapes import Scraper
from tests.support.traffic import BROKEN, RIGHT, UNANSWERED, Traffic
from tests.support.usage import is_running

# `SOAK` in the environment asks for the long version.
LONG = bool(os.environ.get("SOAK"))
KILLS = 20 if LONG else 3
# A worker that lived for less is one that dies at its start: its successor has to wait.
YOUTH = 5.0
# A second on a machine that has nothing else to do.
RESPAWN = 4.0
STUCK = 1.0


@pytest.fixture(scope="module")
def backend() -> Iterator[HashingBackend]:
    with HashingBackend() as running:
        yield running


def configuration(backend: HashingBackend, workers: int) -> str:
    return f"""
listen: 127.0.0.1:0
admin: 127.0.0.1:0
access_log: off
workers: {workers}
worker_timeout: {STUCK}s
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments: {{blue: {{backends: ["{backend.url}/blue"], concurrency: 64}}}}
"""


@pytest.mark.timeout(40 + 10 * KILLS)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_costs_those_who_were_inside(
    backend: HashingBackend, tmp_path: Path, workers: int
) -> None:
    ask = Scoring(headers={"X-Delay": "0.01"})
    with GatewayProcess(configuration(backend, workers), tmp_path) as gateway:
        killer = Killer(gateway)
        clients = Traffic(gateway.address, ask, kept=24, fresh=4, pause=0.01)
        with Scraper(gateway) as scraper, clients as traffic:
            for _ in range(KILLS):
                traffic.more(200)
                if LONG:
                    time.sleep(YOUTH / workers + 0.5)
                killer.kill()
            traffic.more(200)
            account = traffic.stop()
        assert max(killer.taken) < RESPAWN, f"{max(killer.taken):.2f} s"
        assert set(account.fates) <= {RIGHT, UNANSWERED, BROKEN}, str(account)
        assert account.lost <= KILLS * 28
        for mishap in account.mishaps:
            assert killer.accounts_for(mishap.port, mishap.when), mishap
        scraper.check()
        # A worker's last half second is not reported any more, everything else is.
        assert 0.5 * account.right < gateway.metric("gateway_requests_total") <= account.right
        assert gateway.metric("gateway_worker_restarts_total", reason="killed") == KILLS
        assert "Traceback" not in gateway.log()


def test_a_worker_that_stands_still_is_replaced(backend: HashingBackend, tmp_path: Path) -> None:
    with GatewayProcess(configuration(backend, 2), tmp_path) as gateway:
        clients = Traffic(gateway.address, Scoring(), kept=16, fresh=2, pause=0.01)
        with Scraper(gateway) as scraper, clients as traffic:
            traffic.more(200)
            victim = gateway.workers()[0]
            os.kill(victim, signal.SIGSTOP)
            ports = inside(victim, gateway.address[1])
            begun = time.monotonic()
            wait_until(lambda: not is_running(victim), STUCK + 4, "its end")
            gone = time.monotonic()
            traffic.more(200)
            wait_until(lambda: gateway.metric("gateway_workers") == 2, what="another")
            account = traffic.stop()
        assert gone - begun >= STUCK * 0.9
        assert set(account.fates) <= {RIGHT, UNANSWERED, BROKEN}, str(account)
        assert 0 < account.lost <= 18
        assert {mishap.port for mishap in account.mishaps} <= ports
        scraper.check()
        assert gateway.metric("gateway_worker_restarts_total", reason="stuck") == 1
