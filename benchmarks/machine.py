"""The machine: what it is, which cores are used for what, and what a process has used."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

PROXY_CORE, OTHER_CORE = 1, 0


def check_cores() -> None:
    """
    :raises SystemExit: fewer than two cores, so nothing measured would mean anything.
    """
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit(
            "the benchmarks need two cores: one for the proxy, one for everything else"
        )


def pinned(core: int, command: list[str]) -> list[str]:
    """The command on one core."""
    return ["taskset", "-c", str(core), *command]


def describe() -> str:
    """Machine and versions, for the head of every table."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "httptools", "aiohttp"))
    return (
        f"{model[1] if model else 'unknown CPU'}, {os.cpu_count()} cores, "
        f"Linux {platform.release()}\n"
        f"CPython {platform.python_version()} ({python_build()}), {libraries}\n"
        f"{program_version('nginx', '-v')}, {program_version('haproxy', '-v')}, "
        f"{program_version('wrk', '-v')}"
    )


def python_build() -> str:
    """Whether this Python was built with profile-guided optimisation, which is worth 10-15 %."""
    import sysconfig

    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "optimised build" if "--enable-optimizations" in arguments else "plain build"


def program_version(name: str, flag: str) -> str:
    done = subprocess.run([name, flag], capture_output=True, text=True, check=False)
    first = (done.stdout + done.stderr).strip().splitlines()[0]
    match = re.search(r"\d+\.\d+[.\w-]*", first)
    return f"{name} {match[0] if match else '?'}"


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its descendants, all threads, in seconds (to the nanosecond)."""
    total = 0
    for process in (pid, *descendants(pid)):
        for task in Path(f"/proc/{process}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def descendants(pid: int) -> list[int]:
    """Process ids below ``pid``."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def memory(pid: int) -> int:
    """Proportional set size of a process and its descendants, in bytes."""
    total = 0
    for process in (pid, *descendants(pid)):
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        total += int(match[1]) * 1024 if match else 0
    return total


def reset_peak(pid: int) -> None:
    """Forget the highest resident size so far (proc(5), clear_refs)."""
    for process in (pid, *descendants(pid)):
        Path(f"/proc/{process}/clear_refs").write_text("5")


def peak(pid: int) -> int:
    """Highest resident size since ``reset_peak``, in bytes."""
    total = 0
    for process in (pid, *descendants(pid)):
        text = Path(f"/proc/{process}/status").read_text()
        match = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
        total += int(match[1]) * 1024 if match else 0
    return total
