"""A worker that does nothing but share places with others: started as a process of its own.

    python -m tests.support.sharers PICKLED_JOB_IN_HEX

It writes a line when a guest gets a place (``+ 12.345``, monotonic seconds) and one when it gives
it back (``- 12.346``), in one write each, to standard output.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import uvloop

from gateway.core.allotting import Allotment
from gateway.core.backends import Backend
from gateway.engine.exchange import Exchange
from gateway.engine.permits import Descriptors, Permits, SharedArea, spot_of
from gateway.engine.pools import Pool, Pooled
from gateway.engine.slots import Slots
from gateway.engine.walking import park, start

BACKEND = Backend("10.0.0.5", 5001)
SPOT = spot_of("diabetes", "blue", BACKEND)
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Job:
    """What one worker has to do."""

    me: int
    descriptors: Descriptors
    workers: int
    concurrency: int
    #: Guests that come again and again.
    guests: int
    #: Seconds that each has its place.
    hold: float
    #: Seconds until nobody comes any more.
    length: float
    #: Instead of guests: how often a place is taken and given back, as fast as it goes. What that
    #: takes of the processor, seconds for all of it, is written instead of the lines.
    rush: int = 0

    def launch(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.sharers", pickle.dumps(self).hex()],
            pass_fds=self.descriptors.all,
            stdout=output,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


async def _never(pool: Pool) -> Pooled:
    raise AssertionError


class _Guest:
    """Wants a place, has it for a while, and comes again."""

    request_id = b"guest"
    queue_seconds = 0.0

    def __init__(self, job: Job, slots: Slots, until: float) -> None:
        self.deadline = time.monotonic() + 600.0
        self.custody: object = None
        self.walk: Coroutine[None, Any, None] | None = None
        self._job = job
        self._slots = slots
        self._until = until
        self.done = asyncio.get_running_loop().create_future()

    async def visit(self) -> None:
        slots = self._slots
        pool = slots.take(()) or slots.wait(cast(Exchange, self), ()) or await park()
        os.write(1, b"+ %.6f\n" % time.monotonic())
        asyncio.get_running_loop().call_later(self._job.hold, self._leave, pool)

    def _leave(self, pool: Pool) -> None:
        os.write(1, b"- %.6f\n" % time.monotonic())
        self._slots.give_back(pool)
        if time.monotonic() < self._until:
            start(self, self.visit())
        else:
            self.done.set_result(None)


async def _work(job: Job) -> None:
    permits = Permits(SharedArea.join(job.me, job.descriptors))
    permits.adopt(Allotment(job.workers, {SPOT: 0}))
    pool = Pool(BACKEND, _never, limit=9, idle_timeout=1, connect_timeout=1)
    slots = Slots(
        [pool],
        concurrency=job.concurrency,
        max_wait=60.0,
        max_length=10_000,
        clock=time.monotonic,
        permit=permits.at("diabetes", "blue", [BACKEND], job.concurrency),
    )
    if job.rush:
        begun = time.process_time()
        for _ in range(job.rush):
            taken = slots.take(())
            if taken is not None:
                slots.give_back(taken)
        os.write(1, b"%.6f\n" % (time.process_time() - begun))
        return
    until = time.monotonic() + job.length
    guests = [_Guest(job, slots, until) for _ in range(job.guests)]
    for guest in guests:
        start(guest, guest.visit())
    for guest in guests:
        await guest.done


if __name__ == "__main__":
    uvloop.run(_work(pickle.loads(bytes.fromhex(sys.argv[1]))))
