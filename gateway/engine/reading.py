"""From the bytes of a head to everything that can be decided from them, worked out once.

A client that keeps its connection sends the same head again and again, but for the length of the
body and, with some clients, identifiers of the request. What follows from a head is remembered by
its exact bytes, those values cut out; they are looked at every time, and a value that is not of the
plainest form makes the head be read in full.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from gateway.core.dialects import V1, Dialect
from gateway.core.faults import Refusal
from gateway.core.grammar import OWS, printable
from gateway.core.heads import HeadLimits, RequestHead, UnfitRequest, parse_request_head
from gateway.core.identity import NO_IDENTIFIERS, Identifiers, identify
from gateway.core.memo import Memo
from gateway.core.routing import Router
from gateway.engine.endpoints import Endpoint

REMEMBERED = 512
# Longer heads are rare and would make the memory's bound in bytes meaningless.
REMEMBERED_SIZE = 4096

# Of a length, when it is cut out: more than any body's.
_MAX_DIGITS = 15
# To look a length up costs a quarter of judging its digits and converting them.
_LENGTHS = {b"%d" % number: number for number in range(4096)}
_LENGTH = b"\r\nContent-Length: "
_LENGTH_LOWER = b"\r\ncontent-length: "
# The headers that differ from request to request, in the form that clients write them. Upper and
# lower case are spelled out where it costs nothing: a search that ignores case is ten times slower.
_CHANGING = re.compile(
    rb"\r\n([Cc](?i:ontent-length)|[Tt](?i:raceparent|racestate)"
    rb"|[Xx](?i:-request-id|-ms-request-id|-ms-client-request-id)): ([!-~]+)(?=\r\n)"
)
_TRACE = frozenset((b"traceparent", b"tracestate"))
# RFC 6839: `application/*+json` counts as JSON; contract.md 2.4 says which the container accepts.
_JSON = re.compile(rb"application/(?:[A-Za-z0-9!#$&^_.-]+\+)?json", re.IGNORECASE)


class Words(NamedTuple):
    """A head in words for a log. No query: it may hold secrets."""

    method: str
    path: str
    user_agent: str


NO_WORDS = Words("", "", "")
# Characters of a path or user agent in the log.
_MAX_TEXT = 200


class Routed:
    """A head and what follows from it under one configuration."""

    __slots__ = (
        "bare_fields",
        "common",
        "cut",
        "endpoint",
        "fields",
        "head",
        "identifiers",
        "is_json",
        "refusal",
        "request_line",
        "timeout",
        "traceparent",
        "words",
    )

    def __init__(self, head: RequestHead, timeout: float) -> None:
        self.head = head
        self.endpoint: Endpoint | None = None
        #: Why it gets no further: there is no endpoint for it, or nothing that it can do there.
        self.refusal: Refusal | None = None
        self.timeout = timeout
        #: Path prefix that names the endpoint and is not passed on.
        self.cut = b""
        self.request_line = b""
        #: End-to-end fields for the container, complete lines; ``bare_fields`` are those without
        #: identifiers of the request.
        self.fields = self.bare_fields = b""
        #: The request line and the fields that all heads of this kind share, the same object for
        #: all of them. What changes from request to request is not among them.
        self.common = b""
        self.identifiers: Identifiers = NO_IDENTIFIERS
        self.traceparent: bytes | None = None
        self.is_json = False
        #: What the access log says of all such requests.
        self.words = NO_WORDS

    def __repr__(self) -> str:
        return f"<Routed {self.head!r} to {self.endpoint!r}>"

    @property
    def dialect(self) -> Dialect:
        return self.endpoint.dialect if self.endpoint is not None else V1


class _Kind(NamedTuple):
    """Heads that differ only in the values of ``names`` (lower case).

    ``routed`` lacks what follows from those values. ``length_at`` is the place of the body's length
    among them, None where ``length`` is the same for all.
    """

    routed: Routed
    names: tuple[bytes, ...]
    length: int
    length_at: int | None


class Known:
    """A head that was read before, but for the digits of its body's length."""

    __slots__ = ("after", "before", "reader", "routed")

    def __init__(self, reader: HeadReader, before: bytes, after: bytes, routed: Routed) -> None:
        """
        :param before: all that stands before the digits, and ``after`` all that follows them up to
            and including the empty line.
        """
        self.reader = reader
        self.before = before
        self.after = after
        self.routed = routed

    def __repr__(self) -> str:
        return f"<Known {self.routed!r}>"

    def recognise(self, data: bytes, at: int) -> tuple[Routed, int, int] | None:
        """What ``HeadReader.read`` would say of the head that begins at ``data[at]``, and where
        that ends; None if it is another head."""
        before = self.before
        if not data.startswith(before, at):
            return None
        start = at + len(before)
        stop = data.find(b"\r\n", start)
        digits = data[start:stop]
        length = _LENGTHS.get(digits)
        if length is None:
            if not _is_length(digits):
                return None
            length = int(digits)
        if not data.startswith(self.after, stop):
            return None
        return self.routed, length, stop + len(self.after)


