"""Running out of file descriptors: threat T18.

The promise: within its configured limits the gateway never runs out, since it keeps a reserve and
refuses to start without one (``test_app``). Should the system take descriptors away all the same,
those who are connected are served on, newcomers are turned away rather than kept waiting, nothing
spins or floods the log, and as soon as there are descriptors everything is as before.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import FakeBackend, Link
from tests.support.gateways import KEY, GatewayProcess, wait_until
from tests.support.raw import Closed, RawClient, request
from tests.support.resources import starved
from tests.support.tools import tool

CONNECTIONS, UPSTREAM = 60, 20
NEEDED = CONNECTIONS + UPSTREAM + 160  # app.RESERVED_DESCRIPTORS


class Holding:
    """Echoes, but keeps what begins with ``hold`` until it is released."""

    def __init__(self) -> None:
        self.held = threading.Semaphore(0)
        self.released = threading.Event()

    def __call__(self, link: Link) -> None:
        while (seen := link.read_request()) is not None:
            if seen.body.startswith(b"hold"):
                self.held.release()
                self.released.wait(30)
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(seen.body)
            link.send(head + seen.body)


@pytest.fixture
def holding() -> Holding:
    return Holding()


@pytest.fixture
def gateway(holding: Holding, tmp_path: Path) -> Iterator[GatewayProcess]:
    """Has exactly the descriptors that its configuration calls for."""
    prefix = (tool("prlimit"), f"--nofile={NEEDED}:{NEEDED}")
    with FakeBackend(holding) as backend:
        text = f"""
listen: {{address: 127.0.0.1:0, limits: {{connections: {CONNECTIONS}}}}}
admin: 127.0.0.1:0
access_log: access.log
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments:
      blue:
        backends: ["{backend.url}"]
        concurrency: {UPSTREAM}
        queue: {{max_wait: 30s}}
        connections: {{max: {UPSTREAM}, idle_timeout: 20s}}
"""
        with GatewayProcess(text, tmp_path, prefix=prefix) as running:
            yield running
            own = [entry for entry in running.log_entries() if "request_id" not in entry]
            assert [entry["level"] for entry in own] == ["info"], "only that it was started"


class Scraper:
    """Reads metrics on one kept connection: there may be no descriptor for another."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._client = RawClient(gateway.admin)

    def __enter__(self) -> Scraper:
        self.read()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def read(self) -> dict[str, float]:
        """Every metric's samples, summed up."""
        self._client.send(request("/metrics", None, method="GET"))
        found: dict[str, float] = {}
        for line in self._client.answer().text.splitlines():
            if match := re.fullmatch(r"(\w+)(?:\{.*\})? (\S+)", line):
                found[match[1]] = found.get(match[1], 0) + float(match[2])
        return found


def scores(client: RawClient, body: bytes = b"[1]") -> bool:
    """Whether the client is served, and with its own answer."""
    client.send(request(body=body, key=KEY))
    answer = client.answer()
    assert answer.status == 503 or (answer.status, answer.body) == (200, body)
    return answer.status == 200


def is_turned_away(client: RawClient) -> bool:
    """Whether the connection is closed without an answer, instead of being served."""
    try:
        return not scores(client)
    except (Closed, BrokenPipeError, ConnectionResetError):
        return True


