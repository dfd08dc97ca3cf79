"""What is remembered of a head never changes what another head means.

Heads are remembered by their bytes to save work. Whatever was read before, a head must mean what a
reader without a memory finds in it: above all the length of its body, on which it depends where the
next request begins (RFC 9112 section 11.2).
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.dialects import MANAGED, V1, Dialect
from gateway.core.faults import Fault, Refusal
from gateway.core.gates import Gate
from gateway.core.heads import CHUNKED, HeadLimits
from gateway.core.routing import Router
from gateway.core.traffic import Traffic
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.reading import HeadReader, Known, KnownKind
from gateway.engine.routed import Routed
from gateway.engine.slots import Slots
from tests.support.raw import request

LIMITS = HeadLimits(line=200, total=1000, fields=20)
PATH = "/api/v1/service/diabetes/score"


def endpoint(dialect: Dialect = V1, forward_credentials: bool = False) -> Endpoint:
    blue = Deployment("blue", cast(Slots, object()))
    return Endpoint(
        "diabetes",
        dialect=dialect,
        gate=Gate(None, None),
        keeper=None,
        cors=None,
        traffic=Traffic({"blue": blue}, {}, "blue"),
        deployments=[blue],
        timeout=7.0,
        body_limit=100,
        forward_credentials=forward_credentials,
    )


def reader(served: Endpoint | None = None) -> HeadReader:
    served = served or endpoint()
    return HeadReader(
        Router({"diabetes": served, "other": endpoint()}, {"diabetes": ["a.test"]}), LIMITS, 3.0
    )


def head(*lines: str, line: str = f"POST {PATH} HTTP/1.1") -> bytes:
    return "".join(f"{text}\r\n" for text in (line, "Host: gateway.test", *lines, "")).encode()


def meaning(routed: Routed, length: int) -> dict[str, Any]:
    """Everything that follows from a head."""
    identifiers = routed.identifiers
    return {
        "length": length,
        "line": routed.request_line,
        "fields": sorted(routed.fields.split(b"\r\n")),
        "cut": routed.cut,
        "endpoint": routed.endpoint and routed.endpoint.name,
        "refusal": routed.refusal and routed.refusal.fault,
        "timeout": routed.timeout,
        "json": routed.is_json,
        "close": routed.head.close,
        "digest": routed.head.digest,
        "words": routed.words,
        "traceparent": routed.traceparent,
        "identifiers": (
            identifiers.upstream, identifiers.echo, identifiers.theirs, identifiers.client,
        ),
    }  # fmt: skip


def read(reader: HeadReader, raw: bytes) -> dict[str, Any] | Fault:
    try:
        return meaning(*reader.read(raw))
    except Refusal as refusal:
        return refusal.fault


# What a head means.


def test_a_scoring_request() -> None:
    found = meaning(
        *reader().read(
            head(
                "Content-Type: application/json; charset=utf-8",
                "Authorization: Bearer k",
                "X-Own: a",
                "Connection: X-Hop",
                "X-Hop: b",
                "X-Forwarded-For: 1.2.3.4",
                "User-Agent: test/1",
                "Content-Length: 18",
            )
        )
    )
    assert found["length"] == 18
    assert found["line"] == b"POST /score HTTP/1.1\r\n"
    assert found["cut"] == b"/api/v1/service/diabetes"
    assert found["fields"] == [
        b"", b"Content-Type: application/json; charset=utf-8", b"User-Agent: test/1", b"X-Own: a",
    ]  # fmt: skip
    assert (found["endpoint"], found["timeout"], found["json"]) == ("diabetes", 7.0, True)
    assert found["words"] == ("POST", PATH, "test/1")


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        (f"GET {PATH}?a=1 HTTP/1.1", b"GET /score?a=1 HTTP/1.1\r\n"),
        (f"HEAD {PATH} HTTP/1.1", b"GET /score HTTP/1.1\r\n"),
        (f"POST {PATH}/v2//x HTTP/1.0", b"POST /score/v2/x HTTP/1.1\r\n"),
        (f"POST http://gateway.test{PATH} HTTP/1.1", b"POST /score HTTP/1.1\r\n"),
        ("POST /api/v1/service/diabetes HTTP/1.1", b"POST / HTTP/1.1\r\n"),
    ],
)
def test_what_the_container_is_asked(line: str, sent: bytes) -> None:
    assert meaning(*reader().read(head(line=line)))["line"] == sent


@pytest.mark.parametrize(
    ("method", "media_type", "is_json"),
    [
        ("POST", "application/json", True),
        ("POST", "Application/JSON;charset=utf-8", True),
        ("POST", "application/vnd.api+json", True),
        ("POST", "text/json", False),
        ("POST", "application/jsonl", False),
        ("POST", "application/octet-stream", False),
        ("GET", "application/json", False),
    ],
)
def test_what_counts_as_json(method: str, media_type: str, is_json: bool) -> None:
    raw = head(f"Content-Type: {media_type}", line=f"{method} {PATH} HTTP/1.1")
    assert meaning(*reader().read(raw))["json"] is is_json


@pytest.mark.parametrize("forward", [True, False])
def test_credentials_go_on_only_where_that_is_wanted(forward: bool) -> None:
    found = read(reader(endpoint(forward_credentials=forward)), head("Authorization: Bearer k"))
    assert isinstance(found, dict)
    assert (b"Authorization: Bearer k" in found["fields"]) is forward


def test_a_head_for_nobody_says_so_and_keeps_its_length() -> None:
    raw = head("Content-Length: 5", line="POST /api/v1/service/nobody/score HTTP/1.1")
    found = meaning(*reader().read(raw))
    assert (found["endpoint"], found["refusal"]) == (None, Fault.NO_ROUTE)
    assert (found["length"], found["timeout"]) == (5, 3.0)


def test_a_head_says_what_it_is() -> None:
    routed, _ = reader().read(head())
    assert repr(routed) == (
        f"<Routed <RequestHead POST {PATH} HTTP/1.1> to <Endpoint diabetes, 1 deployments>>"
    )


# What is remembered.

LENGTHS = {
    "usual": "Content-Length: 18",
    "lower case": "content-length: 18",
    "leading zeros": "Content-Length: 000000000000000000018",
    "white space behind": "Content-Length: 18 ",
    "two spaces": "Content-Length:  18",
}
ODD_LENGTHS = {
    "one capital": "Content-length: 18",
    "capitals": "CONTENT-LENGTH: 18",
    "no white space": "Content-Length:18",
    "a tab": "Content-Length:\t18",
}


@pytest.mark.parametrize(
    "line",
    [
        *(pytest.param(line, id=name) for name, line in LENGTHS.items()),
        *(pytest.param(line, id=name) for name, line in ODD_LENGTHS.items()),
    ],
)
def test_a_head_has_the_same_length_every_time(line: str) -> None:
    shared = reader()
    assert [shared.read(head(line))[1] for _ in range(3)] == [18, 18, 18]


def test_each_head_has_its_own_length() -> None:
    shared = reader()
    for length in (1, 20, 300, 0, 1):
        assert shared.read(head(f"Content-Length: {length}"))[1] == length


def test_chunks_stay_chunks() -> None:
    shared = reader()
    for _ in range(3):
        assert shared.read(head("Transfer-Encoding: chunked"))[1] == CHUNKED


@pytest.mark.parametrize(
    "digits", ["", "-1", "+1", "0x1", "1,1", "1 1", "1_0", "\xb2", "9" * 30, "1;a"]
)
def test_a_remembered_head_does_not_excuse_a_bad_length(digits: str) -> None:
    shared = reader()
    for _ in range(2):
        assert shared.read(head("Content-Length: 18"))[1] == 18
        bad = head("Content-Length: XX").replace(b"XX", digits.encode("latin-1"))
        with pytest.raises(Refusal) as refusal:
            shared.read(bad)
        assert refusal.value.fault is Fault.BAD_REQUEST


def test_a_remembered_head_does_not_excuse_a_large_one() -> None:
    shared = reader()
    shared.read(head("x-request-id: short"))
    with pytest.raises(Refusal) as refusal:
        shared.read(head("x-request-id: " + "a" * 2000))
    assert refusal.value.fault is Fault.HEAD_TOO_LARGE


def test_what_connection_names_is_not_passed_on_whatever_it_is() -> None:
    found = read(reader(), head("Connection: tracestate", "tracestate: a"))
    assert isinstance(found, dict)
    assert found["fields"] == [b""]


def test_the_memory_is_bounded() -> None:
    shared = reader()
    for number in range(3000):
        assert shared.read(head(f"X-Odd: {number}", "Content-Length: 3"))[1] == 3
    assert read(shared, head("X-Odd: 1", "Content-Length: 3")) == read(
        reader(), head("X-Odd: 1", "Content-Length: 3")
    )


NAMES = st.sampled_from(
    ["X-Own", "x-request-id", "X-Request-ID", "x-ms-request-id", "x-ms-client-request-id",
     "traceparent", "Traceparent", "Connection", "Content-Type", "Authorization", "User-Agent"]
)  # fmt: skip
VALUES = st.sampled_from(
    ["a", "b", "a b", "", "close", "application/json", f"00-{'1' * 32}-{'2' * 16}-01", "Bearer k"]
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
FRAMINGS = st.sampled_from(
    ["", "Transfer-Encoding: chunked", *LENGTHS.values(), "Content-Length: 7", "Content-Length: x"]
)


@st.composite
def heads(draw: st.DrawFn, framings: st.SearchStrategy[str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in draw(FIELDS)]
    framing = draw(framings)
    if framing:
        lines.insert(draw(st.integers(0, len(lines))), framing)
    path = draw(st.sampled_from([PATH, "/score", "/api/v1/service/nobody/score"]))
    return head(*lines, line=f"{draw(st.sampled_from(['POST', 'GET']))} {path} HTTP/1.1")


@pytest.mark.parametrize("dialect", [V1, MANAGED], ids=lambda dialect: dialect.name)
def test_whatever_was_read_before_a_head_means_the_same(dialect: Dialect) -> None:
    @settings(deadline=None, max_examples=150)
    @given(st.lists(heads(FRAMINGS), min_size=2, max_size=6))
    def check(raws: list[bytes]) -> None:
        shared = reader(endpoint(dialect))
        for raw in [*raws, *raws]:
            assert read(shared, raw) == read(reader(endpoint(dialect)), raw)

    check()


def test_whatever_was_read_before_an_oddly_written_head_means_the_same() -> None:
    @settings(deadline=None, max_examples=150, derandomize=True)
    @given(st.lists(heads(st.sampled_from(list(ODD_LENGTHS.values()))), min_size=2, max_size=4))
    def check(raws: list[bytes]) -> None:
        shared = reader()
        for raw in [*raws, *raws]:
            assert read(shared, raw) == read(reader(), raw)

    check()


def test_a_request_of_the_usual_form_is_read_as_it_was_meant() -> None:
    raw = request(PATH, b"[1]", key="k").removesuffix(b"[1]")
    found = meaning(*reader().read(raw))
    assert (found["length"], found["json"]) == (3, True)


def known_from(raw: bytes) -> tuple[HeadReader, Known | KnownKind]:
    """What a reader knows a head by once it has read it often enough to remember it."""
    served = reader()
    for _ in range(2):
        served.read(raw)
    assert served.known is not None
    return served, served.known


@pytest.mark.parametrize("digits", ["0", "7", "123456789012345"])
def test_the_next_head_of_a_connection_is_recognised_in_place(digits: str) -> None:
    _, known = known_from(head("Content-Length: 5", "Accept: */*"))
    following = head(f"Content-Length: {digits}", "Accept: */*")
    assert known.recognise(b"before" + following + b"after", 6) == (
        known.routed,
        int(digits),
        6 + len(following),
    )


@pytest.mark.parametrize(
    "following",
    {
        "another": head("Content-Length: 5", "Accept: text/*"),
        "another-line": head("Content-Length: 5", "Accept: */*", line="POST / HTTP/1.1"),
        "one-more": head("Content-Length: 5", "Accept: */*", "X: y"),
        "one-less": head("Content-Length: 5"),
        "no-length": head("Accept: */*"),
        "empty": head("Content-Length: ", "Accept: */*"),
        "no-digits": head("Content-Length: +5", "Accept: */*"),
        "list": head("Content-Length: 5, 5", "Accept: */*"),
        "blank": head("Content-Length: 5 ", "Accept: */*"),
        "too-many-digits": head("Content-Length: 1234567890123456", "Accept: */*"),
        "bare-line-feed": head("Content-Length: 5\nX: y", "Accept: */*"),
        "twice": head("Content-Length: 5", "Content-Length: 5", "Accept: */*"),
        "cut-short": head("Content-Length: 5", "Accept: */*")[:-1],
        "cut-in-the-length": head("Content-Length: 5")[:-5],
        "nothing": b"",
    }.values(),
)
def test_what_is_not_the_same_is_read(following: bytes) -> None:
    _, known = known_from(head("Content-Length: 5", "Accept: */*"))
    assert known.recognise(following, 0) is None


def test_only_heads_with_a_plain_length_are_known() -> None:
    served = reader()
    for raw in (head(), head("Transfer-Encoding: chunked"), head("content-length:5")):
        for _ in range(2):
            served.read(raw)
            assert served.known is None


TRACE = f"00-{'1' * 32}-{'2' * 16}-01"


def individual(request_id: str = "a", digits: str = "5", trace: str = TRACE) -> bytes:
    """A head as clients send it that make up identifiers for every request."""
    return head(
        "Accept: */*",
        f"X-Request-ID: {request_id}",
        f"Content-Length: {digits}",
        f"traceparent: {trace}",
        "User-Agent: test/1",
    )


@pytest.mark.parametrize("digits", ["0", "7", "4096", "007", "123456789012345"])
def test_the_next_head_with_identifiers_of_its_own_is_recognised_in_place(digits: str) -> None:
    _, known = known_from(individual())
    following = individual("other-1", digits, TRACE.replace("1", "7"))
    found = known.recognise(b"before" + following + b"after", 6)
    assert found is not None
    routed, length, end = found
    assert end == 6 + len(following)
    assert meaning(routed, length) == read(reader(), following)
    assert (routed.identifiers.client, routed.identifiers.theirs) == ("", b"other-1")


@pytest.mark.parametrize(
    "following",
    {
        "empty": individual(""),
        "blank-inside": individual("a b"),
        "blank-behind": individual("a "),
        "tab": individual("a\tb"),
        "not-ascii": individual("\u00e9"),
        "control-character": individual("a\x01"),
        "bare-line-feed": individual("a\nX: y"),
        "another-field": individual("a\r\nX: y"),
        "end-of-head": individual("a\r\n\r\n"),
        "too-large": individual("a" * LIMITS.total),
        "no-digits": individual(digits="+5"),
        "no-length": individual(digits=""),
        "too-many-digits": individual(digits="1" * 16),
        "other-spelling": individual().replace(b"X-Request-ID", b"x-request-id"),
        "other-constant": individual().replace(b"*/*", b"text"),
        "other-end": individual().replace(b"test/1", b"test/2"),
        "one-less": head("Accept: */*", "X-Request-ID: a"),
        "cut-short": individual()[:-1],
        "cut-in-a-value": individual()[: individual().index(b"00-") + 9],
        "nothing": b"",
    }.values(),
)
def test_what_is_not_of_the_same_kind_is_read(following: bytes) -> None:
    _, known = known_from(individual())
    assert known.recognise(following, 0) is None


def test_a_head_that_is_not_remembered_is_not_known_by_its_kind() -> None:
    served = reader()
    struck_off = head("Connection: tracestate", "tracestate: a", "x-request-id: b")
    for _ in range(2):
        served.read(struck_off)
        assert served.known is None


@given(heads(framings=FRAMINGS), heads(framings=FRAMINGS), st.binary(max_size=9))
@settings(deadline=None, max_examples=300)
def test_what_is_recognised_is_what_would_be_read(first: bytes, second: bytes, rest: bytes) -> None:
    served = reader()
    for _ in range(2):
        read(served, first)
    if (known := served.known) is None:
        return
    for raw in (first, second):
        found = known.recognise(raw + rest, 0)
        if found is not None:
            routed, length, end = found
            assert end == len(raw)
            assert meaning(routed, length) == read(reader(), raw)
