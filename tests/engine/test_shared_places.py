"""Several workers give out the same places: exactly, in turn, and none is left unused."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Protocol, cast

import pytest

from gateway.core.allotting import Allotment
from gateway.core.backends import Backend
from gateway.core.faults import Fault, Refusal
from gateway.core.turns import SIZE, WORKERS
from gateway.engine.permits import LOOK, Permits, spot_of
from gateway.engine.places import Places
from gateway.engine.pools import Pool, Pooled
from gateway.engine.refitting import Fit, refit
from gateway.engine.shared_places import DividedPlaces, SharedPlaces, places_at
from gateway.engine.slots import Slots
from tests.engine.test_slots import Guest, Hotel, never
from tests.support.fakes import FakeClock, FakeLoop
from tests.support.grounds import Land
from tests.support.halls import FakeConnection


class Worker(Hotel):
    """One of several that have the same backends."""

    def __init__(self, town: Town, me: int) -> None:
        self.clock, self.loop = town.clock, town.loop
        self.served = town.served
        self.area = town.land.neighbour(me)
        self.permits = Permits(self.area)
        self.permits.adopt(Allotment(town.workers, town.numbers))
        self.concurrency = town.concurrency
        self.max_length = town.max_length
        self.pools = [
            Pool(backend, never, limit=9, idle_timeout=1, connect_timeout=1)
            for backend in town.backends
        ]
        self.slots = self.build(town.concurrency)

    def die(self) -> None:
        """Nothing that it has begun goes on."""
        self.loop.remove_reader(self.area.bell)
        for timer in (self.permits._timer, self.slots._timer):
            if timer is not None:
                timer.cancel()
        self.area.die()

    def refit(self, concurrency: int, pools: list[Pool] | None = None) -> None:
        """Another configuration is in force."""
        pools = self.pools if pools is None else pools
        backends = [pool.backend for pool in pools]
        permit = self.permits.at("diabetes", "blue", backends, concurrency)
        fit = Fit(tuple(pools), concurrency, 1.0, self.max_length, None, permit)
        self.loop.perform(lambda: refit(self.slots, fit, self.clock.now))

    def build(self, concurrency: int) -> Slots:
        backends = [pool.backend for pool in self.pools]
        return Slots(
            self.pools,
            concurrency=concurrency,
            max_wait=1.0,
            max_length=self.max_length,
            clock=self.clock,
            permit=self.permits.at("diabetes", "blue", backends, concurrency),
        )


class Town:
    """Workers that live on one event loop."""

    def __init__(self, workers: int, backends: int, concurrency: int, max_length: int) -> None:
        self.clock = FakeClock()
        self.loop = FakeLoop(self.clock)
        self.land = Land()
        self.workers = workers
        self.concurrency = concurrency
        self.max_length = max_length
        self.backends = [Backend("10.0.0.5", port) for port in range(1, backends + 1)]
        self.numbers = {spot_of("diabetes", "blue", b): n for n, b in enumerate(self.backends)}
        self.served: list[str] = []
        self.hotels = [Worker(self, me) for me in range(workers)]

    def settle(self) -> None:
        """Every call is heard, though no time passes."""
        for _ in range(2 + self.workers):
            self.loop.perform(lambda: None)

    def busy(self, backend: int) -> int:
        return sum(hotel.pools[backend].busy for hotel in self.hotels)

    def close(self) -> None:
        self.loop.shut()
        self.land.close()
        assert self.loop.mishaps == []


class Found(Protocol):
    def __call__(
        self,
        workers: int = 2,
        backends: int = 1,
        concurrency: int = 1,
        *,
        max_length: int = 1000,
    ) -> Town: ...


@pytest.fixture
def found() -> Iterator[Found]:
    towns: list[Town] = []

    def build(
        workers: int = 2, backends: int = 1, concurrency: int = 1, *, max_length: int = 1000
    ) -> Town:
        towns.append(Town(workers, backends, concurrency, max_length))
        return towns[-1]

    yield build
    for town in towns:
        town.close()


def shared(hotel: Hotel) -> SharedPlaces:
    places = hotel.slots._places
    assert isinstance(places, SharedPlaces)
    return places


def test_a_place_that_another_worker_has_is_waited_for(found: Found) -> None:
    first, second = found().hotels
    host = first.guest("host")
    guest = second.guest("guest")
    assert (guest.place, second.slots.waiting) == (None, 1)
    first.leave(host)
    assert guest.place is second.pools[0]
    assert (first.slots.busy, second.slots.busy, second.slots.room) == (0, 1, 1)


def test_workers_take_turns(found: Found) -> None:
    town = found(workers=3)
    hotels = town.hotels
    host = hotels[0].guest("host")
    guests = [hotels[me].guest(f"{me}{visit}", brief=False) for visit in "ab" for me in (0, 1, 2)]
    for _ in guests:
        hotel = next(hotel for hotel in hotels if hotel.slots.busy)
        guest = next(guest for guest in (host, *guests) if guest.place in hotel.pools)
        hotel.leave(guest)
    assert town.served == ["host", "1a", "2a", "0a", "1b", "2b", "0b"]


def test_alone_a_worker_keeps_its_place(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no other waits, the next of its own gets it without any call to the system."""
    town = found()
    hotel = town.hotels[0]
    host, guest = hotel.guest("host"), hotel.guest("guest")
    other = town.land.neighbour(1)
    monkeypatch.setattr(type(hotel.area), "unlock", lambda *_: pytest.fail("not needed"))
    hotel.leave(host)
    assert guest.place is hotel.pools[0]
    assert not other.lock(0, shared(hotel)._turns[hotel.pools[0]].held[0])
    monkeypatch.undo()
    hotel.leave(guest)
    assert not town.land.owners