class HeadReader:
    """Reads heads under one configuration."""

    __slots__ = (
        "_kinds",
        "_limits",
        "_memo",
        "_recall",
        "_recalled_size",
        "_router",
        "_timeout",
        "known",
    )

    def __init__(self, router: Router[Endpoint], limits: HeadLimits, timeout: float) -> None:
        """:param timeout: seconds for requests that belong to no endpoint."""
        self._router = router
        self._limits = limits
        self._timeout = timeout
        self._recalled_size = min(REMEMBERED_SIZE, limits.total)
        #: What the head that was read last is known by. A client's next one is most often the same.
        self.known: Known | None = None
        self._memo: Memo[bytes, Known] = Memo(REMEMBERED)
        self._recall = self._memo.get
        self._kinds: Memo[tuple[bytes, ...], _Kind] = Memo(REMEMBERED)

    def read(self, raw: bytes) -> tuple[Routed, int]:
        """The head's meaning, and the length of its body in bytes or ``CHUNKED``.

        :param raw: everything up to and including the empty line.
        :raises Refusal: the head is not acceptable; the connection must close after the answer.
        """
        self.known = None
        at = raw.find(_LENGTH)
        if at < 0:
            at = raw.find(_LENGTH_LOWER)
        if at < 0:
            known = self._recall(raw)
            return (known.routed, 0) if known is not None else self._read_anew(raw, raw)
        at += len(_LENGTH)
        end = raw.find(b"\r\n", at)
        digits = raw[at:end]
        key = raw[:at] + raw[end:]
        known = self._recall(key)
        if known is not None and _is_length(digits):
            self.known = known
            return known.routed, int(digits)
        return self._read_anew(raw, key, at)

    def forget(self) -> None:
        """Let go of all heads: they know their reader, and would keep it, and the configuration,
        from being freed."""
        self.known = None
        self._memo.clear()
        self._kinds.clear()

    def _read_anew(self, raw: bytes, key: bytes, at: int = 0) -> tuple[Routed, int]:
        """Read a head that is not known by its bytes. Perhaps its kind is.

        :param key: the head without the digits of the body's length, which begin at ``at``.
        """
        parts = _CHANGING.split(raw)
        values = parts[2::3]
        del parts[2::3]
        skeleton = tuple(parts)
        # The values count towards the size, so that is judged every time.
        kind = self._kinds.get(skeleton) if len(raw) <= self._recalled_size else None
        if kind is None:
            kind = self._work_out(raw, skeleton)
        length = kind.length
        if kind.length_at is not None:
            digits = values[kind.length_at]
            if _is_length(digits):
                length = int(digits)
            else:
                length = parse_request_head(raw, self._limits).length or 0
        if len(kind.names) > (kind.length_at is not None):
            return _individual(kind, values), length
        # A length that is written in an unusual way is still part of the key: what is recalled by
        # such a key must not be taken to have no body.
        if (key is not raw or length == 0) and len(key) + _MAX_DIGITS <= self._recalled_size:
            self._memo.put(key, Known(self, key[:at], key[at:], kind.routed))
        return kind.routed, length

    def _work_out(self, raw: bytes, skeleton: tuple[bytes, ...]) -> _Kind:
        """Read a head in full."""
        unfit: UnfitRequest | None = None
        try:
            head = parse_request_head(raw, self._limits)
        except UnfitRequest as refusal:
            head, unfit = refusal.head, refusal
        names = tuple(name.lower() for name in skeleton[1::2])
        # Some trace fields were struck off by `Connection`, or are not written in the plainest way:
        # such a head stands for itself, and all of them are as they were read.
        kept = [name.lower() for name, _ in head.kept]
        odd = any(kept.count(name) != names.count(name) for name in _TRACE)
        routed = Routed(head, self._timeout)
        routed.words = Words(
            head.method.decode("ascii"),
            printable(head.path, _MAX_TEXT),
            printable(head.user_agent, _MAX_TEXT),
        )
        try:
            if unfit is not None and not unfit.routable:
                raise unfit
            endpoint, target, routed.cut = self._router.route(head)
        except Refusal as refusal:
            routed.refusal = (unfit or refusal).anew()
            _identify(routed, b"", head.request_id, head.ms_request_id, head.client_request_id)
        else:
            routed.refusal = unfit.anew() if unfit is not None else None
            _address(routed, endpoint, target, [n for n in names if not (odd and n in _TRACE)])
        length_at = names.index(b"content-length") if b"content-length" in names else None
        kind = _Kind(routed, names, head.length or 0, length_at)
        if odd:
            return kind._replace(names=tuple(b"" if name in _TRACE else name for name in names))
        if len(raw) <= REMEMBERED_SIZE:
            self._kinds.put(skeleton, kind)
        return kind


