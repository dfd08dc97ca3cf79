"""What was judged is what runs: materials are what was read then, and nothing else."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from gateway.settings.materials import Gatherer, Materials
from gateway.settings.secrets import SecretSource, UnreadableSecret


def test_what_was_read_is_remembered_and_can_be_read_again(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("first")
    gatherer = Gatherer({"NAME": "value", "OTHER": "unseen"})
    assert gatherer.read_bytes(file) == b"first"
    assert gatherer.environment.get("NAME") == "value"
    assert gatherer.environment.get("MISSING") is None
    file.write_text("second")
    copy = pickle.loads(pickle.dumps(gatherer.materials))
    assert copy == Materials({file: b"first"}, {"NAME": "value"})
    assert copy.read_bytes(file) == b"first"
    assert "first" not in repr(copy)


def test_what_was_not_read_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("there by now")
    with pytest.raises(FileNotFoundError, match="was not there when the configuration was read"):
        Materials().read_bytes(tmp_path / "key")


def test_files_that_could_not_be_read_are_known_too(tmp_path: Path) -> None:
    gatherer = Gatherer({})
    with pytest.raises(FileNotFoundError):
        gatherer.read_bytes(tmp_path / "missing")
    assert gatherer.sought == {tmp_path / "missing"}
    assert gatherer.materials.files == {}


def test_the_environment_is_passed_on_as_it_is() -> None:
    gatherer = Gatherer({"A": "1", "B": "2"})
    assert (list(gatherer.environment), len(gatherer.environment)) == (["A", "B"], 2)
    assert gatherer.materials.environment == {}


def test_secrets_come_from_the_materials(tmp_path: Path) -> None:
    materials = Materials({tmp_path / "key": b" from the file\n"}, {"KEY": "from the variable"})
    tools = (tmp_path, materials.environment, materials.read_bytes)
    assert SecretSource(file="key").read(*tools) == "from the file"
    assert SecretSource(env="KEY").read(*tools) == "from the variable"
    with pytest.raises(UnreadableSecret, match="was not there"):
        SecretSource(file="other").read(*tools)
    with pytest.raises(UnreadableSecret, match="is not set"):
        SecretSource(env="HOME").read(*tools)
