"""A body is read when somebody wants it, bounded when nobody does, and asked for only after the
client is known.

What is left of a refused body is skipped when that is little and its end is known; else the
connection is shut in a way that lets the client read its answer (RFC 9112 section 9.6).
"""

from __future__ import annotations

import pytest

from gateway.core.faults import Fault
from gateway.edge.server import WORTH_READING
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import Script, Setup

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BYTES = "application/octet-stream"


def head(
    length: int | None, *, key: str | None = KEY, media_type: str = BYTES, **more: str
) -> bytes:
    """The head of a POST; without a length its body comes in chunks."""
    framing = {"Content-Length": str(length)} if length is not None else {}
    if length is None:
        framing = {"Transfer-Encoding": "chunked"}
    fields = {"Content-Type": media_type} | framing | more
    return request(body=None, key=key, headers=fields)


# Collecting and streaming.


def test_a_json_body_is_collected_before_a_container_is_bothered() -> None:
    with Script() as script:
        client = script.client()
        client.says(head(6, media_type="application/json"), b"[1, ", b"2")
        assert script.containers == []
        client.says(b"]")
        assert script.container().hears().body == b"[1, 2]"


def test_other_bodies_flow_as_they_come() -> None:
    with Script() as script:
        client = script.client()
        client.says(head(7), b"abc")
        container = script.container()
        assert container.heard().endswith(b"Content-Length: 7\r\n\r\nabc")
        client.says(b"de")
        assert container.heard() == b"de"
        client.says(b"fg")
        assert container.heard() == b"fg"
        container.answers()
        assert client.hears().status == 200
        assert script.records[0].received == 7


def test_chunks_are_passed_on_as_chunks_of_our_own() -> None:
    with Script() as script:
        client = script.client()
        client.says(head(None), b"3;note=x\r\nabc\r\n", b"2\r", b"\nd", b"e\r\n0\r\nX: y\r\n\r\n")
        container = script.container()
        seen = container.heard()
        assert seen.endswith(
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n1\r\ne\r\n0\r\n\r\n"
        )
        container.answers()
        assert client.hears().header("connection") is None


@pytest.mark.parametrize("declared", [True, False], ids=["with a length", "in chunks"])
def test_json_above_the_buffer_is_streamed(declared: bool) -> None:
    body = b"[" + b"1" * 4000 + b"]"
    with Script(Setup(buffer=1000)) as script:
        client = script.client()
        client.says(head(len(body) if declared else None, media_type="application/json"))
        if declared:
            client.says(body[:2000], body[2000:])
        else:
            client.says(b"%x\r\n%b\r\n" % (2000, body[:2000]))
            assert len(script.containers) == 1
            client.says(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) - 2000, body[2000:]))
        seen = script.container().hears()
        assert seen.body == body
        assert (seen.header("content-length") is not None) == declared


# The bound.


def test_a_declared_length_above_the_limit_is_refused_before_the_body() -> None:
    with Script(Setup(body_limit=100)) as script:
        client = script.client()
        client.says(head(101))
        answer = client.hears()
        assert answer.status == 413
        assert answer.text == "The request body is too large: at most 100 bytes"
        assert script.containers == []


@pytest.mark.parametrize("media_type", ["application/json", BYTES])
def test_chunks_above_the_limit_are_refused_as_soon_as_they_come(media_type: str) -> None:
    with Script(Setup(body_limit=10)) as script:
        client = script.client()
        client.says(head(None, media_type=media_type), b"a\r\n0123456789\r\n")
        assert client.hears_nothing()
        client.says(b"1\r\nx")
        assert client.hears().status == 413
        assert client.fate == "shut"
        assert script.records[0].fault is Fault.BODY_TOO_LARGE
        for container in script.containers:
            assert container.fate == "aborted"


LATE_FAULTS = {
    "a chunk size that is none": (b"0x3\r\n[1]\r\n", 400, Fault.BAD_REQUEST),
    "a chunk longer than its size": (b"1\r\n[1]\r\n", 400, Fault.BAD_REQUEST),
    "a bare line feed": (b"3\n[1]\r\n", 400, Fault.BAD_REQUEST),
    "above the limit": (b"40\r\n" + b"x" * 64 + b"\r\n", 413, Fault.BODY_TOO_LARGE),
    "a length in the trailer": (b"0\r\nContent-Length: 5\r\n\r\n", 400, Fault.BAD_REQUEST),
}


@pytest.mark.parametrize("name", LATE_FAULTS)
def test_a_broken_chunked_body_is_refused(name: str) -> None:
    body, status, fault = LATE_FAULTS[name]
    with Script(Setup(body_limit=32)) as script:
        client = script.client()
        client.says(head(None), body)
        answer = client.hears()
        assert (answer.status, answer.header("connection")) == (status, "close")
        assert (script.records[0].fault, client.fate) == (fault, "shut")


@pytest.mark.parametrize("name", LATE_FAULTS)
def test_a_broken_chunked_body_is_refused_alike_when_it_comes_with_its_head(name: str) -> None:
    body, _, fault = LATE_FAULTS[name]
    with Script(Setup(body_limit=32)) as script:
        client = script.client()
        client.says(head(None, **{"x-ms-client-request-id": "mine"}) + body)
        assert client.hears().header("x-ms-client-request-id") == "mine"
        assert script.records[0].fault is fault
        assert sum(script.unrouted.codes.values()) == 0
        assert script.requests == 1


