"""The live objects of one configuration, and how they take over from those of the one before.

A new configuration is built beside the running one, out of parts of it wherever nothing has changed
for them, and nothing that runs is touched by that. ``Wired.adopt`` then makes all changes in one
turn of the loop: no request ever meets half of them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.core.backends import Backend
from gateway.core.gates import Gate
from gateway.core.keys import KeyRing
from gateway.core.statistics import Tally
from gateway.edge.listener import Plane
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.keepers import KeyKeeper
from gateway.engine.pools import Pool
from gateway.engine.shadowing import Shadow
from gateway.settings.mistakes import Mistake
from gateway.wiring_tls import Expiry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MadeDeployment:
    """A deployment, and what it was made of: what compares equal need not be made again.

    ``pools`` are in the order of the configuration.
    """

    origin: object
    deployment: Deployment
    pools: Mapping[Backend, Pool]


@dataclass(frozen=True, slots=True)
class MadeGate:
    """A gate, and what it was made of: what compares equal need not be made again."""

    auth: object
    ring: KeyRing | None
    #: SHA-256 of what verifies tokens, where that is configured and not fetched.
    digest: bytes | None
    gate: Gate
    keeper: KeyKeeper | None
    #: What the keeper was made of.
    fetching: object = None


@dataclass(slots=True)
class Wired:
    """The live objects of one configuration."""

    plane: Plane
    endpoints: dict[str, Endpoint]
    #: Requests that belong to no endpoint.
    tally: Tally
    #: Addresses and networks that ``plane.forwarding`` trusts.
    trusted: list[str]
    #: By endpoint and deployment.
    made: dict[tuple[str, str], MadeDeployment]
    #: By endpoint.
    gates: dict[str, MadeGate]
    #: How clients are met at ``listen.address``; None for plain HTTP.
    tls: ssl.SSLContext | None = None
    #: All settings of TLS that were made, to be used again.
    contexts: Mapping[bytes, ssl.SSLContext] = field(default_factory=dict)
    #: Of every certificate that the gateway shows.
    expiries: list[Expiry] = field(default_factory=list)
    #: What works and should not be so.
    warnings: list[Mistake] = field(default_factory=list)
    #: Changes of objects that are taken over.
    changes: list[Callable[[], None]] = field(default_factory=list)
    previous: Wired | None = None
    #: Another configuration has taken over.
    replaced: bool = False
    #: Deployments and pools that are no longer configured and may still be in use.
    departed: list[Deployment | Pool] = field(default_factory=list)

    @property
    def keepers(self) -> list[KeyKeeper]:
        return [e.keeper for e in self.endpoints.values() if e.keeper is not None]

    @property
    def deployments(self) -> Iterator[Deployment]:
        return (d for endpoint in self.endpoints.values() for d in endpoint.deployments)

    def adopt(self) -> None:
        """Take over from the configuration that this was built to replace, or begin if there is
        none. In the same turn of the loop, ``Listener.plane`` must be replaced by ``plane``.

        Requests in flight are not touched. They finish where they are: at the old endpoint with its
        limits, at the container that they were sent to, at their place in the queue.

        :raises RuntimeError: another one has taken over from it meanwhile.
        """
        before, self.previous = self.previous, None
        if before is None:
            for keeper in self.keepers:
                keeper.start()
            return
        if before.replaced:
            raise RuntimeError("built to replace a configuration that has been replaced already")
        before.replaced = True
        for change in self.changes:
            change()
        self.changes = []
        for shadow in _missing(_shadows(before), _shadows(self)):
            # That ends calls, and so others go on: not in the middle of this.
            asyncio.get_running_loop().call_soon(shadow.stop)
        for keeper in _missing(self.keepers, before.keepers):
            keeper.start()
        for keeper in _missing(before.keepers, self.keepers):
            keeper.retire()
        self.departed = before.departed
        self._see_off(before)
        # Connections know by which reader they last read a head, and it knows all its heads.
        before.plane.reader.forget()

    def expire(self, now: float) -> None:
        """Close connections that have been idle for too long, and all that nobody will use. To be
        called a few times a second.

        :param now: monotonic seconds.
        """
        for deployment in self.deployments:
            for pool in deployment.pools:
                pool.expire(now)
        if self.departed:
            self._look_after_departed()

    def close(self) -> None:
        """Stop what goes on in the background and close every idle connection."""
        for keeper in self.keepers:
            keeper.stop()
        for deployment in self.deployments:
            deployment.close()
        for each in self.departed:
            each.close()

    def _see_off(self, before: Wired) -> None:
        """Deployments that are configured no longer serve those who wait there; backends that a
        deployment has no longer do not get anybody any more."""
        old, new = before.made, self.made
        self.departed += [old[key].deployment for key in old if key not in new]
        for key in old.keys() & new.keys():
            self.departed += _missing(old[key].pools.values(), new[key].pools.values())
        self._look_after_departed()

    def _look_after_departed(self) -> None:
        self.departed = [each for each in self.departed if not _is_over(each)]


def _shadows(wired: Wired) -> list[Shadow]:
    return [d.shadow for d in wired.deployments if d.shadow is not None]


def _missing(ones: Iterable[T], others: Iterable[T]) -> list[T]:
    """Those of ``ones`` that are not among ``others``, as objects."""
    known = {id(other) for other in others}
    return [one for one in ones if id(one) not in known]


def _is_over(departed: Deployment | Pool) -> bool:
    """Close what is of no use any more. Whether nothing is left that is."""
    if isinstance(departed, Deployment):
        if departed.slots.waiting:
            return False
        pools = departed.pools
    else:
        pools = (departed,)
    for pool in pools:
        pool.close()
    if any(pool.busy or pool.open for pool in pools):
        return False
    # A request whose body took its time may still come.
    for pool in pools:
        pool.retire()
    return True
