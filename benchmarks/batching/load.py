"""Throughput, latency and CPU time of each server under a number of connections.

Rounds are interleaved: a busy neighbour troubles everybody. Ratios are taken within a round.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.batching.results import Cell, Spread
from benchmarks.batching.world import Target, batch_rows, settle
from benchmarks.contenders import KEY
from benchmarks.machine import OTHER_CORE, cpu_seconds
from benchmarks.wrk import load

T = TypeVar("T")

_seeds = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement; units as in ``Cell``."""

    rate: float
    p50: float
    p99: float
    cpu: float
    container_cpu: float | None
    generator_cpu: float
    batch_rows: float | None
    failures: str


def measure(
    target: Target,
    connections: int,
    seconds: float,
    *,
    pinned: bool = False,
    identifiers: bool = False,
) -> Sample:
    """Load one server with single-row requests of which no two are equal.

    :param pinned: the load runs on ``OTHER_CORE``.
    :param identifiers: requests differ in their headers as well.
    """
    environment = {
        "BENCH_PATH": target.path,
        "BENCH_KEY": KEY if target.headers else "",
        "BENCH_BEFORE": target.before,
        "BENCH_AFTER": target.after,
        "BENCH_SEED": str(next(_seeds)),
    }
    if identifiers:
        environment["BENCH_IDENTIFIERS"] = "1"
    apart = target.container_pid not in (0, target.pid)
    rows_before = batch_rows(target)
    own, container = cpu_seconds(target.pid), cpu_seconds(target.container_pid) if apart else 0.0
    core = OTHER_CORE if pinned else None
    seen = load(target.url, "single.lua", connections, seconds, environment, core)
    own = cpu_seconds(target.pid) - own
    container = cpu_seconds(target.container_pid) - container if apart else 0.0
    rows_after = batch_rows(target)
    settle(target)
    rows = None
    if rows_before and rows_after and rows_after[1] > rows_before[1]:
        rows = (rows_after[0] - rows_before[0]) / (rows_after[1] - rows_before[1])
    each = 1e6 / max(seen.requests, 1)
    return Sample(
        rate=seen.rate,
        p50=seen.p50,
        p99=seen.p99,
        cpu=own * each,
        container_cpu=container * each if apart else None,
        generator_cpu=seen.cpu * each,
        batch_rows=rows,
        failures=seen.failures,
    )


def rounds(
    targets: Sequence[Target], connections: Sequence[int], count: int, seconds: float, base: str
) -> list[Cell]:
    """Measure everything in turns.

    :param base: name of the server that ratios are relative to.
    """
    for target in targets:  # pools, caches and memory reach their steady state
        measure(target, min(64, max(connections)), min(seconds, 1.0))
    cells = []
    for number in connections:
        samples: dict[str, list[Sample]] = {target.name: [] for target in targets}
        for _ in range(count):
            for target in targets:
                sample = measure(target, number, seconds)
                samples[target.name].append(sample)
                warn(target.name, number, sample)
        cells += [cell(name, number, own, samples.get(base, [])) for name, own in samples.items()]
        show(cells[-len(targets) :])
    return cells


def cell(name: str, connections: int, own: Sequence[Sample], base: Sequence[Sample]) -> Cell:
    """The rounds of one server as one cell; ``base`` has the same rounds of the base."""
    ratios = [one.rate / other.rate for one, other in zip(own, base, strict=False) if other.rate]
    container = present(sample.container_cpu for sample in own)
    rows = present(sample.batch_rows for sample in own)
    return Cell(
        name=name,
        connections=connections,
        rate=Spread.of(sample.rate for sample in own),
        p50=Spread.of(sample.p50 for sample in own),
        p99=Spread.of(sample.p99 for sample in own),
        ratio=Spread.of(ratios) if ratios else None,
        cpu=Spread.of(sample.cpu for sample in own),
        container_cpu=Spread.of(container) if container else None,
        generator_cpu=Spread.of(sample.generator_cpu for sample in own),
        batch_rows=Spread.of(rows) if rows else None,
        failures=[sample.failures for sample in own if sample.failures],
    )


def present(values: Iterable[T | None]) -> list[T]:
    return [value for value in values if value is not None]


def warn(name: str, connections: int, sample: Sample) -> None:
    """Say at once that a measurement means nothing."""
    if sample.failures:
        print(f"FAILED: {name} at {connections} connections: {sample.failures}", file=sys.stderr)


def show(cells: Sequence[Cell]) -> None:
    """Progress, for whoever waits."""
    for found in cells:
        print(
            f"  {found.connections:5} connections  {found.name:28} {found.rate.median:9,.0f}/s  "
            f"p50 {found.p50.median:8.2f} ms  p99 {found.p99.median:8.2f} ms",
            file=sys.stderr,
        )
