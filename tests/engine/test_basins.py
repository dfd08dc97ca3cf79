"""What fits is kept whole and in order; what does not is not kept at all."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine import basins
from gateway.engine.basins import Basin
from gateway.engine.exchange import Source

NOBODY = cast(Source, None)


@given(st.lists(st.binary(max_size=20)))
def test_pieces_are_put_together_in_order(pieces: list[bytes]) -> None:
    basin = Basin()
    for piece in pieces:
        basin.write_reply(piece, NOBODY)
    assert basin.contents() == b"".join(pieces)


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([10], True),
        ([5, 5], True),
        ([11], False),
        ([5, 6], False),
        ([11, 1], False),
        ([6, 6], False),
    ],
)
def test_too_much_is_nothing(monkeypatch: pytest.MonkeyPatch, sizes: list[int], kept: bool) -> None:
    monkeypatch.setattr(basins, "LARGEST", 10)
    basin = Basin()
    for size in sizes:
        basin.write_reply(b"x" * size, NOBODY)
    assert basin.contents() == (b"x" * sum(sizes) if kept else None)
    assert repr(basin) == f"<Basin of {sum(sizes)} bytes>"


def test_what_was_too_much_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basins, "LARGEST", 10)
    basin = Basin()
    for _ in range(5):
        basin.write_reply(b"xxxx", NOBODY)
    assert basin._pieces == []
