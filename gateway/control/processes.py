"""What the system knows of a process."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Sizes in bytes, times in seconds; ``started`` is Unix time."""

    virtual: int
    resident: int
    cpu: float
    started: float
    descriptors: int
    #: -1 for as many as it likes.
    most_descriptors: int


def usage(pid: int, proc: Path = Path("/proc")) -> Usage | None:
    """What a process uses; None if it is gone, or if the system does not say (it is no Linux).

    This costs some 30 microseconds, however many descriptors there are.
    """
    folder = proc / str(pid)
    try:
        # The name of the program is in parentheses and may hold anything, parentheses as well.
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        descriptors = (folder / "fd").stat().st_size
        if not descriptors:
            # Linux before 6.2: they have to be counted.
            descriptors = len(os.listdir(folder / "fd"))
        return Usage(
            virtual=int(fields[20]),
            resident=int(fields[21]) * _PAGE,
            cpu=(int(fields[11]) + int(fields[12])) / _TICKS,
            started=_booted(proc) + int(fields[19]) / _TICKS,
            descriptors=descriptors,
            most_descriptors=resource.prlimit(pid, resource.RLIMIT_NOFILE)[0],
        )
    except (OSError, ValueError, IndexError):
        return None


@cache
def _booted(proc: Path) -> float:
    """Unix time of the system's start. Once is enough: a clock that is set must not move it."""
    for line in (proc / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    raise ValueError("the system does not say when it was started")
