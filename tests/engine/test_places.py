"""Places are given out in turn, counted right, and never twice."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.core.backends import Backend
from gateway.core.faults import Fault, Refusal
from gateway.engine.places import Places
from gateway.engine.pools import Pool, Pooled


async def never(pool: Pool) -> Pooled:
    await asyncio.Event().wait()
    raise AssertionError


def places(backends: int = 2, concurrency: int = 1) -> Places:
    pools = [
        Pool(Backend("10.0.0.5", port), never, limit=9, idle_timeout=1, connect_timeout=1)
        for port in range(1, backends + 1)
    ]
    return Places(pools, concurrency)


def test_backends_take_turns() -> None:
    found = places(backends=3, concurrency=2)
    taken = [found.take(()) for _ in range(6)]
    assert taken == [*found.pools, *found.pools]
    assert found.take(()) is None
    assert repr(found) == "<Places, 6 of 6 taken>"
    assert found.are_all_taken


def test_what_was_tried_in_vain_is_passed_over() -> None:
    found = places()
    first, second = found.pools
    assert found.take((first,)) is second
    assert found.take((first,)) is None
    assert found.find((second,)) is first
    assert not found.are_all_taken


def test_where_all_was_tried_there_is_none() -> None:
    found = places()
    with pytest.raises(Refusal) as refusal:
        found.take(found.pools)
    assert refusal.value.fault is Fault.NO_BACKEND
    assert found.find(found.pools) is None


def test_finding_takes_nothing() -> None:
    found = places(backends=1)
    (pool,) = found.pools
    assert [found.find(()), found.find(())] == [pool, pool]
    found.occupy(pool)
    assert found.find(()) is None


@pytest.mark.parametrize("seed", range(50))
def test_they_are_counted_right(seed: int) -> None:
    draw = random.Random(seed)
    found = places(draw.randint(1, 4), draw.randint(1, 3))
    taken: list[Pool] = []
    for _ in range(100):
        if taken and draw.random() < 0.5:
            found.give_back(taken.pop(draw.randrange(len(taken))))
        elif (pool := found.take(())) is not None:
            taken.append(pool)
        else:
            assert found.are_all_taken
        assert found.taken == len(taken)
        for pool in found.pools:
            assert pool.busy == taken.count(pool) <= found.concurrency


def test_a_connection_is_prepared_once_for_each_next(monkeypatch: pytest.MonkeyPatch) -> None:
    found = places(backends=1)
    prepared = []
    monkeypatch.setattr(Pool, "prepare", lambda pool: prepared.append(pool))
    (pool,) = found.pools
    found.occupy(pool)
    found.prepare()
    found.prepare()
    assert prepared == [pool]
    found.give_back(pool)
    found.occupy(pool)
    found.prepare()
    assert prepared == [pool, pool]
