"""However many workers ask for a document, its issuer is asked as if there were one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.control.sharing import FAILURE, SharedFetcher
from gateway.engine.tasks import spawn
from tests.support.loops import run_within

URL = "https://issuer.example/keys"


class Issuer:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.problem: str | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        number = len(self.asked)
        await self.gate.wait()
        if self.problem is not None:
            raise OSError(self.problem)
        return b"document %d" % number


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def run(story: Callable[[Issuer, Clock, SharedFetcher], Awaitable[None]]) -> None:
    async def main() -> None:
        issuer, clock = Issuer(), Clock()
        await story(issuer, clock, SharedFetcher(issuer, clock))

    run_within(10, main())


def test_who_asks_while_it_is_fetched_gets_the_same() -> None:
    async def story(issuer: Issuer, _: Clock, fetch: SharedFetcher) -> None:
        issuer.gate.clear()
        asking = [spawn(fetch(URL, 0.0), "worker") for _ in range(8)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert "1 running" in repr(fetch)
        issuer.gate.set()
        assert await asyncio.gather(*asking) == [b"document 1"] * 8
        assert issuer.asked == [URL]

    run(story)


def test_a_document_is_good_for_as_long_as_it_is_fresh() -> None:
    async def story(issuer: Issuer, clock: Clock, fetch: SharedFetcher) -> None:
        assert await fetch(URL, 5.0) == b"document 1"
        clock.now += 4.9
        assert await fetch(URL, 5.0) == b"document 1"
        clock.now += 0.2
        assert await fetch(URL, 5.0) == b"document 2"
        assert await fetch(f"{URL}/other", 5.0) == b"document 3"

    run(story)


def test_a_failure_is_told_to_all_and_soon_forgotten() -> None:
    async def story(issuer: Issuer, clock: Clock, fetch: SharedFetcher) -> None:
        issuer.problem = "no answer"
        for _ in range(3):
            with pytest.raises(OSError, match="no answer"):
                await fetch(URL, 25.0)
        assert len(issuer.asked) == 1
        issuer.problem = None
        clock.now += FAILURE
        assert await fetch(URL, 25.0) == b"document 2"

    run(story)


def test_who_gives_up_waiting_spoils_nothing() -> None:
    async def story(issuer: Issuer, _: Clock, fetch: SharedFetcher) -> None:
        issuer.gate.clear()
        first = spawn(fetch(URL, 5.0), "worker")
        second = spawn(fetch(URL, 5.0), "worker")
        await asyncio.sleep(0)
        first.cancel()
        issuer.gate.set()
        assert await second == b"document 1"

    run(story)
