"""Background tasks are kept alive, named, and never fail in silence."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator

import pytest

from gateway.engine.tasks import spawn
from tests.support.fakes import FakeClock, FakeLoop


@pytest.fixture
def loop() -> Iterator[FakeLoop]:
    loop = FakeLoop(FakeClock())
    yield loop
    loop.shut()
    assert loop.mishaps == []


def test_a_task_bears_its_name_and_runs(loop: FakeLoop) -> None:
    done: list[str] = []

    async def work() -> None:
        done.append("done")

    task = loop.perform(lambda: spawn(work(), "the work"))
    assert (task.get_name(), done, task.done()) == ("the work", ["done"], True)


def test_a_task_that_nobody_holds_is_not_collected(loop: FakeLoop) -> None:
    bell: list[asyncio.Future[None]] = []
    done: list[bool] = []

    async def wait() -> None:
        bell.append(asyncio.get_running_loop().create_future())
        await bell[0]
        done.append(True)

    loop.perform(lambda: (spawn(wait(), "waits"), None)[1])
    gc.collect()
    loop.perform(lambda: bell[0].set_result(None))
    assert done == [True]


def test_a_failure_that_nobody_awaits_is_logged_with_its_cause(
    loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("what went wrong")

    loop.perform(lambda: spawn(fail(), "the unlucky one"))
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.ERROR,
        "task the unlucky one failed",
    )
    assert "what went wrong" in caplog.text


def test_a_cancelled_task_is_no_failure(loop: FakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    task = loop.perform(lambda: spawn(asyncio.sleep(10), "sleeps"))
    loop.perform(task.cancel)
    assert task.cancelled()
    assert caplog.records == []
