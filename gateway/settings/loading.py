"""From a file to validated records, with every mistake in one report.

A report names the line, the path of keys, what was found and what is accepted. One mistake does not
hide another: something of the right shape stands in for what is wrong, and the rest is judged with
it. Nor does it make up another: nothing is said about what stands in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.settings import outline
from gateway.settings.documents import Document, NotYaml
from gateway.settings.mistakes import Keys, Mistake, explain
from gateway.settings.schema import Settings


@dataclass(slots=True)
class Source:
    """A configuration text: its data, and on which line each value stands."""

    name: str
    base: Path
    data: Any = None
    lines: dict[Keys, int] = field(default_factory=dict)
    #: Where something stands in for what was wrong or missing.
    replaced: set[Keys] = field(default_factory=set)

    def line(self, path: Keys) -> int | None:
        """Line of the value at ``path``, or of the nearest one above it that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def without_text(self) -> Source:
        """This, as far as it is needed where no mistake is expected: another process."""
        return Source(self.name, self.base)

    def is_replaced(self, path: Keys) -> bool:
        """Whether the value at ``path`` is not what the file says."""
        return any(path[:length] in self.replaced for length in range(len(path) + 1))

    def is_whole(self, path: Keys) -> bool:
        """Whether the value at ``path`` is what the file says, and all that is in it, too."""
        within = any(other[: len(path)] == path for other in self.replaced)
        return not within and not self.is_replaced(path)


class BadConfiguration(Exception):
    """The configuration has mistakes; ``lines`` is the report."""

    #: Files that it was read from, whoever knows them.
    sought: frozenset[Path] = frozenset()

    def __init__(self, source: Source, mistakes: list[Mistake]) -> None:
        self.lines = report(source, mistakes)
        super().__init__("\n".join(self.lines))


def report(source: Source, mistakes: list[Mistake]) -> list[str]:
    """One line for each, in the order of the file."""
    lines: list[str] = []
    for mistake in sorted(mistakes, key=lambda m: source.line(m.path) or 0):
        line = source.line(mistake.path)
        lines.append(mistake.render(f"{source.name}:{line}" if line else source.name))
    return list(dict.fromkeys(lines))


def read_source(path: Path) -> Source:
    """Read a YAML file.

    :raises BadConfiguration: it cannot be read, or is not YAML.
    """
    source = Source(str(path), path.parent)
    try:
        text = path.read_text(encoding="utf-8")
        source.base = path.resolve().parent
    except OSError as error:
        raise BadConfiguration(source, [Mistake((), f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise BadConfiguration(source, [Mistake((), "is not UTF-8 text")]) from None
    return parse_source(text, source)


def parse_source(text: str, source: Source) -> Source:
    """Parse YAML into ``source``. Repeated keys are a mistake, not a choice of the last one.

    :raises BadConfiguration: not YAML, or repeated keys.
    """
    try:
        document = Document(text)
    except NotYaml as why:
        if why.line is not None:
            source.lines[()] = why.line
        raise BadConfiguration(source, [Mistake((), f"is not YAML: {why.problem}")]) from None
    source.lines = document.lines
    if document.repeated:
        raise BadConfiguration(source, document.repeated)
    source.data = document.data
    return source


def validate(source: Source) -> tuple[Settings | None, list[Mistake]]:
    """Validate the shape of ``source``, and note in it what had to be replaced.

    :returns: the settings and the mistakes. With mistakes, the settings are good only for finding
        more of them (None if there is nothing to find them in).
    """
    data = source.data
    if not isinstance(data, dict):
        return None, [Mistake((), "is empty" if data is None else "is not a mapping")]
    mistakes: list[Mistake] = []
    repaired: Any = data
    while True:
        try:
            return Settings.model_validate(repaired), mistakes
        except ValidationError as error:
            before = repaired
            for detail in error.errors(include_url=False):
                path: Keys = tuple(detail["loc"])
                if not source.is_replaced(path):
                    mistakes.append(explain(detail))
                if detail["type"] == "extra_forbidden":
                    repaired = _without(repaired, path)
                else:
                    source.replaced.add(path)
                    repaired = _with(repaired, path, ())
            if repaired == before:
                return None, mistakes


def _without(data: Any, path: Keys) -> Any:
    """A copy of ``data`` without the value at ``path``."""
    if not isinstance(data, dict | list):
        return data
    copy: Any = data.copy()
    key: Any = path[0]
    if len(path) > 1:
        copy[key] = _without(data[key], path[1:])
    elif isinstance(copy, dict):
        copy.pop(key, None)
    return copy


def _with(data: Any, path: Keys, above: Keys) -> Any:
    """A copy of ``data`` with a stand-in for the value at ``path``, which is below ``above``.

    Where the file has a short form instead of the section that ``path`` leads through, the whole
    section is replaced.
    """
    if not path or not isinstance(data, dict | list):
        return outline.stand_in(above)
    copy: Any = data.copy()
    key: Any = path[0]
    inner = copy[key] if isinstance(copy, list) else copy.get(key)
    copy[key] = _with(inner, path[1:], (*above, key))
    return copy
