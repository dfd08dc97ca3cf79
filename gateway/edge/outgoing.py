"""The sending half of a client connection: one answer at a time, no faster than it is taken."""

from __future__ import annotations

import asyncio

from gateway.core.chunks import LAST_CHUNK, encode_chunk
from gateway.engine.exchange import Exchange, Source

# Bytes on their way to the client before whoever sends them is made to wait.
HIGH_WATER = 65536


class Outgoing:
    """Writes answers, whole or as a stream."""

    __slots__ = ("_chunked", "_muted", "_source", "_transport", "due")

    def __init__(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(HIGH_WATER)
        self._transport = transport
        #: Where the answer that is being streamed comes from.
        self._source: Source | None = None
        self._chunked = False
        self._muted = False
        #: When a client that does not take its answer is given up, 0 while it does.
        self.due = 0.0

    def write(self, data: bytes) -> None:
        # A transport that has just failed, and has not said so yet, would raise.
        if not self._transport.is_closing():
            self._transport.write(data)

    def begin(self, chunked: bool, muted: bool) -> None:
        """A body will follow in pieces.

        :param muted: it is not wanted: the request was HEAD.
        """
        self._chunked = chunked
        self._muted = muted

    def write_piece(self, exchange: Exchange, data: bytes, source: Source) -> None:
        if self._muted:
            return
        exchange.sent += len(data)
        self._source = source
        self.write(encode_chunk(data) if self._chunked else data)
        if self.due:
            source.hold()

    def end(self) -> None:
        # First of all: where it came from may serve somebody else by now, and must not be made to
        # wait for this client.
        self._source = None
        if self._chunked and not self._muted:
            self.write(LAST_CHUNK)
        self._chunked = self._muted = False

    def stall(self, due: float) -> None:
        """The client is slow: the transport holds more than enough."""
        self.due = due
        if self._source is not None:
            self._source.hold()

    def flow(self) -> None:
        """The client has caught up."""
        self.due = 0.0
        if self._source is not None:
            self._source.go_on()
