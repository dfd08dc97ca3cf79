"""Places at the containers of one deployment, and the queue for them.

A container works on so many requests at a time (one, unless configured otherwise); whatever else it
is sent only waits inside it, where nobody can take it back. So requests wait here: for a bounded
time, in a bounded queue (contract.md 1.5). Who waits may be merged with others at the moment a
place is free, not before: that is when it is known who is there (design.md section 4).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, cast

from gateway.core.faults import Fault, Refusal
from gateway.core.lanes import Flush, Lanes, Ticket
from gateway.core.statistics import QueueTally
from gateway.engine.batching import Batcher
from gateway.engine.exchange import Exchange
from gateway.engine.permits import Permit
from gateway.engine.pools import Pool, out_of_reach
from gateway.engine.shared_places import places_at
from gateway.engine.walking import interrupt, resume

if TYPE_CHECKING:
    from gateway.engine.scattering import Part

_log = logging.getLogger("gateway")

# Whoever's time is up within this many seconds is told now: when there are too many requests, a
# timer for each is the last thing to spend time on.
_TOGETHER = 0.001
_NONE: frozenset[Pool] = frozenset()


class Slots:
    """Hands out the backends of a deployment, each to ``concurrency`` requests at a time."""

    __slots__ = (
        "_clock",
        "_easing",
        "_places",
        "_queues",
        "_ripening",
        "_serving",
        "_timer",
        "_turning",
        "batcher",
        "max_length",
        "max_wait",
        "pools",
        "scatters",
        "tally",
        "waiting",
    )

    def __init__(
        self,
        pools: Sequence[Pool],
        *,
        concurrency: int,
        max_wait: float,
        max_length: int,
        clock: Callable[[], float],
        batcher: Batcher | None = None,
        permit: Permit | None = None,
    ) -> None:
        """
        :param concurrency: requests at a time for each backend; a batch counts as one.
        :param max_wait: seconds in the queue; after that, ``OVERLOADED``.
        :param max_length: requests in the queue; more are ``OVERLOADED`` at once.
        :param batcher: merges requests that wait; None if they all go alone.
        :param permit: what other workers leave of the places; None if there are none.
        """
        self.max_wait = max_wait
        self.max_length = max_length
        self.batcher = batcher
        #: Requests above ``max_rows`` are cut up.
        self.scatters = batcher is not None and batcher.rules.scatter
        self.tally = QueueTally()
        self._clock = clock
        #: Who waits; apart for those who have tried the same backends in vain, because any place is
        #: of use either to all of them or to none. None of these is empty.
        self._queues: dict[frozenset[Pool], Lanes[Exchange]] = {}
        self._places = places_at(pools, concurrency, permit, self._queues, self._end_turn)
        self.pools = self._places.pools
        #: How many that are. Counting them anew would cost as much as queueing one.
        self.waiting = 0
        self._serving = False
        #: At the end of this turn of the loop, who waits will be looked at.
        self._turning = False
        self._timer: asyncio.TimerHandle | None = None
        #: Set while requests are held back for company, and when it is due: uvloop may not say.
        self._ripening: tuple[float, asyncio.Handle] | None = None
        #: Set while ``max_wait`` is longer than configured (see refitting.py).
        self._easing: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Slots, {self.busy} of {self.room} taken, {self.waiting} waiting>"

    @property
    def busy(self) -> int:
        """Places taken."""
        return self._places.taken

    @property
    def room(self) -> int:
        """Places at all, those that other workers have included."""
        return self._places.total

    @property
    def concurrency(self) -> int:
        return self._places.concurrency

    def take(self, tried: Collection[Pool]) -> Pool | None:
        """A backend with a free place, which is taken by that; None if the caller has to wait.

        :param tried: backends that are of no use to the caller.
        :raises Refusal: ``NO_BACKEND`` when that is all of them.
        """
        # Where requests are merged, the queue decides: others may come in the same turn.
        # Nobody overtakes: while somebody waits, whatever is free is of no use to him.
        return self._places.take(tried) if self.batcher is None else None

    def wait(self, exchange: Exchange, tried: Collection[Pool]) -> Pool | None:
        """Queue for a place: the walk parks and is resumed with a backend, whose place it has then,
        or with the ``Reply`` to it, when it was merged with others. With a backend at once for the
        answer, it need not wait.

        Whoever has tried a backend in vain has waited before, and is served before those who have
        not. It may wait ``max_wait`` anew: the time at a dead backend was none in the queue.

        :raises Refusal: ``OVERLOADED``, the queue is full; ``NO_BACKEND``, as ``take`` does.
        """
        now = self._clock()
        batcher = self.batcher
        ticket = batcher.ticket(exchange, now) if batcher is not None else None
        # While all are taken there is nothing to decide but whether all have been tried.
        if batcher is not None and (tried or not self._places.are_all_taken):
            merges = (
                ticket is not None
                and not tried  # it has had its chance to be merged
                and self.max_length > 0
                and batcher.crew(ticket, now) > 1
            )
            overtakes = bool(self._queues) and not batcher.delay and not tried
            if not merges and not overtakes and (pool := self._places.take(tried)) is not None:
                return pool
            if self.waiting >= self.max_length and not self._places.are_all_taken:
                if not self._serving:
                    self._serve()
                # Those who are held back do not keep others from a place that they do not want.
                if (
                    self.waiting >= self.max_length
                    and (pool := self._places.take(tried)) is not None
                ):
                    return pool
        if self.waiting >= self.max_length:
            raise Refusal(Fault.OVERLOADED, f"{self.max_length} requests are waiting already")
        if ticket is None:
            ticket = Ticket(exchange, now, exchange.deadline)
        self._enter(ticket, frozenset(tried) if tried else _NONE, now)
        return None

    def wait_alone(self, part: Part, tried: Collection[Pool]) -> Pool | None:
        """Queue as ``wait`` does, for what is never merged: a part of a request."""
        if (pool := self._places.take(tried)) is not None:
            return pool
        if self.waiting >= self.max_length:
            raise Refusal(Fault.OVERLOADED, f"{self.max_length} requests are waiting already")
        now = self._clock()
        # The queue knows its guests by what a part has, too: a deadline, a walk, a custodian.
        guest = cast(Exchange, part)
        self._enter(Ticket(guest, now, part.deadline), frozenset(tried), now)
        return None

    def put_back(self, tickets: Collection[Ticket[Exchange]], tried: Collection[Pool]) -> None:
        """Requests that were on their way are to wait again, at their old place in the order.

        :param tried: backends that are of no use to them. Where that is all, they are interrupted
            with ``NO_BACKEND``.
        """
        now = self._clock()
        lost = set(tried).issuperset(self.pools)
        for ticket in tickets:
            if lost:
                self._tell(ticket.item, out_of_reach(self.pools))
            else:
                ticket.since = now
                self._enter(ticket, frozenset(tried), now)
        if self._queues and not self._serving:
            self._serve()

    def _enter(self, ticket: Ticket[Exchange], tried: frozenset[Pool], now: float) -> None:
        ticket.item.custody = self
        self.waiting += 1
        lanes = self._queues.get(tried)
        if lanes is None:
            lanes = self._queues[tried] = Lanes()
        lanes.add(ticket)
        if self._timer is None:
            self._schedule(now)
        if self._places.are_all_taken:
            self._places.prepare()
        elif self.batcher is not None and self.batcher.delay > 0:
            self._ripen(now)
        elif not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        """Whatever could be read in this turn of the loop has been read: a free place is used now,
        and not a moment later. Had the first request taken it, all others would wait for one."""
        self._turning = False
        if self._queues and not self._serving:
            self._serve()

    def abandon(self, exchange: Exchange) -> None:
        for tried, lanes in self._queues.items():
            if exchange in lanes:
                self._note((lanes.remove(exchange),), self._clock())
                self._tidy(tried)
                return

    def give_back(self, pool: Pool) -> None:
        """A place is free: the next who waits gets it."""
        self._places.give_back(pool)
        if not self._queues:
            pool.dismiss()
        elif not self._serving:
            self._serve()

    def _serve(self) -> None:
        # A walk that ends at once gives its place back while it is being served. One loop for all
        # of them, or a queue of a thousand would be a thousand calls deep.
        self._serving = True
        try:
            while self._queues:
                now = self._clock()
                match = self._match(now)
                if match is None:
                    break
                ticket, tried, pool = match
                batcher = self.batcher
                if batcher is not None and batcher.is_hopeless(ticket.deadline, now):
                    self._dismiss(ticket, tried, now)
                    why = "the container cannot answer any more within the timeout"
                    self._tell(ticket.item, Refusal(Fault.DEADLINE, why))
                else:
                    self._places.occupy(pool)
                    self._board(ticket, tried, pool, now)
        finally:
            self._serving = False
            self._places.settle()
        if not self._queues:
            return
        if self._places.are_all_taken:
            self._places.prepare()
        if self.batcher is not None and self.batcher.delay > 0:
            self._ripen(self._clock())

    def _board(
        self, leader: Ticket[Exchange], tried: frozenset[Pool], pool: Pool, now: float
    ) -> None:
        """Send off whoever is first, and with it those of its lane that may go along."""
        batcher = self.batcher
        crew = 1 if batcher is None or leader.lane is None else batcher.crew(leader, now)
        if batcher is None or crew < 2:
            self._dismiss(leader, tried, now)
        else:
            lanes = self._queues[tried]
            crew = min(crew, batcher.share(lanes.company(leader), self._places.own))
            group, flush = lanes.gather(leader, batcher.cap, batcher.max_bytes, crew)
            self._note(group, now)
            self._tidy(tried)
            if len(group) > 1:
                if flush is Flush.SLOT_FREE:
                    flush = batcher.why_now(group, now)
                batcher.board(group, tried, pool, flush, self)
                return
            if flush is Flush.FULL:
                batcher.scout(leader, now)
        self.send(leader, pool)

    def send(self, ticket: Ticket[Exchange], pool: Pool) -> None:
        """Send off a single request, with a place at ``pool``."""
        try:
            resume(ticket.item, pool)
        except Exception:  # noqa: BLE001  whoever gave the place has nothing to do with it
            _log.exception("request %s failed at its end", ticket.item.request_id.decode())

    def _match(self, now: float) -> tuple[Ticket[Exchange], frozenset[Pool], Pool] | None:
        """Who is to be served next, what it has tried, and by which backend."""
        for tried in self._in_turn():
            pool = self._places.find(tried)
            if pool is not None:
                ticket = self._first_ripe(self._queues[tried], now)
                if ticket is not None:
                    return ticket, tried, pool
        return None

    def _in_turn(self) -> Collection[frozenset[Pool]]:
        """The queues by whose turn it is."""
        queues = self._queues
        if len(queues) < 2:
            return queues.keys()
        return sorted(queues, key=lambda tried: (not tried, queues[tried].first().since))

    def _dismiss(self, ticket: Ticket[Exchange], tried: frozenset[Pool], now: float) -> None:
        """Somebody waits no longer."""
        self._note((self._queues[tried].remove(ticket.item),), now)
        self._tidy(tried)

    def _note(self, tickets: Collection[Ticket[Exchange]], now: float) -> None:
        self.waiting -= len(tickets)
        observe = self.tally.wait.observe
        for ticket in tickets:
            waited = now - ticket.since
            ticket.item.queue_seconds += waited
            observe(waited)

    def _tidy(self, tried: frozenset[Pool]) -> None:
        if not self._queues[tried]:
            del self._queues[tried]

    # Holding back.

    def _first_ripe(self, lanes: Lanes[Exchange], now: float) -> Ticket[Exchange] | None:
        """Whose turn it is among those who are not held back for company."""
        batcher = self.batcher
        if batcher is None or batcher.delay <= 0:
            return lanes.first()
        ripe = [
            ticket
            for ticket in lanes.fronts()
            if batcher.ripe_at(ticket, lanes.rows_beside(ticket)) <= now + _TOGETHER
        ]
        return min(ripe, key=lambda ticket: ticket.deadline, default=None)

    def _ripen(self, now: float) -> None:
        """Look again when the first of those who are held back has waited long enough."""
        batcher = self.batcher
        if batcher is None or self._serving:
            return
        due = min(
            batcher.ripe_at(ticket, lanes.rows_beside(ticket))
            for lanes in self._queues.values()
            for ticket in lanes.fronts()
        )
        if self._ripening is not None:
            if self._ripening[0] <= due:
                return
            self._ripening[1].cancel()
            self._ripening = None
        # While no place is free, giving one back will look.
        if not self._places.are_all_taken:
            loop = asyncio.get_running_loop()
            self._ripening = due, loop.call_later(max(due - now, 0.0), self._ripe)

    def _ripe(self) -> None:
        self._ripening = None
        if self._queues and not self._serving:
            self._serve()

    # Waiting has an end.

    def _schedule(self, now: float) -> None:
        """Look again when whoever has waited longest has waited long enough."""
        first = min(lanes.waiting_since() for lanes in self._queues.values())
        delay = max(first + self.max_wait - now, 0.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock()
        limit = now - self.max_wait + _TOGETHER
        why = f"no place at a container within {self.max_wait:g} s"
        # Telling one may change what becomes of the others.
        while (late := self._late(limit)) is not None:
            ticket, tried = late
            self._dismiss(ticket, tried, now)
            self._tell(ticket.item, Refusal(Fault.OVERLOADED, why))
        if self._queues and self._timer is None:
            self._schedule(self._clock())

    def _late(self, limit: float) -> tuple[Ticket[Exchange], frozenset[Pool]] | None:
        """Somebody who has waited since before ``limit``, and what it has tried."""
        for tried, lanes in self._queues.items():
            ticket = lanes.longest_waiting()
            if ticket.since <= limit:
                return ticket, tried
        return None

    def _tell(self, exchange: Exchange, refusal: Refusal) -> None:
        try:
            interrupt(exchange, refusal)
        except Exception:  # noqa: BLE001  the others have nothing to do with it
            _log.exception("request %s failed at its end", exchange.request_id.decode())
