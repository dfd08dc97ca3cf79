"""Blocks: many counters as one large number.

What is counted in one object, some forty numbers, is one block, and a block is written as one large
number, 64 bits for each. Two blocks are added by adding those, which costs what adding two numbers
costs; so eight workers with 200 busy deployments are added up in a few milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

# Kind of a block, and the values of its labels. `control/families.py` says what each of the numbers
# in a block of a kind is called.
Key = tuple[str, ...]

# Kinds that say how things are now. What the others count is never taken back.
GAUGES = frozenset(
    (
        "connections",
        "deployment_in_flight",
        "endpoint_in_flight",
        "learned",
        "limit",
        "places",
        "pool",
        "queue",
        "worst",
    )
)
# A second, in blocks. In billionths, a thousand requests that wait all the time would be too many
# for 64 bits within a year.
MILLION = 1_000_000
_LANE = 64
# Leaves room for adding.
_MOST = 2**56 - 1


@cache
def _lanes(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}Q")


def pack(values: Sequence[int]) -> int:
    """The block of these numbers, the first one lowest.

    A number that is negative or too large is a mistake elsewhere, and no reason to tell nothing: it
    becomes the nearest that fits.
    """
    try:
        data = _lanes(len(values)).pack(*values)
    except struct.error:
        return pack([min(max(value, 0), _MOST) for value in values])
    return int.from_bytes(data, "little")


def unpack(block: int, count: int) -> tuple[int, ...]:
    """The ``count`` numbers of a block."""
    return _lanes(count).unpack(block.to_bytes(count * 8, "little"))


def largest(blocks: Sequence[int]) -> int:
    """The block of the largest numbers in each place."""
    count = -(-max(blocks).bit_length() // _LANE)
    return pack(list(map(max, zip(*(unpack(block, count) for block in blocks), strict=True))))
