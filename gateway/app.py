"""The composition root: reads the configuration, builds every object once, runs and stops them."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from gateway.control.demo import DemoPlan
from gateway.control.doors import Wanted
from gateway.control.fetching import Fetcher
from gateway.control.plans import BadPlan, Plan
from gateway.control.supervisor import CannotStart, Supervisor
from gateway.core.allotting import Spot
from gateway.core.backends import parse_backend
from gateway.core.identity import request_ids
from gateway.engine.permits import Survey
from gateway.engine.tasks import spawn
from gateway.settings.loading import BadConfiguration, Source, read_source, report, validate
from gateway.settings.materials import Gatherer
from gateway.settings.schema import MOST_WORKERS, Settings
from gateway.wiring import Tools, describe, wire
from gateway.wiring_tls import Expiry
from gateway.worker import Snapshot

_log = logging.getLogger("gateway")
# File descriptors for everything that is neither a client nor an upstream connection. What workers
# share takes 81 of them.
RESERVED_DESCRIPTORS = 160
# Seconds for which a document fetched for one worker is good for the others at most. A worker with
# an unknown key asks no more often than every 30 s by itself (engine/keepers.py).
LONGEST_FRESH = 25.0


@dataclass(frozen=True, slots=True)
class Judged:
    """A configuration that can be served."""

    settings: Settings
    source: Source
    #: Of its certificates.
    expiries: list[Expiry]
    #: What it should not say, a line for each.
    warnings: list[str]


def judge(
    path: Path,
    environment: Mapping[str, str] = os.environ,
    read_bytes: Callable[[Path], bytes] = Path.read_bytes,
    survey: Survey | None = None,
) -> Judged:
    """Read and judge a configuration file, secrets, keys and certificates included.

    :param read_bytes: the content of a file.
    :param survey: takes down the backends.
    :raises BadConfiguration: with everything that is wrong with it.
    """
    source = read_source(path)
    settings, mistakes = validate(source)
    if settings is None:
        raise BadConfiguration(source, mistakes)
    wired, more = wire(settings, source, _idle_tools(environment, read_bytes, survey))
    if mistakes or more:
        raise BadConfiguration(source, mistakes + more)
    return Judged(settings, source, wired.expiries, report(source, wired.warnings))


def load(
    path: Path,
    environment: Mapping[str, str] = os.environ,
    read_bytes: Callable[[Path], bytes] = Path.read_bytes,
) -> tuple[Settings, Source]:
    """The settings of a configuration file, judged, and where they stand in it.

    :raises BadConfiguration: with everything that is wrong with it.
    """
    judged = judge(path, environment, read_bytes)
    return judged.settings, judged.source


def read_plan(path: Path, environment: Mapping[str, str] = os.environ) -> Plan:
    """Judge a configuration file, and note what the supervisor and the workers need of it.

    :raises BadConfiguration: with everything that is wrong with it.
    :raises CannotStart: the system does not allow as many open files as it needs.
    """
    gatherer = Gatherer(environment)
    gatherer.sought.add(path)
    survey = Survey()
    try:
        judged = judge(path, gatherer.environment, gatherer.read_bytes, survey)
        settings, source = judged.settings, judged.source
        check_descriptors(settings)
        for line in judged.warnings:
            _log.warning("%s", line)
        token = settings.admin.token
        return _plan(
            judged,
            Snapshot(settings, source.without_text(), gatherer.materials),
            None
            if token is None
            else token.read(source.base, gatherer.environment, gatherer.read_bytes),
            frozenset(gatherer.sought),
            survey.spots,
        )
    except (BadConfiguration, CannotStart) as why:
        why.sought = frozenset(gatherer.sought)
        raise


def _plan(
    judged: Judged,
    snapshot: Snapshot,
    token: str | None,
    files: frozenset[Path],
    spots: Sequence[Spot],
) -> Plan:
    settings = judged.settings
    listen = settings.listen
    doors = [Wanted("listen", listen.address, listen.backlog)]
    if listen.plain is not None:
        doors.append(Wanted("plain", listen.plain, listen.backlog))
    return Plan(
        payload=pickle.dumps(snapshot, pickle.HIGHEST_PROTOCOL),
        workers=_processors() if settings.workers == "auto" else settings.workers,
        worker_timeout=settings.worker_timeout,
        doors=doors,
        admin=settings.admin.address,
        token=token,
        drain_delay=listen.timeouts.drain_delay,
        drain=listen.timeouts.drain,
        spots=spots,
        takeover=snapshot.source.base / settings.takeover if settings.takeover else None,
        files=files,
        watch=settings.watch,
        freshness={
            entry.auth.tokens.jwks: min(entry.auth.tokens.refresh / 2, LONGEST_FRESH)
            for entry in settings.endpoints.values()
            if entry.auth.tokens is not None and entry.auth.tokens.jwks is not None
        },
        scheme="http" if listen.tls is None else "https",
        certificates=_first_ends(judged.expiries),
        endpoints=list(settings.endpoints),
        description=describe(settings),
    )


def _first_ends(expiries: Iterable[Expiry]) -> dict[tuple[str, str], float]:
    """When each file's certificate ends, by what it is used for and how it is configured."""
    return {(each.use, each.file): each.moment for each in expiries}


