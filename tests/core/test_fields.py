"""What becomes of the fields of a believed head: read, passed on or dropped (T5 to T9)."""

from __future__ import annotations

import hashlib

import pytest

from gateway.core.faults import Fault, Refusal
from gateway.core.heads import HeadLimits, RequestHead, parse_request_head


def parse(*fields: bytes, line: bytes = b"POST /score HTTP/1.1") -> RequestHead:
    lines = (line, b"Host: a.test", *fields, b"", b"")
    return parse_request_head(b"\r\n".join(lines), HeadLimits())


def test_what_decides_is_taken_out_and_the_rest_kept_in_order() -> None:
    head = parse(
        b"X-Mine:  two words ",
        b"Authorization: Bearer key",
        b"Content-Type: application/json",
        b"azureml-model-deployment: green",
        b"x-request-id: A",
        b"x-ms-request-id: B",
        b"x-ms-client-request-id: C",
        b"traceparent: 00-x",
        b"User-Agent: curl",
        b"Origin: https://app.test",
        b"X-Forwarded-For: 1.2.3.4",
        b"Forwarded: for=1.2.3.4",
        b"Access-Control-Request-Method: POST",
        b"Access-Control-Request-Headers: x-a",
        b"Access-Control-Request-Private-Network: True",
        b"x-mine: \x80",
    )
    assert head.kept == [
        (b"X-Mine", b"two words"),
        (b"Content-Type", b"application/json"),
        (b"traceparent", b"00-x"),
        (b"User-Agent", b"curl"),
        (b"Origin", b"https://app.test"),
        (b"x-mine", b"\x80"),
    ]
    assert head.forwarded == [(b"x-forwarded-for", b"1.2.3.4"), (b"forwarded", b"for=1.2.3.4")]
    assert (head.authorization, head.pin) == (b"Bearer key", b"green")
    assert (head.request_id, head.ms_request_id, head.client_request_id) == (b"A", b"B", b"C")
    assert (head.content_type, head.origin) == (b"application/json", b"https://app.test")
    assert (head.traceparent, head.user_agent) == (b"00-x", b"curl")
    assert (head.asked_method, head.asked_headers, head.asked_network) == (b"POST", b"x-a", True)


def test_one_head_never_shows_in_the_next() -> None:
    parse(b"X: y", b"Authorization: Bearer a", b"Connection: x", b"X-Forwarded-For: 1.2.3.4")
    head = parse()
    assert (head.kept, head.forwarded, head.nominated, head.token) == ([], [], [], None)