def test_who_has_been_served_waits_no_longer(found: Found) -> None:
    """Or the next place would go round in vain, and the container be idle meanwhile."""
    town = found()
    first, second = town.hotels
    host = first.guest()
    first.guest()
    turns = shared(second)._turns[second.pools[0]]
    assert turns.others_wait()
    first.leave(host)
    assert not turns.others_wait()


def test_a_connection_with_nothing_to_say_is_closed_before_another_worker_comes(
    found: Found,
) -> None:
    """A container with one thread would wait for it, and we for the other worker."""
    first, second = found().hotels
    (pool,) = first.pools
    spare = FakeConnection(1)
    host = first.guest()
    first.guest()
    second.guest()
    pool._spare = cast(Pooled, spare)
    first.leave(host)
    assert spare.closed


def test_any_worker_may_have_all(found: Found) -> None:
    first, second = found(backends=2, concurrency=2).hotels
    guests = [first.guest() for _ in range(4)]
    assert [guest.place for guest in guests] == first.pools * 2
    waiting = second.guest()
    assert shared(second).are_all_taken
    first.leave(guests[1])
    assert waiting.place is second.pools[1]
    assert (first.slots.room, shared(first).own) == (4, 2)


def test_what_was_tried_in_vain_is_of_no_use(found: Found) -> None:
    town = found(backends=2)
    first, second = town.hotels
    guests = [first.guest(), first.guest()]
    waiting = second.guest(tried=(second.pools[0],))
    first.leave(guests[0])
    assert (waiting.place, town.busy(0)) == (None, 0)
    first.leave(guests[1])
    assert waiting.place is second.pools[1]
    assert second.guest(tried=tuple(second.pools)).fault is Fault.NO_BACKEND


def test_without_a_queue_there_is_a_place_or_there_is_none(found: Found) -> None:
    first, second = found(max_length=0).hotels
    host = first.guest()
    assert [second.guest().fault for _ in range(3)] == [Fault.OVERLOADED] * 3
    first.leave(host)
    assert first.guest().fault is None


def test_who_gives_up_waiting_delays_nobody(found: Found) -> None:
    town = found(workers=3)
    first, second, third = town.hotels
    host = first.guest()
    leaving, waiting = second.guest(), third.guest()
    second.give_up(leaving)
    first.leave(host)
    town.settle()
    assert waiting.place is third.pools[0]


def test_nobody_overtakes_a_guest_who_is_about_to_be_called(found: Found) -> None:
    first, second = found().hotels
    host, waiting = first.guest("host"), second.guest("waiting")

    def leave_and_come() -> None:
        host.leave()
        assert first.slots.take(()) is None
        assert second.slots.take(()) is None

    first.loop.perform(leave_and_come)
    assert waiting.place is second.pools[0]


def test_a_place_of_a_worker_that_died_is_found(found: Found) -> None:
    town = found()
    first, second = town.hotels
    first.guest()
    waiting = second.guest()
    first.loop.perform(first.die)
    town.loop.pass_time(3 * LOOK)
    assert waiting.place is second.pools[0]


