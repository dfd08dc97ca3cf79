"""Counters and histograms as plain numbers.

The request path only adds; what a scrape needs is worked out when a scrape comes. Labels are the
configured names, fixed when the gateway is wired, so no request can invent a series
(reliability.md T42).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.lanes import Flush

# Upper bounds in seconds. The low end resolves what the gateway adds, the high end the documented
# scoring timeout of 60 s.
LATENCY_BOUNDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
)  # fmt: skip

# How late the loop is. Below the first it is on time, above the last it is about to be replaced.
LAG_BOUNDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
# Rows of a merged call, and requests in it.
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Histogram:
    """Counts observations by upper bound; the last count is for those above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = LATENCY_BOUNDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def __repr__(self) -> str:
        return f"<Histogram of {sum(self.counts)}>"

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Tally:
    """What happened to the requests of one deployment, or of an endpoint before one was chosen."""

    __slots__ = ("codes", "duration", "faults", "in_flight", "upstream")

    def __init__(self) -> None:
        #: Requests answered, by status.
        self.codes: dict[int, int] = {}
        #: Requests refused or failed, by slug of the fault.
        self.faults: dict[str, int] = {}
        self.duration = Histogram()
        self.upstream = Histogram()
        self.in_flight = 0

    def __repr__(self) -> str:
        return f"<Tally {sum(self.codes.values())} answered, {self.in_flight} in flight>"


HANDSHAKES = ("full", "resumed", "failed", "left", "timed_out", "displaced")


class ConnectionTally:
    """What happened to the connections of one listener."""

    __slots__ = ("accepted", "handshakes", "limit", "open", "pipelined", "refused", "timeouts")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.accepted = 0
        self.open = 0
        #: Turned away because the limit was reached.
        self.refused = 0
        #: Closed for keeping the gateway waiting, by what they were waited for.
        self.timeouts = dict.fromkeys(("head", "body", "idle", "write"), 0)
        self.pipelined = 0
        #: TLS handshakes by their end: done in full or from an earlier session; the client got it
        #: wrong, left, took too long, or made room for others.
        self.handshakes = dict.fromkeys(HANDSHAKES, 0)

    def become_sum(self, tallies: Sequence[ConnectionTally]) -> None:
        """Count what several listeners have counted."""
        for name in self.__slots__:
            values = [getattr(tally, name) for tally in tallies]
            if isinstance(getattr(self, name), dict):
                own = getattr(self, name)
                setattr(self, name, {key: sum(value[key] for value in values) for key in own})
            else:
                setattr(self, name, sum(values))


class QueueTally:
    """How long requests have waited for a place at a container."""

    __slots__ = ("wait",)

    def __init__(self) -> None:
        self.wait = Histogram()


class BatchTally:
    """What became of requests that were merged."""

    __slots__ = (
        "extra_calls",
        "fallbacks",
        "flushes",
        "isolations",
        "proofs",
        "requests",
        "rows",
        "scattered",
    )

    def __init__(self) -> None:
        #: Of each merged call.
        self.rows = Histogram(BATCH_BOUNDS)
        self.requests = Histogram(BATCH_BOUNDS)
        #: Merged calls by what made them leave (values of ``Flush``).
        self.flushes = dict.fromkeys((flush.value for flush in Flush), 0)
        #: Merged calls whose answer did not serve everybody.
        self.isolations = 0
        #: Calls made to find out whose fault that was, or whether merging is sound.
        self.extra_calls = 0
        #: How often merging was stopped for a while.
        self.fallbacks = 0
        #: Requests that were cut into parts.
        self.scattered = 0
        self.proofs = dict.fromkeys(("proved", "disproved", "inconclusive"), 0)


class ShadowTally:
    """What was found by comparing merged answers with single ones, nothing being merged."""

    __slots__ = ("calls", "results")

    def __init__(self) -> None:
        #: Merged calls made for it.
        self.calls = 0
        #: Requests of the sample: their answers agree or differ; there was no merged answer to
        #: compare, or it could not be split; the request or its answer was not of the kind that is
        #: compared; it was forgotten, because no other came or no place was free in time.
        self.results = dict.fromkeys(
            ("agree", "differ", "incomparable", "ineligible", "dropped"), 0
        )


class BackendTally:
    """What happened to the connections to one backend."""

    __slots__ = ("connect_failures", "connects", "reused", "stale")

    def __init__(self) -> None:
        self.connects = 0
        self.connect_failures = 0
        #: Requests sent on a connection that had served before.
        self.reused = 0
        #: Of those, how many found that the backend had just closed it.
        self.stale = 0


class LagTally:
    """How late the event loop comes to what is due, looked at again and again."""

    __slots__ = ("_before", "_now", "_seen", "_window", "late")

    def __init__(self, window: int = 60) -> None:
        """:param window: observations; see ``worst``."""
        self.late = Histogram(LAG_BOUNDS)
        self._window = window
        self._seen = 0
        self._now = self._before = 0.0

    def observe(self, seconds: float) -> None:
        """:param seconds: how much later than asked for a timer went off."""
        self.late.observe(seconds)
        if self._seen == self._window:
            self._seen, self._before, self._now = 0, self._now, 0.0
        self._seen += 1
        self._now = max(self._now, seconds)

    @property
    def worst(self) -> float:
        """Of the last ``window`` observations, and of up to as many before.

        Not since it was last asked for: it is asked more often than anybody looks at the answer.
        """
        return max(self._now, self._before)


class Fetching(Protocol):
    """Whoever fetches verification keys: how often, and how often in vain."""

    fetches: int
    failures: int


@dataclass(slots=True)
class BatchStatistics:
    """``cap`` is how many rows a call may have at present; ``families`` counts kinds of requests by
    whether they are merged (values of ``State``). ``shadow`` is None unless requests are only
    compared."""

    tally: BatchTally
    cap: int
    families: dict[str, int]
    shadow: ShadowTally | None = None


@dataclass(slots=True)
class DeploymentStatistics:
    """``backends`` maps a backend's name to its open connections and their tally.

    ``places`` are those at the containers: how many are taken, how many there are. ``waiting`` is
    the length of the queue for them. ``batching`` is None where it is off.
    """

    tally: Tally
    places: tuple[int, int]
    waiting: int
    queue: QueueTally
    batching: BatchStatistics | None
    backends: dict[str, tuple[int, BackendTally]]


@dataclass(slots=True)
class EndpointStatistics:
    """``authentications`` is the mapping that they are counted in, ``keeper`` whoever fetches
    verification keys, if there are any."""

    name: str
    tally: Tally
    authentications: dict[str, int]
    keeper: Fetching | None
    deployments: dict[str, DeploymentStatistics]


@dataclass(slots=True)
class Statistics:
    """Everything that one process counts, at one moment.

    ``connections`` are those of all its listeners ever, ``cpu`` is its seconds of CPU time; these
    and ``log_dropped`` are told as they are and must never fall. The others are the very objects
    that are counted in, and what one of them has counted stays when another takes its place.
    """

    connections: ConnectionTally
    unrouted: Tally
    endpoints: list[EndpointStatistics]
    log_dropped: int
    lag: LagTally
    cpu: float
