"""The supervisor: starts and watches the workers, owns the configuration, serves the admin port.

It sees no scoring request. Whatever it does, the workers serve on; whatever happens to one of them,
the others do.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway import __version__
from gateway.control.admin import AdminRunner, AdminSources
from gateway.control.doors import CannotListen, Doors, passed_by_systemd, show
from gateway.control.gatherings import Gatherings
from gateway.control.messages import Door, Drained, Fetch, Fetched
from gateway.control.notifying import Notifier
from gateway.control.plans import ADMIN, BadPlan, Plan
from gateway.control.sharing import SharedFetcher
from gateway.control.takeover import Handover, Takeover, TakeoverFailed, take_over
from gateway.control.watching import Watcher
from gateway.control.worker_process import CannotServe, Launch, WorkerProcess
from gateway.control.workforce import Orders, Workforce
from gateway.core.allotting import Allotment, Allotter
from gateway.engine.permits import SharedArea
from gateway.engine.tasks import spawn

_log = logging.getLogger("gateway")

# By how much less important it is to read a configuration than to serve (nice(2)).
_STEP_BACK = 10
# Between two looks at the files of the configuration.
_WATCH = 1.0


class CannotStart(Exception):
    """The gateway cannot run here; the message is one sentence for the operator. ``sought`` are the
    files of the configuration, whoever knows them."""

    sought: frozenset[Path] = frozenset()


class Supervisor:
    """One gateway: its configuration, its listening sockets, its workers, its admin port."""

    def __init__(
        self,
        load: Callable[[], Plan],
        module: str,
        *,
        fetch: Callable[[str], Awaitable[bytes]],
        environment: Mapping[str, str],
    ) -> None:
        """
        :param load: reads the configuration anew; raises ``BadPlan``. It is called in a thread.
        :param module: the program that workers run.
        :raises OSError: too many files are open.
        :param fetch: see ``SharedFetcher``.
        """
        self._load = load
        self._environment = environment
        self._notifier = Notifier(environment)
        self._fetch = SharedFetcher(fetch, time.monotonic)
        self._area = SharedArea.create()
        self._allotter = Allotter()
        launch = Launch(module, self._area.descriptors.words(), self._area.descriptors.all)
        self._workforce = Workforce(launch, hear=self._hear, ended=self._forget)
        self._gatherings = Gatherings(self._workforce)
        self._watcher = Watcher()
        self._doors = Doors()
        self._plan: Plan
        self._runner: AdminRunner | None = None
        self._handover: Handover | None = None
        self._reasons = ["starting"]
        self._generation = 0
        self._reloading = asyncio.Lock()
        self._problems: list[str] = []
        #: Set when there is a reason to stop: a signal, or another gateway has taken over.
        self.stopping = asyncio.Event()
        self._was_taken_over = False

    def __repr__(self) -> str:
        return f"<Supervisor, generation {self._generation}, {self._workforce!r}>"

    @property
    def address(self) -> tuple[str, int]:
        """Where the gateway listens, a port chosen by the system included."""
        return self._doors.address(self._plan.doors[0].name)

    @property
    def admin_address(self) -> tuple[str, int]:
        return self._doors.address(ADMIN)

    async def start(self, plan: Plan) -> None:
        """Open the ports and begin to serve.

        :raises CannotStart: a port or file cannot be had, or another gateway does not give way.
        """
        self._plan = plan
        async with self._reloading:
            await self._start(plan)
        _log.info(
            "scoring-gateway %s serves %s on %s://%s, admin on http://%s",
            __version__,
            ", ".join(plan.endpoints),
            plan.scheme,
            show(self.address),
            show(self.admin_address),
        )

    async def _start(self, plan: Plan) -> None:
        """:raises CannotStart: see ``start``."""
        self._gatherings.certificates = plan.certificates
        self._watcher.watch(plan.files)
        other = await self._ask_other(plan.takeover)
        given = list(other.sockets) if other is not None else []
        self._doors = Doors([*passed_by_systemd(self._environment, os.getpid()), *given])
        try:
            self._doors.adopt(self._doors.prepare(plan.wanted))
        except CannotListen as why:
            raise CannotStart(str(why)) from None
        if other is None:
            await self._open_admin(plan)
        self._workforce.timeout, self._workforce.grace = plan.worker_timeout, plan.drain
        self._generation = 1
        try:
            doors = self._doors.prepare(plan.wanted)
            await self._workforce.start(plan.workers, self._orders(plan, doors))
            if other is not None:
                await _finish(other)
                self._doors.decline(given)
                await self._open_admin(plan)
            self._offer(plan)
        except (CannotServe, OSError, ValueError) as why:
            self._workforce.kill()
            raise CannotStart(str(why)) from None
        self._reasons = []
        spawn(self._watch(), "watching files")
        self._notifier.tell("READY=1", f"MAINPID={os.getpid()}", self._status_line())
        self._keep_alive()

    async def stop(self) -> int:
        """Finish the requests in flight, then close everything; how many had to be cut off."""
        self.stopping.set()
        self._reasons = ["stopping"]
        self._notifier.tell("STOPPING=1")
        async with self._reloading:
            # One that is under way opens addresses and starts workers; there is no other after it.
            plan = self._plan
        if plan.drain_delay and not self._was_taken_over:
            await asyncio.sleep(plan.drain_delay)
        if self._handover is not None:
            self._handover.close()
        # The sockets that workers still accept from are theirs by now.
        self._doors.adopt({ADMIN: self._doors.prepare([plan.wanted[-1]])[ADMIN]})
        cut_off = await self._workforce.drain(plan.drain)
        await self._close_admin()
        self._doors.close()
        return cut_off

    def kill(self) -> None:
        """End the workers at once."""
        self._workforce.kill()

    # Reloading.

    async def reload(self) -> tuple[bool, dict[str, Any]]:
        """Read the configuration anew and have it served whole, or change nothing.

        :returns: whether it is in effect, and what the admin port says about it.
        """
        async with self._reloading:
            if self.stopping.is_set():
                return False, self._outcome(["the gateway is stopping"])
            self._notifier.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            self._watcher.look()
            try:
                plan = await asyncio.to_thread(self._load_quietly)
                await self._adopt(plan)
            except BadPlan as bad:
                self._problems = bad.lines
                self._watcher.watch(self._plan.files | bad.sought)
            except (CannotServe, CannotListen, OSError, ValueError) as why:
                self._problems = [str(why)]
                self._watcher.watch(self._plan.files)
                self._allot(self._plan)
            except Exception as why:  # noqa: BLE001  what is served must be served on
                _log.exception("a reload failed in a way that nobody has thought of")
                self._problems = [f"{type(why).__name__}: see the log of the gateway"]
            else:
                self._problems = []
                self._watcher.watch(plan.files)
            self._note_reload()
            return not self._problems, self._outcome(self._problems)

    def _outcome(self, problems: list[str]) -> dict[str, Any]:
        return {"reloaded": not problems, "generation": self._generation, "problems": problems}

    def _load_quietly(self) -> Plan:
        """Read the configuration while the workers serve: they have the first call on the
        processors. Only the thread that reads steps back (sched(7)).
        """
        with suppress(OSError):
            usual = os.getpriority(os.PRIO_PROCESS, os.getpid())
            me = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, me, min(usual + _STEP_BACK, 19))
        return self._load()

    def _note_reload(self) -> None:
        good = not self._problems
        self._gatherings.reloads["success" if good else "failure"] += 1
        self._gatherings.last_reload_successful = good
        self._gatherings.generation = self._generation
        self._notifier.tell("READY=1", self._status_line())
        if good:
            _log.info("the configuration was reloaded, generation %d", self._generation)
        else:
            _log.error("the configuration was not reloaded: %s", "; ".join(self._problems))

    async def _adopt(self, plan: Plan) -> None:
        """Serve another configuration.

        :raises CannotServe: a worker cannot; nothing has changed.
        :raises CannotListen: an address cannot be had; nothing has changed.
        :raises ValueError: there are too many backends; nothing has changed.
        """
        number = self._generation + 1
        prepared = self._doors.prepare(plan.wanted)
        try:
            orders = self._orders(plan, prepared, number)
            await self._workforce.adopt(plan.workers, orders)
        except (CannotServe, ValueError):
            self._doors.discard(prepared)
            raise
        before, self._plan, self._generation = self._plan, plan, number
        self._gatherings.certificates = plan.certificates
        self._workforce.timeout, self._workforce.grace = plan.worker_timeout, plan.drain
        self._doors.adopt(prepared)
        if (plan.admin, plan.token) != (before.admin, before.token):
            await self._reopen_admin(plan)
        if plan.takeover != before.takeover:
            try:
                self._offer(plan)
            except OSError as why:  # the rest is in effect by now
                _log.error("%s", why)

    async def _watch(self) -> None:
        while not self.stopping.is_set():
            await asyncio.sleep(_WATCH)
            if self._plan.watch and self._watcher.has_changed():
                _log.info("files of the configuration have changed")
                await self.reload()

    # The admin port.

    async def _open_admin(self, plan: Plan) -> None:
        sources = AdminSources(
            unready=self._unready,
            status=self._status,
            metrics=self._gatherings.metrics,
            configuration=lambda: self._plan.description,
            deployments=self._gatherings.deployments,
            reload=self.reload,
        )
        self._runner = AdminRunner(sources, plan.token)
        await self._runner.setup()
        # A copy: the site closes what it is given, and a door may stay open for longer.
        await web.SockSite(self._runner, self._doors.opened(ADMIN).dup()).start()

    async def _reopen_admin(self, plan: Plan) -> None:
        """Open it as another configuration says. Who is being answered may be the one who has asked
        for that configuration, so nobody waits for the end of the answer here."""
        before = self._runner
        if before is not None:
            for site in before.sites:
                await site.stop()
            spawn(before.cleanup(), "closing the admin port")
        await self._open_admin(plan)

    async def _close_admin(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _unready(self) -> list[str]:
        if not self._reasons and not self._workforce.running:
            return ["no worker is running"]
        return self._reasons

    def _status(self) -> dict[str, Any]:
        return {
            "generation": self._generation,
            "workers": len(self._workforce.running),
            "reload_problems": self._problems,
        }

    # Another gateway, and the service manager.

    async def _ask_other(self, path: Path | None) -> Takeover | None:
        if path is None:
            return None
        try:
            other = await take_over(path)
        except TakeoverFailed as why:
            raise CannotStart(f"cannot take over at {path}: {why}") from None
        if other is not None:
            _log.info("taking over from the gateway at %s", path)
        return other

    def _offer(self, plan: Plan) -> None:
        """Be there for a gateway that is to take over."""
        if self._handover is not None:
            self._handover.close()
            self._handover = None
        if plan.takeover is not None:
            handover = Handover(plan.takeover, self._sockets, self._give_way)
            try:
                handover.start()
            except OSError as why:
                raise OSError(f"cannot be asked at {plan.takeover}: {why.strerror}") from None
            self._handover = handover

    def _sockets(self) -> Sequence[socket.socket]:
        return [self._doors.opened(wanted.name) for wanted in self._plan.wanted]

    async def _give_way(self) -> None:
        _log.info("another gateway has taken over")
        await self._close_admin()
        self._was_taken_over = True
        self.stopping.set()

    def _status_line(self) -> str:
        return f"STATUS=generation {self._generation}, workers: {len(self._workforce.running)}"

    def _keep_alive(self) -> None:
        """Tell systemd regularly that all is well, if it has asked for that (WatchdogSec=)."""
        period = self._environment.get("WATCHDOG_USEC", "")
        if period.isdigit() and int(period):
            self._notifier.tell("WATCHDOG=1")
            asyncio.get_running_loop().call_later(int(period) / 2e6, self._keep_alive)

    # What workers say.

    def _hear(self, worker: WorkerProcess, message: Any) -> None:
        if isinstance(message, Fetch):
            spawn(self._serve_fetch(worker, message), f"fetching for worker {worker.index}")
        elif isinstance(message, Drained):
            worker.cut_off = message.cut_off
        else:
            self._gatherings.take(worker, message)

    def _forget(self, worker: WorkerProcess) -> None:
        self._gatherings.forget(worker)
        self._area.clear(worker.index, self._allotter.used)

    async def _serve_fetch(self, worker: WorkerProcess, message: Fetch) -> None:
        try:
            content = await self._fetch(message.url, self._plan.freshness.get(message.url, 0.0))
        except OSError as why:
            worker.channel.send(Fetched(message.number, b"", str(why)))
        else:
            worker.channel.send(Fetched(message.number, content, None))

    def _orders(
        self, plan: Plan, doors: Mapping[str, tuple[Door, socket.socket]], generation: int = 1
    ) -> Orders:
        return Orders(generation, plan.payload, self._allot(plan), _public(doors))

    def _allot(self, plan: Plan) -> Allotment:
        """:raises ValueError: there are too many backends."""
        numbers = self._allotter.allot(plan.spots, time.monotonic(), self._area.is_idle)
        return Allotment(plan.workers, numbers)


async def _finish(other: Takeover) -> None:
    """Have the other gateway leave. Once it has been told that we serve, it may be leaving whatever
    we hear of it: giving up then could leave nobody."""
    try:
        await other.finish()
    except TakeoverFailed as why:
        _log.warning("the gateway before this one does not say that it leaves: %s", why)


def _public(
    doors: Mapping[str, tuple[Door, socket.socket]],
) -> Mapping[str, tuple[Door, socket.socket]]:
    """Those that workers accept from."""
    return {name: door for name, door in doors.items() if name != ADMIN}
