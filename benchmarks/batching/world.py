"""The servers: one real scoring container, and what stands in front of it."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import (
    COMMANDS,
    KEY,
    PATH,
    SECOND_KEY,
    START_TIMEOUT,
    backend,
    configuration,
    free_port,
    gateway_command,
    running,
)
from benchmarks.machine import OTHER_CORE, PROXY_CORE
from gateway.control.demo import container_command, container_environment, train

ALONE = "container alone"
NGINX = "nginx, same features"
OFF = "gateway, batching off"
ON = "gateway, batching on"
# As nginx, plain, has none.
LOGLESS = "gateway, batching on, no access log"
TRIVIAL = "nginx, plain, trivial backend"

_SCORE = Path(__file__).resolve().parents[2] / "config" / "demo" / "score.py"
_ON = "{mode: on, field: data, max_rows: 1024, latency_target: 50ms}"
_BATCH_ROWS = re.compile(
    r"^gateway_batch(?:es|ing)?_rows_(sum|count)\{[^}]*\} (\S+)$", re.MULTILINE
)
_IN_FLIGHT = re.compile(r"^gateway_requests_in_flight\{[^}]*\} (\S+)$", re.MULTILINE)
# Seconds. Longer than the queue of peers/batching.yaml lets anybody wait.
_DRAIN = 15.0

Row = Sequence[float]


def single_list(answer: Any) -> float:
    """The prediction in an answer such as ``[151.2]``."""
    return float(answer[0])


@dataclass(frozen=True, slots=True)
class Target:
    """A server to load, and how to talk to it."""

    name: str
    port: int
    path: str
    pid: int
    #: The container whose CPU time is counted apart; 0 if there is none.
    container_pid: int = 0
    container_port: int = 0
    admin_port: int = 0
    #: The body around the ten numbers of a row.
    before: str = '{"data": [['
    after: str = "]]}"
    headers: Mapping[str, str] = field(default_factory=dict)
    prediction: Callable[[Any], float] = single_list

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def body(self, row: Row) -> str:
        return self.before + ", ".join(map(repr, row)) + self.after


class Unknown(Exception):
    """The gateway does not know these settings; the message is its own."""


def rows(count: int, seed: int) -> list[list[float]]:
    """Rows of ten numbers like those of the diabetes data; reproducible, all different."""
    chance = random.Random(seed)
    return [[round(chance.uniform(-0.1, 0.1), 16) for _ in range(10)] for _ in range(count)]


def ask(port: int, path: str, body: str | None = None) -> tuple[int, bytes]:
    """
    :raises OSError, http.client.HTTPException: no answer.
    """
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request("POST" if body else "GET", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def await_answer(target: Target) -> None:
    """Wait until the server scores.

    :raises SystemExit: it does not.
    """
    give_up = time.monotonic() + START_TIMEOUT
    body = target.body(rows(1, 1)[0])
    while time.monotonic() < give_up:
        with suppress(OSError, http.client.HTTPException):
            if ask(target.port, target.path, body)[0] == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"{target.name} does not answer")


def settle(target: Target) -> None:
    """Wait until nothing is left of a crowd: wrk stops without waiting for its answers.

    The front drops what its clients no longer want, sooner or later. The container scores what has
    reached it all the same, in the order of coming: an answer to one more request means that
    it is idle.
    """
    time.sleep(0.1)
    give_up = time.monotonic() + _DRAIN
    while target.admin_port and time.monotonic() < give_up:
        text = ask(target.admin_port, "/metrics")[1].decode()
        if not sum(float(value) for value in _IN_FLIGHT.findall(text)):
            break
        time.sleep(0.1)
    if target.container_port:
        with suppress(OSError, http.client.HTTPException):
            ask(target.container_port, "/score", json.dumps({"data": rows(1, 2)}))


def batch_rows(target: Target) -> tuple[float, float] | None:
    """Rows that were sent in batches and the number of batches, so far; None if not counted."""
    if not target.admin_port:
        return None
    text = ask(target.admin_port, "/metrics")[1].decode()
    sums = {"sum": 0.0, "count": 0.0}
    found = _BATCH_ROWS.findall(text)
    for kind, value in found:
        sums[kind] += float(value)
    return (sums["sum"], sums["count"]) if found else None


@contextmanager
def container(folder: Path, core: int | None = None) -> Iterator[Target]:
    """azureml-inference-server-http under gunicorn with one worker, serving the guide's model."""
    train(folder)
    port = free_port()
    environment = container_environment(folder, _SCORE, "diabetes")
    command = container_command(("127.0.0.1", port))
    with running(command, port, core, folder, environment) as pid:
        found = Target(ALONE, port, "/score", pid, container_pid=pid, container_port=port)
        await_answer(found)
        yield found


@contextmanager
def in_front(name: str, folder: Path, behind: Target, core: int | None = None) -> Iterator[Target]:
    """``NGINX``, ``OFF``, ``ON`` or ``LOGLESS`` in front of the container.

    :raises Unknown: the gateway refuses the configuration.
    """
    port, admin = free_port(), 0
    if name == NGINX:
        command = COMMANDS[name](folder, port, behind.port)
    else:
        admin = free_port()
        path = configuration(
            "batching.yaml",
            folder,
            port,
            behind.port,
            admin=admin,
            batching="off" if name == OFF else _ON,
            log="off" if name == LOGLESS else folder / f"{port}.access.log",
        )
        command = gateway_command(path)
        _check(path)
    with running(command, port, core, folder) as pid:
        yield Target(
            name, port, PATH, pid, behind.container_pid, behind.port, admin,
            headers={"Authorization": f"Bearer {KEY}"},
        )  # fmt: skip


def _check(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--config", str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=path.parent,
        env={**os.environ, "BENCH_KEY": KEY, "BENCH_SECOND_KEY": SECOND_KEY},
    )
    if done.returncode:
        raise Unknown(" ".join((done.stdout + done.stderr).split()))


@contextmanager
def trivial(folder: Path) -> Iterator[Target]:
    """nginx as a plain proxy of a backend that costs next to nothing: what nginx costs."""
    with backend(folder) as behind:
        port = free_port()
        command = COMMANDS["nginx, plain"](folder, port, behind)
        with running(command, port, PROXY_CORE, folder) as pid:
            yield Target(TRIVIAL, port, PATH, pid, headers={"Authorization": f"Bearer {KEY}"})


@contextmanager
def everything(folder: Path, pinned: bool = False) -> Iterator[tuple[list[Target], list[str]]]:
    """The container and all that stands in front of it; and notes on what could not be started.

    :param pinned: the container shares one core with the load, its front has the other.
    """
    notes = []
    with ExitStack() as stack:
        behind = stack.enter_context(container(folder, OTHER_CORE if pinned else None))
        found = [behind]
        for name in (NGINX, OFF, ON):
            try:
                front = in_front(name, folder, behind, PROXY_CORE if pinned else None)
                found.append(stack.enter_context(front))
            except Unknown as why:
                if name != ON:
                    raise SystemExit(f"{name}: {why}") from why
                notes.append(f"SKIPPED: {name}: its configuration is not accepted: {why}")
        yield found, notes
