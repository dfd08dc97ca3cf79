"""Connections to a backend are bounded, reused and counted right; who waits is served in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from gateway.core.faults import Fault
from gateway.engine.pools import Pooled
from tests.support.halls import CONNECT, IDLE, FakeConnection, Hall


@pytest.fixture
def hall() -> Iterator[Hall]:
    hall = Hall()
    yield hall
    hall.loop.shut()
    assert hall.loop.mishaps == []


# Waiting.


def test_who_came_first_is_served_first(hall: Hall) -> None:
    guests = [hall.guest(name) for name in "abcd"]
    assert len(hall.dials) == 2
    first, second = hall.connect(), hall.connect()
    assert [guest.got for guest in guests] == [first, second, None, None]
    assert repr(hall.pool) == "<Pool 10.0.0.5:5001: 2 open, 0 idle, 2 waiting>"
    hall.release(second)
    hall.release(first)
    assert [guest.got for guest in guests] == [first, second, second, first]


def test_a_connection_that_comes_free_serves_before_one_that_is_being_opened(hall: Hall) -> None:
    (connection,) = hall.idle(1)
    assert hall.take() is connection
    guest = hall.guest()
    assert len(hall.dials) == 1
    hall.release(connection)
    assert guest.got is connection


def test_no_more_connections_are_opened_than_are_waited_for(hall: Hall) -> None:
    first = hall.guest()
    assert (len(hall.dials), hall.pool.open) == (1, 1)
    second = hall.guest()
    assert (len(hall.dials), hall.pool.open) == (2, 2)
    third = hall.guest()
    assert (len(hall.dials), hall.pool.open) == (2, 2)
    assert (first.got, second.got, third.got) == (None, None, None)


def test_a_dial_on_its_way_serves_whoever_waits_then(hall: Hall) -> None:
    first = hall.guest("first")
    first.leave()
    second = hall.guest("second")
    assert len(hall.dials) == 1
    connection = hall.connect()
    assert (first.got, second.got) == (Fault.CLIENT_GONE, connection)


def test_whoever_leaves_loses_the_place_and_nobody_else_does() -> None:
    hall = Hall(limit=1)
    guests = [hall.guest(name) for name in "abc"]
    guests[1].leave()
    connection = hall.connect()
    hall.release(connection)
    assert [guest.got for guest in guests] == [connection, Fault.CLIENT_GONE, connection]
    hall.loop.shut()


# Dials that fail.


def test_a_failed_dial_turns_away_one_guest_only(hall: Hall) -> None:
    guests = [hall.guest(name) for name in "abcd"]
    hall.refuse()
    assert [guest.got for guest in guests] == [Fault.NO_BACKEND, None, None, None]
    connection = hall.connect()
    assert guests[1].got is connection
    hall.connect()
    hall.release(connection)
    assert [type(guest.got) for guest in guests[1:]] == [FakeConnection] * 3
    assert (hall.pool.tally.connects, hall.pool.tally.connect_failures) == (3, 1)


def test_nobody_waits_for_a_backend_that_is_down(hall: Hall) -> None:
    guests = [hall.guest() for _ in range(5)]
    for _ in range(5):
        hall.refuse()
    assert [guest.got for guest in guests] == [Fault.NO_BACKEND] * 5
    assert repr(hall.pool) == "<Pool 10.0.0.5:5001: 0 open, 0 idle, 0 waiting>"


def test_a_dial_that_takes_too_long_has_failed(hall: Hall) -> None:
    guest = hall.guest()
    hall.loop.pass_time(CONNECT - 0.01)
    assert hall.pool.open == 1
    hall.loop.pass_time(0.02)
    assert (guest.got, hall.pool.open) == (Fault.NO_BACKEND, 0)
    assert hall.pool.tally.connect_failures == 1


def test_a_failed_dial_that_nobody_waits_for_harms_nobody(hall: Hall) -> None:
    hall.guest().leave()
    hall.refuse()
    assert repr(hall.pool) == "<Pool 10.0.0.5:5001: 0 open, 0 idle, 0 waiting>"
    guest = hall.guest()
    assert hall.connect() is guest.got


def test_a_dial_that_fails_otherwise_has_failed_too(hall: Hall) -> None:
    # A host name that cannot be encoded is a UnicodeError, for one.
    guest = hall.guest()
    hall.loop.perform(lambda: hall.dials[0].set_exception(UnicodeError("label too long")))
    assert (guest.got, hall.pool.open) == (Fault.NO_BACKEND, 0)


@pytest.mark.parametrize("told", ["before", "after"])
def test_a_connection_that_is_closed_at_once_serves_nobody(hall: Hall, told: str) -> None:
    guest, other = hall.guest(), hall.guest()
    connection = FakeConnection(1)
    connection.usable = False

    def connect() -> None:
        hall.dials[0].set_result(cast(Pooled, connection))
        if told == "before":
            hall.pool.lost(cast(Pooled, connection))

    hall.loop.perform(connect)
    if told == "after":
        hall.lose(connection)
    assert guest.got is Fault.NO_BACKEND
    assert hall.connect() is other.got
    assert hall.pool.open == 1


# Keeping.


def test_the_connection_used_last_is_used_next(hall: Hall) -> None:
    old, young = hall.idle(2)
    assert [hall.take(), hall.take(), hall.take()] == [young, old, None]


def test_a_connection_is_kept_for_the_idle_time_only(hall: Hall) -> None:
    old, young = hall.idle(2)
    hall.clock.advance(IDLE - 1)  # the older one finished a second before the younger
    hall.pool.expire(hall.clock())
    assert (old.closed, young.closed) == (True, False)
    assert hall.take() is young


def test_a_connection_that_is_too_old_is_not_handed_out(hall: Hall) -> None:
    (connection,) = hall.idle(1)
    hall.clock.advance(IDLE)
    assert hall.take() is None
    assert connection.closed
    assert hall.pool.open == 1  # until it is lost
    hall.lose(connection)
    assert hall.pool.open == 0


def test_a_connection_that_the_backend_is_closing_is_not_handed_out(hall: Hall) -> None:
    old, young = hall.idle(2)
    young.usable = False
    assert hall.take() is old


def test_a_connection_that_nobody_waits_for_any_more_is_kept_for_the_next(hall: Hall) -> None:
    hall.guest().leave()
    connection = hall.connect()
    assert hall.take() is connection


def test_where_connections_serve_once_it_is_closed(hall: Hall) -> None:
    """A container with one thread would wait for a request on it, and serve nobody else."""
    hall.pool.closes = True
    hall.guest().leave()
    connection = hall.connect()
    assert not connection.usable
    assert hall.take() is None


def test_a_lost_idle_connection_is_forgotten(hall: Hall) -> None:
    old, young = hall.idle(2)
    hall.lose(young)
    assert repr(hall.pool) == "<Pool 10.0.0.5:5001: 1 open, 1 idle, 0 waiting>"
    assert hall.take() is old


def test_a_lost_busy_connection_makes_room_for_another(hall: Hall) -> None:
    connections = hall.idle(2)
    assert {hall.take(), hall.take()} == set(connections)
    guest = hall.guest()
    assert hall.dials == []
    hall.lose(connections[0])
    assert (len(hall.dials), hall.pool.open) == (1, 2)
    assert hall.connect() is guest.got


def test_closing_closes_what_is_idle(hall: Hall) -> None:
    old, young = hall.idle(2)
    assert hall.take() is young
    hall.pool.close()
    assert (old.closed, young.closed) == (True, False)


# A connection for whoever is next.


@pytest.fixture
def closing(hall: Hall) -> Hall:
    """The backend closes each connection after its answer, and is busy."""
    hall.pool.closes = True
    hall.pool.busy = 1
    return hall


def prepare(hall: Hall) -> None:
    hall.loop.perform(hall.pool.prepare)


def test_the_next_finds_a_connection(closing: Hall) -> None:
    prepare(closing)
    prepare(closing)
    spare = closing.connect()
    prepare(closing)
    assert closing.pool.tally.connects == 1
    assert closing.take() is spare
    assert closing.take() is None


def test_a_backend_that_keeps_connections_needs_none_in_advance(hall: Hall) -> None:
    prepare(hall)
    assert hall.dials == []


def test_whoever_waits_already_gets_it(closing: Hall) -> None:
    prepare(closing)
    guest = closing.guest()
    connection = closing.connect()
    assert guest.got is connection
    assert closing.pool.tally.connects == 1


def test_one_that_is_waited_for_is_not_taken_for_the_next_one(closing: Hall) -> None:
    guest = closing.guest()
    prepare(closing)
    prepare(closing)
    connection, spare = closing.connect(), closing.connect()
    assert guest.got is connection
    assert closing.take() is spare
    assert closing.pool.tally.connects == 2


@pytest.mark.parametrize("end", ["dismiss", "close"])
def test_when_nobody_is_next_it_is_closed(closing: Hall, end: str) -> None:
    prepare(closing)
    spare = closing.connect()
    closing.loop.perform(getattr(closing.pool, end))
    assert not spare.usable
    assert closing.take() is None


def test_one_that_comes_when_the_backend_is_idle_is_closed(closing: Hall) -> None:
    prepare(closing)
    closing.pool.busy = 0
    assert not closing.connect().usable


def test_it_is_not_kept_for_long(closing: Hall) -> None:
    prepare(closing)
    spare = closing.connect()
    closing.loop.perform(lambda: closing.pool.expire(closing.clock.now + IDLE - 0.01))
    assert spare.usable
    closing.loop.perform(lambda: closing.pool.expire(closing.clock.now + IDLE))
    assert not spare.usable


def test_one_that_the_backend_closes_is_forgotten(closing: Hall) -> None:
    prepare(closing)
    spare = closing.connect()
    spare.usable = False
    closing.loop.perform(lambda: closing.pool.lost(cast(Pooled, spare)))
    assert closing.take() is None
    assert closing.pool.open == 0
    prepare(closing)
    assert closing.pool.tally.connects == 2


def test_it_counts_towards_the_limit(closing: Hall) -> None:
    closing.pool.limit = 1
    closing.guest()
    closing.connect()
    prepare(closing)
    assert closing.pool.tally.connects == 1
