"""Request bodies that do not arrive whole with their head: collected, streamed or thrown away."""

from __future__ import annotations

from typing import Protocol

from gateway.core.chunks import ChunkedDecoder
from gateway.core.faults import Fault, Refusal
from gateway.core.heads import CHUNKED
from gateway.edge.phases import Patience
from gateway.engine.exchange import Connection, Exchange
from gateway.engine.walking import resume

# Bytes held for a walk that has not said yet what becomes of them.
HIGH_WATER = 65536


class Reading(Protocol):
    """The client's connection, as far as its body is concerned."""

    def hold(self) -> None: ...

    def go_on(self) -> None: ...


class IncomingBody:
    """One request body on its way in.

    ``feed`` only changes state; ``settle`` afterwards tells whoever waits. Between the two, the
    connection can put itself in order.
    """

    __slots__ = (
        "_buffered",
        "_connection",
        "_decoder",
        "_discard",
        "_left",
        "_limit",
        "_patience",
        "_pieces",
        "_reading",
        "_waiting",
        "_want",
        "_window_begun",
        "_window_size",
        "complete",
        "due",
        "refusal",
        "size",
    )

    def __init__(
        self, reading: Reading, length: int, limit: int, patience: Patience, now: float
    ) -> None:
        """
        :param length: declared length in bytes, or ``CHUNKED``.
        :param limit: bytes at most; more is refused as soon as they come.
        """
        self._patience = patience
        self._reading = reading
        self._decoder = ChunkedDecoder() if length == CHUNKED else None
        self._left = length
        self._limit = limit
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._connection: Connection | None = None
        self._discard = False
        self._waiting: Exchange | None = None
        self._want = 0
        self.size = 0
        self.complete = False
        #: What was wrong with the part that came with the head.
        self.refusal: Refusal | None = None
        #: When the next bytes must have come, in monotonic seconds.
        self.due = 0.0
        self._window_begun = now
        self._window_size = 0
        self.restart(now)

    def __repr__(self) -> str:
        return f"<IncomingBody {self.size} bytes{', complete' if self.complete else ''}>"

    @property
    def left(self) -> int | None:
        """Bytes still to come, None when that is not known."""
        return None if self._decoder is not None else self._left

    def restart(self, now: float) -> None:
        """Measure the client's speed from here: until now it was made to wait."""
        self._window_begun = now
        self._window_size = self.size
        self.due = now + self._patience.body

    def feed(self, data: bytes, now: float) -> bytes:
        """Take what arrived, and hand back what is no longer this body.

        :raises Refusal: too large, too slow, or broken chunked coding.
        """
        if self._decoder is not None:
            pieces, rest = self._decoder.feed(data)
            self.complete = self._decoder.done
        else:
            piece, rest = data[: self._left], data[self._left :]
            pieces = [piece] if piece else []
            self._left -= len(piece)
            self.complete = self._left == 0
        size = sum(map(len, pieces))
        self.size += size
        if self.size > self._limit and not self._discard:
            raise Refusal(Fault.BODY_TOO_LARGE, f"at most {self._limit} bytes are accepted")
        self._judge_speed(now)
        if self._connection is not None:
            for piece in pieces:
                self._connection.write_body(piece)
        elif not self._discard:
            self._pieces += pieces
            self._buffered += size
            if self._waiting is None and self._buffered > HIGH_WATER:
                self._reading.hold()
        return rest

    def _judge_speed(self, now: float) -> None:
        """A byte every now and then keeps a connection alive for ever; a rate does not
        (reliability.md T14)."""
        patience = self._patience
        self.due = now + patience.body
        elapsed = now - self._window_begun
        if elapsed > patience.body and not self.complete:
            if self.size - self._window_size < patience.body_rate * elapsed:
                raise Refusal(
                    Fault.REQUEST_TIMEOUT,
                    f"the body arrives at less than {patience.body_rate} bytes per second",
                )
            self.restart(now)

    def settle(self) -> None:
        """Tell whoever waits for the body what became of it."""
        if self._connection is not None:
            if self.complete:
                connection, self._connection = self._connection, None
                connection.end_body()
        elif self._waiting is not None:
            if self.complete:
                self._give(self.take())
            elif self._buffered > self._want:
                self._give(None)

    def take(self) -> bytes:
        """The body as far as it has come."""
        whole, self._pieces = b"".join(self._pieces), []
        return whole

    def collect(self, exchange: Exchange, limit: int) -> None:
        self._waiting = exchange
        self._want = limit
        self._reading.go_on()

    def pour(self, connection: Connection) -> None:
        self._connection = connection
        connection.attach(self)
        self._reading.go_on()
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            connection.write_body(piece)
        if self.complete:
            self._connection = None
            connection.end_body()

    def hold(self) -> None:
        self._reading.hold()

    def go_on(self) -> None:
        self._reading.go_on()

    def detach(self) -> None:
        self._connection = None
        self.discard()

    def discard(self) -> None:
        """Nobody wants the rest; it is read so that the connection can go on or close cleanly."""
        self._discard = True
        self._pieces = []
        self._reading.go_on()

    def abandon(self, exchange: Exchange) -> None:
        self._waiting = None

    def _give(self, body: bytes | None) -> None:
        exchange, self._waiting = self._waiting, None
        if exchange is not None:
            resume(exchange, body)
