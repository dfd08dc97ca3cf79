"""Keeps the keys of an issuer fresh, without ever making a request wait for it in vain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from gateway.core.gates import KeySource
from gateway.core.jwks import KeySet, UnusableKey, keys_from_jwks
from gateway.engine.exchange import Exchange
from gateway.engine.tasks import spawn
from gateway.engine.walking import resume

_log = logging.getLogger("gateway")

# An unknown `kid` may mean a new key, or an attacker: one fetch in this many seconds answers both
# (reliability.md T37).
REFETCH_INTERVAL = 30.0
# After a failed fetch the next try comes sooner than the regular one, doubling up to this.
MAX_RETRY = 300.0


class KeyKeeper:
    """Fetches a JWK Set in the background and puts it into a ``KeySource`` whole.

    What was fetched last stays valid while the issuer cannot be reached: its outage must not become
    ours (PyJWT GHSA-fhv5-28vv-h8m8). A walk with an unknown ``kid`` may wait for one refetch.
    """

    __slots__ = (
        "_allowed",
        "_clock",
        "_draw",
        "_fetch",
        "_interval",
        "_last",
        "_refreshing",
        "_retired",
        "_task",
        "_waiting",
        "failures",
        "fetches",
        "source",
        "url",
    )

    def __init__(
        self,
        url: str,
        source: KeySource,
        *,
        fetch: Callable[[str], Awaitable[bytes]],
        allowed: Collection[str],
        interval: float,
        clock: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        """
        :param fetch: returns the document; raises ``OSError`` when it cannot be had.
        :param allowed: algorithms that tokens may use.
        :param interval: seconds between regular fetches, jittered by a tenth.
        :param draw: a random number in [0, 1).
        """
        self.url = url
        self.source = source
        self.fetches = 0
        self.failures = 0
        self._fetch = fetch
        self._allowed = frozenset(allowed)
        self._interval = interval
        self._clock = clock
        self._draw = draw
        self._last = -REFETCH_INTERVAL
        self._refreshing = False
        self._retired = False
        self._waiting: list[Exchange] = []
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<KeyKeeper {self.url}: {len(self.source.keys.keys)} keys>"

    def start(self) -> None:
        self._task = spawn(self._run(), f"keys of {self.url}")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def retire(self) -> None:
        """Fetch nothing more; but whoever waits for a fetch that is under way gets its keys."""
        self._retired = True
        if not self._refreshing:
            self.stop()

    def wait(self, exchange: Exchange) -> bool:
        """Ask for newer keys. True if the walk must park: it is resumed when they are there, or
        when they could not be had. False if asking again now would be no use."""
        if not self._refreshing:
            if self._clock() - self._last < REFETCH_INTERVAL:
                return False
            spawn(self._refresh(), f"unknown key of {self.url}")
            self._refreshing = True
        exchange.custody = self
        self._waiting.append(exchange)
        return True

    def abandon(self, exchange: Exchange) -> None:
        # It may be gone from the list: one walk that goes on can end another.
        if exchange in self._waiting:
            self._waiting.remove(exchange)

    async def _run(self) -> None:
        retry = 1.0
        while True:
            if await self._refresh():
                retry = 1.0
                pause = self._interval
            else:
                pause = min(retry, self._interval)
                retry = min(retry * 2, MAX_RETRY)
            await asyncio.sleep(pause * (0.9 + 0.2 * self._draw()))

    async def _refresh(self) -> bool:
        self._refreshing = True
        self._last = self._clock()
        try:
            keys = keys_from_jwks(await self._fetch(self.url), self._allowed)
        except (OSError, UnusableKey) as why:
            self.failures += 1
            left = "the old ones stay" if self.source.keys.keys else "there are none yet"
            _log.warning("keys of %s could not be fetched, %s: %s", self.url, left, why)
            return False
        except Exception:  # noqa: BLE001  without this task, keys would be the same for ever
            self.failures += 1
            _log.exception("keys of %s could not be fetched", self.url)
            return False
        else:
            self._put(keys)
            return True
        finally:
            # Counted when it has ended: one on its way is no success.
            self.fetches += 1
            self._refreshing = False
            self._wake()
            if self._retired:
                self.stop()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for exchange in waiting:
            try:
                resume(exchange, None)
            except Exception:  # noqa: BLE001  the others wait too
                _log.exception("request %s failed at its end", exchange.request_id.decode())

    def _put(self, keys: KeySet) -> None:
        # An unchanged set keeps its identity, so that verdicts given under it stay good.
        for note in keys.notes:
            _log.warning("keys of %s: left out %s", self.url, note)
        if [key.kid for key in keys.keys] != [key.kid for key in self.source.keys.keys]:
            _log.info("keys of %s: now %d", self.url, len(keys.keys))
        self.source.keys = keys
