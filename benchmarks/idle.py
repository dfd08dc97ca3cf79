"""Memory of an idle keep-alive connection.

2 000 connections each make one request and then stay. What the proxy's memory (PSS) has grown by,
divided by their number, is what one costs.
"""

from __future__ import annotations

import socket
import tempfile
import time
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

from benchmarks.contenders import COMMANDS, KEY, PATH, Contender, backend, contender
from benchmarks.machine import memory

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
    print()


def _per_connection(who: Contender) -> float:
    # A first wave leaves behind what is allocated once, such as pools of upstream connections.
    for connection in _wave(who.port, 200):
        connection.close()
    time.sleep(1)
    before = memory(who.pid)
    held = _wave(who.port, CONNECTIONS)
    time.sleep(2)  # longer than upstream connections are kept
    after = memory(who.pid)
    for connection in held:
        connection.close()
    return (after - before) / CONNECTIONS


def _wave(port: int, count: int) -> list[socket.socket]:
    """Connections that have each made one request, one after the other."""
    held: list[socket.socket] = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), 10)
        connection.sendall(_REQUEST)
        answer = connection.recv(4096)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"unexpected answer: {answer[:80]!r}")
        held.append(connection)
    return held
