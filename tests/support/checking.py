"""``scoring-gateway check`` on a configuration text, and the complete report it should give."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from gateway.cli import main

FILE = "gateway.yaml"
#: Variables that the configurations of the tests take secrets from.
SECRETS = {
    "KEY": "first-key-of-the-tests-0123456789",
    "OTHER": "other-key-of-the-tests-9876543210",
    "SHORT": "fifteen-letters",
    "SPACED": "a key that has spaces in it",
    "ACCENT": "clé-de-seize-lettres-et-plus",
    "BLANK": "   ",
}
DEPLOYMENTS = "{blue: {backends: [http://127.0.0.1:5001]}}"
AUTH = "{keys: {primary: {env: KEY}}}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ``check`` did: exit status, standard output, lines of standard error."""

    status: int
    output: str
    report: list[str]


def demo(
    *, top: str = "listen: 127.0.0.1:8080", auth: str = AUTH, deployments: str = DEPLOYMENTS,
    more: str = "", end: str = "",
) -> str:  # fmt: skip
    """A configuration with the endpoint ``demo``. The auth stands on line 4, the deployments on
    line 5, ``more`` of the endpoint on line 6; after that comes ``end``, at the top level."""
    lines = [top, "endpoints:", "  demo:", f"    auth: {auth}", f"    deployments: {deployments}"]
    lines += [f"    {line}" for line in more.splitlines()] + end.splitlines()
    return "\n".join(lines) + "\n"


def check(
    folder: Path, text: str | bytes | None, environment: Mapping[str, str] = SECRETS
) -> Verdict:
    """Judge ``text`` as the file ``gateway.yaml`` in ``folder``; None takes what is there."""
    if text is not None:
        (folder / FILE).write_bytes(text.encode() if isinstance(text, str) else text)
    with contextlib.chdir(folder):
        result = CliRunner().invoke(
            main, ["check", "-c", FILE], env=environment, catch_exceptions=False
        )
    return Verdict(result.exit_code, result.stdout, result.stderr.splitlines())


def good(endpoints: int = 1, backends: int = 1) -> Verdict:
    counts = [(endpoints, "endpoint"), (backends, "backend")]
    words = ", ".join(f"{n} {noun}{'s' if n != 1 else ''}" for n, noun in counts)
    return Verdict(0, f"{FILE}: good ({words})\n", [])


def refused(*lines: str) -> Verdict:
    """The whole report: each of ``lines`` without the name of the file, and the sum."""
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    report = [f"{FILE}:{line}" for line in lines]
    return Verdict(2, "", [*report, count])
