"""As many workers as are wanted, whatever becomes of them, and all on the same configuration.

The workers are real processes; they behave as the test says (tests/support/puppet.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.control import workforce as module
from gateway.control.doors import Doors, Wanted
from gateway.control.messages import Counted, Drained
from gateway.control.worker_process import CannotServe, Launch, WorkerProcess
from gateway.control.workforce import Orders, Workforce
from gateway.core.allotting import Allotment
from tests.support.loops import run_within, until

PUPPET = Launch("tests.support.puppet")


class Hall:
    """A workforce, and what it says."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, Any]] = []
        self.gone: list[int] = []
        self.force = Workforce(PUPPET, hear=self._hear, ended=self._note)

    def _hear(self, worker: WorkerProcess, message: Any) -> None:
        self.heard.append((worker.index, message))
        if isinstance(message, Drained):
            worker.cut_off = message.cut_off

    def _note(self, worker: WorkerProcess) -> None:
        self.gone.append(worker.pid)

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self.force.running]


def orders(generation: int, words: str = "", doors: Any = None) -> Orders:
    return Orders(generation, words.encode(), Allotment(), doors or {})


def run(story: Callable[[Hall], Awaitable[None]]) -> None:
    async def main() -> None:
        hall = Hall()
        try:
            await story(hall)
        finally:
            hall.force.kill()
            await hall.force.drain(0.0)

    run_within(40, main())


def test_all_serve_the_same_and_end_when_told() -> None:
    async def story(hall: Hall) -> None:
        await hall.force.start(3, orders(1))
        assert [worker.index for worker in hall.force.running] == [0, 1, 2]
        assert {worker.generation for worker in hall.force.running} == {1}
        assert repr(hall.force) == "<Workforce of 3, generation 1>"
        assert repr(hall.force.running[0]).startswith("<WorkerProcess 0, pid ")
        await hall.force.adopt(3, orders(2))
        assert {worker.generation for worker in hall.force.running} == {2}
        assert await hall.force.drain(5.0) == 1 + 2 + 3
        assert hall.force.running == []
        assert (0, Counted(None)) in hall.heard

    run(story)


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "killed"), (signal.SIGSEGV, "killed")]
)
def test_who_is_killed_is_replaced_at_once(number: signal.Signals, reason: str) -> None:
    async def story(hall: Hall) -> None:
        await hall.force.start(2, orders(1))
        before = hall.pids
        os.kill(before[1], number)
        await until(lambda: len(hall.pids) == 2 and hall.pids[1] != before[1])
        assert hall.pids[0] == before[0]
        assert hall.gone == [before[1]]
        assert hall.force.restarts == {reason: 1}

    run(story)


def test_who_is_replaced_serves_what_is_served_now() -> None:
    async def story(hall: Hall) -> None:
        await hall.force.start(1, orders(1))
        await hall.force.adopt(1, orders(2))
        before = hall.pids
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: bool(hall.pids) and hall.pids != before)
        assert hall.force.running[0].generation == 2

    run(story)


def test_a_configuration_that_one_worker_refuses_is_served_by_none() -> None:
    async def story(hall: Hall) -> None:
        await hall.force.start(3, orders(1))
        with pytest.raises(CannotServe, match="worker 1 cannot"):
            await hall.force.adopt(3, orders(2, "refuse:1"))
        assert {worker.generation for worker in hall.force.running} == {1}
        await hall.force.adopt(3, orders(3))
        assert {worker.generation for worker in hall.force.running} == {3}

    run(story)


def test_who_dies_while_it_prepares_does_not_keep_the_others() -> None:
    async def story(hall: Hall) -> None:
        await hall.force.start(2, orders(1))
        await hall.force.adopt(2, orders(2, "die:1"))
        assert [(w.index, w.generation) for w in hall.force.running] == [(0, 2)]

    run(story)


@pytest.mark.parametrize(
    ("words", "why"), [("refuse", "worker 0 cannot"), ("die", "worker 0 has ended")]
)
def test_a_start_that_fails_says_why(words: str, why: str) -> None:
    async def story(hall: Hall) -> None:
        with pytest.raises(CannotServe, match=why):
            await hall.force.start(1, orders(1, words))

    run(story)


def test_who_dies_again_and_again_is_replaced_more_and_more_slowly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(hall: Hall) -> None:
        await hall.force.start(1, orders(1, "die-young"))
        began = asyncio.get_running_loop().time()
        await until(lambda: hall.force.restarts["exited"] >= 4)
        # 0.1 + 0.2 + 0.4 s between them, and the time they take to start.
        assert asyncio.get_running_loop().time() - began > 0.7

    with caplog.at_level(logging.ERROR):
        run(story)
    assert any("ended with status 9 and is replaced" in text for text in caplog.messages)


def test_who_gives_no_sign_of_life_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_LAST_WORDS", 0.2)

    async def story(hall: Hall) -> None:
        hall.force.timeout = 3600.0
        await hall.force.start(2, orders(1))
        before = hall.pids
        await hall.force.adopt(2, orders(2, "hang:1"))
        hall.force.timeout = 0.5
        # The puppets say nothing unless asked: the other one has to be kept alive.
        kept = hall.force.running[0]
        while len(hall.pids) < 2 or hall.pids[1] == before[1]:
            kept.heard = asyncio.get_running_loop().time()
            await asyncio.sleep(0.02)
        hall.force.timeout = 3600.0
        assert hall.pids[0] == before[0]
        assert hall.force.restarts == {"stuck": 1}

    with caplog.at_level(logging.ERROR):
        run(story)
    assert any("has given no sign of life for 0.5 s" in text for text in caplog.messages)


@pytest.mark.parametrize("counts", [(1, 3), (3, 1), (2, 4, 1, 2)])
def test_the_number_of_workers_can_change(counts: tuple[int, ...]) -> None:
    async def story(hall: Hall) -> None:
        await hall.force.start(counts[0], orders(1))
        for generation, count in enumerate(counts[1:], 2):
            await hall.force.adopt(count, orders(generation))
            await until(lambda count=count: len(hall.pids) == count)  # type: ignore[misc]
        await until(lambda: {w.generation for w in hall.force.running} == {len(counts)})
        assert not hall.force.restarts

    run(story)


def test_who_does_not_end_in_time_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_MARGIN", 0.2)

    async def story(hall: Hall) -> None:
        await hall.force.start(2, orders(1, "linger:1"))
        assert await hall.force.drain(0.1) == 3

    with caplog.at_level(logging.ERROR):
        run(story)
    assert caplog.messages == ["worker 1 did not end in time and is killed"]


def test_sockets_are_passed_once_and_to_replacements_again() -> None:
    async def story(hall: Hall) -> None:
        doors = Doors()
        doors.adopt(doors.prepare([Wanted("listen", ("127.0.0.1", 0), 5)]))
        first = doors.prepare([Wanted("listen", ("127.0.0.1", 0), 5)])
        await hall.force.start(1, orders(1, doors=first))
        assert hall.force.running[0]._given == {1}
        both = doors.prepare(
            [Wanted("listen", ("127.0.0.1", 0), 5), Wanted("plain", ("127.0.0.1", 0), 5)]
        )
        doors.adopt(both)
        await hall.force.adopt(1, orders(2, doors=both))
        assert hall.force.running[0]._given == {1, 2}
        before = hall.pids
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: bool(hall.pids) and hall.pids != before)
        assert hall.force.running[0]._given == {1, 2}
        doors.close()

    run(story)
