"""One normal form of a request path, on which everything decides and which is what is forwarded.

A path that two programs read differently is how access checks are passed by (CVE-2019-9901,
reliability.md T11). So there is one form: unreserved characters decoded, escapes in upper case,
repeated slashes merged (RFC 3986 section 6.2.2). What has no harmless form is refused: dot
segments however written, escaped slashes and backslashes, escapes of escapes.
"""

from __future__ import annotations

import re

from gateway.core.faults import Fault, Refusal
from gateway.core.grammar import PLAIN_PATH

_ESCAPE = re.compile(rb"%(..?)?")
_HEX = re.compile(rb"[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# Looked for after decoding, so that it does not matter how the digits were written.
_DOUBLE = re.compile(rb"%25(?:2[eEfF]|5[cC]|25)")


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path in normal form, and the query with its question mark (empty if there is none).

    :param target: a request target in origin-form, printable ASCII without spaces.
    :raises Refusal: ``BAD_REQUEST`` when the path has no harmless normal form.
    """
    path, mark, query = target.partition(b"?")
    if b"#" in target:
        raise Refusal(Fault.BAD_REQUEST, "a fragment in the request target")
    if not PLAIN_PATH.fullmatch(path):
        path = _normalise(path)
    return path, mark + query


def _normalise(path: bytes) -> bytes:
    if not path.startswith(b"/"):
        raise Refusal(Fault.BAD_REQUEST, "the request target is not a path")
    if b"\\" in path:
        raise Refusal(Fault.BAD_REQUEST, "a backslash in the path")
    path = _ESCAPE.sub(_decode, path)
    if _DOUBLE.search(path):
        raise Refusal(Fault.BAD_REQUEST, "an escaped escape in the path")
    segments = path.split(b"/")
    for segment in segments:
        # `..;x=1` is `..` to servers that know path parameters (CVE-2026-73551).
        if segment.split(b";", 1)[0] in (b".", b".."):
            raise Refusal(Fault.BAD_REQUEST, "a dot segment in the path")
    kept = [segment for segment in segments if segment]
    tail = b"/" if not segments[-1] and kept else b""
    return b"/" + b"/".join(kept) + tail


def _decode(match: re.Match[bytes]) -> bytes:
    digits = match[1] or b""
    if not _HEX.fullmatch(digits):
        raise Refusal(
            Fault.BAD_REQUEST, "a percent sign without two hexadecimal digits in the path"
        )
    code = int(digits, 16)
    if code in b"/\\":
        raise Refusal(Fault.BAD_REQUEST, "an escaped slash or backslash in the path")
    if code < 0x20 or code == 0x7F:
        raise Refusal(Fault.BAD_REQUEST, "an escaped control character in the path")
    return bytes((code,)) if code in _UNRESERVED else b"%%%02X" % code
