"""A request of very many rows, cut into parts for several containers, and answered as one.

The parts wait and travel like requests of their own. The answers are put together again only if
they are, without doubt, what one call would have been answered; in any other case the request goes
whole, as if nothing had happened. A part that finds no container, or none in time, ends the others
at once: no container works for an answer that nobody will get.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from gateway.core.comparing import compare
from gateway.core.confidence import DEPENDENT, NOT_SPLITTABLE, State
from gateway.core.faults import Fault, Refusal
from gateway.core.replies import Reply
from gateway.core.rows import Rows, cut, merge
from gateway.core.splitting import join_answers
from gateway.core.verdicts import SPLIT, judge
from gateway.engine.batching import Batcher, Family
from gateway.engine.carriers import Carrier
from gateway.engine.exchange import Exchange
from gateway.engine.framing import lone_head, relocate
from gateway.engine.pools import Pool
from gateway.engine.slots import Slots
from gateway.engine.walking import interrupt, park, resume, start

_log = logging.getLogger("gateway")

# Bytes of a row and what separates it from the next: `[],`.
_SMALLEST = 3


class Withdrawn(Exception):
    """Thrown into a part that is of no use any more."""


class Part(Carrier):
    """Some rows of a request, or all of them, on their way to a container."""

    __slots__ = ("_body", "_scatter", "deadline", "queue_seconds", "reply", "request_id")

    def __init__(self, scatter: Scatter, body: bytes) -> None:
        super().__init__(scatter.clock)
        exchange = scatter.exchange
        self.request_id = exchange.request_id
        self.deadline = exchange.deadline
        self.queue_seconds = 0.0
        self.reply: Reply | None = None
        self._scatter = scatter
        self._body = body

    def __repr__(self) -> str:
        return f"<Part of {self.request_id.decode()}, {len(self._body)} bytes>"

    async def run(self) -> None:
        """Be answered, or see to it that the others hear of the failure."""
        try:
            self.reply = await self._score()
        except Withdrawn:
            self.break_off()
        except Refusal as refusal:
            self.custody = None
            self._scatter.fail(refusal)
        except Exception:  # noqa: BLE001  somebody waits for all of them
            _log.exception("a part of request %s failed", self.request_id.decode())
            self.break_off()
            self._scatter.fail(Refusal(Fault.INTERNAL))
        else:
            self._scatter.settle()

    async def _score(self) -> Reply:
        slots, exchange = self._scatter.slots, self._scatter.exchange
        tried: list[Pool] = []
        while True:
            pool = slots.take(tried)
            if pool is None:
                pool = slots.wait_alone(self, tried) or await park()
            try:
                self.custody = None
                exchange.upstream_name = pool.name
                head = lone_head(exchange, pool, self._body)
                reply = await self.call(pool, head, self._body)
                # `locations` stay, for they are judged.
                relocate(reply, pool, exchange.routed.cut)
                return reply
            except Refusal as refusal:
                if refusal.fault is not Fault.NO_BACKEND:
                    raise
                self.custody = None
                tried.append(pool)
            finally:
                slots.give_back(pool)


class Scatter:
    """The parts of one request, which waits for all of them."""

    __slots__ = ("_failure", "_left", "_parts", "_waited_for", "clock", "exchange", "slots")

    def __init__(self, exchange: Exchange, slots: Slots, batcher: Batcher) -> None:
        self.exchange = exchange
        self.slots = slots
        self.clock = batcher.clock
        self._parts: list[Part] = []
        self._left = 0
        self._failure: Refusal | None = None
        self._waited_for = False

    def __repr__(self) -> str:
        return f"<Scatter of {len(self._parts)} parts, {self._left} on their way>"

    async def gather(self, bodies: Sequence[bytes]) -> list[Reply]:
        """The answers to all bodies, in their order.

        :raises Refusal: of the first that failed.
        """
        self._parts = [Part(self, body) for body in bodies]
        self._left = len(self._parts)
        for part in self._parts:
            if self._failure is None:
                start(part, part.run())
        if self._failure is None and self._left:
            self.exchange.custody = self
            self._waited_for = True
            await park()
            self.exchange.custody = None
        if self._failure is not None:
            raise self._failure
        self.exchange.upstream_seconds = max(part.upstream_seconds for part in self._parts)
        return [part.reply for part in self._parts if part.reply is not None]

    def abandon(self, exchange: Exchange) -> None:
        """Nobody waits for the answer any more."""
        self._waited_for = False
        self._withdraw()

    def settle(self) -> None:
        """A part was answered."""
        self._left -= 1
        if not self._left:
            self._go_on()

    def fail(self, refusal: Refusal) -> None:
        """A part cannot be answered, and so nor can the whole."""
        if self._failure is None:
            self._failure = refusal
            self._withdraw()
            self._go_on()

    def _withdraw(self) -> None:
        for part in self._parts:
            # The one that failed is still running, and waits nowhere.
            if part.walk is not None and part.custody is not None:
                interrupt(part, Withdrawn())

    def _go_on(self) -> None:
        if self._waited_for:
            self._waited_for = False
            resume(self.exchange, None)


async def scatter(exchange: Exchange, slots: Slots) -> Reply | None:
    """The answer to a request that was cut up; None if it has to go whole.

    :raises Refusal: what ended it.
    """
    batcher, body = slots.batcher, exchange.body
    if batcher is None or not body or len(body) < batcher.rules.max_rows * _SMALLEST:
        return None
    rows = batcher.rows(exchange)
    if rows is None or rows.count <= batcher.rules.max_rows:
        return None
    number = -(-rows.count // batcher.rules.max_rows)
    parts = cut(rows, -(-rows.count // number))
    if len(parts) < 2 or any(part.count in rows.frame.lengths for part in parts):
        return None
    family = batcher.family(exchange, rows.frame)
    confidence = family.confidence
    if not confidence.admits(batcher.clock()):
        return None
    if confidence.state is State.ON and family.only is None:
        return await _trusting(exchange, slots, batcher, family, parts)
    if confidence.state is State.ON:
        confidence.doubt()
    return await _proving(exchange, slots, batcher, family, parts)


async def _trusting(
    exchange: Exchange, slots: Slots, batcher: Batcher, family: Family, parts: Sequence[Rows]
) -> Reply | None:
    batcher.tally.scattered += 1
    replies = await Scatter(exchange, slots, batcher).gather([merge([part]) for part in parts])
    joined = _join(replies, parts)
    now = batcher.clock()
    if joined is not None:
        family.confidence.good(now)
    elif all(reply.status == 200 for reply in replies):
        batcher.strike(family, NOT_SPLITTABLE)
    return joined


async def _proving(
    exchange: Exchange, slots: Slots, batcher: Batcher, family: Family, parts: Sequence[Rows]
) -> Reply | None:
    """Have the parts scored, then the whole, and answer with the whole."""
    confidence, tally = family.confidence, batcher.tally
    confidence.begin_proof()
    result = "inconclusive"
    try:
        try:
            gathered = Scatter(exchange, slots, batcher)
            replies = await gathered.gather([merge([part]) for part in parts])
        except Refusal as refusal:
            if refusal.fault is Fault.DEADLINE:
                raise
            return None
        joined = _join(replies, parts)
        (whole,) = await Scatter(exchange, slots, batcher).gather([exchange.body or b""])
        if whole.body is None:
            return None
        if joined is not None and whole.status == joined.status:
            if compare(whole.body, joined.body or b"", batcher.rules.tolerance) is None:
                confidence.proved(batcher.clock())
                family.only = None
                result = "proved"
            else:
                batcher.distrust(family, DEPENDENT)
                result = "disproved"
        return whole
    finally:
        if result == "inconclusive":
            batcher.give_up_proof(family)
        else:
            tally.proofs[result] += 1


def _join(replies: Sequence[Reply], parts: Sequence[Rows]) -> Reply | None:
    """What one call would have been answered; None if that is not certain."""
    bodies: list[bytes] = []
    for reply in replies:
        lines = b"".join((*reply.lines, *reply.locations))
        if reply.body is None or judge(reply.status, lines, reply.body) is not SPLIT:
            return None
        bodies.append(reply.body)
    joined = join_answers(bodies, [part.count for part in parts])
    return None if joined is None else replies[0].with_body(joined)
