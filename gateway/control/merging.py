"""One state of the deployments, from what every worker says of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge_deployments(states: Mapping[int, Any]) -> Any:
    """What ``/deployments`` shows.

    Numbers of one moment are summed. What a worker has learned about merging is its own: with one
    worker it stands under ``batching`` as it is, with several there by the number of the worker.

    :param states: ``describe_deployments`` of each worker, by its number.
    """
    merged: dict[str, dict[str, Any]] = {}
    for number, state in sorted(states.items()):
        for endpoint, deployments in state.items():
            for name, found in deployments.items():
                known = merged.setdefault(endpoint, {}).get(name)
                if known is None:
                    merged[endpoint][name] = _first(found, number, len(states))
                else:
                    _add(known, found, number)
    return merged


def _first(found: Any, number: int, count: int) -> Any:
    backends = [dict(backend) for backend in found["backends"]]
    batching = found["batching"]
    if count > 1 and batching["mode"] != "off":
        batching = {"mode": batching["mode"], "workers": {str(number): batching}}
    return {**found, "backends": backends, "batching": batching}


def _add(known: Any, found: Any, number: int) -> None:
    known["waiting"] += found["waiting"]
    backends = {backend["name"]: backend for backend in known["backends"]}
    for backend in found["backends"]:
        one = backends.get(backend["name"])
        if one is None:
            known["backends"].append(dict(backend))
            continue
        for field in ("places_taken", "connections"):
            one[field] += backend[field]
    if "workers" in known["batching"]:
        known["batching"]["workers"][str(number)] = found["batching"]
