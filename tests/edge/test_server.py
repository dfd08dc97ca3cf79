"""Requests are read the same however their bytes are cut, and answered in their order.

TCP keeps no borders, so whatever a client says is fed whole, byte by byte, cut at random and with
something behind it; the container must be asked the same, and the client told the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.faults import Fault
from gateway.core.heads import HeadLimits
from tests.support.gateways import KEY
from tests.support.raw import Closed, request
from tests.support.script import Script, Setup

SCORE = request(key=KEY)
GET = request(body=None, method="GET", key=KEY)
OPTIONS = request(body=None, method="OPTIONS")
# Within reach of every limit, so that only the cut is varied.
PIECE = 65536


def chunked(*chunks: bytes, media_type: str = "application/json") -> bytes:
    """A POST in the chunked coding."""
    fields = {"Content-Type": media_type, "Transfer-Encoding": "chunked"}
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return request(body=None, key=KEY, headers=fields) + body + b"0\r\n\r\n"


GOOD = {
    "a scoring request": SCORE,
    "a body that looks like a head": request(body=b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", key=KEY),
    "no body": GET,
    "an empty body": request(body=b"", key=KEY),
    "a query and white space": request(
        "/api/v1/service/diabetes/score?a=1&b=%20", key=KEY, headers={"X-Odd": "  white  "}
    ),
    "a body that is not JSON": request(
        body=bytes(range(256)), key=KEY, headers={"Content-Type": "application/octet-stream"}
    ),
    "identifiers of its own": request(
        key=KEY, headers={"x-request-id": "abc", "traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    ),
    "chunked JSON": chunked(b'{"data": ', b"[[1, 2]]}"),
    "chunk extension and trailer": chunked(b"[1]").replace(
        b"3\r\n[1]\r\n0\r\n", b'3;x="y"\r\n[1]\r\n0\r\nX-Sum: 1\r\n'
    ),
    "chunked bytes": chunked(b"abc", b"defg", media_type="text/csv"),
    "nothing in chunks": chunked(media_type="text/csv"),
    "HEAD": request(body=None, method="HEAD", key=KEY),
    "OPTIONS": OPTIONS,
    "HTTP/1.0 kept": request(key=KEY, version="HTTP/1.0", headers={"Connection": "keep-alive"}),
    "no credentials": request(),
    "no such service": request("/api/v1/service/nobody/score", key=KEY),
    "not UTF-8": request(body=b'{"data": "\xff"}', key=KEY),
    "an empty line before": b"\r\n" + SCORE,
    "two empty lines before": b"\r\n\r\n" + SCORE,
}
# After these the connection ends.
LAST = {
    "HTTP/1.0": request(key=KEY, version="HTTP/1.0"),
    "Connection: close": request(key=KEY, headers={"Connection": "close"}),
    "an unknown method": request(method="BREW", key=KEY),
    "two lengths": request(key=KEY, headers={"content-length": "18"}),
    "a length and a coding": request(key=KEY, headers={"Transfer-Encoding": "chunked"}),
    "no host": SCORE.replace(b"Host: gateway.test\r\n", b""),
    "a bare line feed": SCORE.replace(b"Host: gateway.test\r\n", b"Host: gateway.test\n"),
    "a null byte": SCORE.replace(b"gateway.test", b"gateway\0test"),
    "an unknown expectation": request(key=KEY, headers={"Expect": "the-unexpected"}),
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
MESSAGES = GOOD | LAST


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a message did: to the container, to the client, to the connection."""

    asked: tuple[tuple[str, bytes, str | None, str | None], ...]
    status: int
    fault: Fault | None
    body: bytes
    connection: str | None
    fate: str


def play(*pieces: bytes) -> Outcome:
    """Say the pieces, and let the container answer what it is asked."""
    with Script() as script:
        client = script.client()
        client.says(*pieces)
        asked = []
        for container in script.containers:
            seen = container.hears()
            asked.append((seen.line, seen.body, seen.header("x-odd"), seen.header("content-type")))
            container.answers(b"<" + seen.body + b">")
        answer = client.hears(head_only=b"".join(pieces).startswith(b"HEAD"))
        fault = script.records[0].fault
        # Which of two true sentences is said about a bad head may depend on what came first.
        body = answer.body if fault is not Fault.BAD_REQUEST else b""
        connection = answer.header("connection")
        return Outcome(tuple(asked), answer.status, fault, body, connection, client.fate)


@cache
def whole(name: str) -> Outcome:
    return play(MESSAGES[name])


