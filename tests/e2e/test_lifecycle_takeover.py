"""Another process takes over, again and again, while everybody asks on.

The promise: nobody is refused, nobody is cut off, and the old process is gone when it has answered.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.containers import free_port
from tests.support.gateways import GatewayProcess, wait_until
from tests.support.hashing import HashingBackend
from tests.support.questions import Scoring
from tests.support.traffic import RIGHT, UNANSWERED, UNCONNECTED, Traffic

SUCCESSORS = 3


@pytest.fixture(scope="module")
def backend() -> Iterator[HashingBackend]:
    with HashingBackend() as running:
        yield running


def configuration(backend: HashingBackend, port: int, socket: Path) -> str:
    return f"""
listen: 127.0.0.1:{port}
admin: 127.0.0.1:0
access_log: off
workers: 2
takeover: {socket}
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments: {{blue: {{backends: ["{backend.url}/blue"], concurrency: 64}}}}
"""


def test_successors_take_over_and_nobody_notices(backend: HashingBackend, tmp_path: Path) -> None:
    text = configuration(backend, free_port(), tmp_path / "takeover.sock")
    with ExitStack() as stack:
        folders = [tmp_path / str(number) for number in range(SUCCESSORS + 1)]
        for folder in folders:
            folder.mkdir()
        gateways = [GatewayProcess(text, folder) for folder in folders]
        stack.enter_context(gateways[0])
        address = gateways[0].address
        slow = Traffic(
            address, Scoring("slow", headers={"X-Delay": "1.0"}), kept=6, fresh=2, pause=0.01
        )
        clients = Traffic(address, Scoring("quick"), kept=24, fresh=4, pause=0.01)
        with clients as traffic, slow:
            for old, new in itertools.pairwise(gateways):
                traffic.more(200)
                stack.enter_context(new)
                assert new.address == address
                # Whoever is inside the old one takes a second at most.
                assert old.process.wait(3) == 0, old.log()
            traffic.more(200)
        traffic.account.check(800)
        slow.account.check(10 * SUCCESSORS)
        for gateway in gateways:
            assert gateway.complaints() == []
            assert "Traceback" not in gateway.log()


def test_one_that_cannot_start_leaves_the_old_one_alone(
    backend: HashingBackend, tmp_path: Path
) -> None:
    text = configuration(backend, free_port(), tmp_path / "takeover.sock")
    (tmp_path / "new").mkdir()
    with GatewayProcess(text, tmp_path) as old:
        with Traffic(old.address, Scoring(), kept=8, fresh=2, pause=0.01) as traffic:
            traffic.more(50)
            # Good as far as can be judged, and a worker finds out that it cannot be done.
            (tmp_path / "nowhere.log").symlink_to("/proc/nowhere.log")
            log = f"access_log: {tmp_path}/nowhere.log"
            new = GatewayProcess(text.replace("access_log: off", log), tmp_path / "new")
            with pytest.raises(AssertionError, match="did not start"):
                new.start()
            assert new.process.poll() == 1
            traffic.more(200)
            assert old.process.poll() is None
        traffic.account.check(250)


def test_who_asks_when_it_stops_is_answered(backend: HashingBackend, tmp_path: Path) -> None:
    """Without a successor who comes back is refused, but nobody's connection is closed under a
    request."""
    text = configuration(backend, free_port(), tmp_path / "takeover.sock")
    for turn in range(2):
        folder = tmp_path / str(turn)
        folder.mkdir()
        with GatewayProcess(text, folder) as gateway:
            clients = Traffic(gateway.address, Scoring(), kept=24, fresh=0, pause=0.02)
            with clients as traffic:
                traffic.more(200)
                begun = time.monotonic()
                assert gateway.stop() == 0
                assert time.monotonic() - begun < 3
            account = traffic.account
            assert set(account.fates) <= {RIGHT, UNCONNECTED, UNANSWERED}, str(account)
            # A connection that the kernel has, and nobody has accepted, is all that can be lost.
            assert not [m for m in account.mishaps if m.fate == UNANSWERED and m.reused]


def test_during_the_delay_it_is_not_ready_and_serves_on(
    backend: HashingBackend, tmp_path: Path
) -> None:
    """A balancer that looks at readiness sends everybody elsewhere in that time."""
    text = configuration(backend, free_port(), tmp_path / "takeover.sock")
    listen = f"listen: {{address: 127.0.0.1:{free_port()}, timeouts: {{drain_delay: 1200ms}}}}"
    text = re.sub("listen: .*", listen, text)
    with GatewayProcess(text, tmp_path) as gateway:
        clients = Traffic(gateway.address, Scoring(), kept=16, fresh=4, pause=0.01)
        with clients as traffic:
            traffic.more(100)
            gateway.process.send_signal(signal.SIGTERM)
            wait_until(lambda: gateway.admin_get("/readyz")[0] == 503, 1, "unreadiness")
            assert json.loads(gateway.admin_get("/readyz")[1])["reasons"] == ["stopping"]
            traffic.more(100, 1.0)
            account = traffic.stop()
        account.check(200)
        assert gateway.process.wait(5) == 0
