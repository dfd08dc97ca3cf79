"""Everything that the page of metrics shows: what the workers count, and what is known of them.

The request path counts in plain numbers; workers report what has changed (``core/series.py``), the
sums are kept here (``core/totals.py``) and become text when a scrape asks (``exposition.py``).
"""

from __future__ import annotations

import gc
import math
import os
import platform
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway import __version__
from gateway.control.exposition import Page, Sample
from gateway.control.processes import usage
from gateway.core.totals import Totals

# Why a worker was replaced: it ended by itself, a signal ended it, or its loop had come to a stop.
RESTART_REASONS = ("exited", "killed", "stuck")
RELOAD_RESULTS = ("success", "failure")


@dataclass(frozen=True, slots=True)
class Supervision:
    """What the supervisor knows of its own, at one moment."""

    #: Process identifiers of the workers that are up, by their numbers.
    workers: Mapping[int, int]
    #: By one of ``RESTART_REASONS``.
    restarts: Mapping[str, int] = field(default_factory=dict)
    generation: int = 1
    #: By one of ``RELOAD_RESULTS``.
    reloads: Mapping[str, int] = field(default_factory=dict)
    last_reload_successful: bool = True
    #: Unix time at which they end, by what they are used for and the configured name of the file.
    certificates: Mapping[tuple[str, str], float] = field(default_factory=dict)


class Metrics:
    """The page of metrics, over the lives of many workers."""

    def __init__(self) -> None:
        #: Where the workers' reports go.
        self.totals = Totals()
        self._page = Page(self.totals)
        python = platform.python_version()
        major, minor, patch = platform.python_version_tuple()
        self._fixed: dict[str, Sequence[Sample]] = {
            "gateway_build_info": [((("version", __version__), ("python", python)), 1)],
            "python_info": [
                (
                    (
                        ("implementation", platform.python_implementation()),
                        ("major", major),
                        ("minor", minor),
                        ("patchlevel", patch),
                        ("version", python),
                    ),
                    1,
                )
            ],
        }

    def render(self, supervision: Supervision) -> bytes:
        """The page as it is now, to be sent with ``exposition.CONTENT_TYPE``."""
        others = self._fixed | _supervision(supervision) | _workers(supervision.workers)
        return self._page.render(others | _process() | _collector())


def _supervision(of: Supervision) -> dict[str, Sequence[Sample]]:
    return {
        "gateway_workers": [((), len(of.workers))],
        "gateway_worker_restarts_total": _each("reason", RESTART_REASONS, of.restarts),
        "gateway_config_generation": [((), of.generation)],
        "gateway_reloads_total": _each("result", RELOAD_RESULTS, of.reloads),
        "gateway_config_last_reload_successful": [((), int(of.last_reload_successful))],
        "gateway_certificate_expiry_timestamp_seconds": [
            ((("use", use), ("file", file)), ends) for (use, file), ends in of.certificates.items()
        ],
    }


def _each(label: str, values: Sequence[str], counts: Mapping[str, int]) -> list[Sample]:
    """Those that have not happened yet are counted too: an increase from nothing is none."""
    return [(((label, value),), counts.get(value, 0)) for value in values]


def _workers(workers: Mapping[int, int]) -> dict[str, Sequence[Sample]]:
    uses = [(number, use) for number, pid in workers.items() if (use := usage(pid)) is not None]
    return {
        "gateway_worker_resident_memory_bytes": [
            ((("worker", str(number)),), use.resident) for number, use in uses
        ],
        "gateway_worker_open_fds": [
            ((("worker", str(number)),), use.descriptors) for number, use in uses
        ],
        "gateway_worker_max_fds": [
            ((("worker", str(number)),), use.most_descriptors) for number, use in uses
        ],
    }


def _process() -> dict[str, Sequence[Sample]]:
    """Of the process that is asked, under the names that the client libraries have in common."""
    use = usage(os.getpid())
    if use is None:
        return {}
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    values = {
        "process_virtual_memory_bytes": use.virtual,
        "process_resident_memory_bytes": use.resident,
        "process_start_time_seconds": use.started,
        "process_cpu_seconds_total": use.cpu,
        "process_open_fds": use.descriptors,
        "process_max_fds": math.inf if limit == resource.RLIM_INFINITY else limit,
    }
    return {name: [((), value)] for name, value in values.items()}


def _collector() -> dict[str, Sequence[Sample]]:
    """Under the names that Python's client library has for it."""
    generations = gc.get_stats()
    return {
        f"python_gc_{name}_total": [
            ((("generation", str(number)),), generation[field])
            for number, generation in enumerate(generations)
        ]
        for name, field in (
            ("objects_collected", "collected"),
            ("objects_uncollectable", "uncollectable"),
            ("collections", "collections"),
        )
    }
