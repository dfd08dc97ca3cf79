"""Statistics for tests: as wiring and overview put them together, with made-up numbers."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.gates import OUTCOMES
from gateway.core.statistics import (
    HANDSHAKES,
    BackendTally,
    BatchStatistics,
    BatchTally,
    ConnectionTally,
    DeploymentStatistics,
    EndpointStatistics,
    LagTally,
    QueueTally,
    ShadowTally,
    Statistics,
    Tally,
)

STATES = ("proving", "on", "off")


@dataclass
class Fetcher:
    fetches: int
    failures: int


def made_up() -> Statistics:
    """Numbers that are all different, so that none can stand in for another."""
    connections = ConnectionTally(1000)
    connections.open, connections.accepted, connections.refused = 3, 11, 2
    connections.pipelined = 5
    connections.timeouts.update(head=21, body=22, idle=23, write=24)
    connections.handshakes.update(zip(HANDSHAKES, range(25, 31), strict=True))
    unrouted, own, blue = Tally(), Tally(), Tally()
    unrouted.codes, unrouted.faults = {404: 31, 400: 32}, {"no_route": 31}
    own.codes, own.faults, own.in_flight = {401: 41}, {"no_credentials": 41}, 7
    blue.codes, blue.in_flight = {200: 51, 502: 52}, 6
    for seconds in (0.0004, 0.0005, 0.0006, 0.03, 70.0):
        blue.duration.observe(seconds)
    blue.upstream.observe(0.002)
    lag = LagTally()
    lag.observe(0.02)
    lag.observe(0.004)
    queue = QueueTally()
    queue.wait.observe(0.03)
    backend = BackendTally()
    backend.connects, backend.connect_failures = 61, 62
    backend.reused, backend.stale = 63, 64
    return Statistics(
        connections,
        unrouted,
        [
            EndpointStatistics(
                "first",
                own,
                dict.fromkeys(OUTCOMES, 0) | {"key": 71, "missing": 72},
                Fetcher(163, 82),
                {
                    "blue": DeploymentStatistics(
                        blue, (5, 6), 7, queue, made_up_batching(), {"10.0.0.1:80": (4, backend)}
                    ),
                    "green": DeploymentStatistics(
                        Tally(),
                        (0, 1),
                        0,
                        QueueTally(),
                        BatchStatistics(BatchTally(), 32, dict.fromkeys(STATES, 0)),
                        {},
                    ),
                    "red": DeploymentStatistics(Tally(), (0, 1), 0, QueueTally(), None, {}),
                },
            ),
            EndpointStatistics("second", Tally(), dict.fromkeys(OUTCOMES, 0), None, {}),
        ],
        log_dropped=91,
        lag=lag,
        cpu=171.5,
    )


def made_up_batching() -> BatchStatistics:
    tally, shadow = BatchTally(), ShadowTally()
    for rows in (1, 2, 3, 5000):
        tally.rows.observe(rows)
    tally.requests.observe(2)
    tally.isolations, tally.extra_calls, tally.fallbacks, tally.scattered = 101, 102, 103, 104
    tally.flushes.update(slot_free=111, full=112, bytes=113, delay=114, deadline=115)
    tally.proofs.update(proved=121, disproved=122, inconclusive=123)
    shadow.calls = 131
    shadow.results.update(agree=141, differ=142, incomparable=143, ineligible=144, dropped=145)
    return BatchStatistics(tally, 151, {"proving": 161, "on": 162, "off": 163}, shadow)
