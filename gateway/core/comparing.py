"""Whether a request's part of a merged answer is what it was told alone."""

from __future__ import annotations

import json
from typing import NamedTuple


class Difference(NamedTuple):
    """Where two answers differ, and what they say there."""

    where: str
    alone: str
    merged: str


def compare(alone: bytes, merged: bytes, tolerance: float = 0.0) -> Difference | None:
    """The first difference between two answers, None if there is none."""
    if alone == merged or (tolerance and _close(json.loads(alone), json.loads(merged), tolerance)):
        return None
    return Difference("$", alone[:40].decode("utf-8", "replace"), merged[:40].decode("utf-8", "replace"))


def _close(one: object, other: object, tolerance: float) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= tolerance * max(abs(one), abs(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            _close(a, b, tolerance) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_close(one[k], other[k], tolerance) for k in one)
    return one == other
