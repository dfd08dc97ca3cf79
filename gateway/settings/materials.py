"""What a configuration takes from outside: files and environment variables.

They are read once, where a configuration is judged, and travel with it from there. So every process
that runs it has exactly what was judged, whatever has become of the files since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Materials:
    """Contents of files and values of variables, as they were when they were read."""

    files: dict[Path, bytes] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Materials, {len(self.files)} files, {len(self.environment)} variables>"

    def read_bytes(self, path: Path) -> bytes:
        """The content that ``path`` had.

        :raises FileNotFoundError: it was not read when the configuration was judged.
        """
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(2, "was not there when the configuration was read") from None


class Gatherer:
    """Reads the disk and the environment, and remembers what it has read."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.materials = Materials()
        #: Files that were asked for, those that could not be read among them.
        self.sought: set[Path] = set()
        self.environment: Mapping[str, str] = _Noting(environment, self.materials.environment)

    def __repr__(self) -> str:
        return f"<Gatherer of {self.materials}>"

    def read_bytes(self, path: Path) -> bytes:
        """The content of a file.

        :raises OSError: it cannot be read.
        :raises ValueError: no file can have this name.
        """
        self.sought.add(path)
        content = path.read_bytes()
        self.materials.files[path] = content
        return content


class _Noting(Mapping[str, str]):
    """An environment that notes what is looked at."""

    def __init__(self, environment: Mapping[str, str], seen: dict[str, str]) -> None:
        self._environment = environment
        self._seen = seen

    def __getitem__(self, name: str) -> str:
        value = self._seen[name] = self._environment[name]
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._environment)

    def __len__(self) -> int:
        return len(self._environment)
