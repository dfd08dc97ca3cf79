"""Everything that is counted is read, and nothing changes unseen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from gateway.core.blocks import GAUGES, Key
from gateway.core.readings import present, sources
from gateway.core.statistics import Histogram, Statistics
from tests.support.counted import made_up


def read(statistics: Statistics) -> dict[Key, list[int]]:
    found: dict[Key, list[int]] = {}
    for make in (sources, present):
        for source, labels, (_, blocks) in make(statistics):
            for key, values in blocks(source, labels):
                assert key not in found, "no name stands for two things"
                found[key] = list(values)
    return found


def test_kinds_of_gauges_are_kinds() -> None:
    assert {key[0] for key in read(made_up())} >= GAUGES


def test_what_is_not_there_is_not_read() -> None:
    found = read(made_up())
    assert ("shadow", "first", "blue") in found
    assert ("shadow", "first", "green") not in found
    assert ("batch", "first", "green") in found
    assert ("batch", "first", "red") not in found
    assert ("fetches", "first") in found
    assert ("fetches", "second") not in found


def test_only_deployments_have_an_upstream_time() -> None:
    found = read(made_up())
    assert len(found["deployment", "first", "blue"]) == 2 * len(found["endpoint", "first", ""])


def ways_to_count(thing: Any) -> dict[str, Callable[[], object]]:
    """For every number in an object, by its name: what adds one to it."""
    found: dict[str, Callable[[], object]] = {}
    if isinstance(thing, dict):
        for key in thing:
            found[str(key)] = partial(lambda key: thing.update({key: thing[key] + 1}), key)
        return found
    for name in getattr(type(thing), "__slots__", None) or vars(thing):
        value = None if name.startswith("_") else getattr(thing, name)
        if isinstance(value, int):
            found[name] = partial(lambda name: setattr(thing, name, getattr(thing, name) + 1), name)
        elif isinstance(value, Histogram):
            found[name] = partial(value.observe, 0.0)
        elif isinstance(value, dict):
            found |= ways_to_count(value)
    return found


NAMES = sorted({type(source).__name__ for source, _, _ in sources(made_up())})


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_counted_changes_the_mark_and_a_block(name: str) -> None:
    seen = 0
    for source, labels, (mark_of, blocks) in sources(made_up()):
        if type(source).__name__ != name:
            continue
        # Where no deployment was found, there is no time at one, and where no endpoint was, none is
        # in flight.
        without: set[Key] = {("", "", "in_flight")}
        if labels[1:] == ("",):
            without.add((*labels, "upstream"))
        for what, count in ways_to_count(source).items():
            if (*labels, what) in without:
                continue
            mark = mark_of(source)
            before = [(key, list(values)) for key, values in blocks(source, labels)]
            assert mark_of(source) == mark
            count()
            assert mark_of(source) != mark, what
            assert [(key, list(values)) for key, values in blocks(source, labels)] != before, what
            seen += 1
    assert seen


def test_a_backend_in_the_place_of_another_changes_the_mark() -> None:
    statistics = made_up()
    blue = statistics.endpoints[0].deployments["blue"]
    ((_, _, (mark_of, _)),) = [each for each in present(statistics) if each[0] is blue]
    before = mark_of(blue)
    assert mark_of(blue) == before
    blue.backends["10.0.0.2:80"] = blue.backends.pop("10.0.0.1:80")
    moved = mark_of(blue)
    assert moved != before
    blue.batching = None
    assert mark_of(blue) != moved
