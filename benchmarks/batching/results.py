"""What was measured, as it is kept in ``benchmarks/results/batching.json``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, lowest and highest of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = list(values)
        return cls(median(found), min(found), max(found))


@dataclass(frozen=True, slots=True)
class Cell:
    """One server under one number of connections."""

    name: str
    connections: int
    #: Requests per second.
    rate: Spread
    #: Milliseconds.
    p50: Spread
    p99: Spread
    #: Requests per second relative to the base in the same round; None without a base.
    ratio: Spread | None
    #: CPU microseconds per request: of the server or proxy, of the container, of wrk.
    cpu: Spread | None
    container_cpu: Spread | None
    generator_cpu: Spread
    #: Rows of a call to the container, as the gateway counts them.
    batch_rows: Spread | None
    #: What wrk complained of. A figure with failures means nothing.
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Latency:
    """One connection, one request at a time. Milliseconds; ``added`` is relative to the container
    alone in the same round, whose own connecting counts in one and not in the other."""

    name: str
    p50: Spread
    added: Spread | None
    added_without_connecting: Spread | None


@dataclass(frozen=True, slots=True)
class Splicing:
    """CPU milliseconds for ``bodies`` requests of one row each."""

    bodies: int
    read: Spread
    merge: Spread
    split: Spread


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the benchmark; each part is measured in one run."""

    #: Date and commit; and how many processes wanted a core before it began (the load average).
    measured: str
    neighbours: float
    #: Rounds, and seconds of one measurement in each.
    rounds: int
    seconds: float
    cells: list[Cell] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    splicing: Splicing | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        return [
            f"{cell.name} at {cell.connections} connections: {failure}"
            for cell in self.cells
            for failure in cell.failures
        ]

    def cell(self, name: str, connections: int) -> Cell | None:
        for cell in self.cells:
            if (cell.name, cell.connections) == (name, connections):
                return cell
        return None


@dataclass(frozen=True, slots=True)
class Results:
    """The machine, and its sections by name."""

    machine: str
    sections: dict[str, Section] = field(default_factory=dict)


_results = TypeAdapter(Results)


def load_results(path: Path) -> Results | None:
    """None if there are none, or if an older benchmark wrote them in another form."""
    try:
        return _results.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def save_results(path: Path, results: Results) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_results.dump_json(results, indent=1) + b"\n")
