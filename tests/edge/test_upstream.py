"""An answer means the same however its bytes come, and flows no faster than it is taken."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.chunks import encode_chunk
from gateway.edge.upstream import WHOLE
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import ClientSide, ContainerSide, Script, Setup

SCORE = request(key=KEY)
OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"Content-Type: application/json\r\n"
BIG = bytes(range(256)) * 300  # above WHOLE


class Row(NamedTuple):
    """An answer, what the client hears of it, and what becomes of the connection."""

    sent: bytes
    status: int
    body: bytes
    fate: str = "open"


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "with a length": Row(OK + JSON + b"Content-Length: 3\r\n\r\n[1]", 200, b"[1]"),
    "empty": Row(OK + b"Content-Length: 0\r\n\r\n", 200, b""),
    "in chunks": Row(CHUNKED + b"2;x=y\r\n[1\r\n1\r\n]\r\n0\r\nA: b\r\n\r\n", 200, b"[1]"),
    "no chunk but the last": Row(CHUNKED + b"0\r\n\r\n", 200, b""),
    "no content": Row(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "not modified, with the length of what it has": Row(
        b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 99\r\n\r\n', 304, b""
    ),
    "an error": Row(b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\n{}", 400, b"{}"),
    "a crash": Row(b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nboom", 502, b"boom"),
    "a reason left out": Row(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    "closing": Row(OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", "closed"),
    "of HTTP/1.0": Row(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", "closed"),
    "of HTTP/1.0, kept": Row(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"
    ),
    "after interim answers": Row(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nok",
        200,
        b"ok",
    ),
    "large": Row(OK + b"Content-Length: %d\r\n\r\n" % len(BIG) + BIG, 200, BIG),
    "of the largest size that is held": Row(
        OK + b"Content-Length: %d\r\n\r\n" % WHOLE + b"x" * WHOLE, 200, b"x" * WHOLE
    ),
    "large, in chunks": Row(CHUNKED + encode_chunk(BIG) * 2 + b"0\r\n\r\n", 200, BIG * 2),
}
Outcome = tuple[int, bytes, list[tuple[str, str]], str]


def ask(script: Script, sent: bytes = SCORE) -> tuple[ClientSide, ContainerSide]:
    """A client asks, and a container is about to answer."""
    client = script.client()
    client.says(sent)
    container = script.container()
    container.hears()
    return client, container


def play(*pieces: bytes) -> Outcome:
    with Script() as script:
        client, container = ask(script)
        container.says(*pieces)
        answer = client.hears()
        assert client.hears_nothing()
        assert client.fate == "open"
        framing = ("content-length", "transfer-encoding")
        headers = [pair for pair in answer.headers if pair[0] not in framing]
        outcome = answer.status, answer.body, headers, container.fate
        if container.fate == "open":  # and it is fit for another
            client.says(request(body=None, method="GET", key=KEY))
            assert container.hears().line == "GET /score HTTP/1.1"
            container.answers(b"next")
            assert client.hears().text == "next"
            assert len(script.containers) == 1
        return outcome


@pytest.mark.parametrize("name", ANSWERS)
def test_a_whole_answer_reaches_the_client(name: str) -> None:
    row = ANSWERS[name]
    status, body, _, fate = play(row.sent)
    assert (status, body, fate) == row[1:]


@pytest.mark.parametrize("name", [name for name in ANSWERS if len(ANSWERS[name].sent) < 1000])
def test_an_answer_that_comes_byte_by_byte_is_the_same_answer(name: str) -> None:
    sent = ANSWERS[name].sent
    assert play(*(sent[at : at + 1] for at in range(len(sent)))) == play(sent)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_an_answer_cut_anywhere_is_the_same_answer(data: st.DataObject) -> None:
    sent = ANSWERS[data.draw(st.sampled_from(sorted(ANSWERS)))].sent
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=5)))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert play(*pieces) == play(sent)


def test_a_body_until_the_end_of_the_connection_is_passed_on() -> None:
    with Script() as script:
        client, container = ask(script)
        container.says(OK + JSON + b"\r\n[1,", b" 2]")
        container.ends()
        answer = client.hears()
        assert (answer.status, answer.text) == (200, "[1, 2]")
        assert answer.header("transfer-encoding") == "chunked"
        assert (client.fate, container.fate) == ("open", "closed")
        assert script.pool.open == 0


def test_answers_of_known_and_of_new_kinds_may_follow_each_other_on_a_connection() -> None:
    with Script() as script:
        client = script.client()
        for n in range(40):
            client.says(SCORE)
            container = script.containers[0]
            head = b"X-Run: %d\r\n" % n if n % 3 else b"X-Other: a\r\n"
            body = b"[%d]" % n
            if n % 5:
                container.says(OK + head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            else:
                container.says(
                    OK + head + b"Transfer-Encoding: chunked\r\n\r\n",
                    encode_chunk(body) + b"0\r\n\r\n",
                )
            answer = client.hears()
            assert answer.body == body
            assert answer.header("x-run") == (str(n) if n % 3 else None)
        assert len(script.containers) == 1


# Large bodies, both ways.


def test_a_large_request_is_written_without_being_copied_together() -> None:
    body = b"[" + b" " * WHOLE + b"]"
    with Script() as script:
        client = script.client()
        client.says(request(body=body, key=KEY))
        container = script.container()
        assert container.transport.gathered == 1
        assert container.hears().body == body


def test_a_container_is_read_no_faster_than_its_client_takes() -> None:
    with Script() as script:
        client, container = ask(script)
        client.takes(0)
        container.says(OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 50_000)
        assert container.transport.is_reading()
        container.says(b"x" * 50_000)
        assert not container.transport.is_reading()
        container.says(b"x" * 900_000)  # stays in the kernel
        assert client.transport.get_write_buffer_size() < 110_000
        client.takes(50_000)
        assert not container.transport.is_reading()
        client.takes(None)
        assert container.transport.is_reading()
        assert len(client.hears().body) == 1_000_000
        assert client.transport.is_reading()


def test_a_client_is_read_no_faster_than_its_container_takes() -> None:
    with Script() as script:
        client = script.client()
        head = {"Content-Type": "text/csv", "Content-Length": "1000000"}
        client.says(request(body=None, key=KEY, headers=head))
        container = script.container()
        container.takes(0)
        client.says(b"x" * 50_000)
        assert client.transport.is_reading()
        client.says(b"x" * 50_000)
        assert not client.transport.is_reading()
        client.says(b"x" * 800_000)  # stays in the kernel
        assert container.transport.get_write_buffer_size() < 110_000
        assert container.transport.is_reading()
        container.takes(None)
        assert client.transport.is_reading()
        client.says(b"x" * 100_000)
        assert len(container.hears().body) == 1_000_000


def test_a_body_waits_for_a_connection_within_bounds() -> None:
    with Script(Setup(connect_timeout=30)) as script:
        script.silent.add(5001)
        client = script.client()
        head = {"Content-Type": "text/csv", "Content-Length": "1000000"}
        client.says(request(body=None, key=KEY, headers=head), b"x" * 65_536)
        assert client.transport.is_reading()
        client.says(b"x")
        assert not client.transport.is_reading()


def test_a_connection_is_fit_for_use_after_a_slow_client() -> None:
    with Script() as script:
        slow, container = ask(script)
        slow.takes(0)
        container.says(OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 30_000, b"x" * 70_000)
        assert script.pool.open == 1
        other = script.client()
        other.says(SCORE)
        container.hears()
        container.answers(b"for the other")
        assert other.hears().text == "for the other"
        slow.takes(None)
        assert len(slow.hears().body) == 100_000


# An answer before the end of the request.


@pytest.mark.parametrize("length", [100, None], ids=["with a length", "in chunks"])
def test_an_early_answer_ends_the_upload_and_the_connection(length: int | None) -> None:
    framing = {"Content-Length": "100"} if length else {"Transfer-Encoding": "chunked"}
    with Script() as script:
        client = script.client()
        fields = {"Content-Type": "text/csv"} | framing
        client.says(request(body=None, key=KEY, headers=fields))
        container = script.container()
        before = container.heard()
        container.says(b"HTTP/1.1 415 No\r\nContent-Length: 2\r\n\r\nno")
        assert container.fate == "closed"
        answer = client.hears()
        assert (answer.status, answer.text) == (415, "no")
        # The rest of a small body is skipped; that of one in chunks has no known end.
        assert answer.header("connection") == (None if length else "close")
        assert client.fate == ("open" if length else "shut")
        client.says(b"x" * 100)
        assert before
        assert container.hears_nothing()
        assert script.pool.open == 0


def test_an_early_answer_in_a_stream_lets_the_upload_go_on() -> None:
    with Script() as script:
        client = script.client()
        fields = {"Content-Type": "text/csv", "Content-Length": "10"}
        client.says(request(body=None, key=KEY, headers=fields) + b"12345")
        container = script.container()
        container.says(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        client.says(b"67890")
        assert container.hears().body == b"1234567890"
        container.says(b"1\r\nb\r\n0\r\n\r\n")
        assert client.hears().text == "ab"
        assert (client.fate, container.fate) == ("open", "open")


def test_a_connection_says_what_it_is_doing() -> None:
    with Script() as script:
        _, container = ask(script)
        protocol = container.transport.protocol
        assert repr(protocol) == "<UpstreamConnection to 10.0.0.5:5001, busy>"
        container.answers()
        assert repr(protocol) == "<UpstreamConnection to 10.0.0.5:5001, idle>"
        container.ends()
        assert repr(protocol) == "<UpstreamConnection to 10.0.0.5:5001, closed>"
