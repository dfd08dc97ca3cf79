"""Notes are taken of what the file says, and not of what stands in for something else."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.settings import notes as module
from gateway.settings.loading import Source
from gateway.settings.mistakes import Mistake
from gateway.settings.notes import Notes
from gateway.settings.secrets import SecretSource

WEAK = "a key needs at least 16 printable ASCII characters without spaces"


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(Source("f", tmp_path, replaced={("a", "b")}), {"KEY": "k" * 16, "WEAK": "k"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def test_nothing_is_said_at_or_below_a_stand_in(notes: Notes) -> None:
    for path in [("a", "b"), ("a", "b", 0), ("a",), ("a", "c"), ("ab",)]:
        notes.note(path, "wrong")
    assert [mistake.path for mistake in notes.mistakes] == [("a",), ("a", "c"), ("ab",)]


def test_a_part_with_a_stand_in_is_not_whole(notes: Notes) -> None:
    whole = [notes.source.is_whole(path) for path in [(), ("a",), ("a", "b", 0), ("a", "c")]]
    assert whole == [False, False, False, True]


def test_what_cannot_be_built_is_noted(notes: Notes) -> None:
    assert notes.attempt(("c",), lambda: int("5")) == 5
    assert notes.attempt(("c",), lambda: int("x")) is None
    (mistake,) = notes.mistakes
    assert mistake.path == ("c",)


@pytest.mark.parametrize(
    ("variable", "text", "messages"),
    [
        ("KEY", "k" * 16, []),
        ("WEAK", "k", [WEAK]),
        ("NONE", None, ["the environment variable NONE is not set"]),
    ],
)
def test_a_credential_is_read_and_weighed(
    notes: Notes, variable: str, text: str | None, messages: list[str]
) -> None:
    assert notes.read_credential(("c",), SecretSource(env=variable), "key") == text
    assert notes.mistakes == [Mistake(("c",), message) for message in messages]


def test_a_file_is_read_or_noted(notes: Notes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert notes.read_file(("c",), "file") == b"content"
    assert notes.read_file(("c",), "none") is None
    assert notes.read_file(("c",), "a\0b") is None
    assert [mistake.message for mistake in notes.mistakes] == [
        f"cannot read {tmp_path}/none: No such file or directory",
        r"'a\x00b' is not the path of a file",
    ]


@pytest.mark.parametrize("name", ["new", "file", "folder/new", "dangling", "/dev/null", "./new/"])
def test_a_log_need_not_exist(notes: Notes, folder: Path, name: str) -> None:
    notes.check_log(("c",), name)
    assert notes.mistakes == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\0b", r"'a\x00b' is not the path of a file"),
        ("", "{folder} is a directory"),
        ("folder", "{folder}/folder is a directory"),
        ("/tmp", "/tmp is a directory"),
        ("none/log", "there is no directory {folder}/none"),
        ("none/none/log", "there is no directory {folder}/none/none"),
        ("file/log", "there is no directory {folder}/file"),
        ("file/none/log", "there is no directory {folder}/file/none"),
        ("loop", "cannot write {folder}/loop: Too many levels of symbolic links"),
        ("x" * 300, f"cannot write {{folder}}/{'x' * 300}: File name too long"),
    ],
    ids=lambda text: text[:20],
)
def test_a_log_needs_a_directory_and_is_none(
    notes: Notes, folder: Path, name: str, message: str
) -> None:
    notes.check_log(("c",), name)
    assert notes.mistakes == [Mistake(("c",), message.format(folder=folder))]


def test_what_may_not_be_looked_at_is_not_judged(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(module, "os", SimpleNamespace(stat=refuse))
    notes.check_log(("c",), "none/log")
    assert notes.mistakes == []
