"""CPU time of a batched request beside that of a request which nginx merely passes on.

As in ``proxying``, the proxy has one core, the load and what is behind the proxy share the other.
nginx proxies to a backend that costs next to nothing, and keeps no log; the gateway batches for the
real container, with its access log and without.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from benchmarks.batching.load import Sample, cell, measure, show, warn
from benchmarks.batching.results import Cell
from benchmarks.batching.world import LOGLESS, ON, Target, container, in_front, trivial
from benchmarks.machine import OTHER_CORE, PROXY_CORE

CONNECTIONS = 256
SAME, DISTINCT = "equal headers", "identifiers of its own in each request"


def compare(folder: Path, count: int, seconds: float) -> list[Cell]:
    """Cells named after the server and the kind of its requests.

    :raises Unknown: the gateway does not know how to batch.
    """
    with ExitStack() as stack:
        behind = stack.enter_context(container(folder, OTHER_CORE))
        targets: list[Target] = [
            stack.enter_context(trivial(folder)),
            stack.enter_context(in_front(ON, folder, behind, PROXY_CORE)),
            stack.enter_context(in_front(LOGLESS, folder, behind, PROXY_CORE)),
        ]
        for target in targets:
            measure(target, CONNECTIONS, 1.0, pinned=True)
        samples: dict[tuple[str, str], list[Sample]] = {}
        for _ in range(count):
            for kind in (SAME, DISTINCT):
                for target in targets:
                    sample = measure(
                        target, CONNECTIONS, seconds, pinned=True, identifiers=kind == DISTINCT
                    )
                    samples.setdefault((target.name, kind), []).append(sample)
                    warn(target.name, CONNECTIONS, sample)
    cells = [cell(f"{name}, {kind}", CONNECTIONS, own, []) for (name, kind), own in samples.items()]
    show(cells)
    return cells
