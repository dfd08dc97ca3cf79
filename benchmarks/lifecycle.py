"""How long it takes: to start, to replace a worker, to stop, to hand over; and what that costs.

The tests of the same name say that nothing is lost; here are the figures.
"""

from __future__ import annotations

import itertools
import signal
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import free_port
from tests.support.gateways import GatewayProcess, wait_until
from tests.support.hashing import HashingBackend
from tests.support.killing import Killer
from tests.support.questions import Scoring
from tests.support.traffic import Traffic

STARTS, KILLS, HANDOVERS, IN_FLIGHT = 5, 20, 5, 100
# A worker that lived for less is one that dies at its start: its successor has to wait.
_YOUTH = 5.2
_WORKERS = 2


def run(options: Namespace) -> None:
    print("| what | seconds (median, slowest) | requests meanwhile |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as name, HashingBackend() as backend:
        for part in (_start_one, _start, _kill, _stop, _hand_over):
            folder = Path(name, part.__name__)
            folder.mkdir()
            print(f"| {part(backend, folder)} |", flush=True)
    print()


def _configuration(
    backend: HashingBackend, folder: Path, port: int = 0, workers: int = _WORKERS
) -> str:
    return f"""
listen: 127.0.0.1:{port}
admin: 127.0.0.1:0
access_log: off
workers: {workers}
takeover: {folder}/takeover.sock
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments: {{blue: {{backends: ["{backend.url}/blue"], concurrency: 200}}}}
"""


def _row(what: str, taken: Sequence[float], meanwhile: str) -> str:
    return f"{what} | {statistics.median(taken):.2f}, {max(taken):.2f} | {meanwhile}"


def _start_one(backend: HashingBackend, folder: Path) -> str:
    return _start(backend, folder, 1)


def _start(backend: HashingBackend, folder: Path, workers: int = _WORKERS) -> str:
    taken, text = [], _configuration(backend, folder, workers=workers)
    for _ in range(STARTS):
        begun = time.monotonic()
        with GatewayProcess(text, folder) as gateway:
            wait_until(lambda gateway=gateway: gateway.admin_get("/readyz")[0] == 200)
            taken.append(time.monotonic() - begun)
    return _row(f"start to ready, workers: {workers}", taken, "")


def _kill(backend: HashingBackend, folder: Path) -> str:
    with GatewayProcess(_configuration(backend, folder), folder) as gateway:
        killer = Killer(gateway)
        ask = Scoring(headers={"X-Delay": "0.01"})
        with Traffic(gateway.address, ask, kept=24, fresh=4, pause=0.1) as traffic:
            for _ in range(KILLS):
                time.sleep(_YOUTH / _WORKERS)
                killer.kill()
            traffic.more(100)
    account = traffic.account
    inside = sum(killer.accounts_for(m.port, m.when) for m in account.mishaps)
    meanwhile = (
        f"{account.fates.total()}, of which {account.lost} lost, {inside} of these inside a killed "
        f"worker; other failures: {account.fates.total() - account.right - account.lost}"
    )
    return _row(f"kill -9 of one of {_WORKERS} workers to its successor", killer.taken, meanwhile)


def _stop(backend: HashingBackend, folder: Path) -> str:
    ask = Scoring(headers={"X-Delay": "3"})
    taken, right, lost = [], 0, 0
    for _ in range(3):
        with GatewayProcess(_configuration(backend, folder), folder) as gateway:
            with Traffic(gateway.address, ask, kept=IN_FLIGHT, fresh=0, pause=0.01) as traffic:
                wait_until(
                    lambda gateway=gateway: (
                        gateway.metric("gateway_requests_in_flight") == IN_FLIGHT
                    ),
                    10,
                )
                gateway.process.send_signal(signal.SIGTERM)
                status = gateway.process.wait(30)
                ended = time.monotonic()
            assert status == 0, gateway.log()
        account = traffic.account
        right, lost = right + account.right, lost + account.lost - account.fates["unconnected"]
        taken.append(ended - max(account.whens))
    what = f"SIGTERM with {IN_FLIGHT} requests of 3 s in flight: last answer to exit 0"
    return _row(what, taken, f"{right} answered, {lost} lost")


def _hand_over(backend: HashingBackend, folder: Path) -> str:
    text = _configuration(backend, folder, free_port())
    gateways = []
    for number in range(HANDOVERS + 1):
        (folder / str(number)).mkdir()
        gateways.append(GatewayProcess(text, folder / str(number)))
    taken = []
    gateways[0].start()
    with Traffic(gateways[0].address, Scoring(), kept=24, fresh=4) as traffic:
        for old, new in itertools.pairwise(gateways):
            traffic.more(100)
            begun = time.monotonic()
            new.start()
            old.process.wait(30)
            taken.append(time.monotonic() - begun)
        traffic.more(100)
    gateways[-1].stop()
    failed = traffic.account.fates.total() - traffic.account.right
    meanwhile = f"{traffic.account.right} answered, {failed} not"
    return _row("start of a successor to the end of the old process", taken, meanwhile)
