"""A request head is believed only if every program would read it the same way (T1, T4, T6-T12)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.faults import Fault, Refusal
from gateway.core.heads import (
    CHUNKED,
    HeadLimits,
    RequestHead,
    UnfitRequest,
    judge_partial_head,
    parse_request_head,
)

LIMITS = HeadLimits()


def text(*fields: bytes, line: bytes = b"POST /score HTTP/1.1") -> bytes:
    return b"".join(part + b"\r\n" for part in (line, *fields)) + b"\r\n"


def parse(*fields: bytes, line: bytes = b"POST /score HTTP/1.1") -> RequestHead:
    return parse_request_head(text(b"Host: a.test", *fields, line=line), LIMITS)


def refusal(raw: bytes, limits: HeadLimits = LIMITS) -> tuple[Fault, str]:
    with pytest.raises(Refusal) as caught:
        parse_request_head(raw, limits)
    return caught.value.fault, caught.value.detail


LINE = "the request line is not `METHOD target HTTP/1.1`"
NO_PATH = "the request target is not a path"
HOSTS = "the target and the host header name different hosts"


@pytest.mark.parametrize(
    ("line", "fault", "detail"),
    [
        (b"", Fault.BAD_REQUEST, LINE),
        (b"GET /", Fault.BAD_REQUEST, LINE),
        (b"GET  / HTTP/1.1", Fault.BAD_REQUEST, LINE),
        (b"GET / HTTP/1.1 ", Fault.BAD_REQUEST, LINE),
        (b"GET /a b HTTP/1.1", Fault.BAD_REQUEST, LINE),
        (b"GET / HTTPS/1.1", Fault.BAD_REQUEST, LINE),
        (b"GET /\xe9 HTTP/1.1", Fault.BAD_REQUEST, LINE),
        (b"GET / HTTP/1.1\nX: y", Fault.BAD_REQUEST, LINE),
        (b"\x16\x03\x01 / HTTP/1.1", Fault.BAD_REQUEST, LINE),
        (b"GET / HTTP/0.9", Fault.BAD_REQUEST, "HTTP versions before 1.0 are not spoken"),
        (b"GET / HTTP/1.2", Fault.VERSION, ""),
        (b"PRI * HTTP/2.0", Fault.VERSION, ""),
        (b"GET / HTTP/3.0", Fault.VERSION, ""),
        (b"PUT / HTTP/1.1", Fault.METHOD, ""),
        (b"DELETE / HTTP/1.1", Fault.METHOD, ""),
        (b"TRACE / HTTP/1.1", Fault.METHOD, ""),
        (b"CONNECT a.test:80 HTTP/1.1", Fault.METHOD, ""),
        (b"get / HTTP/1.1", Fault.METHOD, ""),
        (b"FOO / HTTP/1.1", Fault.METHOD, ""),
        (b"GET score HTTP/1.1", Fault.BAD_REQUEST, NO_PATH),
        (b"GET a.test:80 HTTP/1.1", Fault.BAD_REQUEST, NO_PATH),
        (b"GET ftp://a.test/ HTTP/1.1", Fault.BAD_REQUEST, NO_PATH),
        (b"GET /../etc HTTP/1.1", Fault.BAD_REQUEST, "a dot segment in the path"),
        (b"GET /a#b HTTP/1.1", Fault.BAD_REQUEST, "a fragment in the request target"),
        (b"GET * HTTP/1.1", Fault.BAD_REQUEST, "`*` is a target for OPTIONS only"),
        (b"GET http://b.test/ HTTP/1.1", Fault.BAD_REQUEST, HOSTS),
        (b"GET http://a.test:80/ HTTP/1.1", Fault.BAD_REQUEST, HOSTS),
        (b"GET http:/// HTTP/1.1", Fault.BAD_REQUEST, HOSTS),
        (b"GET http://u@a.test/ HTTP/1.1", Fault.BAD_REQUEST, NO_PATH),
        (b"GET http://a.test#b HTTP/1.1", Fault.BAD_REQUEST, "a fragment in the request target"),
        (b"GET http://a.test/../ HTTP/1.1", Fault.BAD_REQUEST, "a dot segment in the path"),
    ],
    ids=repr,
)
def test_a_bad_request_line_is_refused(line: bytes, fault: Fault, detail: str) -> None:
    assert refusal(text(b"Host: a.test", line=line)) == (fault, detail)


@pytest.mark.parametrize(
    ("line", "field", "fault", "path", "routable"),
    [
        (b"PUT /a HTTP/1.1", b"X: 1", Fault.METHOD, b"/a", True),
        (b"PUT /a/../b?c=d HTTP/1.1", b"X: 1", Fault.METHOD, b"/a/../b", False),
        (b"GET /a%2fb?c=d HTTP/1.1", b"X: 1", Fault.BAD_REQUEST, b"/a%2fb", False),
        (b"GET /a HTTP/1.1", b"Expect: gold", Fault.EXPECTATION, b"/a", True),
    ],
)
def test_what_nothing_will_be_done_for_is_known_nonetheless(
    line: bytes, field: bytes, fault: Fault, path: bytes, routable: bool
) -> None:
    fields = (b"Host: a.test", b"Origin: https://app.test", b"x-request-id: mine", field)
    with pytest.raises(UnfitRequest) as caught:
        parse_request_head(text(*fields, line=line), LIMITS)
    unfit = caught.value
    assert (unfit.fault, unfit.routable, unfit.head.path) == (fault, routable, path)
    assert (unfit.head.origin, unfit.head.request_id) == (b"https://app.test", b"mine")
    assert unfit.head.close


def test_a_target_with_user_information_is_refused_whatever_the_host_says() -> None:
    # The authority is `a.test@evil.test`, its host `evil.test` (RFC 3986 section 3.2).
    line = b"GET http://a.test@evil.test/ HTTP/1.1"
    assert refusal(text(b"Host: a.test", line=line))[0] is Fault.BAD_REQUEST


def test_a_method_that_is_not_served_is_told_which_are() -> None:
    with pytest.raises(Refusal) as caught:
        parse(line=b"PUT / HTTP/1.1")
    assert caught.value.headers == b"Allow: GET, HEAD, POST, OPTIONS\r\n"


BOTH = "{} can't be present with {}"
SIZED, CODED = "content-length", "transfer-encoding"
LENGTH_CHARACTER = "invalid character in content-length"
LENGTH_TWICE = "duplicate content-length"
ONLY_CHUNKED = "the only transfer coding accepted is chunked"
CODING = "request has invalid `transfer-encoding`"
CODING_VALUE = "invalid `transfer-encoding` header value"
TOKEN = "invalid header token"
FOLDED = "unexpected whitespace after header value"
VALUE = "invalid header value char"


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        # T1: two ways to say where the message ends.
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked", BOTH.format(CODED, SIZED)),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5", BOTH.format(SIZED, CODED)),
        (b"Content-Length: 5\r\nContent-Length: 5", LENGTH_TWICE),
        (b"Content-Length: 5\r\nContent-Length: 6", LENGTH_TWICE),
        (b"Content-Length: 5, 5", LENGTH_CHARACTER),
        (b"Content-Length: +5", LENGTH_CHARACTER),
        (b"Content-Length: -5", LENGTH_CHARACTER),
        (b"Content-Length: 0x5", LENGTH_CHARACTER),
        (b"Content-Length: 1_0", LENGTH_CHARACTER),
        (b"Content-Length: 5 5", LENGTH_CHARACTER),
        (b"Content-Length: \xb2", LENGTH_CHARACTER),
        (b"Content-Length:", "empty content-length"),
        (b"Content-Length: 18446744073709551616", "content-length overflow"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CODING_VALUE),
        (b"Transfer-Encoding: chunked, chunked", CODING_VALUE),
        (b"Transfer-Encoding: chunked, identity", CODING_VALUE),
        (b"Transfer-Encoding: xchunked", CODING),
        (b"Transfer-Encoding: identity", CODING),
        (b"Transfer-Encoding: gzip", CODING),
        (b"Transfer-Encoding: gzip, chunked", ONLY_CHUNKED),
        (b"Transfer-Encoding: ,chunked", ONLY_CHUNKED),
        (b"Transfer-Encoding:", "empty transfer-encoding"),
        (b"Transfer-Encoding: \x0bchunked", VALUE),
        # T4: what ends a field, and what a field is made of.
        (b"X: a\nY: b", "missing expected cr after header value"),
        (b"X: a\rY: b", "missing expected lf after header value"),
        (b"\nX: a", "invalid header field char"),
        (b"X: a\0b", VALUE),
        (b"X: a\x01b", VALUE),
        (b"X: a\x7fb", VALUE),
        (b"X: a\r\n b", FOLDED),
        (b" X: a", FOLDED),
        (b"X : a", TOKEN),
        (b"X\t: a", TOKEN),
        (b": a", TOKEN),
        (b"X", TOKEN),
        (b"X\xe9: a", TOKEN),
        (b"(X): a", TOKEN),
        (b'X": a', TOKEN),
    ],
    ids=repr,
)  # fmt: skip
def test_bad_fields_are_refused(fields: bytes, detail: str) -> None:
    assert refusal(text(b"Host: a.test", fields)) == (Fault.BAD_REQUEST, detail)
    # However the fields stand to each other, the answer is 400.
    assert refusal(text(b"Host: a.test", b"X-First: 1", fields, b"X-Last: 1"))[0] is (
        Fault.BAD_REQUEST
    )


@pytest.mark.parametrize(
    "name",
    [
        *["host", "authorization", "origin", "content-type", "azureml-model-deployment"],
        *["x-request-id", "x-ms-request-id", "x-ms-client-request-id"],
    ],
)
def test_what_decides_may_be_there_only_once(name: str) -> None:
    # T10, and the same for all else: one program would take the first, another the last.
    field = b"%b: a" % name.encode()
    outcome = Fault.BAD_REQUEST, f"more than one {name} header"
    for fields in ([field, field], [field, field.upper()], [field.title(), b"X: y", field]):
        host = [] if name == "host" else [b"Host: a.test"]
        assert refusal(text(*host, *fields)) == outcome


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ([], "no host header"),
        ([b"Host:"], "the host header is not a host name and port"),
        ([b"Host: a b"], "the host header is not a host name and port"),
        ([b"Host: a, b"], "the host header is not a host name and port"),
        ([b"Host: u@a"], "the host header is not a host name and port"),
        ([b"Host: a/b"], "the host header is not a host name and port"),
        ([b"Host: a:port"], "the host header is not a host name and port"),
        ([b"Host: http://a"], "the host header is not a host name and port"),
        ([b"Host: m\xc3\xbcnchen"], "the host header is not a host name and port"),
    ],
    ids=repr,
)
def test_a_request_has_one_host(fields: list[bytes], detail: str) -> None:
    assert refusal(text(*fields)) == (Fault.BAD_REQUEST, detail)


def test_http_1_0_needs_no_host_but_it_must_be_one() -> None:
    assert parse_request_head(text(line=b"GET / HTTP/1.0"), LIMITS).host is None
    assert refusal(text(b"Host: a b", line=b"GET / HTTP/1.0"))[0] is Fault.BAD_REQUEST


@pytest.mark.parametrize(
    ("line", "path", "query"),
    [
        (b"GET / HTTP/1.1", b"/", b""),
        (b"GET /a//%62?c=%zz HTTP/1.1", b"/a/b", b"?c=%zz"),
        (b"GET http://a.test/b?c HTTP/1.1", b"/b", b"?c"),
        (b"GET HTTPS://A.Test HTTP/1.1", b"/", b""),
        (b"GET http://a.test?c HTTP/1.1", b"/", b"?c"),
        (b"OPTIONS * HTTP/1.1", b"*", b""),
        (b"OPTIONS /score HTTP/1.1", b"/score", b""),
        (b"HEAD / HTTP/1.1", b"/", b""),
    ],
    ids=repr,
)
def test_the_target_is_reduced_to_path_and_query(line: bytes, path: bytes, query: bytes) -> None:
    head = parse(line=line)
    assert (head.method, head.path, head.query) == (line.split()[0], path, query)
    assert head.host == b"a.test"


@pytest.mark.parametrize(
    ("line", "limits", "outcome"),
    [
        (b"GET /23 HTTP/1.1", HeadLimits(line=16), None),
        (b"GET /234 HTTP/1.1", HeadLimits(line=16),
         (Fault.URI_TOO_LONG, "at most 16 bytes are accepted")),
        (b"GET / HTTP/1.1", HeadLimits(total=30), None),
        (b"GET / HTTP/1.1", HeadLimits(total=29),
         (Fault.HEAD_TOO_LARGE, "at most 29 bytes are accepted")),
        (b"GET / HTTP/1.1", HeadLimits(fields=1), None),
        (b"GET / HTTP/1.1", HeadLimits(fields=0),
         (Fault.HEAD_TOO_LARGE, "at most 0 header fields are accepted")),
    ],
)  # fmt: skip
def test_limits_hold_exactly(
    line: bytes, limits: HeadLimits, outcome: tuple[Fault, str] | None
) -> None:
    raw = text(b"Host: a.te", line=line)
    if outcome is None:
        parse_request_head(raw, limits)
    else:
        assert refusal(raw, limits) == outcome


@pytest.mark.parametrize(
    ("line", "fields", "close"),
    [
        (b"GET / HTTP/1.1", [], False),
        (b"GET / HTTP/1.1", [b"Connection: close"], True),
        (b"GET / HTTP/1.1", [b"connection: Close"], True),
        (b"GET / HTTP/1.1", [b"Connection: x, close"], True),
        (b"GET / HTTP/1.1", [b"Connection: keep-alive"], False),
        (b"GET / HTTP/1.1", [b"Connection: close", b"Connection: keep-alive"], True),
        (b"GET / HTTP/1.1", [b"Connection: closed"], False),
        (b"GET / HTTP/1.1", [b"Connection: upgrade", b"Upgrade: h2c"], False),
        (b"GET / HTTP/1.0", [], True),
        (b"GET / HTTP/1.0", [b"Connection: keep-alive"], False),
        (b"GET / HTTP/1.0", [b"Connection: KEEP-ALIVE, x"], False),
        (b"GET / HTTP/1.0", [b"Connection: keep-alive, close"], True),
        (b"GET / HTTP/1.0", [b"Connection: x"], True),
    ],
)
def test_whether_the_client_wants_the_connection_kept(
    line: bytes, fields: list[bytes], close: bool
) -> None:
    assert parse(*fields, line=line).close is close


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ([], None),
        ([b"Content-Length: 0"], 0),
        ([b"content-length:\t007 "], 7),
        ([b"Content-Length: 18446744073709551615"], 2**64 - 1),
        ([b"Transfer-Encoding: chunked"], CHUNKED),
        ([b"transfer-encoding:CHUNKED "], CHUNKED),
    ],
)
def test_the_length_of_the_body_is_known(fields: list[bytes], length: int | None) -> None:
    assert parse(*fields).length == length


def test_http_1_0_knows_no_chunked_coding() -> None:
    raw = text(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")
    assert refusal(raw) == (Fault.BAD_REQUEST, ONLY_CHUNKED)


def test_only_100_continue_can_be_expected_and_only_in_http_1_1() -> None:
    assert parse(b"Expect: 100-Continue").expects_continue is True
    assert parse(b"Expect: 100-continue", line=b"POST / HTTP/1.0").expects_continue is False
    assert parse().expects_continue is False
    assert refusal(text(b"Host: a", b"Expect: 200-ok")) == (Fault.EXPECTATION, "")


def test_a_first_line_or_a_head_that_grows_too_long_need_not_be_waited_for() -> None:
    limits = HeadLimits(line=10, total=20)
    for data, fault in (
        (b"G" * 10, None),
        (b"G" * 11, Fault.URI_TOO_LONG),
        (b"GET / \r\n" + b"x" * 12, None),
        (b"GET / \r\n" + b"x" * 13, Fault.HEAD_TOO_LARGE),
    ):
        verdict = judge_partial_head(data, limits, ended=False)
        assert (verdict.fault if verdict else None) is fault


@pytest.mark.parametrize(
    ("data", "ended", "detail"),
    [
        (b"G", False, None),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", False, None),
        (b"GET / HTTP/1.1\r", False, None),
        (b"GET / HTTP/1.1\r\nHost: a", True, "the request ends in its header"),
        (b"GET / HTTP/1.1\nHost: a\n\n", False, "a bare line feed in the header"),
        (b"GET / HTTP/1.1\r\nHost: a\n", True, "a bare line feed in the header"),
        (b"GET /\0", False, "a null byte in the header"),
        (b"\x16\x03\x01\x02\x00\x01", False, "TLS spoken to a port without TLS"),
        (b"\x16\x03\x01\x02\x00\x01\n", False, "TLS spoken to a port without TLS"),
    ],
    ids=repr,
)
def test_part_of_a_head_is_judged_by_what_cannot_become_good(
    data: bytes, ended: bool, detail: str | None
) -> None:
    verdict = judge_partial_head(data, LIMITS, ended)
    assert (verdict and (verdict.fault, verdict.detail)) == (
        (Fault.BAD_REQUEST, detail) if detail else None
    )


# Pieces of heads rather than bytes: arbitrary bytes are never a head.
HEADS = st.tuples(
    st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.0\r\n"])
    | st.just(b"POST / HTTP/1.1\r\nHost: a\r\n"),
    st.lists(
        st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b": ", b":", b" ", b"X-A", b"5", b"\x80"])
        | st.sampled_from(
            [b"Host: a\r\n", b"Content-Length:", b"Content-Length: 5\r\n", b"_", b"*"]
        )
        | st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"Connection: X-A\r\n", b"%2e", b"#"])
        | st.sampled_from([b"Connection: upgrade\r\nUpgrade: q\r\n", b"http://a/", b"HTTP/1.0"])
        | st.binary(max_size=4),
        max_size=16,
    ).map(b"".join),
).map(lambda parts: b"".join(parts).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")


@given(
    HEADS | st.binary(max_size=80).map(lambda data: data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
)
def test_any_bytes_are_either_a_clean_head_or_refused(raw: bytes) -> None:
    try:
        head = parse_request_head(raw, LIMITS)
    except Refusal as refusal:
        told = (refusal.detail + refusal.headers.decode().removesuffix("\r\n")).encode("ascii")
        sent = [told]
    else:
        sent = [
            head.path,
            head.query,
            head.host or b"",
            *(part for pair in head.kept for part in pair),
        ]
        assert head.host is not None or head.minor == 0
        assert raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r")
    assert not any(set(part) & set(b"\r\n\0") for part in sent)
