"""Never more have a place than there are, nobody is forgotten, and everybody gets a turn."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.core.turns import MOST, SIZE, WORKERS, Turns
from tests.support.grounds import Actor, FakeGround, Plot


def workers(plot: Plot, count: int, concurrency: int = 1, number: int = 0) -> list[Turns]:
    return [Turns(FakeGround(plot), number, me, concurrency) for me in range(count)]


def hear(plot: Plot, turns: list[Turns]) -> list[int]:
    """All who were called take what they were promised; who they are."""
    heard = []
    while plot.calls:
        worker, _ = plot.calls.popleft()
        turns[worker].waiting = False
        if turns[worker].take():
            heard.append(worker)
    return heard


def test_places_are_taken_by_one_each() -> None:
    plot = Plot()
    first, second = workers(plot, 2, concurrency=2)
    assert [first.take(), second.take(), first.take(), second.take()] == [True, True, False, False]
    assert repr(first) == "<Turns at 0: 1 of 2 held>"
    assert not first.give()
    assert second.take()
    assert len(plot.owners) == 2


def test_a_worker_may_have_all_places() -> None:
    (first, second) = workers(Plot(), 2, concurrency=3)
    assert [first.take() for _ in range(4)] == [True, True, True, False]
    assert not second.take()
    while first.held:
        first.give()
    assert [second.take() for _ in range(4)] == [True, True, True, False]


def test_backends_have_nothing_in_common() -> None:
    plot = Plot(backends=2)
    (first,), (second,) = workers(plot, 1, MOST, 0), workers(plot, 1, MOST, 1)
    while first.take():
        pass
    assert (len(first.held), first.ask(), second.take()) == (MOST, False, True)
    assert not second.others_wait()
    assert second.held == [SIZE + WORKERS]


def test_what_is_given_back_is_promised_to_who_waits() -> None:
    plot = Plot()
    first, second, third = turns = workers(plot, 3)
    assert first.take()
    assert not third.ask()
    assert repr(third) == "<Turns at 0: 0 of 1 held, waiting>"
    assert first.others_wait()
    assert not third.others_wait()
    assert first.give()
    assert not first.others_wait()
    assert [first.take(), second.take()] == [False, False], "it is promised"
    assert hear(plot, turns) == [2]


def test_who_asks_when_a_place_is_free_waits_not() -> None:
    plot = Plot()
    first, second = workers(plot, 2)
    assert first.ask()
    assert not first.waiting
    assert not second.take()
    first.give()
    assert not plot.calls, "nobody waits"


@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_everybody_gets_a_turn(concurrency: int) -> None:
    """64 workers always want more, and whoever gives back asks again at once."""
    plot = Plot()
    turns = workers(plot, WORKERS, concurrency)
    for each in turns:
        each.ask()
    served = [0] * WORKERS
    for _ in range(20 * WORKERS):
        holder = next(each for each in turns if each.held)
        assert holder.give()
        if not holder.waiting:
            holder.ask()
        for worker in hear(plot, turns):
            served[worker] += 1
            turns[worker].ask()
    assert min(served) > 0
    assert max(served) - min(served) <= (1 if concurrency == 1 else 20)


def test_what_is_promised_and_not_wanted_is_passed_on() -> None:
    plot = Plot()
    first, second, third = turns = workers(plot, 3)
    first.take()
    second.ask()
    third.ask()
    first.give()
    second.withdraw()
    second.refuse()
    assert hear(plot, turns) == [2]
    third.give()
    assert first.take()


def test_a_place_of_the_dead_goes_to_who_waits() -> None:
    plot = Plot()
    first, second, third = turns = workers(plot, 3, concurrency=2)
    ground = first._ground
    assert isinstance(ground, FakeGround)
    assert first.take()
    assert first.take()
    second.ask()
    first.ask()
    ground.die()
    assert not third.take(), "the bytes say that it is taken"
    grave = Turns(FakeGround(plot), 0, 0)
    grave.bury()
    assert hear(plot, turns) == [1]
    assert third.take()
    assert not third.others_wait()
    second.give()
    third.give()
    assert second.is_idle()


def test_what_the_dead_were_promised_is_not_lost() -> None:
    plot = Plot()
    first, second, third = turns = workers(plot, 3)
    first.take()
    second.ask()
    third.ask()
    first.give()
    Turns(FakeGround(plot), 0, 1).bury()
    assert plot.calls.popleft() == (1, 0)
    assert hear(plot, turns) == [2]


def test_who_waits_finds_what_nobody_gives() -> None:
    """Its holder died, and nobody has buried it yet."""
    plot = Plot()
    first, second = workers(plot, 2)
    first.take()
    second.ask()
    seen: dict[int, int] = {}
    assert [second.reclaim(seen), second.reclaim(seen)] == [False, False]
    assert isinstance(first._ground, FakeGround)
    first._ground.die()
    assert second.reclaim(seen)
    assert second.reclaim({}), "it is still promised"
    assert second.take()


def test_a_promise_that_is_not_taken_up_is_void_at_the_second_look() -> None:
    plot = Plot()
    first, second, third = workers(plot, 3)
    first.take()
    second.ask()
    third.ask()
    first.give()
    seen: dict[int, int] = {}
    assert not third.reclaim(seen)
    assert third.reclaim(seen)
    assert third.take()
    assert not second.take(), "it is late, and waits again"


def test_own_places_are_not_found_again() -> None:
    plot = Plot()
    (only,) = workers(plot, 1, concurrency=2)
    assert only.take()
    assert only.take()
    seen: dict[int, int] = {}
    assert not only.ask()
    assert [only.reclaim(seen), only.reclaim(seen)] == [False, False]
    only.refuse()
    assert len(plot.owners) == 2


def test_fewer_places_from_now_on() -> None:
    plot = Plot()
    first, second = turns = workers(plot, 2, concurrency=3)
    while first.take():
        pass
    first.concurrency = second.concurrency = 1
    assert not second.ask()
    assert [first.give(), first.give()] == [False, False], "these are no more"
    assert first.give()
    assert hear(plot, turns) == [1]
    assert (first.concurrency, first.take()) == (1, False)


@contextmanager
def stage(count: int, concurrency: int) -> Iterator[tuple[Plot, list[Actor]]]:
    plot = Plot()
    actors = [Actor(plot, me, concurrency) for me in range(count)]
    try:
        yield plot, actors
    finally:
        for actor in actors:
            if not actor.dead:
                actor.die()


def run(
    plot: Plot, actors: list[Actor], draw: random.Random, concurrency: int, kills: bool
) -> None:
    """A while of all that can happen, each in steps between those of others."""
    graves: list[Actor] = []
    for _ in range(draw.randint(100, 500)):
        actor = draw.choice(actors)
        act = draw.random()
        if actor.dead:
            if actor not in graves and act < 0.1:
                Turns(FakeGround(plot), 0, actor.me).bury()
                graves.append(actor)
                actors[actor.me] = Actor(plot, actor.me, concurrency)
        elif kills and act < 0.005:
            actor.die()
        elif actor.acts:
            actor.step()
        elif act < 0.3:
            actor.begin(actor.arrive)
        elif act < 0.6 and actor.serving:
            actor.begin(actor.finish)
        elif act < 0.65 and actor.queue:
            actor.begin(actor.leave)
        elif act < 0.7 and kills:
            actor.begin(actor.look)
        elif plot.calls:
            call = draw.choice(plot.calls)
            called = actors[call[0]]
            if not called.acts:
                plot.calls.remove(call)
                if not called.dead:
                    called.begin(called.hear)
        assert sum(each.serving for each in actors if not each.dead) <= concurrency
    for each in list(actors):
        if each.dead and each not in graves:
            Turns(FakeGround(plot), 0, each.me).bury()
            actors[each.me] = Actor(plot, each.me, concurrency)


def calm_down(plot: Plot, actors: list[Actor], draw: random.Random, looks: int) -> None:
    """Everybody does what there is to do, in any order of steps."""
    for turn in range(1 + looks):
        while True:
            for actor in actors:
                if turn and not actor.acts:
                    actor.begin(actor.look)
            while busy := [actor for actor in actors if actor.acts]:
                draw.choice(busy).step()
            if not plot.calls:
                break
            while plot.calls:
                called = actors[plot.calls.popleft()[0]]
                called.finish_acting()
                called.begin(called.hear)
                for _ in range(draw.randint(0, 9)):
                    if called.acts:
                        called.step()


@pytest.mark.parametrize("kills", [False, True], ids=["all live", "some die"])
@pytest.mark.parametrize("seed", range(150))
def test_whatever_the_order_nobody_waits_while_a_place_is_free(seed: int, kills: bool) -> None:
    draw = random.Random(seed)
    count, concurrency = draw.randint(2, 4), draw.randint(1, 3)
    with stage(count, concurrency) as (plot, actors):
        run(plot, actors, draw, concurrency, kills)
        # Without deaths nobody needs to look on his own.
        calm_down(plot, actors, draw, looks=3 if kills else 0)
        serving = sum(actor.serving for actor in actors)
        assert serving == len(plot.owners) <= concurrency
        assert serving == concurrency or not any(actor.queue for actor in actors)
        while busy := [actor for actor in actors if actor.serving]:
            actor = draw.choice(busy)
            actor.begin(actor.finish)
            calm_down(plot, actors, draw, looks=3 if kills else 0)
            serving = sum(actor.serving for actor in actors)
            assert serving == concurrency or not any(actor.queue for actor in actors)
        assert not plot.owners
        assert [actor.queue for actor in actors] == [0] * count
        assert all(not actor.turns.waiting or actor.queue == 0 for actor in actors)
