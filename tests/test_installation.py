"""The gateway does not run on libraries with known holes, nor on a parser that is known to have
them: the installation is looked at before a port is opened."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gateway import installation
from gateway.installation import FLOORS, UnsafeInstallation, check_installation, parse_version
from tests.support.checking import FILE, SECRETS, demo

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Let some libraries be of other versions, the rest exactly as old as they may be."""
    have = {name: ".".join(map(str, floor)) for name, floor in FLOORS.items()} | versions
    monkeypatch.setattr(installation, "version", have.__getitem__)
    monkeypatch.delenv("AIOHTTP_NO_EXTENSIONS", raising=False)


def complaint() -> str:
    with pytest.raises(UnsafeInstallation) as caught:
        check_installation()
    return str(caught.value)


def test_t54_this_very_installation_is_safe() -> None:
    check_installation()


def test_t54_the_floors_themselves_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    check_installation()


@pytest.mark.parametrize(
    ("name", "have", "floor"),
    [
        ("aiohttp", "3.14.3", "3.14.4"),
        ("aiohttp", "3.9.10", "3.14.4"),
        ("aiohttp", "2.99", "3.14.4"),
        ("httptools", "0.6.3", "0.6.4"),
        ("orjson", "3.11.5", "3.11.6"),
        ("orjson", "3.11", "3.11.6"),
        ("PyJWT", "2.15.0", "2.15.1"),
        ("PyJWT", "2.9.1", "2.15.1"),
        ("uvloop", "0.20.0", "0.21.0"),
        ("uvloop", "unknown", "0.21.0"),
    ],
)
def test_t54_a_library_below_its_floor_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, have: str, floor: str
) -> None:
    pretend(monkeypatch, **{name: have})
    assert complaint() == f"{name} {have} is older than {floor}"


@pytest.mark.parametrize("have", ["3.14.5", "3.15", "3.100.0", "4", "3.14.4.post1", "3.14.5rc1"])
def test_t54_anything_newer_is_accepted(monkeypatch: pytest.MonkeyPatch, have: str) -> None:
    pretend(monkeypatch, aiohttp=have)
    check_installation()


def test_t54_a_release_candidate_is_older_than_its_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, aiohttp="3.14.4rc1")
    assert complaint() == "aiohttp 3.14.4rc1 is older than 3.14.4"


def test_t54_every_library_that_is_too_old_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, aiohttp="3.0", PyJWT="1.0")
    monkeypatch.setenv("AIOHTTP_NO_EXTENSIONS", "1")
    assert complaint() == (
        "aiohttp 3.0 is older than 3.14.4; PyJWT 1.0 is older than 2.15.1; "
        "AIOHTTP_NO_EXTENSIONS is set: the parser in Python is not accepted"
    )


def test_t54_the_floors_are_those_that_pip_is_told() -> None:
    wanted: dict[str, tuple[int, ...]] = {}
    for line in tomllib.loads(PROJECT.read_text())["project"]["dependencies"]:
        match = re.fullmatch(r"([\w-]+)>=([\d.]+)", line)
        assert match is not None, line
        wanted[match[1]] = parse_version(match[2])
    for name, floor in FLOORS.items():
        have = wanted[name]
        assert have + (0,) * (3 - len(have)) == floor, name


# reliability.md section 1.7 names these; a floor may rise but not fall.
@pytest.mark.parametrize(
    ("name", "floor"), [("aiohttp", (3, 14, 4)), ("orjson", (3, 11, 6)), ("PyJWT", (2, 15, 1))]
)
def test_t54_no_floor_is_below_the_published_holes(name: str, floor: tuple[int, ...]) -> None:
    assert FLOORS[name] >= floor


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3.14.5", (3, 14, 5)),
        ("3.14.5rc1", (3, 14, 5)),
        ("3.14.5.dev0", (3, 14, 5)),
        ("3.14", (3, 14)),
        ("3.x.5", (3,)),
        ("v3", ()),
        ("", ()),
    ],
)
def test_a_version_is_the_numbers_it_begins_with(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_version(text) == numbers


def test_t03_the_parser_in_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    monkeypatch.setenv("AIOHTTP_NO_EXTENSIONS", "1")
    assert complaint() == "AIOHTTP_NO_EXTENSIONS is set: the parser in Python is not accepted"


def test_t03_a_wheel_without_the_compiled_parser_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aiohttp import http_parser

    pretend(monkeypatch)
    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)
    assert complaint() == "aiohttp is installed without its compiled parser"


def test_t03_the_gateway_says_so_and_opens_no_port(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(demo())
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "-c", FILE],
        cwd=tmp_path,
        env={**os.environ, **SECRETS, "AIOHTTP_NO_EXTENSIONS": "1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == (
        "scoring-gateway: AIOHTTP_NO_EXTENSIONS is set: the parser in Python is not accepted\n"
    )
