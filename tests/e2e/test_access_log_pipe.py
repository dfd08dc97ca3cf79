"""Several workers write the access log to one pipe, and its reader gets whole lines only.

A reader that is slower than the workers keeps the pipe full, so that no write fits as a whole.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

from tests.support.gateways import GatewayProcess, minimal
from tests.support.raw import request

CLIENTS = 12
REQUESTS = 150


def ask(gateway: GatewayProcess, number: int) -> None:
    """Requests without a key, for paths of many lengths."""
    with gateway.client(30) as client:
        for count in range(REQUESTS):
            path = f"/{number}/{count}/" + "x" * (count * 61 % 6000)
            client.send(request(path, method="GET", body=None))
            assert client.answer().status == 401


def take(stream: int, read: list[bytes]) -> None:
    while piece := os.read(stream, 3000):
        read.append(piece)
        time.sleep(0.0005)


def test_t43_lines_of_four_workers_stay_whole_in_one_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # A writer would wait for a reader, and this one would wait for a writer.
    stream = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    text = minimal("http://127.0.0.1:1", top=f"workers: 4\naccess_log: {pipe}")
    read: list[bytes] = []
    with GatewayProcess(text, tmp_path) as gateway:
        os.set_blocking(stream, True)
        reader = threading.Thread(target=take, args=(stream, read))
        reader.start()
        clients = [threading.Thread(target=ask, args=(gateway, n)) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
        dropped = gateway.metric("gateway_access_log_dropped_lines_total")
        assert gateway.stop() == 0
    reader.join(30)
    os.close(stream)
    paths = {json.loads(line)["path"] for line in b"".join(read).splitlines()}
    assert len(paths) == CLIENTS * REQUESTS
    assert dropped == 0
