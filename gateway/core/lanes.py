"""Who waits for a place at a container, and who may go there together.

Requests are served by earliest deadline, which is the order of their coming but for those whose
bodies took their time. A request that may share a call lies in a lane, too: all in one lane can be
merged. What is served next is whoever is first of all, and with it as many of its own lane as a
call may have. So nobody is delayed by anybody who came later, whatever keys others make up; coming
later only ever means riding along.

Invariants: who is added leaves exactly once, by ``remove`` or ``gather``; a gathered group is in
order, of one lane, without gaps, and over no cap unless it is a single request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from enum import Enum
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Flush(Enum):
    """Why a group of requests left the queue when it did, and with no more of them."""

    SLOT_FREE = "slot_free"
    FULL = "full"
    BYTES = "bytes"
    DELAY = "delay"
    DEADLINE = "deadline"


class Ticket(Generic[T]):
    """One request in the queue. Times are monotonic seconds.

    ``lane`` is None for a request that goes alone. ``rows`` and ``size`` (bytes) count towards the
    caps of a call; ``freight`` is what whoever merges needs to know.
    """

    __slots__ = ("deadline", "freight", "item", "lane", "rows", "since", "size")

    def __init__(
        self,
        item: T,
        since: float,
        deadline: float,
        lane: Hashable = None,
        rows: int = 1,
        size: int = 0,
        freight: Any = None,
    ) -> None:
        self.item = item
        self.since = since
        self.deadline = deadline
        self.lane = lane
        self.rows = rows
        self.size = size
        self.freight = freight

    def __repr__(self) -> str:
        return f"<Ticket of {self.item!r}, {self.rows} rows for {self.lane!r}>"


class _Lane(Generic[T]):
    """Tickets that can be merged, in order, and how many rows they have."""

    __slots__ = ("rows", "tickets")

    def __init__(self) -> None:
        self.tickets: OrderedDict[T, Ticket[T]] = OrderedDict()
        self.rows = 0

    def first(self) -> Ticket[T]:
        return next(iter(self.tickets.values()))


class Lanes(Generic[T]):
    """The queue of one deployment."""

    __slots__ = ("_by_age", "_disordered", "_lanes", "_latest", "_numbers", "_order")

    def __init__(self) -> None:
        self._order: OrderedDict[T, Ticket[T]] = OrderedDict()
        #: None of these is empty. Those who go alone have the lane None.
        self._lanes: dict[Hashable, _Lane[T]] = {}
        #: Somebody with an early deadline came late: the first is not who has waited longest.
        self._disordered = False
        #: While it is disordered, a heap of all tickets and of some that have left. In a loop over
        #: all, whoever sends one slow body would make it cost the square of those who wait.
        self._by_age: list[tuple[float, int, Ticket[T]]] = []
        self._numbers = count()
        #: No deadline here is later.
        self._latest = -inf

    def __repr__(self) -> str:
        return f"<Lanes, {len(self._order)} waiting in {len(self._lanes)}>"

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, item: T) -> bool:
        return item in self._order

    def __iter__(self) -> Iterator[Ticket[T]]:
        """All who wait, in the order of their turn."""
        return iter(self._order.values())

    def add(self, ticket: Ticket[T]) -> None:
        order = self._order
        lane = self._lanes.get(ticket.lane)
        if lane is None:
            lane = self._lanes[ticket.lane] = _Lane()
        order[ticket.item] = lane.tickets[ticket.item] = ticket
        lane.rows += ticket.rows
        if ticket.deadline >= self._latest:
            self._latest = ticket.deadline
        else:
            self._disordered = True
            _move_after(order, ticket)
            _move_after(lane.tickets, ticket)
        if self._disordered:
            self._note_age(ticket)

    def remove(self, item: T) -> Ticket[T]:
        """Take somebody out of the queue.

        :raises KeyError: it does not wait here.
        """
        ticket = self._order.pop(item)
        self._leave(ticket)
        return ticket

    def first(self) -> Ticket[T]:
        """Whose turn it is. There must be somebody."""
        return next(iter(self._order.values()))

    def fronts(self) -> list[Ticket[T]]:
        """The first of every lane."""
        return [lane.first() for lane in self._lanes.values()]

    def rows_beside(self, ticket: Ticket[T]) -> int:
        """Rows that could go together with this one, its own included."""
        return ticket.rows if ticket.lane is None else self._lanes[ticket.lane].rows

    def company(self, ticket: Ticket[T]) -> int:
        """Requests that could go together with this one, itself included."""
        return 1 if ticket.lane is None else len(self._lanes[ticket.lane].tickets)

    def waiting_since(self) -> float:
        """When whoever has waited longest came. There must be somebody."""
        return self.longest_waiting().since

    def longest_waiting(self) -> Ticket[T]:
        """Who has waited longest. There must be somebody."""
        if not self._disordered:
            return self.first()
        heap, order = self._by_age, self._order
        while True:
            since, _, ticket = heap[0]
            if ticket.since == since and order.get(ticket.item) is ticket:
                return ticket
            heappop(heap)

    def gather(
        self, leader: Ticket[T], max_rows: int, max_bytes: int, max_count: int
    ) -> tuple[list[Ticket[T]], Flush]:
        """Take out ``leader`` and those of its lane that may go with it.

        :param leader: the first of its lane.
        :param max_count: requests at most.
        :returns: the group, and what kept it from being larger: ``FULL`` for ``max_rows``,
            ``BYTES``, or ``SLOT_FREE``: there were no more, or no more were wanted.
        """
        if leader.lane is None:
            self.remove(leader.item)
            return [leader], Flush.SLOT_FREE
        lane = self._lanes[leader.lane]
        group: list[Ticket[T]] = []
        rows = size = 0
        flush = Flush.SLOT_FREE
        for ticket in lane.tickets.values():
            rows += ticket.rows
            size += ticket.size
            if group and (rows > max_rows or size > max_bytes or len(group) >= max_count):
                if size > max_bytes:
                    flush = Flush.BYTES
                elif rows > max_rows:
                    flush = Flush.FULL
                break
            group.append(ticket)
        self._take(lane, group)
        return group, flush

    def _note_age(self, ticket: Ticket[T]) -> None:
        heap = self._by_age
        # Those who have left are forgotten before they are most of it.
        if heap and len(heap) <= 2 * len(self._order):
            heappush(heap, (ticket.since, next(self._numbers), ticket))
        else:
            heap[:] = [(each.since, next(self._numbers), each) for each in self._order.values()]
            heapify(heap)

    def _take(self, lane: _Lane[T], group: list[Ticket[T]]) -> None:
        """Take out a group from the front of its lane."""
        order, tickets = self._order, lane.tickets
        if len(group) == len(tickets):
            del self._lanes[group[0].lane]
        else:
            for ticket in group:
                del tickets[ticket.item]
                lane.rows -= ticket.rows
        if len(group) == len(order):
            order.clear()
            self._start_anew()
        else:
            for ticket in group:
                del order[ticket.item]

    def _leave(self, ticket: Ticket[T]) -> None:
        lane = self._lanes[ticket.lane]
        lane.rows -= ticket.rows
        del lane.tickets[ticket.item]
        if not lane.tickets:
            del self._lanes[ticket.lane]
        if not self._order:
            self._start_anew()

    def _start_anew(self) -> None:
        self._disordered = False
        self._by_age.clear()
        self._latest = -inf


def _move_after(tickets: OrderedDict[T, Ticket[T]], latest: Ticket[T]) -> None:
    """Put in its place the ticket that was added last, though its deadline is not the last."""
    later: list[T] = []
    # From the end: usually those who overtook it are few.
    for ticket in reversed(tickets.values()):
        if ticket is not latest:
            if ticket.deadline <= latest.deadline:
                break
            later.append(ticket.item)
    for item in reversed(later):
        tickets.move_to_end(item)
