"""The rows of a scoring request, read so that requests can be merged without rewriting a byte.

A body is cut into ``prefix + inner + suffix``: the prefix ends with the ``[`` of the rows, the
suffix begins with their ``]``. What is around the rows (the frame) is judged once, with the marker
``1`` and again with ``2`` in place of the rows, by the parser the scoring container uses. What is
inside is judged on every request, with its brackets.

Why that is sound. The two verdicts on the frame differ only in the marker, and the value at the
configured path is ``[1]`` in one and ``[2]`` in the other. So the marker is a token of its own (in
a string it would not be a number), and the brackets next to it are those of the array at the path.
JSON is a context-free language which is read without looking back: where the array ``[1]`` stands,
any other array may stand, and everything around it is read as before. ``inner`` with its brackets
is such an array, because a parser accepted exactly that slice; nothing in it can close the array
early or add a member. The same holds for rows of several bodies with a comma between. No member
name occurs twice in an object of the frame, so no two parsers can disagree about which one counts.
A name that occurs twice inside a row does no harm: the row's bytes are passed on untouched, and
merging changes nothing about how they are read.

Parsing alike is not being read alike: requests share a batch only if their rows are of one `Kind`
(`kinds.py`), and an array beside the rows with as many elements as there are rows (``index``) may
belong to them: such a body goes alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Any

import orjson

from gateway.core.kinds import NESTING, Kind, Kinds, names_dates
from gateway.core.memo import Memo

# Bytes. What stands around the rows is small: names and a few parameters.
MAX_FRAME = 4096
# What is remembered is bounded, whatever clients send: frames and suffixes to 6 MiB, outlines to
# 1 MiB. Forgetting a suffix costs time; forgetting a frame costs all that is known of merging it.
_PREFIXES = 64
_SUFFIXES = 8
_FRAMES = 256
_OUTLINES = 64
_MAX_COLUMNS = 1024
# A body may contain the member's name in other places before the right one, but not often.
_HITS = 3

_SPACE = rb"[ \t\n\r]*"
_CLOSING = {b"[": b"]", b"{": b"}"}
_GAP = re.compile(r"[ \t\n\r,]*")

_loads = orjson.loads


class Frame:
    """What surrounds the rows in a body. Frames that merge are the same object."""

    __slots__ = ("lengths", "prefix", "suffix")

    def __init__(self, prefix: bytes, suffix: bytes, lengths: Collection[int] = ()) -> None:
        """
        :param prefix: up to and including the ``[`` of the rows.
        :param suffix: from the ``]`` of the rows on.
        :param lengths: of the arrays beside the rows.
        """
        self.prefix = prefix
        self.suffix = suffix
        self.lengths = frozenset(lengths)

    def __repr__(self) -> str:
        return f"<Frame {len(self.prefix)}+{len(self.suffix)} bytes>"


class Rows:
    """The rows of one request."""

    __slots__ = ("count", "frame", "inner", "kind")

    def __init__(self, frame: Frame, inner: bytes, count: int, kind: Kind) -> None:
        """
        :param inner: rows and separators exactly as they came, without the outer brackets.
        :param count: at least 1.
        """
        self.frame = frame
        self.inner = inner
        self.count = count
        self.kind = kind

    def __repr__(self) -> str:
        return f"<Rows {self.count}, {len(self.inner)} bytes, {self.kind!r}>"


def merge(parts: Sequence[Rows]) -> bytes:
    """The body with the rows of all parts in their order. All are of the same frame and kind."""
    frame = parts[0].frame
    return b"%b%b%b" % (frame.prefix, b",".join([part.inner for part in parts]), frame.suffix)


def cut(rows: Rows, size: int) -> list[Rows]:
    """Consecutive pieces of at most ``size`` rows.

    Rows which are of their kind only together (an integer above a float) stay together: one piece.
    """
    if size >= rows.count or not rows.kind.uniform:
        return [rows]
    inner = rows.inner.strip(b" \t\n\r")
    starts = range(0, rows.count, size)
    opening = inner[:1]
    closing = _CLOSING.get(opening, b"")
    # As many brackets as rows: each row has its own, and there is none in a row or in a string.
    if closing and inner.count(opening) == inner.count(closing) == rows.count:
        ended = inner.split(closing)[:-1]
        texts = [
            (closing.join(ended[start : start + size]) + closing).lstrip(b", \t\n\r")
            for start in starts
        ]
    else:
        text = inner.decode()
        spans = _spans(text, rows.count)
        texts = [
            text[spans[start][0] : spans[min(start + size, rows.count) - 1][1]].encode()
            for start in starts
        ]
    return [
        Rows(rows.frame, text, min(size, rows.count - start), rows.kind)
        for start, text in zip(starts, texts, strict=True)
    ]


def _spans(text: str, count: int) -> list[tuple[int, int]]:
    """Where each of so many values begins and ends in a text known to be well-formed."""
    spans = []
    end = 0
    for _ in range(count):
        gap = _GAP.match(text, end)
        start = gap.end() if gap else end
        _, end = _EXACT.raw_decode(text, start)
        spans.append((start, end))
    return spans


# Bytes of the largest body that is read to be merged. To read a body holds up everybody else: this
# much takes some milliseconds, a megabyte up to a tenth of a second (reliability.md T20). It is a
# batch of its own anyway.
LARGEST = 1 << 17


class RowReader:
    """Reads the rows of the requests to one deployment."""

    __slots__ = (
        "_canonical",
        "_field",
        "_frame",
        "_frames",
        "_kind",
        "_kinds",
        "_max_bytes",
        "_opening",
        "_outline",
        "_outlines",
        "_prefix",
        "_prefixes",
        "_previous",
        "_skip_left",
        "_skip_right",
        "_suffix",
    )

    def __init__(self, field: Sequence[str], *, max_bytes: int) -> None:
        """
        :param field: names of the members that lead from the top to the rows.
        :param max_bytes: longer bodies are not read.
        """
        if not field:
            raise ValueError("the rows are in a member, and it has a name")
        self._field = tuple(field)
        self._max_bytes = max_bytes
        name = re.escape(json.dumps(field[-1], ensure_ascii=False).encode())
        self._opening = re.compile(name + _SPACE + b":" + _SPACE + rb"\[")
        names = [json.dumps(name, ensure_ascii=False).encode() for name in field]
        self._canonical = Frame(b"{" + b": {".join(names) + b": [", b"]" + b"}" * len(names))
        self._prefixes: Memo[bytes, list[bytes]] = Memo(_PREFIXES)
        self._frames: Memo[tuple[bytes, bytes], Frame] = Memo(_FRAMES)
        self._kinds = Kinds()
        # What single rows look like at first sight: names and types.
        self._outlines: Memo[tuple[Any, ...], Kind] = Memo(_OUTLINES)
        # Both of the request before: clients repeat themselves.
        self._outline: tuple[Any, ...] = ()
        self._kind: Kind | None = None
        self._prefix = self._canonical.prefix
        self._suffix = self._canonical.suffix
        self._frame = self._canonical
        self._previous = self._prefix, self._suffix, self._frame
        self._keep(self._prefix, self._suffix, self._frame)

    def read(self, body: bytes) -> Rows | None:
        """The rows of a request; None if it is not eligible and goes alone, untouched."""
        size = len(body)
        if size > self._max_bytes:
            return None
        # Prefix and suffix that overlap leave one byte or none, which is no array.
        if not (body.startswith(self._prefix) and body.endswith(self._suffix)):
            return self._search(body)
        text = body[self._skip_left : size - self._skip_right]
        try:
            rows = _loads(text)
        except orjson.JSONDecodeError:
            return self._search(body)
        return self._rows(self._frame, text, rows, exact=False)

    def _keep(self, prefix: bytes, suffix: bytes, frame: Frame) -> None:
        if (prefix, suffix) != (self._prefix, self._suffix):
            self._previous = self._prefix, self._suffix, self._frame
        self._prefix = prefix
        self._suffix = suffix
        self._skip_left = len(prefix) - 1
        self._skip_right = len(suffix) - 1
        self._frame = frame

    def _search(self, body: bytes) -> Rows | None:
        # Two styles in turn are the common case of more than one.
        prefix, suffix, frame = self._previous
        if body.startswith(prefix) and body.endswith(suffix):
            text = body[len(prefix) - 1 : len(body) - len(suffix) + 1]
            try:
                rows = _loads(text)
            except orjson.JSONDecodeError:
                pass
            else:
                self._keep(prefix, suffix, frame)
                return self._rows(frame, text, rows, exact=False)
        for hit in islice(self._opening.finditer(body, 0, MAX_FRAME), _HITS):
            prefix = body[: hit.end()]
            known = self._prefixes.get(prefix) or ()
            if (array := _array(body, len(prefix) - 1, known)) is None:
                continue
            text, rows, exact = array
            suffix = body[len(prefix) + len(text) - 2 :]
            found = self._frames.get((prefix, suffix))
            if found is None:
                found = self._learn(prefix, suffix)
            elif suffix not in known:
                self._expect(prefix, suffix)
            if found is not None:
                self._keep(prefix, suffix, found)
                return self._rows(found, text, rows, exact=exact)
        return None

    def _learn(self, prefix: bytes, suffix: bytes) -> Frame | None:
        if len(prefix) + len(suffix) > MAX_FRAME:
            return None
        frame = _judge(prefix, suffix, self._field, self._canonical)
        if frame is not None:
            self._frames.put((prefix, suffix), frame)
            self._expect(prefix, suffix)
        return frame

    def _expect(self, prefix: bytes, suffix: bytes) -> None:
        """After this prefix, look for this suffix and the others that came last."""
        known = [suffix, *(self._prefixes.get(prefix) or ())][:_SUFFIXES]
        # The longest first: a short one is the end of many a body.
        self._prefixes.put(prefix, sorted(dict.fromkeys(known), key=len, reverse=True))

    def _rows(self, frame: Frame, text: bytes, rows: list[Any], *, exact: bool) -> Rows | None:
        count = len(rows)
        if count in frame.lengths:
            return None
        kind: Kind | None
        if count == 1:
            row = rows[0]
            outline: tuple[Any, ...] = ()
            leaves: Iterable[Any] = ()
            if row.__class__ is list:
                outline = tuple(map(type, row))
                leaves = row
            elif row.__class__ is dict:
                outline = (tuple(row), *map(type, row.values()))
                leaves = row.values()
            kind = self._kind if outline == self._outline else self._outlines.get(outline)
            if kind is not None:
                self._outline = outline
                self._kind = kind
                return Rows(frame, text[1:-1], 1, kind) if exact or kind.bears(leaves) else None
            if (kind := self._kinds.find(rows, exact=exact)) is None:
                return None
            # Of nested cells the outline says too little.
            if outline and len(outline) <= _MAX_COLUMNS and NESTING.isdisjoint(outline):
                self._outlines.put(outline, kind)
        elif (kind := self._kinds.find(rows, exact=exact)) is None:
            return None
        return Rows(frame, text[1:-1], count, kind)


def _array(body: bytes, start: int, known: Iterable[bytes]) -> tuple[bytes, list[Any], bool] | None:
    """The array at an offset: its text, its values, and whether those are free of rounding."""
    suffix = next((suffix for suffix in known if body.endswith(suffix)), None)
    text = body[start : body.rfind(b"]") + 1 if suffix is None else len(body) - len(suffix) + 1]
    try:
        return text, _loads(text), False
    except orjson.JSONDecodeError:
        # Other members follow which have brackets too, or it is only JSON as Python has it.
        pass
    try:
        decoded = body[start:].decode()
        rows, end = _EXACT.raw_decode(decoded)
    except (ValueError, RecursionError):
        return None
    return decoded[:end].encode(), rows, True


def _judge(prefix: bytes, suffix: bytes, field: Sequence[str], canonical: Frame) -> Frame | None:
    """The frame made of these bytes, if the rows at the path are all that is between them."""
    try:
        left, right = prefix.decode(), suffix.decode()
        for marker in (1, 2):
            top = json.loads(
                f"{left}{marker}{right}", object_pairs_hook=_members, parse_constant=_refuse
            )
            value = top
            beside: list[Any] = []
            for name in field:
                if value.__class__ is not dict or name not in value:
                    return None
                beside.extend(other for key, other in value.items() if key != name)
                value = value[name]
            if value != [marker]:
                return None
        return Frame(prefix, suffix, _lengths(beside)) if beside else canonical
    except (ValueError, RecursionError):
        return None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _refuse(text: str) -> None:
    raise ValueError("not a number of JSON")


def _integer(digits: str) -> int:
    number = int(digits)
    if not -(2**63) <= number < 2**63:
        raise ValueError("an integer of more than 64 bits")
    return number


_EXACT = json.JSONDecoder(parse_int=_integer)


def _lengths(values: list[Any]) -> set[int]:
    """Of all arrays in the values; ValueError if one of them names a column of dates."""
    lengths = set()
    while values:
        value = values.pop()
        if value.__class__ is list:
            lengths.add(len(value))
            if any(item.__class__ is str and names_dates(item) for item in value):
                raise ValueError("names a column of dates")
            values.extend(value)
        elif value.__class__ is dict:
            values.extend(value.values())
    return lengths
