"""Rows are of one kind only if numpy reads them together as it reads them apart."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core.kinds import Kind, Kinds, names_dates


def kind_of(kinds: Kinds, *rows: Any) -> Kind | None:
    return kinds.find(list(rows), exact=False)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param([[1.5, 2.5]], [[0.1, 0.2], [3.5, 4.5]], True, id="floats"),
        pytest.param([[1]], [[2]], True, id="integers"),
        pytest.param([[1]], [[1.5]], False, id="integer and float"),
        pytest.param([[1]], [[True]], False, id="integer and boolean"),
        pytest.param([[1.5]], [[None]], False, id="float and nothing"),
        pytest.param([[1.5]], [["a"]], False, id="float and string"),
        pytest.param([[1.5]], [[1.5, 2.5]], False, id="widths"),
        pytest.param([[1, 1.5]], [[2, 2.5]], True, id="by column"),
        pytest.param([[1, 1.5]], [[1.5, 1]], False, id="other columns"),
        pytest.param([[1, 1.5], [2, 3.5]], [[2, 2.5]], True, id="by column, two rows"),
        pytest.param([[1], [1.5]], [[1.5]], False, id="both in a column, and one"),
        pytest.param([[1], [1.5]], [[2.5], [3]], True, id="both in a column"),
        pytest.param(["a"], ["bc", ""], True, id="strings"),
        pytest.param(["a"], [["a"]], False, id="strings and lists"),
        pytest.param([{"a": 1}], [{"a": 2}, {"a": 3}], True, id="objects"),
        pytest.param([{"a": 1}], [{"a": 2.5}], False, id="objects, other types"),
        pytest.param([{"a": 1}], [{"b": 1}], False, id="names"),
        pytest.param([{"a": 1, "b": 1}], [{"b": 1, "a": 1}], False, id="order of names"),
        pytest.param([{"a": 1}], [[1]], False, id="objects and lists"),
        pytest.param([{}], [[]], False, id="nothing in objects and lists"),
        pytest.param([[[1], [2]]], [[[3], [4]]], True, id="tensors"),
        pytest.param([[[1], [2]]], [[[3, 4]]], False, id="shapes"),
        pytest.param([[[1, 2]]], [[[1.5, 2]]], False, id="tensors, other types"),
        pytest.param([[[1, 2.5]]], [[[1.5, 2]]], True, id="tensors, the same types"),
        pytest.param([[1, 2]], [[[1, 2]]], False, id="depth"),
        pytest.param([[[]]], [[[[]]]], False, id="depth of nothing"),
        pytest.param([{"a": [1, 2]}], [{"a": [3, 4]}], True, id="cells"),
        pytest.param([{"a": [1, 2]}], [{"a": [3]}], False, id="cells of other lengths"),
        pytest.param([{"a": {"b": 1}}], [{"a": {"b": 2}}], True, id="objects in objects"),
        pytest.param([{"a": {"b": 1}}], [{"a": {"c": 2}}], False, id="other names below"),
        pytest.param([{"a": {"b": 1}}], [{"a": {"b": 1.5}}], False, id="other types below"),
    ],
)
def test_which_rows_are_of_one_kind(one: list[Any], other: list[Any], same: bool) -> None:
    kinds = Kinds()
    first, second = kind_of(kinds, *one), kind_of(kinds, *other)
    assert first is not None
    assert second is not None
    assert (first is second) == same


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([1, 2], id="numbers"),
        pytest.param([None], id="nothing"),
        pytest.param([[1], "a"], id="list and string"),
        pytest.param([[1], {"a": 1}], id="list and object"),
        pytest.param([[1], [1, 2]], id="ragged"),
        pytest.param([[[1], [1, 2]]], id="ragged below"),
        pytest.param([[[1], 2]], id="ragged in depth"),
        pytest.param([[[1]], [2]], id="ragged from row to row"),
        pytest.param([[{"a": 1}]], id="object in a list"),
        pytest.param([[[{"a": 1}]]], id="object in a tensor"),
        pytest.param([{"a": [[1], [1, 2]]}], id="ragged cell"),
        pytest.param([{"a": [{"b": 1}]}], id="list of objects in a cell"),
        pytest.param([{"a": 1}, {"a": 1, "b": 2}], id="another member"),
        pytest.param([{"a": 1, "b": 2}, {"b": 1, "a": 2}], id="another order"),
        pytest.param([{"updated_at": 1}], id="dates"),
        pytest.param([[2**63]], id="beyond 64 bits"),
        pytest.param([[-(2**63) - 1]], id="below 64 bits"),
        pytest.param([[1.0, -1e19]], id="perhaps an integer"),
        pytest.param([["a", 1e19]], id="perhaps an integer, in a mixture"),
        pytest.param([{"a": [["b", 1e19]]}], id="perhaps an integer, in depth"),
        pytest.param([{"a": {"b": 1e19}}], id="perhaps an integer, below"),
        pytest.param([{f"name{number}": 1 for number in range(5000)}], id="many names"),
        pytest.param([{"x" * 20_000: 1}], id="a long name"),
    ],
)
def test_which_rows_are_of_no_kind(rows: list[Any]) -> None:
    assert kind_of(Kinds(), *rows) is None


def test_objects_nest_so_deep_and_no_deeper() -> None:
    cell: Any = 1
    for _ in range(8):
        cell = {"a": cell}
    assert kind_of(Kinds(), {"a": cell}) is not None
    assert kind_of(Kinds(), {"a": {"a": cell}}) is None


def test_wide_rows_of_one_type_have_a_kind() -> None:
    assert kind_of(Kinds(), [0.5] * 100_000) is not None


def test_a_large_float_is_one_if_the_parser_keeps_integers_exact() -> None:
    assert Kinds().find([[1e19]], exact=True) is not None


@pytest.mark.parametrize(
    ("rows", "uniform"),
    [
        ([[1], [2]], True),
        ([[1, "a"], [2, "b"]], True),
        ([[1], [2.5]], False),
        ([["a", 1], ["b", None]], False),
        (["a", "b"], True),
        ([[[1, 2]], [[3, 4]]], True),
        ([[[1, 2]], [[3, 4.5]]], False),
        ([{"a": 1}, {"a": 2}], True),
        ([{"a": 1}, {"a": None}], False),
        ([{"a": [1]}, {"a": [2]}], True),
        ([{"a": [1]}, {"a": [2, 3]}], False),
    ],
    ids=repr,
)
def test_rows_are_uniform_if_each_is_of_the_kind_of_all(rows: list[Any], uniform: bool) -> None:
    kinds = Kinds()
    kind = kind_of(kinds, *rows)
    assert kind is not None
    assert kind.uniform == uniform
    assert (len({kind_of(kinds, row) for row in rows}) == 1) == uniform


@pytest.mark.parametrize(
    ("name", "dates"),
    [
        ("date", True),
        ("Datetime", True),
        ("modified", True),
        ("created_at", True),
        ("Start_Time", True),
        ("timestamp_of_birth", True),
        ("dates", False),
        ("at", False),
        ("time", False),
        ("modified_by", False),
    ],
)
def test_names_which_pandas_takes_for_dates(name: str, dates: bool) -> None:
    assert names_dates(name) == dates


def test_kinds_remembered_are_bounded() -> None:
    kinds = Kinds()
    for width in range(1000):
        kind_of(kinds, [1] * width)
    assert len(kinds._known) <= 128


def test_a_kind_describes_itself_shortly() -> None:
    assert len(repr(kind_of(Kinds(), {"x" * 1000: 1}))) < 100


COLUMN = st.sampled_from(
    [
        st.integers(-3, 3),
        st.integers(-(2**65), 2**65),
        st.floats(),
        st.booleans(),
        st.none(),
        st.text(max_size=2),
        st.integers(-3, 3) | st.floats(-3, 3),
        st.none() | st.floats(-3, 3),
        st.booleans() | st.integers(-3, 3),
        st.text(max_size=2) | st.integers(-3, 3),
        st.lists(st.integers(-3, 3) | st.floats(-3, 3), min_size=2, max_size=2),
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> list[list[list[Any]]]:
    """Requests of several rows each, which share their columns."""
    columns = draw(st.lists(COLUMN, min_size=1, max_size=3))
    row = st.tuples(*columns).map(list)
    return draw(st.lists(st.lists(row, min_size=1, max_size=3), min_size=2, max_size=6))


def read_as_sent(rows: list[Any]) -> tuple[list[Any], bool]:
    """What the gateway's parsers make of rows, and whether integers are exact."""
    text = json.dumps(rows).encode()
    try:
        return orjson.loads(text), False
    except orjson.JSONDecodeError:
        return json.loads(text), True


