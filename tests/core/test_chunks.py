"""The chunked coding is decoded strictly, however it is cut, and within bounds (threat T2)."""

from __future__ import annotations

import re
from itertools import pairwise

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.chunks import (
    FREE_CHUNKS,
    LAST_CHUNK,
    MAX_LINE,
    MAX_TRAILERS,
    MIN_MEAN_CHUNK,
    ChunkedDecoder,
    encode_chunk,
)
from gateway.core.faults import Fault, Refusal

Outcome = tuple[bytes, bool, bytes] | Fault
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def decode(*pieces: bytes) -> Outcome:
    """Body, whether it is complete, and what lies behind it; or the fault."""
    decoder = ChunkedDecoder()
    body, rest = b"", b""
    try:
        for piece in pieces:
            found, behind = decoder.feed(piece)
            body += b"".join(found)
            rest += behind
    except Refusal as refusal:
        return refusal.fault
    return body, decoder.done, rest


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


GOOD = [
    pytest.param(b"0\r\n\r\n", b"", id="empty"),
    pytest.param(b"5\r\nabcde\r\n0\r\n\r\n", b"abcde", id="one chunk"),
    pytest.param(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc", id="two chunks"),
    pytest.param(b"A\r\n0123456789\r\n000\r\n\r\n", b"0123456789", id="upper-case size"),
    pytest.param(b"0000000000000001\r\na\r\n0\r\n\r\n", b"a", id="sixteen digits"),
    pytest.param(b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", id="line ends as data"),
    pytest.param(b'1;a=b;c="d;e"\r\na\r\n0;z\r\n\r\n', b"a", id="extensions"),
    # RFC 9112 section 7.1.1 has optional white space around `;` and `=`.
    pytest.param(b"1 ; a = b\r\na\r\n0\r\n\r\n", b"a", id="extensions with white space"),
    pytest.param(b"1\r\na\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", b"a", id="trailers"),
]
BAD = [
    pytest.param(b"0x5\r\nabcde\r\n0\r\n\r\n", id="hexadecimal prefix"),
    pytest.param(b"+5\r\nabcde\r\n0\r\n\r\n", id="plus sign"),
    pytest.param(b"-5\r\nabcde\r\n0\r\n\r\n", id="minus sign"),
    pytest.param(b"1_0\r\nabcde\r\n0\r\n\r\n", id="underscore"),
    pytest.param(b"\xb2\r\nab\r\n0\r\n\r\n", id="digit of another script"),
    pytest.param(b"G\r\n\r\n", id="not a digit"),
    pytest.param(b"\r\n\r\n", id="no size"),
    pytest.param(b" 5\r\nabcde\r\n0\r\n\r\n", id="space before the size"),
    pytest.param(b"5 \r\nabcde\r\n0\r\n\r\n", id="space after the size"),
    pytest.param(b"00000000000000005\r\nabcde\r\n0\r\n\r\n", id="seventeen digits"),
    pytest.param(b"5\nabcde\r\n0\r\n\r\n", id="bare line feed after the size"),
    pytest.param(b"5\rabcde\r\n0\r\n\r\n", id="bare carriage return after the size"),
    pytest.param(b"5\r\nabcde\n0\r\n\r\n", id="bare line feed after the data"),
    pytest.param(b"0\r\n\n", id="bare line feed at the end"),
    pytest.param(b"5;a\nb\r\nabcde\r\n0\r\n\r\n", id="line feed in an extension"),
    pytest.param(b"5;a\rb\r\nabcde\r\n0\r\n\r\n", id="carriage return in an extension"),
    pytest.param(b"5;a\0\r\nabcde\r\n0\r\n\r\n", id="null byte in an extension"),
    pytest.param(b"5\r\nabcdef\r\n0\r\n\r\n", id="data longer than its size"),
    pytest.param(b"5\r\nabcd\r\n0\r\n\r\n", id="data shorter than its size"),
    pytest.param(b"5\r\nabcde0\r\n\r\n", id="no line end after the data"),
    pytest.param(b"1\r\na\r\n\r\n0\r\n\r\n", id="empty line between chunks"),
    pytest.param(b"0\r\nX\r\n\r\n", id="trailer without a colon"),
    pytest.param(b"0\r\nX : y\r\n\r\n", id="space before a trailer's colon"),
    pytest.param(b"0\r\n: y\r\n\r\n", id="trailer without a name"),
    pytest.param(b"0\r\nX: y\r\n z\r\n\r\n", id="folded trailer"),
    pytest.param(b"0\r\nX: a\0b\r\n\r\n", id="null byte in a trailer"),
    pytest.param(b"0\r\nX: a\nY: b\r\n\r\n", id="bare line feed in trailers"),
    *(
        pytest.param(b"0\r\n" + name + b": x\r\n\r\n", id=f"trailer {name.decode()}")
        for name in (
            *(b"Host", b"Content-Length", b"transfer-encoding", b"Authorization", b"TE"),
            *(b"Content-Type", b"Content-Encoding", b"Trailer", b"Connection", b"Expect"),
        )
    ),
]


@pytest.mark.parametrize(("coded", "body"), GOOD)
def test_a_good_body_is_decoded_however_it_is_cut(coded: bytes, body: bytes) -> None:
    assert decode(coded) == (body, True, b"")
    assert decode(*(bytes([byte]) for byte in coded)) == (body, True, b"")
    assert decode(coded + b"GET / HTTP") == (body, True, b"GET / HTTP")
    for at in range(len(coded)):
        assert decode(coded[:at], coded[at:] + b"GET") == (body, True, b"GET")


@pytest.mark.parametrize("coded", BAD)
def test_a_broken_body_is_refused_however_it_is_cut(coded: bytes) -> None:
    assert decode(coded) is Fault.BAD_REQUEST
    assert decode(*(bytes([byte]) for byte in coded)) is Fault.BAD_REQUEST


@pytest.mark.parametrize(
    "extension", [b";", b";;", b';a="b', b';a="b"c', b";a,b", b";a{", b";\x80"], ids=repr
)
def test_an_extension_outside_the_grammar_is_refused(extension: bytes) -> None:
    # RFC 9112 section 7.1.1; llhttp refuses each of these.
    assert decode(b"1" + extension + b"\r\na\r\n0\r\n\r\n") is Fault.BAD_REQUEST


PIECES = [b";", b";a", b"=", b"b", b'"', b"\\", b'="c"', b",", b"{", b"\x80", b"!"]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join))
def test_llhttp_accepts_whatever_extension_is_accepted_here(extension: bytes) -> None:
    coded = b"1;" + extension + b"\r\na\r\n0\r\n\r\n"
    if decode(coded) is not Fault.BAD_REQUEST:
        assert decode_by_llhttp(coded) == (b"a", True)