EXPECTED = {
    # name: status, what the container was asked, what becomes of the connection
    "a scoring request": (200, "POST /score HTTP/1.1", "open"),
    "a query and white space": (200, "POST /score?a=1&b=%20 HTTP/1.1", "open"),
    "HEAD": (200, "GET /score HTTP/1.1", "open"),
    "OPTIONS": (204, None, "open"),
    "HTTP/1.0 kept": (200, "POST /score HTTP/1.1", "open"),
    "no credentials": (401, None, "open"),
    "no such service": (404, None, "open"),
    "not UTF-8": (400, None, "open"),
    "two empty lines before": (200, "POST /score HTTP/1.1", "open"),
    "HTTP/1.0": (200, "POST /score HTTP/1.1", "shut"),
    "Connection: close": (200, "POST /score HTTP/1.1", "shut"),
    "an unknown method": (405, None, "shut"),
    "a length and a coding": (400, None, "shut"),
    "a bare line feed": (400, None, "shut"),
    "an unknown expectation": (417, None, "shut"),
    "HTTP/2 without asking": (505, None, "shut"),
    "a TLS handshake": (400, None, "shut"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_whole_message_is_answered(name: str) -> None:
    outcome = whole(name)
    line = outcome.asked[0][0] if outcome.asked else None
    assert (outcome.status, line, outcome.fate) == EXPECTED[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_comes_byte_by_byte_is_the_same_message(name: str) -> None:
    message = MESSAGES[name]
    assert play(*(message[at : at + 1] for at in range(len(message)))) == whole(name)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_message_cut_anywhere_is_the_same_message(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MESSAGES)))
    message = MESSAGES[name]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(message) - 1), max_size=5)))
    pieces = [message[a:b] for a, b in zip([0, *cuts], [*cuts, len(message)], strict=True)]
    assert play(*pieces) == whole(name)


@pytest.mark.parametrize("name", GOOD)
def test_rubbish_behind_a_message_is_refused_after_the_message_was_answered(name: str) -> None:
    with Script() as script:
        client = script.client()
        client.says(GOOD[name] + b"rubbish\r\n\r\n")
        for container in script.containers:
            container.answers(b"<" + container.hears().body + b">")
        answer = client.hears(head_only=name == "HEAD")
        assert (answer.status, answer.body) == (whole(name).status, answer.body)
        assert answer.header("connection") == whole(name).connection
        refusal = client.hears()
        assert (refusal.status, refusal.header("connection")) == (400, "close")
        assert client.fate == "shut"
        assert len(script.records) == 2


@pytest.mark.parametrize("name", LAST)
def test_what_comes_behind_a_last_message_is_not_looked_at(name: str) -> None:
    with Script() as script:
        client = script.client()
        client.says(LAST[name] + SCORE, SCORE)
        for container in script.containers:
            container.answers()
        assert client.hears().header("connection") == "close"
        client.says(SCORE)
        assert client.hears_nothing()
        assert len(script.records) == 1


def test_three_empty_lines_before_a_request_have_one_fate_however_they_are_cut() -> None:
    message = b"\r\n" * 3 + SCORE
    assert play(message[:4], message[4:]) == play(message)


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (b"GET / HTTP/1.1\nHost: a", "a bare line feed in the header"),
        (b"GET / HTTP/1.1\r\nHost: a\n", "a bare line feed in the header"),
        (b"GET / HTTP/1.1\r\nX: \0", "a null byte in the header"),
        (b"\x16\x03\x01", "TLS spoken to a port without TLS"),
    ],
    ids=["line feed after the request line", "line feed after a field", "null byte", "TLS"],
)
def test_a_head_that_cannot_become_good_is_refused_at_once(sent: bytes, detail: str) -> None:
    with Script() as script:
        client = script.client()
        client.says(sent)
        answer = client.hears()
        assert (answer.status, answer.text) == (400, f"Bad request: {detail}")
        assert client.fate == "shut"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 300, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 1100, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 200, 431),
    ],
    ids=["line", "one field", "many fields"],
)
@pytest.mark.parametrize("step", [1, 7, PIECE])
def test_a_head_above_its_limits_is_refused_before_it_has_come_whole(
    sent: bytes, status: int, step: int
) -> None:
    with Script(Setup(limits=HeadLimits(line=256, total=1024, fields=20))) as script:
        client = script.client()
        client.says(*(sent[at : at + step] for at in range(0, len(sent), step)))
        assert client.hears().status == status
        assert client.fate == "shut"


@pytest.mark.parametrize("spelling", [b"Content-length: ", b"Content-Length:"])
def test_a_body_is_never_taken_for_a_request(spelling: bytes) -> None:
    inner = request("/api/v1/service/diabetes/smuggled", None, method="GET", key=KEY)
    outer = request(body=inner, key=KEY).replace(b"Content-Length: ", spelling)
    with Script() as script:
        client = script.client()
        for _ in range(3):
            client.says(outer)
            seen = script.containers[0].hears()
            assert (seen.line, seen.body) == ("POST /score HTTP/1.1", inner)
            script.containers[0].answers()
            assert client.hears().status == 200


