"""What all workers say, put together for the admin port."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from itertools import count
from typing import Any

from gateway.control.merging import merge_deployments
from gateway.control.messages import Count, Counted, Describe, Described
from gateway.control.metrics import Metrics, Supervision
from gateway.control.worker_process import WorkerProcess
from gateway.control.workforce import Workforce

# Seconds that a page waits for what the workers say now. Without that, what they said last counts:
# a scrape must not wait for a worker that is busy (or stuck).
METRICS_WAIT = 0.01
DEPLOYMENTS_WAIT = 2.0


class Gatherings:
    """Keeps the sums of all workers there ever were."""

    def __init__(self, workforce: Workforce) -> None:
        self._workforce = workforce
        self._metrics = Metrics()
        #: Small numbers, which become labels. A successor gets that of whom it replaces.
        self._numbers: dict[WorkerProcess, int] = {}
        #: Workers whose report is waited for, and who waits.
        self._reporting: set[WorkerProcess] = set()
        self._reported: asyncio.Event = asyncio.Event()
        self._asked: dict[int, tuple[dict[int, Any], asyncio.Event]] = {}
        self._questions = count(1)
        #: Configurations read while running, by how that went.
        self.reloads: Counter[str] = Counter()
        self.last_reload_successful = True
        self.generation = 1
        #: Unix time at which certificates end, by what for and which file.
        self.certificates: Mapping[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        return f"<Gatherings of {len(self._numbers)} workers>"

    def take(self, worker: WorkerProcess, message: Any) -> None:
        """What a worker says."""
        if isinstance(message, Counted):
            if message.changes is not None:
                self._metrics.totals.apply(self._number(worker), message.changes)
            self._reporting.discard(worker)
            if not self._reporting:
                self._reported.set()
        elif isinstance(message, Described) and message.number in self._asked:
            states, complete = self._asked[message.number]
            states[self._number(worker)] = message.state
            if len(states) >= len(self._workforce.running):
                complete.set()

    def forget(self, worker: WorkerProcess) -> None:
        """A worker is no more. What it has counted stays."""
        number = self._numbers.pop(worker, None)
        if number is not None:
            self._metrics.totals.retire(number)
        self._reporting.discard(worker)

    async def metrics(self) -> bytes:
        """The page of metrics."""
        running = self._workforce.running
        self._reporting.update(running)
        self._reported.clear()
        for worker in running:
            worker.channel.send(Count())
        if running:
            await _wait(self._reported, METRICS_WAIT)
        supervision = Supervision(
            {self._number(worker): worker.pid for worker in running},
            self._workforce.restarts,
            self.generation,
            self.reloads,
            self.last_reload_successful,
            self.certificates,
        )
        return self._metrics.render(supervision)

    async def deployments(self) -> Any:
        """The state of every deployment."""
        question = next(self._questions)
        states: dict[int, Any] = {}
        complete = asyncio.Event()
        self._asked[question] = states, complete
        running = self._workforce.running
        for worker in running:
            worker.channel.send(Describe(question))
        try:
            if running:
                await _wait(complete, DEPLOYMENTS_WAIT)
        finally:
            del self._asked[question]
        return merge_deployments(states)

    def _number(self, worker: WorkerProcess) -> int:
        number = self._numbers.get(worker)
        if number is None:
            taken = set(self._numbers.values())
            number = next(each for each in count() if each not in taken)
            self._numbers[worker] = number
        return number


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
