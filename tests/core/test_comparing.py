"""Answers differ where a client could tell, and nowhere else."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.comparing import Difference, compare


@pytest.mark.parametrize(
    ("alone", "merged", "difference"),
    [
        pytest.param(b"[1]", b"[1]", None, id="the same"),
        pytest.param(b"\xff", b"\xff", None, id="the same, whatever it is"),
        pytest.param(b"[1]", b"[2]", ("$[0]", "1", "2"), id="number"),
        pytest.param(b"[0, [1.5, 2.5]]", b"[0, [1.5, 2.0]]", ("$[1][1]", "2.5", "2.0"), id="row"),
        pytest.param(b"[1]", b"[1.0]", ("$[0]", "1", "1.0"), id="another type"),
        pytest.param(b"[1]", b"[true]", ("$[0]", "1", "true"), id="true is no number"),
        pytest.param(b"[1]", b"[[1]]", ("$[0]", "1", "list of 1"), id="another depth"),
        pytest.param(b"[]", b"{}", ("$", "list of 0", "object of 0"), id="another bracket"),
        pytest.param(b"[1]", b"[1, 2]", ("$", "list of 1", "list of 2"), id="more"),
        pytest.param(b"[1, 2]", b"[2]", ("$[0]", "1", "2"), id="the first of several"),
        pytest.param(b'{"a": 1}', b'{"a": 2}', ("$.a", "1", "2"), id="member"),
        pytest.param(b'{"a b": 1}', b'{"a b": 2}', ('$["a b"]', "1", "2"), id="strange name"),
        pytest.param(
            b'{"a": 1, "b": 1}',
            b'{"b": 1, "a": 1}',
            ("$", 'members ["a", "b"]', 'members ["b", "a"]'),
            id="order",
        ),
        pytest.param(
            b'{"a": 1, "a": 1}',
            b'{"a": 1}',
            ("$", 'members ["a", "a"]', 'members ["a"]'),
            id="twice",
        ),
        pytest.param(b'{"a": 1, "a": 3}', b'{"a": 2, "a": 3}', ("$.a", "1", "2"), id="hidden"),
        pytest.param(b'["a"]', b'["b"]', ("$[0]", '"a"', '"b"'), id="string"),
        pytest.param(b'"[1, 2]"', b'"[1, 3]"', ("$(...)[1]", "2", "3"), id="JSON in a string"),
        pytest.param(b'"[1]"', b'"[ 1]"', ("$", '"[1]"', '"[ 1]"'), id="space in a string"),
        pytest.param(b'"[1]"', b'"[x"', ("$", '"[1]"', '"[x"'), id="no JSON in a string"),
        pytest.param(b"[1.0]", b"[1.00]", ("byte 4", "]", "0]"), id="spelling"),
        pytest.param(b"[1,2]", b"[1, 2]", ("byte 3", "2]", " 2]"), id="white space"),
        pytest.param(b"[1]", b"[1]\n", ("byte 3", "(the end)", "\n"), id="newline at the end"),
        pytest.param(b"no", b"not", ("byte 2", "(the end)", "t"), id="no JSON"),
        pytest.param(b"[1]", b"[1", ("byte 2", "]", "(the end)"), id="one is no JSON"),
        pytest.param(b"\xfe", b"\xff", ("byte 0", "\ufffd", "\ufffd"), id="no text"),
        pytest.param(
            b"[" * 9000, b"[" * 9001, ("byte 9000", "(the end)", "["), id="too deep to parse"
        ),
        pytest.param(b"[NaN]", b"[1.0]", ("$[0]", "NaN", "1.0"), id="NaN"),
        pytest.param(b'["\\ud800"]', b'["a"]', ("$[0]", '"\\ud800"', '"a"'), id="half a pair"),
    ],
)
def test_without_tolerance_every_byte_counts(
    alone: bytes, merged: bytes, difference: tuple[str, str, str] | None
) -> None:
    assert compare(alone, merged) == difference


@pytest.mark.parametrize(
    ("alone", "merged", "where"),
    [
        pytest.param(b"[1.0]", b"[1.0000001]", None, id="within"),
        pytest.param(b"[-1e300]", b"[-1.0000001e300]", None, id="relatively"),
        pytest.param(b"[1.0]", b"[1.00001]", "$[0]", id="beyond"),
        pytest.param(b"[0.0]", b"[1e-10]", None, id="near zero"),
        pytest.param(b"[0.0]", b"[-0.0]", None, id="zero"),
        pytest.param(b"[0.0]", b"[1e-8]", "$[0]", id="not so near zero"),
        pytest.param(b"[1.0]", b"[-1.0]", "$[0]", id="sign"),
        pytest.param(b"[NaN, 1.0]", b"[NaN, 1.0000001]", None, id="NaN"),
        pytest.param(b"[NaN]", b"[0.0]", "$[0]", id="NaN and zero"),
        pytest.param(b"[Infinity]", b"[ Infinity]", None, id="infinity"),
        pytest.param(b"[Infinity]", b"[-Infinity]", "$[0]", id="the other infinity"),
        pytest.param(b"[Infinity]", b"[1e308]", "$[0]", id="infinity and much"),
        pytest.param(b"[1e308]", b"[-1e308]", "$[0]", id="infinitely apart"),
        pytest.param(b"[10000000]", b"[10000001]", "$[0]", id="integers"),
        pytest.param(b"[1]", b"[1.0]", "$[0]", id="integer and float"),
        pytest.param(b"[1, 2]", b"[1,2]", None, id="white space"),
        pytest.param(b'{"a": [1.0]}', b'{"a": [1.0000001]}', None, id="inside"),
        pytest.param(b'{"a": 1.0}', b'{"b": 1.0}', "$", id="name"),
        pytest.param(b"[1.0, 1.0]", b"[1.0]", "$", id="length"),
        pytest.param(b'"[1.0]"', b'"[1.0000001]"', None, id="in a string"),
        pytest.param(
            b'["{\\"a\\": 1.0}"]', b'["{\\"a\\": 1.1}"]', "$[0](...).a", id="member there"
        ),
        pytest.param(b'"1.0"', b'"1.0000001"', "$", id="a number in a string is text"),
        pytest.param(b'"[1.0"', b'"[1.0000001"', "$", id="no JSON in a string"),
        pytest.param(b"1.0 x", b"1.0000001 x", "byte 3", id="no JSON"),
        pytest.param(
            json.dumps("[" * 9000).encode(), json.dumps("[" * 9001).encode(), "byte 9001", id="deep"
        ),
    ],
)
def test_a_tolerance_is_for_floats_only(alone: bytes, merged: bytes, where: str | None) -> None:
    for one, other in ((alone, merged), (merged, alone)):
        difference = compare(one, other, 1e-6)
        assert (difference and difference.where) == where


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(["x" * 1000]),
        json.dumps([int("1" * 1000)]),
        json.dumps([{"x" * 1000: 1}]),
        "x" * 1000,
    ],
    ids=["string", "number", "name", "bytes"],
)
def test_texts_are_shortened(text: str) -> None:
    difference = compare(text.encode(), b"[1]")
    other = compare(text.encode(), text.replace("1", "2").replace("x", "y").encode())
    assert difference is not None
    assert other is not None
    assert max(map(len, (*difference, *other))) <= 100


def test_the_place_in_a_long_answer_is_found() -> None:
    text = b"x" * 1_000_000
    for place in (0, 1, 499_999, 500_000, 999_999):
        changed = text[:place] + b"y" + text[place + 1 :]
        difference = compare(text, changed)
        assert difference is not None
        assert difference.where == f"byte {place}"
        assert difference.merged.startswith("y")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(VALUES, VALUES)
def test_what_is_written_differently_is_different(one: Any, other: Any) -> None:
    alone, merged = json.dumps(one).encode(), json.dumps(other).encode()
    assert (compare(alone, merged) is None) == (alone == merged)
    assert isinstance(compare(alone, merged), Difference | None)


@given(VALUES, st.floats(1e-12, 0.1))
def test_whoever_is_equal_is_equal_with_any_tolerance_and_style(one: Any, tolerance: float) -> None:
    alone = json.dumps(one).encode()
    assert compare(alone, alone, tolerance) is None
    assert compare(alone, json.dumps(one, separators=(",", ":")).encode(), tolerance) is None


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5),
    st.data(),
    st.floats(1e-9, 0.01),
)
def test_floats_are_apart_beyond_the_tolerance(
    numbers: list[float], data: st.DataObject, tolerance: float
) -> None:
    place = data.draw(st.integers(0, len(numbers) - 1))

    def compared(number: float) -> Difference | None:
        changed = [*numbers[:place], number, *numbers[place + 1 :]]
        return compare(json.dumps(numbers).encode(), json.dumps(changed).encode(), tolerance)

    beyond = abs(numbers[place]) * (1 + tolerance * 4) + tolerance
    within = numbers[place] * (1 + tolerance / 2)
    if math.isfinite(beyond):
        difference = compared(math.copysign(beyond, numbers[place]))
        assert difference is not None
        assert difference.where == f"$[{place}]"
    if math.isfinite(within):
        assert compared(within) is None
