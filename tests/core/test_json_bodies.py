"""Bodies that would make a JSON parser fail are turned away, and no others (threat T20)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import json_bodies
from gateway.core.json_bodies import MAX_DEPTH, check_json_text

NOT_UTF8 = "the body is not UTF-8"
TOO_DEEP = f"the body is nested deeper than {MAX_DEPTH} levels"


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        pytest.param(b"", None, id="empty"),
        pytest.param(b'{"data": [[1, 2]]}', None, id="ASCII"),
        pytest.param('{"data": "é 漢 😀"}'.encode(), None, id="two, three and four bytes"),
        pytest.param(b"\xef\xbb\xbf{}", None, id="byte order mark"),
        pytest.param(b"not JSON at all", None, id="not our business"),
        pytest.param(b'"\xe9"', NOT_UTF8, id="latin-1"),
        pytest.param(b'"\xc3', NOT_UTF8, id="cut off"),
        pytest.param(b'"\xc0\xaf"', NOT_UTF8, id="overlong"),
        pytest.param(b'"\xed\xa0\x80"', NOT_UTF8, id="surrogate"),
        pytest.param(b'"\xf4\x90\x80\x80"', NOT_UTF8, id="beyond Unicode"),
        pytest.param('{"a": 1}'.encode("utf-16"), NOT_UTF8, id="UTF-16"),
    ],
)
def test_a_body_is_utf8(body: bytes, verdict: str | None) -> None:
    assert check_json_text(body) == verdict


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        pytest.param(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None, id="lists, at the bound"),
        pytest.param(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), TOO_DEEP, id="lists, above"),
        pytest.param(
            b"[]," + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b",[]", None, id="at, between others"
        ),
        pytest.param(b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH, None, id="objects, at"),
        pytest.param(
            b'[{"a":' * (MAX_DEPTH // 2) + b"[]" + b"}]" * (MAX_DEPTH // 2), TOO_DEEP, id="mixed"
        ),
        pytest.param(b"[" * 100_000, TOO_DEEP, id="never closed"),
        pytest.param(b"[" + b"[1,2]," * 100_000 + b"[]]", None, id="wide"),
        pytest.param(b"]" * 100_000 + b"[]", None, id="only closed"),
        pytest.param(
            b"[" + b"[]," * 9_000 + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"]",
            TOO_DEEP,
            id="deep behind wide",
        ),
        pytest.param(
            b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b",[]" * 9_000,
            TOO_DEEP,
            id="wide behind deep",
        ),
    ],
)
def test_a_body_is_nested_no_deeper_than_the_container_can_take(
    body: bytes, verdict: str | None
) -> None:
    assert check_json_text(body) == verdict


def test_the_bound_leaves_the_container_a_margin() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert check_json_text(deepest) is None
    json.loads(deepest)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("[" * (MAX_DEPTH + 1), id="one string"),
        pytest.param(["so sad :["] * (MAX_DEPTH + 1), id="a little in every row"),
        pytest.param(['{"cut": {"off'] * MAX_DEPTH, id="JSON in strings, cut off"),
        pytest.param(['\\"{'] * (MAX_DEPTH + 1), id="escaped quotes"),
    ],
)
def test_text_with_brackets_in_it_is_not_nested(value: object) -> None:
    assert check_json_text(json.dumps({"data": value}).encode()) is None


@pytest.mark.parametrize("hiding", [b'["]",', b'{"}":', b'["\\"]",'], ids=repr)
def test_brackets_in_strings_hide_no_depth(hiding: bytes) -> None:
    # json.loads() of CPython raises RecursionError for these: the container would answer 500.
    closing = b"]" if hiding.startswith(b"[") else b"}"
    body = hiding * 5000 + b"1" + closing * 5000
    with pytest.raises(RecursionError):
        json.loads(body)
    assert check_json_text(body) == TOO_DEEP


VALUES = st.recursive(
    st.none() | st.integers() | st.text('[]{}"\\ é', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text('[]{}"\\', max_size=4), inner, max_size=3)
    ),
    max_leaves=20,
)


def levels(value: object) -> int:
    """How deep a value is nested: 0 for one that is neither list nor object."""
    match value:
        case list():
            return 1 + max(map(levels, value), default=0)
        case dict():
            return 1 + max(map(levels, value.values()), default=0)
        case _:
            return 0


@given(value=VALUES, bound=st.integers(1, 6), ascii_only=st.booleans())
def test_the_verdict_on_json_is_that_of_a_parser(
    value: object, bound: int, ascii_only: bool
) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_bodies, "MAX_DEPTH", bound)
        assert (check_json_text(body) is not None) == (levels(value) > bound)


def depth(text: bytes) -> tuple[int, int]:
    """The definition: one up for an opening bracket, one down for a closing one, never below 0.

    :returns: the greatest depth, and how many brackets are never closed.
    """
    deepest = now = 0
    for byte in text:
        if byte in b"[{":
            now += 1
            deepest = max(deepest, now)
        elif byte in b"]}":
            now = max(0, now - 1)
    return deepest, now


BALANCED = st.recursive(
    st.sampled_from([b"", b"1", b"[]", b"{}", b", "]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(b"".join),
        inner.map(lambda text: b"[" + text + b"]"),
        inner.map(lambda text: b'{"a":' + text + b"}"),
        st.tuples(inner, st.integers(1, 30)).map(lambda pair: pair[0] * pair[1]),
    ),
    max_leaves=12,
)


@given(body=BALANCED, bound=st.integers(1, 6))
def test_the_verdict_on_balanced_text_is_that_of_a_counter(body: bytes, bound: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_bodies, "MAX_DEPTH", bound)
        assert (check_json_text(body) is not None) == (depth(body)[0] > bound)


@given(
    body=st.lists(st.sampled_from(list(b"[]{}1")), max_size=60).map(bytes), bound=st.integers(1, 6)
)
def test_the_verdict_on_unbalanced_text_errs_on_the_safe_side_only(body: bytes, bound: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_bodies, "MAX_DEPTH", bound)
        verdict = check_json_text(body)
    deepest, unclosed = depth(body)
    if deepest > bound:
        assert verdict == f"the body is nested deeper than {bound} levels"
    elif not unclosed:
        assert verdict is None
    # What is never closed is no JSON: it may be refused for being too deep when it is not.


@pytest.mark.parametrize(
    "piece", [b"[", b"]", b"[]", b"][", b"[]]", b"[[]", b"[[]]", b"[" * 400 + b"]" * 400 + b"]["]
)
def test_a_million_brackets_are_judged_in_any_order(piece: bytes) -> None:
    # No time is measured. An algorithm of quadratic cost would need hours for one of these.
    body = piece * (1_000_000 // len(piece))
    assert (check_json_text(body) is not None) == (depth(body)[0] > MAX_DEPTH)


@pytest.mark.parametrize("piece", [b'"', b'"[', b'["]",', b"\\", b'\\"', b'\\"["', b'\\\\"['])
def test_a_million_quotes_and_escapes_are_judged_in_any_order(piece: bytes) -> None:
    body = b"[" * MAX_DEPTH + piece * (1_000_000 // len(piece))
    deep = piece in (b'"[', b'["]",', b'\\"["', b'\\\\"[')
    assert (check_json_text(body) is not None) == deep
