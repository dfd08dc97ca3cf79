"""Messages whose end, or whose fields, two programs could read differently: none is forwarded.

Threats T1, T2, T4 and T6 to T8. Every body that is forwarded is framed anew from its parsed length;
what a container believes of the client comes from the gateway alone.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest

from tests.support.attacks import CANARY, JSON, SCORE, Range, canonical, open_range, post
from tests.support.raw import request

LENGTH = f"Content-Length: {len(JSON)}"
CHUNKED = "Transfer-Encoding: chunked"
WHOLE = b"12\r\n" + JSON + b"\r\n0\r\n\r\n"
CONTENT = ("Content-Type: application/json", f"X-Canary: {CANARY}")

CODING = "Bad request: the only transfer coding accepted is chunked"
BARE_LF = "Bad request: a bare line feed in the chunked coding"
NO_SIZE = "Bad request: a chunk size that is not hexadecimal digits"
LONG_CHUNK = "Bad request: a chunk is longer than its size says"
LONG_LINE = "Bad request: a line of the chunked coding above 1024 bytes"
TRAILER = "Bad request: a trailer field that only a header may carry"
NO_TRAILER = "Bad request: a trailer that is not a header field"

# None stands for a refusal in llhttp's words.
LENGTHS = {
    "length-and-chunked": ((LENGTH, CHUNKED), None),
    "chunked-and-length": ((CHUNKED, LENGTH), None),
    "two-lengths": (("Content-Length: 3", LENGTH), None),
    "the-same-length-twice": ((LENGTH, LENGTH), None),
    "list-of-equal-lengths": (("Content-Length: 18, 18",), None),
    "plus-sign": (("Content-Length: +18",), None),
    "minus-sign": (("Content-Length: -18",), None),
    "hexadecimal": (("Content-Length: 0x12",), None),
    "underscore": (("Content-Length: 1_8",), None),
    "inner-space": (("Content-Length: 1 8",), None),
    "no-digits": (("Content-Length:",), None),
    "fraction": (("Content-Length: 18.0",), None),
    "beyond-64-bits": (("Content-Length: 18446744073709551634",), None),
    "digits-of-another-script": (("Content-Length: \xb2",), None),
    "space-before-the-colon": (("Content-Length : 18",), None),
    "folded": (("Content-Length: 1\r\n 8",), None),
    "bare-CR-before-another": ((f"X-A: a\r{LENGTH}", "Content-Length: 3"), None),
    "bare-LF-before-another": ((f"X-A: a\n{CHUNKED}", LENGTH), None),
}

CODINGS = {
    "chunked-twice-in-a-list": ("Transfer-Encoding: chunked, chunked", None),
    "chunked-twice": (f"{CHUNKED}\r\n{CHUNKED}", None),
    "xchunked": ("Transfer-Encoding: xchunked", None),
    "comma-in-front": ("Transfer-Encoding: ,chunked", CODING),
    "comma-behind": ("Transfer-Encoding: chunked,", None),
    "gzip-chunked": ("Transfer-Encoding: gzip, chunked", CODING),
    "chunked-gzip": ("Transfer-Encoding: chunked, gzip", None),
    "identity": ("Transfer-Encoding: identity", None),
    "parameter": ("Transfer-Encoding: chunked;q=1", None),
    "quoted": ('Transfer-Encoding: "chunked"', None),
    "vertical-tab": ("Transfer-Encoding: \x0bchunked", None),
    "empty": ("Transfer-Encoding:", None),
    "folded": ("Transfer-Encoding:\r\n chunked", None),
    "space-before-the-colon": ("Transfer-Encoding : chunked", None),
    "null-in-the-value": ("Transfer-Encoding: chunked\0", None),
    "no-break-space": ("Transfer-Encoding: chunked\xa0", None),
}

FIELDS = {
    "null-in-a-value": "X-A: a\0b",
    "control-in-a-value": "X-A: a\x01b",
    "delete-in-a-value": "X-A: a\x7fb",
    "vertical-tab-in-a-value": "X-A: a\x0bb",
    "bare-CR-in-a-value": "X-A: a\rb",
    "bare-CR-at-the-end": "X-A: a\r",
    "bare-LF": "X-A: a\nX-B: b",
    "folded": "X-A: a\r\n b",
    "folded-with-a-tab": "X-A: a\r\n\tb",
    "space-before-the-colon": "X-A : a",
    "tab-before-the-colon": "X-A\t: a",
    "space-in-a-name": "X A: a",
    "null-in-a-name": "X\0A: a",
    "non-ASCII-name": "X\xe9: a",
    "bracket-in-a-name": "X(A): a",
    "slash-in-a-name": "X/A: a",
    "empty-name": ": a",
    "only-a-colon": ":",
    "no-colon": "X-A",
    "form-feed-for-a-name": "\x0c: a",
}

CHUNKS = {
    "0x": (b"0x12\r\n", 400, NO_SIZE),
    "plus-sign": (b"+12\r\n", 400, NO_SIZE),
    "minus-sign": (b"-1\r\n", 400, NO_SIZE),
    "underscore": (b"1_2\r\n", 400, NO_SIZE),
    "space-in-front": (b" 12\r\n", 400, NO_SIZE),
    "space-behind": (b"12 \r\n", 400, NO_SIZE),
    "empty": (b"\r\n", 400, NO_SIZE),
    "no-digit": (b"g\r\n", 400, NO_SIZE),
    "only-an-extension": (b";a=b\r\n", 400, NO_SIZE),
    "digits-of-another-script": ("١٢\r\n".encode(), 400, NO_SIZE),
    "seventeen-digits": (b"10000000000000012\r\n", 400, NO_SIZE),
    "control-in-an-extension": (b"12;a\x01\r\n", 400, NO_SIZE),
    "CR-in-an-extension": (b"12;a\rb\r\n", 400, NO_SIZE),
    "LF-in-an-extension": (b"12;a\nb\r\n", 400, BARE_LF),
    "LF-after-the-size": (b"12\n" + JSON, 400, BARE_LF),
    "LF-after-the-data": (b"12\r\n" + JSON + b"\n0\r\n\r\n", 400, BARE_LF),
    "LF-at-the-end": (b"12\r\n" + JSON + b"\r\n0\n\n", 400, BARE_LF),
    "long-extension": (b"12;" + b"a" * 1100, 400, LONG_LINE),
    "more-data-than-declared": (b"11\r\n" + JSON + b"\r\n0\r\n\r\n", 400, LONG_CHUNK),
    "no-line-end-after-data": (b"12\r\n" + JSON + b"0\r\n\r\n", 400, LONG_CHUNK),
    "trailer-length": (WHOLE[:-2] + b"Content-Length: 3\r\n\r\n", 400, TRAILER),
    "trailer-coding": (WHOLE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", 400, TRAILER),
    "trailer-host": (WHOLE[:-2] + b"host: other.test\r\n\r\n", 400, TRAILER),
    "trailer-credentials": (WHOLE[:-2] + b"Authorization: Bearer x\r\n\r\n", 400, TRAILER),
    "trailer-without-a-colon": (WHOLE[:-2] + b"X-A\r\n\r\n", 400, NO_TRAILER),
    "trailer-with-a-space": (WHOLE[:-2] + b"X-A : a\r\n\r\n", 400, NO_TRAILER),
    "trailer-folded": (WHOLE[:-2] + b"X-A: a\r\n b\r\n\r\n", 400, NO_TRAILER),
    "trailer-with-a-null": (WHOLE[:-2] + b"X-A: \0\r\n\r\n", 400, NO_TRAILER),
    "9-KiB-of-trailers": (
        WHOLE[:-2] + b"X-A: aaaa\r\n" * 1000 + b"\r\n",
        431,
        "Request header too large: at most 8192 bytes of trailers",
    ),
    "tiny-chunks": (b"1\r\n1\r\n" * 5000, 400, "Bad request: too many tiny chunks"),
    "over-the-limit": (
        b"2801\r\n" + b"1" * 10241,
        413,
        "The request body is too large: at most 10240 bytes are accepted",
    ),
    "over-the-limit-in-small-chunks": (
        (b"100\r\n" + b"1" * 256 + b"\r\n") * 41,
        413,
        "The request body is too large: at most 10240 bytes are accepted",
    ),
}


@pytest.fixture(scope="module")
def shooting_range(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    with open_range(tmp_path_factory.mktemp("range"), "    limits: {body: 10KiB}") as opened:
        yield opened


@pytest.mark.parametrize("case", LENGTHS)
def test_t01_a_doubtful_length_is_refused(shooting_range: Range, case: str) -> None:
    fields, text = LENGTHS[case]
    shooting_range.refuses(post(*fields, body=JSON), 400, text)


@pytest.mark.parametrize("case", CODINGS)
def test_t01_a_transfer_coding_other_than_chunked_is_refused(
    shooting_range: Range, case: str
) -> None:
    field, text = CODINGS[case]
    shooting_range.refuses(post(field, body=WHOLE), 400, text)


def test_t01_http_1_0_knows_no_transfer_coding(shooting_range: Range) -> None:
    shooting_range.refuses(post(CHUNKED, body=WHOLE, version="HTTP/1.0"), 400, CODING)


@pytest.fixture(scope="module")
def own_range(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    """For requests that may leave others behind them."""
    with open_range(tmp_path_factory.mktemp("range")) as opened:
        yield opened


@pytest.mark.parametrize(
    "field",
    [
        "Content-Length: %d",
        "content-length: %d",
        "Content-Length: \t %d \t",
        "Content-length: %d",
        "CONTENT-LENGTH: %d",
        "Content-Length:%d",
        "content-length:%d",
    ],
)
def test_t01_a_length_counts_however_it_is_spelled_and_every_time(
    own_range: Range, field: str
) -> None:
    """The body looks like a request, and must never be taken for one."""
    inner = request(f"{SCORE}/smuggled", None, method="GET")
    sent = post(field % len(inner), body=inner).replace(b"application/json", b"text/plain")
    for _ in range(3):
        _, head, framing, body = own_range.forwards(sent)
        assert head[0] == "POST /score HTTP/1.1"
        assert (framing, body) == (f"Content-Length: {len(inner)}", inner)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ((CHUNKED,), WHOLE),
        (("transfer-encoding: Chunked",), WHOLE),
        (("Transfer-Encoding: \t chunked ",), WHOLE),
        (("Content-Length: 0018",), JSON),
        ((CHUNKED,), b"0012\r\n" + JSON + b"\r\n000\r\n\r\n"),
        ((CHUNKED,), b'12;a=b ; c="d e"\r\n' + JSON + b"\r\n0;last\r\n\r\n"),
        ((CHUNKED,), b"1\r\n{\r\n11\r\n" + JSON[1:] + b"\r\n0\r\n\r\n"),
        ((CHUNKED,), WHOLE[:-2] + b"X-Sum: 1\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"),
        ((CHUNKED, "Trailer: X-Sum", "TE: trailers"), WHOLE),
    ],
    ids=[
        "chunked",
        "in-other-letters",
        "white-space",
        "leading-zeros-of-the-length",
        "leading-zeros-of-a-chunk",
        "extensions",
        "two-chunks",
        "trailers",
        "announced-trailers",
    ],
)
def test_t02_a_sound_body_is_framed_anew(
    shooting_range: Range, fields: tuple[str, ...], body: bytes
) -> None:
    answer, head, framing, got = shooting_range.forwards(post(*fields, body=body))
    assert head == canonical(*CONTENT)
    assert (framing, got, answer.body) == (LENGTH, JSON, JSON)


@pytest.mark.parametrize("split", [False, True], ids=["with-the-head", "afterwards"])
@pytest.mark.parametrize("case", CHUNKS)
def test_t02_broken_chunked_coding_is_refused(
    shooting_range: Range, case: str, split: bool
) -> None:
    body, status, text = CHUNKS[case]
    if not split:
        shooting_range.refuses(post(CHUNKED, body=body), status, text)
        return
    before = len(shooting_range.backend.raw)
    with shooting_range.gateway.client() as client:
        client.send(post(CHUNKED, "Expect: 100-continue"))
        assert client.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(body)
        answer = client.answer()
        assert (answer.status, answer.text) == (status, text)
        assert client.is_closed()
    assert len(shooting_range.backend.raw) == before


@pytest.mark.parametrize("case", FIELDS)
def test_t04_a_malformed_field_is_refused(shooting_range: Range, case: str) -> None:
    shooting_range.refuses(post(FIELDS[case], LENGTH, body=JSON), 400, None)
    shooting_range.refuses(post(LENGTH, FIELDS[case], body=JSON), 400, None)


def test_t04_text_beyond_ascii_in_a_value_passes_as_it_is(shooting_range: Range) -> None:
    _, head, _, _ = shooting_range.forwards(post("X-A: caf\xe9 \t \xff", LENGTH, body=JSON))
    assert head == canonical(*CONTENT, "X-A: caf\xe9 \t \xff")


FORGED = [
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: other.test",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Prefix: /admin",
    "X-Forwarded-Server: other.test",
    "Forwarded: for=1.2.3.4;proto=https",
    "X-Real-IP: 1.2.3.4",
    "X-Original-URL: /admin",
    "X-Rewrite-URL: /admin",
]


@pytest.mark.parametrize("field", FORGED)
def test_t06_a_client_cannot_say_who_it_is(shooting_range: Range, field: str) -> None:
    _, head, _, _ = shooting_range.forwards(post(field, LENGTH, body=JSON))
    assert head == canonical(*CONTENT)


@pytest.mark.parametrize("name", ["Ssl", "Protocol", "Scheme", "User", "Client-Cert"])
def test_t06_nothing_of_the_forwarded_family_comes_from_a_client(
    shooting_range: Range, name: str
) -> None:
    """gunicorn takes ``X-Forwarded-Ssl`` and ``X-Forwarded-Protocol`` for the scheme."""
    _, head, _, _ = shooting_range.forwards(post(f"X-Forwarded-{name}: on", LENGTH, body=JSON))
    assert head == canonical(*CONTENT)


@pytest.mark.parametrize(
    "field",
    [
        "X_Forwarded_For: 1.2.3.4",
        "X-Forwarded_Proto: https",
        "SCRIPT_NAME: /admin",
        "Authorization_: x",
        "X.Real.IP: 1.2.3.4",
        "X!A: a",
        "Proxy: http://other.test",
    ],
)
def test_t07_names_that_imitate_others_are_not_passed_on(shooting_range: Range, field: str) -> None:
    _, head, _, _ = shooting_range.forwards(post(field, LENGTH, body=JSON))
    assert head == canonical(*CONTENT)


def test_t08_a_nominated_field_ends_at_this_hop(shooting_range: Range) -> None:
    sent = post("Connection: X-Hop, keep-alive", "X-Hop: a", "X-End: b", LENGTH, body=JSON)
    _, head, _, _ = shooting_range.forwards(sent)
    assert head == canonical(*CONTENT, "X-End: b")


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Type",
        "Content-Length",
        "X-Forwarded-For",
        "Forwarded",
        "Authorization",
        "x-request-id",
        "Content-Encoding",
    ],
)
def test_t08_a_client_cannot_have_fields_removed_that_matter(
    shooting_range: Range, name: str
) -> None:
    sent = post(f"Connection: {name}", "Content-Encoding: identity", LENGTH, body=JSON)
    _, head, framing, _ = shooting_range.forwards(sent)
    assert head == canonical(*CONTENT, "Content-Encoding: identity")
    assert framing == LENGTH


def test_t15_a_coded_body_passes_untouched(shooting_range: Range) -> None:
    bomb = gzip.compress(b"0" * 1_000_000)
    sent = post("Content-Encoding: gzip", f"Content-Length: {len(bomb)}", body=bomb)
    _, head, framing, body = shooting_range.forwards(sent)
    assert head == canonical(*CONTENT, "Content-Encoding: gzip")
    assert (framing, body) == (f"Content-Length: {len(bomb)}", bomb)
