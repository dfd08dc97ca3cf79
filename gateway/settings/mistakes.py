"""What is wrong with a configuration, in our words.

A message says what was found and what is accepted. It never repeats what may be a secret: reports
end up in terminals, tickets and the logs of pipelines.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

from gateway.settings import outline
from gateway.settings.units import ADDRESS_HINT

Key = str | int
Keys = tuple[Key, ...]

NAME_HINT = (
    "expected a name: 2 to 32 letters, digits and hyphens, beginning with a letter and not ending "
    "with a hyphen"
)

# Values under these keys are sources of secrets, or secrets that somebody wrote into the file
# after all,
PRIVATE = frozenset(("primary", "secondary", "secret", "token"))
# and so may whatever stands in the place of these sections.
_SECRETIVE = frozenset(("auth", "keys", "tokens"))
_SHORT_FORMS = {
    "Listen": f"a mapping or {ADDRESS_HINT}",
    "Admin": f"a mapping or {ADDRESS_HINT}",
    "AccessLog": "a mapping, stdout, off or the path of a file",
    "Auth": "a mapping or the word none",
}
# Pydantic's findings that say what they want in words for programmers.
_WANTED = {
    "string_type": "text",
    "list_type": "a list",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
}
_USER = re.compile(r"//\S*@")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong with a configuration. ``path`` are the keys that lead to it."""

    path: Keys
    message: str

    def render(self, place: str) -> str:
        """One line that begins with ``place``, whatever characters are in the message."""
        where = dotted(self.path)
        text = f"{where}: {self.message}" if where else self.message
        text = _USER.sub("//***@", text)
        return f"{place}: {printable(text)}"


def show(value: object) -> str:
    """A value for a message: short, and without what may be the password of a URL."""
    if isinstance(value, dict | list) and value:
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, str) and "@" in value:
        value = "***" + value[value.rindex("@") :]
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def explain(detail: Any) -> Mistake:
    """One of pydantic's findings.

    :param detail: a member of ``ValidationError.errors()``.
    """
    path: Keys = tuple(detail["loc"])
    value, context = detail["input"], detail.get("ctx", {})
    found = "" if _is_private(path) else f"found {show(value)}, "
    match detail["type"]:
        case "extra_forbidden":
            return _unknown(path)
        case "missing":
            return Mistake(path, "is required")
        case "value_error":
            message = str(context.get("error", detail["msg"]))
            return Mistake(path, found + message if message.startswith("expected") else message)
        case "literal_error":
            return Mistake(path, f"{found}expected {context['expected']}")
        case "too_short":
            return Mistake(path, "must not be empty")
        case "model_type" | "model_attributes_type" | "dict_type":
            accepted = _SHORT_FORMS.get(str(context.get("class_name")), "a mapping")
            return Mistake(path, f"{found}expected {accepted}")
        case kind:
            wanted = _WANTED.get(kind, "").format_map(context)
            wanted = wanted or detail["msg"].removeprefix("Input should be ")
            return Mistake(path, f"{found}expected {wanted}")


def twice(path: Keys) -> Mistake:
    """A key that is repeated."""
    if _is_in_private(path) and path[-1] not in outline.known_keys(path[:-1]):
        return Mistake(path[:-1], "has a key twice")
    return Mistake(path, "is there twice")


def _unknown(path: Keys) -> Mistake:
    known = outline.known_keys(path[:-1])
    near = difflib.get_close_matches(str(path[-1]), known, 1, 0.5)
    if near:
        return Mistake(path, f"unknown key; did you mean {near[0]!r}?")
    listed = f"; known are {', '.join(known)}"
    if _is_in_private(path):
        return Mistake(path[:-1], "has an unknown key" + listed)
    return Mistake(path, "unknown key" + listed)


def _is_private(path: Keys) -> bool:
    return bool(path) and (path[-1] in _SECRETIVE or not PRIVATE.isdisjoint(path))


def _is_in_private(path: Keys) -> bool:
    """Whether a key itself may be a secret: ``primary: {the-secret}`` is a mapping with a key.
    Only what is, or resembles, one of our own keys is repeated there."""
    return any(_is_private(path[:length]) for length in range(1, len(path)))


def printable(text: str) -> str:
    """Text in one line: line breaks would cut a line of the report in two, half a character cannot
    be printed."""
    return "".join(map(_printable, text))


def dotted(path: Keys) -> str:
    """Keys as they are written in reports: ``endpoints.demo.hosts[0]``."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
