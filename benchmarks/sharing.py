"""What it costs that workers share the places at a container.

Each worker is a process with the gateway's queue and places and nothing else. First the processor
time of taking a place and giving it back, where nobody has to wait; then what becomes of a
container with one place when workers have to take turns: a guest has the place for 2 ms, and comes
again at once.
"""

from __future__ import annotations

import subprocess
import tempfile
from argparse import Namespace
from contextlib import ExitStack
from statistics import median

from gateway.engine.permits import SharedArea
from tests.support.sharers import Job

_RUSH = 50_000
_HOLD = 0.002
_PATIENCE = 120.0


def run(options: Namespace) -> None:
    area = SharedArea.create()
    print(f"Taking a place and giving it back, medians of {options.rounds} rounds:\n")
    print("| workers | places | CPU us |")
    print("|---|---|---|")
    for workers, places in ((1, 1), (2, 2), (8, 8), (2, 16)):
        costs = [_cost(area, workers, places) for _ in range(options.rounds)]
        how = ", divided" if workers > 1 and places >= 8 * workers else ""
        print(f"| {workers} | {places}{how} | {median(costs):.2f} |")
    print(f"\nOne place, {_HOLD * 1000:g} ms at a time:\n")
    print("| workers | times a second | of those, fewest and most by a worker |")
    print("|---|---|---|")
    for workers in (1, 2, 4, 8):
        counts = _turns(area, workers, float(options.seconds))
        shares = f"{min(counts):.0f}-{max(counts):.0f}"
        print(f"| {workers} | {sum(counts):.0f} | {shares} |")
    print()


def _cost(area: SharedArea, workers: int, places: int) -> float:
    """Microseconds of the processor, the mean of all workers."""
    jobs = [Job(me, area.descriptors, workers, places, 0, 0.0, 0.0, _RUSH) for me in range(workers)]
    outputs = _do(jobs)
    return sum(map(float, outputs)) / workers / _RUSH * 1e6


def _turns(area: SharedArea, workers: int, seconds: float) -> list[float]:
    """How often each worker had the place, times a second."""
    jobs = [Job(me, area.descriptors, workers, 1, 4, _HOLD, seconds) for me in range(workers)]
    outputs = _do(jobs)
    marks = [
        [float(line[2:]) for line in text.splitlines() if line[:1] == b"+"] for text in outputs
    ]
    # While all of them run.
    since, until = max(times[0] for times in marks), min(times[-1] for times in marks)
    return [sum(since <= time <= until for time in times) / (until - since) for times in marks]


def _do(jobs: list[Job]) -> list[bytes]:
    """What each of them has written."""
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in jobs]
        processes = [job.launch(file) for job, file in zip(jobs, files, strict=True)]
        try:
            for process in processes:
                if process.wait(_PATIENCE):
                    raise SystemExit(f"a worker failed with {process.returncode}")
        except subprocess.TimeoutExpired:
            raise SystemExit("a worker hangs") from None
        finally:
            for process in processes:
                process.kill()
                process.wait()
        for file in files:
            file.seek(0)
        return [file.read() for file in files]