@pytest.mark.parametrize(
    "name",
    [
        # Hop-by-hop (RFC 9110 section 7.6.1).
        *["Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate"],
        *["TE", "Trailer", "Upgrade", "HTTP2-Settings"],
        # What servers behind proxies believe.
        *["Proxy", "X-Real-IP", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server"],
        *["X-Original-URL", "X-Rewrite-URL"],
        # Names that CGI and WSGI cannot tell from those they imitate.
        *["X_Forwarded_For", "Content_Type", "X-Forwarded_Proto"],
        *["X.Forwarded.For", "X~A", "!", "_", "-"],
    ],
)
def test_what_a_client_must_not_say_is_not_passed_on(name: str) -> None:
    for spelling in (name, name.upper(), name.lower()):
        head = parse(b"%b: 1" % spelling.encode(), b"X-Good: 1")
        assert head.kept == [(b"X-Good", b"1")]
        assert (head.length, head.forwarded) == (None, [])


@pytest.mark.parametrize(
    "name", ["Transfer_Encoding", "Content_Length", "Content_length", "TRANSFER_ENCODING"]
)
def test_an_imitation_of_framing_is_refused(name: str) -> None:
    # A server that cannot tell it from the real one would read another length than we do.
    with pytest.raises(Refusal) as caught:
        parse(b"%b: 1" % name.encode())
    assert caught.value.fault is Fault.BAD_REQUEST


@pytest.mark.parametrize(
    "name", ["X-Forwarded-Ssl", "X-Forwarded-Protocol", "X-Forwarded-Scheme", "X-Forwarded-User"]
)
def test_the_whole_family_of_x_forwarded_is_ours(name: str) -> None:
    # Threat T6. gunicorn, which real containers run on, believes the first two of these, and
    # answers 400 when they contradict the X-Forwarded-Proto that we send.
    assert parse(b"%b: on" % name.encode()).kept == []


@pytest.mark.parametrize(
    ("connection", "kept"),
    [
        ("close", ["X-A", "X-B"]),
        ("keep-alive", ["X-A", "X-B"]),
        ("X-A", ["X-B"]),
        ("close, x-a", ["X-B"]),
        ("keep-alive, X-A ,x-b", []),
        ("X-A\r\nConnection: X-B", []),
        ("keep-alive\r\nConnection: X-A", ["X-B"]),
        ("X-C", ["X-A", "X-B"]),
    ],
)
def test_fields_that_connection_names_are_struck_off(connection: str, kept: list[str]) -> None:
    nominating = b"Connection: " + connection.encode()
    for fields in ([nominating, b"X-A: 1", b"X-B: 2"], [b"X-A: 1", b"X-B: 2", nominating]):
        assert [name.decode() for name, _ in parse(*fields).kept] == kept


def test_fields_that_decide_cannot_be_struck_off() -> None:
    # Threat T8: `Connection: Authorization` must not make a request anonymous.
    nominated = (
        b"authorization, host, content-length, content-type, origin, azureml-model-deployment, "
        b"x-request-id, x-forwarded-for, traceparent"
    )
    head = parse(
        b"Connection: " + nominated,
        b"Authorization: Bearer key",
        b"Content-Length: 5",
        b"Content-Type: text/csv",
        b"azureml-model-deployment: green",
        b"x-request-id: A",
        b"X-Forwarded-For: 1.2.3.4",
        b"Origin: null",
        b"traceparent: 00-x",
    )
    assert (head.token, head.host, head.length, head.pin) == (b"key", b"a.test", 5, b"green")
    assert (head.request_id, head.forwarded) == (b"A", [(b"x-forwarded-for", b"1.2.3.4")])
    assert head.kept == [
        (b"Content-Type", b"text/csv"),
        (b"Origin", b"null"),
        (b"traceparent", b"00-x"),
    ]


def test_a_body_does_not_lose_its_coding() -> None:
    # Threat T8 names `Content-*`: a container would take compressed bytes for the text.
    head = parse(b"Connection: Content-Encoding", b"Content-Encoding: gzip")
    assert head.kept == [(b"Content-Encoding", b"gzip")]


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        (b"Bearer abc", b"abc"),
        (b"bearer abc", b"abc"),
        (b"BEARER   abc", b"abc"),
        (b"Bearer a b", b"a b"),
        (b"Bearer", None),
        (b"Basic abc", None),
        (b"abc", None),
        (b"Bearerabc", None),
        (b"", None),
    ],
    ids=repr,
)
def test_a_credential_is_what_follows_bearer(authorization: bytes, token: bytes | None) -> None:
    head = parse(b"Authorization: " + authorization)
    assert head.token == token
    assert head.digest == (hashlib.sha256(token).digest() if token else None)


def test_without_a_credential_there_is_no_digest() -> None:
    assert (parse().token, parse().digest) == (None, None)


def test_a_repeated_field_that_decides_nothing_is_kept_as_it_came() -> None:
    head = parse(b"Accept: a", b"accept: b", b"Accept: a")
    assert head.kept == [(b"Accept", b"a"), (b"accept", b"b"), (b"Accept", b"a")]


def test_a_refusal_repeats_nothing_of_the_request() -> None:
    # Threats T43 and T46: what a client sends is neither echoed nor logged as it came.
    with pytest.raises(Refusal) as caught:
        parse(b"canary: canary\0canary")
    assert caught.value.fault is Fault.BAD_REQUEST
    assert "canary" not in caught.value.detail


def test_a_head_shows_its_request_line_and_no_secret() -> None:
    head = parse(b"Authorization: Bearer key", line=b"GET /score?secret HTTP/1.0")
    assert repr(head) == "<RequestHead GET /score HTTP/1.0>"
