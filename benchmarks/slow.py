"""Slow clients: how soon they are got rid of, and what the others notice of them.

Debian's slowhttptest opens 500 connections and is slow on each of them, with headers, with bodies,
in reading (200: the kernel takes megabytes for each before anything is felt of its slowness); the
last of its modes asks for many ranges instead. Eight other clients ask on and on meanwhile.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.backends import FakeBackend, Link
from tests.support.gateways import GatewayProcess
from tests.support.hashing import HashingBackend
from tests.support.questions import Scoring
from tests.support.traffic import Account, Traffic

_CONNECTIONS = 500
# Far more than the kernel and the gateway hold for a client with a tiny window.
_SIZE = 8 << 20
_OTHERS = 8
_QUIET = 8.0
_GIVE_UP = 40.0
# The defaults are 10, 20 and 30 seconds: a body over a bad network, an answer to one.
_PATIENCE = "headers: 8s, body: 8s, write: 8s"
_MODES: dict[str, tuple[str, int, *tuple[str, ...]]] = {
    "headers (-H)": ("/score", 500, "-H", "-i", "10"),
    "bodies (-B)": ("/score", 500, "-B", "-i", "10", "-s", "8192", "-x", "10", "-t", "POST"),
    "reading (-X)": (
        "/large",
        200,
        "-X",
        "-w",
        "10",
        "-y",
        "20",
        "-n",
        "5",
        "-z",
        "5",
        "-t",
        "GET",
    ),
    "ranges (-R)": ("/score", 500, "-R", "-a", "1", "-b", "500", "-t", "HEAD"),
}


def run(options: Namespace) -> None:
    script = Path(__file__).resolve().parent.parent / "scripts" / "tools.sh"
    subprocess.run([script, "slowhttptest"], check=True)
    print(f"Slow clients, timeouts {_PATIENCE}:\n")
    print("| mode | opened | all closed after | others: p50, p99 | meanwhile | not answered |")
    print("|---|---|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as name,
        HashingBackend() as hashing,
        FakeBackend(_behave) as backend,
        GatewayProcess(_configuration(hashing.url, backend.url), Path(name)) as gateway,
    ):
        for mode, (path, count, *more) in _MODES.items():
            print(f"| {mode} | {_attack(gateway, path, count, more)} |", flush=True)
    print()


def _configuration(hashing: str, backend: str) -> str:
    return f"""
listen: {{address: 127.0.0.1:0, timeouts: {{{_PATIENCE}}}}}
admin: 127.0.0.1:0
access_log: off
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments: {{blue: {{backends: ["{hashing}/blue"], concurrency: 64}}}}
  open:
    auth: none
    hosts: [127.0.0.1]
    deployments: {{blue: {{backends: ["{backend}"], concurrency: {_CONNECTIONS},
      connections: {{max: {_CONNECTIONS}}}}}}}
"""


def _behave(link: Link) -> None:
    """Answers ``large`` with more than any buffer holds, everything else shortly."""
    link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 << 10)
    while (seen := link.read_request()) is not None:
        body = bytes(_SIZE) if "/large" in seen.line else b"ok"
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        link.send(head if seen.line.startswith("HEAD") else head + body)


def _attack(gateway: GatewayProcess, path: str, count: int, more: Sequence[str]) -> str:
    """One mode, as the cells of the table."""
    host, port = gateway.address
    command = [
        "slowhttptest", *more, "-c", str(count), "-r", str(count),
        "-l", str(int(_GIVE_UP)), "-p", "3", "-v", "0", "-u", f"http://{host}:{port}{path}",
    ]  # fmt: skip
    with Traffic(gateway.address, Scoring("other"), kept=_OTHERS, fresh=0, pause=0.01) as traffic:
        time.sleep(_QUIET)
        begun = time.monotonic()
        with _running(command), _Crowd(gateway, count, _OTHERS) as crowd:
            crowd.wait()
        ended = time.monotonic()
    account = traffic.account
    failed = account.fates.total() - account.right
    before = _quantiles(account, begun - _QUIET + 1, begun)
    during = _quantiles(account, crowd.came, crowd.gone or ended)
    closed = "never" if crowd.gone is None else f"{crowd.gone - crowd.came:.1f} s"
    return f"{crowd.accepted} | {closed} | {before} | {during} | {failed}"


def _quantiles(account: Account, since: float, until: float) -> str:
    half, most = (account.slowest(share, since, until) * 1000 for share in (0.5, 0.99))
    return f"{half:.2f} ms, {most:.2f} ms"


@contextmanager
def _running(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield
        finally:
            process.kill()


class _Crowd:
    """Watches when so many attackers have come, and when the last of them is gone. Use as a context
    manager.

    :param others: connections that are not theirs.
    """

    def __init__(self, gateway: GatewayProcess, count: int, others: int) -> None:
        self.accepted = 0
        self.came = 0.0
        self.gone: float | None = None
        self._gateway = gateway
        self._count = count
        self._others = others
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def wait(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        before = self._gateway.metric("gateway_connections_accepted_total")
        give_up = time.monotonic() + _GIVE_UP
        while time.monotonic() < give_up:
            time.sleep(0.1)
            left = self._gateway.metric("gateway_connections") - self._others
            accepted = self._gateway.metric("gateway_connections_accepted_total") - before
            now = time.monotonic()
            self.accepted = int(accepted)
            # The tool opens hundreds in a second, and has probes of its own later on.
            if not self.came and accepted >= 0.9 * self._count:
                self.came = now
            if self.came and left <= 0:
                self.gone = now
                return
