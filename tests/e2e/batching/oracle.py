"""Callers whose every row has one right answer that nobody else can have.

The container answers each row with its keyed hash. A caller that is told the hash of another row
has been told something of another caller; one that is told nothing has been forgotten.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NoReturn

from tests.e2e.batching.calling import Address, Caller
from tests.support.raw import Answer, Closed, request

KEY = "the key of the hashes"
_HASH = re.compile(rb"[0-9a-f]{32}")
_MOST_ROWS = 50
# What callers are told of the faults on the way. 500 is the container's own, passed on.
_HONEST = frozenset((500, 502, 503, 504))

Row = list[int]


class Betrayed(AssertionError):
    """A caller got what is not its own, or got nothing."""


def hash_of(row: Row) -> str:
    """What the container answers to a row."""
    return hashlib.blake2b(repr(row).encode(), key=KEY.encode(), digest_size=16).hexdigest()


@dataclass(slots=True)
class Oracle:
    """Sends rows and judges what comes back. ``seen`` counts what became of requests: ``answered``,
    ``left``, ``broken`` (the connection ended within the answer), or the status of a failure."""

    address: Address
    path: str
    #: What callers show at the door, one for each principal.
    credentials: list[str]
    #: Seconds that a caller waits for its answer.
    patience: float = 30.0
    #: How many in a hundred requests their callers do not wait for.
    leaving: int = 10
    rows: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    _number: int = 0

    async def run(self, callers: int, rows: int) -> None:
        """Send at least so many rows.

        :raises Betrayed: at the first answer that is wrong or missing.
        """
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(self._call(number, rows))

    async def _call(self, number: int, rows: int) -> None:
        draw = random.Random(number)
        credential = self.credentials[number % len(self.credentials)]
        caller = Caller(self.address)
        try:
            while self.rows < rows:
                count = 1 if draw.random() < 0.6 else draw.randint(1, _MOST_ROWS)
                await self._ask(caller, credential, number, count, draw)
            async with asyncio.timeout(self.patience):
                if rest := await caller.end():
                    _accuse("more came than was asked for", rest)
        finally:
            await caller.leave()

    async def _ask(
        self, caller: Caller, credential: str, number: int, count: int, draw: random.Random
    ) -> None:
        self._number += 1
        mine = [[number, self._number, at, draw.getrandbits(40)] for at in range(count)]
        body = json.dumps({"data": mine}).encode()
        await caller.send(request(self.path, body, key=credential))
        self.rows += count
        if draw.randrange(100) < self.leaving:
            await asyncio.sleep(draw.choice((0.0, 0.001, 0.01, 0.03)))
            await caller.leave()
            self.seen["left"] += 1
            return
        try:
            async with asyncio.timeout(self.patience):
                answer = await caller.answer()
        except TimeoutError:
            _accuse(f"nothing came within {self.patience} s", body)
        except Closed as end:
            # An answer that began and visibly did not end: of a part, even, nothing may be foreign.
            if not end.data:
                _accuse("the connection was closed without an answer", body)
            self._check_part(end.data, mine)
            self.seen["broken"] += 1
        else:
            self._check(answer, mine)

    def _check(self, answer: Answer, mine: list[Row]) -> None:
        if answer.status == 200:
            expected = json.dumps([hash_of(row) for row in mine]).encode()
            if answer.body != expected:
                _accuse(f"{expected[:200]!r} was due", answer.body)
            self.seen["answered"] += 1
            return
        if answer.status not in _HONEST or _HASH.search(answer.body):
            _accuse(f"status {answer.status}", answer.body)
        self.seen[str(answer.status)] += 1

    def _check_part(self, data: bytes, mine: list[Row]) -> None:
        body = data.partition(b"\r\n\r\n")[2]
        known = {hash_of(row).encode() for row in mine}
        for found in _HASH.findall(body):
            if found not in known:
                _accuse("a foreign hash", body)


def _accuse(what: str, data: bytes) -> NoReturn:
    raise Betrayed(f"{what}: {data[:400]!r}")