@pytest.mark.parametrize(
    ("coded", "detail"),
    [
        (b"z\r\n", "a chunk size that is not hexadecimal digits"),
        (b"1\n", "a bare line feed in the chunked coding"),
        (b"1\r\nab\r\n", "a chunk is longer than its size says"),
        (b"0\r\nX\r\n\r\n", "a trailer that is not a header field"),
        (b"0\r\nHOST: a\r\n\r\n", "a trailer field that only a header may carry"),
        (b"1;" + b"x" * MAX_LINE, f"a line of the chunked coding above {MAX_LINE} bytes"),
    ],
)
def test_the_refusal_says_what_was_wrong(coded: bytes, detail: str) -> None:
    with pytest.raises(Refusal) as caught:
        ChunkedDecoder().feed(coded)
    assert (caught.value.fault, caught.value.detail) == (Fault.BAD_REQUEST, detail)


@pytest.mark.parametrize(
    "coded", [b"", b"5", b"5\r\nabc", b"5\r\nabcde\r", b"0\r\nX: y\r\n", b"0\r\n\r"]
)
def test_an_incomplete_body_is_not_done(coded: bytes) -> None:
    decoder = ChunkedDecoder()
    _, rest = decoder.feed(coded)
    assert (decoder.done, rest) == (False, b"")


def test_the_data_of_a_huge_chunk_passes_as_it_comes() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"FFFFFFFFFFFFFFFF\r\nab") == ([b"ab"], b"")
    assert decoder.feed(b"cd") == ([b"cd"], b"")


def test_it_shows_its_state() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"5\r\nab")
    assert repr(decoder) == "<ChunkedDecoder data, 5 bytes so far>"


BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


@given(chunks=BODIES, places=st.lists(st.integers(0), max_size=8), garbage=st.binary(max_size=8))
def test_what_was_encoded_comes_back_from_any_cuts(
    chunks: list[bytes], places: list[int], garbage: bytes
) -> None:
    coded = b"".join(map(encode_chunk, chunks)) + LAST_CHUNK
    assert decode(*cut(coded + garbage, places)) == (b"".join(chunks), True, garbage)


# Pieces of the coding, so that near misses are frequent. Extensions have their own tests: llhttp
# refuses optional white space in them, which RFC 9112 has.
NEAR_MISSES = st.lists(
    st.one_of(
        st.sampled_from([b"\r\n", b"\r", b"\n", b"0\r\n\r\n", b"3\r\nabc\r\n", b"1", b"0", b"a"])
        | st.sampled_from([b" ", b"X: y\r\n", b":", b"00", b"A", b"1\r\n", b"\r\n0\r\n", b"\x80"]),
        st.binary(max_size=2).filter(lambda data: b";" not in data),
    ),
    max_size=10,
).map(b"".join)


