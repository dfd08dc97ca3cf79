"""Whether the requests of one family may be merged at all.

A family is what could share a call: one deployment, one path, one frame around the rows. That a
model answers for each row by itself cannot be seen from outside, so it is tried first: one small
batch is scored merged and alone, and only when the answers agree are others merged. Later failures
that no row explains take the permission away for a while, each time for longer.
"""

from __future__ import annotations

from enum import Enum

NOT_PROVED = "not proved yet"
PROVED = "merged and single answers agree"
DEPENDENT = "answers depend on the other rows"
FIELDS_DIFFER = "answers carry header fields that are not the same for all"
NOT_SPLITTABLE = "answers cannot be split"
NOBODY_GUILTY = "merged calls fail and isolation finds nobody guilty"
EVERYBODY_GUILTY = "merged calls fail and so does every single one"
INCONCLUSIVE = "no proof came to a conclusion"

# A permission that has held for so many seconds makes earlier failures forgotten.
LONG_GOOD = 60.0
# Proofs in a row that may come to nothing. Each makes its callers wait for two calls, not one.
MAX_INCONCLUSIVE = 8


class State(Enum):
    """The values are those of metrics and of the admin API."""

    PROVING = "proving"
    ON = "on"
    OFF = "off"


# Unpacked, because a look-up in an Enum costs 70 ns on CPython 3.11 and a global 2.
PROVING, ON, OFF = State


class Confidence:
    """What is known about merging the requests of one family. Times are monotonic seconds."""

    __slots__ = (
        "_base",
        "_cool_down",
        "_inconclusive",
        "_last_good",
        "_longest",
        "_max_strikes",
        "_on_since",
        "changes",
        "fallbacks",
        "proof_under_way",
        "reason",
        "state",
        "strikes",
        "until",
    )

    def __init__(self, *, base: float = 10.0, longest: float = 600.0, strikes: int = 3) -> None:
        """
        :param base: seconds without merging after a first failure; doubled at each further one.
        :param longest: the most that becomes of it.
        :param strikes: failures in a row that no row explains and that end the permission.
        """
        self.state = PROVING
        #: Why the state is what it is; while a proof is due again, what failed before.
        self.reason = NOT_PROVED
        #: While ``OFF``: when to try again. It stays so until somebody asks after that time.
        self.until = 0.0
        #: Unexplained failures since the last good answer.
        self.strikes = 0
        #: Changes of the state, and how many of them took the permission away.
        self.changes = 0
        self.fallbacks = 0
        self.proof_under_way = False
        self._base = base
        self._longest = longest
        self._max_strikes = strikes
        self._cool_down = base
        self._inconclusive = 0
        #: The first proof since the last failure.
        self._on_since: float | None = None
        self._last_good = 0.0

    def __repr__(self) -> str:
        return f"<Confidence {self.state.value}: {self.reason}>"

    def admits(self, now: float) -> bool:
        """Whether a merged call may be made now.

        While ``PROVING`` it is to be a proof, and there is only one at a time: whoever makes it
        calls :meth:`begin_proof` first.
        """
        state = self.state
        if state is ON:
            return True
        if state is OFF:
            if now < self.until:
                return False
            self._enter(PROVING, self.reason)
            self._inconclusive = 0
        return not self.proof_under_way

    def begin_proof(self) -> None:
        """
        :raises RuntimeError: there is one already, or none is due.
        """
        if self.state is not PROVING or self.proof_under_way:
            raise RuntimeError(f"no proof is due: {self!r}")
        self.proof_under_way = True

    def postpone_proof(self) -> None:
        """No container could be asked: that says nothing, not even of proofs."""
        self.proof_under_way = False

    def abandon_proof(self, now: float) -> None:
        """It came to no conclusion: a caller left, a connection broke, a row was bad by itself."""
        if not self.proof_under_way:
            return
        self.proof_under_way = False
        self._inconclusive += 1
        if self._inconclusive >= MAX_INCONCLUSIVE:
            self._pause(now, INCONCLUSIVE)  # without prejudice: the next pause is no longer

    def proved(self, now: float) -> None:
        """Merged and single answers were the same."""
        if not self.proof_under_way:
            return
        self.proof_under_way = False
        self.strikes = 0
        self._inconclusive = 0
        if self._on_since is None:
            self._on_since = now
        self._enter(ON, PROVED)

    def doubt(self) -> None:
        """The proof said nothing of what is to be merged now: another is due."""
        if self.state is ON:
            self._enter(PROVING, NOT_PROVED)

    def disproved(self, now: float, reason: str) -> None:
        """Merging is known to be wrong, by a proof or by any later answer."""
        if self.state is OFF:
            return  # calls made before that fail after it: one failure is counted once
        if self._on_since is not None and self._last_good - self._on_since >= LONG_GOOD:
            self._cool_down = self._base
        self._pause(now, reason)
        if reason != EVERYBODY_GUILTY:  # that is said by rows, and anybody can send bad ones
            self._cool_down = min(2.0 * self._cool_down, self._longest)

    def good(self, now: float) -> None:
        """A merged answer was split."""
        self.strikes = 0
        self._last_good = now

    def strike(self, now: float, reason: str) -> None:
        """A merged call failed in a way that none of its rows explains."""
        if self.state is not ON:
            return
        self.strikes += 1
        if self.strikes >= self._max_strikes:
            self.disproved(now, reason)

    def _pause(self, now: float, reason: str) -> None:
        self.proof_under_way = False
        self.strikes = 0
        self.fallbacks += 1
        self.until = now + self._cool_down
        self._on_since = None
        self._enter(OFF, reason)

    def _enter(self, state: State, reason: str) -> None:
        self.state = state
        self.reason = reason
        self.changes += 1
