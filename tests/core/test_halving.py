"""Guilty members are found, everybody is answered once, and the calls are bounded."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.halving import Group, Halving

# Does the merged call for this group fail, or for a single member: is its own answer an error?
Fails = Callable[[Group], bool]


def levels(count: int) -> int:
    """How often a batch can be halved."""
    return (count - 1).bit_length()


def isolate(count: int, fails: Fails) -> tuple[Halving, list[Group]]:
    """Work the plan, one call at a time.

    :returns: the plan, and the groups called for.
    """
    plan = Halving(count)
    called: list[Group] = []
    while (group := plan.take()) is not None:
        called.append(group)
        if not fails(group):
            plan.settle(group)
        elif len(group) == 1:
            plan.blame(group)
        else:
            plan.halve(group)
    return plan, called


def guilty(*members: int) -> Fails:
    return lambda group: not set(members).isdisjoint(group)


def answered(called: Collection[Group], fails: Fails) -> list[int]:
    """Who has an answer, in the order of getting it."""
    return [m for group in called if len(group) == 1 or not fails(group) for m in group]


@pytest.mark.parametrize(
    ("count", "bad", "called"),
    [
        pytest.param(1, [0], [(0,)], id="a batch of one"),
        pytest.param(2, [0], [(0,), (1,)], id="the first of two"),
        pytest.param(2, [1], [(0,), (1,)], id="the second of two"),
        pytest.param(3, [2], [(0, 1), (2,)], id="the odd one"),
        pytest.param(4, [0], [(0, 1), (0,), (1,), (2, 3)], id="a first half fails"),
        # (2, 3) is not called for: it must contain the guilty one.
        pytest.param(4, [3], [(0, 1), (2,), (3,)], id="a second half must fail"),
        pytest.param(8, [7], [(0, 1, 2, 3), (4, 5), (6,), (7,)], id="second halves only"),
        pytest.param(4, [], [(0, 1), (2,), (3,)], id="nobody, after all"),
    ],
)
def test_who_is_called_for(count: int, bad: list[int], called: list[Group]) -> None:
    plan, groups = isolate(count, guilty(*bad))
    assert groups == called
    assert plan.guilty == bad
    assert plan.calls == len(called)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 64, 100, 127, 128, 129, 500])
def test_one_guilty_member_costs_two_calls_a_level_at_most(count: int) -> None:
    costs = []
    for bad in range(count):
        fails = guilty(bad)
        plan, called = isolate(count, fails)
        assert answered(called, fails) == list(range(count))
        assert plan.guilty == [bad]
        assert not plan.exhausted
        costs.append(plan.calls)
    assert max(costs) <= max(1, 2 * levels(count))
    assert sum(costs) <= max(1.0, 1.5 * levels(count) + 1) * count


@pytest.mark.parametrize("count", [2, 3, 8, 13, 32, 50])
def test_two_guilty_members_are_within_the_budget(count: int) -> None:
    for bad in itertools.combinations(range(count), 2):
        fails = guilty(*bad)
        plan, called = isolate(count, fails)
        assert answered(called, fails) == list(range(count))
        assert plan.guilty == list(bad)
        assert plan.calls <= 4 * levels(count) - 2


def test_three_guilty_members_are_hardly_ever_beyond_it() -> None:
    triples = list(itertools.combinations(range(32), 3))
    beyond = sum(isolate(32, guilty(*bad))[0].exhausted for bad in triples)
    assert beyond < len(triples) / 100


@pytest.mark.parametrize("count", [2, 8, 64, 100, 256])
def test_when_all_are_guilty_the_rest_goes_one_by_one(count: int) -> None:
    fails = guilty(*range(count))
    plan, called = isolate(count, fails)
    assert answered(called, fails) == plan.guilty == list(range(count))
    assert plan.calls <= min(2 * count - 2, plan.budget + count)
    assert all(len(group) == 1 for group in called[plan.budget :])


def test_a_failure_of_the_moment_costs_little() -> None:
    # Nobody is guilty: each first half is good, so each second one is suspected.
    plan, called = isolate(64, guilty())
    assert plan.guilty == []
    assert len(called) == levels(64) + 1


@given(count=st.integers(1, 80), bad=st.sets(st.integers(0, 79)))
def test_any_guilty_members_are_found_in_order(count: int, bad: set[int]) -> None:
    bad = {member for member in bad if member < count}
    fails = guilty(*bad)
    plan, called = isolate(count, fails)
    assert answered(called, fails) == list(range(count))
    assert plan.guilty == sorted(bad)
    assert plan.calls == len(called) <= plan.budget + count


@given(count=st.integers(1, 60), seed=st.integers(0, 10_000), chance=st.floats(0.0, 1.0))
def test_failures_without_any_sense_leave_nobody_without_an_answer(
    count: int, seed: int, chance: float
) -> None:
    draw = random.Random(seed)
    verdicts: dict[Group, bool] = {}
    plan, called = isolate(count, lambda g: verdicts.setdefault(g, draw.random() < chance))
    assert answered(called, verdicts.__getitem__) == list(range(count))
    assert len(set(called)) == len(called)
    assert len(called) <= plan.budget + count


@pytest.mark.parametrize("seed", range(300))
def test_stories_with_several_calls_under_way_and_members_leaving(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randrange(1, 70)
    bad = set(draw.sample(range(count), draw.randrange(0, min(count, 6) + 1)))
    plan = Halving(count)
    out: list[Group] = []
    gone: set[int] = set()
    served: list[int] = []
    while True:
        step = draw.random()
        if step < 0.1:
            left = draw.randrange(count)
            gone.add(left)
            plan.discard([left])
        elif step < 0.5 and (group := plan.take()) is not None:
            assert gone.isdisjoint(group)
            assert not set(group) & set(itertools.chain(served, *out))
            out.append(group)
        elif out:
            group = out.pop(draw.randrange(len(out)))
            if bad.isdisjoint(group):
                plan.settle(group)
                served += group
            elif len(group) == 1:
                plan.blame(group)
                served += group
            else:
                plan.halve(group)
        elif (group := plan.take()) is not None:
            out.append(group)
        else:
            break
    assert len(served) == len(set(served))
    assert set(range(count)) - gone <= set(served)
    assert plan.calls <= plan.budget + count
    assert set(plan.guilty) <= bad


def take(plan: Halving) -> Group:
    group = plan.take()
    assert group is not None
    return group


def test_a_second_half_that_is_out_already_is_not_called_twice() -> None:
    plan = Halving(4)
    assert [plan.take(), plan.take(), plan.take()] == [(0, 1), (2, 3), None]
    plan.settle((0, 1))
    assert plan.take() is None
    plan.halve((2, 3))
    assert [plan.take(), plan.take(), plan.take()] == [(2,), (3,), None]


@pytest.mark.parametrize("leaver", range(8))
@pytest.mark.parametrize("taken", [False, True], ids=["before the call", "during the call"])
def test_who_left_may_have_been_guilty_so_nothing_is_concluded(leaver: int, taken: bool) -> None:
    plan = Halving(8)
    rest = tuple(member for member in range(8) if member != leaver)
    if not taken:
        plan.discard([leaver])
    first = take(plan)
    if taken:
        plan.discard([leaver])
    plan.settle(first)
    assert plan.take() == tuple(member for member in rest if member > 3)
    assert plan.take() is None


def test_groups_that_became_empty_are_skipped() -> None:
    plan = Halving(8)
    plan.discard(range(4))
    assert plan.take() == (4, 5, 6, 7)
    plan.discard(range(4, 8))
    plan.halve((4, 5, 6, 7))
    assert plan.take() is None


def test_whoever_is_left_of_a_failed_group_is_called_for_alone() -> None:
    plan = Halving(4)
    group = take(plan)
    plan.discard([0])
    plan.halve(group)
    assert plan.take() == (1,)


def test_reports_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="members"):
        Halving(0)
    plan = Halving(2)
    with pytest.raises(ValueError, match="own answer"):
        plan.halve((0,))
    with pytest.raises(ValueError, match="single"):
        plan.blame((0, 1))


def test_it_says_what_it_is() -> None:
    plan = Halving(2)
    plan.blame(take(plan))
    assert repr(plan) == "<Halving, 1 calls, guilty [0], pending [(1,)]>"
