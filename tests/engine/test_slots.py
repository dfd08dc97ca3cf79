"""Places are never given twice, nobody overtakes, and waiting has an end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol, cast

import pytest

from gateway.core.backends import Backend
from gateway.core.faults import Fault, Refusal
from gateway.core.lanes import Ticket
from gateway.engine.exchange import Exchange
from gateway.engine.pools import Pool, Pooled
from gateway.engine.slots import Slots
from gateway.engine.walking import interrupt, park, start
from tests.support.fakes import FakeClock, FakeLoop


async def never(pool: Pool) -> Pooled:
    await asyncio.Event().wait()
    raise AssertionError


class Guest:
    """A walk that wants a place."""

    def __init__(
        self, hotel: Hotel, name: str, tried: tuple[Pool, ...], brief: bool, fails: bool
    ) -> None:
        self.name = name
        self.request_id = name.encode()
        self.deadline = hotel.clock.now + 60.0
        self.queue_seconds = 0.0
        self.custody: object = None
        self.walk: Coroutine[None, Any, None] | None = None
        self.place: Pool | None = None
        self.fault: Fault | None = None
        self._hotel = hotel
        self._tried = tried
        self._brief = brief
        self._fails = fails

    def __repr__(self) -> str:
        return self.name

    async def visit(self) -> None:
        slots = self._hotel.slots
        try:
            self.place = slots.take(self._tried)
            if self.place is None:
                slots.wait(cast(Exchange, self), self._tried)
                self.place = await park()
        except Refusal as refusal:
            self.fault = refusal.fault
            slots.abandon(cast(Exchange, self))
            return
        self._hotel.served.append(self.name)
        if self._brief:
            self.leave()
        if self._fails:
            raise RuntimeError("unforeseen")

    def leave(self) -> None:
        place, self.place = self.place, None
        assert place is not None
        self._hotel.slots.give_back(place)


class Hotel:
    """The slots of a deployment on a fake loop."""

    def __init__(
        self,
        backends: int,
        concurrency: int,
        max_wait: float,
        max_length: int,
    ) -> None:
        self.clock = FakeClock()
        self.loop = FakeLoop(self.clock)
        self.pools = [
            Pool(Backend("10.0.0.5", port), never, limit=9, idle_timeout=1, connect_timeout=1)
            for port in range(1, backends + 1)
        ]
        self.slots = Slots(
            self.pools,
            concurrency=concurrency,
            max_wait=max_wait,
            max_length=max_length,
            clock=self.clock,
        )
        #: Names of those who got a place, in that order.
        self.served: list[str] = []

    def guest(
        self,
        name: str = "",
        *,
        tried: tuple[Pool, ...] = (),
        brief: bool = False,
        fails: bool = False,
    ) -> Guest:
        guest = Guest(self, name, tried, brief, fails)
        self.loop.perform(lambda: start(guest, guest.visit()))
        return guest

    def leave(self, guest: Guest) -> None:
        self.loop.perform(guest.leave)

    def give_up(self, guest: Guest) -> None:
        self.loop.perform(lambda: interrupt(guest, Refusal(Fault.CLIENT_GONE)))


class Build(Protocol):
    def __call__(
        self,
        backends: int = 1,
        concurrency: int = 1,
        *,
        max_wait: float = 0.5,
        max_length: int = 1000,
    ) -> Hotel: ...


@pytest.fixture
def build() -> Iterator[Build]:
    hotels: list[Hotel] = []

    def open_one(
        backends: int = 1, concurrency: int = 1, *, max_wait: float = 0.5, max_length: int = 1000
    ) -> Hotel:
        hotels.append(Hotel(backends, concurrency, max_wait, max_length))
        return hotels[-1]

    yield open_one
    for hotel in hotels:
        hotel.loop.shut()
        assert hotel.loop.mishaps == []


def test_backends_take_turns(build: Build) -> None:
    hotel = build(backends=3, concurrency=2)
    guests = [hotel.guest() for _ in range(6)]
    assert [guest.place for guest in guests] == hotel.pools * 2
    assert repr(hotel.slots) == "<Slots, 6 of 6 taken, 0 waiting>"


def test_a_full_backend_is_passed_over(build: Build) -> None:
    hotel = build(backends=2)
    first, second = hotel.guest(), hotel.guest()
    hotel.leave(second)
    assert hotel.guest().place is hotel.pools[1]
    assert first.place is hotel.pools[0]


def test_who_comes_first_is_served_first(build: Build) -> None:
    hotel = build()
    host = hotel.guest("host")
    guests = [hotel.guest(name) for name in "abc"]
    assert hotel.slots.waiting == 3
    hotel.leave(host)
    assert hotel.served == ["host", "a"]
    hotel.leave(guests[0])
    hotel.leave(guests[1])
    assert hotel.served == ["host", "a", "b", "c"]


def test_what_is_of_no_use_to_those_who_wait_is_for_others(build: Build) -> None:
    hotel = build(backends=2)
    dead, alive = hotel.pools
    there, late = hotel.guest("there"), hotel.guest("late")
    assert (there.place, late.place) == (dead, alive)
    moving = hotel.guest("moving", tried=(dead,))
    hotel.leave(there)
    assert hotel.guest("newcomer").place is dead
    assert hotel.slots.waiting == 1
    hotel.leave(late)
    assert moving.place is alive
    assert hotel.served == ["there", "late", "newcomer", "moving"]


def test_who_has_tried_in_vain_is_served_before_all_others(build: Build) -> None:
    hotel = build(backends=2)
    guests = [hotel.guest("x"), hotel.guest("y")]
    hotel.guest("a")
    hotel.guest("moving", tried=(hotel.pools[0],))
    hotel.leave(guests[1])
    assert hotel.served == ["x", "y", "moving"]
    hotel.leave(guests[0])
    assert hotel.served == ["x", "y", "moving", "a"]


def test_those_who_have_tried_in_vain_are_served_in_turn_too(build: Build) -> None:
    hotel = build(backends=3)
    first, second, third = hotel.pools
    guests = [hotel.guest(name) for name in "xyz"]
    hotel.guest("a", tried=(first,))
    hotel.loop.pass_time(0.01)
    hotel.guest("b", tried=(second, first))
    hotel.loop.pass_time(0.01)
    hotel.guest("c", tried=(first,))
    hotel.loop.pass_time(0.01)
    hotel.guest("d", tried=(first, second))
    hotel.leave(guests[1])
    assert hotel.served == ["x", "y", "z", "a"]
    hotel.leave(guests[2])
    assert hotel.served == ["x", "y", "z", "a", "b"]
    hotel.leave(guests[0])
    assert hotel.served == ["x", "y", "z", "a", "b"]
    assert (second.busy, third.busy, hotel.slots.waiting) == (1, 1, 2)


def test_who_has_tried_in_vain_may_wait_as_long_as_others(build: Build) -> None:
    hotel = build(backends=2, max_wait=0.5)
    hotel.guest("x")
    hotel.guest("y")
    old = hotel.guest("old")
    hotel.loop.pass_time(0.4)
    moving = hotel.guest("moving", tried=(hotel.pools[0],))
    hotel.loop.pass_time(0.2)
    assert (old.fault, moving.fault) == (Fault.OVERLOADED, None)
    hotel.loop.pass_time(0.4)
    assert moving.fault is Fault.OVERLOADED
    assert hotel.slots.tally.wait.total == pytest.approx(1.0, abs=0.01)


def test_a_guest_whose_end_fails_harms_no_other(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    hotel = build()
    host = hotel.guest("host")
    hotel.guest("failing", brief=True, fails=True)
    other = hotel.guest("other")
    hotel.leave(host)
    assert (host.place, other.place) == (None, hotel.pools[0])
    assert "request failing failed at its end" in caplog.text


def test_a_guest_who_fails_when_its_time_is_up_harms_no_other(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    hotel = build()
    hotel.guest("host")
    failing, other = hotel.guest("failing"), hotel.guest("other")

    async def fail() -> None:
        try:
            await park()
        except Refusal:
            raise RuntimeError("unforeseen") from None

    assert failing.walk is not None
    failing.walk.close()
    start(failing, fail())
    hotel.loop.pass_time(0.6)
    assert (hotel.slots.waiting, other.fault) == (0, Fault.OVERLOADED)
    assert "request failing failed at its end" in caplog.text


def test_an_empty_queue_needs_no_timer(build: Build) -> None:
    hotel = build(max_wait=0.5)
    host = hotel.guest("host")
    hotel.guest("brief", brief=True)
    assert hotel.slots._timer is not None
    hotel.leave(host)
    hotel.loop.pass_time(0.6)
    assert hotel.slots._timer is None


def test_who_has_tried_all_backends_is_refused(build: Build) -> None:
    hotel = build(backends=2)
    assert hotel.guest(tried=tuple(hotel.pools)).fault is Fault.NO_BACKEND
    assert hotel.slots.busy == 0


def test_who_gives_up_leaves_no_gap(build: Build) -> None:
    hotel = build()
    host = hotel.guest("host")
    guests = [hotel.guest(name) for name in "abc"]
    hotel.give_up(guests[1])
    hotel.leave(host)
    hotel.leave(guests[0])
    assert hotel.served == ["host", "a", "c"]
    assert guests[1].fault is Fault.CLIENT_GONE


def test_waiting_has_an_end(build: Build) -> None:
    hotel = build(max_wait=0.5)
    hotel.guest("host")
    first = hotel.guest("first")
    hotel.loop.pass_time(0.3)
    second = hotel.guest("second")
    hotel.loop.pass_time(0.19)
    assert (first.fault, second.fault) == (None, None)
    hotel.loop.pass_time(0.02)
    assert (first.fault, second.fault) == (Fault.OVERLOADED, None)
    hotel.loop.pass_time(0.3)
    assert second.fault is Fault.OVERLOADED
    assert hotel.slots.waiting == 0
    third = hotel.guest("third")
    hotel.loop.pass_time(0.51)
    assert third.fault is Fault.OVERLOADED


def test_the_queue_has_an_end(build: Build) -> None:
    hotel = build(max_length=2)
    host = hotel.guest("host")
    waiting = [hotel.guest("a"), hotel.guest("b")]
    assert hotel.guest("c").fault is Fault.OVERLOADED
    assert [guest.fault for guest in waiting] == [None, None]
    hotel.leave(host)
    assert hotel.guest("d").fault is None
    assert hotel.slots.waiting == 2


def test_without_a_queue_there_is_a_place_or_there_is_none(build: Build) -> None:
    hotel = build(max_length=0)
    host = hotel.guest()
    assert hotel.guest().fault is Fault.OVERLOADED
    hotel.leave(host)
    assert hotel.guest().place is hotel.pools[0]


def test_a_thousand_brief_visits_are_no_thousand_calls_deep(build: Build) -> None:
    hotel = build(max_length=5000)
    host = hotel.guest("host")
    for _ in range(5000):
        hotel.guest("brief", brief=True)
    hotel.leave(host)
    assert len(hotel.served) == 5001
    assert (hotel.slots.busy, hotel.slots.waiting) == (0, 0)


def test_how_long_was_waited_is_counted(build: Build) -> None:
    hotel = build(max_wait=5)
    host = hotel.guest()
    hotel.guest()
    other = hotel.guest()
    hotel.loop.pass_time(0.2)
    hotel.give_up(other)
    hotel.loop.pass_time(0.2)
    hotel.leave(host)
    wait = hotel.slots.tally.wait
    assert sum(wait.counts) == 2
    assert wait.total == pytest.approx(0.6)


def waiting_again(guest: Guest, deadline: float) -> Ticket[Exchange]:
    """Of a guest who was on its way with others, and is to wait again."""

    async def wait() -> None:
        try:
            guest.place = await park()
        except Refusal as refusal:
            guest.fault = refusal.fault
            return
        guest._hotel.served.append(guest.name)

    start(guest, wait())
    return Ticket(cast(Exchange, guest), 0.0, deadline)


def absent(hotel: Hotel, name: str) -> Guest:
    return Guest(hotel, name, (), brief=False, fails=False)


def test_who_is_put_back_is_served_at_its_old_place(build: Build) -> None:
    hotel = build()
    host = hotel.guest("host")
    waiting = []
    for name in "ac":
        waiting.append(hotel.guest(name))
        hotel.loop.pass_time(0.2)
    back = [absent(hotel, "b"), absent(hotel, "d")]
    start_of = hotel.clock.now - 0.4
    tickets = [
        waiting_again(back[0], start_of + 60.1),
        waiting_again(back[1], start_of + 60.3),
    ]
    hotel.loop.perform(lambda: hotel.slots.put_back(tickets, ()))
    assert hotel.slots.waiting == 4
    hotel.leave(host)
    for guest in (waiting[0], back[0], waiting[1]):
        hotel.leave(guest)
    assert hotel.served == ["host", "a", "b", "c", "d"]


def test_who_is_put_back_may_wait_anew(build: Build) -> None:
    hotel = build(max_wait=0.5)
    hotel.guest("host")
    hotel.loop.pass_time(0.4)
    back = absent(hotel, "back")
    hotel.loop.perform(lambda: hotel.slots.put_back([waiting_again(back, hotel.clock.now + 1)], ()))
    hotel.loop.pass_time(0.4)
    assert back.fault is None
    hotel.loop.pass_time(0.2)
    assert back.fault is Fault.OVERLOADED


def test_who_is_put_back_finds_a_free_place(build: Build) -> None:
    hotel = build(backends=2)
    back = absent(hotel, "back")
    tickets = [waiting_again(back, hotel.clock.now + 1)]
    hotel.loop.perform(lambda: hotel.slots.put_back(tickets, hotel.pools[:1]))
    assert back.place is hotel.pools[1]
    assert hotel.slots.waiting == 0


def test_who_is_put_back_without_a_backend_left_is_told(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    hotel = build(backends=2)
    back = [absent(hotel, "a"), absent(hotel, "b")]
    tickets = [waiting_again(guest, hotel.clock.now + 1) for guest in back]
    failing = absent(hotel, "failing")

    async def fail() -> None:
        try:
            await park()
        except Refusal:
            raise RuntimeError("unforeseen") from None

    start(failing, fail())
    tickets.insert(1, Ticket(cast(Exchange, failing), 0.0, hotel.clock.now + 1))
    hotel.loop.perform(lambda: hotel.slots.put_back(tickets, hotel.pools))
    assert [guest.fault for guest in back] == [Fault.NO_BACKEND] * 2
    assert (hotel.slots.busy, hotel.slots.waiting) == (0, 0)
    assert "request failing failed at its end" in caplog.text


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_the_books_balance(build: Build, seed: int) -> None:
    """Every guest ends in one way, no place is given twice, and nobody waits while one is free."""
    draw = random.Random(seed)
    hotel = build(
        draw.randint(1, 3), draw.randint(1, 3), max_wait=1.0, max_length=draw.choice([2, 50])
    )
    guests: list[Guest] = []
    for number in range(120):
        act = draw.random()
        inside = [guest for guest in guests if guest.place is not None]
        queued = [g for g in guests if g.place is None and g.fault is None and g.walk is not None]
        if act < 0.5:
            tried = tuple(p for p in hotel.pools if draw.random() < 0.1)
            guests.append(hotel.guest(str(number), tried=tried, brief=draw.random() < 0.2))
        elif act < 0.75 and inside:
            hotel.leave(draw.choice(inside))
        elif act < 0.85 and queued:
            hotel.give_up(draw.choice(queued))
        else:
            hotel.loop.pass_time(draw.choice([0.01, 0.3, 1.1]))
        taken = [guest.place for guest in guests if guest.place is not None]
        for pool in hotel.pools:
            assert pool.busy == taken.count(pool) <= hotel.slots.concurrency
        queued = [g for g in guests if g.walk is not None]
        assert hotel.slots.waiting == len(queued) <= hotel.slots.max_length
        for guest in queued:
            useful = [pool for pool in hotel.pools if pool not in guest._tried]
            assert all(pool.busy == hotel.slots.concurrency for pool in useful)
    while any(guest.place is not None for guest in guests):
        hotel.leave(next(guest for guest in guests if guest.place is not None))
        hotel.loop.pass_time(0.01)
    assert (hotel.slots.busy, hotel.slots.waiting) == (0, 0)
    assert all(guest.walk is None for guest in guests)


@pytest.mark.parametrize("waiting", [0, 1])
def test_while_somebody_waits_there_is_a_connection_for_the_next(
    build: Build, waiting: int
) -> None:
    hotel = build()
    (pool,) = hotel.pools
    pool.closes = True
    host = hotel.guest("host")
    for _ in range(waiting):
        hotel.guest("next")
    assert pool.tally.connects == waiting
    hotel.leave(host)
    assert pool.open == waiting
