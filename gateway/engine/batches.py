"""A merged call on its way: one request to a container that stands for many.

Towards the connection it is what a single request is. Towards the requests in it, it keeps one
promise: each gets what it would have got alone. Where that is in question (the call failed, or its
answer cannot be cut up), smaller groups are sent until each answer is beyond question, and in the
end the request itself, byte for byte (design.md section 4, peers.md 2.6).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from gateway.core.confidence import EVERYBODY_GUILTY, NOBODY_GUILTY
from gateway.core.faults import Fault, Refusal
from gateway.core.halving import Halving
from gateway.core.lanes import Flush, Ticket
from gateway.core.replies import Reply
from gateway.core.rows import merge
from gateway.core.splitting import split_answer
from gateway.core.verdicts import HALVE, SHARE, SHRINK, SPLIT, Verdict, judge, shared_lines
from gateway.engine.carriers import Carrier
from gateway.engine.exchange import Exchange
from gateway.engine.framing import lone_head, merged_head, relocate
from gateway.engine.pools import Pool
from gateway.engine.walking import interrupt, resume

if TYPE_CHECKING:
    from gateway.engine.batching import Batcher, Family
    from gateway.engine.slots import Slots

_log = logging.getLogger("gateway")

Member = Ticket[Exchange]


class Deserted(Exception):
    """Thrown into a batch when everybody in it has left."""


class Batch(Carrier):
    """Carries a group of requests to a container.

    It has a place at ``pool`` and gives it back.
    """

    __slots__ = (
        "_batcher",
        "_begun",
        "_deserters",
        "_family",
        "_flush",
        "_members",
        "_pool",
        "_present",
        "_rows",
        "_slots",
        "_tried",
        "name",
    )

    def __init__(
        self,
        batcher: Batcher,
        slots: Slots,
        family: Family,
        members: list[Member],
        tried: Collection[Pool],
        pool: Pool,
        flush: Flush,
    ) -> None:
        """
        :param members: two or more, of one lane, in order.
        :param tried: backends that were of no use to them.
        """
        super().__init__(batcher.clock)
        self._batcher = batcher
        self._slots = slots
        self._family = family
        self._members = members
        self._tried = tried
        self._pool: Pool | None = pool
        self._flush = flush
        self.name = next(batcher.ids).decode()
        self._begun = False
        self._deserters = 0
        self._rows = sum(member.rows for member in members)
        #: Who still waits for an answer.
        self._present = {member.item for member in members}
        batcher.aboard += len(members)
        for exchange in self._present:
            exchange.custody = self

    def __repr__(self) -> str:
        return f"<Batch {self.name}, {len(self._present)} of {len(self._members)} present>"

    def abandon(self, exchange: Exchange) -> None:
        """Somebody has left. The others are not touched; when nobody is left, neither is the
        container any more."""
        self._present.discard(exchange)
        self._deserters += 1
        if not self._present and self.custody is not None:
            interrupt(self, Deserted())

    async def run(self) -> None:
        """Send the group as one call, and see to it that everybody gets an answer."""
        try:
            members = self._members
            reply = await self._send_merged(members)
            verdict = self._judge(reply)
            pieces = self._split(verdict, reply, members)
            if pieces is not None:
                self._learn()
                # Before the answers go out: the container is idle, and they can wait.
                self._release()
                self._deliver_pieces(members, pieces, reply)
            elif verdict is SHARE:
                if reply.status == HTTPStatus.GATEWAY_TIMEOUT:
                    self._batcher.limit.shrink(self._rows)
                self._release()
                self._deliver_copies(members, reply)
            else:
                if verdict is SHRINK:
                    self._batcher.limit.shrink(self._rows)
                    self._give_up_the_late()
                await self._isolate(verdict)
        except Exception as error:  # noqa: BLE001  whatever it is, everybody gets an answer
            self._fail(error)
        finally:
            self._release()

    def _learn(self) -> None:
        """The call went well, and took so long for so many rows."""
        batcher = self._batcher
        now = self.clock()
        batcher.limit.observe(self._rows, self.upstream_seconds, self._flush is Flush.FULL, now)
        self._family.confidence.good(now)

    async def _isolate(self, verdict: Verdict) -> None:
        """Find who is to blame by halving; everybody else gets its own answer on the way."""
        batcher, members = self._batcher, self._members
        batcher.tally.isolations += 1
        plan = Halving(len(members))
        innocent = 0
        while not plan.exhausted:
            plan.discard(at for at, member in enumerate(members) if not self._waits(member))
            group = plan.take()
            if group is None:
                break
            batcher.tally.extra_calls += 1
            chosen = [members[at] for at in group]
            try:
                good = await (self._try_again(chosen) if len(chosen) > 1 else self._hear(*chosen))
            except Refusal as refusal:
                if refusal.fault is Fault.NO_BACKEND:
                    raise
                # It says nothing of any row, and nothing of the other groups.
                self._tell(chosen, refusal)
                good = True
            else:
                innocent += good
            if good:
                plan.settle(group)
            elif len(group) > 1:
                plan.halve(group)
            else:
                plan.blame(group)
        left = any(map(self._waits, members))
        self._send_back(members)
        if left or self._deserters:
            return  # the guilty one may be among those who were not heard
        if not plan.guilty and innocent and verdict is not SHRINK:
            batcher.strike(self._family, NOBODY_GUILTY)
            if self._family.confidence.strikes > 1:
                # Not a failure of the moment. Perhaps there were only too many of them.
                batcher.limit.shrink(self._rows)
        elif plan.guilty and not innocent:
            batcher.strike(self._family, EVERYBODY_GUILTY)

    async def _try_again(self, members: Sequence[Member]) -> bool:
        """Send a smaller group. Whether that gave everybody in it an answer."""
        if sum(member.rows for member in members) in self._family.frame.lengths:
            return False  # see Batcher.board
        reply = await self._send_merged(members)
        verdict = self._judge(reply)
        pieces = self._split(verdict, reply, members)
        if pieces is not None:
            self._deliver_pieces(members, pieces, reply)
        elif verdict is SHARE:
            self._deliver_copies(members, reply)
        return pieces is not None or verdict is SHARE

    async def _hear(self, member: Member) -> bool:
        """Send one request alone, and answer it. Whether the answer speaks for it."""
        reply = await self._send_alone(member)
        good = self._is_proper(member, reply)
        if reply.body is not None:
            self._deliver(member, reply)
        return good

    # One call.

    async def _send_merged(self, members: Sequence[Member]) -> Reply:
        pool = self._place()
        body = merge([member.freight for member in members])
        family = self._family
        head = merged_head(family.line, family.fields, pool, self.name, len(body))
        return await self.call(pool, head, body)

    async def _send_alone(self, member: Member) -> Reply:
        """Exactly what the request would have been without any batch."""
        pool = self._place()
        exchange = member.item
        exchange.attempts += 1
        body = exchange.body or b""
        reply = await self.call(pool, lone_head(exchange, pool, body), body)
        if reply.locations:
            relocate(reply, pool, exchange.routed.cut)
        return reply

    def _place(self) -> Pool:
        if self._pool is None:
            raise AssertionError("a batch has a place as long as it has something to send")
        return self._pool

    def _release(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        batcher = self._batcher
        batcher.aboard -= len(self._members)
        batcher.returning = len(self._present)
        self._slots.give_back(pool)
        batcher.returning = 0

    # What an answer means.

    def _judge(self, reply: Reply) -> Verdict:
        if reply.body is None:
            return HALVE  # each will get as much as it is as a stream of its own
        return judge(reply.status, b"".join((*reply.lines, *reply.locations)), reply.body)

    def _split(
        self, verdict: Verdict, reply: Reply, members: Sequence[Member]
    ) -> list[bytes] | None:
        if verdict is not SPLIT or reply.body is None:
            return None
        return split_answer(reply.body, [member.rows for member in members])

    def _is_proper(self, member: Member, reply: Reply) -> bool:
        """Whether an answer to one request is of the kind that can be cut out of a merged one."""
        return self._split(self._judge(reply), reply, [member]) is not None

    # Who gets what.

    def _deliver_pieces(
        self, members: Sequence[Member], pieces: Sequence[bytes], reply: Reply
    ) -> None:
        line = b"".join(reply.lines)
        if self._batcher.rules.debug_header:
            name, rows = self.name.encode(), sum(member.rows for member in members)
            line += b"x-gateway-batch: %b; requests=%d; rows=%d\r\n" % (name, len(members), rows)
        reply.lines = [line]
        # One object for all: an answer is written before its walk lets go of it.
        for member, piece in zip(members, pieces, strict=True):
            reply.body = piece
            self._deliver(member, reply)

    def _deliver_copies(self, members: Sequence[Member], reply: Reply) -> None:
        """Answer everybody with what no row had a part in."""
        reply.lines = [shared_lines(b"".join(reply.lines))]
        for member in members:
            self._deliver(member, reply)

    def _deliver(self, member: Member, reply: Reply) -> None:
        exchange = member.item
        if exchange not in self._present:
            return
        self._present.remove(exchange)
        exchange.custody = None
        exchange.upstream_seconds = self.upstream_seconds
        exchange.attempts = exchange.attempts or 1
        try:
            resume(exchange, reply)
        except Exception:  # noqa: BLE001  nobody's trouble is another's
            _log.exception("request %s failed at its end", exchange.request_id.decode())

    def _tell(self, members: Sequence[Member], refusal: Refusal) -> None:
        for member in members:
            exchange = member.item
            if self._waits(member):
                self._present.discard(exchange)
                exchange.custody = None
                try:
                    interrupt(exchange, refusal.anew())
                except Exception:  # noqa: BLE001  nobody's trouble is another's
                    _log.exception("request %s failed at its end", exchange.request_id.decode())

    def _give_up_the_late(self) -> None:
        """Half the rows take half the time at best: whoever has less is told now."""
        soonest = self.clock() + self.upstream_seconds / 2
        late = [member for member in self._members if member.item.deadline < soonest]
        self._tell(late, Refusal(Fault.DEADLINE, "no answer within the timeout"))

    def _send_back(self, members: Sequence[Member], tried: Collection[Pool] | None = None) -> None:
        """Let those who are left queue again: each alone, unless they found no container at all.
        Left are those for whom halving is too dear, or whose own answer is too large to hold."""
        left = [member for member in members if self._waits(member)]
        self._present.clear()
        # Nor do they go by what was known before the configuration changed.
        if tried is None or self._slots.batcher is not self._batcher:
            left = [Ticket(member.item, member.since, member.deadline) for member in left]
        # Before the place is given back, or whoever came after them would get it.
        self._slots.put_back(left, self._tried if tried is None else tried)
        self._release()

    def _fail(self, error: Exception) -> None:
        """The call could not be made, or not be finished."""
        if not isinstance(error, Refusal):
            self.break_off()
            if not isinstance(error, Deserted):
                _log.error("batch %s failed inside the gateway", self.name, exc_info=error)
                self._tell(self._members, Refusal(Fault.INTERNAL))
            return
        self.custody = None  # whoever refused it has parted with it
        if error.fault is Fault.NO_BACKEND and self._pool:
            self._send_back(self._members, {*self._tried, self._pool})
        else:
            self._release()
            self._tell(self._members, error)

    def _waits(self, member: Member) -> bool:
        return member.item in self._present

    def set_out(self, pool: Pool) -> None:
        """Take notes, the first time."""
        if self._begun:
            return
        self._begun = True
        tally = self._batcher.tally
        tally.rows.observe(self._rows)
        tally.requests.observe(len(self._members))
        tally.flushes[self._flush.value] += 1
        for member in self._members:
            member.item.upstream_name = pool.name
