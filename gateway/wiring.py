"""From settings to live objects.

Building is the last stage of validation: an object that cannot be built is a mistake in the
configuration, noted with the path of its keys, and building goes on, so that all are found at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from gateway.core.backends import Backend, parse_backend, reaches
from gateway.core.cors import EXPOSED, Cors, CorsRules, check_rules
from gateway.core.dialects import MANAGED, V1
from gateway.core.forwarding import Forwarding
from gateway.core.grammar import TOKEN
from gateway.core.heads import HeadLimits
from gateway.core.routing import Router
from gateway.core.significance import is_individual
from gateway.core.statistics import Tally
from gateway.core.traffic import Traffic
from gateway.edge.listener import Plane
from gateway.engine.batching import Batcher, BatchRules
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.keepers import KeyKeeper
from gateway.engine.pipeline import Pipeline, Recorder
from gateway.engine.pools import Pool, Pooled
from gateway.engine.reading import HeadReader
from gateway.engine.shadowing import Shadow
from gateway.engine.slots import Slots
from gateway.settings.judging import judge
from gateway.settings.loading import Source
from gateway.settings.mistakes import Keys, Mistake, show
from gateway.settings.notes import Notes
from gateway.settings.schema import (
    Batching,
    CorsSettings,
    DeploymentSettings,
    EndpointSettings,
    Settings,
)
from gateway.wiring_tokens import make_gate

# Host and port by the section of the file that names them.
Listeners = Mapping[str, tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Tools:
    """What the live objects reach the world with."""

    dial: Callable[[Pool], Awaitable[Pooled]]
    fetch: Callable[[str], Awaitable[bytes]]
    recorder: Recorder
    clock: Callable[[], float]
    wall: Callable[[], float]
    draw: Callable[[], float]
    #: Identifiers for requests of the gateway's own.
    ids: Iterator[bytes]
    environment: Mapping[str, str]
    #: The content of a file (settings/materials.py).
    read_bytes: Callable[[Path], bytes] = Path.read_bytes


@dataclass(slots=True)
class Wired:
    """The live objects of one configuration."""

    plane: Plane
    endpoints: dict[str, Endpoint]
    keepers: list[KeyKeeper]
    #: Requests that belong to no endpoint.
    tally: Tally


def wire(settings: Settings, source: Source, tools: Tools) -> tuple[Wired, list[Mistake]]:
    """Build everything that ``settings`` describe, in the order of the walk.

    :returns: the objects and the mistakes; with mistakes the objects must not be used.
    """
    notes = Notes(source, tools.environment, tools.read_bytes)
    judge(notes, settings)
    forwarding = _forwarding(notes, settings.listen.trusted_proxies)
    addresses = {"listen": settings.listen.address, "admin": settings.admin.address}
    listeners = {k: v for k, v in addresses.items() if not source.is_replaced((k, "address"))}
    endpoints: dict[str, Endpoint] = {}
    keepers: list[KeyKeeper] = []
    for name, entry in settings.endpoints.items():
        endpoint = _endpoint(notes, tools, listeners, name, entry)
        endpoints[name] = endpoint
        if endpoint.keeper is not None:
            keepers.append(endpoint.keeper)
    hosts = {name: list(entry.hosts) for name, entry in settings.endpoints.items()}
    router = Router(endpoints, hosts)
    limits = settings.listen.limits
    head_limits = HeadLimits(limits.request_line, limits.headers, limits.header_count)
    tally = Tally()
    pipeline = Pipeline(
        recorder=tools.recorder,
        tally=tally,
        buffer=limits.json_buffer,
        clock=tools.clock,
        wall=tools.wall,
        draw=tools.draw,
    )
    shortest = min(endpoint.timeout for endpoint in endpoints.values())
    plane = Plane(HeadReader(router, head_limits, shortest), pipeline, forwarding, shortest)
    return Wired(plane, endpoints, keepers, tally), notes.mistakes


def describe(settings: Settings) -> dict[str, Any]:
    """``settings`` as a file could say them, with every default that is in effect. It names where
    secrets come from and holds none."""
    described: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    for name, entry in settings.endpoints.items():
        shown = described["endpoints"][name]
        if _remainder(entry) is not None:
            shown["default"] = _remainder(entry)
        if entry.cors is not None and entry.cors.expose is None:
            shown["cors"]["expose"] = list(EXPOSED)
    return described


def _remainder(entry: EndpointSettings) -> str | None:
    """The deployment that gets what no weight covers. A managed endpoint with weights has none:
    such requests are refused (contract.md 5.2)."""
    if entry.dialect == "managed" and entry.traffic is not None:
        return None
    return entry.default or next(iter(entry.deployments))


def _forwarding(notes: Notes, proxies: list[str]) -> Forwarding:
    good: list[str] = []
    for number, entry in enumerate(proxies):
        path = ("listen", "trusted_proxies", number)
        try:
            network = ip_network(entry, strict=False)
        except ValueError:
            notes.note(path, f"{show(entry)} is not an address or network such as 10.0.0.0/8")
            continue
        address = entry.partition("/")[0]
        if network.prefixlen == 0:
            notes.note(path, f"{show(entry)} would trust everybody")
        elif ip_network(address) != ip_network(network.network_address):
            notes.note(path, f"{show(entry)} is not a network: say {network} or {address}")
        good.append(entry)
    return Forwarding(good)


def _endpoint(
    notes: Notes, tools: Tools, listeners: Listeners, name: str, entry: EndpointSettings
) -> Endpoint:
    at: Keys = ("endpoints", name)
    gate, keeper = make_gate(notes, tools, (*at, "auth"), entry.auth)
    deployments = {
        deployment: _deployment(notes, tools, listeners, (*at, "deployments", deployment), settings)
        for deployment, settings in entry.deployments.items()
    }
    return Endpoint(
        name,
        dialect=MANAGED if entry.dialect == "managed" else V1,
        gate=gate,
        keeper=keeper,
        cors=_cors(notes, (*at, "cors"), entry.cors),
        traffic=_traffic(notes, at, entry, deployments),
        deployments=list(deployments.values()),
        timeout=entry.timeout,
        body_limit=entry.limits.body,
        forward_credentials=entry.auth.forward_credentials,
    )


def _traffic(
    notes: Notes, at: Keys, entry: EndpointSettings, deployments: dict[str, Deployment]
) -> Traffic[Deployment]:
    # Where deployments only stand in for what is wrong, nobody can tell which there should be.
    known = not notes.source.is_replaced((*at, "deployments"))
    missing = f"; there are {', '.join(deployments)}"
    default = entry.default or next(iter(deployments))
    if default not in deployments:
        if known:
            notes.note((*at, "default"), f"there is no deployment {show(default)}{missing}")
        default = next(iter(deployments))
    weights = dict(entry.traffic or {})
    for name in [name for name in weights if name not in deployments]:
        if known:
            notes.note((*at, "traffic", name), f"there is no deployment {show(name)}{missing}")
        del weights[name]
    managed = entry.dialect == "managed"
    if not notes.source.is_whole((*at, "traffic")):
        weights = {}
    elif managed and entry.traffic is not None and sum(entry.traffic.values()) not in (0, 100):
        found = sum(entry.traffic.values())
        notes.note(
            (*at, "traffic"), f"sums to {found}; in the managed dialect it must be 100, or 0"
        )
        weights = {}
    # A managed endpoint has no default: what no weight covers is refused (contract.md 5.2).
    rest = None if managed and entry.traffic is not None else default
    traffic = notes.attempt((*at, "traffic"), lambda: Traffic(deployments, weights, rest))
    return traffic or Traffic(deployments, {}, default)


def _deployment(
    notes: Notes, tools: Tools, listeners: Listeners, at: Keys, entry: DeploymentSettings
) -> Deployment:
    backends: list[Backend] = []
    for number, url in enumerate(entry.backends):
        path = (*at, "backends", number)
        backend = notes.attempt(path, lambda url=url: parse_backend(url))  # type: ignore[misc]
        if backend is None:
            continue
        backend = replace(backend, host=backend.host.lower())
        if backend in backends:
            notes.note(path, f"{show(url)} is there twice")
        own = [section for section, address in listeners.items() if reaches(backend, *address)]
        if own:
            notes.note(path, f"{show(url)} is the gateway itself: the address of {own[0]}")
        backends.append(backend)
    connections = entry.connections
    pools = [
        Pool(
            backend,
            tools.dial,
            limit=connections.max,
            idle_timeout=connections.idle_timeout,
            connect_timeout=connections.connect_timeout,
        )
        for backend in backends or [Backend("127.0.0.1", 1)]
    ]
    if connections.max < entry.concurrency and notes.source.is_whole((*at, "connections")):
        why = f"must be at least concurrency, which is {entry.concurrency}"
        notes.note((*at, "connections", "max"), why)
    batcher = _batcher(notes, tools, (*at, "batching"), entry.batching)
    if entry.batching.max_queue_delay and entry.batching.max_queue_delay >= entry.queue.max_wait:
        path = (*at, "batching", "max_queue_delay")
        why = "or requests are refused while they are held back"
        notes.note(path, f"must be below queue.max_wait, {why}")
    shadowing = entry.batching.mode == "shadow"
    slots = Slots(
        pools,
        concurrency=entry.concurrency,
        max_wait=entry.queue.max_wait,
        max_length=entry.queue.max_length,
        clock=tools.clock,
        batcher=None if shadowing else batcher,
    )
    shadow = Shadow(batcher, slots, tools.draw) if batcher is not None and shadowing else None
    return Deployment(str(at[-1]), slots, shadow)


def _batcher(notes: Notes, tools: Tools, at: Keys, entry: Batching) -> Batcher | None:
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
    rules = BatchRules(
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
    return Batcher(f"{at[1]}/{at[3]}", rules, clock=tools.clock, ids=tools.ids)


def _cors(notes: Notes, at: Keys, entry: CorsSettings | None) -> Cors | None:
    if entry is None:
        return None
    for kind in ("headers", "expose"):
        for name in getattr(entry, kind) or ():
            if not TOKEN.fullmatch(name.encode()):
                notes.note((*at, kind), f"{show(name)} is not a header name")
    rules = CorsRules(
        origins=entry.origins,
        methods=entry.methods,
        headers=entry.headers,
        expose=EXPOSED if entry.expose is None else entry.expose,
        max_age=int(entry.max_age),
        credentials=entry.credentials,
        private_network=entry.private_network,
    )
    mistakes = check_rules(rules)
    for mistake in mistakes:
        notes.note((*at, "origins"), mistake)
    return None if mistakes else Cors(rules)
