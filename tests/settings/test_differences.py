"""What another configuration would change: in words, without a secret, without a word too many."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.differences import Difference, differences

Data = dict[str, Any]


def told(old: Any, new: Any) -> list[str]:
    return [difference.render() for difference in differences(old, new)]


NEEDS = "takes a restart unless the running gateway has {} in its environment"
LONG = "x" * 200

# Before, after, and what is said.
TABLE: list[tuple[Any, Any, list[str]]] = [
    ({}, {}, []),
    ({"a": 1}, {"a": 1}, []),
    ({"a": {"b": 90}}, {"a": {"b": 80}}, ["a.b: 90 -> 80"]),
    ({"a": "75s"}, {"a": "1m"}, ["a: 75s -> 1m"]),
    ({"a": True, "b": None}, {"a": False, "b": 1}, ["a: true -> false", "b: nothing -> 1"]),
    ({}, {"a": 20}, ["a: added, 20"]),
    ({"a": "text"}, {}, ["a: removed, text"]),
    ({}, {"blue": {"backends": ["http://h"], "queue": {}}}, ["blue: added"]),
    ({}, {"traffic": {"blue": 90, "green": 10}}, ["traffic: added, blue: 90, green: 10"]),
    ({"a": {"b": {}}}, {}, ["a: removed"]),
    ({"auth": "none"}, {"auth": {"keys": {}, "tokens": {}}}, ["auth: none -> keys, tokens"]),
    ({"a": ["x", "y"]}, {"a": ["y", "z"]}, ["a: added z", "a: removed x"]),
    ({"a": ["x", "y"]}, {"a": ["y", "x"]}, ["a: another order: y, x"]),
    ({"a": []}, {"a": ["x"]}, ["a: added x"]),
    ({"a": "all"}, {"a": ["x", "y"]}, ["a: all -> x, y"]),
    ({"a": ["x"]}, {"a": "all"}, ["a: x -> all"]),
    ({"a": []}, {"a": "all"}, ["a: nothing -> all"]),
    ({"z": 1, "a": 1}, {"b": 2, "a": 2}, ["b: added, 2", "a: 1 -> 2", "z: removed, 1"]),
    ({"a": LONG}, {"a": "y"}, [f"a: {'x' * 97}... -> y"]),
    ({"a": "x\ny"}, {"a": "x"}, ["a: x\\ny -> x"]),
    # Where secrets come from is not shown, though that is none.
    ({"primary": {"file": "a"}}, {"primary": {"file": "b"}}, ["primary: changed"]),
    ({}, {"token": {"file": "a"}}, ["token: added"]),
    ({"secret": {"env": "A"}}, {}, ["secret: removed"]),
    (
        {"primary": {"file": "a"}},
        {"primary": {"env": "B"}},
        [f"primary: changed ({NEEDS.format('B')})"],
    ),
    # A deployment may have such a name.
    ({"primary": {"env": 1, "x": 2}}, {"primary": {"env": 2, "x": 2}}, ["primary.env: 1 -> 2"]),
    ({"token": {"x": 1}}, {"token": {"x": 2}}, ["token.x: 1 -> 2"]),
    # The environment of a process that runs cannot be changed.
    (
        {},
        {"e": {"auth": {"keys": {"primary": {"env": "B"}, "secondary": {"env": "A"}}}}},
        [f"e: added ({NEEDS.format('A and B')})"],
    ),
    (
        {"auth": "none"},
        {"auth": {k: {"env": k.upper()} for k in ("primary", "secret", "token")}},
        [f"auth: none -> primary, secret, token ({NEEDS.format('PRIMARY, SECRET and TOKEN')})"],
    ),
]


@pytest.mark.parametrize(("old", "new", "said"), TABLE)
def test_every_kind_of_change_is_said_in_its_words(old: Data, new: Data, said: list[str]) -> None:
    assert told(old, new) == said


def test_a_difference_knows_its_place() -> None:
    (found,) = differences({"a": {"b": [1]}}, {"a": {"b": 2}})
    assert found == Difference(("a", "b"), "1 -> 2")


TEXTS = st.text("xyé\n\u2028", max_size=5)
scalars = st.none() | st.booleans() | st.integers() | TEXTS
names = st.sampled_from(["a", "b", "primary", "token", "c\n"])
sources = st.builds(lambda kind, name: {kind: name}, st.sampled_from(["env", "file"]), TEXTS)
documents = st.recursive(
    scalars | st.lists(scalars, max_size=3) | sources,
    lambda inner: st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
mappings = st.dictionaries(names, documents, max_size=4)


@given(mappings)
def test_nothing_is_said_where_nothing_has_changed(data: Data) -> None:
    assert told(data, deepcopy(data)) == []


@given(mappings, mappings)
def test_whatever_has_changed_something_is_said_on_a_line_each(old: Data, new: Data) -> None:
    lines = told(old, new)
    assert bool(lines) == (old != new)
    assert all("\n" not in line and line.isprintable() for line in lines)


@given(mappings, mappings)
def test_there_and_back_are_as_many_changes(old: Data, new: Data) -> None:
    """Each of what is added in one direction is removed in the other."""
    there = list(differences(old, new))
    back = list(differences(new, old))
    assert sorted(map(str, (each.path for each in there))) == sorted(
        map(str, (each.path for each in back))
    )