def _processors() -> int:
    """How many this process may use. A container's share of time is not looked at."""
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)


def serve(path: Path, environment: Mapping[str, str] = os.environ) -> int:
    """Run until SIGTERM or SIGINT; a second signal ends it at once.

    :returns: exit status: 0, or 1 if requests had to be cut off.
    :raises BadConfiguration: with everything that is wrong with the file.
    :raises CannotStart: a port or file cannot be had.
    """
    plan = read_plan(path, environment)
    return uvloop.run(_serve(plan, path, environment))


async def _serve(plan: Plan, path: Path, environment: Mapping[str, str]) -> int:
    def load_again() -> Plan:
        try:
            return read_plan(path, environment)
        except BadConfiguration as bad:
            raise BadPlan(bad.lines, bad.sought) from None
        except CannotStart as why:
            raise BadPlan([str(why)], why.sought) from None

    # A picture of the memory would show secrets.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    fetcher = Fetcher()
    supervisor = Supervisor(load_again, "gateway.worker", fetch=fetcher, environment=environment)
    stop_on_signals(supervisor)
    await supervisor.start(plan)
    await supervisor.stopping.wait()
    cut_off = await supervisor.stop()
    await fetcher.close()
    if cut_off:
        _log.warning("stopped; connections that were cut off: %d", cut_off)
    else:
        _log.info("stopped")
    return 1 if cut_off else 0


def stop_on_signals(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if supervisor.stopping.is_set():
            supervisor.kill()
            os._exit(128 + number)
        _log.info("%s: finishing what is in flight", signal.Signals(number).name)
        supervisor.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, lambda: spawn(supervisor.reload(), "reload"))


def plan_demo(config: Path | None) -> DemoPlan:
    """What the demo will start, by its configuration file (ours unless another is given).

    :raises BadConfiguration: with everything that is wrong with the file.
    """
    config = config or shipped("demo.yaml")
    keys = {"DEMO_PRIMARY_KEY": "0" * 16, "DEMO_SECONDARY_KEY": "1" * 16}
    settings, _ = load(config, {**os.environ, **keys})
    name, endpoint = next(iter(settings.endpoints.items()))
    backends = [
        parse_backend(url) for entry in endpoint.deployments.values() for url in entry.backends
    ]
    return DemoPlan(
        config=config.resolve(),
        score_script=shipped("demo/score.py"),
        endpoint=name,
        public=settings.listen.address,
        admin=settings.admin.address,
        backends=[(backend.host, backend.port) for backend in backends],
    )


def shipped(name: str) -> Path:
    """A file of the folder ``config``: beside the package in a checkout, else where pip put it.

    :raises CannotStart: the installation is incomplete.
    """
    checkout = Path(__file__).resolve().parent.parent / "config" / name
    installed = Path(sys.prefix, "share", "scoring-gateway", "config", name)
    for path in (checkout, installed):
        if path.is_file():
            return path
    raise CannotStart(f"this installation lacks the file {name}: reinstall scoring-gateway")


def check_descriptors(settings: Settings) -> None:
    """Raise the limit of open files as far as the configuration needs it.

    :raises CannotStart: the system does not allow so many.
    """
    needed = settings.listen.limits.connections + RESERVED_DESCRIPTORS
    for endpoint in settings.endpoints.values():
        for deployment in endpoint.deployments.values():
            needed += deployment.connections.max * len(deployment.backends)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise CannotStart(
            f"the configuration allows {needed} open connections and files, but the system only "
            f"{hard}: raise the limit (ulimit -Hn, LimitNOFILE=) or lower "
            "listen.limits.connections and deployments' connections.max"
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _idle_tools(
    environment: Mapping[str, str],
    read_bytes: Callable[[Path], bytes],
    survey: Survey | None,
) -> Tools:
    """Tools for judging a configuration: nothing is connected, fetched or recorded."""

    async def never(_: object) -> Any:
        raise AssertionError("a configuration is judged without reaching out")

    class Nobody:
        def record(self, exchange: object) -> None:
            raise AssertionError("nothing runs while a configuration is judged")

    return Tools(
        dial=never,
        fetch=never,
        recorder=Nobody(),
        clock=time.monotonic,
        wall=time.time,
        draw=random.random,
        ids=request_ids(os.urandom),
        environment=environment,
        read_bytes=read_bytes,
        permits=survey,
    )
