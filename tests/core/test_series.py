"""A report holds what changed since the one before, as totals that never go backwards."""

from __future__ import annotations

import pickle

from gateway.control.families import WIDTHS
from gateway.core.blocks import MILLION, Key, unpack
from gateway.core.series import _PATIENCE, Report, Reporter
from gateway.core.statistics import (
    BackendTally,
    ConnectionTally,
    DeploymentStatistics,
    EndpointStatistics,
    LagTally,
    QueueTally,
    Statistics,
    Tally,
)
from tests.support.counted import Fetcher, made_up


def deployment(tally: Tally | None = None) -> DeploymentStatistics:
    backends = {"10.0.0.1:80": (1, BackendTally())}
    return DeploymentStatistics(tally or Tally(), (0, 2), 0, QueueTally(), None, backends)


def statistics(**deployments: DeploymentStatistics) -> Statistics:
    endpoint = EndpointStatistics("first", Tally(), {"open": 0, "key": 0}, None, deployments)
    return Statistics(ConnectionTally(10), Tally(), [endpoint], 0, LagTally(), 0.0)


class Reader:
    """Reads reports as the other side does."""

    def __init__(self, reporter: Reporter | None = None) -> None:
        self.reporter = reporter or Reporter()
        self.keys: list[Key] = []
        self.known: dict[Key, list[int] | None] = {}

    def read(self, now: Statistics) -> dict[Key, list[int] | None]:
        """What the next report says has changed."""
        report: Report = pickle.loads(pickle.dumps(self.reporter.report(now)))
        self.keys += report.new
        changes = {
            key: None if block is None else list(unpack(block, WIDTHS[key[0]]))
            for key, block in ((self.keys[at], block) for at, block in report.changes.items())
        }
        self.known |= changes
        return changes


BLUE = ("first", "blue")


def test_the_first_report_tells_everything_and_the_next_nothing() -> None:
    reader, now = Reader(), made_up()
    told = reader.read(now)
    assert told[("code", *BLUE, "200")] == [51]
    assert told[("fault", "", "", "no_route")] == [31]
    assert told[("deployment_in_flight", *BLUE)] == [6]
    assert told[("endpoint_in_flight", "first")] == [7]
    assert told[("backend", *BLUE, "10.0.0.1:80")] == [61, 62, 63, 64]
    assert told[("pool", *BLUE, "10.0.0.1:80")] == [4]
    assert told[("queue", *BLUE)] == [5, 7]
    assert told[("places", *BLUE)] == [6]
    assert told[("learned", *BLUE)] == [151, 161, 162, 163]
    assert told[("fetches", "first")] == [81, 82]
    assert told[("clients",)] == [11, 2, 5, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30]
    assert told[("log",)] == [91]
    assert told[("worst",)] == [20_000]
    assert reader.read(now) == {}


def test_only_what_changed_is_told() -> None:
    reader, now = Reader(), made_up()
    reader.read(now)
    blue = now.endpoints[0].deployments["blue"]
    blue.tally.codes[200] += 1
    blue.tally.codes[429] = 1
    blue.waiting = 8
    assert reader.read(now) == {
        ("code", *BLUE, "200"): [52],
        ("code", *BLUE, "429"): [1],
        ("queue", *BLUE): [5, 8],
    }


def test_seconds_are_whole_millionths() -> None:
    reader, now = Reader(), statistics(blue=deployment())
    reader.read(now)
    wait = now.endpoints[0].deployments["blue"].queue.wait
    for _ in range(3):
        wait.observe(0.1)
    told = reader.read(now)[("wait", *BLUE)]
    assert told is not None
    assert (told[-1], sum(told[:-1])) == (3 * MILLION // 10, 3)


def test_an_observation_of_nothing_is_seen_as_well() -> None:
    # The total does not change by it.
    reader, now = Reader(), statistics(blue=deployment())
    reader.read(now)
    now.endpoints[0].deployments["blue"].tally.duration.observe(0.0)
    assert list(reader.read(now)) == [("deployment", *BLUE)]


def test_who_takes_a_place_goes_on_from_where_the_other_was() -> None:
    old, new = deployment(), deployment()
    reader = Reader()
    old.tally.codes[200], old.tally.in_flight = 10, 2
    reader.read(statistics(blue=old))
    new.tally.codes[200], new.tally.in_flight = 1, 4
    told = reader.read(statistics(blue=new))
    assert told[("code", *BLUE, "200")] == [11]
    assert told[("deployment_in_flight", *BLUE)] == [6], "both have requests under way"
    # One of the old requests ends, two of the new ones.
    old.tally.codes[200], old.tally.in_flight = 11, 1
    new.tally.codes[200], new.tally.in_flight = 3, 2
    told = reader.read(statistics(blue=new))
    assert told[("code", *BLUE, "200")] == [14]
    assert told[("deployment_in_flight", *BLUE)] == [3]


def test_what_is_told_as_it_is_may_be_put_together_anew_for_every_report() -> None:
    reader, now = Reader(), made_up()
    reader.read(now)
    for accepted in (12, 15):
        now.connections = made_up().connections
        now.connections.accepted = accepted
        assert reader.read(now) == {("clients",): [accepted, 2, 5, *range(21, 31)]}


def test_whoever_fetches_keys_is_told_from_his_predecessor() -> None:
    # Both have fetched once: the numbers alone would not show it.
    reader, now = Reader(), statistics()
    for fetches in (1, 2):
        now.endpoints[0].keeper = Fetcher(1, 0)
        assert reader.read(now)[("fetches", "first")] == [fetches, 0]


def test_a_deployment_that_is_gone_keeps_its_counters_and_loses_its_gauges() -> None:
    reader, blue = Reader(), deployment()
    blue.tally.codes[200], blue.tally.in_flight = 10, 1
    reader.read(statistics(blue=blue))
    backend = (*BLUE, "10.0.0.1:80")
    gone = {("queue", *BLUE): None, ("places", *BLUE): None, ("pool", *backend): None}
    now = statistics()
    assert {key: v for key, v in reader.read(now).items() if v is None} == gone
    # The request that was under way ends.
    blue.tally.codes[200], blue.tally.in_flight = 11, 0
    told = reader.read(now)
    assert told[("code", *BLUE, "200")] == [11]
    assert told[("deployment_in_flight", *BLUE)] == [0]
    # It comes back, as another object.
    again = deployment()
    again.tally.codes[200] = 1
    told = reader.read(statistics(blue=again))
    assert told[("code", *BLUE, "200")] == [12]
    assert told[("queue", *BLUE)] == [0, 0]


def test_what_is_gone_is_forgotten_when_nothing_happens_to_it_for_long() -> None:
    reporter = Reporter()
    reader, blue, now = Reader(reporter), deployment(), statistics()
    reader.read(statistics(blue=blue))
    assert len(reporter._watches) > (wanted := 4)
    reader.read(now)
    for _ in range(_PATIENCE - 2):
        reporter.report(now)
    blue.tally.codes[200] = 1
    assert reader.read(now)[("code", *BLUE, "200")] == [1]
    for _ in range(_PATIENCE + 2):
        reporter.report(now)
    assert len(reporter._watches) == wanted


def test_a_report_of_little_is_small() -> None:
    reporter, now = Reporter(), made_up()
    reporter.report(now)
    now.endpoints[0].deployments["blue"].tally.codes[200] += 1
    assert len(pickle.dumps(reporter.report(now))) < 120
    assert repr(reporter) == f"<Reporter of {len(reporter._numbers)} blocks>"
