"""Whether a model answers for each row by itself, judged by asking it both ways.

The same requests are scored merged and alone. If every request's part of the merged answer is what
it was told alone, its kind may be merged; if not, it must not. Often neither can be said: somebody
left, or a row was bad by itself.
"""

from __future__ import annotations

import re

from gateway.core.comparing import Difference, compare
from gateway.core.confidence import (
    DEPENDENT,
    FIELDS_DIFFER,
    NOBODY_GUILTY,
    NOT_SPLITTABLE,
)
from gateway.core.splitting import split_answer

# Fields that say something of the call and nothing of its rows: when it was, how long it took, what
# it is called. Whatever else differs may be about the rows of one caller.
_OF_THE_CALL = re.compile(
    rb"date|age|expires|last-modified|server-timing|x-ms-run-fn-exec-ms|x-runtime"
    rb"|x-(?:process|response|execution|inference)-time|x-envoy-upstream-service-time"
    rb"|(?:[a-z0-9-]+-)?(?:request|correlation|operation|trace|span|invocation)-?id"
    rb"|traceparent|tracestate|x-b3-[a-z]+"
)


class Proof:
    """Takes in one request after the other."""

    __slots__ = (
        "_compared",
        "_failed",
        "_fields_differ",
        "_improper",
        "_inner",
        "_proper",
        "_tolerance",
        "_was_split",
        "difference",
    )

    def __init__(self, tolerance: float, was_split: bool) -> None:
        """
        :param tolerance: relative difference of numbers that is overlooked.
        :param was_split: whether the merged answer could be cut into parts.
        """
        self._tolerance = tolerance
        self._was_split = was_split
        self._inner: set[bytes] = set()
        self._compared = 0
        #: Answers to single requests that could have been cut out of a merged one, and others.
        self._proper = 0
        self._improper = 0
        self._failed = False
        self._fields_differ = False
        #: The first that was found.
        self.difference: Difference | None = None

    def __repr__(self) -> str:
        return f"<Proof, {self._compared} compared, {self.difference}>"

    def fail(self) -> None:
        """Somebody's answer says nothing of merging: an error, or none at all."""
        self._failed = True

    def add(self, inner: bytes, rows: int, alone: bytes, part: bytes | None) -> None:
        """Somebody's answer to its request alone, which was a good one.

        :param inner: the rows of the request, so many.
        :param part: what the merged answer said of them, None if it could not be cut.
        """
        if split_answer(alone, [rows]) is None:
            self._improper += 1
        else:
            self._proper += 1
        if part is None:
            return
        self._compared += 1
        self._inner.add(inner)
        if self.difference is None:
            self.difference = compare(alone, part, self._tolerance)

    def add_fields(self, alone: bytes, merged: bytes) -> None:
        """The header lines of somebody's answer and of the merged one, each ended by CRLF."""
        self._fields_differ |= _lasting(alone) != _lasting(merged)

    @property
    def objection(self) -> str | None:
        """Why such requests must not be merged; None if nothing speaks against it."""
        if self.difference is not None:
            return DEPENDENT
        if self._was_split and self._fields_differ:
            return FIELDS_DIFFER
        if self._was_split or self._failed:
            return None
        if self._proper > 1 and not self._improper:
            return NOBODY_GUILTY
        return NOT_SPLITTABLE if self._improper > 1 and not self._proper else None

    @property
    def is_sufficient(self) -> bool:
        """Whether enough was seen to believe it, if there is no objection."""
        return self._compared > 1 and not self._improper and not self._failed

    @property
    def only(self) -> bytes | None:
        """The rows that all requests had in common, None if there were different ones: a model
        that looks at the other rows is not found out by rows that are all the same."""
        return next(iter(self._inner)) if len(self._inner) == 1 else None


def _lasting(lines: bytes) -> list[bytes]:
    """What is said of every call alike."""
    fields = (line.partition(b":") for line in lines.split(b"\r\n") if line)
    return sorted(
        name.lower() + b":" + value.strip()
        for name, _, value in fields
        if not _OF_THE_CALL.fullmatch(name.lower())
    )
