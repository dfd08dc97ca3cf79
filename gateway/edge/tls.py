"""TLS: what stands between a TCP connection and the protocol that is spoken on it.

Why not the event loop's own: it does every handshake that has come in one turn, so a flood of them
holds up every request; it closes without saying why (no alert), without end (a timer per connection
waits for the other side's farewell) and cannot close its own half alone, as RFC 9112 section 9.6
asks for; it does not say how much is still to be sent; and it keeps 256 KiB of buffer for each
connection. Here records are OpenSSL's business and everything else is this module's.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any, cast

# The plain text of a record at most (RFC 8446 section 5.1).
RECORD = 16384
# A memory BIO keeps the room that it has once needed. Fed by so much at a time, it stays small.
PORTION = 16384
# Bytes that wait for their handshake to go on. The first request may come right behind its end.
AHEAD = 65536
# What OpenSSL may have to say, beyond answers, while data is read: alerts, or new keys in TLS 1.3.
# Whoever provokes more of that is not here for scoring.
MAX_ASIDES = 16


class Secured(asyncio.Protocol, asyncio.Transport, ABC):
    """One TLS connection: protocol of a TCP transport, and transport of another protocol.

    Sizes and limits of the write buffer are those of the TCP transport: nothing waits here.
    """

    __slots__ = (
        "_asides",
        "_begun",
        "_held",
        "_incoming",
        "_inner",
        "_outgoing",
        "_raw",
        "_said_goodbye",
        "_tls",
    )

    def __init__(self) -> None:
        # Until connection_made.
        self._raw = cast(asyncio.Transport, None)
        # Until there are first bytes: whoever only connects costs next to nothing.
        self._begun = False
        self._tls = cast(ssl.SSLObject, None)
        self._incoming = cast(ssl.MemoryBIO, None)
        self._outgoing = cast(ssl.MemoryBIO, None)
        #: Who is spoken to through this, once the handshake is done.
        self._inner: asyncio.Protocol | None = None
        self._said_goodbye = False
        #: Reading is suspended until what has come has been looked at.
        self._held = False
        self._asides = 0

    def __repr__(self) -> str:
        state = "in handshake" if self._inner is None else f"for {self._inner!r}"
        return f"<{type(self).__name__} {state}>"

    # What the two sides do differently.

    @abstractmethod
    def _wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """OpenSSL's side of the connection, which reads and writes records there."""

    @abstractmethod
    def _knock(self) -> None:
        """Something came that belongs to the handshake."""

    @abstractmethod
    def _established(self) -> asyncio.Protocol:
        """The handshake is done: who is to speak now."""

    def _last_words(self, error: ssl.SSLError | ValueError) -> bytes:
        """What is said, unencrypted, when the handshake has come to nothing."""
        return b""

    @abstractmethod
    def _failed(self, error: ssl.SSLError | ValueError) -> None:
        """The handshake has come to nothing. The connection closes when the alert is out."""

    @abstractmethod
    def _left(self) -> None:
        """The connection is gone without, or before the end of, a handshake."""

    @abstractmethod
    def _fell_silent(self, inner: asyncio.Protocol) -> None:
        """The other side has ended its TCP stream without saying goodbye."""

    @property
    def is_established(self) -> bool:
        """The handshake is done, and the connection not lost since."""
        return self._inner is not None

    # The handshake.

    def step(self) -> None:
        """Go on with the handshake as far as what has come allows."""
        if self._raw.is_closing():
            return
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            if self._held:
                self._held = False
                self._raw.resume_reading()
            return
        except (ssl.SSLError, ValueError) as error:  # a wrong host name may be a ValueError
            self._flush()  # the alert that says why
            self._raw.write(self._last_words(error))
            self._raw.close()
            self._failed(error)
            return
        self._flush()
        self._inner = inner = self._established()
        if self._held:
            self._held = False
            self._raw.resume_reading()
        inner.connection_made(self)
        if self._incoming.pending:
            self._deliver(inner)

    def _begin(self) -> None:
        self._begun = True
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self._wrap(self._incoming, self._outgoing)

    def _flush(self) -> None:
        if self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    # What the TCP transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        inner = self._inner
        if inner is None:
            if not self._begun:
                self._begin()
            self._incoming.write(data)
            if self._incoming.pending > AHEAD and not self._held:
                self._held = True
                self._raw.pause_reading()
            self._knock()
        elif self._said_goodbye:
            inner.data_received(b"")  # unread, because unwanted: all that counts is that it came
        elif len(data) <= PORTION:
            self._incoming.write(data)
            self._deliver(inner)
        else:
            view = memoryview(data)
            for at in range(0, len(data), PORTION):
                if self._said_goodbye or self._raw.is_closing():
                    return
                self._incoming.write(view[at : at + PORTION])
                self._deliver(inner)

    def eof_received(self) -> bool:
        inner = self._inner
        if self._raw.is_closing():
            pass
        elif inner is None:
            self._raw.close()
        else:
            self._fell_silent(inner)
        return True  # whether to close has been decided

    def connection_lost(self, exc: Exception | None) -> None:
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connection_lost(exc)
        else:
            self._left()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def _deliver(self, inner: asyncio.Protocol) -> None:
        """Decrypt what has come, and pass it on in one piece."""
        tls, incoming = self._tls, self._incoming
        pieces: list[bytes] = []
        ended = False
        try:
            while True:
                piece = tls.read(RECORD)
                if not piece:
                    ended = True
                    break
                pieces.append(piece)
                if not incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._break_off()
            return
        if self._outgoing.pending:
            self._asides += 1
            # With TLS 1.2, it can only be the refusal of another handshake (RFC 9325 3.5).
            if self._asides > MAX_ASIDES or tls.version() == "TLSv1.2":
                self._break_off()
                return
            self._flush()
        if pieces:
            inner.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if ended and not self._raw.is_closing():
            self._part(inner)

    def _part(self, inner: asyncio.Protocol) -> None:
        """The other side says no more."""
        if not inner.eof_received():
            self.close()

    def _break_off(self) -> None:
        """What comes makes no sense any more: say so, and close."""
        self._flush()
        self._said_goodbye = True
        self._raw.close()

    # What the protocol asks.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)

    def write(self, data: Any) -> None:
        if not data or self._said_goodbye:
            return
        if len(data) <= PORTION:
            self._tls.write(data)
            self._raw.write(self._outgoing.read())
            return
        pieces: list[bytes] = []
        view = memoryview(data)
        for at in range(0, len(data), PORTION):
            self._tls.write(view[at : at + PORTION])
            pieces.append(self._outgoing.read())
        self._raw.writelines(pieces)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Say goodbye and end our half; the other side may go on."""
        if not self._raw.is_closing():
            self._say_goodbye()
            self._raw.write_eof()

    def close(self) -> None:
        if not self._raw.is_closing():
            self._say_goodbye()
            self._raw.close()

    def abort(self) -> None:
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def is_reading(self) -> bool:
        return self._raw.is_reading()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def _say_goodbye(self) -> None:
        """So that the other side can tell the end from a cut (RFC 8446 section 6.1)."""
        if not self._said_goodbye:
            self._said_goodbye = True
            with suppress(ssl.SSLError):  # it wants the other side's as well: not waited for
                self._tls.unwrap()
            self._flush()