def test_no_connection_is_opened_for_who_is_next(found: Found) -> None:
    """Another worker may be next, and a container with one thread would wait for this one."""
    (hotel, other) = found().hotels
    (pool,) = hotel.pools
    pool.closes = True
    host = hotel.guest()
    hotel.guest()
    other.guest()
    hotel.leave(host)
    assert pool.tally.connects == 0


def test_a_deployment_that_comes_back_shares_with_what_is_left_of_it(found: Found) -> None:
    """It was removed and added again while it was being called: two queues for one backend."""
    town = found()
    hotel = town.hotels[0]
    old = hotel.slots
    host, last = hotel.guest("host"), hotel.guest("last")
    hotel.slots = hotel.build(1)
    newer = hotel.guest("new")
    assert (old.waiting, hotel.slots.waiting) == (1, 1)
    for guest in (host, last):
        assert guest.place is not None
        assert newer.place is None
        hotel.loop.perform(lambda: old.give_back(hotel.pools[0]))
        town.settle()
    assert newer.place is hotel.pools[0]


def test_of_fewer_places_none_is_given_before_there_are_few_enough(found: Found) -> None:
    town = found(concurrency=3)
    first, second = town.hotels
    guests = [first.guest() for _ in range(5)]
    for hotel in town.hotels:
        hotel.refit(1)
    assert [guest.place is None for guest in guests] == [False] * 3 + [True] * 2
    for guest in guests[:2]:
        first.leave(guest)
        assert first.slots.waiting == 2
    first.leave(guests[2])
    assert (first.slots.busy, first.slots.waiting, second.slots.take(())) == (1, 1, None)
    first.leave(guests[3])
    assert guests[4].place is not None


def test_more_places_are_used_by_who_waits(found: Found) -> None:
    first, second = found().hotels
    first.guest()
    waiting = [second.guest() for _ in range(3)]
    first.refit(3)
    second.refit(3)
    assert [guest.place is None for guest in waiting] == [False, False, True]


def test_who_is_at_a_backend_that_is_gone_gives_it_back(found: Found) -> None:
    town = found(backends=2)
    (hotel, other) = town.hotels
    guests = [hotel.guest(), hotel.guest()]
    waiting = hotel.guest()
    hotel.refit(1, hotel.pools[1:])
    hotel.refit(1, hotel.pools[1:])
    hotel.leave(guests[0])
    assert (waiting.place, other.slots.take(())) == (None, other.pools[0])
    hotel.leave(guests[1])
    assert waiting.place is hotel.pools[1]


@pytest.mark.parametrize(("before", "after"), [(20, 2), (2, 20)])
def test_places_are_divided_or_shared_from_now_on(found: Found, before: int, after: int) -> None:
    town = found(concurrency=before)
    hotels = town.hotels
    guests = [(hotel, hotel.guest()) for _ in range(12) for hotel in hotels]
    for hotel in hotels:
        hotel.refit(after)
    assert isinstance(hotels[0].slots._places, SharedPlaces) == (after == 2)
    assert len(town.land.owners) == (2 if after == 2 else 0)
    many = [hotel.slots.busy for hotel in hotels]
    for hotel, guest in guests[: 16 if before == 20 else 0]:
        assert guest.place is not None
        hotel.leave(guest)
    town.settle()
    assert many == [10, 10]
    assert sum(hotel.slots.busy for hotel in hotels) >= 2
    for _ in range(12):
        for hotel, guest in guests:
            if guest.place is not None:
                hotel.leave(guest)
        town.settle()
    assert [hotel.slots.busy + hotel.slots.waiting for hotel in hotels] == [0, 0]
    assert not town.land.owners


def test_many_places_are_divided(found: Found) -> None:
    first, second = found(concurrency=17).hotels
    for hotel, part in ((first, 8), (second, 9)):
        assert isinstance(hotel.slots._places, DividedPlaces)
        guests = [hotel.guest() for _ in range(part + 1)]
        assert [guest.place is None for guest in guests] == [False] * part + [True]
        assert (hotel.slots.busy, hotel.slots.room) == (part, 17)


def test_who_has_no_neighbours_shares_nothing() -> None:
    pool = Pool(Backend("10.0.0.5", 1), never, limit=9, idle_timeout=1, connect_timeout=1)
    assert type(places_at([pool], 1, None, (), lambda: None)) is Places


