"""Heads recognised by example mean exactly what the full parser says they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.faults import Refusal
from gateway.core.replies import Reply, parse_reply_head
from gateway.core.shapes import MAX_LESSONS, MAX_SHAPES, ReplyShapes


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join((status, *lines)).encode("latin-1") + b"\r\n\r\n"


CONTAINER = (
    "Server: gunicorn",
    "Date: Sat, 21 Nov 2026 05:09:19 GMT",
    "Connection: close",
    "Content-Type: application/json",
    "Content-Length: 20",
    "x-ms-run-function-failed: False",
    "x-ms-run-fn-exec-ms: 0.671",
    "x-request-id: abc",
    "x-ms-request-id: abc",
)
LATER = tuple(
    line.replace("05:09:19", "06:10:20")
    .replace(": 20", ": 4711")
    .replace("0.671", "12.5")
    .replace("abc", "def-0")
    for line in CONTAINER
)


def meaning(reply: Reply) -> tuple[object, ...]:
    return reply.status, reply.length, reply.close, b"".join(reply.lines)


def taught(*raws: bytes) -> ReplyShapes:
    shapes = ReplyShapes()
    for raw in raws:
        if shapes.recognise(raw) is None:
            shapes.learn(raw)
    return shapes


def test_a_head_like_the_example_is_recognised_with_its_own_values() -> None:
    shapes = taught(head(*CONTAINER))
    reply = shapes.recognise(head(*LATER))
    assert reply is not None
    assert meaning(reply) == meaning(parse_reply_head(head(*LATER)))
    assert reply.length == 4711
    assert reply.close
    assert b"x-ms-run-fn-exec-ms: 12.5\r\n" in b"".join(reply.lines)


def test_a_value_that_turns_out_to_change_is_learned() -> None:
    first = head("content-length: 2", "server-timing: total;dur=1.25", "etag: one")
    second = head("content-length: 3", "server-timing: total;dur=9.75", "etag: one")
    third = head("content-length: 4", "server-timing: total;dur=100%", "etag: one")
    shapes = taught(first)
    assert shapes.recognise(second) is None
    shapes.learn(second)
    reply = shapes.recognise(third)
    assert reply is not None
    assert meaning(reply) == meaning(parse_reply_head(third))
    assert shapes.recognise(head("content-length: 4", "server-timing: x", "etag: two")) is None


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(head(*LATER, status="HTTP/1.1 201 Created"), id="status"),
        pytest.param(head(*LATER, status="HTTP/1.0 200 OK"), id="version"),
        pytest.param(head(*LATER, "x-more: 1"), id="one field more"),
        pytest.param(head(*LATER[:-1]), id="one field less"),
        pytest.param(head(*reversed(LATER)), id="order"),
        pytest.param(head(*(line.lower() for line in LATER)), id="spelling"),
        pytest.param(
            head(*(line.replace("close", "keep-alive") for line in LATER)), id="persistence"
        ),
        pytest.param(
            head(*(line.replace("4711", "1" * 16) for line in LATER)), id="too many digits"
        ),
        pytest.param(head(*(line.replace("4711", "+1") for line in LATER)), id="signed length"),
        pytest.param(head(*(line.replace("4711", "") for line in LATER)), id="empty length"),
        pytest.param(head(*(line.replace("12.5", "1\x002.5") for line in LATER)), id="null"),
        pytest.param(head(*(line.replace("12.5", "1\n x: 2") for line in LATER)), id="line feed"),
        pytest.param(head(*(line.replace("06:10", "06\r10") for line in LATER)), id="return"),
        pytest.param(head(*(line.replace("GMT", "\x7f") for line in LATER)), id="delete"),
        pytest.param(head(*LATER)[:-1], id="cut short"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_anything_else_is_not_recognised(other: bytes) -> None:
    assert taught(head(*CONTAINER)).recognise(other) is None


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(head("Transfer-Encoding: chunked"), id="chunked"),
        pytest.param(head("Content-Type: text/plain"), id="until close"),
        pytest.param(head("Content-Length: 0", status="HTTP/1.1 204 No Content"), id="no body"),
        pytest.param(head("Content-Length: 0", status="HTTP/1.1 304 Not Modified"), id="304"),
        pytest.param(head("Content-Length: 2", "Location: /x"), id="redirect"),
        pytest.param(head("Content-Length: 2", "Access-Control-Allow-Origin: *"), id="CORS"),
        pytest.param(head("Content-Length: 2", "Connection: x-hop", "x-hop: 1"), id="nominated"),
        pytest.param(head("Content-Length: 2", "Set-Cookie: a", "Set-Cookie: b"), id="repeated"),
        pytest.param(head("Content-Length: 2", "X: " + "y" * 4096), id="long"),
    ],
)
def test_heads_whose_meaning_is_not_in_their_lines_are_always_read_in_full(raw: bytes) -> None:
    shapes = taught(raw)
    assert shapes.recognise(raw) is None
    assert repr(shapes) == "<ReplyShapes 0, after 0 lessons>"


def test_kinds_and_lessons_are_bounded() -> None:
    shapes = ReplyShapes()
    for number in range(10 * MAX_LESSONS):
        shapes.learn(head("Content-Length: 2", f"x-{number}: 1"))
    assert repr(shapes) == f"<ReplyShapes {MAX_SHAPES}, after {MAX_LESSONS} lessons>"


NAMES = st.sampled_from(
    ["Date", "Content-Type", "x-a", "x-b", "Server", "x-ms-run-fn-exec-ms", "Connection", "X-%b"]
)
VALUES = st.sampled_from(
    ["", "1", "2", "close", "keep-alive", "a b", "50%", "%b", "\xe9", "x" * 20]
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=6)


@given(st.lists(st.tuples(FIELDS, st.integers(0, 10**15)), min_size=1, max_size=8))
def test_what_is_recognised_means_what_the_full_parser_says(
    heads: list[tuple[list[tuple[str, str]], int]],
) -> None:
    shapes = ReplyShapes()
    for fields, length in heads:
        raw = head(*(f"{n}: {v}" for n, v in fields), f"Content-Length: {length}")
        try:
            expected = parse_reply_head(raw)
        except Refusal:
            continue
        found = shapes.recognise(raw)
        if found is not None:
            assert meaning(found) == meaning(expected)
            assert not found.locations
            assert not found.cors_lines
        else:
            shapes.learn(raw)
