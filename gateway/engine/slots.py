"""Places at the containers of one deployment, and the queue for them.

A container works on so many requests at a time (one, unless configured otherwise); whatever else it
is sent only waits inside it, where nobody can take it back. So requests wait here: first come first
served, for a bounded time, in a bounded queue (contract.md 1.5).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence

from gateway.core.faults import Fault, Refusal
from gateway.core.round_robin import RoundRobin
from gateway.core.statistics import QueueTally
from gateway.engine.exchange import Exchange
from gateway.engine.pools import Pool
from gateway.engine.walking import interrupt, resume

_log = logging.getLogger("gateway")

# Whoever's time is up within this many seconds is told now: when there are too many requests, a
# timer for each is the last thing to spend time on.
_TOGETHER = 0.001


class Slots:
    """Hands out the backends of a deployment, each to ``concurrency`` requests at a time."""

    __slots__ = (
        "_choose",
        "_clock",
        "_queues",
        "_serving",
        "_timer",
        "concurrency",
        "max_length",
        "max_wait",
        "pools",
        "tally",
    )

    def __init__(
        self,
        pools: Sequence[Pool],
        *,
        concurrency: int,
        max_wait: float,
        max_length: int,
        clock: Callable[[], float],
    ) -> None:
        """
        :param concurrency: requests at a time for each backend.
        :param max_wait: seconds in the queue; after that, ``OVERLOADED``.
        :param max_length: requests in the queue; more are ``OVERLOADED`` at once.
        """
        self.pools = tuple(pools)
        self.concurrency = concurrency
        self.max_wait = max_wait
        self.max_length = max_length
        self.tally = QueueTally()
        self._clock = clock
        self._choose = RoundRobin(self.pools).choose
        #: Who waits, and since when, in the order of coming; apart for those who have tried the
        #: same backends in vain, because any place is of use either to all of them or to none.
        #: None of these is empty. (A plain dict would look at every place that was ever left at
        #: its front.)
        self._queues: dict[frozenset[Pool], OrderedDict[Exchange, float]] = {}
        self._serving = False
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Slots, {self.busy} of {self.room} taken, {self.waiting} waiting>"

    @property
    def busy(self) -> int:
        """Places taken."""
        return sum(pool.busy for pool in self.pools)

    @property
    def room(self) -> int:
        """Places at all."""
        return len(self.pools) * self.concurrency

    @property
    def waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    def take(self, tried: Collection[Pool]) -> Pool | None:
        """A backend with a free place, which is taken by that; None if the caller has to wait.

        :param tried: backends that are of no use to the caller.
        :raises Refusal: ``NO_BACKEND`` when that is all of them.
        """
        # Nobody overtakes: while somebody waits, whatever is free is of no use to him.
        for _ in self.pools:
            pool = self._choose(tried)
            if pool is None:
                raise Refusal(Fault.NO_BACKEND, "no backend of the deployment can be reached")
            if pool.busy < self.concurrency:
                pool.busy += 1
                return pool
        return None

    def wait(self, exchange: Exchange, tried: Collection[Pool]) -> None:
        """Queue for a place: the walk parks and is resumed with a backend, whose place it has then.

        Whoever has tried a backend in vain has waited before, and is served before those who have
        not. It may wait ``max_wait`` anew: the time at a dead backend was none in the queue.

        :raises Refusal: ``OVERLOADED``, the queue is full.
        """
        if self.waiting >= self.max_length:
            raise Refusal(Fault.OVERLOADED, f"{self.max_length} requests are waiting already")
        exchange.custody = self
        queue = self._queues.setdefault(frozenset(tried), OrderedDict())
        queue[exchange] = now = self._clock()
        if self._timer is None:
            self._schedule(now)

    def abandon(self, exchange: Exchange) -> None:
        for tried, queue in self._queues.items():
            if exchange in queue:
                self._dismiss(exchange, tried)
                return

    def give_back(self, pool: Pool) -> None:
        """A place is free: the next who waits gets it."""
        pool.busy -= 1
        if self._queues and not self._serving:
            self._serve()

    def _serve(self) -> None:
        # A walk that ends at once gives its place back while it is being served. One loop for all
        # of them, or a queue of a thousand would be a thousand calls deep.
        self._serving = True
        try:
            while (match := self._match()) is not None:
                exchange, tried, pool = match
                self._dismiss(exchange, tried)
                pool.busy += 1
                try:
                    resume(exchange, pool)
                except Exception:  # noqa: BLE001  whoever gave the place has nothing to do with it
                    _log.exception("request %s failed at its end", exchange.request_id.decode())
        finally:
            self._serving = False

    def _match(self) -> tuple[Exchange, frozenset[Pool], Pool] | None:
        """Who is to be served next, what it has tried, and by which backend."""
        for tried in self._in_turn():
            for _ in self.pools:
                pool = self._choose(tried)
                if pool is not None and pool.busy < self.concurrency:
                    return next(iter(self._queues[tried])), tried, pool
        return None

    def _in_turn(self) -> Collection[frozenset[Pool]]:
        """The queues by whose turn it is."""
        queues = self._queues
        if len(queues) < 2:
            return queues.keys()
        return sorted(queues, key=lambda tried: (not tried, _first(queues[tried])))

    def _dismiss(self, exchange: Exchange, tried: frozenset[Pool]) -> None:
        """Somebody waits no longer."""
        queue = self._queues[tried]
        since = queue.pop(exchange)
        if not queue:
            del self._queues[tried]
        self.tally.wait.observe(self._clock() - since)

    def _schedule(self, now: float) -> None:
        """Look again when the first of all has waited long enough."""
        delay = min(map(_first, self._queues.values())) + self.max_wait - now
        self._timer = asyncio.get_running_loop().call_later(max(delay, 0.0), self._expire)

    def _expire(self) -> None:
        self._timer = None
        limit = self._clock() - self.max_wait + _TOGETHER
        why = f"no place at a container within {self.max_wait:g} s"
        # Telling one may change what becomes of the others.
        while (late := self._late(limit)) is not None:
            exchange, tried = late
            self._dismiss(exchange, tried)
            try:
                interrupt(exchange, Refusal(Fault.OVERLOADED, why))
            except Exception:  # noqa: BLE001  the others' time is up too
                _log.exception("request %s failed at its end", exchange.request_id.decode())
        if self._queues and self._timer is None:
            self._schedule(self._clock())

    def _late(self, limit: float) -> tuple[Exchange, frozenset[Pool]] | None:
        """Somebody who has waited since before ``limit``, and what it has tried."""
        for tried, queue in self._queues.items():
            if _first(queue) <= limit:
                return next(iter(queue)), tried
        return None


def _first(queue: OrderedDict[Exchange, float]) -> float:
    """Since when the first in a queue has waited."""
    return next(iter(queue.values()))