def test_a_stranger_learns_nothing_about_his_body() -> None:
    with Script() as script:
        client = script.client()
        client.says(head(None, key=None) + b"rubbish\r\n")
        assert client.hears().status == 401


# Expect: 100-continue.


@pytest.mark.parametrize("media_type", ["application/json", BYTES])
def test_the_body_is_asked_for_once_the_client_is_known(media_type: str) -> None:
    with Script() as script:
        client = script.client()
        client.says(head(3, media_type=media_type, Expect="100-continue"))
        assert client.heard() == CONTINUE
        client.says(b"[1]")
        assert client.hears_nothing()
        container = script.container()
        seen = container.hears()
        assert (seen.body, seen.header("expect")) == (b"[1]", None)
        container.answers()
        answer = client.hears()
        assert (answer.status, answer.interim) == (200, [])
        assert client.fate == "open"


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (head(3, Expect="100-continue") + b"[1]", "the body is there"),
        (head(3, Expect="100-continue") + b"[", "the body has begun"),
        (head(3), "it did not ask"),
        (head(0, Expect="100-continue"), "there is no body"),
        (head(3, Expect="100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"), "HTTP/1.0 has none"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_body_is_not_asked_for_when(sent: bytes, why: str) -> None:
    with Script() as script:
        client = script.client()
        client.says(sent)
        assert client.hears_nothing()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head(3, key=None, Expect="100-continue"), 401),
        (head(3, key="wrong", Expect="100-continue"), 401),
        (head(None, key=None, Expect="100-continue"), 401),
        (head(10**6, Expect="100-continue"), 413),
    ],
    ids=["no key", "wrong key", "no key, chunked", "too large"],
)
def test_a_refused_expectation_ends_the_connection(sent: bytes, status: int) -> None:
    # The body may or may not be sent now: only closing is unambiguous (RFC 9110 section 10.1.1).
    with Script(Setup(body_limit=1000)) as script:
        client = script.client()
        client.says(sent)
        answer = client.hears()
        assert (answer.status, answer.interim) == (status, [])
        assert answer.header("connection") == "close"
        assert client.fate == "shut"


def test_an_expectation_met_keeps_the_connection_even_if_the_answer_comes_early() -> None:
    with Script() as script:
        client = script.client()
        client.says(head(10, Expect="100-continue"))
        assert client.heard() == CONTINUE
        client.says(b"12345")
        script.container().answers(b"early")
        answer = client.hears()
        assert (answer.text, answer.header("connection")) == ("early", None)
        client.says(b"67890" + request(key=KEY))
        script.container().answers(b"next")
        assert client.hears().text == "next"


def test_each_request_is_asked_for_its_own_body() -> None:
    with Script() as script:
        client = script.client()
        for _ in range(2):
            client.says(head(1, Expect="100-continue"))
            assert client.heard() == CONTINUE
            client.says(b"x")
            script.containers[0].answers()
            assert client.hears().status == 200
        client.says(head(1, key=None, Expect="100-continue"))
        assert client.hears().header("connection") == "close"


# The rest of a body that nobody wants.


@pytest.mark.parametrize("left", [1, WORTH_READING])
def test_a_small_rest_is_skipped_and_the_connection_kept(left: int) -> None:
    with Script() as script:
        client = script.client()
        client.says(head(left + 5, key=None) + b"12345")
        answer = client.hears()
        assert (answer.status, answer.header("connection")) == (401, None)
        client.says(b"x" * (left - 1))
        assert repr(client.transport.protocol) == "<Downstream 192.0.2.7, skipping, 1 served>"
        client.says(b"x" + request(key=KEY))
        script.container().answers(b"next")
        assert client.hears().text == "next"


def test_a_skipped_rest_that_does_not_come_ends_the_connection() -> None:
    with Script() as script:
        client = script.client()
        client.says(head(100, key=None) + b"12345")
        assert client.hears().status == 401
        script.wait(19)
        assert client.fate == "open"
        script.wait(2)
        assert client.fate == "shut"
        assert script.listener.tally.timeouts["body"] == 1


@pytest.mark.parametrize(
    "sent",
    [head(WORTH_READING + 1, key=None), head(10**6, key=None), head(None, key=None) + b"1\r\nx"],
    ids=["just too much", "far too much", "of unknown length"],
)
def test_a_large_rest_ends_the_connection_so_that_the_answer_can_be_read(sent: bytes) -> None:
    with Script() as script:
        client = script.client()
        client.says(sent)
        answer = client.hears()
        assert (answer.status, answer.header("connection")) == (401, "close")
        assert client.fate == "shut"
        # What still comes is thrown away: unread input would make the kernel send RST.
        client.says(b"x" * 10**6, request(key=KEY))
        assert client.transport.is_reading()
        assert client.hears_nothing()
        script.wait(1.9)
        assert client.fate == "shut"
        script.wait(0.5)
        assert client.fate == "closed"
        assert len(script.records) == 1


def test_a_client_that_ends_before_the_linger_is_over_is_let_go() -> None:
    with Script() as script:
        client = script.client()
        client.says(head(10**6, key=None))
        client.ends()
        assert client.fate == "closed"


def test_a_paused_reader_reads_on_when_it_lingers() -> None:
    with Script() as script:
        client = script.client()
        client.says(request(key=KEY, headers={"Connection": "close"}), b"x" * 70_000)
        assert not client.transport.is_reading()
        script.container().answers()
        assert client.fate == "shut"
        assert client.transport.is_reading()
