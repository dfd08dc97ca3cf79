"""One page from many workers: those that have died still count, and no busy one holds it up."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

from gateway.control.gatherings import METRICS_WAIT, Gatherings
from gateway.control.messages import Count, Counted, Describe, Described
from gateway.control.worker_process import WorkerProcess
from gateway.control.workforce import Workforce
from gateway.core.series import Reporter
from gateway.core.statistics import ConnectionTally, LagTally, Statistics, Tally
from tests.support.loops import run_within


class Worker:
    """Answers what it is asked, unless it is busy."""

    def __init__(self, hall: Hall, pid: int) -> None:
        self.pid = pid
        self.busy = False
        self.tally = Tally()
        self.reporter = Reporter()
        self._hall = hall
        self.channel = self

    def report(self) -> Counted:
        statistics = Statistics(ConnectionTally(9), self.tally, [], 0, LagTally(), 0.0)
        return Counted(self.reporter.report(statistics))

    def send(self, message: Any) -> None:
        if self.busy:
            return
        if isinstance(message, Count):
            answer: Any = self.report()
        else:
            assert isinstance(message, Describe)
            answer = Described(message.number, {"e": {"d": described(self.pid)}})
        asyncio.get_running_loop().call_soon(
            self._hall.gatherings.take, cast(WorkerProcess, self), answer
        )


def described(connections: int) -> dict[str, Any]:
    backend = {"name": "h:1", "places_taken": 0, "connections": connections}
    return {"backends": [backend], "places": 1, "waiting": 0, "batching": {"mode": "off"}}


class Hall:
    """Workers that are no processes."""

    def __init__(self) -> None:
        self.running: list[Worker] = []
        self.restarts: Counter[str] = Counter()
        self.gatherings = Gatherings(cast(Workforce, self))

    def hire(self, pid: int) -> Worker:
        self.running.append(worker := Worker(self, pid))
        return worker

    def lose(self, worker: Worker) -> None:
        self.running.remove(worker)
        self.gatherings.forget(cast(WorkerProcess, worker))

    async def value(self, series: str) -> float | None:
        for line in (await self.gatherings.metrics()).decode().splitlines():
            name, _, number = line.rpartition(" ")
            if name == series:
                return float(number)
        return None


ANSWERED = 'gateway_requests_total{endpoint="",deployment="",code="404"}'


def test_a_scrape_shows_what_all_workers_count_at_that_moment() -> None:
    async def story() -> None:
        hall = Hall()
        assert await hall.value(ANSWERED) is None
        one, other = hall.hire(10), hall.hire(20)
        one.tally.codes[404], other.tally.codes[404] = 3, 4
        assert await hall.value(ANSWERED) == 7
        one.tally.codes[404] = 5
        assert await hall.value(ANSWERED) == 9
        assert await hall.value("gateway_workers") == 2
        assert repr(hall.gatherings) == "<Gatherings of 2 workers>"

    run_within(10, story())


def test_what_a_dead_worker_has_counted_stays_and_its_number_is_used_again() -> None:
    async def story() -> None:
        hall = Hall()
        one, other = hall.hire(10), hall.hire(20)
        one.tally.codes[404], other.tally.codes[404] = 3, 4
        await hall.gatherings.metrics()
        hall.lose(one)
        assert await hall.value(ANSWERED) == 7
        assert await hall.value("gateway_connections_limit") == 9
        hall.hire(30).tally.codes[404] = 1
        assert await hall.value(ANSWERED) == 8
        assert sorted(hall.gatherings._numbers.values()) == [0, 1]
        hall.lose(hall.hire(40))  # it was never heard of

    run_within(10, story())


def test_a_worker_that_is_busy_is_not_waited_for() -> None:
    async def story() -> None:
        hall = Hall()
        one, other = hall.hire(10), hall.hire(20)
        one.tally.codes[404] = other.tally.codes[404] = 3
        await hall.gatherings.metrics()
        one.busy = True
        one.tally.codes[404] = other.tally.codes[404] = 4
        began = asyncio.get_running_loop().time()
        assert await hall.value(ANSWERED) == 3 + 4
        assert asyncio.get_running_loop().time() - began >= METRICS_WAIT / 2
        hall.lose(one)
        assert await hall.value(ANSWERED) == 3 + 4

    run_within(10, story())


def test_the_state_of_the_deployments_is_that_of_all_workers() -> None:
    async def story() -> None:
        hall = Hall()
        assert await hall.gatherings.deployments() == {}
        hall.hire(10)
        hall.hire(20)
        page = await hall.gatherings.deployments()
        assert page["e"]["d"]["backends"] == [{"name": "h:1", "places_taken": 0, "connections": 30}]
        # An answer to what nobody asks any more.
        hall.gatherings.take(cast(WorkerProcess, hall.running[0]), Described(1, {}))

    run_within(10, story())
