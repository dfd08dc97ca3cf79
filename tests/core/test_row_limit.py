"""The limit finds what a container can do within the target, and follows it when that changes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.row_limit import START, RowLimit

TARGET = 0.05
# Seconds that a call of so many rows takes.
Cost = Callable[[int], float]


def linear(per_row: float, per_call: float) -> Cost:
    return lambda rows: per_row * rows + per_call


class Run:
    """A limit, and a container that is always sent as many rows as the limit allows."""

    def __init__(
        self,
        *,
        most: int = 1000,
        noise: float = 0.0,
        pauses: float = 0.0,
        partial: float = 0.0,
        seed: int = 0,
    ) -> None:
        """
        :param noise: standard deviation of the logarithm of the time.
        :param pauses: share of calls that take ten times as long.
        :param partial: share of batches that have fewer rows than they might.
        """
        self.limit = RowLimit(most, TARGET)
        self.now = 0.0
        self._draw = random.Random(seed)
        self._noise = noise
        self._pauses = pauses
        self._partial = partial

    def batch(self, cost: Cost) -> int:
        """One call.

        :returns: its rows.
        """
        draw = self._draw
        full = draw.random() >= self._partial
        rows = self.limit.cap if full else draw.randint(1, self.limit.cap)
        seconds = cost(rows) * math.exp(draw.gauss(0.0, self._noise))
        if draw.random() < self._pauses:
            seconds *= 10.0
        self.now += seconds
        self.limit.observe(rows, seconds, full, self.now)
        return rows

    def batches(self, cost: Cost, count: int) -> list[int]:
        """The limits after each of so many calls."""
        caps = []
        for _ in range(count):
            self.batch(cost)
            caps.append(self.limit.cap)
        return caps


def share(values: list[int], part: float) -> int:
    """The value that so many of them do not exceed."""
    return sorted(values)[int(part * (len(values) - 1))]


CONTAINERS = [
    pytest.param(1e-3, 1e-3, id="rows cost"),
    pytest.param(1e-4, 4e-3, id="as the scoring container"),
    pytest.param(1e-4, 20e-3, id="calls cost"),
    pytest.param(5e-3, 5e-3, id="few rows"),
    pytest.param(5e-5, 30e-3, id="many rows"),
]


@pytest.mark.parametrize(("per_row", "per_call"), CONTAINERS)
@pytest.mark.parametrize("partial", [0.0, 0.3])
def test_it_finds_what_fits_into_the_target(
    per_row: float, per_call: float, partial: float
) -> None:
    run = Run(partial=partial)
    caps = run.batches(linear(per_row, per_call), 300)
    ideal = (TARGET - per_call) / per_row
    first = next(at for at, cap in enumerate(caps) if 0.7 * ideal <= cap <= 1.1 * ideal)
    assert first <= (10 if partial == 0.0 else 40)
    assert 0.9 * ideal - 1 <= min(caps[50:]) <= max(caps[50:]) <= ideal + 2


@pytest.mark.parametrize(("per_row", "per_call"), CONTAINERS)
@pytest.mark.parametrize(
    ("noise", "pauses"),
    [
        pytest.param(0.1, 0.0, id="a little noise"),
        pytest.param(0.1, 0.03, id="pauses"),
        pytest.param(0.3, 0.0, id="much noise"),
    ],
)
def test_it_keeps_the_target_in_noise(
    per_row: float, per_call: float, noise: float, pauses: float
) -> None:
    cost = linear(per_row, per_call)
    caps = []
    for seed in range(5):
        caps += Run(noise=noise, pauses=pauses, seed=seed).batches(cost, 300)[50:]
    ideal = (TARGET - per_call) / per_row
    assert cost(share(caps, 0.95)) <= 1.2 * TARGET
    assert 0.7 * ideal <= median(caps) <= 1.2 * ideal
    assert share(caps, 0.05) >= 0.5 * ideal


def test_it_starts_small_and_grows_as_fast_as_it_is_safe() -> None:
    run = Run(most=10_000)
    assert run.limit.cap == START
    assert run.batches(linear(1e-6, 1e-3), 5) == [64, 128, 256, 512, 1024]
    # Never by more than proportion allows, so that a container without fixed cost is not overrun.
    assert max(Run().batches(linear(1e-3, 0.0), 20)) == 50


def test_it_never_leaves_its_bounds() -> None:
    assert RowLimit(8, TARGET).cap == 8
    assert set(Run(most=100).batches(linear(1e-6, 0.0), 20)[3:]) == {100}
    assert Run(most=100).batches(linear(10.0, 0.0), 20)[-1] == 1


def test_it_does_not_grow_while_nobody_asks_for_more() -> None:
    limit = RowLimit(1000, TARGET)
    for rows in range(1, 31):
        limit.observe(rows, 1e-3 + rows * 1e-5, False, 0.0)
    assert limit.cap == START


def test_several_batches_under_way_grow_it_once() -> None:
    limit = RowLimit(1000, TARGET)
    for _ in range(4):
        limit.observe(32, 0.005, True, 0.0)
    assert limit.cap == 64


@pytest.mark.parametrize("seconds", [0.2, 1.0, 60.0])
def test_one_pause_changes_nothing(seconds: float) -> None:
    run = Run(noise=0.05)
    cost = linear(1e-4, 5e-3)
    before = run.batches(cost, 100)[-1]
    for _ in range(5):
        run.limit.observe(run.limit.cap, seconds, True, run.now)
        assert run.limit.cap == pytest.approx(before, rel=0.1)
        run.batches(cost, 20)


def test_two_pauses_in_a_row_are_made_up_for_within_a_few_batches() -> None:
    run = Run()
    cost = linear(1e-4, 5e-3)
    before = run.batches(cost, 100)[-1]
    for _ in range(2):
        run.limit.observe(before, 1.0, True, run.now)
    assert run.limit.cap == before // 4
    assert run.batches(cost, 8)[-1] > 0.9 * before


@pytest.mark.parametrize("factor", [1.5, 2.0, 4.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_container_that_became_slower_is_followed_within_a_few_batches(
    factor: float, seed: int
) -> None:
    run = Run(noise=0.05, seed=seed)
    before = median(run.batches(linear(1e-4, 4e-3), 100)[-20:])
    slower = linear(1e-4 * factor, 4e-3 * factor)
    run.batches(slower, 6)
    assert slower(run.limit.cap) <= 1.25 * TARGET
    assert slower(share(run.batches(slower, 40), 0.95)) <= 1.2 * TARGET
    after = run.batches(linear(1e-4, 4e-3), 30)[-1]
    assert after >= 0.85 * before


@pytest.mark.parametrize("factor", [1.1, 1.2])
def test_a_container_that_becomes_slower_by_and_by_is_followed(factor: float) -> None:
    run = Run(noise=0.05)
    run.batches(linear(1e-4, 4e-3), 100)
    slower = linear(1e-4 * factor, 4e-3 * factor)
    run.batches(slower, 40)
    assert slower(share(run.batches(slower, 40), 0.95)) <= 1.1 * TARGET


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("per_call", [0.06, 0.1, 0.5])
def test_a_target_that_cannot_be_met_does_not_mean_row_by_row(
    per_call: float, noise: float
) -> None:
    # Rows may take as long as the fixed part: half the possible throughput would be right, and row
    # by row would be less than a hundredth of it.
    cost = linear(1e-3, per_call)
    done = 0
    spent = 0.0
    for seed in range(5):
        run = Run(most=100_000, noise=noise, seed=seed)
        run.batches(cost, 200)
        for _ in range(400):
            rows = run.batch(cost)
            done += rows
            spent += cost(rows)
    assert done / spent > 0.1 / 1e-3
    assert spent / 2000 < 2.0 * per_call


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_pauses_do_not_mean_row_by_row_either(noise: float) -> None:
    caps = []
    for seed in range(5):
        run = Run(noise=noise, pauses=0.05, seed=seed)
        caps += run.batches(linear(1e-3, 0.2), 400)[100:]
    assert share(caps, 0.1) > 20


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_a_row_that_takes_too_long_goes_alone(noise: float) -> None:
    # Here it is the rows that cost, and larger batches would not be faster. One batch in thirty is
    # larger nevertheless, to find that out.
    caps = Run(noise=noise).batches(linear(0.08, 1e-3), 300)[20:]
    assert set(caps) == {1, 4}
    assert caps.count(4) <= len(caps) / 30 + 1


def test_a_limit_of_one_row_is_not_for_ever() -> None:
    run = Run()
    assert run.batches(linear(0.08, 1e-3), 100)[-1] == 1
    assert run.batches(linear(1e-4, 4e-3), 20)[-1] > 400


def test_a_wrong_memory_does_not_last() -> None:
    # Calls that took half a second whatever their size; then the rows cost instead. If the limit
    # went on believing in the fixed part, it would stay where it is, at eight targets.
    run = Run()
    assert run.batches(lambda rows: 0.5 + 1e-5 * rows, 100)[-1] > 800
    cost = linear(5e-4, 0.0)
    assert cost(run.batches(cost, 150)[-1]) <= 1.2 * TARGET


def test_costs_need_not_be_linear() -> None:
    # Beyond 200 rows a cache is too small.
    def cost(rows: int) -> float:
        return 4e-3 + 1e-4 * rows + 4e-4 * max(0, rows - 200)

    caps = Run(noise=0.05).batches(cost, 300)[50:]
    assert cost(share(caps, 0.95)) <= 1.2 * TARGET
    assert cost(share(caps, 0.05)) >= 0.7 * TARGET


def test_a_scoring_timeout_halves_the_limit_and_is_remembered() -> None:
    run = Run()
    cost = linear(1e-5, 1e-3)
    assert run.batches(cost, 10)[-1] == 1000
    run.limit.shrink(1000)
    assert run.limit.cap == 500
    # It creeps back: a timeout costs far more than a smaller batch.
    caps = run.batches(cost, 20)
    assert caps == sorted(caps)
    assert caps[0] < 550
    assert caps[4] < 700
    assert caps[-1] == 1000


@pytest.mark.parametrize(
    ("rows", "cap"),
    [
        pytest.param(1000, 32, id="larger than the limit is now"),
        pytest.param(32, 16, id="at the limit"),
        pytest.param(3, 1, id="an odd number"),
        pytest.param(1, 1, id="nothing can be done about one row"),
    ],
)
def test_what_a_timeout_makes_of_the_limit(rows: int, cap: int) -> None:
    limit = RowLimit(1000, TARGET)
    limit.shrink(rows)
    assert limit.cap == cap


@settings(derandomize=True)
@given(
    per_row=st.floats(1e-6, 1e-2),
    per_call=st.floats(0.0, 0.5),
    sizes=st.lists(st.integers(1, 512), min_size=3, max_size=30),
)
def test_the_fit_is_that_of_the_container(
    per_row: float, per_call: float, sizes: list[int]
) -> None:
    limit = RowLimit(1000, TARGET)
    cost = linear(per_row, per_call)
    assert limit.predict(1) is None
    for rows in sizes:
        limit.observe(rows, cost(rows), False, 0.0)
    if limit.fit is not None:
        per_row_found, per_call_found = limit.fit
        assert per_row_found >= 0.0
        # What lies below a tenth of a millisecond is nothing that a clock could tell.
        assert 0.0 <= per_call_found <= cost(max(sizes)) + 1e-4


def test_the_fit_is_exact_when_sizes_differ_and_lasts_when_they_do_not() -> None:
    limit = RowLimit(1000, TARGET)
    cost = linear(1e-4, 4e-3)
    for rows in (1, 20, 5, 32, 16, 1, 32):
        limit.observe(rows, cost(rows), False, 0.0)
    assert limit.fit == pytest.approx((1e-4, 4e-3), rel=0.1)
    assert limit.predict(20) == pytest.approx(cost(20), rel=0.02)
    for _ in range(200):
        limit.observe(32, cost(32), False, 0.0)
    assert limit.fit == pytest.approx((1e-4, 4e-3), rel=0.1)
    assert limit.predict(32) == pytest.approx(cost(32), rel=0.02)


def test_there_is_no_fit_while_all_batches_are_alike() -> None:
    limit = RowLimit(1000, TARGET)
    for _ in range(10):
        limit.observe(10, 0.02, False, 0.0)
    assert limit.fit is None
    assert limit.predict(10) == pytest.approx(0.02)


def test_the_fastest_call_is_forgotten_without_news() -> None:
    limit = RowLimit(1000, TARGET)
    assert limit.fastest(0.0) is None
    limit.observe(4, 0.3, False, 100.0)
    limit.observe(4, 0.2, False, 101.0)
    limit.observe(4, 0.4, False, 102.0)
    assert limit.fastest(104.9) == 0.2
    limit.observe(4, 0.5, False, 105.5)
    assert limit.fastest(109.0) == 0.2
    limit.observe(4, 0.4, False, 110.6)
    assert limit.fastest(110.7) == 0.4
    assert limit.fastest(115.7) == 0.4
    assert limit.fastest(120.8) is None


def test_a_single_row_may_be_faster_than_any_call_of_late() -> None:
    run = Run()
    run.batches(linear(1e-4, 1e-2), 100)
    run.now += 20.0
    run.batches(linear(1e-4, 1e-2), 10)
    assert run.limit.fastest(run.now) == pytest.approx(1.01e-2, rel=0.1)


def test_calls_too_short_for_the_clock_and_batches_without_rows_do_no_harm() -> None:
    limit = RowLimit(100, TARGET)
    for _ in range(5):
        limit.observe(0, 0.0, False, 0.0)
    limit.observe(32, 0.0, True, 0.0)
    assert limit.cap == 64
    assert limit.predict(1) is not None


@given(seed=st.integers(0, 100_000), most=st.integers(1, 2000))
def test_whatever_happens_the_limit_is_one(seed: int, most: int) -> None:
    draw = random.Random(seed)
    limit = RowLimit(most, TARGET)
    now = 0.0
    for _ in range(200):
        now += draw.choice((0.0, 0.01, 1.0, 30.0))
        rows = draw.choice((1, limit.cap, draw.randint(1, limit.cap), 5000))
        if draw.random() < 0.05:
            limit.shrink(rows)
            assert limit.cap <= max(1, rows // 2)
        else:
            seconds = draw.choice((0.0, 1e-6, 0.01, 0.05, 1e4, draw.random()))
            limit.observe(rows, seconds, draw.random() < 0.7, now)
        assert type(limit.cap) is int
        assert 1 <= limit.cap <= most
        predicted = limit.predict(limit.cap)
        assert predicted is None or 0.0 <= predicted < math.inf
        fastest = limit.fastest(now)
        assert fastest is None or 0.0 <= fastest <= 1e4
    assert limit.fastest(now + 60.0) is None


@pytest.mark.parametrize(("most", "target"), [(0, 1.0), (-1, 1.0), (1, 0.0), (1, -1.0)])
def test_a_limit_that_makes_no_sense_is_refused(most: int, target: float) -> None:
    with pytest.raises(ValueError, match="no limit"):
        RowLimit(most, target)


def test_it_says_what_it_is() -> None:
    assert repr(RowLimit(100, TARGET)) == "<RowLimit 32 of 100, fit None>"
