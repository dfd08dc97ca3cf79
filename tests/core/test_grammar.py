"""The regular expressions accept what the RFCs define, whole, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.grammar import (
    ABSOLUTE_FORM,
    HOST,
    PLAIN_PATH,
    REQUEST_LINE,
    printable,
    tokens,
)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"GET / HTTP/1.1", (b"GET", b"/", b"1.1")),
        (b"get /a?b#c HTTP/1.0", (b"get", b"/a?b#c", b"1.0")),
        (b"M-SEARCH * HTTP/9.9", (b"M-SEARCH", b"*", b"9.9")),
        (b"POST http://a/ HTTP/1.1", (b"POST", b"http://a/", b"1.1")),
        (b"GET  / HTTP/1.1", None),
        (b"GET /  HTTP/1.1", None),
        (b"GET\t/ HTTP/1.1", None),
        (b" GET / HTTP/1.1", None),
        (b"GET / HTTP/1.1 ", None),
        (b"GET / HTTP/1.1\n", None),
        (b"GET / http/1.1", None),
        (b"GET / HTTP/11", None),
        (b"GET / HTTP/1.10", None),
        (b"GET /\x7f HTTP/1.1", None),
        (b"GET /\xc3\xa9 HTTP/1.1", None),
        (b"GET /\0 HTTP/1.1", None),
        (b"G(T / HTTP/1.1", None),
        (b"GET /", None),
        (b"", None),
    ],
    ids=repr,
)
def test_a_request_line_is_three_parts_and_two_spaces(
    line: bytes, parts: tuple[bytes, ...] | None
) -> None:
    match = REQUEST_LINE.fullmatch(line)
    assert (match.groups() if match else None) == parts


@pytest.mark.parametrize(
    ("host", "good"),
    [
        (b"example.com", True),
        (b"EXAMPLE.com:8080", True),
        (b"model_1.containers", True),
        (b"127.0.0.1", True),
        (b"[::1]", True),
        (b"[2001:db8::1]:443", True),
        (b"[::ffff:1.2.3.4]:80", True),
        (b"", False),
        (b":80", False),
        (b"a:", False),
        (b"a:b", False),
        (b"a:123456", False),
        (b"a:80:80", False),
        (b"a b", False),
        (b"a,b", False),
        (b"a/b", False),
        (b"user@a", False),
        (b"a\n", False),
        (b"::1", False),
        (b"[::1", False),
        (b"[a]:80x", False),
        (b"m\xc3\xbcnchen.de", False),
        (b'a"', False),
    ],
    ids=repr,
)
def test_a_host_is_a_name_or_address_and_maybe_a_port(host: bytes, good: bool) -> None:
    assert (HOST.fullmatch(host) is not None) is good


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"http://a/b?c", (b"a", b"/b?c")),
        (b"HTTPS://a:1", (b"a:1", b"")),
        (b"http://a?b", (b"a", b"?b")),
        (b"ftp://a/", None),
        (b"//a/", None),
        (b"a:80", None),
    ],
    ids=repr,
)
def test_an_absolute_form_is_an_authority_and_the_rest(
    target: bytes, parts: tuple[bytes, ...] | None
) -> None:
    match = ABSOLUTE_FORM.fullmatch(target)
    assert (match.groups() if match else None) == parts


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        (b"/", True),
        (b"/score", True),
        (b"/api/v1/service/diabetes/score", True),
        (b"/v2/models/a.b/infer/", True),
        (b"/a:b@c,d=1", True),
        (b"/a..b", True),
        (b"/.", False),
        (b"/..", False),
        (b"/.well-known/x", False),
        (b"//", False),
        (b"/a//b", False),
        (b"/a%41", False),
        (b"/a;b", False),
        (b"/a\\b", False),
        (b"/a\n", False),
        (b"a", False),
        (b"*", False),
    ],
    ids=repr,
)
def test_a_plain_path_needs_no_normalising(path: bytes, plain: bool) -> None:
    assert (PLAIN_PATH.fullmatch(path) is not None) is plain


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", []),
        (b"close", [b"close"]),
        (b" Close ,\tX-Tenant", [b"close", b"x-tenant"]),
        (b",, a ,,", [b"a"]),
        (b"a b", [b"a b"]),
    ],
    ids=repr,
)
def test_a_list_is_split_at_commas_in_lower_case(value: bytes, members: list[bytes]) -> None:
    assert tokens(value) == members


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        (b"plain text ~", 100, "plain text ~"),
        (b"0123456789", 4, "0123"),
        (b"a\r\nb\tc\0d", 100, "a??b?c?d"),
        (b"\x7f\x80\xff", 100, "???"),
        (b" ~\0", 100, " ~?"),
        ("é".encode(), 100, "??"),
        (b"", 100, ""),
    ],
    ids=repr,
)
def test_what_cannot_be_printed_becomes_a_question_mark(
    value: bytes, limit: int, text: str
) -> None:
    assert printable(value, limit) == text


@given(value=st.binary(max_size=60), limit=st.integers(0, 50))
def test_printable_text_is_ascii_and_as_long_as_it_may_be(value: bytes, limit: int) -> None:
    text = printable(value, limit)
    assert len(text) == min(len(value), limit)
    assert all(" " <= character <= "~" for character in text)
