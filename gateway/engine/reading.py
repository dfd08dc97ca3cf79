"""From the bytes of a head to everything that can be decided from them, worked out once.

A client that keeps its connection sends the same head again and again, but for the length of the
body and, with some clients, identifiers of the request. What follows from a head is remembered by
its exact bytes, those values cut out; they are looked at every time, and a value that is not of the
plainest form makes the head be read in full.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from gateway.core.faults import Refusal
from gateway.core.grammar import OWS, printable
from gateway.core.heads import HeadLimits, UnfitRequest, parse_request_head
from gateway.core.memo import Memo
from gateway.core.routing import Router
from gateway.engine.endpoints import Endpoint
from gateway.engine.routed import Routed, Words

REMEMBERED = 512
# Longer heads are rare and would make the memory's bound in bytes meaningless.
REMEMBERED_SIZE = 4096

_PLAIN = bytes(range(ord("!"), ord("~") + 1))
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
# Characters of a path or user agent in the log.
_MAX_TEXT = 200
_TRACE = frozenset((b"traceparent", b"tracestate"))
# RFC 6839: `application/*+json` counts as JSON; contract.md 2.4 says which the container accepts.
_JSON = re.compile(rb"application/(?:[A-Za-z0-9!#$&^_.-]+\+)?json", re.IGNORECASE)


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


class KnownKind:
    """Heads that were read before, but for the values of ``names`` (lower case), which are of the
    plainest form.

    ``routed`` lacks what follows from those values. ``length_at`` is the place of the body's length
    among them, None where ``length`` is the same for all.
    """

    __slots__ = ("_last", "_literals", "length", "length_at", "names", "reader", "routed")

    def __init__(
        self,
        reader: HeadReader,
        routed: Routed,
        names: tuple[bytes, ...],
        skeleton: tuple[bytes, ...],
        length: int,
    ) -> None:
        """:param skeleton: what stands between the values, and the names as they are written."""
        self.reader = reader
        self.routed = routed
        self.names = names
        self.length = length
        self.length_at = names.index(b"content-length") if b"content-length" in names else None
        spellings = skeleton[1::2]
        self._literals = [
            b"%b\r\n%b: " % pair for pair in zip(skeleton[:-1:2], spellings, strict=True)
        ]
        self._last = skeleton[-1]

    def __repr__(self) -> str:
        return f"<KnownKind {self.routed!r}>"

    @property
    def is_individual(self) -> bool:
        """Something else than the length of the body changes."""
        return len(self.names) > (self.length_at is not None)

    def recognise(self, data: bytes, at: int) -> tuple[Routed, int, int] | None:
        """As ``Known.recognise``."""
        values = []
        end = at
        for literal in self._literals:
            if not data.startswith(literal, end):
                return None
            start = end + len(literal)
            end = data.find(b"\r\n", start)
            values.append(data[start:end])
        if not data.startswith(self._last, end):
            return None
        end += len(self._last)
        if end - at > self.reader.recalled_size or not _are_plain(values):
            return None
        length = self.length
        if self.length_at is not None:
            digits = values[self.length_at]
            if not _is_length(digits):
                return None
            length = int(digits)
        return self.routed.individual(self.names, values), length, end


class HeadReader:
    """Reads heads under one configuration."""

    __slots__ = (
        "_kinds",
        "_limits",
        "_memo",
        "_recall",
        "_router",
        "_timeout",
        "known",
        "recalled_size",
    )

    def __init__(self, router: Router[Endpoint], limits: HeadLimits, timeout: float) -> None:
        """:param timeout: seconds for requests that belong to no endpoint."""
        self._router = router
        self._limits = limits
        self._timeout = timeout
        #: Bytes of a head that may be recalled.
        self.recalled_size = min(REMEMBERED_SIZE, limits.total)
        #: What the head that was read last is known by. A client's next one is most often the same.
        self.known: Known | KnownKind | None = None
        self._memo: Memo[bytes, Known] = Memo(REMEMBERED)
        self._recall = self._memo.get
        self._kinds: Memo[tuple[bytes, ...], KnownKind] = Memo(REMEMBERED)

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
        kind = self._kinds.get(skeleton) if len(raw) <= self.recalled_size else None
        known = kind
        if kind is None:
            kind = self._work_out(raw, skeleton)
        length = kind.length
        if kind.length_at is not None:
            digits = values[kind.length_at]
            if _is_length(digits):
                length = int(digits)
            else:
                length = parse_request_head(raw, self._limits).length or 0
        if kind.is_individual:
            self.known = known
            return kind.routed.individual(kind.names, values), length
        # A length that is written in an unusual way is still part of the key: what is recalled by
        # such a key must not be taken to have no body.
        if (key is not raw or length == 0) and len(key) + _MAX_DIGITS <= self.recalled_size:
            self._memo.put(key, Known(self, key[:at], key[at:], kind.routed))
        return kind.routed, length

    def _work_out(self, raw: bytes, skeleton: tuple[bytes, ...]) -> KnownKind:
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
            routed.identify(b"", head.request_id, head.ms_request_id, head.client_request_id)
        else:
            routed.refusal = unfit.anew() if unfit is not None else None
            _address(routed, endpoint, target, [n for n in names if not (odd and n in _TRACE)])
        if odd:
            names = tuple(b"" if name in _TRACE else name for name in names)
        kind = KnownKind(self, routed, names, skeleton, head.length or 0)
        if not odd and len(raw) <= REMEMBERED_SIZE:
            self._kinds.put(skeleton, kind)
        return kind


def _is_length(digits: bytes) -> bool:
    """Digits only, and few enough for any body: whatever else stands there is judged in full."""
    return digits.isdigit() and len(digits) <= _MAX_DIGITS


def _are_plain(values: list[bytes]) -> bool:
    """Whether all of them are what ``_CHANGING`` takes for a value."""
    return all(values) and not b"".join(values).translate(None, _PLAIN)


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
    routed.identify(b"".join(fields), head.request_id, head.ms_request_id, head.client_request_id)
