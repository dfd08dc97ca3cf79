"""The sums over workers, whoever of them dies and whenever."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.control.families import WIDTHS
from gateway.core.blocks import Key, pack, unpack
from gateway.core.series import Report, Reporter
from gateway.core.statistics import DeploymentStatistics
from gateway.core.totals import Block, Totals
from tests.core.test_series import deployment
from tests.core.test_series import statistics as wired

CODE = ("code", "first", "blue", "200")
PLACES = ("places", "first", "blue")
QUEUE = ("queue", "first", "blue")


def found(totals: Totals) -> dict[tuple[str, ...], list[int] | None]:
    """What has changed, by key; numbers are as many as those of the kind."""
    return {
        block.key: None if block.total is None else list(unpack(block.total, WIDTHS[block.key[0]]))
        for block in totals.changes()
    }


def report(new: list[Key], changes: dict[int, list[int] | None]) -> Report:
    return Report(new, {at: None if row is None else pack(row) for at, row in changes.items()})


def test_counters_are_summed_and_outlive_their_worker() -> None:
    totals = Totals()
    totals.apply(0, report([CODE], {0: [5]}))
    totals.apply(1, report([CODE], {0: [7]}))
    assert found(totals) == {CODE: [12]}
    totals.retire(0)
    assert found(totals) == {CODE: [12]}
    # The successor has the same number, and numbers its blocks itself.
    totals.apply(0, report([QUEUE, CODE], {1: [1]}))
    assert found(totals)[CODE] == [13]
    for worker in (0, 1):
        totals.retire(worker)
    assert found(totals)[CODE] == [13]


def test_gauges_go_with_their_worker() -> None:
    totals = Totals()
    totals.apply(0, report([QUEUE], {0: [1, 20]}))
    totals.apply(1, report([QUEUE], {0: [3, 40]}))
    assert found(totals) == {QUEUE: [4, 60]}
    totals.retire(1)
    assert found(totals) == {QUEUE: [1, 20]}
    totals.apply(0, report([], {0: None}))
    assert found(totals) == {QUEUE: None}


def test_what_all_workers_tell_of_the_same_is_not_summed() -> None:
    totals = Totals()
    totals.apply(0, report([PLACES], {0: [4]}))
    totals.apply(1, report([PLACES], {0: [6]}))
    assert found(totals) == {PLACES: [6]}


def test_what_is_a_workers_own_has_its_number() -> None:
    totals = Totals()
    for worker in (0, 3):
        totals.apply(worker, report([("cpu",), ("worst",)], {0: [worker + 1], 1: [9]}))
    totals.retire(3)
    totals.apply(3, report([("cpu",)], {0: [10]}))
    assert found(totals) == {
        ("cpu", "0"): [1],
        ("worst", "0"): [9],
        ("cpu", "3"): [14],
        ("worst", "3"): None,
    }


def test_only_what_changed_is_looked_at_again() -> None:
    totals = Totals()
    totals.apply(0, report([CODE, QUEUE], {0: [5], 1: [0, 0]}))
    assert set(found(totals)) == {CODE, QUEUE}
    totals.apply(0, report([], {1: [1, 0]}))
    assert set(found(totals)) == {QUEUE}
    assert found(totals) == {}
    assert repr(totals) == "<Totals of 1 workers, 2 blocks>"
    assert repr(Block(CODE)) == "<Block code first blue 200 of 0 workers>"


def test_the_death_of_one_that_never_reported_changes_nothing() -> None:
    totals = Totals()
    totals.retire(7)
    assert found(totals) == {}


NAMES = st.sampled_from(["blue", "green", "red"])
WORKERS = st.integers(0, 2)


class Life(RuleBasedStateMachine):
    """Workers count, report, are reconfigured and die. What was reported is in the sums, exactly,
    and no counter ever falls."""

    def __init__(self) -> None:
        super().__init__()
        self.totals = Totals()
        self.workers: dict[int, Worker] = {}
        #: What was counted and reported, by those alive and those dead.
        self.reported: Counter[tuple[str, str]] = Counter()
        self.shown: dict[tuple[str, ...], list[int]] = {}

    @rule(worker=WORKERS, names=st.sets(NAMES))
    def configure(self, worker: int, names: set[str]) -> None:
        """Start a worker, or have it load another configuration. It reports at once, or nobody
        would ever know of objects that never were in a report."""
        self.workers.setdefault(worker, Worker()).configure(names)
        self._report(worker)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), code=st.sampled_from([200, 400]), seconds=st.floats(0, 100))
    def count(self, data: st.DataObject, code: int, seconds: float) -> None:
        """A request ends, be it in a deployment that is gone."""
        worker = self.workers[data.draw(st.sampled_from(sorted(self.workers)))]
        if worker.ever:
            name, own = data.draw(st.sampled_from(worker.ever))
            own.tally.codes[code] = own.tally.codes.get(code, 0) + 1
            own.tally.duration.observe(seconds)
            worker.counted[name, str(code)] += 1

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        self._report(data.draw(st.sampled_from(sorted(self.workers))))

    def _report(self, number: int) -> None:
        worker = self.workers[number]
        self.totals.apply(number, worker.reporter.report(worker.statistics))
        self.reported += worker.counted
        worker.counted.clear()

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """What it did not report any more is lost."""
        number = data.draw(st.sampled_from(sorted(self.workers)))
        del self.workers[number]
        self.totals.retire(number)

    @invariant()
    def sums_are_right_and_never_fall(self) -> None:
        for key, values in found(self.totals).items():
            if key[0] in ("code", "deployment", "backend", "wait"):
                assert values is not None
                before = self.shown.get(key, [0] * len(values))
                assert all(map(int.__ge__, values, before))
                self.shown[key] = values
        codes = {key[2:]: values[0] for key, values in self.shown.items() if key[0] == "code"}
        assert codes == self.reported
        requests: Counter[str] = Counter()
        for (name, _), count in self.reported.items():
            requests[name] += count
        for name, count in requests.items():
            histogram = self.shown["deployment", "first", name]
            assert sum(histogram[:17]) == count


class Worker:
    def __init__(self) -> None:
        self.reporter = Reporter()
        self.statistics = wired()
        #: Every deployment that it has had; requests may be under way in any of them.
        self.ever: list[tuple[str, DeploymentStatistics]] = []
        self.counted: Counter[tuple[str, str]] = Counter()

    def configure(self, names: set[str]) -> None:
        """Deployments come and go; one that comes back is another object."""
        present = self.statistics.endpoints[0].deployments
        kept = {name: present.get(name) or deployment() for name in sorted(names)}
        self.statistics.endpoints[0].deployments = kept
        known = [own for _, own in self.ever]
        self.ever += [(name, own) for name, own in kept.items() if own not in known]


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
