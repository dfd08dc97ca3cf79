"""CPU time, throughput and latency of one proxied request.

Each proxy has one core to itself; the load generator and the backend share the other. CPU time is
what the kernel counted for the proxy's process divided by the requests answered: on a noisy machine
it is far steadier than throughput. Rounds are interleaved, medians are shown.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.contenders import BASE, COMMANDS, KEY, PATH, Contender, backend, contender
from benchmarks.machine import OTHER_CORE, check_cores, cpu_seconds
from benchmarks.wrk import load


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: microseconds of CPU per request, requests per second, milliseconds."""

    cpu: float
    rate: float
    p50: float
    p99: float


def measure(who: Contender, script: str, connections: int, seconds: float) -> Sample:
    """Load one proxy.

    :raises SystemExit: an answer was not 2xx, or a connection failed.
    """
    before = cpu_seconds(who.pid)
    url = f"http://127.0.0.1:{who.port}{PATH}"
    seen = load(url, script, connections, seconds, {"BENCH_KEY": KEY}, OTHER_CORE)
    used = cpu_seconds(who.pid) - before
    if seen.failures:
        raise SystemExit(f"{who.name} failed requests: {seen.failures}")
    return Sample(cpu=used / seen.requests * 1e6, rate=seen.rate, p50=seen.p50, p99=seen.p99)


def run(options: Namespace) -> None:
    check_cores()
    for title, script in (
        ("the same request again and again", "same.lua"),
        ("every request different (identifiers, numbers, length)", "distinct.lua"),
    ):
        print(f"One proxied request, {options.connections} keep-alive connections, {title}:\n")
        _table(_compare(script, options))


def _compare(script: str, options: Namespace) -> dict[str, list[Sample]]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        port = stack.enter_context(backend(folder))
        running = [stack.enter_context(contender(name, folder, port)) for name in COMMANDS]
        for who in running:  # pools, caches and memory reach their steady state
            measure(who, script, options.connections, 1.0)
        samples: dict[str, list[Sample]] = {who.name: [] for who in running}
        for _ in range(options.rounds):
            for who in running:
                samples[who.name].append(measure(who, script, options.connections, options.seconds))
        return samples


def _table(samples: dict[str, list[Sample]]) -> None:
    base = median(sample.cpu for sample in samples[BASE])
    print("| proxy | CPU µs/request | (min-max) | ratio | requests/s | p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|---|")
    for name, own in samples.items():
        costs = [sample.cpu for sample in own]
        print(
            f"| {name} | {median(costs):.1f} | {min(costs):.1f}-{max(costs):.1f} "
            f"| {median(costs) / base:.2f} "
            f"| {median(s.rate for s in own):,.0f} | {median(s.p50 for s in own):.2f} "
            f"| {median(s.p99 for s in own):.2f} |"
        )
    print(f"\nratio: CPU per request relative to {BASE!r} in the same run\n")
