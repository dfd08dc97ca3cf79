"""Deployments and endpoints say who they are and count apart."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.backends import Backend
from gateway.core.dialects import MANAGED
from gateway.core.gates import Gate
from gateway.core.traffic import Traffic
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.pools import Pool, Pooled
from gateway.engine.slots import Slots


async def never(pool: Pool) -> Pooled:
    await asyncio.Event().wait()
    raise AssertionError


def pool(port: int) -> Pool:
    backend = Backend("10.0.0.5", port)
    return Pool(backend, never, limit=1, idle_timeout=1.0, connect_timeout=1.0)


def slots(*pools: Pool) -> Slots:
    return Slots(pools, concurrency=1, max_wait=0.5, max_length=10, clock=lambda: 0.0)


def test_a_deployment_names_itself_in_its_answers() -> None:
    deployment = Deployment("blue", slots(pool(1), pool(2)))
    assert deployment.name_line == b"azureml-model-deployment: blue\r\n"
    assert repr(deployment) == "<Deployment blue, 2 backends>"


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
