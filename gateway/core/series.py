"""What a worker tells of its counters: numbers that changed, under numbers that stand for names.

Many processes count, one is asked (design.md section 2). A worker reports what has changed since it
last did; the other side adds up (``core/totals.py``). Values are the worker's totals, not what was
added to them. They are whole numbers throughout, seconds in billionths: a sum of floats depends on
the order of adding, and a counter that falls by the last digit is a restart to Prometheus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import add, sub
from typing import Any, NamedTuple

from gateway.core.statistics import (
    BackendTally,
    BatchTally,
    ConnectionTally,
    Fetching,
    Histogram,
    LagTally,
    QueueTally,
    ShadowTally,
    Statistics,
    Tally,
)

# Kind of a block, and the values of its labels. `control/families.py` says what each of the numbers
# in a block of a kind is called.
Key = tuple[str, ...]
# The numbers of one block. A block holds what is counted in one object: to compare and add numbers
# by the dozen costs little more than to do so with one.
Values = list[int]

# Kinds that say how things are now. What the others count is never taken back.
GAUGES = frozenset(
    (
        "connections",
        "deployment_in_flight",
        "endpoint_in_flight",
        "learned",
        "limit",
        "places",
        "pool",
        "queue",
        "worst",
    )
)
# A second, in values.
BILLION = 1_000_000_000
# What is configured no longer is looked at so many times more after it last changed: requests that
# were under way still count there. At two reports a second that is 20 minutes.
_PATIENCE = 2400


class Report(NamedTuple):
    """``new`` are the blocks first mentioned, numbered in this order from where the report before
    ended. ``changes`` are numbers of blocks and their values now; None for what there is no longer,
    which happens to gauges only."""

    new: list[Key]
    changes: dict[int, Values | None]


class _Watch:
    """An object that is counted in, and what has been seen of it."""

    __slots__ = ("labels", "mark", "seen", "source", "turn", "way")

    def __init__(self, source: Any, labels: Key, way: _Way) -> None:
        #: Held, so that its identity stays its own.
        self.source = source
        self.labels = labels
        self.way = way
        self.mark: object = None
        #: What of it is in the totals already, by number of the block.
        self.seen: dict[int, Values] = {}
        #: The report that it was last wanted in, or last changed in.
        self.turn = 0


class Reporter:
    """Turns the statistics of one process into reports, each of what changed since the one before.

    What was counted stays in the totals when the configuration has no place for it any longer, and
    when another object takes the place under the same name, be it long after.
    """

    def __init__(self) -> None:
        self._numbers: dict[Key, int] = {}
        #: Of what is counted in objects.
        self._totals: dict[int, Values] = {}
        #: By identity: two objects may count under one name, the old one and the new one.
        self._watches: dict[int, _Watch] = {}
        #: What is told as it is, without a memory.
        self._plain: dict[Key, Values] = {}
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Reporter of {len(self._numbers)} blocks>"

    def report(self, statistics: Statistics) -> Report:
        """What has changed. It costs little where that is little."""
        report = Report([], {})
        self._turn = turn = self._turn + 1
        watches, wanted = self._watches, 0
        for source, labels, way in _sources(statistics):
            wanted += 1
            watch = watches.get(id(source))
            if watch is None:
                watch = watches[id(source)] = _Watch(source, labels, way)
            watch.turn = turn
            mark = way[0](source)
            if mark != watch.mark:
                watch.mark = mark
                self._update(watch, report)
        if len(watches) > wanted:
            self._look_after(report)
        self._tell_plain(statistics, report)
        return report

    def _number(self, key: Key, report: Report) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            report.new.append(key)
        return number

    def _update(self, watch: _Watch, report: Report) -> None:
        """Take over what an object has counted since."""
        for key, values in watch.way[1](watch.source, watch.labels):
            number = self._number(key, report)
            seen = watch.seen.get(number)
            if seen == values:
                continue
            watch.seen[number] = values
            total = self._totals.get(number)
            # Most names have had one object ever: its numbers are the totals.
            if total is not None and total is not seen:
                if seen is None:
                    values = list(map(add, total, values))
                else:
                    values = list(map(add, total, map(sub, values, seen)))
            self._totals[number] = values
            report.changes[number] = values

    def _look_after(self, report: Report) -> None:
        """Of objects that the configuration has no longer: what still happens to them."""
        for identity, watch in list(self._watches.items()):
            if watch.turn == self._turn:
                continue
            mark = watch.way[0](watch.source)
            if mark != watch.mark:
                watch.mark, watch.turn = mark, self._turn
                self._update(watch, report)
            elif self._turn - watch.turn > _PATIENCE:
                del self._watches[identity]

    def _tell_plain(self, statistics: Statistics, report: Report) -> None:
        plain, present = self._plain, 0
        for key, values in _plain(statistics):
            present += 1
            if plain.get(key) != values:
                plain[key] = values
                report.changes[self._number(key, report)] = values
        if len(plain) > present:
            for key in plain.keys() - {key for key, _ in _plain(statistics)}:
                del plain[key]
                report.changes[self._numbers[key]] = None


# How a kind of object is read: numbers that are all the same exactly if nothing has changed, and
# blocks. The former is asked of everything all the time, the latter only of what has changed.
_Way = tuple[Callable[[Any], object], Callable[[Any, Key], Iterable[tuple[Key, Values]]]]


def _sources(statistics: Statistics) -> Iterator[tuple[object, Key, _Way]]:
    """Every object that is counted in, with its labels."""
    yield statistics.connections, (), _CONNECTIONS
    yield statistics.lag, (), _LAG
    yield statistics.unrouted, ("", ""), _TALLY
    for endpoint in statistics.endpoints:
        own = (endpoint.name,)
        yield endpoint.tally, (endpoint.name, ""), _TALLY
        yield endpoint.authentications, own, _AUTHENTICATIONS
        if endpoint.keeper is not None:
            yield endpoint.keeper, own, _FETCHING
        for name, deployment in endpoint.deployments.items():
            labels = (endpoint.name, name)
            yield deployment.tally, labels, _TALLY
            yield deployment.queue, labels, _QUEUE
            if (batching := deployment.batching) is not None:
                yield batching.tally, labels, _BATCH
                if batching.shadow is not None:
                    yield batching.shadow, labels, _SHADOW
            for backend, (_, tally) in deployment.backends.items():
                yield tally, (endpoint.name, name, backend), _BACKEND


def _plain(statistics: Statistics) -> Iterator[tuple[Key, Values]]:
    """What is told as it is: gauges, and what one process counts in one place only."""
    yield ("log",), [statistics.log_dropped]
    yield ("cpu",), [_nanos(statistics.cpu)]
    yield ("worst",), [_nanos(statistics.lag.worst)]
    yield ("limit",), [statistics.connections.limit]
    for endpoint in statistics.endpoints:
        for name, deployment in endpoint.deployments.items():
            taken, room = deployment.places
            yield ("queue", endpoint.name, name), [taken, deployment.waiting]
            yield ("places", endpoint.name, name), [room]
            if (batching := deployment.batching) is not None:
                learned = [batching.cap, *batching.families.values()]
                yield ("learned", endpoint.name, name), learned
            for backend, (opened, _) in deployment.backends.items():
                yield ("pool", endpoint.name, name, backend), [opened]


def _nanos(seconds: float) -> int:
    return round(seconds * BILLION)


def _values(histogram: Histogram) -> Values:
    return [*histogram.counts, _nanos(histogram.total)]


def _mark_tally(tally: Tally) -> object:
    # Neither mapping ever loses an entry, so their lengths tell where one ends.
    return (
        tally.in_flight,
        len(tally.codes),
        *tally.codes.values(),
        *tally.faults.values(),
        *tally.duration.counts,
        tally.duration.total,
        *tally.upstream.counts,
        tally.upstream.total,
    )


def _read_tally(tally: Tally, labels: Key) -> Iterator[tuple[Key, Values]]:
    if labels[1]:
        yield ("deployment_in_flight", *labels), [tally.in_flight]
        yield ("deployment", *labels), [*_values(tally.duration), *_values(tally.upstream)]
    else:
        if labels[0]:
            yield ("endpoint_in_flight", labels[0]), [tally.in_flight]
        yield ("endpoint", *labels), _values(tally.duration)
    for code, count in tally.codes.items():
        yield ("code", *labels, str(code)), [count]
    for fault, count in tally.faults.items():
        yield ("fault", *labels, fault), [count]


def _mark_connections(tally: ConnectionTally) -> object:
    return (
        tally.open,
        tally.accepted,
        tally.refused,
        tally.pipelined,
        *tally.timeouts.values(),
    )


def _read_connections(tally: ConnectionTally, labels: Key) -> Iterator[tuple[Key, Values]]:
    yield ("connections",), [tally.open]
    counts = [tally.accepted, tally.refused, tally.pipelined, *tally.timeouts.values()]
    yield ("clients",), counts


def _single(kind: str, flat: Callable[[Any], Values]) -> _Way:
    """The way to read what is one block, whose numbers serve as the mark, too."""
    return flat, lambda source, labels: (((kind, *labels), flat(source)),)


def _flat_batch(tally: BatchTally) -> Values:
    return [
        *_values(tally.rows),
        *_values(tally.requests),
        *tally.flushes.values(),
        *tally.proofs.values(),
        tally.isolations,
        tally.extra_calls,
        tally.scattered,
        tally.fallbacks,
    ]


def _flat_queue(tally: QueueTally) -> Values:
    return _values(tally.wait)


def _flat_shadow(tally: ShadowTally) -> Values:
    return [tally.calls, *tally.results.values()]


def _flat_backend(tally: BackendTally) -> Values:
    return [tally.connects, tally.connect_failures, tally.reused, tally.stale]


def _flat_lag(tally: LagTally) -> Values:
    return _values(tally.late)


def _flat_outcomes(outcomes: dict[str, int]) -> Values:
    return list(outcomes.values())


def _flat_fetching(keeper: Fetching) -> Values:
    return [keeper.fetches - keeper.failures, keeper.failures]


_TALLY: _Way = (_mark_tally, _read_tally)
_CONNECTIONS: _Way = (_mark_connections, _read_connections)
_BATCH = _single("batch", _flat_batch)
_QUEUE = _single("wait", _flat_queue)
_SHADOW = _single("shadow", _flat_shadow)
_BACKEND = _single("backend", _flat_backend)
_LAG = _single("lag", _flat_lag)
_AUTHENTICATIONS = _single("authentications", _flat_outcomes)
_FETCHING = _single("fetches", _flat_fetching)
