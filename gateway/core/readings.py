"""How statistics are read: which objects are counted in, and which blocks their numbers make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from gateway.core.blocks import MILLION, Key
from gateway.core.statistics import (
    BackendTally,
    BatchTally,
    DeploymentStatistics,
    Fetching,
    Histogram,
    LagTally,
    QueueTally,
    ShadowTally,
    Statistics,
    Tally,
)

# How a kind of object is read: something that is equal as long as nothing has changed, and blocks.
# The former is asked of everything all the time, the latter only of what has changed.
Blocks = Iterable[tuple[Key, Sequence[int]]]
Way = tuple[Callable[[Any], object], Callable[[Any, Key], Blocks]]


def sources(statistics: Statistics) -> Iterator[tuple[object, Key, Way]]:
    """Every object that is counted in, with its labels."""
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


def present(statistics: Statistics) -> Iterator[tuple[object, Key, Way]]:
    """What is told as it is, with the labels of its place: gauges, and what one process counts in
    one place only."""
    yield statistics, (), _PROCESS
    for endpoint in statistics.endpoints:
        for name, deployment in endpoint.deployments.items():
            yield deployment, (endpoint.name, name), _DEPLOYMENT


def _micros(seconds: float) -> int:
    return round(seconds * MILLION)


def _values(histogram: Histogram) -> list[int]:
    return [*histogram.counts, _micros(histogram.total)]


def _mark_tally(tally: Tally) -> object:
    # No mapping ever loses an entry: its length tells where it ends. No histogram's sum changes
    # without a count.
    return (
        tally.in_flight,
        len(tally.codes),
        *tally.codes.values(),
        *tally.faults.values(),
        tally.duration.counts.copy(),
        tally.upstream.counts.copy(),
    )


def _read_tally(tally: Tally, labels: Key) -> Blocks:
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


def _mark_process(statistics: Statistics) -> object:
    # Whoever reports has used the CPU since.
    return object()


def _read_process(statistics: Statistics, labels: Key) -> Blocks:
    yield ("log",), [statistics.log_dropped]
    yield ("cpu",), [_micros(statistics.cpu)]
    yield ("worst",), [_micros(statistics.lag.worst)]
    connections = statistics.connections
    yield ("connections",), [connections.open]
    yield ("limit",), [connections.limit]
    counts = [connections.accepted, connections.refused, connections.pipelined]
    ends = (*connections.timeouts.values(), *connections.handshakes.values())
    yield ("clients",), [*counts, *ends]


def _mark_deployment(deployment: DeploymentStatistics) -> object:
    batching = deployment.batching
    learned = None if batching is None else (batching.cap, *batching.families.values())
    return deployment.places, deployment.waiting, learned, list(deployment.backends.items())


def _read_deployment(deployment: DeploymentStatistics, labels: Key) -> Blocks:
    taken, room = deployment.places
    yield ("queue", *labels), [taken, deployment.waiting]
    yield ("places", *labels), [room]
    if (batching := deployment.batching) is not None:
        yield ("learned", *labels), [batching.cap, *batching.families.values()]
    for backend, (opened, _) in deployment.backends.items():
        yield ("pool", *labels, backend), [opened]


def _single(
    kind: str,
    flat: Callable[[Any], Sequence[int]],
    mark: Callable[[Any], object] | None = None,
) -> Way:
    """The way to read what is one block.

    :param mark: None if the numbers themselves are cheap enough.
    """
    return mark or flat, lambda source, labels: (((kind, *labels), flat(source)),)


def _mark_batch(tally: BatchTally) -> object:
    return (
        tally.rows.counts.copy(),
        tally.requests.counts.copy(),
        *tally.flushes.values(),
        *tally.proofs.values(),
        tally.isolations,
        tally.extra_calls,
        tally.scattered,
        tally.fallbacks,
    )


def _flat_batch(tally: BatchTally) -> list[int]:
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


def _mark_queue(tally: QueueTally) -> object:
    return tally.wait.counts.copy()


def _flat_queue(tally: QueueTally) -> list[int]:
    return _values(tally.wait)


def _flat_shadow(tally: ShadowTally) -> list[int]:
    return [tally.calls, *tally.results.values()]


def _flat_backend(tally: BackendTally) -> tuple[int, ...]:
    return tally.connects, tally.connect_failures, tally.reused, tally.stale


def _flat_lag(tally: LagTally) -> list[int]:
    return _values(tally.late)


def _flat_authentications(outcomes: dict[str, int]) -> tuple[int, ...]:
    return tuple(outcomes.values())


def _flat_fetching(keeper: Fetching) -> tuple[int, int]:
    return keeper.fetches - keeper.failures, keeper.failures


_TALLY: Way = (_mark_tally, _read_tally)
_PROCESS: Way = (_mark_process, _read_process)
_DEPLOYMENT: Way = (_mark_deployment, _read_deployment)
_BATCH = _single("batch", _flat_batch, _mark_batch)
_QUEUE = _single("wait", _flat_queue, _mark_queue)
_SHADOW = _single("shadow", _flat_shadow)
_BACKEND = _single("backend", _flat_backend)
_LAG = _single("lag", _flat_lag)
_AUTHENTICATIONS = _single("authentications", _flat_authentications)
_FETCHING = _single("fetches", _flat_fetching)
