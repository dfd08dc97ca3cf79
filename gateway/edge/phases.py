"""What a client connection is doing, and how long that may take."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Phase(Enum):
    """What a connection is doing, which says what it may be waited for."""

    #: Between requests, or in the middle of a head.
    READING = auto()
    #: A request is being walked.
    WALKING = auto()
    #: Answered, and the rest of the request's body is being thrown away.
    SKIPPING = auto()
    #: Answered, but the client has not taken the answer yet.
    FLUSHING = auto()
    #: Answered and shut from our side; the client may still be sending (RFC 9112 section 9.6).
    LINGERING = auto()
    CLOSED = auto()


# Unpacked, because a look-up in an Enum costs 70 ns on CPython 3.11 and a global 2.
READING, WALKING, SKIPPING, FLUSHING, LINGERING, CLOSED = Phase


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client is waited for, in seconds; ``body_rate`` in bytes per second."""

    head: float = 10.0
    body: float = 20.0
    idle: float = 75.0
    write: float = 30.0
    linger: float = 2.0
    body_rate: int = 256
    handshake: float = 5.0
