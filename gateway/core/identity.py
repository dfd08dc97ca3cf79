"""Request identifiers: which go to the container, which come back (contract.md 1.4 and 2.5).

Every request gets a GUID of ours, which is ``x-ms-request-id`` on every answer of either dialect.

v1: a client's ``x-request-id`` and ``x-ms-client-request-id`` are kept and echoed, and a client's
``x-ms-request-id``, which the container takes for an alias of the client's own identifier, comes
back as ``x-ms-client-request-id``. Lengths are not our business there: the container answers 431.

managed: ``x-request-id`` belongs to the front end and is always our GUID; the client's own is
reduced to ``[A-Za-z0-9_-]`` and 40 characters.

``traceparent`` and ``tracestate`` pass through untouched; what the Azure front end does with them
is not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from gateway.core.grammar import printable

_FOREIGN = re.compile(rb"[^A-Za-z0-9_-]")
_MANAGED_LENGTH = 40
# What the container accepts before it answers 431 (contract.md 1.4); our own answers echo no more.
_ECHO_LENGTH = 100

# W3C Trace Context section 3.2: version "-" trace-id "-" parent-id "-" flags. Neither identifier
# may be zero, version ff is none, and what follows the flags is for versions after 00.
_TRACEPARENT = re.compile(
    rb"(?:(?P<first>00)|(?!00|ff)[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})"
    rb"-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?(first)|(?:-.*)?)"
)


# The last three digits of an identifier, so that making one is joining two texts.
_TAILS = tuple(b"%03x" % number for number in range(4096))


def request_ids(draw: Callable[[int], bytes]) -> Iterator[bytes]:
    """GUIDs of the form of RFC 9562 version 4 without end, twenty times cheaper than ``uuid4``.

    110 of the 122 random bits are drawn anew for every 4 096 identifiers; the last 12 bits count.
    Unique, not secret: nothing may be granted for knowing one.

    :param draw: returns that many random bytes, such as ``os.urandom``.
    """
    while True:
        digits = draw(16).hex()
        variant = "89ab"[int(digits[16], 16) & 3]
        prefix = (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:29]}"
        ).encode()
        for tail in _TAILS:
            yield prefix + tail


class Identifiers:
    """The identifiers of one head, laid out as header lines ready to send.

    ``upstream`` and ``echo`` are complete lines that depend on the head alone. ``theirs`` is the
    client's ``x-request-id`` where it is kept, else None and ours is sent in its place.
    """

    __slots__ = ("client", "echo", "theirs", "upstream")

    def __init__(self, upstream: bytes, echo: bytes, theirs: bytes | None, client: str) -> None:
        self.upstream = upstream
        self.echo = echo
        self.theirs = theirs
        #: The client's identifier for logs, printable ASCII.
        self.client = client


NO_IDENTIFIERS = Identifiers(b"", b"", None, "")


def identify(
    managed: bool,
    request_id: bytes | None,
    ms_request_id: bytes | None,
    client_request_id: bytes | None,
) -> Identifiers:
    """Lay out what the client sent. The arguments are header values, None where absent; an empty
    one identifies nothing and counts as absent."""
    client = client_request_id or ms_request_id or b""
    if not client and not request_id:
        return NO_IDENTIFIERS
    if managed:
        cleaned = _FOREIGN.sub(b"", client)[:_MANAGED_LENGTH]
        line = b"x-ms-client-request-id: " + cleaned + b"\r\n" if cleaned else b""
        return Identifiers(line, line, None, cleaned.decode())
    upstream = b""
    if request_id:
        upstream += b"x-request-id: " + request_id + b"\r\n"
    if ms_request_id:
        upstream += b"x-ms-request-id: " + ms_request_id + b"\r\n"
    if client_request_id:
        upstream += b"x-ms-client-request-id: " + client_request_id + b"\r\n"
    text = printable(client, _ECHO_LENGTH)
    echo = b"x-ms-client-request-id: " + text.encode() + b"\r\n" if text else b""
    theirs = printable(request_id, _ECHO_LENGTH).encode() if request_id else None
    return Identifiers(upstream, echo, theirs, text)


def trace_id(traceparent: bytes | None) -> str:
    """The trace-id of a valid ``traceparent`` in lower case hexadecimal, else empty."""
    match = _TRACEPARENT.fullmatch(traceparent or b"")
    return match["trace"].decode() if match is not None else ""
