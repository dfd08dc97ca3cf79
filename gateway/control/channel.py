"""Messages over a local socket: each is pickled, and comes after its length."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

_LENGTH = struct.Struct(">I")
# A configuration of some thousand deployments is a few megabytes.
LONGEST = 1 << 30


class Channel(asyncio.Protocol):
    """One end. Messages arrive whole and in order, or the other side is gone."""

    def __init__(self, take: Callable[[Any], None], lost: Callable[[], None]) -> None:
        """
        :param take: gets every message.
        :param lost: is told once that there will be no more.
        """
        self._take = take
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open"
        return f"<Channel, {state}, {len(self._received)} bytes waiting>"

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def send(self, message: Any) -> None:
        """Say something. Nothing happens if the other side is gone: ``lost`` tells that."""
        if self._transport is not None and not self._transport.is_closing():
            text = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
            self._transport.write(_LENGTH.pack(len(text)) + text)

    def close(self) -> None:
        """Close once all has been sent."""
        if self._transport is not None:
            self._transport.close()

    async def open(self, end: socket.socket) -> None:
        """Talk over one end of a pair of connected local sockets. Messages may come at once."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        at = 0
        while len(self._received) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._received, at)
            if length > LONGEST:
                raise ValueError(f"a message of {length} bytes")
            end = at + _LENGTH.size + length
            if len(self._received) < end:
                break
            message = pickle.loads(self._received[at + _LENGTH.size : end])  # noqa: S301  our own
            at = end
            self._take(message)
        del self._received[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()
