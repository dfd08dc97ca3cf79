"""The chunked transfer coding, decoded strictly (RFC 9112 section 7.1).

Bytes go in as they arrive; data comes out, and what follows the last chunk is handed back, so that
a pipelined request behind a chunked one is found. Chunk extensions are ignored and bounded,
trailer fields are dropped and bounded: neither may carry anything inwards (reliability.md T2).
"""

from __future__ import annotations

import re

from gateway.core.faults import Fault, Refusal

# RFC 9112 7.1: chunk-size [ chunk-ext ]. 16 hexadecimal digits are more than any limit needs. An
# extension (7.1.1) is a name and perhaps a value, which may be quoted. Nothing in here can match in
# two ways, and the possessive quantifiers say so: a line is looked at once.
_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_EXTENSION = rb"[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?" % (_NAME, _NAME, _QUOTED)
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:%b)*+" % _EXTENSION)
# RFC 9112 7.1.2: a trailer field has the grammar of a header field.
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")

# A chunk-size line carries at most 16 digits of meaning. The rest is somebody's extension, which
# nothing known sends; 1 KiB of it is generous, and more would let a sender burn our time for free.
MAX_LINE = 1024
MAX_TRAILERS = 8192
# Data per line of framing below which a body is an attack rather than a stream: a million one-byte
# chunks cost as much as a million requests (aiohttp CVE-2025-69229).
FREE_CHUNKS = 4096
MIN_MEAN_CHUNK = 16


# What comes next. Plain text, because a look-up by a member of an Enum costs 70 ns, several times
# per chunk.
_SIZE = "size"
_DATA = "data"
_DATA_END = "data_end"
_TRAILERS = "trailers"


class ChunkedDecoder:
    """Decodes one body. ``done`` is set when the last chunk and its trailers were read."""

    __slots__ = ("_chunks", "_left", "_line", "_state", "_total", "_trailers", "done")

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0
        self._line = b""
        self._trailers = 0
        self._chunks = 0
        self._total = 0
        self.done = False

    def __repr__(self) -> str:
        return f"<ChunkedDecoder {self._state}, {self._total} bytes so far>"

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Decode what arrived.

        :returns: pieces of the body in order, and the bytes after the end of the message (always
            empty until ``done``).
        :raises Refusal: ``BAD_REQUEST`` when the coding is broken; the decoder is then useless.
        """
        pieces: list[bytes] = []
        at = 0
        while at < len(data) and not self.done:
            if self._state == _DATA:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _DATA_END
            else:
                line, at = self._take_line(data, at)
                if line is not None:
                    self._on_line(line)
        return pieces, data[at:]

    def _take_line(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """Up to the next CRLF, None while it has not come. Only CRLF ends a line."""
        end = data.find(b"\n", at)
        if end < 0:
            self._line += data[at:]
            self._check_line(self._line)
            return None, len(data)
        line = self._line + data[at:end]
        self._line = b""
        if not line.endswith(b"\r"):
            raise Refusal(Fault.BAD_REQUEST, "a bare line feed in the chunked coding")
        self._check_line(line)
        return line[:-1], end + 1

    def _check_line(self, line: bytes) -> None:
        if self._state == _DATA_END:
            if len(line) > 1:  # only the CR of a CRLF can stand between data and line feed
                raise Refusal(Fault.BAD_REQUEST, "a chunk is longer than its size says")
        elif len(line) > MAX_LINE:
            raise Refusal(Fault.BAD_REQUEST, f"a line of the chunked coding above {MAX_LINE} bytes")

    def _on_line(self, line: bytes) -> None:
        if self._state == _SIZE:
            self._on_size(line)
        elif self._state == _DATA_END:
            self._state = _SIZE
        else:
            self._on_trailer(line)

    def _on_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise Refusal(Fault.BAD_REQUEST, "a chunk size that is not hexadecimal digits")
        self._left = int(match[1], 16)
        if not self._left:
            self._state = _TRAILERS
            return
        self._state = _DATA
        self._total += self._left
        self._chunks += 1
        if self._chunks > FREE_CHUNKS and self._total < self._chunks * MIN_MEAN_CHUNK:
            raise Refusal(Fault.BAD_REQUEST, "too many tiny chunks")

    def _on_trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailers += len(line)
        if self._trailers > MAX_TRAILERS:
            raise Refusal(Fault.HEAD_TOO_LARGE, f"at most {MAX_TRAILERS} bytes of trailers")
        if _TRAILER.fullmatch(line) is None:
            raise Refusal(Fault.BAD_REQUEST, "a trailer that is not a header field")
        if line.partition(b":")[0].lower() in _FORBIDDEN_TRAILERS:
            raise Refusal(Fault.BAD_REQUEST, "a trailer field that only a header may carry")


# RFC 9110 section 6.5.1: fields that frame, route or authenticate must not come in trailers.
_FORBIDDEN_TRAILERS = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"trailer",
        b"te",
        b"connection",
        b"expect",
    )
)


def encode_chunk(data: bytes) -> bytes:
    """``data`` as one chunk. Empty data would end the body, so it must not be given."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
