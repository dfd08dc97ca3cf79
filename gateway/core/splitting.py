"""Cutting the answer to merged requests into the answers each of them would have received.

An answer is cut only where its shape leaves no doubt: a list with as many elements as there were
rows, possibly inside objects of one member each, all of that possibly inside a JSON string (scripts
that return ``json.dumps(...)`` are answered so). A caller receives what the container would have
written for its rows alone: everything around the list, and its own elements with the separators
that were between them. That takes a serializer which writes an element the same wherever it stands,
so only the two styles in use for that are cut: ``, `` or ``,`` between elements and no other white
space around them. Flask's newline after the answer is kept.

Every text is judged by a JSON parser before it is cut, as a whole, and the parser's count of
elements must be the configured one. The quick ways to find the cuts rest on counting. In a list of
n lists with n opening and n closing brackets, each list has one of each to itself, and none is left
for strings or deeper lists: so every ``], [`` is a boundary, and if n - 1 of them are found, they
are all boundaries. The same holds for objects and braces. In a list of n strings with 2n quotes no
quote is part of a string, the n - 1 matches of ``", "`` take up all of those inside the text, two
each from the left: the closing one of a string and the opening one of the next.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

# The list, in as many objects as a container would write around it.
_HEAD = re.compile(rb'(?:\{"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrtu])*+": ?){0,4}\[')
_STYLES = (b", ", b",")
_ENCLOSED: dict[type, tuple[bytes, bytes]] = {
    list: (b"[", b"]"),
    dict: (b"{", b"}"),
    str: (b'"', b'"'),
}
_raw_decode = json.JSONDecoder().raw_decode


class _Opened(NamedTuple):
    """An answer taken apart. Its bytes are ``head``, the elements, ``tail``."""

    head: bytes
    tail: bytes
    left: bytes  # the beginning of each element, not in its piece
    right: bytes  # the end of each element, not in its piece
    pieces: list[bytes]
    separator: bytes | None  # None: there is one element
    ascii_only: bool | None = None  # of a JSON string; None: cannot be known


def split_answer(body: bytes, counts: Sequence[int]) -> list[bytes] | None:
    """The answers to requests of so many rows each; None if the body cannot be cut for certain."""
    if not counts or min(counts) < 1:
        return None
    total = sum(counts)
    opened = _open(body, total)
    if opened is None:
        return None
    head = opened.head + opened.left
    tail = opened.right + opened.tail
    pieces = opened.pieces
    if total == len(counts):
        return [head + piece + tail for piece in pieces]
    between = opened.right + (opened.separator or b"") + opened.left
    answers = []
    start = 0
    for count in counts:
        answers.append(head + between.join(pieces[start : start + count]) + tail)
        start += count
    return answers


def join_answers(bodies: Sequence[bytes], counts: Sequence[int]) -> bytes | None:
    """The answer to all rows, from the answers to consecutive parts of them.

    None if it is not certain what the whole answer would have looked like: each body must be one
    that `split_answer` would cut, all must agree in everything around the elements, and at least
    one must show how elements are separated.
    """
    if not bodies or len(bodies) != len(counts):
        return None
    heads, separators, coats = set(), set(), set()
    inner = []
    for body, count in zip(bodies, counts, strict=True):
        opened = _open(body, count) if count > 0 else None
        if opened is None:
            return None
        heads.add((opened.head, opened.tail))
        if opened.separator is not None:
            separators.add(opened.separator)
        if opened.ascii_only is not None:
            coats.add(opened.ascii_only)
        inner.append(body[len(opened.head) : len(body) - len(opened.tail)])
    if len(bodies) == 1:
        return bodies[0]
    if len(heads) != 1 or len(separators) != 1 or len(coats) > 1:
        return None
    head, tail = heads.pop()
    return head + separators.pop().join(inner) + tail


def _open(body: bytes, count: int) -> _Opened | None:
    end = b"\n" if body.endswith(b"\n") else b""
    if end:
        body = body[:-1]
    opened = _open_string(body, count) if body.startswith(b'"') else _open_list(body, count)
    return opened._replace(tail=opened.tail + end) if opened and end else opened


def _open_string(body: bytes, count: int) -> _Opened | None:
    text = _parse(body)
    if text.__class__ is not str:
        return None
    try:
        inner = text.encode()
        ascii_only = next(
            (each for each in (True, False) if b'"%b"' % _coat(inner, each) == body), None
        )
    except ValueError:  # half a surrogate pair
        return None
    if ascii_only is None or (opened := _open_list(inner, count)) is None:
        return None
    # Character by character, so what is put together can be coated part by part.
    head, tail, left, right, pieces, separator, _ = opened
    together = b"".join(pieces)
    if _coat(together, ascii_only) != together:
        pieces = [_coat(piece, ascii_only) for piece in pieces]
    return _Opened(
        b'"' + _coat(head, ascii_only),
        _coat(tail, ascii_only) + b'"',
        _coat(left, ascii_only),
        _coat(right, ascii_only),
        pieces,
        separator,
        None if inner.isascii() else ascii_only,
    )


def _coat(text: bytes, ascii_only: bool) -> bytes:
    """The text as json.dumps() writes it, without the quotes."""
    return json.dumps(text.decode(), ensure_ascii=ascii_only)[1:-1].encode()


def _open_list(body: bytes, count: int) -> _Opened | None:
    found = _HEAD.match(body)
    if found is None:
        return None
    head = found[0]
    tail = body[body.rfind(b"]") :]
    # The pattern saw to the style, the parser sees to names and nesting. White space is the only
    # thing it would let pass at the end.
    if tail != b"]" + b"}" * (len(tail) - 1) or _parse(head + tail) is None:
        return None
    text = body[len(head) - 1 : len(body) - len(tail) + 1]
    values = _parse(text)
    if values.__class__ is not list or len(values) != count or not _is_plain(text):
        return None
    parts = _cut(text, values)
    return None if parts is None else _Opened(head, tail, *parts)


def _parse(text: bytes) -> Any:
    """None if it is not JSON, not even as Python writes it. (Or null, which is no better.)"""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError):
        return None


def _is_plain(text: bytes) -> bool:
    """Whether there is no white space but that of a style, as far as counting can tell."""
    # In a string these three would be escaped.
    if b"\n" in text or b"\t" in text or b"\r" in text:
        return False
    spaces = text.count(b" ")
    # Spaces in strings, and in objects, are looked at by nobody: elements stay as they are.
    return not spaces or b'"' in text or spaces == text.count(b",") == text.count(b", ")


def _cut(text: bytes, values: list[Any]) -> tuple[bytes, bytes, list[bytes], bytes | None] | None:
    """Left, right, pieces and separator of a list (see `_Opened`)."""
    count = len(values)
    classes = set(map(type, values))
    left = right = b""
    if not classes.isdisjoint(_ENCLOSED):
        left, right = _ENCLOSED[classes.pop()] if len(classes) == 1 else (b"", b"")
        if not left or not _is_shallow(text, left, right, count):
            return _cut_stepping(text, count)
    inner = text[1 + len(left) : len(text) - 1 - len(right)]
    if count == 1:
        return left, right, [inner], None
    for separator in _STYLES:
        pieces = inner.split(right + separator + left)
        if len(pieces) == count:
            return left, right, pieces, separator
    return None


def _is_shallow(text: bytes, left: bytes, right: bytes, count: int) -> bool:
    """Whether so many elements have all the brackets of their sort, or all the quotes, in a list
    without white space at its ends."""
    own = text[1:-1]
    if left == right:
        enough = own.count(left) == 2 * count
    else:
        enough = own.count(left) == count == own.count(right)
    return enough and own.startswith(left) and own.endswith(right)


def _cut_stepping(text: bytes, count: int) -> tuple[bytes, bytes, list[bytes], bytes | None] | None:
    """Cut at the places where the parser says that an element ends."""
    decoded = text.decode()
    separator = None
    pieces = []
    start = 1
    try:
        for _ in range(count - 1):
            _, end = _raw_decode(decoded, start)
            if separator is None:
                separator = ", " if decoded.startswith(", ", end) else ","
            if not decoded.startswith(separator, end):
                return None
            pieces.append(decoded[start:end].encode())
            start = end + len(separator)
        # White space is where it does not begin with a value, or does not end with the list.
        _, end = _raw_decode(decoded, start)
    except (ValueError, RecursionError):
        return None
    if end != len(decoded) - 1:
        return None
    pieces.append(decoded[start:end].encode())
    return b"", b"", pieces, None if separator is None else separator.encode()
