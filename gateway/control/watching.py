"""Notices that files have changed, whatever changed them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

# What tells one version of a file from another.
_Identity = tuple[int, int, int, int] | None


class Watcher:
    """Looks at files from time to time.

    Names are looked up anew each time, so it does not matter whether a file is written to, replaced
    by another, or reached through a link that is set elsewhere, as Kubernetes does.
    """

    def __init__(self) -> None:
        self._seen: dict[Path, _Identity] = {}
        self._changed: dict[Path, _Identity] | None = None

    def __repr__(self) -> str:
        return f"<Watcher of {len(self._seen)} files>"

    def look(self) -> None:
        """What is watched is about to be read: as it is now is how it should be."""
        self._seen = _look(self._seen)
        self._changed = None

    def watch(self, files: Iterable[Path]) -> None:
        """From now on, look at these. Those that were watched before are compared with how they
        were at the last look: they may have changed since they were read."""
        self._seen = {path: self._seen.get(path, _identify(path)) for path in files}
        self._changed = None

    def has_changed(self) -> bool:
        """Whether something has changed and has then been left alone from one look to the next:
        a file that is being written is not read half. It goes on saying so until ``look``."""
        now = _look(self._seen)
        if now == self._seen:
            self._changed = None
            return False
        if now != self._changed:
            self._changed = now
            return False
        return True


def _look(files: Iterable[Path]) -> dict[Path, _Identity]:
    return {path: _identify(path) for path in files}


def _identify(path: Path) -> _Identity:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
