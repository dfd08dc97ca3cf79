"""A worker that does what the payload of its configuration says, run as a process of its own.

The payload is a list of words: ``refuse`` what is to be prepared, ``die`` instead of preparing,
``die-young`` after that, ``hang`` (stop reading messages) or ``linger`` (do not end when drained).
A word may end in ``:N``: it counts for worker N only.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import sys
import time
from typing import Any

from gateway.control.messages import (
    Abort,
    Commit,
    Counted,
    Describe,
    Described,
    Drain,
    Drained,
    Prepare,
    Prepared,
    Refused,
    Running,
)

_LENGTH = struct.Struct(">I")


def main(index: str, channel: str, passing: str, *_: str) -> None:
    link = socket.socket(fileno=int(channel))
    doors = socket.socket(fileno=int(passing))
    words: set[str] = set()
    received = 0
    while True:
        message = _read(link)
        if message is None:
            os._exit(3)
        match message:
            case Prepare():
                received += sum(1 for _ in message.doors if _receive(doors))
                wanted = {word.partition(":") for word in message.payload.decode().split()}
                words = {word for word, _, who in wanted if who in ("", index)}
                if "die" in words:
                    os._exit(7)
                if "refuse" in words:
                    _send(link, Refused(message.generation, f"worker {index} cannot"))
                else:
                    _send(link, Prepared(message.generation))
            case Commit():
                _send(link, Running(message.generation))
                _send(link, Counted(None))
                if "die-young" in words:
                    os._exit(9)
                if "hang" in words:
                    signal.signal(signal.SIGABRT, signal.SIG_IGN)
                    time.sleep(60)
            case Describe():
                _send(link, Described(message.number, {"sockets": received}))
            case Drain():
                _send(link, Drained(int(index) + 1))
                if "linger" in words:
                    time.sleep(60)
                os._exit(0)
            case Abort():
                words = set()


def _receive(doors: socket.socket) -> bool:
    doors.setblocking(False)
    try:
        _, descriptors, _, _ = socket.recv_fds(doors, 32, 1)
    except BlockingIOError:
        return False
    for number in descriptors:
        os.close(number)
    return True


def _send(link: socket.socket, message: Any) -> None:
    text = pickle.dumps(message)
    link.sendall(_LENGTH.pack(len(text)) + text)


def _read(link: socket.socket) -> Any:
    head = link.recv(_LENGTH.size, socket.MSG_WAITALL)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    return pickle.loads(link.recv(length, socket.MSG_WAITALL))


if __name__ == "__main__":
    main(*sys.argv[1:])
