"""What a deployment knows about merging requests: who may share a call, and how large it may be.

The decisions are core's; here they are brought together per deployment, and remembered.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from gateway.core.confidence import Confidence, State
from gateway.core.kinds import Kind
from gateway.core.lanes import Flush, Ticket
from gateway.core.memo import Memo
from gateway.core.row_limit import RowLimit
from gateway.core.rows import LARGEST, Frame, RowReader, Rows
from gateway.core.significance import Significance
from gateway.core.statistics import BatchTally
from gateway.engine.batches import Batch
from gateway.engine.exchange import Exchange
from gateway.engine.pools import Pool
from gateway.engine.proving import ProvingBatch
from gateway.engine.walking import start

if TYPE_CHECKING:
    from gateway.engine.slots import Slots

_log = logging.getLogger("gateway")

# Requests of the batch by which a family is proved: each costs a call more, once.
PROOF = 8
# Families of a deployment that are remembered, those used last.
FAMILIES = 256
# Longer identifiers make the container refuse a request (contract.md 1.4).
_MAX_IDENTIFIER = 100
# A request whose time is up within this many seconds is not held back for company.
_SLACK = 0.005
# So many requests that wait go together in any case.
_FEW = 32


@dataclass(frozen=True, slots=True)
class BatchRules:
    """What the configuration says (docs/batching.md)."""

    field: tuple[str, ...] = ("data",)
    max_rows: int = 1024
    #: Of one call's body.
    max_bytes: int = 1 << 20
    #: Seconds.
    max_queue_delay: float = 0.0
    latency_target: float = 0.05
    #: Names of headers; None for all but incidental ones.
    significant_headers: tuple[str, ...] | None = None
    isolate_principals: bool = False
    scatter: bool = False
    tolerance: float = 1e-6
    debug_header: bool = False
    #: Percent of the requests that are compared where none is merged.
    sample: float = 1.0


class Family:
    """Requests that a container can tell apart by their rows only, and whether it is sound to send
    their rows together."""

    __slots__ = ("confidence", "fields", "frame", "line", "only")

    def __init__(self, line: bytes, fields: bytes, frame: Frame) -> None:
        #: The request line, and the header lines that count.
        self.line = line
        self.fields = fields
        self.frame = frame
        self.confidence = Confidence()
        #: The rows that all requests of the proof had in common: as long as nothing else comes,
        #: it was proof enough.
        self.only: bytes | None = None

    def __repr__(self) -> str:
        return f"<Family {self.line!r}, {self.confidence.state.value}>"

    def knows(self, group: Sequence[Ticket[Exchange]]) -> bool:
        """Whether the proof said anything about rows like these."""
        return self.only is None or all(ticket.freight.inner == self.only for ticket in group)


class Batcher:
    """Decides for one deployment. ``cap`` is how many rows a call may have at present."""

    __slots__ = (
        "_apart",
        "_common",
        "_families",
        "_family",
        "_frame",
        "_heads",
        "_lane",
        "_max_rows",
        "_read",
        "_scout",
        "_significance",
        "aboard",
        "clock",
        "delay",
        "ids",
        "limit",
        "max_bytes",
        "name",
        "returning",
        "rules",
        "tally",
    )

    def __init__(
        self,
        name: str,
        rules: BatchRules,
        *,
        clock: Callable[[], float],
        ids: Iterator[bytes],
        tally: BatchTally | None = None,
    ) -> None:
        """
        :param name: of the deployment, for the log.
        :param ids: identifiers for calls of the gateway's own.
        :param tally: to go on counting in; a new one if absent.
        """
        self.name = name
        self.rules = rules
        self.clock = clock
        self.ids = ids
        self.delay = rules.max_queue_delay
        self.max_bytes = rules.max_bytes
        self.limit = RowLimit(rules.max_rows, rules.latency_target)
        self.tally = BatchTally() if tally is None else tally
        #: Requests in calls that are being made, and those of the call that has just been answered:
        #: they are about to come again.
        self.aboard = 0
        self.returning = 0
        # What is cut up again may be larger than a call.
        largest = sys.maxsize if rules.scatter else min(rules.max_bytes, LARGEST)
        self._read = RowReader(rules.field, max_bytes=largest).read
        self._max_rows = rules.max_rows
        self._apart = rules.isolate_principals
        self._significance = Significance(rules.significant_headers)
        #: The request line and the lines that count, by the bytes they follow from, and by whether
        #: the origin counts: that is the endpoint's to say, and may change while this lives.
        self._heads: Memo[tuple[bytes, bool], tuple[bytes, bytes]] = Memo(FAMILIES)
        self._families: Memo[tuple[bytes, bytes, Frame], Family] = Memo(FAMILIES)
        #: A request that went alone because a call may have no more rows.
        self._scout: Ticket[Exchange] | None = None
        #: The last one that was asked for, and what by.
        self._family: Family | None = None
        self._common: bytes | None = None
        self._frame: Frame | None = None
        self._lane: tuple[Family | None, Kind | None, str | None] = (None, None, None)

    def __repr__(self) -> str:
        return f"<Batcher of {self.name}, {self.cap} rows at most>"

    @property
    def cap(self) -> int:
        """Rows of one call at most."""
        return self.limit.cap

    @property
    def families(self) -> list[Family]:
        """Those used last."""
        return self._families.values()

    def ticket(self, exchange: Exchange, now: float) -> Ticket[Exchange] | None:
        """Where a request is to queue; None if it can only go alone."""
        rows = self.rows(exchange)
        if rows is None or not self._fits(rows):
            return None
        common, frame = exchange.routed.common, rows.frame
        # Clients repeat themselves, and so do their programs.
        if common is not self._common or frame is not self._frame:
            self._family = self.family(exchange, frame)
            self._common, self._frame = common, frame
        caller = exchange.principal if self._apart else None
        lane = self._lane
        if lane[0] is not self._family or lane[1] is not rows.kind or lane[2] != caller:
            lane = self._lane = (self._family, rows.kind, caller)
        return Ticket(exchange, now, exchange.deadline, lane, rows.count, len(rows.inner) + 1, rows)

    def read(self, exchange: Exchange) -> Rows | None:
        """The rows of a request that may share a call; None for any other."""
        rows = self.rows(exchange)
        return rows if rows is not None and self._fits(rows) else None

    def rows(self, exchange: Exchange) -> Rows | None:
        """The rows of a request, however many they are; None if they must not be touched."""
        routed, body = exchange.routed, exchange.body
        if not routed.is_json or not body:
            return None
        lines = routed.identifiers.upstream
        if len(lines) > _MAX_IDENTIFIER and _has_long_value(lines):
            return None
        return self._read(body)

    def _fits(self, rows: Rows) -> bool:
        return rows.count <= self._max_rows and len(rows.inner) < self.max_bytes

    def family(self, exchange: Exchange, frame: Frame) -> Family:
        """The kind of requests that this one belongs to."""
        common = exchange.routed.common
        endpoint = exchange.routed.endpoint
        # Without rules of ours the container's own fields go on (pipeline, step 10).
        origin = endpoint is not None and endpoint.cors is None
        head = self._heads.get((common, origin))
        if head is None:
            line, _, lines = common.partition(b"\r\n")
            head = line + b"\r\n", self._significance.fields(lines, origin=origin)
            self._heads.put((common, origin), head)
        key = (*head, frame)
        family = self._families.get(key)
        if family is None:
            family = Family(*head, frame)
            self._families.put(key, family)
        return family

    def crew(self, leader: Ticket[Exchange], now: float) -> int:
        """How many requests may go together now, as far as trust goes."""
        family: Family = leader.lane[0]  # type: ignore[index]
        confidence = family.confidence
        if not confidence.admits(now):
            return 1
        return sys.maxsize if confidence.state is State.ON else PROOF

    def share(self, waiting: int, places: int) -> int:
        """How many of those who wait are to go now.

        Requests in large groups do not come one by one: those that are answered together ask again
        together. If all who wait went now, the container would be idle while this group is answered
        and asks again; the gateway, while the container works. So there is to be one group for each
        place and one more, all of the same size. Few are not worth a call of their own.

        :param waiting: requests that could go together.
        :param places: at the containers.
        """
        if waiting <= _FEW:
            return waiting
        return max(_FEW // 2, -(-(waiting + self.returning + self.aboard) // (places + 1)))

    def board(
        self,
        group: list[Ticket[Exchange]],
        tried: Collection[Pool],
        pool: Pool,
        flush: Flush,
        slots: Slots,
    ) -> None:
        """Send a group off, with a place at ``pool`` that is given back when it is free."""
        family: Family = group[0].lane[0]  # type: ignore[index]
        proving = family.confidence.state is not State.ON
        if not proving and not family.knows(group):
            family.confidence.doubt()
            proving = True
        size = PROOF if proving else len(group)
        # An array beside the rows that is as long as they are would seem to belong to them.
        while sum(ticket.rows for ticket in group[:size]) in family.frame.lengths:
            size -= 1
        if size < len(group):
            slots.put_back(group[size:], tried)
            del group[size:]
        if size < 2:
            slots.send(group[0], pool)
            return
        kind = ProvingBatch if proving else Batch
        batch = kind(self, slots, family, group, tried, pool, flush)
        try:
            start(batch, batch.run())
        except Exception:  # noqa: BLE001  whoever gave the place has nothing to do with it
            _log.exception("batch %s of %s failed at its end", batch.name, self.name)

    def scout(self, ticket: Ticket[Exchange], now: float) -> None:
        """A request goes alone because a call may have no more rows. Whether that is still so can
        only be seen by those who go alone, when the limit leaves no others."""
        if self._scout is not None:
            exchange = self._scout.item
            if not exchange.ended:
                return
            if exchange.status == HTTPStatus.OK and exchange.upstream_seconds:
                self.limit.observe(self._scout.rows, exchange.upstream_seconds, True, now)
        self._scout = ticket

    # Losing trust.

    def doubt(self) -> None:
        """There is a container that nothing is known of: whether it is sound to merge requests is
        to be found out anew, kind by kind."""
        for family in self.families:
            family.confidence.doubt()

    def strike(self, family: Family, reason: str) -> None:
        """A merged call has failed, and no request explains it."""
        confidence = family.confidence
        before = confidence.fallbacks
        confidence.strike(self.clock(), reason)
        if confidence.fallbacks != before:
            self._tell(family)

    def distrust(self, family: Family, reason: str) -> None:
        """It is known to be wrong to merge such requests."""
        family.confidence.disproved(self.clock(), reason)
        self._tell(family)

    def give_up_proof(self, family: Family) -> None:
        """One came to no conclusion."""
        confidence = family.confidence
        before = confidence.fallbacks
        confidence.abandon_proof(self.clock())
        self.tally.proofs["inconclusive"] += 1
        if confidence.fallbacks != before:
            self._tell(family)

    def _tell(self, family: Family) -> None:
        self.tally.fallbacks += 1
        confidence = family.confidence
        seconds = confidence.until - self.clock()
        reason = confidence.reason
        _log.warning("%s: requests are not merged for %.0f s: %s", self.name, seconds, reason)

    # Holding back.

    def ripe_at(self, ticket: Ticket[Exchange], rows: int) -> float:
        """When a request is to be sent although more could come to go with it.

        :param rows: that could go with it already, its own included.
        """
        since = ticket.since
        if ticket.lane is None or rows >= self.cap or self.crew(ticket, since) < 2:
            return since
        latest = ticket.deadline - (self.limit.predict(rows) or 0.0) - _SLACK
        return max(since, min(since + self.delay, latest))

    def why_now(self, group: Sequence[Ticket[Exchange]], now: float) -> Flush:
        """Why a group goes that was not kept from being larger."""
        if self.delay <= 0:
            return Flush.SLOT_FREE
        if sum(ticket.rows for ticket in group) >= self.cap:
            return Flush.FULL
        return Flush.DELAY if now >= group[0].since + self.delay - _SLACK else Flush.DEADLINE

    def is_hopeless(self, deadline: float, now: float) -> bool:
        """Whether a request cannot be answered in time, going by how fast answers are at best."""
        fastest = self.limit.fastest(now)
        return fastest is not None and now + fastest > deadline


def _has_long_value(lines: bytes) -> bool:
    values = (line.partition(b": ")[2] for line in lines.split(b"\r\n"))
    return any(len(value) > _MAX_IDENTIFIER for value in values)
