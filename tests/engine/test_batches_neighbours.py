"""Whatever happens, while other workers use the same containers: batches, proofs, isolation and
parts of large requests take places as single requests do, and give them back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.core.allotting import Allotment
from gateway.core.turns import Turns
from gateway.engine.permits import Permits, spot_of
from gateway.engine.pools import Pool
from tests.engine.test_batches_seeds import Chance
from tests.support.batches import BOTH
from tests.support.grounds import Land

SPOTS = [spot_of("diabetes", "blue", backend) for backend in BOTH]


@pytest.fixture
def land() -> Iterator[Land]:
    land = Land()
    yield land
    land.close()


class Neighbour:
    """A worker that has something to do for one container now and then."""

    def __init__(self, permits: Permits, turns: Turns) -> None:
        self.turns = turns
        self.taken = 0
        self._permits = permits

    def come(self) -> None:
        if self.turns.take() or (not self.turns.waiting and self.turns.ask()):
            self.taken += 1
        elif self.turns.waiting:
            self._permits.wait(self.turns, self)

    def look(self) -> None:
        self.taken += self.turns.take()

    def leave(self) -> None:
        self._permits.forget(self.turns, self)
        while self.turns.held:
            self.turns.give()


class Neighbours(Chance):
    """A story by chance in which another worker takes places and gives them back."""

    def __init__(self, land: Land, seed: int, *, delay: float = 0.0) -> None:
        own, other = (Permits(land.neighbour(me)) for me in range(2))
        for permits in (own, other):
            permits.adopt(Allotment(2, dict(zip(SPOTS, range(2), strict=True))))
        super().__init__(seed, delay=delay, scatter=seed % 2 == 0, permits=own)
        slots = self.story.deployment.slots
        backends = [pool.backend for pool in slots.pools]
        permit = other.at("diabetes", "blue", backends, slots.concurrency)
        assert permit is not None
        self.land = land
        self.others = [Neighbour(other, turns) for turns in permit.turns]
        self.left = 0

    def run(self, steps: int) -> None:
        self.left = steps
        super().run(steps)

    def step(self) -> None:
        self.left -= 1
        act, other = self.draw.random(), self.draw.choice(self.others)
        if act < 0.15:
            self.story.loop.perform(other.come)
        elif act < 0.4 and other.turns.held:
            self.story.loop.perform(other.turns.give)
        else:
            super().step()

    def look(self) -> None:
        for other in self.others if not self.left else ():
            self.story.loop.perform(other.leave)
        super().look()
        slots = self.story.deployment.slots
        for number, (pool, other) in enumerate(zip(slots.pools, self.others, strict=True)):
            taken = sum(each == number for each, _ in self.land.owners)
            assert taken == pool.busy + len(other.turns.held) <= slots.concurrency

    def is_full(self, pool: Pool) -> bool:
        slots = self.story.deployment.slots
        other = self.others[slots.pools.index(pool)]
        return pool.busy + len(other.turns.held) == slots.concurrency


@pytest.mark.parametrize("delay", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(80))
def test_nobody_has_too_many_places_and_nobody_is_forgotten(
    land: Land, seed: int, delay: float
) -> None:
    Neighbours(land, seed, delay=delay).run(80)
    assert not land.owners


def test_chance_is_kind_to_all(land: Land) -> None:
    """The stories above are about something."""
    story = Neighbours(land, 11)
    story.trouble = 0.0
    story.run(300)
    assert story.good > 40
    assert story.story.batcher.tally.requests.total > 40
    assert sum(other.taken for other in story.others) > 10
