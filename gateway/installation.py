"""Refuses to run on an installation that is known to be unsafe (reliability.md T3, T54)."""

from __future__ import annotations

import os
import re
from importlib.metadata import version

# Below these, the libraries have published vulnerabilities that reach us.
FLOORS = {
    "aiohttp": (3, 14, 4),
    "httptools": (0, 6, 4),
    "orjson": (3, 11, 6),
    "PyJWT": (2, 15, 1),
    "uvloop": (0, 21, 0),
}


# What follows the numbers of a version that comes before the release of those numbers (PEP 440).
_BEFORE_RELEASE = re.compile(
    r"[0-9][._-]?(?:a|alpha|b|beta|c|rc|pre|preview|dev)[._-]?[0-9]*", re.I
)


class UnsafeInstallation(Exception):
    """A library is too old or lacks its compiled part; the message says which."""


def check_installation() -> None:
    """
    :raises UnsafeInstallation: naming every library that is not acceptable.
    """
    found: list[str] = []
    for name, floor in FLOORS.items():
        have = version(name)
        if _is_older(have, floor):
            found.append(f"{name} {have} is older than {'.'.join(map(str, floor))}")
    # aiohttp falls back to a parser in Python when its extension is missing, and nearly all of
    # its request smuggling advisories concern that one. Only the admin port would use it.
    if os.environ.get("AIOHTTP_NO_EXTENSIONS"):
        found.append("AIOHTTP_NO_EXTENSIONS is set: the parser in Python is not accepted")
    else:
        from aiohttp import http_parser

        if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
            found.append("aiohttp is installed without its compiled parser")
    if found:
        raise UnsafeInstallation("; ".join(found))


def parse_version(text: str) -> tuple[int, ...]:
    """The numbers at the beginning of a version: ``3.14.5rc1`` is (3, 14, 5)."""
    numbers: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _is_older(have: str, floor: tuple[int, ...]) -> bool:
    numbers = parse_version(have)
    numbers += (0,) * (len(floor) - len(numbers)) if numbers else ()
    return numbers < floor or (numbers == floor and _is_before_release(have))


def _is_before_release(text: str) -> bool:
    """``3.14.4rc1`` is; ``3.14.4`` and ``3.14.4.post1`` are not."""
    release = text.partition("+")[0].lower().partition("post")[0]
    return _BEFORE_RELEASE.search(release) is not None
