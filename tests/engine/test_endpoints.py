"""Deployments and endpoints say who they are and count apart."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.core.backends import Backend
from gateway.core.dialects import MANAGED
from gateway.core.gates import Gate
from gateway.core.traffic import Traffic
from gateway.engine.batching import Batcher, BatchRules
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.pools import Pool, Pooled
from gateway.engine.shadowing import Shadow
from gateway.engine.slots import Slots


async def never(pool: Pool) -> Pooled:
    await asyncio.Event().wait()
    raise AssertionError


def pool(port: int) -> Pool:
    backend = Backend("10.0.0.5", port)
    return Pool(backend, never, limit=1, idle_timeout=1.0, connect_timeout=1.0)


def slots(*pools: Pool, batcher: Batcher | None = None) -> Slots:
    return Slots(
        pools, concurrency=1, max_wait=0.5, max_length=10, clock=lambda: 0.0, batcher=batcher
    )


def test_a_deployment_names_itself_in_its_answers() -> None:
    deployment = Deployment("blue", slots(pool(1), pool(2)))
    assert deployment.name_line == b"azureml-model-deployment: blue\r\n"
    assert repr(deployment) == "<Deployment blue, 2 backends>"


def batcher() -> Batcher:
    return Batcher("blue", BatchRules(), clock=lambda: 0.0, ids=iter(()))


def test_requests_go_alone_unless_something_merges_them() -> None:
    deployment = Deployment("blue", slots(pool(1)))
    assert (deployment.mode, deployment.batcher, deployment.shadow) == ("off", None, None)


def test_what_merges_is_known_to_the_places() -> None:
    own = batcher()
    deployment = Deployment("blue", slots(pool(1), batcher=own))
    assert (deployment.mode, deployment.batcher, deployment.shadow) == ("on", own, None)


def test_what_only_compares_is_not_known_to_the_places() -> None:
    own, places = batcher(), slots(pool(1))
    shadow = Shadow(own, places, lambda: 0.0)
    deployment = Deployment("blue", places, shadow)
    assert (deployment.mode, deployment.batcher, deployment.shadow) == ("shadow", own, shadow)
    assert deployment.slots.batcher is None


def test_closing_a_deployment_closes_what_is_idle_and_ends_comparing() -> None:
    class Idle:
        usable, idle_since, closed = True, 0.0, False

        def close(self) -> None:
            self.closed = True

    own = pool(1)
    places = slots(own)
    shadow = Shadow(batcher(), places, lambda: 0.0)
    idle = Idle()
    own.release(cast(Pooled, idle))
    Deployment("blue", places, shadow).close()
    assert idle.closed
    assert shadow._stopped
    Deployment("green", slots(pool(2))).close()


def test_a_deployment_without_backends_is_none() -> None:
    with pytest.raises(ValueError, match="nothing to balance over"):
        slots()


def test_an_endpoint_counts_apart_from_its_deployments() -> None:
    blue = Deployment("blue", slots(pool(1)))
    endpoint = Endpoint(
        "diabetes",
        dialect=MANAGED,
        gate=Gate(None, None),
        keeper=None,
        cors=None,
        traffic=Traffic({"blue": blue}, {}, "blue"),
        deployments=[blue],
        timeout=5.0,
        body_limit=100,
        forward_credentials=True,
    )
    assert endpoint.tally is not blue.tally
    assert repr(endpoint) == "<Endpoint diabetes, 1 deployments>"
    assert (endpoint.dialect, endpoint.timeout, endpoint.body_limit) == (MANAGED, 5.0, 100)
