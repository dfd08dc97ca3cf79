"""Containers are not trusted: what an answer gets wrong is 502, and its connection is never used
again (reliability.md T25, T26, T30, T31).

Nothing of a wrong answer is passed on. Where its beginning was passed on before the fault showed,
the client's connection is broken, so that no part is ever taken for the whole.
"""

from __future__ import annotations

import pytest

from gateway.core.faults import Fault
from gateway.core.replies import MAX_FIELDS, MAX_HEAD, MAX_INTERIM
from gateway.edge.upstream import MAX_OVERHEAD
from tests.support.gateways import KEY
from tests.support.raw import Closed, request
from tests.support.script import ClientSide, ContainerSide, Script

SCORE = request(key=KEY)
OK = b"HTTP/1.1 200 OK\r\n"
BODY = b"Content-Length: 2\r\n\r\nok"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def ask(script: Script) -> tuple[ClientSide, ContainerSide]:
    client = script.client()
    client.says(SCORE)
    return client, script.container()


def sound(script: Script) -> None:
    """The next request is served, on a connection of its own."""
    client = script.client()
    client.says(SCORE)
    container = script.container()
    container.hears()
    container.answers(b"sound")
    assert client.hears().text == "sound"


MALFORMED = {
    "length and coding": OK + b"Content-Length: 2\r\n" + CHUNKED + b"\r\n2\r\nok\r\n0\r\n\r\n",
    "coding and length": OK + CHUNKED + b"Content-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "twice the same length": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "a length with a sign": OK + b"Content-Length: +2\r\n\r\nok",
    "a length below zero": OK + b"Content-Length: -2\r\n\r\nok",
    "a hexadecimal length": OK + b"Content-Length: 0x2\r\n\r\nok",
    "an empty length": OK + b"Content-Length:\r\n\r\nok",
    "an endless length": OK + b"Content-Length: 99999999999999999999\r\n\r\nok",
    "an unknown coding": OK + b"Transfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "a second coding": OK + b"Transfer-Encoding: chunked, identity\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "the coding twice": OK + CHUNKED * 2 + b"\r\n2\r\nok\r\n0\r\n\r\n",
    "gzip under the coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "line feeds only": OK.replace(b"\r", b"") + BODY.replace(b"\r", b""),
    "one bare line feed": OK + b"A: b\nC: d\r\n" + BODY,
    "a carriage return in a value": OK + b"A: b\rC: d\r\n" + BODY,
    "a folded field": OK + b"A: b\r\n c\r\n" + BODY,
    "white space before the colon": OK + b"A : b\r\n" + BODY,
    "white space before the first field": OK + b" A: b\r\n" + BODY,
    "no colon": OK + b"Abc\r\n" + BODY,
    "no name": OK + b": b\r\n" + BODY,
    "a null byte in a value": OK + b"A: b\0c\r\n" + BODY,
    "a control character in a value": OK + b"A: b\x01c\r\n" + BODY,
    "a space in a name": OK + b"A B: c\r\n" + BODY,
    "a carriage return in the reason": b"HTTP/1.1 200 O\rK\r\n" + BODY,
    "HTTP/0.9": b"just some text",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n" + BODY,
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n" + BODY,
    "another protocol": b"ICY 200 OK\r\n" + BODY,
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "status 999": b"HTTP/1.1 999 Odd\r\n" + BODY,
    "status 600": b"HTTP/1.1 600 Odd\r\n" + BODY,
    "status 000": b"HTTP/1.1 000 Odd\r\n" + BODY,
    "a status of four digits": b"HTTP/1.1 0200 OK\r\n" + BODY,
    "a status of two digits": b"HTTP/1.1 20 OK\r\n" + BODY,
    "no status": b"HTTP/1.1 OK\r\n" + BODY,
    "another protocol nobody asked for": (
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + OK + BODY
    ),
    "another protocol, without saying which": b"HTTP/1.1 101 Switching\r\n\r\n" + OK + BODY,
    "too many interim answers": b"HTTP/1.1 103 \r\n\r\n" * (MAX_INTERIM + 1) + OK + BODY,
    "a thousand interim answers": b"HTTP/1.1 100 \r\n\r\n" * 1000,
    "too many fields": OK + b"A: b\r\n" * MAX_FIELDS + BODY,
    "a field without end": OK + b"A: " + b"b" * MAX_HEAD,
    "fields without end": OK + b"A: bcd\r\n" * (MAX_HEAD // 8),
}
# llhttp lets any reason pass, and nobody looks at it.
UNSEEN = {
    "a null byte in the reason": b"HTTP/1.1 200 O\0K\r\n" + BODY,
    "a control character in the reason": b"HTTP/1.1 200 O\x01K\r\n" + BODY,
}


def check_refused(sent: bytes, step: int) -> None:
    with Script() as script:
        client, container = ask(script)
        container.says(*(sent[at : at + step] for at in range(0, len(sent), step)))
        answer = client.hears()
        assert answer.status == 502
        assert answer.text == "Replica sent an answer that is not valid HTTP"
        assert answer.header("content-type") == "text/plain; charset=utf-8"
        assert client.hears_nothing()
        assert (client.fate, container.fate) == ("open", "aborted")
        assert [record.fault for record in script.records] == [Fault.UPSTREAM_MALFORMED]
        assert script.pool.open == 0
        sound(script)


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_answer_is_502_and_ends_its_connection(sent: bytes) -> None:
    check_refused(sent, len(sent))


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_answer_in_pieces_is_502_and_ends_its_connection(sent: bytes) -> None:
    check_refused(sent, 1 if len(sent) < 2000 else 777)


@pytest.mark.parametrize("sent", UNSEEN.values(), ids=UNSEEN)
def test_an_oddly_malformed_answer_is_502_and_ends_its_connection(sent: bytes) -> None:
    check_refused(sent, len(sent))


# What nobody asked for.

EXTRA = {
    "a byte": OK + BODY + b"!",
    "a line": OK + BODY + b"sorry\r\n",
    "a whole answer": OK + BODY + OK + BODY,
    "an interim answer": OK + BODY + b"HTTP/1.1 100 Continue\r\n\r\n",
    "a body after 204": b"HTTP/1.1 204 No Content\r\n\r\nok",
    "more behind the last chunk": OK + CHUNKED + b"\r\n2\r\nok\r\n0\r\n\r\n!",
}


@pytest.mark.parametrize("sent", EXTRA.values(), ids=EXTRA)
def test_more_than_the_answer_in_one_read_is_malformed(sent: bytes) -> None:
    check_refused(sent, len(sent))


@pytest.mark.parametrize("sent", EXTRA.values(), ids=EXTRA)
def test_more_than_the_answer_in_a_later_read_ends_the_connection_only(sent: bytes) -> None:
    with Script() as script:
        client, container = ask(script)
        container.says(*(sent[at : at + 1] for at in range(len(sent))))
        assert client.hears().status in (200, 204)
        assert client.hears_nothing()
        assert (client.fate, container.fate) == ("open", "aborted")
        assert script.records[0].fault is None
        sound(script)


HALF = [OK[:-2], OK, OK + b"Content-Length: 9\r\n\r\n", b"HTTP/1.1 100 Continue\r\n"]


@pytest.mark.parametrize("extra", HALF, ids=["status", "line", "head", "interim"])
def test_half_an_answer_behind_an_answer_spoils_no_later_one(extra: bytes) -> None:
    with Script() as script:
        client, container = ask(script)
        container.says(OK + BODY + extra)
        assert client.hears().status in (200, 502)
        assert container.fate == "aborted"
        sound(script)


@pytest.mark.parametrize("sent", [b"x", OK + BODY, b"\r\n", b"HTTP/1.1 408 Timeout\r\n\r\n"])
def test_bytes_on_an_idle_connection_end_it(sent: bytes) -> None:
    with Script() as script:
        client, container = ask(script)
        container.answers()
        assert client.hears().status == 200
        container.says(sent)
        assert container.fate == "aborted"
        assert script.pool.open == 0
        sound(script)


# Framing that outweighs what it frames.


@pytest.mark.parametrize(
    "piece",
    [b"1;" + b"x" * 10_000 + b"\r\na\r\n", b"0\r\n" + b"X: " + b"y" * 1000 + b"\r\n"],
    ids=["chunk extensions", "trailers"],
)
def test_framing_without_end_is_malformed(piece: bytes) -> None:
    with Script() as script:
        client, container = ask(script)
        container.says(OK + CHUNKED + b"\r\n")
        sent = 0
        while container.fate == "open":
            container.says(piece)
            piece = piece.removeprefix(b"0\r\n")
            sent += len(piece)
            assert sent < 2 * MAX_OVERHEAD
        assert script.records[0].fault is Fault.UPSTREAM_MALFORMED
        assert client.fate == "aborted"
        sound(script)


def test_a_stream_of_single_bytes_is_legitimate() -> None:
    with Script() as script:
        client, container = ask(script)
        container.says(OK + CHUNKED + b"\r\n")
        container.says(b"1\r\nx\r\n" * 20_000)
        container.says(b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")
        assert client.hears().body == b"x" * 40_000


# Cut short.

COMPLETE = {
    "with a length": OK + b"Content-Type: text/plain\r\n" + BODY,
    "in chunks": OK + CHUNKED + b"\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
    "after an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + BODY,
    "of HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + BODY,
}


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("sent", COMPLETE.values(), ids=COMPLETE)
def test_an_answer_cut_short_anywhere_is_never_taken_for_whole(sent: bytes, how: str) -> None:
    for cut in range(len(sent)):
        with Script() as script:
            client, container = ask(script)
            if cut:
                container.says(sent[:cut])
            if how == "closed":
                container.ends()
            else:
                container.breaks()
            assert [record.fault for record in script.records] == [Fault.UPSTREAM_CLOSED], cut
            if client.fate == "open":
                answer = client.hears()
                assert (answer.status, answer.text) == (
                    502,
                    "Replica closed connection before replying",
                )
            else:
                assert client.fate == "aborted"
                with pytest.raises(Closed):
                    client.hears()
            assert container.fate in ("closed", "aborted")
            assert script.pool.open == 0
            sound(script)


def test_a_body_until_the_end_of_the_connection_that_is_reset_is_cut_short() -> None:
    with Script() as script:
        client, container = ask(script)
        container.says(OK + b"\r\nhello")
        container.breaks()
        assert client.fate == "aborted"
        with pytest.raises(Closed):
            client.hears()
        assert script.records[0].fault is Fault.UPSTREAM_CLOSED


def test_a_container_that_closes_between_requests_is_not_asked_again() -> None:
    with Script() as script:
        client, container = ask(script)
        container.answers()
        assert client.hears().status == 200
        container.ends()
        assert container.fate == "closed"
        sound(script)


def test_nothing_of_the_containers_own_words_about_itself_is_passed_on() -> None:
    with Script() as script:
        client, container = ask(script)
        container.says(
            b"HTTP/1.1 200 Very Fine\r\nServer: gunicorn\r\nX-Powered-By: x\r\nDate: yesterday\r\n"
            b"Keep-Alive: timeout=2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: a\r\nX-End: b\r\n"
            b"x-request-id: theirs\r\nazureml-model-deployment: other\r\n" + BODY
        )
        answer = client.hears()
        assert (answer.status, answer.reason) == (200, "OK")
        assert sorted(name for name, _ in answer.headers) == [
            "azureml-model-deployment", "content-length", "date", "x-end", "x-ms-request-id",
            "x-request-id",
        ]  # fmt: skip
        assert answer.header("azureml-model-deployment") == "blue"
        assert answer.header("x-request-id") != "theirs"
