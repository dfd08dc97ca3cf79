"""A queue under other conditions: nobody is lost, nobody is served twice, and promises are kept."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.backends import Backend
from gateway.core.faults import Fault
from gateway.engine.pools import Pool
from gateway.engine.refitting import Fit, refit
from tests.engine.test_slots import Guest, Hotel, never

WAIT = 5.0


class Inn(Hotel):
    """A hotel that can be rebuilt while it has guests."""

    def __init__(self, backends: int = 1, concurrency: int = 1) -> None:
        super().__init__(backends, concurrency, WAIT, 1000)
        self.fit = Fit(self.slots.pools, concurrency, WAIT, 1000, None)

    def is_full(self) -> bool:
        return self.slots._places.are_all_taken

    def change(self, **settings: Any) -> None:
        self.fit = replace(self.fit, **settings)
        self.loop.perform(lambda: refit(self.slots, self.fit, self.clock.now))

    def pool(self, port: int) -> Pool:
        return Pool(Backend("10.0.0.9", port), never, limit=9, idle_timeout=1, connect_timeout=1)


@pytest.fixture
def inn() -> Iterator[Inn]:
    inn = Inn()
    yield inn
    inn.loop.shut()
    assert inn.loop.mishaps == []


def test_more_places_are_used_at_once(inn: Inn) -> None:
    inn.guest("host")
    for name in "abc":
        inn.guest(name)
    inn.change(concurrency=3)
    assert inn.served == ["host", "a", "b"]
    assert (inn.slots.busy, inn.slots.room, inn.slots.waiting) == (3, 3, 1)


def test_of_fewer_places_none_is_given_before_there_are_few_enough(inn: Inn) -> None:
    inn.change(concurrency=3)
    guests = [inn.guest(name) for name in "abcd"]
    inn.change(concurrency=1)
    for guest in guests[:2]:
        inn.leave(guest)
        assert inn.served == ["a", "b", "c"]
    inn.leave(guests[2])
    assert inn.served == ["a", "b", "c", "d"]
    inn.leave(guests[3])
    assert inn.slots.busy == 0


def test_where_one_backend_has_too_many_another_is_used(inn: Inn) -> None:
    inn.change(concurrency=4)
    guests = [inn.guest(name) for name in "abcd"]
    (old,) = inn.slots.pools
    inn.change(pools=(old, inn.pool(1)), concurrency=2)
    assert not inn.is_full()
    more = [inn.guest(name) for name in "efg"]
    assert [guest.place for guest in more] == [inn.slots.pools[1]] * 2 + [None]
    assert inn.is_full()
    for guest in (*guests, *more):
        inn.leave(guest)
    assert [pool.busy for pool in inn.slots.pools] == [0, 0]
    assert inn.slots.busy == 0


def test_a_place_at_a_backend_that_is_gone_is_given_back_there(inn: Inn) -> None:
    guest = inn.guest("a")
    (old,) = inn.slots.pools
    inn.change(pools=(inn.pool(1),))
    assert (old.busy, inn.slots.busy) == (1, 0)
    other = inn.guest("b")
    assert other.place is inn.slots.pools[0]
    inn.change(concurrency=2)
    inn.leave(guest)
    assert (old.busy, inn.slots.busy) == (0, 1)
    inn.leave(other)
    assert inn.slots.busy == 0


def test_who_waits_keeps_its_turn_and_its_time(inn: Inn) -> None:
    host = inn.guest("host")
    first = inn.guest("first")
    inn.loop.pass_time(3.0)
    second = inn.guest("second")
    inn.change(max_length=0)
    assert inn.guest("refused").fault is Fault.OVERLOADED
    inn.loop.pass_time(2.5)
    assert [first.fault, second.fault] == [Fault.OVERLOADED, None]
    inn.leave(host)
    assert inn.served == ["host", "second"]


def test_a_shorter_wait_is_for_those_who_come_later(inn: Inn) -> None:
    inn.guest("host")
    guest = inn.guest("guest")
    inn.change(max_wait=0.1)
    inn.loop.pass_time(4.9)
    assert (guest.fault, inn.slots.waiting) == (None, 1)
    inn.loop.pass_time(0.2)
    assert guest.fault == Fault.OVERLOADED
    late = inn.guest("late")
    inn.loop.pass_time(0.2)
    assert late.fault is Fault.OVERLOADED
    assert inn.slots.max_wait == 0.1


def test_a_shorter_wait_holds_at_once_where_nobody_waits(inn: Inn) -> None:
    inn.change(max_wait=0.1)
    assert inn.slots.max_wait == 0.1


def test_the_last_of_several_waits_holds(inn: Inn) -> None:
    inn.guest("host")
    inn.guest("guest")
    inn.change(max_wait=0.1)
    inn.loop.pass_time(1.0)
    inn.change(max_wait=0.2)
    assert inn.slots.max_wait == WAIT
    inn.change(max_wait=7.0)
    assert inn.slots.max_wait == 7.0
    inn.loop.pass_time(20.0)
    assert inn.slots.max_wait == 7.0


def test_a_wait_that_gets_shorter_ends_for_those_who_came_meanwhile(inn: Inn) -> None:
    inn.guest("host")
    inn.guest("first")
    inn.change(max_wait=0.1)
    inn.loop.pass_time(4.8)
    second = inn.guest("second")
    inn.loop.pass_time(0.4)
    assert second.fault is Fault.OVERLOADED


def test_who_has_tried_all_that_is_left_is_told(inn: Inn) -> None:
    (old,) = inn.slots.pools
    inn.change(pools=(old, inn.pool(1)))
    inn.guest("there")
    inn.guest("here")
    moved = inn.guest("moved", tried=(old,))
    patient = inn.guest("patient")
    inn.change(pools=(old,))
    assert (moved.fault, patient.fault) == (Fault.NO_BACKEND, None)
    assert inn.slots.waiting == 1


def test_who_has_tried_what_is_gone_may_have_any_of_the_others(inn: Inn) -> None:
    (old,) = inn.slots.pools
    second, third = inn.pool(1), inn.pool(2)
    inn.change(pools=(old, second))
    host = inn.guest("old", tried=(second,))
    inn.guest("second", tried=(old,))
    moved = inn.guest("moved", tried=(old,))
    inn.change(pools=(second, third))
    assert moved.place is third
    inn.leave(host)
    assert old.busy == 0


def test_what_goes_on_at_once_is_not_in_the_middle_of_the_change(inn: Inn) -> None:
    inn.guest("host")
    inn.guest("guest")

    def change() -> list[str]:
        refit(inn.slots, replace(inn.fit, concurrency=2), inn.clock.now)
        return [*inn.served]

    assert inn.loop.perform(change) == ["host"]
    assert inn.served == ["host", "guest"]


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_changed_every_place_is_given_back(seed: int) -> None:
    dice = random.Random(seed)
    inn = Inn(backends=2, concurrency=2)
    spare = [*inn.slots.pools, *(inn.pool(port) for port in range(4))]
    everybody: list[Guest] = []
    for number in range(150):
        match dice.randrange(5):
            case 0 | 1:
                tried = tuple(dice.sample(inn.slots.pools, dice.randrange(len(inn.slots.pools))))
                everybody.append(inn.guest(str(number), tried=tried))
            case 2:
                there = [guest for guest in everybody if guest.place is not None]
                if there:
                    inn.leave(dice.choice(there))
            case 3:
                waiting = [g for g in everybody if g.walk is not None and g.place is None]
                if waiting:
                    inn.give_up(dice.choice(waiting))
            case _:
                inn.change(
                    pools=tuple(dice.sample(spare, dice.randint(1, 4))),
                    concurrency=dice.randint(1, 3),
                    max_wait=dice.choice((0.5, 5.0)),
                    max_length=dice.choice((1, 1000)),
                )
        there = [guest for guest in everybody if guest.place is not None]
        for pool in spare:
            assert pool.busy == sum(guest.place is pool for guest in there)
        assert inn.slots.busy == sum(pool.busy for pool in inn.slots.pools)
        waiting = [g for g in everybody if g.walk is not None and g.place is None]
        assert inn.slots.waiting == len(waiting)
        free = {p for p in inn.slots.pools if p.busy < inn.fit.concurrency}
        assert not any(free - set(guest._tried) for guest in waiting), "a free place is not used"
    inn.loop.pass_time(60.0)
    while there := [guest for guest in everybody if guest.place is not None]:
        inn.leave(there[0])
    assert (inn.slots.busy, inn.slots.waiting) == (0, 0)
    assert all(pool.busy == 0 for pool in spare)
    inn.loop.shut()
    assert inn.loop.mishaps == []
