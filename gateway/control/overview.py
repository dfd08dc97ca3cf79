"""What the admin port shows of endpoints and deployments, put together at the moment of asking."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.core.confidence import DEPENDENT, State
from gateway.core.statistics import BatchStatistics, DeploymentStatistics, EndpointStatistics
from gateway.engine.batching import Batcher, Family
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.shadowing import Shadow

# Kinds of requests that are shown of one deployment, those seen last.
_SHOWN = 32
_LONGEST_PATH = 200
_STATES = tuple(state.value for state in State)


def endpoint_statistics(endpoints: Iterable[Endpoint]) -> list[EndpointStatistics]:
    """What has been counted so far."""
    return [
        EndpointStatistics(
            endpoint.name,
            endpoint.tally,
            endpoint.gate.outcomes,
            endpoint.keeper,
            {deployment.name: _statistics(deployment) for deployment in endpoint.deployments},
        )
        for endpoint in endpoints
    ]


def _statistics(deployment: Deployment) -> DeploymentStatistics:
    slots, batcher = deployment.slots, deployment.batcher
    batching = None
    if batcher is not None:
        families = dict.fromkeys(_STATES, 0)
        for family in batcher.families:
            families[family.confidence.state.value] += 1
        shadow = None if deployment.shadow is None else deployment.shadow.tally
        batching = BatchStatistics(batcher.tally, batcher.cap, families, shadow)
    return DeploymentStatistics(
        deployment.tally,
        (slots.busy, slots.room),
        slots.waiting,
        slots.tally,
        batching,
        {pool.name: (pool.open, pool.tally) for pool in deployment.pools},
    )


def describe_deployments(endpoints: Iterable[Endpoint], now: float) -> Any:
    """The state that every deployment is in, for people and scripts.

    :param now: monotonic seconds.
    """
    return {
        endpoint.name: {
            deployment.name: {
                "backends": [
                    {"name": pool.name, "places_taken": pool.busy, "connections": pool.open}
                    for pool in deployment.pools
                ],
                "places": deployment.slots.room,
                "waiting": deployment.slots.waiting,
                "batching": _describe(deployment, now),
            }
            for deployment in endpoint.deployments
        }
        for endpoint in endpoints
    }


def _describe(deployment: Deployment, now: float) -> dict[str, Any]:
    batcher = deployment.batcher
    if batcher is None:
        return {"mode": "off"}
    fit = batcher.limit.fit
    families = batcher.families
    compared = {} if deployment.shadow is None else {"shadow": _describe_shadow(deployment.shadow)}
    return {
        "mode": deployment.mode,
        **compared,
        "state": _overall(batcher),
        "row_cap": batcher.cap,
        "max_rows": batcher.rules.max_rows,
        "latency_target_seconds": batcher.rules.latency_target,
        "latency_fit": fit and {"per_row_seconds": fit[0], "fixed_seconds": fit[1]},
        "kinds_of_requests": [_describe_family(family, now) for family in families[:_SHOWN]],
        "kinds_not_shown": max(0, len(families) - _SHOWN),
    }


def _describe_shadow(shadow: Shadow) -> dict[str, Any]:
    """Numbers and places in answers, but no text of them: ``Shadow.difference`` sees to that."""
    difference = shadow.difference
    return {
        "verdict": _verdict(shadow),
        "sample_percent": shadow.batcher.rules.sample,
        "requests": shadow.tally.results,
        "calls": shadow.tally.calls,
        "first_difference": difference and difference._asdict(),
    }


def _verdict(shadow: Shadow) -> str:
    """What is to be thought of batching here, in words. A difference is never forgotten."""
    results = shadow.tally.results
    differ, compared = results["differ"], results["agree"] + results["differ"]
    if differ:
        return f"unsafe: {DEPENDENT}: {differ} of {compared} requests compared differ"
    families = shadow.batcher.families
    if compared:
        sound = [family for family in families if family.confidence.state is State.ON]
        equal = bool(sound) and all(family.only is not None for family in sound)
        little = ", but the rows were all the same" if equal else ""
        return f"safe so far: {compared} requests compared{little}"
    failed = next((family for family in families if family.confidence.fallbacks), None)
    if failed is not None:
        return f"of no use so far: {failed.confidence.reason}"
    return "nothing is known so far: no request was compared"


def _overall(batcher: Batcher) -> str:
    """One word for all kinds: the best that any of them is in."""
    states = {family.confidence.state for family in batcher.families}
    return next((state.value for state in (State.ON, State.OFF) if state in states), "proving")


def _describe_family(family: Family, now: float) -> dict[str, Any]:
    """Nothing that a client sent is shown but the path: neither query nor values."""
    confidence = family.confidence
    path = family.line.split(b" ")[1].partition(b"?")[0][:_LONGEST_PATH]
    retry = max(0.0, confidence.until - now) if confidence.state is State.OFF else None
    return {
        "path": path.decode("ascii", "replace"),
        "state": confidence.state.value,
        "reason": confidence.reason,
        "proved_again_in_seconds": retry if retry is None else round(retry, 1),
        "unexplained_failures": confidence.strikes,
        "fallbacks": confidence.fallbacks,
    }
