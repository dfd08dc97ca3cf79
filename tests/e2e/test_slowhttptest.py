"""Debian's slowhttptest attacks with slow headers, slow bodies and slow reading: threat T14.

The promise: whatever it opens is closed when the configured time has passed, with nothing left of
it, and meanwhile other clients are served as if nothing were. What exactly a slow client is told,
and when, is in ``test_slow_clients``.
"""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.backends import FakeBackend, Link
from tests.support.gateways import GatewayProcess, wait_until
from tests.support.raw import request
from tests.support.tools import tool

# Far more than the buffers of the kernel and the gateway hold for a client with a tiny window.
SIZE = 8 << 20
CONNECTIONS = 200
PATIENCE = 2.0
# The tool opens 200 connections in about a second, with a pause of its own in between.
OPENING = 4.0
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def behave(link: Link) -> None:
    """Answers ``large`` with more than any buffer holds, everything else shortly."""
    # The kernel would hold megabytes of every answer, which takes its time.
    link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 << 10)
    while (seen := link.read_request()) is not None:
        if "/large" in seen.line:
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            for _ in range(SIZE >> 16):
                link.send(bytes(65536))
        else:
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Waits two seconds for anything, and asks for no key: the tool cannot send one."""
    with FakeBackend(behave) as backend:
        text = f"""
listen:
  address: 127.0.0.1:0
  timeouts: {{headers: 2s, body: 2s, idle: 2s, write: 2s, linger: 500ms}}
admin: 127.0.0.1:0
endpoints:
  open:
    auth: none
    deployments:
      blue: {{backends: ["{backend.url}"], concurrency: 300,
        connections: {{max: 300, idle_timeout: 300ms}}}}
"""
        with GatewayProcess(text, tmp_path_factory.mktemp("gateway")) as running:
            yield running
            assert running.complaints() == []
            assert "Traceback" not in running.log()


class Attack:
    """slowhttptest at work. Use as a context manager, which ends it."""

    def __init__(self, gateway: GatewayProcess, path: str, *options: str) -> None:
        host, port = gateway.address
        self._command = [
            tool("slowhttptest"), *options, "-c", str(CONNECTIONS), "-r", str(CONNECTIONS),
            "-l", "10", "-p", "3", "-v", "1", "-u", f"http://{host}:{port}{path}",
        ]  # fmt: skip
        self.process: subprocess.Popen[str]

    def __enter__(self) -> Attack:
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def verdict(self) -> str:
        """What it says in the end."""
        output, _ = self.process.communicate(timeout=15)
        match = re.search(r"Exit status:\s*(.+)", _ESCAPES.sub("", output))
        assert match is not None, output
        return match[1].strip()


class Bystander:
    """A client that asks on a connection of its own as long as the attack lasts."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.statuses: list[int] = []
        self.longest = 0.0
        self._gateway = gateway
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._watched)

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)
        assert not self._thread.is_alive()
        assert self._failure is None, self._failure

    def _watched(self) -> None:
        try:
            self._run()
        except Exception as failure:  # noqa: BLE001 - it is raised where the thread is joined
            self._failure = failure

    def _run(self) -> None:
        kept = self._gateway.client()
        with kept:
            while not self._stop.wait(0.01):
                began = time.monotonic()
                kept.send(request("/api/v1/service/open/score"))
                self.statuses.append(kept.answer().status)
                self.statuses.append(self._gateway.ask(request("/score")).status)
                self.longest = max(self.longest, time.monotonic() - began)


class Watch:
    """The highest number of connections and of descriptors seen while waiting for the end."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.peak = 0.0
        self._gateway = gateway

    def over(self) -> bool:
        """It was there, and is gone; only the bystander may be connected."""
        now = self._gateway.metric("gateway_connections")
        self.peak = max(self.peak, now)
        return self.peak > CONNECTIONS / 2 and now <= 2


MODES = {
    "slow-header": ("/score", "-H", "-i", "1"),
    "slow-body": ("/score", "-B", "-i", "1", "-s", "8192", "-x", "10", "-t", "POST"),
    # Windows of 10 to 20 bytes, from which 5 are read every second.
    "slow-read": ("/large", "-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5", "-t", "GET"),
}


@pytest.mark.tool
@pytest.mark.parametrize("mode", MODES)
def test_t14_slowhttptest_leaves_nothing_open(gateway: GatewayProcess, mode: str) -> None:
    path, *options = MODES[mode]
    wait_until(lambda: gateway.metric("gateway_connections") == 0)
    wait_until(lambda: gateway.metric("gateway_upstream_connections") == 0)
    descriptors = gateway.descriptors()
    accepted = gateway.metric("gateway_connections_accepted_total")
    watch = Watch(gateway)
    with Bystander(gateway) as bystander:
        with Attack(gateway, path, *options) as attack:
            # It lasts ten seconds unless it is ended by the gateway.
            wait_until(watch.over, OPENING + PATIENCE + 1.5, "the end of the attack")
            if mode != "slow-read":
                # A slow reader is still fed what the kernel had taken for it.
                assert attack.verdict() == "No open connections left"
        assert len(bystander.statuses) > 40
    assert set(bystander.statuses) == {200}
    # Measured: the kernel takes 1.6 MiB for every slow reader, and a second for two hundred.
    assert bystander.longest < 3.0, f"{bystander.longest:.1f} s for two requests"
    wait_until(lambda: gateway.metric("gateway_connections") == 0)
    wait_until(lambda: gateway.metric("gateway_upstream_connections") == 0)
    wait_until(lambda: gateway.descriptors() <= descriptors, what="as few descriptors as before")
    assert gateway.metric("gateway_requests_in_flight") == 0
    others = len(bystander.statuses) / 2 + 1
    accepted = gateway.metric("gateway_connections_accepted_total") - accepted - others
    assert accepted >= CONNECTIONS, "the tool did what it was asked"


def test_t14_a_body_below_the_rate_is_counted(gateway: GatewayProcess) -> None:
    before = gateway.metric("gateway_client_timeouts_total", waiting_for="body")
    with gateway.client() as client:
        client.send(request("/score", b"1" * 100)[:-100])
        client.send_slowly(b"1" * 42, 0.05)
        assert client.answer().status == 408
    assert gateway.metric("gateway_client_timeouts_total", waiting_for="body") == before + 1
