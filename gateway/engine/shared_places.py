"""The places of a deployment where several workers share them (docs/workers.md)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence, Sized

from gateway.core.turns import Turns
from gateway.engine.permits import Permit
from gateway.engine.places import Places
from gateway.engine.pools import Pool, out_of_reach


class DividedPlaces(Places):
    """So many places that each worker has some for itself."""

    __slots__ = ("_whole",)

    def __init__(self, pools: Sequence[Pool], concurrency: int, part: int) -> None:
        """
        :param concurrency: calls at a time for each backend, of all workers.
        :param part: of this one.
        """
        super().__init__(pools, part)
        self._whole = concurrency

    @property
    def total(self) -> int:
        return len(self.pools) * self._whole


class SharedPlaces(Places):
    """Places that any worker may have, in turn when there are not enough."""

    __slots__ = (
        "_hand",
        "_left",
        "_loose",
        "_part",
        "_permits",
        "_queues",
        "_serve",
        "_turns",
    )

    def __init__(
        self,
        pools: Sequence[Pool],
        concurrency: int,
        permit: Permit,
        queues: Sized,
        serve: Callable[[], None],
    ) -> None:
        """
        :param queues: empty if nobody waits in this worker.
        :param serve: gives places to those who wait, if there are any.
        """
        super().__init__(pools, concurrency)
        self._turns: dict[Pool, Turns] = dict(zip(self.pools, permit.turns, strict=True))
        for turns in permit.turns:
            turns.concurrency = concurrency
        self._permits = permit.permits
        self._part = permit.part
        self._queues = queues
        self._serve = serve
        #: Where there are places for those who wait, who are about to be served: one entry each.
        self._hand: list[Pool] = []
        #: Of backends that are no longer given out and where somebody still is.
        self._left: dict[Pool, Turns] = {}
        #: How many are at a backend that came when nothing was shared, and found no place since.
        self._loose: dict[Pool, int] = {}

    @property
    def own(self) -> int:
        return max(1, len(self.pools) * self._part)

    @property
    def are_all_taken(self) -> bool:
        """As far as can be known: this worker will be called when there is one."""
        return not self._hand and all(
            self._permits.is_waiting(turns, self) for turns in self._turns.values()
        )

    def take(self, tried: Collection[Pool]) -> Pool | None:
        for _ in self.pools:
            pool = self._choose(tried)
            if pool is None:
                raise out_of_reach(self.pools)
            turns = self._turns[pool]
            # Where somebody waits, nobody overtakes.
            if not turns.waiting and turns.take():
                self._count(pool)
                return pool
        return None

    def find(self, tried: Collection[Pool]) -> Pool | None:
        """A backend with a place that is this worker's until ``settle``; None if there is none:
        then this worker waits for one. Somebody must be waiting."""
        for ready in self._hand:
            if ready not in tried:
                return ready
        for _ in self.pools:
            pool = self._choose(tried)
            if pool is not None and self._claim(self._turns[pool]):
                self._hand.append(pool)
                return pool
        return None

    def occupy(self, pool: Pool) -> None:
        self._hand.remove(pool)
        self._count(pool)

    def give_back(self, pool: Pool) -> None:
        super().give_back(pool)
        if self._loose.get(pool, 0):
            self._loose[pool] -= 1
            return
        turns = self._turns.get(pool)
        if turns is None:
            self._left[pool].give()
        elif self._queues and not turns.has_surplus and not turns.others_wait():
            self._hand.append(pool)
        elif turns.give():
            # The container is to see no connection of ours that has nothing to say, or it could
            # wait for us, who wait for the worker that has the place now.
            pool.dismiss()

    def follow(self, old: Places) -> None:
        self._count_over(old)
        for pool in (*self.pools, *self._gone):
            loose = pool.busy
            if isinstance(old, SharedPlaces):
                loose = old._loose.get(pool, 0)
                if pool in self._gone and loose < pool.busy:
                    self._left[pool] = old._turns_of(pool)
            turns = self._turns.get(pool)
            while loose and turns is not None and turns.take():
                loose -= 1
            if loose:
                self._loose[pool] = loose
        if isinstance(old, SharedPlaces):
            old._forget()

    def leave(self) -> None:
        self._forget()
        for pool in (*self.pools, *self._gone):
            for _ in range(pool.busy - self._loose.get(pool, 0)):
                self._turns_of(pool).give()

    def prepare(self) -> None:
        """Nothing: who is next may be another worker, and a container with one thread would wait
        for the one that has a connection."""

    def settle(self) -> None:
        while self._hand:
            self._turns[self._hand.pop()].give()
        if not self._queues:
            self._forget()

    def look(self) -> None:
        """There may be a place now."""
        if self._queues:
            self._serve()

    def _claim(self, turns: Turns) -> bool:
        if not turns.waiting and (turns.take() or turns.ask()):
            return True
        self._permits.wait(turns, self)
        return False

    def _count(self, pool: Pool) -> None:
        pool.busy += 1
        self.taken += 1

    def _turns_of(self, pool: Pool) -> Turns:
        """At a backend where somebody is."""
        return self._turns.get(pool) or self._left[pool]

    def _forget(self) -> None:
        """Nobody waits here any more."""
        for turns in self._turns.values():
            if turns.waiting:
                self._permits.forget(turns, self)


def places_at(
    pools: Sequence[Pool],
    concurrency: int,
    permit: Permit | None,
    queues: Sized,
    serve: Callable[[], None],
) -> Places:
    """
    :param concurrency: calls at a time for each backend, of all workers.
    :param permit: None if there are no other workers.
    :param queues: empty if nobody waits in this worker.
    :param serve: gives places to those who wait.
    """
    if permit is None:
        return Places(pools, concurrency)
    if not permit.turns:
        return DividedPlaces(pools, concurrency, permit.part)
    return SharedPlaces(pools, concurrency, permit, queues, serve)
