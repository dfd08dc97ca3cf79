"""Comparing what merged requests would be told, while none is merged (``batching: shadow``).

Every request is served as if there were no batching. Of a small share of them the rows are kept
with the answer that the container gave; when a few are together that could share a call, they are
sent once more, merged, in the background, and each part of that answer is compared with what the
request was told alone. Nobody waits for that: it is done after the answer has gone out, only with a
place that is free while nobody queues for one, one call at a time, and with long rests.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from gateway.core.comparing import Difference, compare
from gateway.core.confidence import State
from gateway.core.faults import Refusal
from gateway.core.proofs import Proof
from gateway.core.replies import Reply
from gateway.core.rows import Rows, merge
from gateway.core.splitting import split_answer
from gateway.core.statistics import ShadowTally
from gateway.core.verdicts import HALVE, SHRINK, SPLIT, judge
from gateway.engine.batching import PROOF, Batcher, Family
from gateway.engine.carriers import Carrier
from gateway.engine.exchange import Exchange
from gateway.engine.framing import merged_head
from gateway.engine.pools import Pool
from gateway.engine.walking import interrupt, start

if TYPE_CHECKING:
    from gateway.engine.slots import Slots

_log = logging.getLogger("gateway")

# What is kept at most: samples, bytes of a request and of an answer, bytes of all.
MOST = 64
LARGEST_REQUEST = 1 << 17
LARGEST_ANSWER = 1 << 14
_MOST_BYTES = 4 << 20
# Bytes of answers that are compared at once. These take 3 ms where every number has to be looked
# at, and all requests wait meanwhile.
COMPARED = 2 * LARGEST_ANSWER
# Seconds that a sample is kept: what the container says may change with the model.
KEPT = 30.0
# Seconds that samples wait for more of their kind.
_PATIENCE = 2.0
# Seconds between two looks at whether a call can be made.
LOOK = 0.05
# Seconds that a call may take.
LONGEST = 10.0
# After a call there is none for so many times as long as it took.
REST = 20.0

_NUMBER_OR_SIZE = re.compile(
    r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|-?Infinity|NaN|(?:list|object) of [0-9]+"
)
_HIDDEN = "(not shown)"


class Withdrawn(Exception):
    """Thrown into a call whose result is not waited for any longer."""


@dataclass(slots=True, eq=False)
class Sample:
    """A request, and what it was told. ``since`` is in monotonic seconds."""

    lane: Hashable
    rows: Rows
    alone: bytes
    since: float
    timeout: float

    @property
    def size(self) -> int:
        return len(self.rows.inner) + len(self.alone)

    @property
    def family(self) -> Family:
        return cast(Family, self.lane[0])  # type: ignore[index]


class Trial(Carrier):
    """One merged call in the background. It has a place at ``pool`` and gives it back."""

    __slots__ = ("_pool", "_shadow", "_slots", "began", "deadline", "group")

    def __init__(self, shadow: Shadow, slots: Slots, group: Sequence[Sample], pool: Pool) -> None:
        """:param group: two or more, of one lane."""
        super().__init__(shadow.batcher.clock)
        self._shadow = shadow
        self._slots = slots
        self._pool = pool
        self.group = group
        self.began = self.clock()
        #: When it is given up.
        self.deadline = self.began + min(LONGEST, *(sample.timeout for sample in group))

    def __repr__(self) -> str:
        return f"<Trial of {len(self.group)} requests>"

    async def run(self) -> None:
        reply: Reply | None = None
        try:
            reply = await self._send()
        except Withdrawn:
            self.break_off()
        except Refusal:
            self.custody = None
        except Exception:  # noqa: BLE001  no request has anything to do with it
            _log.exception("a call of %s for comparison failed", self._shadow.batcher.name)
            self.break_off()
        self._shadow.conclude(self, reply)

    async def _send(self) -> Reply:
        try:
            batcher, family = self._shadow.batcher, self.group[0].family
            body = merge([sample.rows for sample in self.group])
            name = next(batcher.ids).decode()
            head = merged_head(family.line, family.fields, self._pool, name, len(body))
            return await self.call(self._pool, head, body)
        finally:
            # Before anything is compared: somebody may have come meanwhile.
            self._slots.give_back(self._pool)


class Shadow:
    """Tries for one deployment what merging would do."""

    __slots__ = (
        "_draw",
        "_resting_until",
        "_samples",
        "_share",
        "_slots",
        "_stopped",
        "_timer",
        "_trial",
        "batcher",
        "difference",
        "tally",
    )

    def __init__(
        self,
        batcher: Batcher,
        slots: Slots,
        draw: Callable[[], float],
        tally: ShadowTally | None = None,
    ) -> None:
        """
        :param slots: of the deployment; they know nothing of the batcher.
        :param draw: a random number in [0, 1).
        :param tally: to go on counting in; a new one if absent.
        """
        self.batcher = batcher
        self.tally = ShadowTally() if tally is None else tally
        #: The first that was found, without anything but numbers of what was answered.
        self.difference: Difference | None = None
        self._slots = slots
        self._draw = draw
        self._share = batcher.rules.sample / 100
        #: In the order of their coming.
        self._samples: list[Sample] = []
        self._trial: Trial | None = None
        self._resting_until = 0.0
        #: Runs as long as there is anything to do.
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def __repr__(self) -> str:
        return f"<Shadow of {self.batcher.name}, {len(self._samples)} samples, {self._trial}>"

    def see(self, exchange: Exchange, reply: Reply) -> None:
        """A request was answered. Never fails."""
        if self._draw() >= self._share or self._stopped:
            return
        try:
            self._remember(exchange, reply)
        except Exception:  # noqa: BLE001  the request has its answer already
            _log.exception("%s: a request could not be kept for comparison", self.batcher.name)

    def stop(self) -> None:
        """Give up whatever is under way. Nothing is compared any more."""
        self._stopped = True
        self._drop(len(self._samples))
        if self._trial is not None:
            interrupt(self._trial, Withdrawn())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Keeping.

    def _remember(self, exchange: Exchange, reply: Reply) -> None:
        results, now = self.tally.results, self.batcher.clock()
        body, alone = exchange.body or b"", reply.body
        ticket = None
        small = len(body) <= LARGEST_REQUEST and alone is not None and len(alone) <= LARGEST_ANSWER
        if reply.status == 200 and small:
            ticket = self.batcher.ticket(exchange, now)
        if ticket is None or alone is None:
            results["ineligible"] += 1
            return
        sample = Sample(ticket.lane, ticket.freight, alone, now, exchange.routed.timeout)
        if _is_off(sample, now):
            results["dropped"] += 1
            return
        self._samples.append(sample)
        while len(self._samples) > MOST or sum(s.size for s in self._samples) > _MOST_BYTES:
            self._drop(1)
        if self._timer is None:
            self._schedule()

    def _drop(self, count: int) -> None:
        """Forget so many of the oldest."""
        del self._samples[:count]
        self.tally.results["dropped"] += count

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self.batcher.clock()
        if self._trial is not None and now >= self._trial.deadline:
            interrupt(self._trial, Withdrawn())
        self._drop(sum(now - sample.since >= KEPT for sample in self._samples))
        if self._trial is None and now >= self._resting_until:
            self._try(now)
        if self._samples or self._trial is not None:
            self._schedule()

    # Trying.

    def _try(self, now: float) -> None:
        """Make a call, if there is anything to compare and a place that nobody wants."""
        group = self._choose(now)
        if not group or self._slots.waiting:
            return
        pool = self._slots.take(())
        if pool is None:
            return
        self._samples = [sample for sample in self._samples if sample not in group]
        self.tally.calls += 1
        confidence = group[0].family.confidence
        if confidence.state is not State.ON:
            confidence.begin_proof()
        self._trial = Trial(self, self._slots, group, pool)
        start(self._trial, self._trial.run())

    def _choose(self, now: float) -> list[Sample]:
        """Requests to be sent together; empty if it is too early for any."""
        lanes: dict[Hashable, list[Sample]] = {}
        for sample in self._samples:
            lanes.setdefault(sample.lane, []).append(sample)
        for lane in lanes.values():
            if lane[0].family.confidence.admits(now):
                group = self._pick(lane, now - lane[0].since)
                if len(group) > 1:
                    return group
        return []

    def _pick(self, lane: list[Sample], waited: float) -> list[Sample]:
        # Who looks at the other rows is not found out by rows that are all the same: different
        # ones go first, and others only when it seems that there will be no different ones.
        first: dict[bytes, Sample] = {}
        for sample in lane:
            first.setdefault(sample.rows.inner, sample)
        different = list(first.values())
        if waited < (KEPT / 2 if len(different) < 2 else _PATIENCE if len(lane) < PROOF else 0.0):
            return []
        group = [*different, *(sample for sample in lane if sample not in different)][:PROOF]
        while len(group) > 1 and not self._may_share(group):
            group.pop()
        return group

    def _may_share(self, group: list[Sample]) -> bool:
        rows = sum(sample.rows.count for sample in group)
        size = sum(len(sample.rows.inner) + 1 for sample in group)
        answers = sum(len(sample.alone) for sample in group)
        # Two at least: where calls take longer than they should, there would never be another.
        most = self.batcher.cap if len(group) > 2 else self.batcher.rules.max_rows
        # An array beside the rows that is as long as they are would seem to belong to them.
        beside = group[0].rows.frame.lengths
        return (
            rows <= most
            and size <= self.batcher.max_bytes
            and answers <= COMPARED
            and rows not in beside
        )

    # What came of it.

    def conclude(self, trial: Trial, reply: Reply | None) -> None:
        """A call has ended. Never fails.

        :param reply: None if there was no answer.
        """
        now = self.batcher.clock()
        self._trial = None
        self._resting_until = now + REST * (now - trial.began)
        family = trial.group[0].family
        results = ["incomparable"] * len(trial.group)
        try:
            if reply is not None and reply.body is not None:
                results = self._judge(trial, reply, reply.body, now)
        except Exception:  # noqa: BLE001  whoever brought the answer has nothing to do with it
            _log.exception("%s: answers could not be compared", self.batcher.name)
        finally:
            for result in results:
                self.tally.results[result] += 1
            family.confidence.abandon_proof(now)  # unless it came to a conclusion

    def _judge(self, trial: Trial, reply: Reply, body: bytes, now: float) -> list[str]:
        """What is found for each request of the group."""
        group, family, batcher = trial.group, trial.group[0].family, self.batcher
        counts = [sample.rows.count for sample in group]
        verdict = judge(reply.status, b"".join((*reply.lines, *reply.locations)), body)
        if verdict is SHRINK:
            batcher.limit.shrink(sum(counts))
        if verdict not in (SPLIT, HALVE):
            return ["incomparable"] * len(group)  # no row had a part in that answer
        pieces = split_answer(body, counts) if verdict is SPLIT else None
        proof = Proof(batcher.rules.tolerance, pieces is not None)
        results = []
        for at, sample in enumerate(group):
            piece = None if pieces is None else pieces[at]
            result = "incomparable"
            if piece is not None:
                agree = compare(sample.alone, piece, batcher.rules.tolerance) is None
                result = "agree" if agree else "differ"
                # What has been found equal is not compared twice.
                piece = sample.alone if agree else piece
            proof.add(sample.rows.inner, sample.rows.count, sample.alone, piece)
            results.append(result)
        if pieces is not None:
            batcher.limit.observe(sum(counts), trial.upstream_seconds, False, now)
        self._believe(family, proof, now)
        return results

    def _believe(self, family: Family, proof: Proof, now: float) -> None:
        confidence = family.confidence
        if proof.objection is not None:
            confidence.disproved(now, proof.objection)
            self._drop_off(now)
        elif proof.is_sufficient:
            # What different rows have shown, equal ones do not take back.
            if confidence.state is not State.ON or family.only is not None:
                family.only = proof.only
            confidence.proved(now)
            confidence.good(now)
        if proof.difference is not None and self.difference is None:
            self.difference = _discreet(proof.difference)
            why = "merged requests would get other answers: batching must stay off"
            _log.warning("%s: %s (%s)", self.batcher.name, why, confidence.reason)

    def _drop_off(self, now: float) -> None:
        """Forget those of whose kind enough is known for a while."""
        kept = [sample for sample in self._samples if not _is_off(sample, now)]
        self.tally.results["dropped"] += len(self._samples) - len(kept)
        self._samples = kept


def _is_off(sample: Sample, now: float) -> bool:
    confidence = sample.family.confidence
    return confidence.state is State.OFF and now < confidence.until


def _discreet(difference: Difference) -> Difference:
    """Without what may be anybody's data: texts, and names that are more than an identifier."""
    where, quote, _ = difference.where.partition('["')
    shown = (
        text if where.startswith("$") and _NUMBER_OR_SIZE.fullmatch(text) else _HIDDEN
        for text in (difference.alone, difference.merged)
    )
    return Difference(where + ("[...]" if quote else ""), *shown)
