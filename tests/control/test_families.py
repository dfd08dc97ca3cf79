"""Families and columns fit each other, and the blocks that workers report."""

from __future__ import annotations

import pytest

from gateway.control.families import FAMILIES, LAYOUTS, WIDTHS, Column
from gateway.core.gates import OUTCOMES
from gateway.core.series import Reporter
from tests.support.counted import made_up

KINDS = {name: kind for name, kind, _ in FAMILIES}


def test_every_family_is_named_once_and_by_the_rules() -> None:
    assert len(KINDS) == len(FAMILIES)
    for name, kind, text in FAMILIES:
        assert kind in ("counter", "gauge", "histogram")
        assert name.endswith("_total") == (kind == "counter")
        assert text.endswith(".")


def test_columns_belong_to_families_of_their_kind() -> None:
    for _, columns in LAYOUTS.values():
        for column in columns:
            assert (KINDS[column.family] == "histogram") == bool(column.bounds)
            assert bool(column.label) == bool(column.choices)


def test_the_layouts_are_those_of_what_is_reported() -> None:
    report = Reporter().report(made_up())
    assert {key[0] for key in report.new} == set(LAYOUTS)
    for kind, *labels in report.new:
        names, _ = LAYOUTS[kind]
        # The number of the worker is added when reports are added up.
        assert len(labels) == len([name for name in names if name != "worker"])


def test_the_numbers_of_a_block_are_as_many_as_its_layout_has() -> None:
    """With something in the last place of everything, a block ends where its layout does."""
    statistics = made_up()
    statistics.unrouted.duration.observe(1.0)
    statistics.endpoints[0].authentications[OUTCOMES[-1]] = 1
    report = Reporter().report(statistics)
    blocks: dict[str, int] = {}
    for number, block in report.changes.items():
        kind = report.new[number][0]
        blocks[kind] = max(blocks.get(kind, 0), block or 0)
    assert {kind: -(-block.bit_length() // 64) for kind, block in blocks.items()} == WIDTHS


@pytest.mark.parametrize(
    ("column", "width"),
    [
        (Column("a"), 1),
        (Column("a", "flush", ("x", "y", "z")), 3),
        (Column("a", bounds=(1.0, 2.0)), 4),
    ],
)
def test_a_column_is_as_wide_as_what_it_names(column: Column, width: int) -> None:
    assert column.width == width
