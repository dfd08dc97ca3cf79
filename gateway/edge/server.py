"""HTTP/1.1 towards the clients: one protocol per connection.

A connection reads one request at a time. What follows it in the buffer, a pipelined request, waits
there until the answer is on its way, so answers keep their order and a sender of a thousand
requests costs the memory of one (RFC 9112 section 9.3.2, reliability.md T16).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from gateway.core.faults import Fault, Refusal
from gateway.core.heads import RequestHead, judge_partial_head
from gateway.core.replies import Reply
from gateway.edge import responses
from gateway.edge.outgoing import Outgoing
from gateway.edge.partings import cut, has_left
from gateway.edge.peers import Peer
from gateway.edge.phases import CLOSED, FLUSHING, LINGERING, READING, SKIPPING, WALKING
from gateway.edge.uploads import IncomingBody
from gateway.engine.exchange import Exchange, Source
from gateway.engine.pipeline import ClientGone
from gateway.engine.reading import Known, KnownKind
from gateway.engine.routed import Routed
from gateway.engine.walking import interrupt, start

if TYPE_CHECKING:
    from gateway.edge.listener import Listener

# Bytes of pipelined requests that wait for their turn.
HELD = 65536
# The rest of a refused body that is read rather than the connection given up for it.
WORTH_READING = 65536
# How long after a client's FIN it is asked whether it is still there.
PROBE_AFTER = 0.25


def _cut_short() -> Refusal:
    return Refusal(Fault.BAD_REQUEST, "the body is shorter than declared")


class Downstream(asyncio.Protocol):
    """One client connection.

    ``due`` is when the listener's sweep has to look at it again, in monotonic seconds: one number
    that every step sets, instead of a timer that every step would have to cancel.
    """

    __slots__ = (
        "_at",
        "_closing",
        "_eof",
        "_exchange",
        "_held",
        "_known",
        "_linger_until",
        "_listener",
        "_outgoing",
        "_paused",
        "_pending",
        "_phase",
        "_probed",
        "_proceeded",
        "_served",
        "_transport",
        "_upload",
        "certificate",
        "due",
        "peer",
    )

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        # Until connection_made.
        self._transport = cast(asyncio.Transport, None)
        self._outgoing = cast(Outgoing, None)
        self.peer = cast(Peer, None)
        self.certificate: frozenset[str] = frozenset()
        self._phase = READING
        #: Bytes that came and were not looked at, or a part of a head: ``_held`` from ``_at`` on.
        #: Cutting off one of a thousand small requests would copy all the others.
        self._held = b""
        self._at = 0
        #: The head that was read last, to recognise the next by.
        self._known: Known | KnownKind | None = None
        #: The request at the front of them will be read in the next turn of the loop.
        self._pending = False
        self._exchange: Exchange | None = None
        #: The part of a request's body that is still to come.
        self._upload: IncomingBody | None = None
        self._served = 0
        #: The connection ends with the answer in hand.
        self._closing = False
        self._eof = False
        self._probed = False
        self._proceeded = False
        self._paused = False
        self._linger_until = 0.0
        self.due = 0.0

    def __repr__(self) -> str:
        return f"<Downstream {self.address}, {self._phase.name.lower()}, {self._served} served>"

    @property
    def address(self) -> str:
        return self.peer.address

    @property
    def is_served(self) -> bool:
        """The request in hand is at a container, alone or with others."""
        exchange = self._exchange
        return exchange is not None and (exchange.slot is not None or bool(exchange.upstream_name))

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        listener = self._listener
        self._transport = cast(asyncio.Transport, transport)
        self._outgoing = Outgoing(self._transport)
        self.certificate = transport.get_extra_info("certificate_names") or self.certificate
        name = transport.get_extra_info("peername")
        self.peer = Peer(listener.plane.forwarding, name[0] if name else "", listener.scheme)
        self.due = listener.clock() + listener.patience.head
        if not listener.opened(self) and self._phase is READING:
            self._eof = True  # not worth lingering for: the connection is wanted for others
            self._refuse(Refusal(Fault.CONNECTIONS))

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = CLOSED
        self._held = b""
        self._listener.closed(self)
        if self._exchange is not None:
            interrupt(self._exchange, ClientGone())

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase is READING and not self._pending:
            self._read(self._unread() + data if self._held else data, 0)
        elif self._upload is not None and phase is not LINGERING:
            self._feed(self._upload, data)
        elif phase is WALKING or phase is FLUSHING or phase is READING:
            self._put_back(self._unread() + data if self._held else data, 0)
        elif phase is LINGERING:
            # Many clients send all of their body before they look for an answer.
            soon = self._listener.clock() + self._listener.patience.linger
            self.due = min(soon, self._linger_until)

    def eof_received(self) -> bool:
        """The client sends no more. It may have left, or wait for its answer (half-close)."""
        phase = self._phase
        self._eof = True
        if phase is READING and self._unread().strip():
            self._next()
        elif phase is WALKING:
            self._schedule()
            if self._upload is not None and self._exchange is not None:
                self._closing = True
                interrupt(self._exchange, _cut_short())
        elif phase is FLUSHING:
            self._closing |= not self._unread().strip()
        else:
            return False
        return True

    def pause_writing(self) -> None:
        self._outgoing.stall(self._listener.clock() + self._listener.patience.write)
        self._schedule()

    def resume_writing(self) -> None:
        self._outgoing.flow()
        if self._phase is FLUSHING:
            self._go_on_after(self._listener.clock())
        else:
            self._schedule()

    # Reading.

    def _unread(self) -> bytes:
        return self._held[self._at :] if self._at else self._held

    def _put_back(self, data: bytes, at: int) -> None:
        """Keep what is not this request's, and let no more come while that is much."""
        self._held, self._at = data, at
        if len(data) - at > HELD:
            self.hold()

    def _read(self, data: bytes, at: int) -> None:
        """Begin the request that starts at ``data[at]`` if its head is complete."""
        listener = self._listener
        reader, known = listener.plane.reader, self._known
        found = known.recognise(data, at) if known is not None and known.reader is reader else None
        if found is not None:
            routed, length, end = found
        else:
            end = data.find(b"\r\n\r\n", at)
            if end < 0:
                self._await_head(data[at:])
                return
            end += 4
            if self.peer.forwarding is not listener.plane.forwarding:
                self.peer = self.peer.under(listener.plane.forwarding)
            try:
                routed, length = reader.read(data[at:end])
            except Refusal as refusal:
                self._reject_head(data[at:], refusal)
                return
            self._known = reader.known
        now = listener.clock()
        size = len(data) - end
        body: bytes | None
        self._held, self._at = b"", 0
        if size == length:
            body = data[end:]
        elif 0 <= length < size:
            body = data[end : end + length]
            self._put_back(data, end + length)
        else:
            body = None
        exchange = Exchange(self, routed, length, body, next(listener.ids), now)
        if body is None:
            self._expect_body(exchange, data[end:])
        self._phase = WALKING
        self._exchange = exchange
        self.peer.look_at(routed)
        self.due = exchange.deadline
        if self._upload is not None or self._eof or self._paused:
            self._schedule()
        start(exchange, listener.plane.pipeline.walk(exchange))

    def _await_head(self, data: bytes) -> None:
        """Part of a head. What is already wrong with it need not be waited for."""
        listener = self._listener
        if not self._held and self._served:
            self.due = listener.clock() + listener.patience.head
        self._held, self._at = data, 0
        refusal = judge_partial_head(data, listener.limits, self._eof)
        if refusal is not None:
            self._refuse(refusal)

    def _reject_head(self, data: bytes, refusal: Refusal) -> None:
        # RFC 9112 2.2: an empty line before the request line is to be ignored; two are tolerated.
        trimmed = data.removeprefix(b"\r\n").removeprefix(b"\r\n")
        if trimmed == data or trimmed.startswith(b"\r\n"):
            self._refuse(refusal)
        elif trimmed:
            self._held, self._at = b"", 0
            self._read(trimmed, 0)
        elif self._eof:
            self._end()
        else:
            self._held, self._at = data, 0

    def _expect_body(self, exchange: Exchange, rest: bytes) -> None:
        """Prepare for a body that is not here yet.

        What is wrong with it already is for the walk to say, once it knows who asks.
        """
        listener = self._listener
        endpoint = exchange.routed.endpoint
        limit = endpoint.body_limit if endpoint is not None else WORTH_READING
        length = exchange.length
        # A declared length is judged by the walk, which knows the limit to name.
        upload = IncomingBody(
            self, length, limit if length < 0 else length, listener.patience, exchange.started
        )
        self._proceeded = False
        try:
            self._put_back(upload.feed(rest, exchange.started), 0)
            if self._eof and not upload.complete:
                raise _cut_short()
        except Refusal as refusal:
            upload.refusal = refusal
            self._closing = True
        exchange.received = upload.size
        if upload.complete and upload.refusal is None:
            exchange.body = upload.take()
        else:
            exchange.upload = self._upload = upload

    def _feed(self, upload: IncomingBody, data: bytes) -> None:
        exchange = self._exchange
        now = self._listener.clock()
        try:
            self._put_back(upload.feed(data, now), 0)
        except Refusal as refusal:
            upload.discard()
            self._closing = True
            self._listener.tally.timeouts["body"] += refusal.fault is Fault.REQUEST_TIMEOUT
            if exchange is not None:
                interrupt(exchange, refusal)
            else:
                self._go_on_after(now)
            return
        if upload.complete:
            self._upload = None
            # Whoever made the client wait has nothing more to wait for.
            if len(self._held) - self._at <= HELD:
                self.go_on()
        if exchange is None:
            self._go_on_after(now)
            return
        exchange.received = upload.size
        self._schedule()
        upload.settle()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer a request that could not be read, and close."""
        listener = self._listener
        head = RequestHead(b"", 1)
        head.close = True
        routed = Routed(head, 0.0)
        routed.refusal = refusal
        self.peer.look_at(routed)
        self._held, self._at = b"", 0
        self._phase = WALKING
        self._exchange = exchange = Exchange(
            self, routed, 0, b"", next(listener.ids), listener.clock()
        )
        start(exchange, listener.plane.pipeline.walk(exchange))

    # What the walk asks.

    @property
    def forwarding(self) -> bytes:
        return self.peer.lines

    def proceed(self) -> None:
        exchange, upload = self._exchange, self._upload
        if exchange is not None and upload is not None:
            self._proceeded = True
            if exchange.routed.head.expects_continue and not upload.size:
                self._outgoing.write(responses.CONTINUE)

    def send_reply(self, exchange: Exchange, reply: Reply) -> None:
        connection = self._persistence(exchange)
        exchange.begun = True
        self._outgoing.write(
            responses.render_reply(exchange, reply, self._listener.date, connection)
        )

    def send_local(self, exchange: Exchange, status: int, lines: bytes) -> None:
        connection = self._persistence(exchange)
        exchange.begun = True
        date = self._listener.date
        self._outgoing.write(responses.render_local(exchange, status, lines, date, connection))

    def send_refusal(self, exchange: Exchange, refusal: Refusal) -> None:
        connection = self._persistence(exchange)
        exchange.begun = True
        self._outgoing.write(
            responses.render_refusal(exchange, refusal, self._listener.date, connection)
        )

    def begin_reply(self, exchange: Exchange, reply: Reply) -> None:
        self._closing |= not responses.is_delimited(exchange, reply)
        muted = exchange.routed.head.method == b"HEAD"
        self._outgoing.begin(responses.is_chunked(exchange, reply), muted)
        self.send_reply(exchange, reply)

    def write_reply(self, data: bytes, source: Source) -> None:
        if self._exchange is not None:
            self._outgoing.write_piece(self._exchange, data, source)

    def end_reply(self) -> None:
        self._outgoing.end()

    def abort(self) -> None:
        self._phase = CLOSED
        cut(self._transport)

    def finish(self, exchange: Exchange) -> None:
        self._exchange = None
        if self._phase is not CLOSED:
            self._go_on_after(exchange.ended)

    # Between requests.

    def _persistence(self, exchange: Exchange) -> bytes:
        """Decide whether the connection goes on after this answer, and say so in the answer
        (RFC 9112 section 9.3)."""
        head = exchange.routed.head
        listener = self._listener
        self._served += 1
        if (
            head.close
            or self._closing
            or listener.draining
            or self._served >= listener.requests_per_connection
            or (self._eof and not self._unread().strip())
            or (self._upload is not None and not self._worth_reading(self._upload, head))
        ):
            self._closing = True
            return responses.CLOSE
        return responses.KEEP if head.minor == 0 else b""

    def _worth_reading(self, upload: IncomingBody, head: RequestHead) -> bool:
        """Whether to read the rest of a body that nobody wants, for the connection's sake."""
        if head.expects_continue and not self._proceeded:
            return False  # it may or may not be sent now: only closing is unambiguous
        return upload.left is not None and upload.left <= WORTH_READING

    def _go_on_after(self, now: float) -> None:
        """An answer has been written; see what the connection needs next."""
        if self._closing:
            self._close(now)
        elif self._upload is not None:
            self._phase = SKIPPING
            self._upload.discard()
            self._schedule()
        elif self._outgoing.due:
            self._phase = FLUSHING
            self._schedule()
        else:
            self._phase = READING
            self.due = now + self._listener.patience.idle
            if self._held and not self._unread().strip(b"\r\n"):
                self._held, self._at = b"", 0  # an empty line after a body: old clients send one
            if self._held:
                self._pending = True
                self._listener.tally.pipelined += 1
                self._listener.loop.call_soon(self._next)
            elif self._listener.closing:
                self.shut()
            elif self._paused:
                self.go_on()

    def _next(self) -> None:
        self._pending = False
        if self._phase is READING and self._held:
            held, at = self._held, self._at
            self._held, self._at = b"", 0
            self._read(held, at)
            if len(self._held) - self._at <= HELD:
                self.go_on()

    def hold(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()
            self._schedule()

    def go_on(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
            if self._upload is not None:
                self._upload.restart(self._listener.clock())
                self._schedule()

    def _close(self, now: float) -> None:
        """Close after what is written has gone out.

        Closing a socket with unread input makes the kernel send RST, which may destroy the answer
        before the client has read it. So unless the client has finished, only our side is shut,
        and what comes is thrown away for a while (RFC 9112 section 9.6).
        """
        patience = self._listener.patience
        if self._eof or self._transport.is_closing():
            self._end()
            return
        if self._transport.get_write_buffer_size():
            self._phase = FLUSHING
            self._closing = True
            # From here on, we are told when the last byte is out.
            self._transport.set_write_buffer_limits(0)
            self.due = self._outgoing.due
            return
        self._phase = LINGERING
        self._held, self._at = b"", 0
        self._upload = None
        self.due = now + patience.linger
        self._linger_until = now + patience.linger * 10
        self._transport.write_eof()
        self.go_on()

    # The sweep.

    def _schedule(self) -> None:
        """Work out when to look again, in the states that wait for more than one thing."""
        exchange = self._exchange
        times = [exchange.deadline] if exchange is not None else []
        if self._upload is not None and not self._paused:
            times.append(self._upload.due)
        if self._outgoing.due:
            times.append(self._outgoing.due)
        if exchange is not None and (self._paused or (self._eof and not exchange.begun)):
            times.append(self._listener.clock() + PROBE_AFTER)
        self.due = min(times, default=self.due)

    def shut(self) -> None:
        """The gateway is stopping: close if nothing is being asked."""
        if self._phase is READING and not self._unread().strip():
            self._end()

    def give_up(self) -> None:
        """The gateway has waited long enough for the request in hand."""
        self._closing = True
        if self._exchange is not None:
            interrupt(self._exchange, Refusal(Fault.DRAINING))

    def _end(self) -> None:
        """Close once what is written has been taken, which may take its time."""
        self._phase = CLOSED
        self.due = self._listener.clock() + self._listener.patience.write
        self._transport.close()

    def expire(self, now: float) -> None:
        """Something took too long, or is due to be looked at."""
        timeouts = self._listener.tally.timeouts
        phase = self._phase
        if phase is READING:
            if self._unread().strip():
                timeouts["head"] += 1
                self._refuse(Refusal(Fault.REQUEST_TIMEOUT, "the header did not arrive in time"))
            else:
                timeouts["idle"] += 1
                self._end()
        elif phase is WALKING and self._exchange is not None:
            self._expire_walk(self._exchange, now)
        elif phase is SKIPPING:
            timeouts["body"] += 1
            self._close(now)
        elif phase is LINGERING:
            # Not broken off: the kernel may still have much of the answer for a slow client.
            self._end()
        else:
            timeouts["write"] += phase is FLUSHING
            self.abort()

    def _expire_walk(self, exchange: Exchange, now: float) -> None:
        timeouts = self._listener.tally.timeouts
        late = now >= exchange.deadline
        upload = self._upload
        if upload is not None and not self._paused and (late or now >= upload.due):
            timeouts["body"] += 1
            self._closing = True
            why = Refusal(Fault.REQUEST_TIMEOUT, "the body did not arrive in time")
            interrupt(exchange, why)
        elif late:
            interrupt(exchange, Refusal(Fault.DEADLINE, "no answer within the timeout"))
        elif self._outgoing.due and now >= self._outgoing.due:
            timeouts["write"] += 1
            self.abort()
            interrupt(exchange, ClientGone())
        else:
            self._probe(exchange)
            self._schedule()

    def _probe(self, exchange: Exchange) -> None:
        """Find out whether a client that nothing is heard of waits for its answer or is gone.

        While its bytes are left in the kernel, so is the news that it has broken the connection.
        After FIN, both look the same until something is sent to it: one that is gone answers with
        RST. An interim 100 is harmless to one that waits (RFC 9110 section 15.2: a client must be
        able to take one it did not ask for). HTTP/1.0 knows none, so there the request runs on.
        """
        if not self._paused:
            if not self._eof or exchange.begun or exchange.routed.head.minor == 0:
                return
            if not self._probed:
                self._probed = True
                self._outgoing.write(responses.CONTINUE)
                return
        if has_left(self._transport):
            self.abort()
            interrupt(exchange, ClientGone())
