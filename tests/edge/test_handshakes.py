"""Handshakes are bounded in number and time, and take turns with everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from gateway.core.statistics import ConnectionTally
from gateway.edge.handshakes import COURTESY, LEAST, PARTING, SLICE, Handshakes
from gateway.edge.sides import ServerSide
from tests.support.fakes import FakeClock, FakeLoop
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import ClientSide, Script, Setup
from tests.support.tls import ASKING, SERVING, FarEnd, serving

SCORE = request(key=KEY)


class Guest:
    """A connection whose handshake takes a number of steps of some length."""

    def __init__(self, clock: FakeClock, cost: float = 0.0, due: float = 1e9) -> None:
        self.due = due
        self.steps: list[float] = []
        self.aborted = False
        self.then: Callable[[], None] = lambda: None
        self._clock = clock
        self._cost = cost

    def step(self) -> None:
        self.steps.append(self._clock.now)
        self._clock.advance(self._cost)
        self.then()

    def abort(self) -> None:
        self.aborted = True


class Hall:
    """Handshakes of guests."""

    def __init__(self, limit: int = 100) -> None:
        self.clock = FakeClock()
        self.loop = FakeLoop(self.clock)
        self.tally = ConnectionTally(limit)
        self.handshakes = Handshakes(self.tally, self.clock, self._changed)

    def _changed(self) -> None:
        self.tally.open = len(self.handshakes)

    def guest(self, cost: float = 0.0, due: float = 1e9) -> Guest:
        guest = Guest(self.clock, cost, due)
        self.handshakes.arrived(cast(ServerSide, guest))
        return guest

    def knock(self, *guests: Guest) -> None:
        for guest in guests:
            self.handshakes.knocked(cast(ServerSide, guest))

    def counted(self) -> dict[str, int]:
        return {name: count for name, count in self.tally.handshakes.items() if count}


@pytest.fixture
def hall() -> Hall:
    return Hall()


def test_cheap_steps_are_made_together_in_the_order_of_knocking(hall: Hall) -> None:
    guests = [hall.guest() for _ in range(5)]
    order: list[int] = []
    for number, guest in enumerate(guests):
        guest.then = lambda number=number: order.append(number)  # type: ignore[misc]
    hall.loop.perform(lambda: hall.knock(*reversed(guests), guests[0]))
    assert order == [4, 3, 2, 1, 0]
    hall.loop.shut()


def test_a_dear_step_is_the_only_one_in_its_turn(hall: Hall) -> None:
    guests = [hall.guest(cost=SLICE * 2) for _ in range(4)]
    turns: list[int] = []

    def count(left: int) -> None:
        turns.append(sum(len(guest.steps) for guest in guests))
        if left:
            hall.loop.call_soon(count, left - 1)

    def begin() -> None:
        hall.knock(*guests)
        hall.loop.call_soon(count, 3)

    hall.loop.perform(begin)
    assert turns == [1, 2, 3, 4]
    hall.loop.shut()


def test_who_knocks_again_while_waiting_gets_one_turn(hall: Hall) -> None:
    guest = hall.guest()
    hall.loop.perform(lambda: hall.knock(guest, guest))
    assert len(guest.steps) == 1
    hall.loop.perform(lambda: hall.knock(guest))
    assert len(guest.steps) == 2
    assert repr(hall.handshakes) == "<Handshakes, 1 in progress, 0 knocking>"
    hall.loop.shut()


def test_the_one_that_has_kept_us_waiting_longest_makes_room(hall: Hall) -> None:
    first, second, *others = [hall.guest() for _ in range(max(LEAST, 25))]
    hall.loop.perform(lambda: hall.knock(first))  # it is not the oldest any more
    newcomer = hall.guest()
    assert second.aborted
    assert not any(guest.aborted for guest in (first, newcomer, *others))
    assert hall.counted() == {"displaced": 1}
    assert len(hall.handshakes) == 25
    hall.loop.shut()


def test_nobody_who_waits_for_us_makes_room(hall: Hall) -> None:
    guests = [hall.guest() for _ in range(25)]
    newcomers: list[Guest] = []

    def crowd() -> None:
        hall.knock(*guests)
        newcomers.append(hall.guest())

    hall.loop.perform(crowd)
    assert newcomers[0].aborted
    assert not any(guest.aborted for guest in guests)
    hall.loop.shut()


def test_beyond_all_limits_connections_are_cut_off() -> None:
    hall = Hall(limit=10)
    hall.tally.limit = -COURTESY
    guest = hall.guest()
    assert guest.aborted
    assert hall.tally.refused == 1
    assert (len(hall.handshakes), hall.counted()) == (0, {})
    hall.loop.shut()


def test_time_runs_out_for_those_who_are_slow_and_for_those_we_are_slow_with(hall: Hall) -> None:
    slow, knocking, later = hall.guest(due=1005.0), hall.guest(due=1005.0), hall.guest(due=1006.0)
    hall.clock.now = 1005.0

    def act() -> None:
        hall.knock(knocking)
        hall.handshakes.expire(hall.clock.now)

    hall.loop.perform(act)
    assert (slow.aborted, knocking.aborted, later.aborted) == (True, True, False)
    assert knocking.steps == []
    assert hall.counted() == {"timed_out": 2}
    hall.loop.shut()


def test_one_that_failed_may_not_stay_for_long(hall: Hall) -> None:
    guest = hall.guest()
    hall.handshakes.ended(cast(ServerSide, guest), "failed")
    assert (guest.aborted, len(hall.handshakes)) == (False, 1)
    hall.handshakes.expire(hall.clock.now + PARTING - 0.1)
    assert not guest.aborted
    hall.handshakes.expire(hall.clock.now + PARTING)
    assert (guest.aborted, len(hall.handshakes)) == (True, 0)
    assert hall.counted() == {"failed": 1}
    hall.loop.shut()


def test_one_that_leaves_is_counted_once(hall: Hall) -> None:
    guest, failed = hall.guest(), hall.guest()
    hall.handshakes.ended(cast(ServerSide, failed), "failed")
    for who in (guest, failed, guest):
        hall.handshakes.gone(cast(ServerSide, who))
    assert hall.counted() == {"failed": 1, "left": 1}
    assert len(hall.handshakes) == 0
    hall.loop.shut()


def test_all_can_be_broken_off(hall: Hall) -> None:
    guests = [hall.guest() for _ in range(3)]
    hall.handshakes.ended(cast(ServerSide, guests[0]), "failed")
    assert hall.handshakes.abort() == 3
    assert all(guest.aborted for guest in guests)
    hall.loop.shut()


# In the gateway.


def greet(script: Script) -> tuple[ClientSide, FarEnd]:
    side = script.client()
    return side, FarEnd(script.loop, side.transport, ASKING)


def test_t14_an_idle_handshake_is_ended_and_nobody_else_is() -> None:
    with Script(Setup(tls=SERVING)) as script:
        silent, _ = greet(script)
        slow, _ = greet(script)
        _, good = greet(script)
        good.shakes_hands()
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(30)
        drip = iter(bytes([byte]) for byte in hello)
        for _ in range(20):
            script.wait(0.3)
            if slow.fate == "open":
                slow.says(next(drip))
        assert (silent.fate, slow.fate) == ("aborted", "aborted")
        tally = script.listener.tally
        assert tally.handshakes["timed_out"] == 2
        good.says(SCORE)
        script.container().answers()
        assert good.heard().startswith(b"HTTP/1.1 200 ")


def test_t17_failing_handshakes_leave_nothing_behind() -> None:
    with Script(Setup(tls=SERVING)) as script:
        for _ in range(50):
            side, _ = greet(script)
            side.says(b"GET / HTTP/1.1\r\n\r\n")
            assert side.fate == "closed"
        for _ in range(50):
            side, _ = greet(script)
            side.breaks()
        tally = script.listener.tally
        assert (tally.handshakes["failed"], tally.handshakes["left"], tally.open) == (50, 50, 0)


def test_connections_in_handshake_count_among_the_others() -> None:
    with Script(Setup(tls=SERVING, connections=2)) as script:
        _, first = greet(script)
        first.shakes_hands()
        greet(script)
        assert script.listener.tally.open == 2
        _, third = greet(script)
        third.shakes_hands()
        assert b" 503 " in third.heard()
        assert script.listener.tally.refused == 1


def test_a_new_certificate_is_for_new_connections() -> None:
    other = serving()
    with Script(Setup(tls=SERVING)) as script:
        _, old = greet(script)
        old.shakes_hands()
        script.listener.tls = other
        _, new = greet(script)
        new.shakes_hands()
        for far in (old, new):
            far.says(SCORE)
            script.container().answers() if far is old else script.containers[0].answers()
            assert far.heard().startswith(b"HTTP/1.1 200 ")
