"""Broken configuration files, each with the report that it must get, to the byte.

``broken/NAME.yaml`` is a file that somebody could have written, ``broken/NAME.txt`` what
``scoring-gateway check`` says of it on standard error; ``{here}`` in it is the folder. Who adds a
file finds the report that it gets in the failure of the test.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.support.checking import SECRETS

HERE = Path(__file__).resolve().parent / "broken"
FILES = sorted(HERE.glob("*.yaml"))
_LINE = re.compile(r"[a-z0-9-]+\.yaml(?::\d+)?: [^ ].*[^. ]")


def expected(file: Path) -> str:
    return file.with_suffix(".txt").read_text(encoding="utf-8").replace("{here}", str(HERE))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_the_report_is_the_one_expected(file: Path) -> None:
    with contextlib.chdir(HERE):
        result = CliRunner().invoke(
            main, ["check", "-c", file.name], env=SECRETS, catch_exceptions=False
        )
    assert result.stderr == expected(file)
    assert (result.exit_code, result.stdout) == (2, "")


def test_the_program_says_the_same() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "-c", "everything-at-once.yaml"],
        cwd=HERE,
        env={**os.environ, **SECRETS, "PYTHONPATH": str(HERE.parents[2])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.stderr == expected(HERE / "everything-at-once.yaml")
    assert (result.returncode, result.stdout) == (2, "")


def test_there_is_a_report_for_every_file_and_a_file_for_every_report() -> None:
    assert len(FILES) >= 30
    names = {file.stem for file in FILES}
    assert names == {file.stem for file in HERE.glob("*.txt")}


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_report_is_a_line_for_each_mistake_and_their_number(file: Path) -> None:
    *lines, number = expected(file).splitlines()
    assert number == f"{len(lines)} mistake{'' if len(lines) == 1 else 's'}"
    assert all(_LINE.fullmatch(line) and line.startswith(file.name) for line in lines)
    places = [int(found[1]) for line in lines if (found := re.match(r"[^:]*:(\d+): ", line))]
    assert places == sorted(places)


def test_no_report_repeats_a_secret() -> None:
    reports = "".join(expected(file) for file in FILES)
    assert "correct-horse" in (HERE / "secrets-inline.yaml").read_text(encoding="utf-8")
    assert "correct-horse" not in reports
    assert not any(secret in reports for secret in SECRETS.values() if secret.strip())
