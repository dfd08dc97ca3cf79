"""The places at the containers of one deployment: which are free, and a connection for the next."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.core.faults import Fault, Refusal
from gateway.core.round_robin import RoundRobin
from gateway.engine.pools import Pool


class Places:
    """``concurrency`` places at each backend, given out in turn."""

    __slots__ = ("_choose", "_prepared", "concurrency", "pools", "taken")

    def __init__(self, pools: Sequence[Pool], concurrency: int) -> None:
        """:param concurrency: calls at a time for each backend."""
        self.pools = tuple(pools)
        self.concurrency = concurrency
        self.taken = 0
        self._choose = RoundRobin(self.pools).choose
        #: Whoever is next will find a connection.
        self._prepared = False

    def __repr__(self) -> str:
        return f"<Places, {self.taken} of {self.total} taken>"

    @property
    def total(self) -> int:
        return len(self.pools) * self.concurrency

    @property
    def are_all_taken(self) -> bool:
        return self.taken >= len(self.pools) * self.concurrency

    def take(self, tried: Collection[Pool]) -> Pool | None:
        """A backend with a free place, which is taken by that; None if there is none.

        :param tried: backends that are of no use.
        :raises Refusal: ``NO_BACKEND`` when that is all of them.
        """
        for _ in self.pools:
            pool = self._choose(tried)
            if pool is None:
                raise Refusal(Fault.NO_BACKEND, "no backend of the deployment can be reached")
            if pool.busy < self.concurrency:
                self.occupy(pool)
                return pool
        return None

    def find(self, tried: Collection[Pool]) -> Pool | None:
        """A backend with a free place, which stays free; None if there is none."""
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
        self.taken -= 1

    def prepare(self) -> None:
        """All are taken and somebody waits: there shall be a connection when one gets free."""
        if not self._prepared:
            self._prepared = True
            for pool in self.pools:
                pool.prepare()
