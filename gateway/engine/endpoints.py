"""Endpoints and deployments, alive: what the configuration says, with what it needs to run."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.cors import Cors
from gateway.core.dialects import Dialect
from gateway.core.gates import Gate
from gateway.core.statistics import Tally
from gateway.core.traffic import Traffic
from gateway.engine.batching import Batcher
from gateway.engine.keepers import KeyKeeper
from gateway.engine.pools import Pool
from gateway.engine.shadowing import Shadow
from gateway.engine.slots import Slots


class Deployment:
    """One version of a model, served by the containers of its pools."""

    __slots__ = ("name", "name_line", "shadow", "slots", "tally")

    def __init__(
        self, name: str, slots: Slots, shadow: Shadow | None = None, tally: Tally | None = None
    ) -> None:
        """
        :param shadow: compares what merged requests would be told; None to compare nothing.
        :param tally: to go on counting in; a new one if absent.
        """
        self.name = name
        self.slots = slots
        self.shadow = shadow
        #: Names the deployment that served (contract.md 1.4).
        self.name_line = f"azureml-model-deployment: {name}\r\n".encode()
        self.tally = Tally() if tally is None else tally

    def __repr__(self) -> str:
        return f"<Deployment {self.name}, {len(self.pools)} backends>"

    @property
    def pools(self) -> tuple[Pool, ...]:
        return self.slots.pools

    @property
    def batcher(self) -> Batcher | None:
        """What is known about merging, whether it is done or only tried."""
        return self.shadow.batcher if self.shadow is not None else self.slots.batcher

    def close(self) -> None:
        """Give up what goes on in the background, and close every idle connection."""
        if self.shadow is not None:
            self.shadow.stop()
        for pool in self.pools:
            pool.close()

    @property
    def mode(self) -> str:
        """``on``, ``off`` or ``shadow``."""
        if self.shadow is not None:
            return "shadow"
        return "off" if self.slots.batcher is None else "on"


class Endpoint:
    """One service: how it is called, by whom, and which deployments stand behind it."""

    __slots__ = (
        "body_limit",
        "cors",
        "deployments",
        "dialect",
        "forward_credentials",
        "gate",
        "keeper",
        "name",
        "tally",
        "timeout",
        "traffic",
    )

    def __init__(
        self,
        name: str,
        *,
        dialect: Dialect,
        gate: Gate,
        keeper: KeyKeeper | None,
        cors: Cors | None,
        traffic: Traffic[Deployment],
        deployments: Sequence[Deployment],
        timeout: float,
        body_limit: int,
        forward_credentials: bool,
        tally: Tally | None = None,
    ) -> None:
        """
        :param keeper: refreshes the keys of the gate, None if they never change.
        :param timeout: seconds from the end of the head to the end of the answer.
        :param body_limit: bytes of a request body.
        :param tally: to go on counting in; a new one if absent.
        """
        self.name = name
        self.dialect = dialect
        self.gate = gate
        self.keeper = keeper
        self.cors = cors
        self.traffic = traffic
        self.deployments = tuple(deployments)
        self.timeout = timeout
        self.body_limit = body_limit
        self.forward_credentials = forward_credentials
        #: Requests that ended before a deployment was chosen.
        self.tally = Tally() if tally is None else tally

    def __repr__(self) -> str:
        return f"<Endpoint {self.name}, {len(self.deployments)} deployments>"
