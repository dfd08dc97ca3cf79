"""Two workers beside one: what a request costs, what two cores could serve, and who serves whom.

Load generator, backend and gateway share the two cores, so throughput alone says little: of what
two workers could serve, the others take their part. What counts is CPU time per request: if it does
not grow with a second worker, two cores serve twice as much.
"""

from __future__ import annotations

import re
import tempfile
import urllib.request
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.contenders import (
    KEY,
    PATH,
    backend,
    configuration,
    free_port,
    gateway_command,
    running,
)
from benchmarks.machine import check_cores, cpu_seconds
from benchmarks.wrk import load

COUNTS = (1, 2)


@dataclass(frozen=True, slots=True)
class Sample:
    """Microseconds of CPU per request of the gateway, and of wrk; requests per second; the largest
    part of the gateway's CPU time that one worker had."""

    cpu: float
    others: float
    rate: float
    largest: float


@dataclass(frozen=True, slots=True)
class Gateway:
    pid: int
    port: int
    admin: int


@contextmanager
def gateway(folder: Path, backend_port: int, workers: int) -> Iterator[Gateway]:
    """The gateway on all cores, with so many workers."""
    port, admin = free_port(), free_port()
    config = configuration("gateway.yaml", folder, port, backend_port)
    text = config.read_text().replace("admin: 127.0.0.1:0", f"admin: 127.0.0.1:{admin}")
    config.write_text(f"{text}workers: {workers}\n")
    with running(gateway_command(config), port, None, folder) as pid:
        yield Gateway(pid, port, admin)


def worker_seconds(admin: int) -> list[float]:
    """CPU seconds of every worker."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    found = re.findall(r"^gateway_worker_cpu_seconds_total\{.*\} (\S+)$", page, re.MULTILINE)
    return [float(value) for value in found]


def measure(who: Gateway, connections: int, seconds: float) -> Sample:
    """
    :raises SystemExit: an answer was not 2xx, or a connection failed.
    """
    before, each_before = cpu_seconds(who.pid), worker_seconds(who.admin)
    url = f"http://127.0.0.1:{who.port}{PATH}"
    seen = load(url, "same.lua", connections, seconds, {"BENCH_KEY": KEY})
    if seen.failures:
        raise SystemExit(f"failed requests: {seen.failures}")
    used = cpu_seconds(who.pid) - before
    after = worker_seconds(who.admin)
    each = [end - begin for begin, end in zip(each_before, after, strict=True)]
    micro = 1e6 / seen.requests
    return Sample(used * micro, seen.cpu * micro, seen.rate, max(each) / sum(each))


def run(options: Namespace) -> None:
    check_cores()
    samples: dict[int, list[Sample]] = {count: [] for count in COUNTS}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        port = stack.enter_context(backend(folder))
        gateways = {count: stack.enter_context(gateway(folder, port, count)) for count in COUNTS}
        for who in gateways.values():
            measure(who, options.connections, 1.0)
        for _ in range(options.rounds):
            for count, who in gateways.items():
                samples[count].append(measure(who, options.connections, options.seconds))
    print(f"Workers, {options.connections} keep-alive connections, all on the same two cores:\n")
    print("| workers | CPU µs/request | of wrk | requests/s | most of one worker | could serve |")
    print("|---|---|---|---|---|---|")
    one = median(sample.cpu for sample in samples[1])
    for count, own in samples.items():
        cpu = median(sample.cpu for sample in own)
        print(
            f"| {count} | {cpu:.1f} | {median(s.others for s in own):.1f} "
            f"| {median(s.rate for s in own):,.0f} | {median(s.largest for s in own):.0%} "
            f"| {count * one / cpu:.2f} x one |"
        )
    print(
        "\ncould serve: workers, each with a core of its own, at this CPU time per request, "
        "beside one\n"
    )
