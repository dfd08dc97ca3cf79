"""Workers share places: they hear of each other, none has too many, and death harms nobody."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.allotting import Allotment
from gateway.core.backends import Backend
from gateway.core.turns import Turns
from gateway.engine.permits import LOOK, Permits, SharedArea, Survey, spot_of
from tests.support.fakes import FakeClock, FakeLoop
from tests.support.grounds import Land
from tests.support.sharers import Job

BACKENDS = [Backend("10.0.0.5", 5001), Backend("10.0.0.6", 5001, b"/prefix")]
SPOTS = [spot_of("diabetes", "blue", backend) for backend in BACKENDS]


@pytest.fixture
def land() -> Iterator[Land]:
    land = Land()
    yield land
    land.close()


@pytest.fixture
def loop() -> Iterator[FakeLoop]:
    loop = FakeLoop(FakeClock())
    yield loop
    loop.shut()
    assert loop.mishaps == []


class Waiter:
    """Takes a place when it hears of one, as long as it wants any."""

    def __init__(self, permits: Permits, turns: Turns, wants: int = 1) -> None:
        self._permits = permits
        self.turns = turns
        self.wants = wants
        self.heard = 0

    def ask(self) -> None:
        while self.wants and not self.turns.waiting and (self.turns.take() or self.turns.ask()):
            self.wants -= 1
        if self.wants:
            self._permits.wait(self.turns, self)

    def look(self) -> None:
        self.heard += 1
        self.ask()


def permits(land: Land, me: int, workers: int = 2) -> Permits:
    found = Permits(land.neighbour(me))
    found.adopt(Allotment(workers, {spot: 5 + n for n, spot in enumerate(SPOTS)}))
    return found


def waiter(permits: Permits, concurrency: int = 1, wants: int = 1) -> Waiter:
    permit = permits.at("diabetes", "blue", BACKENDS, concurrency)
    assert permit is not None
    return Waiter(permits, permit.turns[0], wants)


def test_one_worker_shares_with_nobody(land: Land) -> None:
    alone = permits(land, 0, workers=1)
    assert alone.at("diabetes", "blue", BACKENDS, 1) is None


def test_few_places_are_shared_and_many_divided(land: Land) -> None:
    second = permits(land, 1)
    few = second.at("diabetes", "blue", BACKENDS, 3)
    many = second.at("diabetes", "blue", BACKENDS, 17)
    assert few is not None
    assert many is not None
    assert [turns.number for turns in few.turns] == [5, 6]
    assert [turns.concurrency for turns in few.turns] == [3, 3]
    assert (few.part, many.part, many.turns) == (2, 9, ())
    assert repr(second) == "<Permits of worker 1, 0 waited for>"


def test_what_was_not_allotted_is_an_error(land: Land) -> None:
    with pytest.raises(KeyError):
        permits(land, 0).at("diabetes", "green", BACKENDS, 1)


def test_after_a_reload_a_backend_is_still_the_same(land: Land) -> None:
    """The locks are the process's: two who know nothing of each other would share a place."""
    here = permits(land, 0)
    before = here.at("diabetes", "blue", BACKENDS, 1)
    after = here.at("diabetes", "blue", BACKENDS[:1], 3)
    assert before is not None
    assert after is not None
    assert before.turns[0] is after.turns[0]
    assert before.turns[0].concurrency == 1, "until the new configuration is in force"


def test_who_waits_is_called(land: Land, loop: FakeLoop) -> None:
    first, second = (waiter(permits(land, me)) for me in (0, 1))
    loop.perform(first.ask)
    loop.perform(second.ask)
    assert (second.wants, second.turns.waiting) == (1, True)
    loop.perform(first.turns.give)
    assert (second.wants, second.heard, second.turns.waiting) == (0, 1, False)
    assert not first.turns.take()


def test_who_waits_and_wants_no_more_passes_it_on(land: Land, loop: FakeLoop) -> None:
    workers = [permits(land, me) for me in range(3)]
    first, second, third = (waiter(each) for each in workers)
    for each in (first, second, third):
        loop.perform(each.ask)
    second.wants = 0
    loop.perform(first.turns.give)
    assert (second.heard, second.turns.held, third.wants) == (1, [], 0)


def test_who_leaves_is_not_called(land: Land, loop: FakeLoop) -> None:
    workers = [permits(land, me) for me in range(2)]
    first, second = (waiter(each) for each in workers)
    loop.perform(first.ask)
    loop.perform(second.ask)
    workers[1].forget(second.turns, second)
    loop.perform(first.turns.give)
    assert (second.heard, second.turns.waiting) == (0, False)
    assert first.turns.take()


def test_all_who_wait_here_are_called(land: Land, loop: FakeLoop) -> None:
    """Before and after a reload, the same backend may be waited for."""
    workers = [permits(land, me) for me in range(2)]
    first = waiter(workers[0], concurrency=2, wants=2)
    old, new = waiter(workers[1], concurrency=2), waiter(workers[1], concurrency=2)
    loop.perform(first.ask)
    loop.perform(old.ask)
    loop.perform(new.ask)
    workers[1].forget(new.turns, new)
    assert new.turns.waiting, "the other still does"
    loop.perform(new.ask)
    loop.perform(first.turns.give)
    assert (old.wants, new.wants) == (0, 1)
    loop.perform(first.turns.give)
    assert (old.wants, new.wants) == (0, 0)


def test_one_that_fails_harms_no_other(
    land: Land, loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Waiter):
        def look(self) -> None:
            raise RuntimeError("unforeseen")

    workers = [permits(land, me) for me in range(2)]
    first, good = waiter(workers[0]), waiter(workers[1])
    failing = Failing(workers[1], good.turns)
    loop.perform(first.ask)
    loop.perform(failing.ask)
    loop.perform(good.ask)
    loop.perform(first.turns.give)
    assert (failing.wants, good.wants) == (1, 0)
    assert "a place could not be used" in caplog.text


