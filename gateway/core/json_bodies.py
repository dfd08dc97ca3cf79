"""What no JSON parser behind the gateway should be bothered with.

A body is not parsed here. But two kinds of malformed JSON do more harm than being malformed: text
that is not UTF-8 and structures nested by the thousand make parsers fail in ways that look like the
model's fault (500) or worse. They are cheap to recognise and are answered with 400 at the door
(RFC 8259 sections 8.1 and 9, reliability.md T20).
"""

from __future__ import annotations

import re

# Half of what CPython's json module, which the scoring container uses, can take. Tensors have a
# depth below ten.
MAX_DEPTH = 512

_BRACKETS = bytes.maketrans(b"[{]}", b"(())")
_OTHERS = bytes(set(range(256)) - set(b'[{]}"'))
_OPEN = ord("(")
_RUNS = re.compile(rb"\(+|\)+")
# Pairs are struck out as long as a round removes one in so many brackets. Measured on 1 MiB of
# pairs of every depth, the most costly text for either way: 35 ms at 7, 53 ms at 4, 75 ms at 16.
_WORTHWHILE = 7


def check_json_text(body: bytes) -> str | None:
    """What is wrong with a JSON text, as far as it concerns us; None if nothing is.

    The text must not be content-coded (RFC 9110 section 8.4): coded bytes are no text.
    """
    # No decoding where there is nothing to decode: isascii() costs 20 ns.
    if not body.isascii() and not _is_utf8(body):
        return "the body is not UTF-8"
    # Hardly any body has that many brackets, and counting costs 30 ns: the rest is for those.
    if len(body) <= MAX_DEPTH:
        return None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_too_deep(_structure(body)):
        return f"the body is nested deeper than {MAX_DEPTH} levels"
    return None


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _structure(body: bytes) -> bytes:
    """The brackets outside strings (RFC 8259 section 7), all of them as ``(`` and ``)``.

    Exact as far as the text is JSON, and no parser reads farther. Every step is one pass in C.
    """
    if b"\\" in body:
        # From the left, as a parser pairs them: what is left of a run of backslashes escapes.
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    left = body.translate(_BRACKETS, _OTHERS)
    if b'"' in left:
        # Two quotes with nothing between them change nothing; of the rest, every second one closes.
        left = b"".join(left.replace(b'""', b"").split(b'"')[::2])
    return left


def _is_too_deep(left: bytes) -> bool:
    """Whether brackets nest deeper than allowed.

    While many of them are innermost pairs, those are struck out all at once, which takes one level
    off every branch; when few are, there are few runs of equal brackets to be walked over. Either
    way a million brackets take milliseconds, whatever their order.
    """
    struck = 0  # the depth of a well-formed text falls by one with every round
    while left:
        rest = left.replace(b"()", b"")
        if (len(left) - len(rest)) * _WORTHWHILE < len(left):
            break
        left = rest
        struck += 1
    if struck > MAX_DEPTH:
        return True
    depth = 0
    for run in _RUNS.findall(left):
        if run[0] == _OPEN:
            depth += len(run)
            if depth + struck > MAX_DEPTH:
                return True
        else:
            depth = max(0, depth - len(run))
    return False
