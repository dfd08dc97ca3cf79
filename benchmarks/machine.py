"""The machine: what it is, which cores are used for what, and what a process has used."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import uvloop

import gateway

PROXY_CORE, OTHER_CORE = 1, 0


_SYSTEM_PYTHON = Path("/usr/bin/python3")


@cache
def gateway_python() -> tuple[str, str]:
    """The interpreter that the gateway is measured with, and its version.

    The system's, if it has the version of this one: distributions and the official container images
    build theirs with profile-guided optimisation, and nginx and HAProxy are the system's, too.
    """
    own = f"{sys.version_info.major}.{sys.version_info.minor}."
    if _SYSTEM_PYTHON.exists():
        done = subprocess.run(
            [_SYSTEM_PYTHON, "-c", "import platform; print(platform.python_version())"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.stdout.startswith(own):
            return str(_SYSTEM_PYTHON), f"{done.stdout.strip()} of the system"
    return sys.executable, f"{platform.python_version()} ({python_build()})"


def gateway_environment() -> dict[str, str]:
    """What makes that interpreter find what is installed for this one."""
    root = Path(gateway.__file__).parents[1]
    libraries = Path(uvloop.__file__).parents[1]
    return {"PYTHONPATH": f"{root}{os.pathsep}{libraries}"}


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
        f"gateway on CPython {gateway_python()[1]}, all else in Python on "
        f"{platform.python_version()} ({python_build()}); {libraries}\n"
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
