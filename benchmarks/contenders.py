"""The programs that are compared, each started on its own port and core.

All of them proxy to the same backend. ``nginx, same features`` does with nginx's means what the
gateway does: it checks one of two keys, gives the request an identifier, routes by the deployment
header, balances by least connections, sets forwarding and CORS headers and writes a JSON log line.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template

from benchmarks.machine import (
    OTHER_CORE,
    PROXY_CORE,
    gateway_environment,
    gateway_python,
    pinned,
)

KEY = "0123456789abcdef0123456789abcdef"
SECOND_KEY = "fedcba9876543210fedcba9876543210"
PATH = "/api/v1/service/diabetes/score"
# Seconds. A server that imports half of PyPI takes a while to listen.
START_TIMEOUT = 60.0
PEERS = Path(__file__).resolve().parent / "peers"


@dataclass(slots=True)
class Contender:
    """A running proxy."""

    name: str
    port: int
    pid: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody answers: who listens may still be starting.

    :raises SystemExit: the process ended or did not answer in time.
    """
    give_up = time.monotonic() + START_TIMEOUT
    while time.monotonic() < give_up and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if probe.recv(1):
                return
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} did not start")


@contextmanager
def running(
    command: list[str],
    port: int,
    core: int | None,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """A program; its process id. What it starts ends with it.

    :param core: the core to run on; any, if None.
    """
    with (folder / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(
            command if core is None else pinned(core, command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={
                **os.environ,
                "BENCH_KEY": KEY,
                "BENCH_SECOND_KEY": SECOND_KEY,
                **(environment or {}),
            },
            start_new_session=True,
        )
    try:
        await_port(port, process)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(ProcessLookupError):  # helpers that outlive their parent
            os.killpg(process.pid, signal.SIGKILL)


def configuration(name: str, folder: Path, port: int, backend: int, **more: object) -> Path:
    """One of the configuration files in ``peers`` with the ports (and ``more``) filled in."""
    text = Template((PEERS / name).read_text()).substitute(
        port=port, backend=backend, folder=folder, key=KEY, second_key=SECOND_KEY, **more
    )
    path = folder / f"{port}-{name}"
    path.write_text(text)
    return path


def _nginx(name: str) -> Callable[[Path, int, int], list[str]]:
    def command(folder: Path, port: int, backend: int) -> list[str]:
        return ["nginx", "-e", "stderr", "-c", str(configuration(name, folder, port, backend))]

    return command


def _haproxy(folder: Path, port: int, backend: int) -> list[str]:
    return ["haproxy", "-db", "-f", str(configuration("haproxy.cfg", folder, port, backend))]


def _aiohttp(folder: Path, port: int, backend: int) -> list[str]:
    return [sys.executable, str(PEERS / "aiohttp_proxy.py"), str(port), str(backend)]


def _gateway(folder: Path, port: int, backend: int) -> list[str]:
    config = configuration("gateway.yaml", folder, port, backend)
    return gateway_command(config)


def gateway_command(config: Path) -> list[str]:
    """The gateway on the interpreter that it is measured with."""
    variables = [f"{name}={value}" for name, value in gateway_environment().items()]
    interpreter, _ = gateway_python()
    return ["env", *variables, interpreter, "-m", "gateway", "serve", "--config", str(config)]


GATEWAY = "this gateway"
BASE = "nginx, same features"
COMMANDS: dict[str, Callable[[Path, int, int], list[str]]] = {
    "nginx, plain": _nginx("nginx-plain.conf"),
    BASE: _nginx("nginx-features.conf"),
    "HAProxy, plain": _haproxy,
    "aiohttp application": _aiohttp,
    GATEWAY: _gateway,
}


@contextmanager
def backend(folder: Path) -> Iterator[int]:
    """A backend that costs next to nothing: nginx with a canned answer; its port."""
    port = free_port()
    config = configuration("backend.conf", folder, port, 0)
    command = ["nginx", "-e", "stderr", "-c", str(config)]
    with running(command, port, OTHER_CORE, folder):
        yield port


@contextmanager
def contender(name: str, folder: Path, backend_port: int) -> Iterator[Contender]:
    port = free_port()
    command = COMMANDS[name](folder, port, backend_port)
    with running(command, port, PROXY_CORE, folder) as pid:
        yield Contender(name, port, pid)
