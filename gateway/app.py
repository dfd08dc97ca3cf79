"""The composition root: reads the configuration, builds every object once, runs and stops them."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

from gateway import __version__
from gateway.control.admin import AdminRunner, AdminSources
from gateway.control.demo import DemoPlan
from gateway.control.fetching import Fetcher
from gateway.control.metrics import exposition
from gateway.control.overview import describe_deployments, endpoint_statistics
from gateway.core.backends import parse_backend
from gateway.core.heads import HeadLimits
from gateway.core.identity import request_ids
from gateway.core.statistics import LagTally, Statistics
from gateway.edge.access_log import AccessLog, Writer
from gateway.edge.listener import Listener
from gateway.edge.phases import Patience
from gateway.edge.upstream import UpstreamConnection
from gateway.engine.pools import Pool
from gateway.settings.loading import BadConfiguration, Source, read_source, validate
from gateway.settings.schema import Settings
from gateway.settings.units import format_address
from gateway.wired import Wired
from gateway.wiring import Tools, describe, wire

_log = logging.getLogger("gateway")
# File descriptors for everything that is neither a client nor an upstream connection.
RESERVED_DESCRIPTORS = 64
# Objects made and not yet destroyed before the garbage collector looks at the youngest, and how
# often it does before it looks at the older ones.
COLLECT_AFTER = (50_000, 20, 50)


class CannotStart(Exception):
    """The gateway cannot run here; the message is one sentence for the operator."""


def load(path: Path, environment: Mapping[str, str] = os.environ) -> tuple[Settings, Source]:
    """Read and judge a configuration file, secrets and keys included.

    :raises BadConfiguration: with everything that is wrong with it.
    """
    source = read_source(path)
    settings, mistakes = validate(source)
    if settings is not None:
        mistakes = mistakes + wire(settings, source, _idle_tools(environment))[1]
    if mistakes or settings is None:
        raise BadConfiguration(source, mistakes)
    return settings, source


class Gateway:
    """The whole process: data plane and control plane on one event loop."""

    def __init__(
        self, settings: Settings, source: Source, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._settings = settings
        self._fetcher = Fetcher()
        self._reasons = ["starting"]
        self._runner: AdminRunner | None = None
        log = settings.access_log
        path = source.base / log.path if log.path else None
        self._writer = Writer(path) if log.enabled else None
        self._access_log = AccessLog(self._writer, time.monotonic, time.time)
        tools = Tools(
            dial=self._dial,
            fetch=self._fetcher,
            recorder=self._access_log,
            clock=time.monotonic,
            wall=time.time,
            draw=random.random,
            ids=request_ids(os.urandom),
            environment=environment,
        )
        self._wired, mistakes = wire(settings, source, tools)
        if mistakes:
            raise BadConfiguration(source, mistakes)
        self._token = (
            settings.admin.token.read(source.base, environment) if settings.admin.token else None
        )
        self._listener = _listener(settings, self._wired)
        self._lag = LagTally()
        #: Where the gateway listens once it has started, ports chosen by the system included.
        self.address: tuple[str, int] = settings.listen.address
        self.admin_address: tuple[str, int] = settings.admin.address

    async def start(self) -> None:
        """Open the ports and begin to serve.

        :raises CannotStart: a port or file cannot be had.
        """
        check_descriptors(self._settings)
        listen = self._settings.listen
        public = _listen(listen.address, listen.backlog)
        self.address = public.getsockname()[:2]
        wanted = self._settings.admin.address
        same = wanted[1] == self.address[1]
        others = "listen or another program" if same else "another program"
        admin = _listen(wanted, listen.backlog, others)
        self.admin_address = admin.getsockname()[:2]
        if self._writer is not None:
            try:
                self._writer.start()
            except OSError as error:
                name = self._settings.access_log.path
                raise CannotStart(f"cannot write the access log {name}: {error.strerror}") from None
        sources = AdminSources(
            unready=lambda: self._reasons,
            metrics=exposition(self.statistics),
            configuration=self.configuration,
            deployments=self.deployments,
        )
        self._runner = AdminRunner(sources, self._token)
        await self._runner.setup()
        await web.SockSite(self._runner, admin).start()
        for keeper in self._wired.keepers:
            keeper.start()
        await self._listener.start(public, listen.backlog)
        self._expire_connections()
        self._reasons = []
        _log.info(
            "scoring-gateway %s serves %s on http://%s, admin on http://%s",
            __version__,
            ", ".join(self._wired.endpoints),
            format_address(self.address),
            format_address(self.admin_address),
        )

    async def stop(self) -> int:
        """Finish the requests in flight, then close everything; how many had to be cut off."""
        self._reasons = ["stopping"]
        cut_off = await self._listener.drain(self._settings.listen.timeouts.drain)
        for keeper in self._wired.keepers:
            keeper.stop()
        for deployment in (d for e in self._wired.endpoints.values() for d in e.deployments):
            deployment.close()
        if self._runner is not None:
            await self._runner.cleanup()
        await self._fetcher.close()
        self._access_log.stop(timeout=5.0)
        return cut_off

    def statistics(self) -> Statistics:
        """What has been counted so far."""
        return Statistics(
            self._listener.tally,
            self._wired.tally,
            endpoint_statistics(self._wired.endpoints.values()),
            self._access_log.dropped,
            self._lag,
            time.process_time(),
        )

    def configuration(self) -> Any:
        """The running configuration. It names where secrets come from and holds none."""
        return describe(self._settings)

    def deployments(self) -> Any:
        """What state the deployments are in."""
        return describe_deployments(self._wired.endpoints.values(), time.monotonic())

    async def _dial(self, pool: Pool) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: UpstreamConnection(pool, time.monotonic), pool.backend.host, pool.backend.port
        )
        return connection

    def _pools(self) -> list[Pool]:
        return [p for e in self._wired.endpoints.values() for d in e.deployments for p in d.pools]

    def _expire_connections(self, due: float | None = None) -> None:
        now = time.monotonic()
        if due is not None:
            self._lag.observe(max(0.0, now - due))
        asyncio.get_running_loop().call_later(0.25, self._expire_connections, now + 0.25)
        for pool in self._pools():
            pool.expire(now)


def serve(settings: Settings, source: Source) -> int:
    """Run until SIGTERM or SIGINT; a second signal ends it at once.

    :returns: exit status: 0, or 1 if requests had to be cut off.
    :raises CannotStart: a port or file cannot be had.
    """
    gateway = Gateway(settings, source)
    return uvloop.run(_run(gateway))


async def _run(gateway: Gateway) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def on_signal(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        _log.info("%s: finishing what is in flight", signal.Signals(number).name)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    # Many programs read their configuration anew on SIGHUP; ending on it would be a bad surprise.
    loop.add_signal_handler(
        signal.SIGHUP, _log.warning, "SIGHUP: the configuration is read at start only"
    )
    await gateway.start()
    # What was built at start lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    # Requests leave no cycles behind. By its own measure the collector would look for some with
    # every few of them, and always find those that are waiting.
    gc.set_threshold(*COLLECT_AFTER)
    await stopping.wait()
    cut_off = await gateway.stop()
    if cut_off:
        _log.warning("stopped; connections that were cut off: %d", cut_off)
    else:
        _log.info("stopped")
    return 1 if cut_off else 0


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


def _listener(settings: Settings, wired: Wired) -> Listener:
    limits, times = settings.listen.limits, settings.listen.timeouts
    return Listener(
        wired.plane,
        ids=request_ids(os.urandom),
        limits=HeadLimits(limits.request_line, limits.headers, limits.header_count),
        patience=Patience(
            head=times.headers,
            body=times.body,
            idle=times.idle,
            write=times.write,
            linger=times.linger,
            body_rate=times.body_rate,
        ),
        connections=limits.connections,
        requests_per_connection=limits.requests_per_connection,
        clock=time.monotonic,
        wall=time.time,
    )


def _listen(
    address: tuple[str, int], backlog: int, others: str = "another program"
) -> socket.socket:
    """A listening socket: two that are only bound could have one address, and uvloop would not
    tell. Whoever connects before the loop accepts waits in the queue.

    :param others: who may have the address already.
    :raises CannotStart: the address cannot be had.
    """
    host = address[0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind(address)
        opened.listen(backlog)
    except OSError as error:
        opened.close()
        where = format_address(address)
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(f"{where} is in use by {others}") from None
        raise CannotStart(f"cannot listen on {where}: {error.strerror}") from None
    opened.setblocking(False)
    return opened


def _idle_tools(environment: Mapping[str, str]) -> Tools:
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
    )
