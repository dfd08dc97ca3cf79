"""Backends keep their numbers, and no number means two backends."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable

import pytest

from gateway.core.allotting import PLENTY, Allotment, Allotter, Spot


def spot(name: str) -> Spot:
    return ("diabetes", "blue", name)


def spots(names: str) -> list[Spot]:
    return [spot(name) for name in names]


def idle(number: int) -> bool:
    return True


def busy(number: int) -> bool:
    return False


def test_who_stays_keeps_its_number() -> None:
    allotter = Allotter()
    before = allotter.allot(spots("abc"), 0.0, idle)
    assert sorted(before.values()) == [0, 1, 2]
    after = allotter.allot(spots("cxa"), 1.0, idle)
    assert [after[spot(name)] for name in "ca"] == [before[spot(name)] for name in "ca"]
    assert after[spot("x")] == 3
    assert repr(allotter) == "<Allotter, 3 backends, 4 numbers>"


def test_one_that_comes_back_has_its_old_number() -> None:
    allotter = Allotter(rest=10.0)
    before = allotter.allot(spots("ab"), 0.0, idle)
    allotter.allot(spots("a"), 1.0, idle)
    assert allotter.allot(spots("ab"), 100.0, idle) == before


@pytest.mark.parametrize(
    ("now", "is_idle", "number"),
    [
        pytest.param(10.9, idle, 1, id="too early"),
        pytest.param(11.0, idle, 0, id="after its rest"),
        pytest.param(99.0, busy, 1, id="somebody is still there"),
    ],
)
def test_a_number_is_used_again_when_nobody_remembers(
    now: float, is_idle: Callable[[int], bool], number: int
) -> None:
    allotter = Allotter(rest=10.0)
    allotter.allot(spots("a"), 0.0, idle)
    allotter.allot([], 1.0, idle)
    allotter.allot([], 5.0, idle)  # it has been gone since before
    assert allotter.allot(spots("b"), now, is_idle) == {spot("b"): number}


def test_those_gone_for_longest_go_first() -> None:
    allotter = Allotter(rest=10.0)
    first = allotter.allot(spots("abc"), 0.0, idle)
    allotter.allot(spots("ac"), 1.0, idle)
    allotter.allot([], 2.0, idle)
    assert allotter.allot(spots("x"), 100.0, idle) == {spot("x"): first[spot("b")]}


def test_more_than_numbers_changes_nothing() -> None:
    allotter = Allotter(most=2)
    before = allotter.allot(spots("ab"), 0.0, idle)
    with pytest.raises(ValueError, match="more than 2 backends"):
        allotter.allot(spots("bc"), 1.0, idle)
    assert allotter.allot(spots("ab"), 2000.0, idle) == before


def test_a_backend_that_is_there_twice_has_one_number() -> None:
    assert Allotter().allot(spots("aa"), 0.0, idle) == {spot("a"): 0}


@pytest.mark.parametrize("seed", range(50))
def test_no_number_means_two(seed: int) -> None:
    draw = random.Random(seed)
    allotter = Allotter(most=20, rest=10.0)
    now = 0.0
    last: dict[Spot, int] = {}
    gone: dict[int, tuple[Spot, float]] = {}
    for _ in range(60):
        now += draw.choice([0.0, 1.0, 6.0, 30.0])
        names = draw.sample("abcdefghijklmnopqrstuvwxyz", draw.randint(0, 5))
        try:
            given = allotter.allot(spots("".join(names)), now, lambda number: draw.random() < 0.9)
        except ValueError:
            assert allotter.used > 10
            continue
        assert len(set(given.values())) == len(given) == len(names)
        assert all(number < allotter.used <= 20 for number in given.values())
        for each, number in given.items():
            assert last.get(each, number) == number
            if number in gone and gone[number][0] != each:
                assert now - gone[number][1] >= 10.0
        for each, number in last.items():
            if each not in given:
                gone[number] = each, now
        for number in given.values():
            gone.pop(number, None)
        last = given


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("concurrency", [512, 513, 1000])
def test_parts_are_all_places_and_equal(workers: int, concurrency: int) -> None:
    allotment = Allotment(workers)
    assert allotment.divides(concurrency)
    parts = [allotment.part(concurrency, worker) for worker in range(workers)]
    assert sum(parts) == concurrency
    assert max(parts) - min(parts) <= 1
    assert min(parts) >= PLENTY


def test_few_places_are_shared() -> None:
    assert [Allotment(2).divides(n) for n in (1, 2, 15, 16)] == [False, False, False, True]


def test_an_allotment_can_be_sent() -> None:
    allotment = Allotment(4, {spot("a"): 7})
    assert pickle.loads(pickle.dumps(allotment)) == allotment
