"""Mistakes that show after the shape of a configuration has been found good."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gateway.settings.loading import Source
from gateway.settings.mistakes import Keys, Mistake
from gateway.settings.secrets import MIN_KEY, SecretSource, UnreadableSecret

T = TypeVar("T")


@dataclass(slots=True)
class Notes:
    """Collects mistakes. Nothing is said about values that only stand in for wrong ones."""

    source: Source
    environment: Mapping[str, str]
    #: The content of a file; see materials.py.
    read_bytes: Callable[[Path], bytes] = Path.read_bytes
    mistakes: list[Mistake] = field(default_factory=list)
    #: What can be served and should not be.
    warnings: list[Mistake] = field(default_factory=list)

    def note(self, path: Keys, message: object) -> None:
        if not self.source.is_replaced(path):
            self.mistakes.append(Mistake(path, str(message)))

    def warn(self, path: Keys, message: str) -> None:
        if not self.source.is_replaced(path):
            self.warnings.append(Mistake(path, f"warning: {message}"))

    def attempt(self, path: Keys, build: Callable[[], T]) -> T | None:
        """What ``build`` makes; None if it raises ValueError, which is noted."""
        try:
            return build()
        except ValueError as why:
            self.note(path, why)
            return None

    def read_secret(self, path: Keys, where: SecretSource) -> str | None:
        if not self.source.is_whole(path):
            return None
        try:
            return where.read(self.source.base, self.environment, self.read_bytes)
        except UnreadableSecret as why:
            self.note(path, why)
            return None

    def read_credential(self, path: Keys, where: SecretSource, what: str) -> str | None:
        """A secret that clients send in a header: ``what`` is ``key`` or ``token``."""
        text = self.read_secret(path, where)
        if text is None:
            return None
        if len(text) < MIN_KEY or not text.isascii() or not text.isprintable() or " " in text:
            self.note(
                path,
                f"a {what} needs at least {MIN_KEY} printable ASCII characters without spaces",
            )
        return text

    def read_file(self, path: Keys, name: str) -> bytes | None:
        file = Path(self.source.base, name)
        try:
            return self.read_bytes(file)
        except OSError as error:
            self.note(path, f"cannot read {file}: {error.strerror}")
        except ValueError:
            self.note(path, f"{name!r} is not the path of a file")
        return None

    def check_log(self, path: Keys, name: str) -> None:
        """Note a name under which no file can be appended to or created.

        Permissions are not judged: who checks a file is often not who serves it.
        """
        file = Path(self.source.base, name)
        try:
            if stat.S_ISDIR(_mode(file) or 0):
                self.note(path, f"{file} is a directory")
            elif not stat.S_ISDIR(_mode(file.parent) or 0):
                self.note(path, f"there is no directory {file.parent}")
        except PermissionError:
            return
        except OSError as error:
            self.note(path, f"cannot write {file}: {error.strerror}")
        except ValueError:
            self.note(path, f"{name!r} is not the path of a file")


def _mode(path: Path) -> int | None:
    """What is at ``path``; None if nothing is."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
