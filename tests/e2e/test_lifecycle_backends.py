"""A container goes and comes back while another is there: nobody notices.

The promise: a container that stops as it should (it answers whoever is inside, with ``Connection:
close``) costs nobody anything. One that is killed costs those whose requests were inside it, and
they are told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.gateways import GatewayProcess
from tests.support.hashing import HashingBackend
from tests.support.questions import Scoring
from tests.support.traffic import Traffic

CONCURRENCY = 4
KEPT, FRESH = 16, 2


@pytest.fixture
def backends() -> Iterator[list[HashingBackend]]:
    with ExitStack() as stack:
        yield [stack.enter_context(HashingBackend()) for _ in range(2)]


@pytest.fixture
def gateway(backends: list[HashingBackend], tmp_path: Path) -> Iterator[GatewayProcess]:
    urls = [f"{backend.url}/blue" for backend in backends]
    text = f"""
listen: 127.0.0.1:0
admin: 127.0.0.1:0
access_log: off
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments:
      blue: {{backends: {urls}, concurrency: {CONCURRENCY}, queue: {{max_wait: 5s}}}}
"""
    with GatewayProcess(text, tmp_path) as running:
        yield running
        assert running.complaints() == []


def test_restarts_cost_nobody_anything(
    gateway: GatewayProcess, backends: list[HashingBackend]
) -> None:
    with Traffic(gateway.address, Scoring(), kept=KEPT, fresh=FRESH, pause=0.01) as traffic:
        traffic.more(100)
        for turn in range(4):
            before = gateway.metric("gateway_upstream_connects_total")
            backends[turn % 2].restart(pause=0.3)
            traffic.more(200)
            assert gateway.metric("gateway_upstream_connects_total") > before, "it is used again"
    traffic.account.check(900)
    assert gateway.metric("gateway_upstream_connect_failures_total") > 0


def test_a_killed_container_costs_those_who_were_inside(
    gateway: GatewayProcess, backends: list[HashingBackend]
) -> None:
    turns = 2
    ask = Scoring(headers={"X-Delay": "0.02"})
    with Traffic(gateway.address, ask, kept=KEPT, fresh=FRESH, pause=0.01) as traffic:
        for turn in range(turns):
            traffic.more(50)
            backends[turn % 2].kill()
            time.sleep(0.3)
            backends[turn % 2].start()
    account = traffic.account
    assert set(account.fates) <= {"right", "status 502"}, str(account)
    # A process that is killed loses one connection after the other: while it does, the place of the
    # first may be given to a request that goes out on the last.
    assert 0 < account.fates["status 502"] <= turns * 2 * CONCURRENCY, str(account)
    failed = gateway.metric("gateway_faults_total", fault="upstream_closed")
    assert failed == account.fates["status 502"]
