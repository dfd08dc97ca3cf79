"""What the processes of a program use of the machine."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and all below it, the process first."""
    found = [pid]
    for process in found:  # grows on the way
        with contextlib.suppress(OSError):  # it ended meanwhile
            for task in Path(f"/proc/{process}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def is_running(pid: int) -> bool:
    """Whether there is such a process, and more of it than its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def own_memory(pid: int) -> int:
    """Resident memory of a process and all below it in bytes, without what it shares with others: a
    proportional share of that would grow when they end."""
    return _kilobytes(pid, "status", "RssAnon")


def proportional_memory(pid: int) -> int:
    """Proportional set size of a process and all below it, in bytes."""
    return _kilobytes(pid, "smaps_rollup", "Pss")


def peak_memory(pid: int) -> int:
    """The most memory in bytes that a process and all below it have had since this was last asked,
    each at its own time."""
    peak = _kilobytes(pid, "status", "VmHWM")
    for process in family(pid):
        Path(f"/proc/{process}/clear_refs").write_text("5")
    return peak


def descriptors(pid: int) -> int:
    """Open file descriptors of a process and all below it."""
    return sum(len(os.listdir(f"/proc/{process}/fd")) for process in family(pid))


def loop_seconds(pid: int) -> float:
    """CPU time that the main thread of a process, the one with its event loop, has used."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _kilobytes(pid: int, file: str, field: str) -> int:
    """Sum of a field that is given in kB, in bytes."""
    total = 0
    for process in family(pid):
        text = Path(f"/proc/{process}/{file}").read_text()
        match = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
        assert match is not None, text
        total += int(match[1]) * 1024
    return total
