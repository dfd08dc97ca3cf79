"""CPU time of reading, merging and splitting, without any network."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from benchmarks.batching.results import Splicing, Spread
from benchmarks.batching.world import rows

BODIES = 1024


def splicing(repeats: int) -> Splicing:
    """
    :raises ImportError: this gateway has nothing to merge with.
    """
    from gateway.core.rows import RowReader, Rows, merge
    from gateway.core.splitting import split_answer

    asked = rows(BODIES, 11)
    bodies = [json.dumps({"data": [row]}).encode() for row in asked]
    answer = json.dumps([152.0 + sum(row) for row in asked]).encode()
    reader = RowReader(("data",), max_bytes=1 << 20)

    def read() -> list[Rows | None]:
        return [reader.read(body) for body in bodies]

    found = [one for one in read() if one is not None]
    if len(found) != BODIES:
        raise SystemExit("RowReader refuses the bodies of the benchmark")
    merged = json.loads(merge(found))
    if merged != {"data": asked}:
        raise SystemExit("the merged body does not have the rows that went in")
    parts = split_answer(answer, [1] * BODIES)
    if parts is None or [json.loads(part) for part in parts] != [[152.0 + sum(r)] for r in asked]:
        raise SystemExit("the split answer does not have the predictions that went in")
    counts = [1] * BODIES
    return Splicing(
        bodies=BODIES,
        read=_timed(read, repeats),
        merge=_timed(lambda: merge(found), repeats),
        split=_timed(lambda: split_answer(answer, counts), repeats),
    )


def _timed(work: Callable[[], object], repeats: int) -> Spread:
    """CPU milliseconds of ``work``."""
    times = []
    for _ in range(repeats):
        begun = time.thread_time()
        work()
        times.append((time.thread_time() - begun) * 1e3)
    return Spread.of(times)
