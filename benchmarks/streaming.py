"""Peak memory while a body of 100 MiB goes through, up and down, with a slow reader at its end."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from argparse import Namespace
from contextlib import closing
from pathlib import Path

from benchmarks.contenders import GATEWAY, KEY, PATH, contender
from benchmarks.machine import memory, peak, reset_peak

SIZE = 100 << 20
PIECE = 256 << 10


def run(options: Namespace) -> None:
    print(f"Growth of peak memory while streaming {SIZE >> 20} MiB, {GATEWAY}:\n")
    print("| direction | growth MiB | seconds |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as name, closing(_backend()) as listener:
        port = listener.getsockname()[1]
        for title, ask in (
            ("upload", _upload),
            ("upload, container pauses", _upload_to_slow),
            ("download", _download),
            ("download, reader pauses", _slow_download),
        ):
            with contender(GATEWAY, Path(name), port) as who:
                _download(who.port, 1 << 20)  # what is allocated once is not growth
                reset_peak(who.pid)
                base = max(peak(who.pid), memory(who.pid))
                begun = time.monotonic()
                ask(who.port, SIZE)
                grown = peak(who.pid) - base
                seconds = time.monotonic() - begun
                print(f"| {title} | {grown / (1 << 20):.1f} | {seconds:.2f} |")
    print()


def _backend() -> socket.socket:
    """Reads whatever body it is sent, sleeping ``x-pause`` seconds after each piece; answers with
    as many bytes as ``x-size`` asks for."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener


def _answer(connection: socket.socket) -> None:
    with connection:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        fields = dict(
            line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line
        )
        left = int(fields.get(b"content-length", b"0")) - len(rest)
        while left > 0:
            left -= len(connection.recv(PIECE))
            time.sleep(float(fields.get(b"x-pause", b"0")))
        size = int(fields.get(b"x-size", b"2"))
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: %d\r\n\r\n" % size
        )
        piece = b"\0" * PIECE
        while size > 0:
            connection.sendall(piece[:size])
            size -= PIECE


def _head(length: int, size: int, pause: float = 0.0) -> bytes:
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream\r\n"
        f"Authorization: Bearer {KEY}\r\nx-size: {size}\r\n"
        f"x-pause: {pause}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def _upload(port: int, size: int, pause: float = 0.0) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(_head(size, 2, pause))
        piece = b"\0" * PIECE
        for _ in range(size // PIECE):
            connection.sendall(piece)
        _read(connection, 2, 0.0)


def _upload_to_slow(port: int, size: int) -> None:
    _upload(port, size, 0.002)


def _download(port: int, size: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(_head(0, size))
        _read(connection, size, 0.0)


def _slow_download(port: int, size: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(_head(0, size))
        _read(connection, size, 0.002)


def _read(connection: socket.socket, size: int, pause: float) -> None:
    data = connection.recv(PIECE)
    while b"\r\n\r\n" not in data:
        data += connection.recv(PIECE)
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"unexpected answer: {head[:80]!r}")
    left = size - len(rest)
    while left > 0:
        piece = connection.recv(PIECE)
        if not piece:
            raise SystemExit("the answer was cut short")
        left -= len(piece)
        time.sleep(pause)
