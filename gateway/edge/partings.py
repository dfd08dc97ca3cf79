"""How a connection ends, as far as only the kernel knows."""

from __future__ import annotations

import asyncio
import socket
import struct

# TCP_INFO begins with the state of the connection; 7 is TCP_CLOSE (linux/tcp.h).
_TCP_CLOSE = 7
# struct linger: on, for no time at all, which makes close() send RST.
_AT_ONCE = struct.pack("ii", 1, 0)


def has_left(transport: asyncio.Transport) -> bool:
    """Whether the other side has answered something sent to it with RST."""
    connection = transport.get_extra_info("socket")
    state: bytes = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state[0] == _TCP_CLOSE


def cut(transport: asyncio.Transport) -> None:
    """Break a connection so that the other side is told at once, and nothing sent looks complete.

    FIN comes after everything that was sent, which may be never if the other side does not read.
    And ended by FIN, an answer whose body lasts until the connection ends (HTTP/1.0) would look
    whole however much of it is missing.
    """
    if not transport.is_closing():
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()
