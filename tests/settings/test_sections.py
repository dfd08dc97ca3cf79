"""Sections accept what they name, written as they say, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.settings.sections import Section, SomeSize, SomeTime, Texts


class Example(Section):
    number: int = 1


@pytest.mark.parametrize(
    "given", [{"number": "1"}, {"number": 1.0}, {"nmber": 1}, {"number": True}]
)
def test_values_are_not_guessed_at(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Example.model_validate(given)


def test_a_section_does_not_change() -> None:
    section = Example()
    with pytest.raises(ValidationError):
        section.number = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (SomeTime, "5ms", 0.005),
        (SomeSize, "2KiB", 2048),
        (Texts, "a", ["a"]),
        (Texts, ["a"], ["a"]),
    ],
)
def test_values_are_read(kind: Any, given: Any, expected: Any) -> None:
    assert TypeAdapter(kind).validate_python(given) == expected


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (SomeTime, "0ms", "must be more than 0"),
        (SomeSize, "0B", "must be more than 0"),
        (SomeTime, 5, "expected a duration"),
        (Texts, 5, "expected a text or a list of texts"),
        (Texts, [], "at least 1 item"),
    ],
)
def test_what_can_never_work_is_refused(kind: Any, given: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(kind).validate_python(given)
