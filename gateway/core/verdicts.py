"""What a container's answer to a merged call means for the callers that were merged.

The promise is that batching changes no answer: everybody gets what it would have got alone. So an
answer goes to all of them only if no row can have had a part in it, and whatever may be the fault
of one row is traced to it by calling again (peers.md 2.6, contract.md 2.4). In doubt a row may be
to blame: that costs a bounded number of calls, whereas sharing would make an innocent caller pay.
"""

from __future__ import annotations

import re
from enum import Enum


class Verdict(Enum):
    """What to do with the answer to a merged call."""

    #: Everybody's answer may be cut out of it. If that turns out to be impossible: ``HALVE``.
    SPLIT = "split"
    #: One of the rows may be to blame: call again for each half.
    HALVE = "halve"
    #: There were too many rows at once, and none is to blame: fewer from now on.
    SHRINK = "shrink"
    #: No row had a part in it: it is everybody's answer, as far as :func:`shared_lines` says.
    SHARE = "share"


# Unpacked, because a look-up in an Enum costs 70 ns on CPython 3.11 and a global 2.
SPLIT, HALVE, SHRINK, SHARE = Verdict

# Fields that belong to one caller, or describe one exact body, so that a piece of the body must not
# carry them: RFC 9110 sections 8.4 (coding), 8.7, 8.8.3, 10.2.2 and 14.4, RFC 6265, RFC 9530,
# RFC 7615, RFC 9421. `Last-Modified` is not among them: it tells a time, and time may differ.
# A model that says of itself that it failed, with status 200, has not answered everybody.
_OF_ONE = re.compile(
    rb"^(?:set-cookie2?|etag|content-(?:md5|digest|range|encoding|location)|digest|repr-digest"
    rb"|location|authentication-info|signature(?:-input)?"
    rb"|x-ms-run-function-failed[ \t]*:[ \t]*true)[ \t]*[:\r]",
    re.IGNORECASE | re.MULTILINE,
)
_COOKIES = re.compile(
    rb"^(?:set-cookie2?|authentication-info)[ \t]*:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE
)
# `False` on whatever the scoring server says, `True` when run() failed; absent on the answers of
# anything else. The time is there when run() has returned, whatever it returned (routes.py of
# azureml-inference-server-http 1.5.1).
_FAILED = re.compile(
    rb"^x-ms-run-function-failed[ \t]*:[ \t]*(true|false)[ \t]*\r", re.IGNORECASE | re.MULTILINE
)
_RETURNED = re.compile(rb"^x-ms-run-fn-exec-ms[ \t]*:", re.IGNORECASE | re.MULTILINE)
# As text before version 0.8.0, as JSON since. In full: a script may quote it in a message.
_TIMEOUT = re.compile(
    rb'\s*(?:\{\s*"message"\s*:\s*)?"?Scoring timeout after [0-9.]+ ms"?\s*\}?\s*'
)
# The managed front end's (contract.md 1.3), as opposed to a server that waited for the request.
_TOO_SLOW = b"upstream request timeout"
# What the scoring server says of any exception outside run(). Some rows can cause one: an integer
# of more than 4300 digits, which json.loads() refuses with a plain ValueError, or a result that is
# no JSON (`except Exception as e: return e`).
_UNHANDLED = b"An unexpected internal error occurred."

# Method, media type, address and head are the same for everybody in a batch, and capacity is
# nobody's fault. Not 401, 403 or 404: a filter or a model may well say these of one row.
_ABOUT_NO_ROW = frozenset((405, 407, 408, 414, 415, 421, 429, 431, 502, 503, 504, 505))


def judge(status: int, lines: bytes, body: bytes) -> Verdict:
    """What is to be done with the answer to a merged call.

    :param lines: its header fields as they came, each ended by CRLF.
    """
    if status == 200:
        return SPLIT if _OF_ONE.search(lines) is None else HALVE
    if _RETURNED.search(lines) is not None:
        return HALVE  # run() itself chose the status, whichever it is
    flag = _FAILED.search(lines)
    if flag is not None and flag[1].lower() == b"true":
        # Of any status: front ends make 502 of 500 (contract.md 1.3), or 424.
        return SHRINK if _TIMEOUT.fullmatch(body) else HALVE
    if status == 413 or (status == 408 and body.strip() == _TOO_SLOW):
        return SHRINK
    if status in _ABOUT_NO_ROW:
        return SHARE
    if flag is not None:
        # The scoring server's own: 404 is about the path; 400 is about what was sent.
        if status == 404 or (status == 500 and _UNHANDLED not in body):
            return SHARE
        return HALVE
    return HALVE


def shared_lines(lines: bytes) -> bytes:
    """The header fields of a shared answer that may go to everybody: all but credentials."""
    return _COOKIES.sub(b"", lines)
