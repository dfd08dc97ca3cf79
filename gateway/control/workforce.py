"""Keeps as many workers running as are wanted, all on the same configuration."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.control.messages import Abort, Door, Drain, Prepare
from gateway.control.worker_process import CannotServe, Launch, WorkerLost, WorkerProcess
from gateway.core.allotting import Allotment
from gateway.core.restarts import Restarts
from gateway.engine.tasks import spawn

_log = logging.getLogger("gateway")

# Workers at most, those that are leaving included.
MOST = 64
# Seconds for a worker to start, or to build what a configuration says.
PATIENCE = 30.0
# Beyond the time that a worker has for what is in flight, to end.
_MARGIN = 5.0
# Between two looks at who has not been heard of.
_LOOK = 0.25
# From the signal that makes a stuck worker say where it is stuck, to the one that ends it.
_LAST_WORDS = 1.0


@dataclass(frozen=True, slots=True)
class Orders:
    """What all workers are to serve."""

    generation: int
    payload: bytes
    #: How they share the places at the containers.
    allotment: Allotment
    doors: Mapping[str, tuple[Door, socket.socket]]

    @property
    def message(self) -> Prepare:
        doors = tuple(door for door, _ in self.sockets)
        return Prepare(self.generation, self.payload, self.allotment, doors)

    @property
    def sockets(self) -> Sequence[tuple[Door, socket.socket]]:
        return tuple(self.doors.values())


class Workforce:
    """The workers of one gateway."""

    def __init__(
        self,
        launch: Launch,
        *,
        hear: Callable[[WorkerProcess, Any], None],
        ended: Callable[[WorkerProcess], None],
    ) -> None:
        """
        :param hear: gets what a worker says, but for its answers to what is asked here.
        :param ended: is told of every worker that is no more, before its number is used again.
        """
        self._launch = launch
        self._hear = hear
        self._ended = ended
        self._orders = Orders(0, b"", Allotment(), {})
        self._keepers: dict[int, asyncio.Task[None]] = {}
        self._stuck: set[int] = set()
        self._workers: dict[int, WorkerProcess] = {}
        #: Whose process has not ended, those without a place among them.
        self._everybody: set[WorkerProcess] = set()
        #: Only one at a time changes what is served.
        self._changing = asyncio.Lock()
        self._stopping = False
        self._watching: asyncio.TimerHandle | None = None
        self._looked = 0.0
        #: Seconds without a sign of life after which a worker is replaced.
        self.timeout = 10.0
        #: Seconds that a worker whose place is gone has for what is in flight.
        self.grace = 30.0
        #: Workers that were replaced, by why.
        self.restarts: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Workforce of {len(self._workers)}, generation {self._orders.generation}>"

    @property
    def running(self) -> list[WorkerProcess]:
        """Workers that serve, by number."""
        alive = (self._workers[index] for index in sorted(self._workers))
        return [worker for worker in alive if worker.is_alive and worker.generation]

    async def start(self, count: int, orders: Orders) -> None:
        """Start workers, and return when all of them serve.

        :raises CannotServe: one of them cannot do what the configuration says, or does not start.
        """
        self._orders = orders
        self._look()
        workers = await asyncio.gather(*(self._hire(index) for index in range(count)))
        for index, worker in enumerate(workers):
            self._keep(index, worker)

    async def adopt(self, count: int, orders: Orders) -> None:
        """Have all workers serve something else, or none of them.

        :raises CannotServe: one of them cannot; all serve what they did before.
        """
        async with self._changing:
            asked = self.running
            results = await asyncio.gather(
                *(self._prepare(worker, orders) for worker in asked), return_exceptions=True
            )
            problems = [result for result in results if isinstance(result, CannotServe)]
            if problems:
                for worker in asked:
                    worker.channel.send(Abort(orders.generation))
                raise problems[0]
            self._orders = orders
            ready = [w for w, result in zip(asked, results, strict=True) if result is None]
            await asyncio.gather(*(self._commit(worker, orders) for worker in ready))
        if not self._stopping:
            self._resize(count)

    async def drain(self, seconds: float) -> int:
        """End all workers when they have finished what is in flight; how many connections had to be
        cut off."""
        self._stopping = True
        workers = [worker for worker in self._everybody if worker.pid]
        for keeper in self._keepers.values():
            keeper.cancel()
        for worker in workers:
            worker.channel.send(Drain(seconds))
        await self._await_end(workers, seconds + _MARGIN)
        if self._watching is not None:
            self._watching.cancel()
        return sum(worker.cut_off or 0 for worker in workers)

    def kill(self) -> None:
        """End all workers at once."""
        self._stopping = True
        for worker in self._everybody:
            worker.kill()

    # One place of the workforce.

    def _resize(self, count: int) -> None:
        for index in range(count):
            if index not in self._keepers:
                self._keep(index, None)
        for index in [index for index in self._keepers if index >= count]:
            self._keepers.pop(index).cancel()
            worker = self._workers.pop(index, None)
            if worker is not None and worker.is_alive:
                spawn(self._see_off(worker), f"parting with worker {index}")

    def _keep(self, index: int, worker: WorkerProcess | None) -> None:
        self._keepers[index] = spawn(self._fill(index, worker), f"worker {index}")

    async def _fill(self, index: int, worker: WorkerProcess | None) -> None:
        """Have somebody at a place of the workforce, for ever."""
        restarts = Restarts()
        while True:
            if worker is None:
                try:
                    worker = await self._hire(index)
                except (CannotServe, OSError) as why:
                    delay = restarts.delay(0.0)
                    _log.error("worker %d does not start, next try in %g s: %s", index, delay, why)
                    await asyncio.sleep(delay)
                    continue
            status = await asyncio.shield(worker.ended)
            lifetime = asyncio.get_running_loop().time() - worker.started
            self._bury(worker, status)
            worker = None
            await asyncio.sleep(restarts.delay(lifetime))

    async def _hire(self, index: int) -> WorkerProcess:
        """A new worker that serves."""
        worker = self._workers[index] = WorkerProcess(self._free_number(), self._hear)
        self._everybody.add(worker)
        worker.ended.add_done_callback(lambda _: self._note_end(worker))
        try:
            await worker.start(self._launch)
            async with asyncio.timeout(PATIENCE):
                async with self._changing:
                    orders = self._orders
                    await worker.prepare(orders.message, orders.sockets)
                    await worker.commit(orders.generation)
        except (WorkerLost, TimeoutError) as why:
            worker.kill()
            await worker.ended
            raise CannotServe(str(why) or f"worker {index} did not start in time") from None
        except BaseException:
            # It cannot, or it is not wanted any more.
            worker.kill()
            raise
        return worker

    def _free_number(self) -> int:
        """For a new worker. No two that live have the same: one that leaves may still be there
        when another comes to the same place.

        :raises CannotServe: there are as many as there can be.
        """
        taken = {worker.index for worker in self._everybody}
        for number in range(MOST):
            if number not in taken:
                return number
        raise CannotServe(f"there are {MOST} workers already")

    def _note_end(self, worker: WorkerProcess) -> None:
        self._everybody.discard(worker)
        self._ended(worker)

    async def _prepare(self, worker: WorkerProcess, orders: Orders) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await worker.prepare(orders.message, orders.sockets)
        except TimeoutError:
            raise CannotServe(f"worker {worker.index} was not ready in time") from None

    async def _commit(self, worker: WorkerProcess, orders: Orders) -> None:
        """Others serve this by now, and there is no way back: who cannot is replaced."""
        try:
            async with asyncio.timeout(PATIENCE):
                await worker.commit(orders.generation)
        except WorkerLost:
            pass  # it is being replaced already
        except TimeoutError:
            _log.error("worker %d does not serve the new configuration", worker.index)
            worker.kill()

    async def _see_off(self, worker: WorkerProcess) -> None:
        """End a worker whose place is gone."""
        if not worker.pid:
            return
        worker.channel.send(Drain(self.grace))
        await self._await_end([worker], self.grace + _MARGIN)

    async def _await_end(self, workers: Sequence[WorkerProcess], seconds: float) -> None:
        """Wait until all have ended, and see to it that they do."""
        ends = [worker.ended for worker in workers]
        if not ends:
            return
        _, late = await asyncio.wait(ends, timeout=seconds)
        for worker in workers:
            if worker.ended in late:
                _log.error("worker %d did not end in time and is killed", worker.index)
                worker.kill()
        await asyncio.wait(ends)

    def _bury(self, worker: WorkerProcess, status: int) -> None:
        """Note why a worker has ended."""
        if worker.pid in self._stuck:
            self._stuck.discard(worker.pid)
            reason, how = "stuck", "was stuck"
        elif status < 0:
            reason, how = "killed", f"was ended by {_signal(-status)}"
        else:
            reason, how = "exited", f"ended with status {status}"
        self.restarts[reason] += 1
        _log.error("worker %d (pid %d) %s and is replaced", worker.index, worker.pid, how)

    # Workers that do nothing any more.

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        # Whoever was held up himself, by a suspended machine for one, has no right to blame others.
        late = now - self._looked > _LOOK + 1.0 and self._looked > 0
        self._looked = now
        self._watching = loop.call_later(_LOOK, self._look)
        for worker in self.running:
            if late:
                worker.heard = now
            elif now - worker.heard > self.timeout and worker.pid not in self._stuck:
                self._stuck.add(worker.pid)
                _log.error(
                    "worker %d (pid %d) has given no sign of life for %g s",
                    worker.index, worker.pid, self.timeout,
                )  # fmt: skip
                # faulthandler tells where it is stuck, and then ends it (gateway/worker.py).
                worker.kill(signal.SIGABRT)
                loop.call_later(_LAST_WORDS, worker.kill)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of the real-time ones only the ends have names
        return f"signal {number}"
