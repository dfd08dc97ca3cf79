"""Many numbers in one: what is done to that is done to each of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.blocks import largest, pack, unpack

LANES = st.lists(st.integers(0, 2**58), min_size=1, max_size=40)


@given(st.lists(LANES, min_size=1, max_size=8))
def test_blocks_are_added_and_compared_number_by_number(rows: list[list[int]]) -> None:
    count = min(map(len, rows))
    rows = [row[:count] for row in rows]
    blocks = [pack(row) for row in rows]
    assert [list(unpack(block, count)) for block in blocks] == rows
    assert unpack(sum(blocks), count) == tuple(map(sum, zip(*rows, strict=True)))
    assert unpack(largest(blocks), count) == tuple(map(max, zip(*rows, strict=True)))
    # What one of them counted since then, whichever number that was.
    assert sum(blocks) - blocks[0] + pack([9] * count) == sum(blocks[1:]) + pack([9] * count)


def test_a_number_that_cannot_be_does_no_harm_to_the_others() -> None:
    assert unpack(pack([1, -1, 2, 2**64, 3]), 5) == (1, 0, 2, 2**56 - 1, 3)
