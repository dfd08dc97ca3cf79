"""Other backends, places, bounds or rules of merging for a deployment that is being called.

The queue stays what it is, and so who waits keeps its turn and is served by what the deployment has
now. It would be simpler to begin with a new queue and let the old one run out; but a backend that
is in both would serve two queues, and neither would be told when the other gives a place back.

This knows ``Slots`` from inside. It is a module of its own because nothing of it ever runs on the
way of a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.lanes import Ticket
from gateway.engine.batching import Batcher
from gateway.engine.exchange import Exchange
from gateway.engine.permits import Permit
from gateway.engine.pools import Pool, out_of_reach
from gateway.engine.shared_places import places_at
from gateway.engine.slots import Slots


@dataclass(frozen=True, slots=True)
class Fit:
    """What a deployment's ``Slots`` are to be like; see there."""

    pools: Sequence[Pool]
    concurrency: int
    max_wait: float
    max_length: int
    batcher: Batcher | None
    permit: Permit | None = None


def refit(slots: Slots, fit: Fit, now: float) -> None:
    """Make ``slots`` what ``fit`` says, in one go: nobody is resumed before the next turn of the
    loop.

    Who has a place keeps it. Who waits keeps its turn; where none of the backends is left that it
    had not tried in vain, it is interrupted with ``NO_BACKEND``.

    :param now: monotonic seconds.
    """
    anew = fit.batcher is not slots.batcher
    waiting = [(ticket, tried) for tried, lanes in slots._queues.items() for ticket in lanes]
    slots._queues.clear()
    slots.waiting = 0
    _calm(slots)
    places = places_at(fit.pools, fit.concurrency, fit.permit, slots._queues, slots._end_turn)
    places.follow(slots._places)
    slots._places = places
    slots.pools = places.pools
    slots.batcher = fit.batcher
    slots.scatters = fit.batcher is not None and fit.batcher.rules.scatter
    slots.max_length = fit.max_length
    _set_wait(slots, fit.max_wait, bool(waiting))
    stranded: list[Exchange] = []
    for ticket, tried in waiting:
        left = tried.intersection(slots.pools)
        if len(left) == len(slots.pools):
            ticket.item.queue_seconds += now - ticket.since
            slots.tally.wait.observe(now - ticket.since)
            stranded.append(ticket.item)
        else:
            slots._enter(_ticket(ticket, fit.batcher) if anew else ticket, left, now)
    if stranded:
        asyncio.get_running_loop().call_soon(_tell, slots, stranded)


def _calm(slots: Slots) -> None:
    """Nobody waits at present: nothing has to be looked at."""
    if slots._timer is not None:
        slots._timer.cancel()
        slots._timer = None
    if slots._ripening is not None:
        slots._ripening[1].cancel()
        slots._ripening = None


def _ticket(old: Ticket[Exchange], batcher: Batcher | None) -> Ticket[Exchange]:
    """Where somebody is to queue who came under other rules of merging."""
    item = old.item
    # Parts of a request queue as well, and are never merged.
    new = batcher.ticket(item, old.since) if batcher and isinstance(item, Exchange) else None
    return new or Ticket(item, old.since, old.deadline)


def _set_wait(slots: Slots, max_wait: float, occupied: bool) -> None:
    """A longer time to wait holds at once; a shorter one when all have left who came before, or
    they would be told sooner than they were promised."""
    if slots._easing is not None:
        slots._easing.cancel()
        slots._easing = None
    if occupied and max_wait < slots.max_wait:
        loop = asyncio.get_running_loop()
        slots._easing = loop.call_later(slots.max_wait, _shorten, slots, max_wait)
    else:
        slots.max_wait = max_wait


def _shorten(slots: Slots, max_wait: float) -> None:
    slots._easing = None
    slots.max_wait = max_wait
    if slots._timer is not None:
        slots._timer.cancel()
        slots._timer = None
    if slots._queues:
        slots._schedule(slots._clock())


def _tell(slots: Slots, stranded: Sequence[Exchange]) -> None:
    for exchange in stranded:
        slots._tell(exchange, out_of_reach(slots.pools))
