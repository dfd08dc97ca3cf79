"""Whatever happens to a pool, it never loses count and forgets nobody.

Random stories of guests, dials, answers, losses and time are played against the invariants: never
more connections than allowed, every one counted once, no connection for two, nobody waiting beside
an idle connection or for a dial that nobody makes.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.core.faults import Fault
from tests.support.halls import FakeConnection, Guest, Hall


class PoolStory(RuleBasedStateMachine):
    """Random guests, dials, releases and losses."""

    def __init__(self) -> None:
        super().__init__()
        self.hall = Hall(limit=2)
        self.waiting: list[Guest] = []
        self.busy: list[FakeConnection] = []
        #: Broken or closed, but not gone yet.
        self.dying: list[FakeConnection] = []
        self.gone: list[FakeConnection] = []

    def teardown(self) -> None:
        try:
            self.finish()
            assert self.hall.loop.mishaps == []
        finally:
            self.hall.loop.shut()

    def finish(self) -> None:
        """Everything comes free: now everybody must have been served."""
        hall = self.hall
        self.bury_all()
        for _ in range(100):
            if hall.dials:
                hall.connect()
            elif self.busy and self.waiting:
                hall.release(self.busy.pop())
            self.look_around()
        assert self.waiting == []

    def bury_all(self) -> None:
        while self.dying:
            self.bury(self.dying[0])

    def bury(self, connection: FakeConnection) -> None:
        self.dying.remove(connection)
        self.gone.append(connection)
        self.hall.lose(connection)
        self.look_around()

    def look_around(self) -> None:
        """See who was served, and which connections the pool has closed."""
        for guest in [guest for guest in self.waiting if guest.got is not None]:
            self.waiting.remove(guest)
            if isinstance(guest.got, FakeConnection):
                self.receive(guest.got)
        known = [*self.dying, *self.gone]
        self.dying += [c for c in self.hall.connections if c.closed and c not in known]

    def receive(self, connection: FakeConnection) -> None:
        assert connection.usable
        assert connection not in self.busy, "one connection for two"
        self.busy.append(connection)

    @rule(count=st.integers(1, 3))
    def guests_come(self, count: int) -> None:
        for _ in range(count):
            connection = self.hall.take()
            if connection is not None:
                self.receive(connection)
            else:
                self.waiting.append(self.hall.guest())
            self.look_around()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_guest_leaves(self, data: st.DataObject) -> None:
        guest = data.draw(st.sampled_from(self.waiting))
        self.hall.loop.perform(guest.leave)
        assert guest.got is Fault.CLIENT_GONE
        self.look_around()

    @precondition(lambda self: self.hall.dials)
    @rule(succeeds=st.sampled_from([True, True, False]))
    def a_dial_ends(self, succeeds: bool) -> None:
        if succeeds:
            self.hall.connect()
        else:
            self.hall.refuse()
        self.look_around()

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), connection=st.sampled_from(["is free", "is broken", "is gone"]))
    def a_request_ends_and_its(self, data: st.DataObject, connection: str) -> None:
        chosen = data.draw(st.sampled_from(self.busy))
        self.busy.remove(chosen)
        if connection == "is free":
            self.hall.release(chosen)
        else:
            chosen.close()
        self.look_around()
        if connection == "is gone":
            self.bury(chosen)

    @rule()
    def an_idle_connection_is_closed_by_the_backend(self) -> None:
        known = [*self.busy, *self.dying, *self.gone]
        for connection in [c for c in self.hall.connections if c not in known][:1]:
            connection.close()
        self.look_around()

    @precondition(lambda self: self.dying)
    @rule(data=st.data())
    def a_broken_connection_is_gone(self, data: st.DataObject) -> None:
        self.bury(data.draw(st.sampled_from(self.dying)))

    @rule(seconds=st.sampled_from([0.1, 0.5, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.hall.loop.pass_time(seconds)
        self.hall.pool.expire(self.hall.clock())
        self.look_around()

    @invariant()
    def the_count_is_right(self) -> None:
        pool = self.hall.pool
        alive = [c for c in self.hall.connections if c not in self.gone]
        assert pool.open == len(alive) + len(self.hall.dials)
        assert pool.open <= pool.limit
        assert f" {len(self.waiting)} waiting>" in repr(pool)

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        pool = self.hall.pool
        if self.waiting:
            assert " 0 idle, " in repr(pool)
            wanted = min(len(self.waiting), pool.limit - len(self.busy) - len(self.dying))
            assert len(self.hall.dials) >= wanted


PoolStory.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestPoolStory = PoolStory.TestCase
