"""From settings to deployments: backends, places, queues, rules of merging.

Where a deployment of that name is running already, all of it that has not changed is used again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from gateway.core.backends import Backend, parse_backend, reaches
from gateway.core.grammar import TOKEN
from gateway.core.significance import is_individual
from gateway.engine.batching import Batcher, BatchRules
from gateway.engine.endpoints import Deployment
from gateway.engine.permits import Permit, Sharing
from gateway.engine.pools import Encryption, Pool, Pooled
from gateway.engine.refitting import Fit, refit
from gateway.engine.shadowing import Shadow
from gateway.engine.slots import Slots
from gateway.settings.mistakes import Keys, show
from gateway.settings.notes import Notes
from gateway.settings.schema import Batching, DeploymentSettings
from gateway.wired import MadeDeployment
from gateway.wiring_tls import Contexts

# Host and port by the section of the file that names them.
Listeners = Mapping[str, tuple[str, int]]


class Outside(Protocol):
    """What deployments need of the world."""

    @property
    def dial(self) -> Callable[[Pool], Awaitable[Pooled]]: ...

    @property
    def clock(self) -> Callable[[], float]: ...

    @property
    def draw(self) -> Callable[[], float]: ...

    @property
    def ids(self) -> Iterator[bytes]: ...

    @property
    def permits(self) -> Sharing | None: ...


class DeploymentMaker:
    """Makes the deployments of one configuration."""

    def __init__(
        self,
        notes: Notes,
        tools: Outside,
        listeners: Listeners,
        changes: list[Callable[[], None]],
        contexts: Contexts,
    ) -> None:
        """
        :param listeners: the gateway's own addresses: requests to them would go round and round.
        :param changes: gets what is to be done to objects that are running when the configuration
            is taken over; they are not touched before.
        """
        self._notes = notes
        self._tools = tools
        self._listeners = listeners
        self._changes = changes
        self._contexts = contexts
        self._workers = 1 if tools.permits is None else tools.permits.workers

    def make(
        self, at: Keys, entry: DeploymentSettings, before: MadeDeployment | None
    ) -> MadeDeployment:
        """
        :param at: the path of the deployment in the file, which ends with its name.
        :param before: what runs under the same names.
        """
        backends = self._backends(at, entry)
        encryptions = self._contexts.towards((*at, "tls"), entry.tls, backends)
        origin = entry, self._workers, encryptions
        if before is not None and before.origin == origin:
            return before
        self._judge(at, entry)
        rules = _rules(self._notes, (*at, "batching"), entry.batching)
        old_pools = {} if before is None else before.pools
        # What is trusted otherwise than before is another backend: no connection is kept.
        known = {b: p for b, p in old_pools.items() if p.encryption == encryptions.get(b)}
        pools = {
            backend: known.get(backend) or self._pool(entry, backend, encryptions.get(backend))
            for backend in backends
        }
        old = None if before is None else before.deployment
        kept = known.keys() & pools.keys()
        batcher = None
        if rules is not None:
            batcher = _same(old, rules) if kept else None
            if batcher is None:
                batcher = self._batcher(f"{at[1]}/{at[3]}", rules, old)
            elif len(kept) < len(pools):
                self._changes.append(batcher.doubt)
        shadowing = entry.batching.mode == "shadow"
        fit = Fit(
            tuple(pools.values()),
            entry.concurrency,
            entry.queue.max_wait,
            entry.queue.max_length,
            None if shadowing else batcher,
            self._permit(at, tuple(pools), entry.concurrency),
        )
        if old is None:
            slots = self._slots(fit)
        else:
            slots = old.slots
            self._changes += [partial(_refit_pool, known[backend], entry) for backend in kept]
            self._changes.append(partial(_refit, slots, fit, self._tools.clock))
        shadow = None
        if batcher is not None and shadowing:
            shadow = self._shadow(batcher, slots, old.shadow if old is not None else None)
        tally = None if old is None else old.tally
        return MadeDeployment(origin, Deployment(str(at[-1]), slots, shadow, tally), pools)

    def _batcher(self, name: str, rules: BatchRules, old: Deployment | None) -> Batcher:
        tally = old.batcher.tally if old is not None and old.batcher is not None else None
        return Batcher(name, rules, clock=self._tools.clock, ids=self._tools.ids, tally=tally)

    def _shadow(self, batcher: Batcher, slots: Slots, old: Shadow | None) -> Shadow:
        if old is not None and old.batcher is batcher:
            return old
        return Shadow(batcher, slots, self._tools.draw, None if old is None else old.tally)

    def _backends(self, at: Keys, entry: DeploymentSettings) -> list[Backend]:
        notes = self._notes
        backends: list[Backend] = []
        for number, url in enumerate(entry.backends):
            path = (*at, "backends", number)
            backend = notes.attempt(path, lambda url=url: parse_backend(url))  # type: ignore[misc]
            if backend is None:
                continue
            backend = replace(backend, host=backend.host.lower())
            if backend in backends:
                notes.note(path, f"{show(url)} is there twice")
            own = [name for name, address in self._listeners.items() if reaches(backend, *address)]
            if own:
                notes.note(path, f"{show(url)} is the gateway itself: the address of {own[0]}")
            backends.append(backend)
        return backends or [Backend("127.0.0.1", 1)]

    def _judge(self, at: Keys, entry: DeploymentSettings) -> None:
        notes = self._notes
        if entry.connections.max < entry.concurrency:
            why = f"must be at least concurrency, which is {entry.concurrency}"
            notes.note((*at, "connections", "max"), why)
        delay = entry.batching.max_queue_delay
        if delay and delay >= entry.queue.max_wait:
            why = "or requests are refused while they are held back"
            path = (*at, "batching", "max_queue_delay")
            notes.note(path, f"must be below queue.max_wait, {why}")

    def _pool(
        self, entry: DeploymentSettings, backend: Backend, encryption: Encryption | None
    ) -> Pool:
        connections = entry.connections
        return Pool(
            backend,
            self._tools.dial,
            limit=connections.max,
            idle_timeout=connections.idle_timeout,
            connect_timeout=connections.connect_timeout,
            encryption=encryption,
        )

    def _permit(self, at: Keys, backends: Sequence[Backend], concurrency: int) -> Permit | None:
        permits = self._tools.permits
        if permits is None:
            return None
        return permits.at(str(at[1]), str(at[3]), backends, concurrency)

    def _slots(self, fit: Fit) -> Slots:
        return Slots(
            fit.pools,
            concurrency=fit.concurrency,
            max_wait=fit.max_wait,
            max_length=fit.max_length,
            clock=self._tools.clock,
            batcher=fit.batcher,
            permit=fit.permit,
        )


def _refit(slots: Slots, fit: Fit, clock: Callable[[], float]) -> None:
    refit(slots, fit, clock())


def _refit_pool(pool: Pool, entry: DeploymentSettings) -> None:
    connections = entry.connections
    pool.refit(connections.max, connections.idle_timeout, connections.connect_timeout)


def _same(old: Deployment | None, rules: BatchRules) -> Batcher | None:
    """What has merged or compared requests by the same rules so far, with all that it knows."""
    batcher = None if old is None else old.batcher
    return batcher if batcher is not None and batcher.rules == rules else None


def _rules(notes: Notes, at: Keys, entry: Batching) -> BatchRules | None:
    names = entry.significant_headers
    for number, name in enumerate(names if names != "all" else ()):
        path = (*at, "significant_headers", number)
        if not TOKEN.fullmatch(name.encode()):
            notes.note(path, f"{show(name)} is not a header name")
        elif is_individual(name):
            why = "every request has another, and a merged call has none of them"
            notes.note(path, f"{show(name)} cannot count: {why}")
    if entry.mode == "off":
        return None
    return BatchRules(
        field=tuple(entry.field.split(".")),
        max_rows=entry.max_rows,
        max_bytes=entry.max_bytes,
        max_queue_delay=entry.max_queue_delay,
        latency_target=entry.latency_target,
        significant_headers=None if names == "all" else tuple(names),
        isolate_principals=entry.isolate_principals,
        scatter=entry.scatter,
        tolerance=entry.tolerance,
        debug_header=entry.debug_header,
        sample=entry.sample,
    )
