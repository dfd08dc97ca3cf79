"""A walk is driven by whoever it waits for, one step at a time, and ends once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.engine.walking import interrupt, park, resume, start


class Walker:
    """Carries a walk that writes a diary."""

    def __init__(self) -> None:
        self.walk: Coroutine[None, Any, None] | None = None
        self.diary: list[object] = []

    async def rest(self, times: int) -> None:
        """Wait so many times and note what each brought."""
        self.diary.append("begin")
        for _ in range(times):
            try:
                self.diary.append(await park())
            except LookupError as error:
                self.diary.append(error)
        self.diary.append("end")


def test_a_walk_runs_to_its_first_rest_at_once() -> None:
    walker = Walker()
    start(walker, walker.rest(1))
    assert walker.diary == ["begin"]
    assert walker.walk is not None


def test_a_walk_that_waits_for_nothing_is_over_at_once() -> None:
    walker = Walker()
    start(walker, walker.rest(0))
    assert walker.diary == ["begin", "end"]
    assert walker.walk is None


def test_a_walk_gets_what_it_is_resumed_with() -> None:
    walker = Walker()
    start(walker, walker.rest(2))
    resume(walker, "first")
    assert walker.diary == ["begin", "first"]
    resume(walker, None)
    assert walker.diary == ["begin", "first", None, "end"]
    assert walker.walk is None


def test_an_interruption_comes_where_the_walk_waits() -> None:
    walker, error = Walker(), LookupError()
    start(walker, walker.rest(2))
    interrupt(walker, error)
    resume(walker, "then")
    assert walker.diary == ["begin", error, "then", "end"]


def test_nobody_can_disturb_a_walk_that_is_over() -> None:
    walker = Walker()
    start(walker, walker.rest(0))
    resume(walker, "late")
    interrupt(walker, LookupError())
    assert walker.diary == ["begin", "end"]


BEGUN: dict[str, Callable[[Walker], None]] = {
    "started": lambda walker: None,
    "resumed": lambda walker: resume(walker, 1),
    "interrupted": lambda walker: interrupt(walker, LookupError()),
}


@pytest.mark.parametrize("how", BEGUN)
def test_what_a_walk_does_not_catch_reaches_whoever_drove_it_and_ends_the_walk(how: str) -> None:
    async def stumble() -> None:
        if how != "started":
            with contextlib.suppress(LookupError):
                await park()
        raise ZeroDivisionError

    walker = Walker()

    def drive() -> None:
        start(walker, stumble())
        BEGUN[how](walker)

    with pytest.raises(ZeroDivisionError):
        drive()
    assert walker.walk is None
    resume(walker, "late")


def test_walks_can_resume_each_other() -> None:
    first, second = Walker(), Walker()

    async def relay() -> None:
        first.diary.append(await park())
        resume(second, "from the first")
        first.diary.append("went on")

    start(second, second.rest(1))
    start(first, relay())
    resume(first, "go")
    assert first.diary == ["go", "went on"]
    assert second.diary == ["begin", "from the first", "end"]
