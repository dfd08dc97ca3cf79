"""Malformed request lines, hosts and sizes: each is refused, and no container hears of it.

Threats T9 to T13. What is refused because it cannot be read ends the connection; what is accepted
reaches the container in one canonical form. After each, the gateway serves as before. Framing and
header fields are in ``test_hostile_framing``.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from tests.support.attacks import CANARY, JSON, SCORE, Range, canonical, line, open_range, post
from tests.support.gateways import KEY
from tests.support.raw import request

BODY_LIMIT = 10 << 10
NOT_A_LINE = "Bad request: the request line is not `METHOD target HTTP/1.1`"
OLD = "Bad request: HTTP versions before 1.0 are not spoken"
VERSION = "Only HTTP/1.0 and HTTP/1.1 are spoken here"
DOTS = "Bad request: a dot segment in the path"
SLASH = "Bad request: an escaped slash or backslash in the path"
ESCAPE = "Bad request: an escaped escape in the path"
PERCENT = "Bad request: a percent sign without two hexadecimal digits in the path"
CONTROL = "Bad request: an escaped control character in the path"
NO_PATH = "Bad request: the request target is not a path"
TWO_HOSTS = "Bad request: the target and the host header name different hosts"
BAD_HOST = "Bad request: the host header is not a host name and port"
METHOD = "Method not allowed: use GET or POST"
NULL = "Bad request: a null byte in the header"

REQUEST_LINES: dict[str, tuple[str | bytes, int, str]] = {
    "HTTP-0.9-without-a-version": (f"GET {SCORE}", 400, NOT_A_LINE),
    "HTTP-0.9": (f"GET {SCORE} HTTP/0.9", 400, OLD),
    "HTTP-1.2": (f"GET {SCORE} HTTP/1.2", 505, VERSION),
    "HTTP-2.0": (f"GET {SCORE} HTTP/2.0", 505, VERSION),
    "HTTP-3.0": (f"GET {SCORE} HTTP/3.0", 505, VERSION),
    "HTTP-2-preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", 505, VERSION),
    "version-in-lower-case": (f"GET {SCORE} http/1.1", 400, NOT_A_LINE),
    "two-digits-before-the-dot": (f"GET {SCORE} HTTP/11.1", 400, NOT_A_LINE),
    "two-digits-after-the-dot": (f"GET {SCORE} HTTP/1.10", 400, NOT_A_LINE),
    "no-digit-after-the-dot": (f"GET {SCORE} HTTP/1.", 400, NOT_A_LINE),
    "another-protocol": (f"GET {SCORE} HTTQ/1.1", 400, NOT_A_LINE),
    "two-spaces": (f"GET  {SCORE} HTTP/1.1", 400, NOT_A_LINE),
    "space-at-the-end": (f"GET {SCORE} HTTP/1.1 ", 400, NOT_A_LINE),
    "space-in-front": (f" GET {SCORE} HTTP/1.1", 400, NOT_A_LINE),
    "tabs-for-spaces": (f"GET\t{SCORE}\tHTTP/1.1", 400, NOT_A_LINE),
    "a-version-in-the-target": (f"GET {SCORE} HTTP/1.1 HTTP/1.1", 400, NOT_A_LINE),
    "no-method": (f" {SCORE} HTTP/1.1", 400, NOT_A_LINE),
    "no-target": ("GET HTTP/1.1", 400, NOT_A_LINE),
    "method-with-a-bracket": (f"GE(T {SCORE} HTTP/1.1", 400, NOT_A_LINE),
    "three-empty-lines-in-front": (f"\r\n\r\n\r\nGET {SCORE} HTTP/1.1", 400, NOT_A_LINE),
    "bare-CR-in-the-line": (f"GET {SCORE} HTTP/1.1\rX: y", 400, NOT_A_LINE),
    "bare-LF-after-the-line": (f"GET {SCORE} HTTP/1.1\nX: y", 400, NOT_A_LINE),
    "NUL-in-the-target": (f"GET {SCORE}\0 HTTP/1.1", 400, NOT_A_LINE),
    "raw-non-ASCII-target": (f"GET {SCORE}/\xe9 HTTP/1.1", 400, NOT_A_LINE),
    "another-protocol's-greeting": (b"SSH-2.0-OpenSSH_9.2", 400, NOT_A_LINE),
    "PROXY-protocol": (b"PROXY TCP4 10.0.0.1 10.0.0.2 56324 443", 400, NOT_A_LINE),
    "garbage": (bytes(range(1, 9)) + b"\xfe\xff" * 20, 400, NOT_A_LINE),
    # Methods.
    "TRACE": (f"TRACE {SCORE} HTTP/1.1", 405, METHOD),
    "CONNECT": ("CONNECT gateway.test:443 HTTP/1.1", 405, METHOD),
    "PUT": (f"PUT {SCORE} HTTP/1.1", 405, METHOD),
    "DELETE": (f"DELETE {SCORE} HTTP/1.1", 405, METHOD),
    "PATCH": (f"PATCH {SCORE} HTTP/1.1", 405, METHOD),
    "method-in-lower-case": (f"get {SCORE} HTTP/1.1", 405, METHOD),
    "PRI-to-a-path": (f"PRI {SCORE} HTTP/1.1", 405, METHOD),
    "a-method-of-its-own": (f"FROBNICATE {SCORE} HTTP/1.1", 405, METHOD),
}

TARGETS = {
    "dot-dot": (f"{SCORE}/../score", DOTS),
    "dot-dot-at-the-end": (f"{SCORE}/..", DOTS),
    "dot": (f"{SCORE}/./x", DOTS),
    "dot-dot-in-front": ("/../etc/passwd", DOTS),
    "escaped-dots": ("/api/v1/service/diabetes/%2e%2e/score", DOTS),
    "half-escaped-dots": ("/api/v1/service/diabetes/.%2E/score", DOTS),
    "dots-with-a-parameter": ("/api/v1/service/diabetes/..;x=1/score", DOTS),
    "doubly-escaped-dots": ("/api/v1/service/diabetes/%252e%252e/score", ESCAPE),
    "doubly-escaped-slash": ("/api/v1/service/diabetes%252fscore", ESCAPE),
    "escaped-slash": ("/api/v1/service/diabetes%2fscore", SLASH),
    "escaped-backslash": ("/api/v1/service/diabetes%5Cscore", SLASH),
    "backslash": ("/api/v1/service\\diabetes\\score", "Bad request: a backslash in the path"),
    "escaped-NUL": (f"{SCORE}%00", CONTROL),
    "escaped-line-end": (f"{SCORE}%0d%0aX:%20y", CONTROL),
    "percent-at-the-end": (f"{SCORE}%", PERCENT),
    "percent-without-digits": (f"{SCORE}/%zz", PERCENT),
    "fragment": (f"{SCORE}#x", "Bad request: a fragment in the request target"),
    "no-slash": ("score", NO_PATH),
    "authority-form": ("gateway.test:80", NO_PATH),
    "asterisk": ("*", "Bad request: `*` is a target for OPTIONS only"),
    "absolute-form-for-another-host": (f"http://other.test{SCORE}", TWO_HOSTS),
    "absolute-form-for-another-port": (f"http://gateway.test:81{SCORE}", TWO_HOSTS),
    "absolute-form-without-a-host": (f"http://{SCORE}", TWO_HOSTS),
    "absolute-form-with-user-information": (f"http://me@gateway.test{SCORE}", NO_PATH),
    "absolute-form-of-another-scheme": (f"ftp://gateway.test{SCORE}", NO_PATH),
    "absolute-form-with-dots": (f"http://gateway.test/..{SCORE}", DOTS),
    "absolute-form-with-a-fragment": (
        f"http://gateway.test{SCORE}#x",
        "Bad request: a fragment in the request target",
    ),
}

HOSTS = {
    "none": ((), "Bad request: no host header"),
    "two": (("gateway.test", "other.test"), "Bad request: more than one host header"),
    "the-same-twice": (("gateway.test",) * 2, "Bad request: more than one host header"),
    "empty": (("",), BAD_HOST),
    "space": (("gateway .test",), BAD_HOST),
    "path": (("gateway.test/x",), BAD_HOST),
    "user-information": (("me@gateway.test",), BAD_HOST),
    "list": (("gateway.test, other.test",), BAD_HOST),
    "two-ports": (("gateway.test:80:81",), BAD_HOST),
    "six-digit-port": (("gateway.test:808080",), BAD_HOST),
    "no-port-after-the-colon": (("gateway.test:",), BAD_HOST),
    "open-bracket": (("[::1",), BAD_HOST),
    "quote": (('gateway.test"',), BAD_HOST),
}


def client_hello() -> bytes:
    """What a TLS client says first."""
    said = ssl.MemoryBIO()
    connection = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, False, "gateway.test")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return said.read()


PARTS = {
    "bare-LF": (b"GET / HTTP/1.1\nHost: a", 400, "Bad request: a bare line feed in the header"),
    "null": (b"GET / HTTP/1.1\r\nHost: \0", 400, NULL),
    "long-line": (
        b"GET /" + b"a" * 8200,
        414,
        "The request line is too long: at most 8192 bytes are accepted",
    ),
    "long-head": (
        b"GET / HTTP/1.1\r\n" + b"X: aaaaaaaa\r\n" * 2600,
        431,
        "Request header too large: at most 32768 bytes are accepted",
    ),
}


@pytest.fixture(scope="module")
def shooting_range(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    with open_range(tmp_path_factory.mktemp("range"), "    limits: {body: 10KiB}") as opened:
        yield opened


@pytest.mark.parametrize("case", REQUEST_LINES)
def test_a_bad_request_line_is_refused(shooting_range: Range, case: str) -> None:
    start, status, text = REQUEST_LINES[case]
    answer = shooting_range.refuses(line(start), status, text)
    assert answer.header("allow") == ("GET, HEAD, POST, OPTIONS" if status == 405 else None)


@pytest.mark.parametrize("case", TARGETS)
def test_t11_a_target_with_two_readings_is_refused(shooting_range: Range, case: str) -> None:
    target, text = TARGETS[case]
    shooting_range.refuses(line(f"GET {target} HTTP/1.1"), 400, text)


def test_t10_a_host_cannot_hide_behind_user_information(shooting_range: Range) -> None:
    target = f"http://gateway.test@other.test{SCORE}"
    shooting_range.refuses(line(f"GET {target} HTTP/1.1"), 400, NO_PATH)


@pytest.mark.parametrize("case", HOSTS)
def test_t10_a_request_for_no_single_host_is_refused(shooting_range: Range, case: str) -> None:
    hosts, text = HOSTS[case]
    fields = "".join(f"Host: {host}\r\n" for host in hosts)
    sent = f"POST {SCORE} HTTP/1.1\r\n{fields}Authorization: Bearer {KEY}\r\n\r\n".encode()
    shooting_range.refuses(sent, 400, text)


@pytest.mark.parametrize("case", PARTS)
def test_what_is_wrong_already_is_refused_before_the_head_is_whole(
    shooting_range: Range, case: str
) -> None:
    sent, status, text = PARTS[case]
    shooting_range.refuses(sent, status, text)


ACCEPTED = {
    "slashes": ("GET //api///v1/service/diabetes//score", "GET /score"),
    "escaped-letters": ("GET /api/v1/%73ervice/diabetes/scor%65", "GET /score"),
    "escapes-in-lower-case": (f"GET {SCORE}/caf%c3%a9", "GET /score/caf%C3%A9"),
    "parameters": (f"GET {SCORE};v=1", "GET /score;v=1"),
    "query-as-it-is": (f"GET {SCORE}?a=/../%2e%2F&b=%zz", "GET /score?a=/../%2e%2F&b=%zz"),
    "absolute-form": (f"GET http://gateway.test{SCORE}", "GET /score"),
    "absolute-form-of-TLS": (f"GET HTTPS://Gateway.Test{SCORE}", "GET /score"),
    "one-empty-line-in-front": (f"\r\nGET {SCORE}", "GET /score"),
    "two-empty-lines-in-front": (f"\r\n\r\nGET {SCORE}", "GET /score"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_t11_what_has_one_reading_is_forwarded_in_that_form(
    shooting_range: Range, case: str
) -> None:
    start, forwarded = ACCEPTED[case]
    _, head, framing, _ = shooting_range.forwards(line(f"{start} HTTP/1.1"))
    assert head == canonical(f"X-Canary: {CANARY}", start=forwarded)
    assert framing is None


def test_t10_the_scheme_is_that_of_the_socket(shooting_range: Range) -> None:
    sent = line(f"GET https://gateway.test{SCORE} HTTP/1.1")
    _, head, _, _ = shooting_range.forwards(sent)
    assert "X-Forwarded-Proto: http" in head


def test_an_http_1_0_request_needs_no_host(shooting_range: Range) -> None:
    sent = request(body=JSON, key=KEY, version="HTTP/1.0", headers={"Connection": "keep-alive"})
    _, head, framing, body = shooting_range.forwards(sent.replace(b"Host: gateway.test\r\n", b""))
    assert not [field for field in head if "host" in field.lower()]
    assert (framing, body) == (f"Content-Length: {len(JSON)}", JSON)


# Limits (T12, T13).


@pytest.mark.parametrize("split", [False, True], ids=["in-one-piece", "in-segments"])
@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        (
            line(f"GET {SCORE}?{'a' * 8192} HTTP/1.1"),
            414,
            "The request line is too long: at most 8192 bytes are accepted",
        ),
        (
            post(*[f"X-A: {'a' * 1000}"] * 33),
            431,
            "Request header too large: at most 32768 bytes are accepted",
        ),
        (
            post(*["X-A: a"] * 97),
            431,
            "Request header too large: at most 100 header fields are accepted",
        ),
    ],
    ids=["request-line", "header-bytes", "header-count"],
)
def test_t12_an_oversized_head_is_refused(
    shooting_range: Range, sent: bytes, status: int, text: str, split: bool
) -> None:
    if not split:
        shooting_range.refuses(sent, status, text)
        return
    with shooting_range.gateway.client() as client:
        for at in range(0, len(sent), 1000):
            client.send(sent[at : at + 1000])
        answer = client.answer()
        assert (answer.status, answer.text) == (status, text)
        assert client.is_closed()


def test_t12_a_head_at_every_limit_is_accepted(shooting_range: Range) -> None:
    target = f"{SCORE}?"
    target += "a" * (8192 - len(f"POST {target} HTTP/1.1"))
    few = post(target=target)
    fields = ["X-A: a"] * 95
    rest = 32768 - len(post(*fields, "X-B: ", target=target))
    sent = post(*fields, "X-B: " + "b" * rest, target=target)
    assert len(sent) == 32768
    assert len(few) < len(sent)
    _, head, framing, _ = shooting_range.forwards(sent)
    assert head.count("X-A: a") == 95
    assert framing == "Content-Length: 0"


@pytest.mark.parametrize("name", ["traceparent", "tracestate", "x-request-id"])
def test_t12_a_head_that_is_like_one_before_is_bounded_as_well(
    shooting_range: Range, name: str
) -> None:
    short = post(f"{name}: a", "Content-Length: 18", body=JSON)
    assert shooting_range.gateway.ask(short).status == 200
    long = post(f"{name}: {'a' * 40000}", "Content-Length: 18", body=JSON)
    text = "Request header too large: at most 32768 bytes are accepted"
    shooting_range.refuses(long, 431, text)


TOO_LARGE = f"The request body is too large: at most {BODY_LIMIT} bytes"


def test_t13_a_huge_declared_body_is_refused_before_it_comes(shooting_range: Range) -> None:
    shooting_range.refuses(post(f"Content-Length: {10**18}"), 413, TOO_LARGE)


def test_t13_a_body_little_over_the_limit_costs_not_even_the_connection(
    shooting_range: Range,
) -> None:
    sent = post(f"Content-Length: {BODY_LIMIT + 1}", body=b"1" * (BODY_LIMIT + 1))
    shooting_range.refuses(sent, 413, TOO_LARGE, kept=True)


def test_a_body_at_the_limit_is_accepted(shooting_range: Range) -> None:
    body = b'"' + b"a" * (BODY_LIMIT - 2) + b'"'
    _, _, framing, got = shooting_range.forwards(post(f"Content-Length: {BODY_LIMIT}", body=body))
    assert (framing, got) == (f"Content-Length: {BODY_LIMIT}", body)


# Expectations and other protocols (T9).


def test_t09_an_unknown_expectation_is_refused(shooting_range: Range) -> None:
    text = "The only expectation met here is 100-continue"
    shooting_range.refuses(post("Expect: 200-ok", "Content-Length: 2", body=b"{}"), 417, text)


def test_t09_100_continue_is_said_here_and_not_passed_on(shooting_range: Range) -> None:
    known = len(shooting_range.backend.seen)
    with shooting_range.gateway.client() as client:
        client.send(post("Expect: 100-continue", f"Content-Length: {len(JSON)}"))
        assert client.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(JSON)
        assert client.answer().status == 200
    (seen,) = shooting_range.backend.seen[known:]
    assert seen.header("expect") is None
    assert seen.body == JSON


def test_t09_who_is_refused_is_not_told_to_continue(shooting_range: Range) -> None:
    sent = post("Expect: 100-continue", f"Content-Length: {len(JSON)}")
    wrong = sent.replace(KEY.encode(), b"wrong" * 5)
    with shooting_range.gateway.client() as client:
        client.send(wrong)
        answer = client.answer()
        assert (answer.status, answer.interim) == (401, [])
        assert answer.header("connection") == "close"  # the body may or may not come now
        assert client.is_closed()


@pytest.mark.parametrize(
    "fields",
    [
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        ("Connection: upgrade", "Upgrade: TLS/1.2"),
        ("TE: trailers", "Connection: TE"),
        ("Trailer: X-Sum", "Keep-Alive: timeout=600", "Proxy-Connection: keep-alive"),
        ("Proxy-Authorization: Basic eA==",),
    ],
    ids=["websocket", "h2c", "TLS", "TE", "hop-by-hop", "proxy-authorization"],
)
def test_t09_what_concerns_one_hop_is_neither_obeyed_nor_passed_on(
    shooting_range: Range, fields: tuple[str, ...]
) -> None:
    answer, head, _, _ = shooting_range.forwards(
        post(*fields, f"Content-Length: {len(JSON)}", body=JSON)
    )
    assert answer.interim == []
    kept = [field for field in fields if field.startswith("Sec-")]
    content = "Content-Type: application/json"
    assert head == canonical(content, f"X-Canary: {CANARY}", *kept)


def test_a_tls_client_is_told_that_this_port_has_no_tls(shooting_range: Range) -> None:
    text = "Bad request: TLS spoken to a port without TLS"
    shooting_range.refuses(client_hello(), 400, text)


def test_a_tls_client_is_turned_away_at_once(shooting_range: Range) -> None:
    shooting_range.refuses(client_hello(), 400, None)
