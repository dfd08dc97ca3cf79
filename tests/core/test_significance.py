"""Requests that the container could tell apart by their headers are not merged."""

from __future__ import annotations

import pytest

from gateway.core.significance import Significance, is_individual

ALL = Significance(None)


@pytest.mark.parametrize(
    ("lines", "expected"),
    {
        "nothing": (b"", b""),
        "spelling": (b"Content-TYPE: application/json\r\n", b"content-type: application/json\r\n"),
        "order": (b"b: 1\r\nA: 2\r\n", b"a: 2\r\nb: 1\r\n"),
        "same-name": (b"x: 2\r\nX: 1\r\nx: 3\r\n", b"x: 2\r\nx: 1\r\nx: 3\r\n"),
        "white-space": (b"a:1\r\nb:  2 \r\n", b"a: 1\r\nb: 2\r\n"),
        "case-of-values": (b"a: B\r\n", b"a: B\r\n"),
        "colons": (b"a: b: c\r\n", b"a: b: c\r\n"),
        "programs": (b"User-Agent: curl\r\nReferer: x\r\nAccept: */*\r\n", b"accept: */*\r\n"),
        "browsers": (b"Sec-Fetch-Mode: cors\r\nsec-ch-ua: x\r\nOrigin: o\r\nDNT: 1\r\n", b""),
        "identifiers": (
            b"x-ms-client-request-id: 5\r\nX-Request-ID: 6\r\ntraceparent: 7\r\nbaggage: 8\r\n",
            b"",
        ),
        "unknown": (b"x-tenant: 7\r\nCookie: c=d\r\n", b"cookie: c=d\r\nx-tenant: 7\r\n"),
        "echoed-by-the-container": (b"TraceId: 7\r\n", b"traceid: 7\r\n"),
        "credentials": (b"Authorization: Bearer x\r\n", b"authorization: Bearer x\r\n"),
    }.values(),
)
def test_all_but_the_incidental_ones_count(lines: bytes, expected: bytes) -> None:
    assert ALL.fields(lines) == expected


def test_an_operator_may_name_those_that_count() -> None:
    some = Significance(["X-Tenant"])
    lines = b"X-Tenant: 7\r\nAccept: */*\r\nContent-Type: application/json\r\nCookie: x\r\n"
    assert some.fields(lines) == b"content-type: application/json\r\nx-tenant: 7\r\n"


@pytest.mark.parametrize("name", ["content-type", "accept-encoding", "authorization"])
def test_some_count_whatever_is_named(name: str) -> None:
    line = f"{name}: x\r\n".encode()
    assert Significance([]).fields(line) == line


def test_origins_count_where_the_container_answers_pages_itself() -> None:
    line = b"origin: https://app.test\r\n"
    assert ALL.fields(line) == b""
    assert ALL.fields(line, origin=True) == line
    assert Significance([]).fields(line, origin=True) == line


@pytest.mark.parametrize(
    ("name", "individual"),
    [
        ("traceparent", True),
        ("X-Request-ID", True),
        ("x-forwarded-for", True),
        ("Forwarded", True),
        ("x-tenant", False),
        ("user-agent", False),
    ],
)
def test_what_a_merged_call_cannot_carry(name: str, individual: bool) -> None:
    assert is_individual(name) is individual
