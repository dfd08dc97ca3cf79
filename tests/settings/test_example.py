"""config/gateway.yaml has every setting, and says of each value whether it is the default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.loading import Source, read_source, validate
from gateway.settings.mistakes import Keys
from gateway.settings.schema import Settings, json_schema
from gateway.settings.sections import Section
from tests.support.checking import check, good

PATH = Path(__file__).resolve().parents[2] / "config" / "gateway.yaml"
LINES = PATH.read_text().splitlines()
KEYS = {
    "DIABETES_PRIMARY_KEY": "first-key-of-the-tests-0123456789",
    "DIABETES_SECONDARY_KEY": "other-key-of-the-tests-9876543210",
}


@pytest.fixture(scope="module")
def source() -> Source:
    return read_source(PATH)


@pytest.fixture(scope="module")
def settings(source: Source) -> Settings:
    found, mistakes = validate(source)
    assert mistakes == []
    assert found is not None
    return found


def test_it_can_be_served_with_its_keys(tmp_path: Path) -> None:
    assert check(tmp_path, PATH.read_text(), KEYS) == good(1, 3)


def test_every_key_of_the_schema_is_in_it() -> None:
    schema = json_schema()
    sections = [schema, *schema["$defs"].values()]
    sections += [branch for section in sections for branch in section.get("anyOf", ())]
    keys = {key for section in sections for key in section.get("properties", ())}
    assert len(keys) > 50
    words = " ".join(LINES).replace("{", " ").split()
    assert sorted(key for key in keys if f"{key}:" not in words) == []


def _is_default(section: Section, name: str) -> bool:
    field = type(section).model_fields[name]
    if field.is_required():
        return False
    return bool(getattr(section, name) == field.get_default(call_default_factory=True))


def _not_default(value: Any, path: Keys, default: bool) -> Iterator[Keys]:
    """Paths of the values that are not defaults, and of the keys that are names. Where a secret
    comes from is one value."""
    if isinstance(value, Section):
        for name in value.model_fields_set - {"open"}:
            yield from _not_default(getattr(value, name), (*path, name), _is_default(value, name))
    elif isinstance(value, Mapping) and any(isinstance(v, Section) for v in value.values()):
        for name, inner in value.items():
            yield (*path, name)
            yield from _not_default(inner, (*path, name), False)
    elif not default:
        yield path


def test_what_is_not_a_default_is_called_an_example(source: Source, settings: Settings) -> None:
    found = list(_not_default(settings, (), False))
    assert ("listen", "address") in found
    assert ("endpoints", "diabetes", "auth", "keys", "primary") in found
    assert len(found) >= 12
    lines = {path: LINES[(source.line(path) or 0) - 1] for path in found}
    assert [path for path, line in lines.items() if "# example" not in line] == []


def test_what_is_called_an_example_is_not_a_default(source: Source, settings: Settings) -> None:
    lines = {source.line(path) for path in _not_default(settings, (), False)}
    marked = {
        number
        for number, line in enumerate(LINES, 1)
        if "# example" in line and not line.lstrip().startswith("#")
    }
    assert marked <= lines