def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    with Script() as script:
        client = script.client()
        client.says(b"".join(request(body=b"[%d]" % n, key=KEY) for n in range(5)))
        container = script.container()
        for n in range(5):
            seen = container.hears()
            assert seen.body == b"[%d]" % n
            assert container.hears_nothing()
            container.answers(b"<%d>" % n)
            assert client.hears().body == b"<%d>" % n
        assert len(script.containers) == 1
        assert script.listener.tally.pipelined == 4


def test_an_early_refusal_waits_for_its_turn_behind_a_slow_answer() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE, request(), SCORE)
        assert client.hears_nothing()
        container = script.container()
        container.answers(b"first")
        assert client.hears().text == "first"
        assert client.hears().status == 401
        container.hears()
        container.hears()
        container.answers(b"third")
        assert client.hears().text == "third"


def test_a_sender_of_a_thousand_requests_is_made_to_wait() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE)
        container = script.container()
        body = b"[" + b" " * 20_000 + b"]"
        more = request(body=body, key=KEY)
        for _ in range(3):
            client.says(more)
            assert client.transport.is_reading()
        client.says(more)  # 80 KiB wait now
        assert not client.transport.is_reading()
        client.says(more)  # this one stays in the kernel
        assert container.hears().body != body
        container.answers(b"0")
        for n in range(1, 6):
            assert container.hears().body == body
            container.answers(b"%d" % n)
        assert [client.hears().text for _ in range(6)] == list("012345")
        assert client.transport.is_reading()


def test_half_a_request_behind_a_whole_one_waits_for_its_other_half() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE + SCORE[:40])
        container = script.container()
        container.answers()
        assert client.hears().status == 200
        client.says(SCORE[40:])
        container.hears()
        assert container.hears().body == b'{"data": [[1, 2]]}'
        container.answers()
        assert client.hears().status == 200


KEEPING = [
    ("HTTP/1.1", {}, None, "open"),
    ("HTTP/1.1", {"Connection": "keep-alive"}, None, "open"),
    ("HTTP/1.1", {"Connection": "close"}, "close", "shut"),
    ("HTTP/1.1", {"Connection": "Keep-Alive, CLOSE"}, "close", "shut"),
    ("HTTP/1.1", {"Connection": "upgrade", "Upgrade": "h2c"}, None, "open"),
    ("HTTP/1.0", {}, "close", "shut"),
    ("HTTP/1.0", {"Connection": "close"}, "close", "shut"),
    ("HTTP/1.0", {"Connection": "keep-alive"}, "keep-alive", "open"),
    ("HTTP/1.0", {"Connection": "Keep-Alive"}, "keep-alive", "open"),
]


@pytest.mark.parametrize("answered", ["by the container", "by a refusal", "by ourselves"])
@pytest.mark.parametrize(
    ("version", "headers", "connection", "fate"),
    KEEPING,
    ids=[f"{row[0]} {row[1].get('Connection')}" for row in KEEPING],
)
def test_the_connection_is_kept_as_the_client_asks(
    version: str, headers: dict[str, str], connection: str | None, fate: str, answered: str
) -> None:
    method, key = "POST", None if answered == "by a refusal" else KEY
    if answered == "by ourselves":
        method = "OPTIONS"
    with Script() as script:
        client = script.client()
        client.says(request(method=method, key=key, version=version, headers=headers))
        if answered == "by the container":
            script.container().answers()
        assert client.hears().header("connection") == connection
        assert client.fate == fate


def test_a_connection_ends_with_its_last_allowed_request() -> None:
    with Script(Setup(requests_per_connection=2)) as script:
        client = script.client()
        client.says(SCORE * 3)
        container = script.container()
        container.answers()
        assert client.hears().header("connection") is None
        container.answers()
        assert client.hears().header("connection") == "close"
        assert client.fate == "shut"
        with pytest.raises(Closed):
            client.hears()
        assert len(script.records) == 2


def test_a_connection_says_what_it_is_doing() -> None:
    with Script() as script:
        client = script.client()
        protocol = client.transport.protocol
        assert repr(protocol) == "<Downstream 192.0.2.7, reading, 0 served>"
        client.says(SCORE)
        assert repr(protocol) == "<Downstream 192.0.2.7, walking, 0 served>"
        script.container().answers()
        assert repr(protocol) == "<Downstream 192.0.2.7, reading, 1 served>"
