"""How far a TCP connection on loopback has come, by the kernel's own count (sock_diag(7))."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

_SOCK_DIAG = 4
_BY_FAMILY = 20
_REQUEST = 1
_WITH_TCP_INFO = 2
_ANY_COOKIE = (0xFFFFFFFF, 0xFFFFFFFF)

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes that the program at one end has written to its socket, and has read from it."""

    written: int
    read: int


def progress(local: Address, remote: Address) -> Progress:
    """Look at the end at ``local`` of a connection, whichever process has it.

    The kernel reads the lengths of the queues first and the counters afterwards, so that bytes that
    move in between would be counted twice or not at all. With the same counters in two looks,
    nothing moved between the first's counters and the second's queues.

    :raises AssertionError: there is no such connection.
    """
    unread, unacknowledged, counters = _look(local, remote)
    while True:
        before = counters
        unread, unacknowledged, counters = _look(local, remote)
        if counters == before:
            acknowledged, received = counters
            return Progress(acknowledged + unacknowledged, received - unread)


def _look(local: Address, remote: Address) -> tuple[int, int, tuple[int, int]]:
    """Bytes not yet read and not yet acknowledged, and both counters."""
    identity = struct.pack("!HH", local[1], remote[1])
    identity += b"".join(socket.inet_aton(host).ljust(16, b"\0") for host, _ in (local, remote))
    identity += struct.pack("=III", 0, *_ANY_COOKIE)
    query = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, _WITH_TCP_INFO, 0, 0xFFFFFFFF)
    query += identity
    header = struct.pack("=IHHII", 16 + len(query), _BY_FAMILY, _REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as diagnosis:
        diagnosis.send(header + query)
        answer = diagnosis.recv(8192)
    (kind,) = struct.unpack_from("=H", answer, 4)
    assert kind == _BY_FAMILY, "there is no such connection"
    unread, unacknowledged = struct.unpack_from("=II", answer, 16 + 56)
    return unread, unacknowledged, _counters(answer)


def _counters(answer: bytes) -> tuple[int, int]:
    """``tcpi_bytes_acked`` and ``tcpi_bytes_received`` among the attributes of an answer."""
    at = 16 + 72
    while at < len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if kind == _WITH_TCP_INFO:
            acknowledged, received = struct.unpack_from("=QQ", answer, at + 4 + 120)
            return acknowledged, received
        at += (length + 3) & ~3
    raise AssertionError("the kernel says nothing of TCP")
