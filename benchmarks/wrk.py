"""The load generator: wrk on one thread, with a script that makes the requests."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import pinned

SCRIPTS = Path(__file__).resolve().parent / "peers"
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}
_FAILURES = re.compile(r"(Non-2xx or 3xx responses: .*|Socket errors: .*)")
# Seconds after which wrk counts an answer as lost. Its default of 2 s is less than what a crowd of
# 1 024 waits for one container on a busy machine.
_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw: requests per second; milliseconds; wrk's own CPU time in seconds; and what
    went wrong in wrk's words (empty: every answer was 2xx or 3xx and no connection broke)."""

    requests: int
    rate: float
    p50: float
    p99: float
    cpu: float
    failures: str


def load(
    url: str,
    script: str,
    connections: int,
    seconds: float,
    environment: Mapping[str, str],
    core: int | None = None,
) -> Load:
    """Load one server.

    :param script: name of a Lua file in ``peers``, which may read ``environment``.
    :param seconds: rounded, because wrk knows whole ones only.
    :param core: the core to run on; any, if None.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    command += [f"--timeout={_TIMEOUT}s", "-s", str(SCRIPTS / script), url]
    before = _children_cpu()
    done = subprocess.run(
        command if core is None else pinned(core, command),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    text = done.stdout
    return Load(
        requests=int(_find(r"(\d+) requests in", text)[0]),
        rate=float(_find(r"Requests/sec:\s+([\d.]+)", text)[0]),
        p50=_milliseconds("50%", text),
        p99=_milliseconds("99%", text),
        cpu=_children_cpu() - before,
        failures="; ".join(_FAILURES.findall(text)),
    )


def _children_cpu() -> float:
    """CPU seconds of children that have ended; wrk is the only one that ends in between."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _find(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk said something unexpected:\n{text}")
    return match.groups()


def _milliseconds(percentile: str, text: str) -> float:
    value, unit = _find(rf"{percentile}\s+([\d.]+)(us|ms|s|m)", text)
    return float(value) * _UNITS[unit]