def has_large(rows: list[Any]) -> bool:
    flat: list[Any] = rows
    while any(isinstance(each, list) for each in flat):
        flat = list(chain.from_iterable(x if isinstance(x, list) else [x] for x in flat))
    return any(isinstance(each, int) and not -(2**63) <= each < 2**63 for each in flat)


def dtype(rows: list[Any]) -> tuple[str, tuple[int, ...]]:
    """How numpy reads rows. Strings are as wide as the longest: no value depends on that."""
    array = np.array(rows)
    return array.dtype.kind if array.dtype.kind == "U" else array.dtype.str, array.shape[1:]


KINDS = Kinds()


@given(requests())
def test_rows_of_one_kind_have_one_dtype_and_keep_it_together(sent: list[list[list[Any]]]) -> None:
    by_kind: dict[Kind, list[list[Any]]] = {}
    for rows in sent:
        values, exact = read_as_sent(rows)
        # With NaN in them they are read by a parser which refuses large integers itself.
        if not (exact and has_large(rows)) and (kind := KINDS.find(values, exact=exact)):
            by_kind.setdefault(kind, []).append(rows)
    for requests_of_kind in by_kind.values():
        merged = list(chain.from_iterable(requests_of_kind))
        assert {dtype(rows) for rows in requests_of_kind} == {dtype(merged)}
        for columns in zip(*[zip(*rows, strict=True) for rows in requests_of_kind], strict=True):
            together = list(chain.from_iterable(columns))
            assert {dtype(list(column)) for column in columns} == {dtype(together)}
        assert not has_large(merged)


@given(requests())
def test_each_row_of_a_uniform_kind_is_read_alike(sent: list[list[list[Any]]]) -> None:
    values, exact = read_as_sent(sent[0])
    kind = KINDS.find(values, exact=exact)
    assume(kind is not None and kind.uniform and not has_large(values))
    assert {dtype([row]) for row in values} == {dtype(values)}
