"""What another configuration would change, key by key, in words.

Two descriptions are compared, as ``describe`` makes them and ``/config`` shows them: with every
default, and with where secrets come from but no secret. Even that is not repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.settings.mistakes import PRIVATE, Keys, dotted, printable

_SOURCES = ("env", "file")
_LONGEST = 100
_SHORT = 4
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that would change. ``path`` are the keys that lead to it."""

    path: Keys
    text: str
    #: A reload alone may not do it, and why.
    remark: str = ""

    def render(self) -> str:
        """One line, whatever characters are in it."""
        remark = f" ({self.remark})" if self.remark else ""
        return printable(f"{dotted(self.path)}: {self.text}{remark}")


def differences(old: Any, new: Any, path: Keys = ()) -> Iterator[Difference]:
    """What is different in ``new``, in its order; what it lacks comes last in each section.

    :param old: plain data: mappings with text as keys, lists, texts, numbers, truth values, None.
    :param path: where both stand.
    """
    if old == new:
        return
    if path and path[-1] in PRIVATE and (_is_source(old) or _is_source(new)):
        yield _secret(path, old, new)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key, value in new.items():
            yield from differences(old.get(key, _ABSENT), value, (*path, key))
        for key in old:
            if key not in new:
                yield from differences(old[key], _ABSENT, (*path, key))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _of_lists(old, new, path)
    elif old is _ABSENT:
        yield Difference(path, f"added{_value(new)}", _remark(new))
    elif new is _ABSENT:
        yield Difference(path, f"removed{_value(old)}")
    else:
        yield Difference(path, f"{_show(old)} -> {_show(new)}", _remark(new))


def _secret(path: Keys, old: Any, new: Any) -> Difference:
    word = "added" if old is _ABSENT else "removed" if new is _ABSENT else "changed"
    return Difference(path, word, _remark(new))


def _is_source(data: Any) -> bool:
    """Whether this says where a secret is. Deployments may be called ``primary``, too."""
    return isinstance(data, Mapping) and len(data) == 1 and not data.keys().isdisjoint(_SOURCES)


def _of_lists(old: list[Any], new: list[Any], path: Keys) -> Iterator[Difference]:
    added = [each for each in new if each not in old]
    removed = [each for each in old if each not in new]
    for each in added:
        yield Difference(path, f"added {_show(each)}")
    for each in removed:
        yield Difference(path, f"removed {_show(each)}")
    if not added and not removed:
        yield Difference(path, f"another order: {_show(new)}")


def _remark(new: Any) -> str:
    """What is to be known of ``new`` besides."""
    names = sorted(_variables(new))
    if not names:
        return ""
    listed = " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"takes a restart unless the running gateway has {listed} in its environment"


def _variables(data: Any) -> Iterator[str]:
    """Environment variables that secrets are read from: nobody can set those of a running
    process."""
    if isinstance(data, Mapping):
        if _is_source(data) and "env" in data:
            yield str(data["env"])
        for value in data.values():
            yield from _variables(value)


def _value(data: Any) -> str:
    """A value behind a verb; of sections, only short ones that have no sections in them."""
    if not isinstance(data, Mapping):
        return f", {_show(data)}"
    if len(data) > _SHORT or any(isinstance(each, Mapping) for each in data.values()):
        return ""
    return ", " + ", ".join(f"{key}: {_show(each)}" for key, each in data.items())


def _show(data: Any) -> str:
    match data:
        case None:
            return "nothing"
        case True | False:
            return str(data).lower()
        case Mapping():
            text = ", ".join(map(str, data))
        case list():
            text = ", ".join(map(_show, data)) or "nothing"
        case _:
            text = str(data)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
