"""What is counted adds up, in the buckets that Prometheus expects."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.lanes import Flush
from gateway.core.statistics import (
    BATCH_BOUNDS,
    LAG_BOUNDS,
    LATENCY_BOUNDS,
    BackendTally,
    BatchTally,
    ConnectionTally,
    Histogram,
    LagTally,
    QueueTally,
    ShadowTally,
    Tally,
)


@pytest.mark.parametrize(
    ("value", "bucket"),
    [(0.0, 0), (1.0, 0), (1.0001, 1), (2.0, 1), (5.0, 2), (5.1, 3), (1e9, 3)],
)
def test_a_bound_belongs_to_its_own_bucket(value: float, bucket: int) -> None:
    # Prometheus' `le`: less or equal.
    histogram = Histogram((1.0, 2.0, 5.0))
    histogram.observe(value)
    assert [at for at, count in enumerate(histogram.counts) if count] == [bucket]


@given(st.lists(st.floats(0, 1000), max_size=50))
def test_a_histogram_adds_up(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    assert sum(histogram.counts) == len(values)
    assert len(histogram.counts) == len(histogram.bounds) + 1
    assert histogram.total == pytest.approx(sum(values))
    for at, bound in enumerate(histogram.bounds):
        assert sum(histogram.counts[: at + 1]) == sum(value <= bound for value in values)


def test_latencies_are_resolved_from_our_own_share_to_the_scoring_timeout() -> None:
    assert list(LATENCY_BOUNDS) == sorted(set(LATENCY_BOUNDS))
    # The documented overhead of the Azure front end: 3 ms on average, 15 ms at the 99th percentile.
    assert bisect_left(LATENCY_BOUNDS, 0.003) >= 3
    assert LATENCY_BOUNDS[-1] == 60.0


def test_everything_begins_at_nothing() -> None:
    tally, connections, backend = Tally(), ConnectionTally(7), BackendTally()
    assert (tally.codes, tally.faults, tally.in_flight) == ({}, {}, 0)
    assert tally.duration is not tally.upstream
    assert (connections.limit, connections.accepted, connections.open) == (7, 0, 0)
    assert (connections.refused, connections.pipelined) == (0, 0)
    assert connections.timeouts == {"head": 0, "body": 0, "idle": 0, "write": 0}
    assert (backend.connects, backend.connect_failures, backend.reused, backend.stale) == (0,) * 4


def test_what_becomes_of_batches_begins_at_nothing_by_name() -> None:
    tally, shadow, queue = BatchTally(), ShadowTally(), QueueTally()
    assert tally.flushes == {flush.value: 0 for flush in Flush}
    assert tally.proofs == {"proved": 0, "disproved": 0, "inconclusive": 0}
    assert (tally.isolations, tally.extra_calls, tally.fallbacks, tally.scattered) == (0,) * 4
    assert tally.rows is not tally.requests
    assert (shadow.calls, set(shadow.results.values())) == (0, {0})
    assert list(shadow.results) == ["agree", "differ", "incomparable", "ineligible", "dropped"]
    assert sum(queue.wait.counts) == 0
    assert queue.wait.bounds == LATENCY_BOUNDS


def test_rows_are_resolved_from_one_to_more_than_a_call_usually_has() -> None:
    assert BatchTally().rows.bounds == BATCH_BOUNDS
    assert tuple(2**power for power in range(13)) == BATCH_BOUNDS


def test_they_show_how_much_they_saw() -> None:
    tally = Tally()
    tally.codes = {200: 3, 503: 1}
    tally.in_flight = 2
    tally.duration.observe(1.0)
    assert repr(tally) == "<Tally 4 answered, 2 in flight>"
    assert repr(tally.duration) == "<Histogram of 1>"


def test_the_worst_lag_is_that_of_the_last_while() -> None:
    lag = LagTally(window=3)
    assert lag.worst == 0.0
    for late, worst in (
        (0.5, 0.5), (0.1, 0.5), (0.0, 0.5), (0.2, 0.5), (0.3, 0.5), (0.1, 0.5), (0.0, 0.3),
    ):  # fmt: skip
        lag.observe(late)
        assert lag.worst == worst
    assert sum(lag.late.counts) == 7
    assert lag.late.bounds == LAG_BOUNDS


def test_listeners_are_summed_up() -> None:
    tallies = [ConnectionTally(10), ConnectionTally(20)]
    tallies[0].accepted, tallies[1].accepted = 3, 4
    tallies[0].timeouts["head"] = 1
    tallies[1].timeouts["head"] = 5
    total = ConnectionTally(0)
    for _ in range(2):  # it does not matter what it was before
        total.become_sum(tallies)
        assert (total.limit, total.accepted, total.timeouts["head"]) == (30, 7, 6)
    total.become_sum([total, tallies[0]])
    assert (total.accepted, total.timeouts["head"], total.timeouts["idle"]) == (10, 7, 0)
    total.become_sum([])
    assert (total.limit, total.accepted, total.timeouts["head"]) == (0, 0, 0)
