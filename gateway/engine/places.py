"""The places at the containers of one deployment: which are free, and a connection for the next."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.core.round_robin import RoundRobin
from gateway.engine.pools import Pool, out_of_reach


class Places:
    """``concurrency`` places at each backend, given out in turn."""

    __slots__ = ("_choose", "_gone", "_prepared", "_uneven", "concurrency", "pools", "taken")

    def __init__(self, pools: Sequence[Pool], concurrency: int) -> None:
        """:param concurrency: calls at a time for each backend."""
        self.pools = tuple(pools)
        self.concurrency = concurrency
        self.taken = 0
        self._choose = RoundRobin(self.pools).choose
        #: Whoever is next will find a connection.
        self._prepared = False
        #: Backends that are no longer given out and where somebody still is.
        self._gone: set[Pool] = set()
        #: A backend may have more of them than it has places (see ``follow``).
        self._uneven = False

    def __repr__(self) -> str:
        return f"<Places, {self.taken} of {self.total} taken>"

    @property
    def total(self) -> int:
        """Places at all, those that other workers have included."""
        return len(self.pools) * self.concurrency

    @property
    def own(self) -> int:
        """How many of them this worker can count on."""
        return len(self.pools) * self.concurrency

    @property
    def are_all_taken(self) -> bool:
        if self.taken < len(self.pools) * self.concurrency:
            return False
        return not self._uneven or all(pool.busy >= self.concurrency for pool in self.pools)

    def take(self, tried: Collection[Pool]) -> Pool | None:
        """A backend with a free place, which is taken by that; None if there is none.

        :param tried: backends that are of no use.
        :raises Refusal: see ``out_of_reach``, when that is all of them.
        """
        for _ in self.pools:
            pool = self._choose(tried)
            if pool is None:
                raise out_of_reach(self.pools)
            if pool.busy < self.concurrency:
                self.occupy(pool)
                return pool
        return None

    def find(self, tried: Collection[Pool]) -> Pool | None:
        """A backend with a free place, which stays free until ``settle``; None if there is none.
        Somebody must be waiting."""
        for _ in self.pools:
            pool = self._choose(tried)
            if pool is not None and pool.busy < self.concurrency:
                return pool
        return None

    def occupy(self, pool: Pool) -> None:
        """Take a place that is free."""
        pool.busy += 1
        self.taken += 1
        self._prepared = False

    def give_back(self, pool: Pool) -> None:
        pool.busy -= 1
        if self._gone and pool in self._gone:
            if not pool.busy:
                self._gone.remove(pool)
        else:
            self.taken -= 1

    def follow(self, old: Places) -> None:
        """Give out places instead of ``old`` from now on. Who has a place keeps it, and it counts
        at its backend: that gets nobody else until it has few enough."""
        self._count_over(old)
        old.leave()

    def leave(self) -> None:
        """Others give out the places from now on, and take them back."""

    def _count_over(self, old: Places) -> None:
        self._gone = {
            pool for pool in (*old.pools, *old._gone) if pool.busy and pool not in self.pools
        }
        self.taken = sum(pool.busy for pool in self.pools)
        self._uneven = any(pool.busy > self.concurrency for pool in self.pools)

    def settle(self) -> None:
        """What was found and not occupied is of no use at present."""

    def prepare(self) -> None:
        """All are taken and somebody waits: there shall be a connection when one gets free."""
        if not self._prepared:
            self._prepared = True
            for pool in self.pools:
                pool.prepare()
