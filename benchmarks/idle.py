"""Memory of an idle keep-alive connection.

2 000 connections each make one request and then stay. What the proxy's memory (PSS) has grown by,
divided by their number, is what one costs.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.contenders import (
    COMMANDS,
    GATEWAY,
    KEY,
    PATH,
    Contender,
    backend,
    configuration,
    contender,
    free_port,
    gateway_command,
    running,
)
from benchmarks.machine import PROXY_CORE, memory
from tests.support.certificates import authority, issue

CONNECTIONS = 2000
_BODY = b'{"data": [[1, 2, 3]]}'
_REQUEST = (
    f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    f"Authorization: Bearer {KEY}\r\nContent-Length: {len(_BODY)}\r\n\r\n"
).encode() + _BODY


def run(options: Namespace) -> None:
    print(f"Memory of {CONNECTIONS} idle keep-alive connections, each after one request:\n")
    print("| proxy | KiB per connection |")
    print("|---|---|")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        port = stack.enter_context(backend(folder))
        for name in COMMANDS:
            with contender(name, folder, port) as who:
                print(f"| {name} | {_per_connection(who) / 1024:.1f} |")
        for version in ("1.2", "1.3"):
            with _secure(folder, port, version) as who:
                each = _per_connection(who, _trusting(folder))
                print(f"| {who.name} | {each / 1024:.1f} |")
    print()


@contextmanager
def _secure(folder: Path, backend_port: int, version: str) -> Iterator[Contender]:
    """The gateway with TLS of one version."""
    root = authority()
    (folder / "root.pem").write_bytes(root.pem)
    issue("localhost", by=root).write(folder, "gateway")
    plain, port = free_port(), free_port()  # the former is there to see that it has started
    config = configuration("gateway.yaml", folder, plain, backend_port)
    tls = (
        f"address: 127.0.0.1:{port}\n  plain: 127.0.0.1:{plain}\n"
        "  tls: {certificate: gateway.pem, key: gateway.key, "
        f"min_version: '{version}', max_version: '{version}'}}\n"
    )
    config.write_text(config.read_text().replace(f"address: 127.0.0.1:{plain}\n", tls))
    with running(gateway_command(config), plain, PROXY_CORE, folder) as pid:
        yield Contender(f"{GATEWAY}, TLS {version}", port, pid)


def _trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "root.pem"))


def _per_connection(who: Contender, tls: ssl.SSLContext | None = None) -> float:
    # A first wave leaves behind what is allocated once, such as pools of upstream connections.
    for connection in _wave(who.port, 200, tls):
        connection.close()
    time.sleep(1)
    before = memory(who.pid)
    held = _wave(who.port, CONNECTIONS, tls)
    time.sleep(2)  # longer than upstream connections are kept
    after = memory(who.pid)
    for connection in held:
        connection.close()
    return (after - before) / CONNECTIONS


def _wave(port: int, count: int, tls: ssl.SSLContext | None = None) -> list[socket.socket]:
    """Connections that have each made one request, one after the other."""
    held: list[socket.socket] = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), 10)
        if tls is not None:
            connection = tls.wrap_socket(connection, server_hostname="localhost")
        connection.sendall(_REQUEST)
        answer = connection.recv(4096)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"unexpected answer: {answer[:80]!r}")
        held.append(connection)
    return held
