"""What the supervisor and its workers say to each other.

Both are ours, started from the same installation by the same user: messages are pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.core.allotting import Allotment
from gateway.core.series import Report


@dataclass(frozen=True, slots=True)
class Door:
    """A listening socket, which the worker has or gets beside the message.

    ``name`` tells what it is for (``listen``, ``plain``); ``number`` is the socket's, never used
    for another.
    """

    number: int
    name: str
    address: tuple[str, int]
    backlog: int


# From the supervisor.


@dataclass(frozen=True, slots=True)
class Prepare:
    """Build everything that a configuration says, change nothing yet, and answer ``Prepared`` or
    ``Refused``. ``payload`` is the configuration, pickled once for all workers; ``allotment`` is
    how they share the places at the containers."""

    generation: int
    payload: bytes
    allotment: Allotment
    doors: tuple[Door, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """From now on, what was prepared is what is served; answered by ``Running``."""

    generation: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Forget what was prepared."""

    generation: int


@dataclass(frozen=True, slots=True)
class Count:
    """Say at once what has been counted."""


@dataclass(frozen=True, slots=True)
class Describe:
    """Say what state the deployments are in."""

    number: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Accept nothing more, finish what is in flight within ``seconds``, and end."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to ``Fetch``; with ``problem``, there is no content."""

    number: int
    content: bytes
    problem: str | None


# From a worker.


@dataclass(frozen=True, slots=True)
class Prepared:
    generation: int


@dataclass(frozen=True, slots=True)
class Refused:
    """What was to be prepared cannot be; ``why`` is for the operator."""

    generation: int
    why: str


@dataclass(frozen=True, slots=True)
class Running:
    generation: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What has changed since the last of these (``core/series.py``), None as long as there is
    nothing to count. It comes regularly, and says that the worker's loop is running."""

    changes: Report | None


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetch a document: all workers together do so no more often than one would."""

    number: int
    url: str


@dataclass(frozen=True, slots=True)
class Described:
    number: int
    state: Any


@dataclass(frozen=True, slots=True)
class Drained:
    """All is done; how many connections had to be cut off."""

    cut_off: int
