"""What TLS costs: a request on a kept connection, a full handshake, a resumed one.

nginx with the same features and the same settings of TLS is measured in the same run. The costs are
CPU time of the proxy; what one core could do in a second follows from them. Handshakes are made by
``openssl s_time``, one after the other on the other core, and closed.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from string import Template

from benchmarks.contenders import (
    BASE,
    GATEWAY,
    KEY,
    PATH,
    PEERS,
    SECOND_KEY,
    Contender,
    backend,
    free_port,
    gateway_command,
    running,
)
from benchmarks.machine import OTHER_CORE, PROXY_CORE, check_cores, cpu_seconds, pinned
from benchmarks.wrk import load
from gateway.edge.contexts import CURVE, SUITES

KINDS = {
    "ECDSA P-256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "RSA 2048": ["rsa:2048"],
}


def run(options: Namespace) -> None:
    check_cores()
    for kind, new_key in KINDS.items():
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            folder = Path(name)
            _issue(folder, new_key)
            port = stack.enter_context(backend(folder))
            contenders = [
                stack.enter_context(_contender(name, make, folder, port))
                for name, make in ((BASE, _nginx), (GATEWAY, _gateway))
            ]
            print(f"TLS 1.2 with a certificate of {kind}, CPU time of the proxy:\n")
            measures: dict[str, Callable[[Contender], float]] = {
                "request": lambda who: _request(who, options),
                "full handshake": lambda who: _handshake(who, "-new", options.seconds),
                "resumed handshake": lambda who: _handshake(who, "-reuse", options.seconds),
            }
            _table(contenders, measures, options.rounds)


def _table(
    contenders: list[Contender], measures: dict[str, Callable[[Contender], float]], rounds: int
) -> None:
    print("| | proxy | µs | (min-max) | ratio | per second and core |")
    print("|---|---|---|---|---|---|")
    for what, measure in measures.items():
        costs: dict[str, list[float]] = {who.name: [] for who in contenders}
        for turn in range(rounds + 1):
            for who in contenders:
                cost = measure(who)
                if turn:  # the first warms up
                    costs[who.name].append(cost)
        base = median(costs[BASE])
        for name, own in costs.items():
            print(
                f"| {what} | {name} | {median(own):.1f} | {min(own):.1f}-{max(own):.1f} "
                f"| {median(own) / base:.2f} | {1e6 / median(own):,.0f} |"
            )
    print()


def _request(who: Contender, options: Namespace) -> float:
    """Microseconds of one request on one of many kept connections."""
    before = cpu_seconds(who.pid)
    url = f"https://127.0.0.1:{who.port}{PATH}"
    seen = load(
        url, "same.lua", options.connections, options.seconds, {"BENCH_KEY": KEY}, OTHER_CORE
    )
    if seen.failures:
        raise SystemExit(f"{who.name} failed requests: {seen.failures}")
    return (cpu_seconds(who.pid) - before) / seen.requests * 1e6


def _handshake(who: Contender, how: str, seconds: int) -> float:
    """Microseconds of one connection that is made and closed.

    :param how: ``-new`` for full handshakes, ``-reuse`` for resumed ones.
    """
    before = cpu_seconds(who.pid)
    done = subprocess.run(
        pinned(
            OTHER_CORE,
            ["openssl", "s_time", "-connect", f"127.0.0.1:{who.port}", "-tls1_2", how,
             "-time", str(seconds)],
        ),
        capture_output=True, text=True, check=False, timeout=seconds + 60,
    )  # fmt: skip
    found = re.search(r"^(\d+) connections in \d+ real seconds", done.stdout, re.MULTILINE)
    if found is None or not int(found[1]):
        raise SystemExit(f"openssl s_time said something unexpected:\n{done.stdout}{done.stderr}")
    return (cpu_seconds(who.pid) - before) / int(found[1]) * 1e6


def _issue(folder: Path, new_key: list[str]) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", *new_key, "-nodes", "-days", "2",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip


@contextmanager
def _contender(
    name: str, make: Callable[[Path, int, int], list[str]], folder: Path, backend_port: int
) -> Iterator[Contender]:
    port = free_port()
    command = make(folder, port, backend_port)
    with running(command, port, PROXY_CORE, folder) as pid:
        yield Contender(name, port, pid)


def _nginx(folder: Path, port: int, backend_port: int) -> list[str]:
    path = _write(
        "nginx-features.conf",
        "backlog=4096;",
        f"ssl backlog=4096; ssl_certificate {folder}/cert.pem; "
        f"ssl_certificate_key {folder}/key.pem; ssl_protocols TLSv1.2; ssl_ciphers {SUITES}; "
        f"ssl_ecdh_curve {CURVE}; ssl_session_cache shared:sessions:10m;",
        folder, port, backend_port,
    )  # fmt: skip
    return ["nginx", "-e", "stderr", "-c", str(path)]


def _gateway(folder: Path, port: int, backend_port: int) -> list[str]:
    path = _write(
        "gateway.yaml",
        "  limits:",
        f"  tls: {{certificate: {folder}/cert.pem, key: {folder}/key.pem}}\n  limits:",
        folder, port, backend_port,
    )  # fmt: skip
    return gateway_command(path)


def _write(name: str, old: str, new: str, folder: Path, port: int, backend_port: int) -> Path:
    """The configuration of the plain contender, with TLS."""
    text = (PEERS / name).read_text()
    if old not in text:
        raise SystemExit(f"{name} has no {old!r} any more")
    text = Template(text.replace(old, new, 1)).substitute(
        port=port, backend=backend_port, folder=folder, key=KEY, second_key=SECOND_KEY
    )
    path = folder / f"{port}-{name}"
    path.write_text(text)
    return path
