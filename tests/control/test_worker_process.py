"""One worker process: what it is asked, what it answers, and how it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.control.messages import Counted, Describe, Described, Drain, Drained, Prepare
from gateway.control.worker_process import CannotServe, Launch, WorkerLost, WorkerProcess
from gateway.core.allotting import Allotment
from tests.support.loops import run_within

Heard = list[Any]


def message(generation: int, words: bytes) -> Prepare:
    return Prepare(generation, words, Allotment(), ())


def run(story: Callable[[WorkerProcess, Heard], Awaitable[None]]) -> None:
    async def main() -> None:
        heard: Heard = []
        worker = WorkerProcess(2, lambda _, message: heard.append(message))
        await worker.start(Launch("tests.support.puppet"))
        try:
            await story(worker, heard)
        finally:
            worker.kill()
            await worker.ended

    run_within(20, main())


def test_it_serves_what_it_was_told_to_prepare() -> None:
    async def story(worker: WorkerProcess, heard: Heard) -> None:
        assert (worker.generation, worker.is_alive) == (0, True)
        await worker.prepare(message(1, b""), ())
        assert worker.generation == 0
        await worker.commit(1)
        assert worker.generation == 1
        worker.channel.send(Describe(7))
        worker.channel.send(Drain(1.0))
        assert await worker.ended == 0
        # Nothing of what it said before its end is lost.
        assert heard == [Counted(None), Described(7, {"sockets": 0}), Drained(3)]

    run(story)


def test_it_may_refuse() -> None:
    async def story(worker: WorkerProcess, _: Heard) -> None:
        with pytest.raises(CannotServe, match="worker 2 cannot"):
            await worker.prepare(message(1, b"refuse"), ())
        await worker.prepare(message(2, b""), ())

    run(story)


def test_its_end_is_noticed_at_once() -> None:
    async def story(worker: WorkerProcess, _: Heard) -> None:
        with pytest.raises(WorkerLost, match="worker 2 has ended"):
            await worker.prepare(message(1, b"die"), ())
        assert await worker.ended == 7
        with pytest.raises(WorkerLost):
            await worker.commit(1)
        worker.kill()

    run(story)


def test_a_signal_is_its_status() -> None:
    async def story(worker: WorkerProcess, _: Heard) -> None:
        os.kill(worker.pid, signal.SIGKILL)
        assert await worker.ended == -signal.SIGKILL

    run(story)


def test_it_is_this_very_program_wherever_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tests" / "support"
    folder.mkdir(parents=True)
    (folder / "puppet.py").write_text("raise SystemExit(99)")
    monkeypatch.chdir(tmp_path)

    async def story(worker: WorkerProcess, _: Heard) -> None:
        await worker.prepare(message(1, b""), ())

    run(story)
