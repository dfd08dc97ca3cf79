"""One fetch for all workers: what one of them has just fetched is good for the others, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.engine.tasks import spawn

# A failure is remembered for so many seconds: long enough for all workers that ask at once.
FAILURE = 1.0


@dataclass(slots=True)
class _Result:
    until: float
    content: bytes
    problem: str | None


class SharedFetcher:
    """Fetches each URL at most once at a time, and anew only when what is there is old.

    Keys of an issuer are looked for by every worker. Without this, their number would multiply the
    load on the issuer (reliability.md T37).
    """

    def __init__(
        self, fetch: Callable[[str], Awaitable[bytes]], clock: Callable[[], float]
    ) -> None:
        """:param fetch: raises ``OSError`` when the document cannot be had."""
        self._fetch = fetch
        self._clock = clock
        self._results: dict[str, _Result] = {}
        self._running: dict[str, asyncio.Task[_Result]] = {}

    def __repr__(self) -> str:
        return f"<SharedFetcher, {len(self._running)} running>"

    async def __call__(self, url: str, freshness: float) -> bytes:
        """
        :param freshness: seconds for which a document is as good as a new one.
        :raises OSError: it cannot be had; the message says why.
        """
        result = self._results.get(url)
        if result is None or result.until <= self._clock():
            task = self._running.get(url)
            if task is None:
                task = self._running[url] = spawn(self._run(url, freshness), f"fetching {url}")
            result = await asyncio.shield(task)
        if result.problem is not None:
            raise OSError(result.problem)
        return result.content

    async def _run(self, url: str, freshness: float) -> _Result:
        try:
            content = await self._fetch(url)
        except OSError as why:
            result = _Result(self._clock() + min(FAILURE, freshness), b"", str(why))
        else:
            result = _Result(self._clock() + freshness, content, None)
        finally:
            del self._running[url]
        self._results = {
            other: kept for other, kept in self._results.items() if kept.until > self._clock()
        }
        self._results[url] = result
        return result
