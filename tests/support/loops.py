"""Event loops for tests that wait: every wait has an end, and a name when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def run_within(seconds: float, story: Coroutine[Any, Any, Any]) -> None:
    """Run a story in a loop of its own.

    :raises TimeoutError: it does not end in time.
    """

    async def main() -> None:
        async with asyncio.timeout(seconds):
            await story

    asyncio.run(main())


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for something that other processes bring about.

    :raises TimeoutError: it does not come about in time.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.01)