def _is_length(digits: bytes) -> bool:
    """Digits only, and few enough for any body: whatever else stands there is judged in full."""
    return digits.isdigit() and len(digits) <= _MAX_DIGITS


def _address(
    routed: Routed, endpoint: Endpoint, target: bytes, changing: Collection[bytes]
) -> None:
    """Lay out what the container will be sent, without the fields in ``changing``."""
    head = routed.head
    routed.endpoint = endpoint
    routed.timeout = endpoint.timeout
    # HEAD is served where GET is; containers need not know it, so they are asked with GET and
    # the body stays here (RFC 9110 9.3.2).
    routed.request_line = b"POST " if head.method == b"POST" else b"GET "
    routed.request_line += target + b" HTTP/1.1\r\n"
    fields = [b"%b: %b\r\n" % pair for pair in head.kept if pair[0].lower() not in changing]
    if endpoint.forward_credentials and head.authorization is not None:
        fields.append(b"Authorization: " + head.authorization + b"\r\n")
    media_type = (head.content_type or b"").split(b";", 1)[0].strip(OWS)
    # Of a coded body only the container knows what is in it.
    coded = any(name.lower() == b"content-encoding" for name, _ in head.kept)
    routed.is_json = head.method == b"POST" and not coded and bool(_JSON.fullmatch(media_type))
    routed.traceparent = head.traceparent
    routed.common = routed.request_line + b"".join(fields)
    _identify(routed, b"".join(fields), head.request_id, head.ms_request_id, head.client_request_id)


def _individual(kind: _Kind, values: list[bytes]) -> Routed:
    """One head of a kind, with its own values."""
    base = kind.routed
    head = base.head
    routed = Routed(head, base.timeout)
    routed.endpoint = base.endpoint
    routed.refusal = base.refusal
    routed.cut = base.cut
    routed.request_line = base.request_line
    routed.is_json = base.is_json
    routed.common = base.common
    routed.traceparent = base.traceparent
    routed.words = base.words
    request_id, ms_request_id = head.request_id, head.ms_request_id
    client_request_id = head.client_request_id
    fields = base.bare_fields
    for name, value in zip(kind.names, values, strict=True):
        if name == b"traceparent":
            routed.traceparent = value
            fields += b"traceparent: %b\r\n" % value
        elif name == b"tracestate":
            fields += b"tracestate: %b\r\n" % value
        elif name == b"x-ms-client-request-id":
            client_request_id = value
        elif name == b"x-request-id":
            request_id = value
        elif name == b"x-ms-request-id":
            ms_request_id = value
    _identify(routed, fields, request_id, ms_request_id, client_request_id)
    return routed


def _identify(
    routed: Routed,
    fields: bytes,
    request_id: bytes | None,
    ms_request_id: bytes | None,
    client_request_id: bytes | None,
) -> None:
    """Add what the request's identifiers decide."""
    managed = routed.endpoint is not None and routed.endpoint.dialect.name == "managed"
    routed.bare_fields = fields
    routed.identifiers = identify(managed, request_id, ms_request_id, client_request_id)
    routed.fields = fields + routed.identifiers.upstream