def test_what_nobody_knows_any_more_is_passed_on(land: Land, loop: FakeLoop) -> None:
    workers = [permits(land, me) for me in range(2)]
    first, second = (waiter(each) for each in workers)
    loop.perform(first.ask)
    loop.perform(second.ask)
    # It goes in the moment in which it is promised a place, and its deployment with it.
    flag = 5 * 576 + 1
    workers[1].forget(second.turns, second)
    del second
    land.neighbour(0).memory[flag] = 1
    loop.perform(first.turns.give)
    assert first.turns.take()


def test_who_waits_finds_the_place_of_one_who_died(land: Land, loop: FakeLoop) -> None:
    workers = [permits(land, me) for me in range(2)]
    first, second = (waiter(each) for each in workers)
    loop.perform(first.ask)
    loop.perform(second.ask)
    loop.pass_time(3 * LOOK)
    assert second.wants == 1
    workers[0]._area.die()  # type: ignore[attr-defined]
    loop.pass_time(2 * LOOK)
    assert second.wants == 0
    assert workers[1]._timer is None, "nobody waits"
    assert not first.turns.others_wait()


def test_the_supervisor_gives_away_what_the_dead_had(land: Land, loop: FakeLoop) -> None:
    workers = [permits(land, me) for me in range(3)]
    first, second, third = (waiter(each) for each in workers)
    for each in (first, second, third):
        loop.perform(each.ask)
    # The second dies when it is called, and before it, the first, which called it.
    loop._selector.unregister(workers[1]._area.bell)  # type: ignore[attr-defined]
    first.turns.give()
    for worker in (0, 1):
        workers[worker]._area.die()  # type: ignore[attr-defined]
        loop.perform(lambda worker=worker: land.neighbour(9).clear(worker, 7))  # type: ignore[misc]
    assert third.wants == 0
    again = land.neighbour(1)
    assert again.calls(7) == [], "nobody calls the new one for what the old one wanted"
    third.turns.give()
    assert again.is_idle(5)


def test_an_area_is_not_inherited_unasked() -> None:
    area = SharedArea.create()
    try:
        code = "import os, sys; print([os.path.exists(f'/proc/self/fd/{n}') for n in sys.argv[1:]])"
        numbers = [str(n) for n in area.descriptors.all]
        run = subprocess.run(
            [sys.executable, "-c", f"import os\n{code}", *numbers],
            close_fds=False,
            capture_output=True,
            check=True,
            timeout=30,
        )
        assert b"True" not in run.stdout
        assert len(numbers) == len(set(numbers)) == 81
        assert pickle.loads(pickle.dumps(area.descriptors)) == area.descriptors
        assert repr(area) == "<SharedArea of worker 0>"
        with pytest.raises(PermissionError):
            os.ftruncate(area.descriptors.memory, 0)
    finally:
        area.memory.close()
        for descriptor in area.descriptors.all:
            os.close(descriptor)


def test_the_supervisor_learns_what_there_is() -> None:
    survey = Survey()
    assert survey.at("diabetes", "blue", BACKENDS, 1) is None
    assert survey.spots == [
        ("diabetes", "blue", "10.0.0.5:5001"),
        ("diabetes", "blue", "10.0.0.6:5001/prefix"),
    ]


def stays(path: Path, until: float) -> list[tuple[float, float]]:
    """From when to when a worker had places. Whatever it had when it died counts up to then."""
    begun: list[float] = []
    found = []
    for line in path.read_text().splitlines():
        if line[0] == "+":
            begun.append(float(line[2:]))
        else:
            found.append((begun.pop(0), float(line[2:])))
    return [*found, *((since, until) for since in begun)]


def most_at_once(found: list[tuple[float, float]]) -> int:
    events = [(since, 1) for since, _ in found] + [(until, -1) for _, until in found]
    at_once = most = 0
    for _, change in sorted(events):
        at_once += change
        most = max(most, at_once)
    return most


@pytest.mark.parametrize("concurrency", [1, 2])
def test_processes_that_are_killed_share_exactly(tmp_path: Path, concurrency: int) -> None:
    """Four workers, and one after the other is killed, with a place or without."""
    draw = random.Random(concurrency)
    area = SharedArea.create()
    running: list[tuple[subprocess.Popen[bytes], Path]] = []
    found: list[tuple[float, float]] = []
    number = 0

    def hire(me: int) -> tuple[subprocess.Popen[bytes], Path]:
        nonlocal number
        number += 1
        path = tmp_path / f"{me}-{number}"
        job = Job(me, area.descriptors, 4, concurrency, guests=3, hold=0.003, length=4.0)
        with path.open("wb") as output:
            return job.launch(output), path

    try:
        running = [hire(me) for me in range(4)]
        ends = time.monotonic() + 3.0
        while time.monotonic() < ends:
            time.sleep(draw.uniform(0.05, 0.4))
            me = draw.randrange(4)
            process, path = running[me]
            killed = time.monotonic()
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            found += stays(path, killed)
            if draw.random() < 0.7:
                area.clear(me, 1)
            running[me] = hire(me)
        for process, path in running:
            assert process.wait(30) == 0
            mine = stays(path, 0.0)
            assert len(mine) > 10, "each had its turns"
            found += mine
        assert most_at_once(found) == concurrency
        for me in range(4):
            area.clear(me, 1)
        assert area.is_idle(0)
    finally:
        for process, _ in running:
            process.kill()
            process.wait(10)
        area.memory.close()
        for descriptor in area.descriptors.all:
            os.close(descriptor)
