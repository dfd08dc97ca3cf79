"""Which headers of a request make a difference to the container.

Requests share a call only if the container could not tell them apart. A scoring script can read
every header, so every header counts, but for those that say who is asking with which program, and
those that name or trace the single request: no answer depends on them, and every client has others.
An operator who knows the script may name the few that it does look at.
"""

from __future__ import annotations

from collections.abc import Collection

from gateway.core.grammar import OWS

# What differs from client to client or from request to request. `sec-` stands for a family.
_INCIDENTAL = frozenset(
    (
        b"user-agent",
        b"referer",
        b"origin",
        b"dnt",
        b"priority",
        b"pragma",
        b"cache-control",
        b"content-length",
        b"x-request-id",
        b"x-ms-request-id",
        b"x-ms-client-request-id",
        b"request-id",
        b"request-context",
        b"correlation-context",
        b"traceparent",
        b"tracestate",
        b"baggage",
        b"x-correlation-id",
    )
)
# What a merged call cannot carry, whoever asks for it.
_INDIVIDUAL = frozenset(
    (
        "x-request-id",
        "x-ms-request-id",
        "x-ms-client-request-id",
        "traceparent",
        "tracestate",
        "forwarded",
        "content-length",
    )
)
_INCIDENTAL_FAMILY = b"sec-"
# These count even where an operator names others: what the body is, how the answer is coded, and
# credentials, which are here only where they are passed on.
_ALWAYS = frozenset((b"content-type", b"accept-encoding", b"authorization"))


class Significance:
    """Tells what of a request's head a merged call must say."""

    __slots__ = ("_names",)

    def __init__(self, names: Collection[str] | None) -> None:
        """:param names: of the headers that count; None for all but the incidental ones."""
        if names is None:
            self._names: frozenset[bytes] | None = None
        else:
            self._names = _ALWAYS | {name.lower().encode() for name in names}

    def fields(self, lines: bytes, *, origin: bool = False) -> bytes:
        """The lines that count, in an order and a spelling that do not.

        :param lines: header lines for the container, each ended by CRLF.
        :param origin: the container itself tells browsers which pages may read its answers, so that
            these depend on ``Origin``.
        """
        kept: list[tuple[bytes, bytes]] = []
        for line in lines.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            name = name.lower()
            if colon and (self._counts(name) or (origin and name == b"origin")):
                kept.append((name, value.strip(OWS)))
        # Stable: several lines of one name stay in their order, which has a meaning.
        kept.sort(key=lambda field: field[0])
        return b"".join(b"%b: %b\r\n" % field for field in kept)

    def _counts(self, name: bytes) -> bool:
        if self._names is not None:
            return name in self._names
        return name not in _INCIDENTAL and not name.startswith(_INCIDENTAL_FAMILY)


def is_individual(name: str) -> bool:
    """Whether a header names or traces the single request, or says who sent it. A merged call,
    which stands for many, cannot have it."""
    lower = name.lower()
    return lower in _INDIVIDUAL or lower.startswith("x-forwarded-")
