"""Which number the places of each backend have, so that all workers mean the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

# Endpoint, deployment, and host, port and prefix of the backend.
Spot = tuple[str, str, str]

# Backends of one gateway at most.
BACKENDS = 1 << 14
# Seconds for which the number of a backend that is gone is given to no other: requests that came
# while it was there may still be on their way, or wait.
REST = 600.0
# From so many places for each worker on, they are divided instead of being shared.
PLENTY = 8


@dataclass(frozen=True, slots=True)
class Allotment:
    """What a worker has to know to share places with others. Can be pickled."""

    #: How many there are; each has an index below that.
    workers: int = 1
    numbers: Mapping[Spot, int] = field(default_factory=dict)

    def divides(self, concurrency: int) -> bool:
        """Whether each worker has places of its own."""
        return concurrency >= PLENTY * self.workers

    def part(self, concurrency: int, worker: int) -> int:
        """How many of so many places are a worker's, where they are divided. All parts together
        are all places, and no two differ by more than one."""
        before, behind = concurrency * worker, concurrency * (worker + 1)
        return behind // self.workers - before // self.workers


class Allotter:
    """Gives out the numbers. A backend keeps its number as long as it is in the configuration."""

    def __init__(self, most: int = BACKENDS, rest: float = REST) -> None:
        """
        :param most: numbers at all, from zero.
        :param rest: seconds that a number is left alone.
        """
        self._most = most
        self._rest = rest
        self._numbers: dict[Spot, int] = {}
        #: Since when they are gone, in the order in which they went.
        self._gone: dict[Spot, float] = {}
        #: Numbers below this one have been used.
        self.used = 0

    def __repr__(self) -> str:
        return f"<Allotter, {len(self._numbers) - len(self._gone)} backends, {self.used} numbers>"

    def allot(
        self, spots: Iterable[Spot], now: float, is_idle: Callable[[int], bool]
    ) -> dict[Spot, int]:
        """The numbers of all backends that there are from now on.

        :param now: monotonic seconds.
        :param is_idle: whether nobody has a place of the backend with this number, nor waits.
        :raises ValueError: there are more than numbers; nothing has changed.
        """
        wanted = dict.fromkeys(spots)
        new = [spot for spot in wanted if spot not in self._numbers]
        old = [
            spot
            for spot, since in self._gone.items()
            if spot not in wanted and now - since >= self._rest and is_idle(self._numbers[spot])
        ]
        fresh = self._most - self.used
        if len(new) > fresh + len(old):
            raise ValueError(f"there are more than {self._most} backends")
        for spot in wanted:
            self._gone.pop(spot, None)
        for spot in self._numbers:
            if spot not in wanted:
                self._gone.setdefault(spot, now)
        for spot in new:
            # Those that have been gone for longest first: it is them nobody remembers.
            if old:
                former = old.pop(0)
                del self._gone[former]
                self._numbers[spot] = self._numbers.pop(former)
            else:
                self._numbers[spot] = self.used
                self.used += 1
        return {spot: self._numbers[spot] for spot in wanted}