@pytest.mark.parametrize("seed", range(120))
def test_whatever_happens_nobody_waits_while_a_place_is_free(found: Found, seed: int) -> None:
    """Over all workers, and though no time passes. Some of them die and are replaced."""
    draw = random.Random(seed)
    town = found(
        draw.randint(2, 4), draw.randint(1, 3), draw.randint(1, 3), max_length=draw.choice([2, 50])
    )
    deaths = draw.random() < 0.5
    guests: list[tuple[Worker, Guest]] = []

    def look() -> None:
        town.settle()
        for number in range(len(town.backends)):
            assert town.busy(number) <= town.concurrency
            assert town.busy(number) == sum(owner[0] == number for owner in town.land.owners)
            for hotel, guest in guests:
                if guest.walk is not None and hotel.pools[number] not in guest._tried:
                    assert town.busy(number) == town.concurrency, "nobody waits"

    for visit in range(100):
        act = draw.random()
        inside = [(hotel, guest) for hotel, guest in guests if guest.place is not None]
        queued = [(hotel, guest) for hotel, guest in guests if guest.walk is not None]
        if act < 0.5:
            hotel = draw.choice(town.hotels)
            tried = tuple(pool for pool in hotel.pools if draw.random() < 0.1)
            guests.append((hotel, hotel.guest(str(visit), tried=tried, brief=draw.random() < 0.2)))
        elif act < 0.75 and inside:
            hotel, guest = draw.choice(inside)
            hotel.leave(guest)
        elif act < 0.85 and queued:
            hotel, guest = draw.choice(queued)
            hotel.give_up(guest)
        elif act < 0.88 and deaths:
            me = draw.randrange(len(town.hotels))
            dead = town.hotels[me]
            town.loop.perform(dead.die)
            guests = [(hotel, guest) for hotel, guest in guests if hotel is not dead]
            town.land.neighbour(me).clear(me, len(town.backends))
            town.hotels[me] = Worker(town, me)
        else:
            town.loop.pass_time(draw.choice([0.01, 0.3, 1.1]))
        look()
    while inside := [(hotel, guest) for hotel, guest in guests if guest.place is not None]:
        inside[0][0].leave(inside[0][1])
        look()
    assert all(guest.walk is None for _, guest in guests)
    assert not town.land.owners
    assert [hotel.slots.busy + hotel.slots.waiting for hotel in town.hotels] == [0] * town.workers


def test_all_refused_by_all_backends_is_an_error(found: Found) -> None:
    (hotel, _) = found().hotels
    with pytest.raises(Refusal):
        shared(hotel).take(tuple(hotel.pools))


@pytest.mark.parametrize("seed", range(80))
def test_whatever_is_configured_meanwhile_the_books_balance(found: Found, seed: int) -> None:
    """Nobody waits while a place is free, and all have places that are or were configured."""
    draw = random.Random(seed)
    town = found(2, 3, 2)
    pools = [0, 1, 2]
    guests: list[tuple[Worker, Guest]] = []
    for visit in range(80):
        act = draw.random()
        inside = [(hotel, guest) for hotel, guest in guests if guest.place is not None]
        hotel = draw.choice(town.hotels)
        if act < 0.5:
            guests.append((hotel, hotel.guest(str(visit))))
        elif act < 0.8 and inside:
            hotel, guest = draw.choice(inside)
            hotel.leave(guest)
        elif act < 0.9:
            town.concurrency = draw.randint(1, 4)
            pools = sorted(draw.sample([0, 1, 2], draw.randint(1, 3)))
            for each in town.hotels:
                each.refit(town.concurrency, [each.pools[number] for number in pools])
        else:
            town.loop.pass_time(draw.choice([0.05, 1.1]))
        town.settle()
        town.loop.pass_time(3 * LOOK)  # more places are found by looking
        town.settle()
        waiting = sum(hotel.slots.waiting for hotel in town.hotels)
        for number in range(3):
            busy = town.busy(number)
            taken = [index for each, index in town.land.owners if each == number]
            assert busy == len(taken) <= 4
            surplus = number * SIZE + WORKERS + town.concurrency
            assert number not in pools or busy <= town.concurrency or max(taken) >= surplus
            assert not waiting or number not in pools or busy >= town.concurrency
    while inside := [(hotel, guest) for hotel, guest in guests if guest.place is not None]:
        inside[0][0].leave(inside[0][1])
        town.settle()
    assert not town.land.owners
    assert [hotel.slots.busy + hotel.slots.waiting for hotel in town.hotels] == [0, 0]