@given(coded=NEAR_MISSES, places=st.lists(st.integers(0), max_size=8))
def test_cuts_never_change_the_outcome(coded: bytes, places: list[int]) -> None:
    assert decode(*cut(coded, places)) == decode(coded)


class Reader:
    """Collects what llhttp finds."""

    def __init__(self) -> None:
        self.body = b""
        self.done = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.done = True


def decode_by_llhttp(coded: bytes) -> tuple[bytes, bool]:
    reader = Reader()
    httptools.HttpRequestParser(reader).feed_data(HEAD + coded)
    return reader.body, reader.done


@given(NEAR_MISSES)
def test_llhttp_accepts_whatever_is_accepted_here_as_the_same_body(coded: bytes) -> None:
    outcome = decode(coded)
    if isinstance(outcome, Fault) or not outcome[1]:
        return
    body, _, rest = outcome
    assert decode_by_llhttp(coded[: len(coded) - len(rest)]) == (body, True)


@pytest.mark.parametrize(("coded", "body"), GOOD[:7] + GOOD[8:])
def test_llhttp_agrees_about_the_good_bodies(coded: bytes, body: bytes) -> None:
    assert decode_by_llhttp(coded) == (body, True)


def test_tiny_chunks_are_refused_beyond_a_free_number() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(encode_chunk(b"a") * FREE_CHUNKS)
    with pytest.raises(Refusal) as caught:
        decoder.feed(encode_chunk(b"a"))
    assert (caught.value.fault, caught.value.detail) == (Fault.BAD_REQUEST, "too many tiny chunks")


def test_many_chunks_of_some_size_are_welcome() -> None:
    coded = encode_chunk(bytes(2 * MIN_MEAN_CHUNK)) * (2 * FREE_CHUNKS) + LAST_CHUNK
    assert decode(coded) == (bytes(4 * MIN_MEAN_CHUNK * FREE_CHUNKS), True, b"")


@pytest.mark.parametrize(
    ("size", "count"),
    [(1, FREE_CHUNKS), (MIN_MEAN_CHUNK, FREE_CHUNKS), (MIN_MEAN_CHUNK, 2 * FREE_CHUNKS)],
)
def test_the_end_of_an_acceptable_body_is_accepted(size: int, count: int) -> None:
    coded = encode_chunk(bytes(size)) * count
    assert decode(coded) == (bytes(size * count), False, b"")
    assert decode(coded + LAST_CHUNK) == (bytes(size * count), True, b"")


@pytest.mark.parametrize(
    ("excess", "outcome"), [(0, (b"a", True, b"")), (1, Fault.BAD_REQUEST)], ids=["at", "above"]
)
def test_a_line_has_a_bound(excess: int, outcome: Outcome) -> None:
    # The bound counts the carriage return.
    extension = b";" + b"x" * (MAX_LINE - 3 + excess)
    coded = b"1" + extension + b"\r\na\r\n0\r\n\r\n"
    assert decode(coded) == outcome
    assert decode(*(bytes([byte]) for byte in coded)) == outcome


@pytest.mark.parametrize(
    ("excess", "outcome"), [(0, (b"", True, b"")), (1, Fault.HEAD_TOO_LARGE)], ids=["at", "above"]
)
def test_trailers_have_a_bound_together(excess: int, outcome: Outcome) -> None:
    lines = [b"X:" + b"y" * 510 + b"\r\n"] * (MAX_TRAILERS // 512 - 1)
    lines.append(b"X:" + b"y" * (510 + excess) + b"\r\n")
    coded = b"0\r\n" + b"".join(lines) + b"\r\n"
    assert decode(coded) == outcome
    assert decode(*(bytes([byte]) for byte in coded)) == outcome


def test_the_refusal_of_trailers_names_the_bound() -> None:
    with pytest.raises(Refusal) as caught:
        ChunkedDecoder().feed(b"0\r\n" + b"X: y\r\n" * MAX_TRAILERS)
    assert caught.value.detail == f"at most {MAX_TRAILERS} bytes of trailers"


@given(st.binary(min_size=1, max_size=300))
def test_a_chunk_is_its_size_and_its_data(data: bytes) -> None:
    match = re.fullmatch(rb"([0-9a-f]+)\r\n(.*)\r\n", encode_chunk(data), re.DOTALL)
    assert match is not None
    assert (int(match[1], 16), match[2]) == (len(data), data)
