"""There is one normal form of a path: everything harmless reaches it, everything else is refused.

Threat T11: a path that two programs read differently passes by access checks (CVE-2019-9901).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.faults import Fault, Refusal
from gateway.core.paths import split_target


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/score", b"/score", b""),
        (b"/score/", b"/score/", b""),
        (b"/score?", b"/score", b"?"),
        (b"/score?a=1&b=%zz", b"/score", b"?a=1&b=%zz"),
        (b"/score?/../x", b"/score", b"?/../x"),
        (b"/a?b?c", b"/a", b"?b?c"),
        (b"/%73core", b"/score", b""),
        (b"/%7Emodel", b"/~model", b""),
        (b"/a%20b", b"/a%20b", b""),
        (b"/a%c3%a9", b"/a%C3%A9", b""),
        (b"/100%25", b"/100%25", b""),
        (b"/a%3fb", b"/a%3Fb", b""),
        (b"/a%3Bb;c", b"/a%3Bb;c", b""),
        (b"//score", b"/score", b""),
        (b"/a///b//", b"/a/b/", b""),
        (b"///", b"/", b""),
        (b"/...", b"/...", b""),
        (b"/.well-known/x", b"/.well-known/x", b""),
        (b"/a..b/c.", b"/a..b/c.", b""),
        (b"/a;v=1/b", b"/a;v=1/b", b""),
        (b"/;x", b"/;x", b""),
        (b"/v2/models/m:1/infer", b"/v2/models/m:1/infer", b""),
    ],
    ids=repr,
)
def test_harmless_targets_reach_their_normal_form(target: bytes, path: bytes, query: bytes) -> None:
    assert split_target(target) == (path, query)


DOTS = "a dot segment in the path"
SLASH = "an escaped slash or backslash in the path"
TWICE = "an escaped escape in the path"
PERCENT = "a percent sign without two hexadecimal digits in the path"
CONTROL = "an escaped control character in the path"


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        (b"/.", DOTS),
        (b"/..", DOTS),
        (b"/a/../admin", DOTS),
        (b"/a/./b", DOTS),
        (b"/..?a", DOTS),
        (b"/%2e%2e/admin", DOTS),
        (b"/%2E./admin", DOTS),
        (b"/.%2e", DOTS),
        (b"/a//..//b", DOTS),
        (b"/..;/admin", DOTS),
        (b"/..;p=1/admin", DOTS),
        (b"/a/.;/b", DOTS),
        (b"/%2e%2e;x", DOTS),
        (b"/a%2fb", SLASH),
        (b"/a%2Fb", SLASH),
        (b"/..%2f..", SLASH),
        (b"/a%5cb", SLASH),
        (b"/a%5Cb", SLASH),
        (b"/a\\b", "a backslash in the path"),
        (b"/..\\admin", "a backslash in the path"),
        (b"/%252e%252e/admin", TWICE),
        (b"/a%252Fb", TWICE),
        (b"/a%255cb", TWICE),
        (b"/%25252e", TWICE),
        (b"/%", PERCENT),
        (b"/%4", PERCENT),
        (b"/%4g", PERCENT),
        (b"/%%41", PERCENT),
        (b"/%u002e", PERCENT),
        (b"/a%00", CONTROL),
        (b"/a%0d%0aX:y", CONTROL),
        (b"/a%7f", CONTROL),
        (b"/a#b", "a fragment in the request target"),
        (b"/a?b#c", "a fragment in the request target"),
        (b"a/b", "the request target is not a path"),
        (b"*", "the request target is not a path"),
    ],
    ids=repr,
)
def test_what_has_no_harmless_form_is_refused(target: bytes, detail: str) -> None:
    with pytest.raises(Refusal) as caught:
        split_target(target)
    assert (caught.value.fault, caught.value.detail) == (Fault.BAD_REQUEST, detail)


@pytest.mark.parametrize(
    "target",
    [b"/%25%32%65%25%32%65/admin", b"/a%252%65b", b"/a%25%32%46b", b"/a%25%35%63b", b"/%25%325"],
    ids=repr,
)
def test_an_escaped_escape_is_refused_however_its_digits_are_written(target: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        split_target(target)
    assert caught.value.detail == TWICE


# Pieces of paths rather than bytes: arbitrary bytes are hardly ever a path. Of escaped digits and
# letters an escaped escape can be put together.
TARGETS = st.lists(
    st.one_of(
        st.sampled_from([b"/", b"/", b"//", b".", b"..", b";", b"a", b"Z9", b"?", b"#", b":@"]),
        st.sampled_from([b"%2e", b"%7E", b"%7e", b"%20", b"%c3%A9", b"%3b", b"%3F", b"%6d"]),
        st.sampled_from([b"%25", b"%32", b"%35", b"%65", b"5", b"e", b"%2f", b"%", b"\\"]),
        st.binary(max_size=2),
    ),
    max_size=12,
).map(lambda pieces: b"/" + b"".join(pieces))


@given(TARGETS)
def test_the_normal_form_is_its_own_normal_form(target: bytes) -> None:
    try:
        path, query = split_target(target)
    except Refusal:
        return
    assert split_target(path + query) == (path, query)


@given(TARGETS)
def test_no_normal_form_holds_a_segment_that_a_container_could_climb_with(target: bytes) -> None:
    try:
        path, _ = split_target(target)
    except Refusal:
        return
    assert path.startswith(b"/")
    assert b"//" not in path
    assert b"\\" not in path
    segments = [segment.split(b";")[0].replace(b"%2E", b".") for segment in path.split(b"/")]
    assert b"." not in segments
    assert b".." not in segments
