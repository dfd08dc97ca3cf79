"""Programs that are run to their end, and what is left of those that should have ended."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.checking import FILE, SECRETS


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: status, standard output, standard error."""

    status: int
    output: str
    errors: str


def serve_until_exit(
    folder: Path, text: str, *, prefix: tuple[str, ...] = (), timeout: float = 15.0
) -> Ended:
    """``serve`` on a configuration with which it should end by itself."""
    (folder / FILE).write_text(text)
    ended = subprocess.run(
        [*prefix, sys.executable, "-m", "gateway", "serve", "-c", str(folder / FILE)],
        env={**os.environ, **SECRETS},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def marked(mark: str) -> list[int]:
    """Processes that have ``NAME=value`` in the environment they were started with."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue  # it ended meanwhile, or is somebody else's
        if mark.encode() in variables and state != "Z":
            found.append(int(folder.name))
    return found