def test_t18_every_limit_can_be_reached_at_once(gateway: GatewayProcess, holding: Holding) -> None:
    """All clients, all connections to the container, a crowd outside: the reserve is for that."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(gateway.client()) for _ in range(CONNECTIONS)]
        for number, client in enumerate(clients):
            client.send(request(body=b'"%d"' % number if number >= UPSTREAM else b"hold", key=KEY))
        for _ in range(UPSTREAM):
            assert holding.held.acquire(timeout=5)
        wait_until(lambda: gateway.metric("gateway_connections") == CONNECTIONS)
        assert gateway.metric("gateway_upstream_connections") == UPSTREAM
        for _ in range(3):
            crowd = [gateway.client() for _ in range(100)]
            assert crowd[0].answer().status == 503, "turned away with a word"
            assert gateway.admin_get("/readyz")[0] == 200, "the operator is let in"
            for surplus in crowd:
                surplus.close()
            wait_until(lambda: gateway.metric("gateway_connections") == CONNECTIONS)
        holding.released.set()
        for number, client in enumerate(clients):
            answer = client.answer()
            expected = b'"%d"' % number if number >= UPSTREAM else b"hold"
            assert (answer.status, answer.body) == (200, expected)
        assert gateway.metric("process_max_fds") == NEEDED
        assert gateway.metric("gateway_upstream_connect_failures_total") == 0


def test_t18_without_descriptors_those_who_are_connected_are_served_on(
    gateway: GatewayProcess, holding: Holding
) -> None:
    with contextlib.ExitStack() as stack:
        scraper = stack.enter_context(Scraper(gateway))
        clients = [stack.enter_context(gateway.client()) for _ in range(5)]
        assert all(scores(client) for client in clients)
        clients[0].send(request(body=b"hold on", key=KEY))
        assert holding.held.acquire(timeout=5)
        assert scores(clients[1])

        worker = gateway.worker()
        with starved(worker, spare=3):
            metrics = scraper.read()
            assert metrics["gateway_worker_max_fds"] - metrics["gateway_worker_open_fds"] <= 8, (
                "the alarm"
            )
            newcomers = [stack.enter_context(gateway.client()) for _ in range(40)]
            turned_away = [client for client in newcomers if is_turned_away(client)]
            assert len(newcomers) - 8 <= len(turned_away) < len(newcomers)
            for turn in range(50):
                assert all(scores(client, b"[%d]" % turn) for client in clients[1:])
            assert scraper.read()["gateway_requests_in_flight"] == 1
            # Nobody outside knocks now, or is made to wait: there is nothing to do.
            idle = gateway.loop_seconds()
            threading.Event().wait(0.5)
            assert gateway.loop_seconds() - idle < 0.1, "it spins"

            for client in newcomers:
                client.close()
            wait_until(lambda: scraper.read()["gateway_connections"] == len(clients))
            with gateway.client() as late:
                assert scores(late), "there is room again"

        holding.released.set()
        assert clients[0].answer().body == b"hold on"
        newcomers = [stack.enter_context(gateway.client()) for _ in range(40)]
        assert all(scores(client) for client in [*clients, *newcomers])


def test_t18_a_request_that_needs_a_new_connection_fails_alone(
    gateway: GatewayProcess, holding: Holding
) -> None:
    with contextlib.ExitStack() as stack:
        scraper = stack.enter_context(Scraper(gateway))
        one, two = (stack.enter_context(gateway.client()) for _ in range(2))
        assert scores(one)
        assert scores(two)
        with starved(gateway.worker(), spare=0):
            # There may be gaps below the highest descriptor; newcomers take them.
            newcomers = [stack.enter_context(gateway.client()) for _ in range(10)]
            for client in newcomers:
                is_turned_away(client)
            one.send(request(body=b"hold", key=KEY))
            assert holding.held.acquire(timeout=5)
            for _ in range(30):
                assert not scores(two), "the only connection to the container is taken"
            failures = scraper.read()["gateway_upstream_connect_failures_total"]
            assert failures == 30
            holding.released.set()
            assert one.answer().body == b"hold"
            assert scores(two), "on the connection that has become free"
        assert all(scores(client) for client in (one, two))
        for client in newcomers:
            client.close()
        wait_until(lambda: scraper.read()["gateway_connections"] == 2)


def test_t18_the_access_log_survives_a_rotation_without_descriptors(
    gateway: GatewayProcess,
) -> None:
    path = gateway.folder / "access.log"
    old = gateway.folder / "access.log.1"
    with contextlib.ExitStack() as stack:
        scraper = stack.enter_context(Scraper(gateway))
        client = stack.enter_context(gateway.client())
        assert scores(client)
        wait_until(lambda: path.read_text().count("\n") == 1, what="the first line")
        with starved(gateway.worker(), spare=0):
            for _ in range(10):
                is_turned_away(stack.enter_context(gateway.client()))
            path.rename(old)
            for _ in range(100):
                assert scores(client)
        assert scores(client)
        wait_until(path.exists, what="a new file")

        def accounted() -> float:
            lines = sum(file.read_text().count("\n") for file in (path, old))
            return lines + scraper.read()["gateway_access_log_dropped_lines_total"]

        total = scraper.read()["gateway_requests_total"]
        wait_until(lambda: accounted() == total, what="every line, or its loss, on record")
