"""Changes are noticed whatever makes them, and never while they are being made."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.control.watching import Watcher


def write(path: Path) -> None:
    path.write_text("changed")


def replace(path: Path) -> None:
    fresh = path.with_name("fresh")
    fresh.write_text("old text")
    os.utime(fresh, ns=(path.stat().st_mtime_ns, path.stat().st_mtime_ns))
    fresh.rename(path)


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [write, replace, touch, remove])
def test_a_change_is_noticed_when_it_has_settled(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("old text")
    watcher = Watcher()
    watcher.watch([file, other])
    assert not watcher.has_changed()
    change(file)
    assert not watcher.has_changed()  # perhaps it is being written
    assert watcher.has_changed()
    assert watcher.has_changed()
    watcher.look()
    assert not watcher.has_changed()


def test_a_file_that_goes_on_changing_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "file"
    watcher = Watcher()
    watcher.watch([file])
    for size in range(1, 4):
        file.write_text("x" * size)
        assert not watcher.has_changed()
    assert watcher.has_changed()


def test_a_file_that_changes_and_changes_back_has_not_changed(tmp_path: Path) -> None:
    watcher = Watcher()
    watcher.watch([tmp_path / "file"])
    (tmp_path / "file").touch()
    assert not watcher.has_changed()
    (tmp_path / "file").unlink()
    assert not watcher.has_changed()
    assert not watcher.has_changed()


def test_what_changes_between_the_look_and_the_end_of_reading_is_noticed(tmp_path: Path) -> None:
    file, fresh = tmp_path / "file", tmp_path / "fresh"
    watcher = Watcher()
    watcher.watch([file])
    watcher.look()
    file.write_text("written while it was read")
    fresh.touch()
    watcher.watch([file, fresh])
    assert not watcher.has_changed()
    assert watcher.has_changed()
    assert repr(watcher) == "<Watcher of 2 files>"


def test_a_link_that_is_set_elsewhere_is_a_change(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    link = tmp_path / "data"
    link.symlink_to("one")
    watcher = Watcher()
    watcher.watch([link / "file"])
    link.unlink()
    link.symlink_to("two")
    assert not watcher.has_changed()
    assert watcher.has_changed()
