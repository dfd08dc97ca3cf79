"""How late the event loop is while the largest bodies that it looks into come one after the other.

Three clients send JSON of 1 MiB, of the kinds that are most costly to look into, each twice a
second, to a deployment that merges requests and to one that does not; one uploads 100 MiB at a
time; sixteen others ask for little. The gateway, which has a core of its own, notes how late its
loop is twenty times a second.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.contenders import backend
from benchmarks.machine import OTHER_CORE, PROXY_CORE, check_cores
from tests.support.gateways import GatewayProcess
from tests.support.hashing import HashingBackend
from tests.support.questions import Scoring
from tests.support.scrapes import parse
from tests.support.traffic import Traffic

SECONDS = 60.0
_SIZE = 1 << 20
_UPLOAD = 100 << 20
_PAUSE = 0.5
_NAME = "gateway_event_loop_lag_seconds_bucket"


def _filled(piece: str, last: str) -> bytes:
    begin, end = '{"data": [', "]}"
    count = (_SIZE - len(begin) - len(last) - len(end)) // len(piece)
    return (begin + piece * count + last + end).encode()


_BODIES = {
    "rows": _filled("[1.5, 2.5, 3.5], ", "[1, 2, 3]"),
    "numbers": _filled("1,", "1"),
    "brackets": _filled("[[[[[[]]]]]],", "[]"),
}


def run(options: Namespace) -> None:
    check_cores()
    os.sched_setaffinity(0, {OTHER_CORE})
    print("| batching | looks | p99 at most | p99.9 at most | large | small, their p99 |")
    print("|---|---|---|---|---|---|")
    for batching in ("off", "on"):
        with tempfile.TemporaryDirectory() as name:
            print(f"| {batching} | {_measure(Path(name), batching)} |", flush=True)
    os.sched_setaffinity(0, {PROXY_CORE, OTHER_CORE})
    print()


def _measure(folder: Path, batching: str) -> str:
    """One setting, as the cells of the table."""
    with ExitStack() as stack:
        port = stack.enter_context(backend(folder))
        hashing = stack.enter_context(HashingBackend())
        text = _configuration(hashing.url, port, batching)
        core = ("taskset", "-c", str(PROXY_CORE))
        gateway = stack.enter_context(GatewayProcess(text, folder, prefix=core))
        traffic = stack.enter_context(Traffic(gateway.address, Scoring(), kept=16, fresh=2))
        traffic.more(100)
        before, _ = parse(gateway.admin_get("/metrics")[1])
        with _sending(gateway.address):
            time.sleep(SECONDS)
        after, _ = parse(gateway.admin_get("/metrics")[1])
        account = traffic.stop()
        large = gateway.metric("gateway_requests_total", endpoint="large", code="200")
    account.check()
    grown = {
        float(key.partition('le="')[2].partition('"')[0]): value - before[key]
        for key, value in after.items()
        if key.startswith(_NAME)
    }
    count = max(grown.values())
    within, most = (
        min(bound for bound, value in grown.items() if value >= share * count) * 1000
        for share in (0.99, 0.999)
    )
    small = f"{account.right}, {account.slowest(0.99) * 1000:.1f} ms"
    return f"{count:.0f} | {within:g} ms | {most:g} ms | {large:.0f} | {small}"


def _configuration(hashing: str, port: int, batching: str) -> str:
    return f"""
listen: 127.0.0.1:0
admin: 127.0.0.1:0
access_log: off
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments: {{blue: {{backends: ["{hashing}/blue"], concurrency: 64}}}}
  large:
    auth: none
    limits: {{body: {_UPLOAD + _SIZE}B}}
    deployments: {{blue: {{backends: ["http://127.0.0.1:{port}"], concurrency: 8,
      batching: {batching}}}}}
"""


@contextmanager
def _sending(address: tuple[str, int]) -> Iterator[None]:
    """Processes of their own, so that nobody is late but the gateway."""
    processes = [
        subprocess.Popen([sys.executable, "-m", "benchmarks.lag", *map(str, address), kind])
        for kind in (*_BODIES, "upload")
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _send(host: str, port: int, kind: str) -> None:
    """Send one kind of body for ever."""
    body = bytes(_UPLOAD) if kind == "upload" else _BODIES[kind]
    kinds = {"Content-Type": "application/octet-stream" if kind == "upload" else "application/json"}
    connection = http.client.HTTPConnection(host, port, timeout=60)
    while True:
        connection.request("POST", "/api/v1/service/large/score", body, kinds)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{kind}: {answer.status}")
        time.sleep(_PAUSE)


if __name__ == "__main__":
    _send(sys.argv[1], int(sys.argv[2]), sys.argv[3])
