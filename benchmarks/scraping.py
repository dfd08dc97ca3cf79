"""What it costs to count in many processes and to show one page of metrics: CPU milliseconds for 8
workers with 200 deployments, all numbers of which have changed, and none."""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeVar

from gateway.control.metrics import Metrics, Supervision
from gateway.core.gates import OUTCOMES
from gateway.core.series import Reporter
from gateway.core.statistics import (
    BackendTally,
    BatchStatistics,
    BatchTally,
    ConnectionTally,
    DeploymentStatistics,
    EndpointStatistics,
    Histogram,
    LagTally,
    QueueTally,
    Statistics,
    Tally,
)

WORKERS = 8
ENDPOINTS = 50
# Of each endpoint, each with two backends and batching.
DEPLOYMENTS = 4
TURNS = 12
Result = TypeVar("Result")


@dataclass
class _Keeper:
    fetches: int = 1
    failures: int = 0


def _wired() -> Statistics:
    endpoints = []
    for number in range(ENDPOINTS):
        deployments = {}
        for each in range(DEPLOYMENTS):
            batching = BatchStatistics(BatchTally(), 32, {"proving": 0, "on": 1, "off": 0})
            backends = {f"10.0.{number}.{each}:{port}": (1, BackendTally()) for port in (80, 81)}
            deployments[f"deployment-{each}"] = DeploymentStatistics(
                Tally(), (0, 2), 0, QueueTally(), batching, backends
            )
        name, outcomes = f"endpoint-{number}", dict.fromkeys(OUTCOMES, 0)
        endpoints.append(EndpointStatistics(name, Tally(), outcomes, _Keeper(), deployments))
    return Statistics(ConnectionTally(1000), Tally(), endpoints, 0, LagTally(), 0.0)


def _serve(statistics: Statistics) -> None:
    """Every number of every deployment changes."""
    for endpoint in statistics.endpoints:
        endpoint.authentications["key"] += 1
        for deployment in endpoint.deployments.values():
            tally, batching = deployment.tally, deployment.batching
            assert batching is not None
            _fill(tally.duration, tally.upstream, deployment.queue.wait)
            _fill(batching.tally.rows, batching.tally.requests)
            tally.codes = {code: tally.codes.get(code, 0) + 9 for code in (200, 400)}
            tally.faults["deadline"] = tally.faults.get("deadline", 0) + 1
            tally.in_flight = 1 - tally.in_flight
            for counts in (batching.tally.flushes, batching.tally.proofs):
                counts.update({name: count + 1 for name, count in counts.items()})
            for name in ("isolations", "extra_calls", "fallbacks", "scattered"):
                setattr(batching.tally, name, getattr(batching.tally, name) + 1)
            batching.cap += 1
            deployment.places = (1 - deployment.places[0], 2)
            for _, backend in deployment.backends.values():
                for name in ("connects", "connect_failures", "reused", "stale"):
                    setattr(backend, name, getattr(backend, name) + 1)


def _fill(*histograms: Histogram) -> None:
    for histogram in histograms:
        for bound in histogram.bounds:
            histogram.observe(bound * 1.01)


def _take_over(metrics: Metrics, worker: int, data: bytes) -> None:
    metrics.totals.apply(worker, pickle.loads(data))


class _Clock:
    """CPU milliseconds of steps, by their names."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {}

    def measure(self, name: str, step: Callable[[], Result]) -> Result:
        before = time.process_time()
        result = step()
        self.seen.setdefault(name, []).append((time.process_time() - before) * 1000)
        return result


def run(options: argparse.Namespace) -> None:
    """Print one line for each step."""
    statistics = [_wired() for _ in range(WORKERS)]
    reporters = [Reporter() for _ in range(WORKERS)]
    metrics = Metrics()
    supervision = Supervision(dict.fromkeys(range(WORKERS), os.getpid()))
    clock = _Clock()
    size = 0
    for turn in range(TURNS):
        if turn == 2:  # names and the text of lines have been made by now
            clock.seen.clear()
        for each in statistics:
            _serve(each)
        # One process stands for nine, so there is more to collect and to walk over than anywhere.
        gc.collect()
        gc.freeze()
        for number in range(WORKERS):
            reporter, counted = reporters[number], statistics[number]
            report = clock.measure(
                "report, all changed (one worker)",
                partial(reporter.report, counted),
            )
            data = pickle.dumps(report)
            size = len(data)
            clock.measure(
                "taking it over (supervisor)",
                partial(_take_over, metrics, number, data),
            )
        page = clock.measure("page, all changed", lambda: metrics.render(supervision))
        clock.measure("page, nothing changed", lambda: metrics.render(supervision))
        clock.measure(
            "report, nothing changed (one worker)", lambda: reporters[0].report(statistics[0])
        )
    print(f"Metrics of {WORKERS} workers with {ENDPOINTS * DEPLOYMENTS} deployments, CPU ms")
    for name, seen in clock.seen.items():
        print(f"  {name:40} median {median(seen):6.2f}  least {min(seen):6.2f}")
    print(f"  a report has {size / 1024:.0f} KiB, a page {len(page.splitlines())} lines\n")
