"""From settings to live objects.

Building is the last stage of validation: an object that cannot be built is a mistake in the
configuration, noted with the path of its keys, and building goes on, so that all are found at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from gateway.core.cors import EXPOSED, Cors, CorsRules, check_rules
from gateway.core.dialects import MANAGED, V1
from gateway.core.forwarding import Forwarding
from gateway.core.grammar import TOKEN
from gateway.core.heads import HeadLimits
from gateway.core.routing import Router
from gateway.core.statistics import Tally
from gateway.core.traffic import Traffic
from gateway.edge.listener import Plane
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.permits import Sharing
from gateway.engine.pipeline import Pipeline, Recorder
from gateway.engine.pools import Pool, Pooled
from gateway.engine.reading import HeadReader
from gateway.settings.judging import judge
from gateway.settings.loading import Source
from gateway.settings.mistakes import Keys, Mistake, show
from gateway.settings.notes import Notes
from gateway.settings.schema import CorsSettings, EndpointSettings, Settings
from gateway.wired import MadeDeployment, MadeGate, Wired
from gateway.wiring_deployments import DeploymentMaker, Listeners
from gateway.wiring_tls import Contexts
from gateway.wiring_tokens import make_gate

# Seconds that building may keep the loop from serving requests.
SLICE = 0.001


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
    #: Shares places with other workers (engine/permits.py); None if there are none.
    permits: Sharing | None = None
    #: Certificates are judged by their dates. False where a configuration was found good before:
    #: what has expired since is served all the same, rather than nothing.
    judges_dates: bool = True


def wire(
    settings: Settings, source: Source, tools: Tools, previous: Wired | None = None
) -> tuple[Wired, list[Mistake]]:
    """Build everything that ``settings`` describe, in the order of the walk.

    :param previous: what is running, to be replaced. Nothing of it is changed before ``adopt``.
        Its tools stay in use where its parts do, so ``tools`` must reach the same world.
    :returns: the objects and the mistakes; with mistakes the objects must not be used.
    """
    steps = wiring(settings, source, tools, previous)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            wired: tuple[Wired, list[Mistake]] = end.value
            return wired


async def wire_gently(
    settings: Settings, source: Source, tools: Tools, previous: Wired | None = None
) -> tuple[Wired, list[Mistake]]:
    """Do what ``wire`` does, and let the loop serve requests meanwhile."""
    steps = wiring(settings, source, tools, previous)
    due = tools.clock() + SLICE
    while True:
        try:
            next(steps)
        except StopIteration as end:
            wired: tuple[Wired, list[Mistake]] = end.value
            return wired
        if tools.clock() >= due:
            await asyncio.sleep(0)
            due = tools.clock() + SLICE


def wiring(
    settings: Settings, source: Source, tools: Tools, previous: Wired | None
) -> Generator[None, None, tuple[Wired, list[Mistake]]]:
    """Do what ``wire`` does, a little at each step."""
    notes = Notes(source, tools.environment, tools.read_bytes)
    judge(notes, settings)
    yield
    work = _Work(notes, tools, previous)
    listen = settings.listen
    now = tools.wall() if tools.judges_dates else None
    contexts = Contexts(notes, now, {} if previous is None else previous.contexts)
    tls = contexts.server(("listen", "tls"), listen.tls)
    maker = DeploymentMaker(notes, tools, _listeners(source, settings), work.changes, contexts)
    for name, entry in settings.endpoints.items():
        yield from _endpoint(work, maker, name, entry)
    endpoints = work.endpoints
    hosts = {name: list(entry.hosts) for name, entry in settings.endpoints.items()}
    router = Router(endpoints, hosts)
    limits = listen.limits
    tally = Tally() if previous is None else previous.tally
    pipeline = Pipeline(
        recorder=tools.recorder,
        tally=tally,
        buffer=limits.json_buffer,
        clock=tools.clock,
        wall=tools.wall,
        draw=tools.draw,
    )
    if previous is not None and previous.trusted == listen.trusted_proxies:
        # Connections keep what follows from it.
        forwarding = previous.plane.forwarding
    else:
        forwarding = _forwarding(notes, listen.trusted_proxies)
    head_limits = HeadLimits(limits.request_line, limits.headers, limits.header_count)
    shortest = min(endpoint.timeout for endpoint in endpoints.values())
    plane = Plane(HeadReader(router, head_limits, shortest), pipeline, forwarding, shortest)
    wired = Wired(
        plane,
        endpoints,
        tally,
        trusted=listen.trusted_proxies,
        made=work.made,
        gates=work.gates,
        tls=tls,
        contexts=contexts.made,
        expiries=contexts.expiries,
        warnings=notes.warnings,
        changes=work.changes,
        previous=previous,
    )
    return wired, notes.mistakes


class _Work:
    """What has been built so far, and what with."""

    def __init__(self, notes: Notes, tools: Tools, previous: Wired | None) -> None:
        self.notes = notes
        self.tools = tools
        self.old_endpoints = previous.endpoints if previous is not None else {}
        self.old_gates = previous.gates if previous is not None else {}
        self.old_deployments = previous.made if previous is not None else {}
        self.endpoints: dict[str, Endpoint] = {}
        self.gates: dict[str, MadeGate] = {}
        self.made: dict[tuple[str, str], MadeDeployment] = {}
        self.changes: list[Callable[[], None]] = []


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


def _listeners(source: Source, settings: Settings) -> Listeners:
    """The gateway's own addresses, as far as the file says them."""
    addresses = {
        ("listen", "address"): settings.listen.address,
        ("listen", "plain"): settings.listen.plain,
        ("admin", "address"): settings.admin.address,
    }
    return {
        ".".join(keys).removesuffix(".address"): address
        for keys, address in addresses.items()
        if address is not None and not source.is_replaced(keys)
    }


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
    work: _Work, maker: DeploymentMaker, name: str, entry: EndpointSettings
) -> Iterator[None]:
    at: Keys = ("endpoints", name)
    notes, old = work.notes, work.old_endpoints.get(name)
    made = make_gate(notes, work.tools, (*at, "auth"), entry.auth, work.old_gates.get(name))
    work.gates[name] = made
    deployments: dict[str, Deployment] = {}
    for own, settings in entry.deployments.items():
        before = work.old_deployments.get((name, own))
        made_deployment = maker.make((*at, "deployments", own), settings, before)
        work.made[name, own] = made_deployment
        deployments[own] = made_deployment.deployment
        yield
    work.endpoints[name] = Endpoint(
        name,
        dialect=MANAGED if entry.dialect == "managed" else V1,
        gate=made.gate,
        keeper=made.keeper,
        cors=_cors(notes, (*at, "cors"), entry.cors),
        traffic=_traffic(notes, at, entry, deployments),
        deployments=list(deployments.values()),
        timeout=entry.timeout,
        body_limit=entry.limits.body,
        forward_credentials=entry.auth.forward_credentials,
        tally=None if old is None else old.tally,
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
