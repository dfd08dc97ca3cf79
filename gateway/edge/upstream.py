"""HTTP/1.1 towards the containers: one protocol per connection, over httptools.

Containers are not trusted: whatever an answer gets wrong ends in 502 with nothing of it passed on,
and a connection that was misused, cut short or left in the middle is never used again
(reliability.md T25, T26, T30, T31).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from gateway.core.chunks import LAST_CHUNK, encode_chunk
from gateway.core.faults import Fault, Refusal
from gateway.core.heads import CHUNKED
from gateway.core.replies import MAX_HEAD, MAX_INTERIM, UNTIL_CLOSE, Reply, parse_reply_head
from gateway.edge.partings import cut
from gateway.engine.exchange import Caller, Taker, Upload
from gateway.engine.pools import Pool
from gateway.engine.walking import interrupt, resume

# Answers up to this size are passed on in one piece, with one write.
WHOLE = 65536
# Bytes on their way to a container before the client is made to wait.
HIGH_WATER = 65536
# Chunk sizes, extensions and trailers beyond the data that they frame: a container that sends more
# is broken (a legitimate stream of single bytes has six bytes of framing each).
MAX_OVERHEAD = 1 << 20


class UpstreamConnection(asyncio.Protocol):
    """One connection to a backend. It serves one request at a time."""

    __slots__ = (
        "_begun",
        "_body",
        "_caller",
        "_clock",
        "_interim",
        "_messages",
        "_overhead",
        "_parser",
        "_paused",
        "_pool",
        "_raw",
        "_reply",
        "_sending",
        "_sent_at",
        "_taker",
        "_transport",
        "_upload",
        "_usable",
        "answered",
        "idle_since",
        "reused",
    )

    def __init__(self, pool: Pool, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._clock = clock
        self._parser = httptools.HttpResponseParser(self)
        self._transport = cast(asyncio.Transport, None)  # until connection_made
        self._caller: Caller | None = None
        self._taker: Taker | None = None
        self._upload: Upload | None = None
        self._sending = False
        self._sent_at = 0.0
        self._overhead = 0
        self._raw = b""
        self._reply: Reply | None = None
        self._body: list[bytes] = []
        #: Answers that the parser saw begin and end, interim ones included.
        self._begun = 0
        self._messages = 0
        self._interim = 0
        #: Reading is suspended for a slow client.
        self._paused = False
        self.reused = False
        self.answered = False
        self._usable = True
        self.idle_since = clock()

    def __repr__(self) -> str:
        state = "busy" if self._caller else "idle" if self.usable else "closed"
        return f"<UpstreamConnection to {self._pool.name}, {state}>"

    @property
    def usable(self) -> bool:
        # A transport notices that it is broken a turn of the loop before it says so.
        return self._usable and not self._transport.is_closing()

    # What the engine asks.

    def send(self, caller: Caller, head: bytes, body: bytes | None, now: float) -> None:
        if self._transport.is_closing():
            raise Refusal(Fault.NO_BACKEND, "the connection had just broken")
        self._caller = caller
        self._sent_at = now
        self.answered = False
        self._sending = body is None
        if body and len(body) > WHOLE:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head + body if body else head)

    def attach(self, upload: Upload) -> None:
        """Name who sends the body, so that it can be made to wait."""
        self._upload = upload

    def write_body(self, data: bytes) -> None:
        caller = self._caller
        if caller is not None:
            chunked = caller.length == CHUNKED
            self._transport.write(encode_chunk(data) if chunked else data)

    def end_body(self) -> None:
        caller = self._caller
        if caller is not None:
            self._sending = False
            self._upload = None
            if caller.length == CHUNKED:
                self._transport.write(LAST_CHUNK)

    def pour(self, taker: Taker) -> None:
        self._taker = taker
        self._flow(taker)

    def hold(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def abandon(self, caller: Caller) -> None:
        # An answer is on its way that nobody wants: the connection cannot be used again.
        self._detach()
        self._abort()

    def close(self) -> None:
        self._usable = False
        if self._transport.get_write_buffer_size():
            # Closing would wait for a container that does not read, perhaps for ever.
            self._abort()
        else:
            self._transport.close()

    def _abort(self) -> None:
        self._usable = False
        # Bytes that a busy container has not read would keep the news from it.
        cut(self._transport)

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(HIGH_WATER)

    def connection_lost(self, exc: Exception | None) -> None:
        self._usable = False
        # It knows this connection. A cycle would keep both, and the pool, until somebody looks.
        self._parser = cast(httptools.HttpResponseParser, None)
        self._pool.lost(self)
        if self._caller is not None:
            self._fail(Refusal(Fault.UPSTREAM_CLOSED, "the connection broke"))

    def eof_received(self) -> bool:
        reply = self._reply
        if self._caller is not None and reply is not None and reply.length == UNTIL_CLOSE:
            self._complete(self._caller, reply)
        elif self._caller is not None:
            # At once: what is still to be sent would hold up the news.
            self._fail(Refusal(Fault.UPSTREAM_CLOSED, "the connection was closed"))
        self._usable = False
        return False  # close: a container that says no more will not be asked again

    def pause_writing(self) -> None:
        if self._upload is not None:
            self._upload.hold()

    def resume_writing(self) -> None:
        if self._upload is not None:
            self._upload.go_on()

    def data_received(self, data: bytes) -> None:
        caller = self._caller
        if caller is None:
            # Bytes that nobody asked for: they would be taken for the next request's answer.
            self._abort()
            return
        if not self.answered:
            self.answered = True
            # Nearly every answer comes in one piece and looks like the one before.
            end = data.find(b"\r\n\r\n") + 4
            known = self._pool.shapes.recognise(data[:end]) if end <= MAX_HEAD else None
            if known is not None and len(data) - end == known.length:
                self._body.append(data[end:])
                self._complete(caller, known)
                return
        try:
            self._parser.feed_data(data)
            reply = self._reply or self._read_head(data)
            if reply is None:
                return
            if reply.length == CHUNKED:
                self._weigh(len(data))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(Refusal(Fault.UPSTREAM_MALFORMED, str(error).lower()))
        except Refusal as refusal:
            self._fail(refusal)
        else:
            if self._begun > self._interim + 1:
                self._fail(Refusal(Fault.UPSTREAM_MALFORMED, "more than one answer"))
            elif self._messages > self._interim and reply.length != UNTIL_CLOSE:
                self._complete(caller, reply)
            elif self._taker is not None:
                self._flow(self._taker)
            elif not 0 <= reply.length <= WHOLE:
                caller.upstream_seconds = self._clock() - self._sent_at
                resume(caller, reply)

    # What the parser says.

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._messages += 1

    def _read_head(self, data: bytes) -> Reply | None:
        """The head of the final answer, None while it is incomplete."""
        end = data.find(b"\r\n\r\n")
        if self._raw or not 0 <= end <= MAX_HEAD or data[9:10] == b"1":
            data = self._raw + data
            end = self._skip_interim(data)
            if end < 0:
                return None
            data, self._raw = self._raw, b""
        head = data[: end + 4]
        shapes = self._pool.shapes
        reply = shapes.recognise(head)
        if reply is None:
            reply = parse_reply_head(head)
            shapes.learn(head)
        self._reply = reply
        return reply

    def _skip_interim(self, raw: bytes) -> int:
        """Leave the final answer in ``_raw`` and return where its head ends, -1 if it has not come
        whole. Interim answers are skipped (RFC 9110 section 15.2)."""
        while True:
            if raw[:7] != b"HTTP/1."[: len(raw)]:  # llhttp skips empty lines
                raise Refusal(Fault.UPSTREAM_MALFORMED, "its status line is not HTTP/1.x")
            end = raw.find(b"\r\n\r\n")
            if end > MAX_HEAD or (end < 0 and len(raw) > MAX_HEAD):
                raise Refusal(Fault.UPSTREAM_MALFORMED, f"a head above {MAX_HEAD} bytes")
            if end < 0 or raw[9:10] != b"1":
                self._raw = raw
                return end
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise Refusal(Fault.UPSTREAM_MALFORMED, f"more than {MAX_INTERIM} interim answers")
            raw = raw[end + 4 :]

    def _weigh(self, size: int) -> None:
        self._overhead += size - sum(map(len, self._body))
        if self._overhead > MAX_OVERHEAD:
            raise Refusal(Fault.UPSTREAM_MALFORMED, "too much framing around too little data")

    def _flow(self, taker: Taker) -> None:
        body, self._body = self._body, []
        for piece in body:
            taker.write_reply(piece, self)

    def _complete(self, caller: Caller, reply: Reply) -> None:
        """The whole answer is there."""
        now = self._clock()
        taker, body = self._taker, self._body
        if taker is not None:
            self._flow(taker)
        else:
            reply.body = body[0] if len(body) == 1 else b"".join(body)
            caller.upstream_seconds = now - self._sent_at
        # An answer before the end of the request leaves the rest of it in the way.
        if (
            reply.close
            or self._sending
            or reply.length == UNTIL_CLOSE
            or self._transport.get_write_buffer_size()
        ):
            self._pool.closes = reply.close
            self._detach()
            self.close()
        else:
            self._pool.closes = False
            self._detach()
            self.go_on()
            self.reused = True
            self.idle_since = now
            self._pool.release(self)
        resume(caller, reply)

    def _fail(self, refusal: Refusal) -> None:
        caller = self._caller
        self._detach()
        self._abort()
        if caller is not None:
            interrupt(caller, refusal)

    def _detach(self) -> None:
        """Part with the caller, ready for another."""
        if self._upload is not None:
            self._upload.detach()
            self._upload = None
        if self._caller is not None:
            self._caller.custody = None
            self._caller = None
        self._taker = None
        self._reply = None
        self._body = []
        self._begun = self._messages = self._interim = self._overhead = 0
        self._raw = b""
