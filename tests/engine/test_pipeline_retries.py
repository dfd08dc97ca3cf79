"""A request is sent again only when no container can have started on it (RFC 9110 section 9.2.2).

Scoring may cost money and may not be repeatable, so the rule is narrow: the connection could not be
opened; or a kept connection turned out to be closed before any byte of the answer came, and the
method is one that may be repeated, and there is no body on its way.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.backends import Backend
from gateway.core.dialects import MANAGED
from gateway.core.faults import Fault
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import ClientSide, ContainerSide, Script, Setup

FIRST, SECOND = Backend("10.0.0.5", 5001), Backend("10.0.0.6", 5002)
BOTH = (FIRST, SECOND)
SCORE = request(key=KEY)
GET = request(body=None, method="GET", key=KEY)
HEAD = request(body=None, method="HEAD", key=KEY)
FIELDS = {"Content-Type": "text/csv"}
UPLOAD = request(body=None, method="GET", key=KEY, headers=FIELDS | {"Content-Length": "9"})

# Backends that cannot be reached.


@pytest.mark.parametrize("sent", [SCORE, GET], ids=["POST", "GET"])
def test_a_backend_that_is_down_is_passed_over(sent: bytes) -> None:
    with Script(Setup(backends=BOTH)) as script:
        script.down.add(FIRST.port)
        client = script.client()
        client.says(sent)
        container = script.container()
        container.hears()
        container.answers()
        assert client.hears().status == 200
        record = script.records[0]
        assert (record.upstream, record.attempts, record.fault) == (SECOND.name, 2, None)
        tallies = [pool.tally for pool in script.pools]
        assert [tally.connect_failures for tally in tallies] == [1, 0]
        assert [tally.connects for tally in tallies] == [1, 1]


@pytest.mark.parametrize(
    ("dialect", "status", "text"),
    [("v1", 503, "No ready replicas for service diabetes"), ("managed", 424, "")],
)
def test_when_all_are_down_each_was_tried_once(dialect: str, status: int, text: str) -> None:
    setup = Setup(backends=BOTH)
    if dialect == "managed":
        setup.dialect = MANAGED
    with Script(setup) as script:
        script.down |= {FIRST.port, SECOND.port}
        client = script.client()
        client.says(SCORE)
        answer = client.hears()
        assert (answer.status, answer.text) == (status, text)
        assert [pool.tally.connects for pool in script.pools] == [1, 1]
        assert script.records[0].fault is Fault.NO_BACKEND


def test_a_backend_that_does_not_answer_is_given_the_connect_timeout() -> None:
    with Script(Setup(backends=BOTH, connect_timeout=2.0)) as script:
        script.silent.add(FIRST.port)
        client = script.client()
        client.says(SCORE)
        script.wait(1.9)
        assert script.containers == []
        script.wait(0.2)
        script.container().answers()
        assert client.hears().status == 200
        assert script.records[0].upstream == SECOND.name


def test_a_body_on_its_way_is_sent_whole_to_the_backend_that_is_up() -> None:
    with Script(Setup(backends=BOTH)) as script:
        script.down.add(FIRST.port)
        client = script.client()
        client.says(UPLOAD, b"12345", b"6789")
        assert script.container().hears().body == b"123456789"


def test_backends_take_turns() -> None:
    with Script(Setup(backends=BOTH)) as script:
        client = script.client()
        for _ in range(4):
            client.says(SCORE)
            for container in script.containers:
                if "busy" in repr(container.transport.protocol):
                    container.answers()
            assert client.hears().status == 200
        names = [record.upstream for record in script.records]
        assert names == [FIRST.name, SECOND.name] * 2


# Kept connections that the backend had closed.


def keep(script: Script) -> tuple[ClientSide, ContainerSide]:
    """A connection that has served once."""
    client = script.client()
    client.says(SCORE)
    container = script.container()
    container.hears()
    container.answers()
    assert client.hears().status == 200
    return client, container


def close(container: ContainerSide) -> None:
    container.ends()


def reset(container: ContainerSide) -> None:
    container.breaks()


@pytest.mark.parametrize("end", [close, reset])
@pytest.mark.parametrize("sent", [GET, HEAD], ids=["GET", "HEAD"])
def test_a_get_on_a_stale_connection_is_sent_again(
    sent: bytes, end: Callable[[ContainerSide], None]
) -> None:
    with Script() as script:
        client, stale = keep(script)
        client.says(sent)
        assert stale.hears().line == "GET /score HTTP/1.1"
        end(stale)
        fresh = script.container()
        assert fresh.hears().line == "GET /score HTTP/1.1"
        fresh.answers(b"again")
        assert client.hears(head_only=sent is HEAD).status == 200
        record = script.records[1]
        assert (record.status, record.attempts, record.fault) == (200, 2, None)
        assert (script.pool.tally.reused, script.pool.tally.stale) == (1, 1)


@pytest.mark.parametrize("end", [close, reset])
def test_a_post_on_a_stale_connection_is_not_sent_again(
    end: Callable[[ContainerSide], None],
) -> None:
    with Script() as script:
        client, stale = keep(script)
        client.says(SCORE)
        end(stale)
        answer = client.hears()
        assert (answer.status, answer.text) == (502, "Replica closed connection before replying")
        assert len(script.containers) == 1
        assert (script.records[1].attempts, script.pool.tally.stale) == (1, 0)


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
def test_nothing_is_sent_again_after_a_byte_of_an_answer(said: bytes) -> None:
    with Script() as script:
        client, stale = keep(script)
        client.says(GET)
        stale.says(said)
        close(stale)
        assert client.hears().status == 502
        assert len(script.containers) == 1


def test_nothing_is_sent_again_on_a_new_connection() -> None:
    with Script() as script:
        client = script.client()
        client.says(GET)
        close(script.container())
        assert client.hears().status == 502
        assert len(script.containers) == 1


def test_nothing_is_sent_again_while_its_body_is_on_its_way() -> None:
    with Script() as script:
        client, stale = keep(script)
        client.says(UPLOAD, b"123")
        close(stale)
        assert client.hears().status == 502
        assert len(script.containers) == 1


def test_a_malformed_answer_is_no_reason_to_ask_again() -> None:
    with Script() as script:
        client, kept = keep(script)
        client.says(GET)
        kept.says(b"rubbish\r\n\r\n")
        assert client.hears().status == 502
        assert len(script.containers) == 1


def test_a_request_is_sent_again_once_only() -> None:
    with Script() as script:
        first, second = script.client(), script.client()
        first.says(GET)
        second.says(GET)
        containers = script.container(), script.container()
        for container in containers:
            container.answers()
        first.says(GET)
        for container in reversed(containers):  # the one used last was asked first
            close(container)
        assert first.hears().status == 200
        assert first.hears().status == 502
        assert script.records[2].attempts == 2
        assert script.pool.tally.stale == 1


def test_a_second_try_keeps_its_place() -> None:
    with Script(Setup(backends=BOTH, concurrency=1)) as script:
        client, first = keep(script)
        client.says(SCORE)
        script.container().answers()
        assert client.hears().status == 200
        client.says(GET)
        close(first)
        script.container().answers(b"the same")
        assert client.hears().text == "the same"
        assert script.records[2].upstream == script.records[0].upstream
        assert script.records[2].attempts == 2


def test_a_second_try_that_cannot_connect_goes_to_another_backend() -> None:
    with Script(Setup(backends=BOTH, concurrency=1)) as script:
        client, first = keep(script)
        script.down.add(FIRST.port)
        client.says(SCORE)
        second = script.container()
        second.answers()
        assert client.hears().status == 200
        client.says(GET)
        close(first)
        second.answers(b"the other")
        assert client.hears().text == "the other"
        assert script.records[2].upstream == SECOND.name


# Time.


def test_tries_share_one_deadline() -> None:
    with Script(Setup(backends=BOTH, timeout=3.0, connect_timeout=2.0)) as script:
        script.silent |= {FIRST.port, SECOND.port}
        client = script.client()
        client.says(SCORE)
        script.wait(2.5)
        assert client.hears_nothing()
        script.wait(1)
        assert client.hears().status == 504
        assert script.records[0].seconds == pytest.approx(3, abs=0.25)


def test_waiting_for_a_connection_counts_against_the_deadline() -> None:
    with Script(Setup(limit=1, timeout=3.0)) as script:
        first, second = script.client(), script.client()
        first.says(SCORE)
        script.wait(1)
        second.says(SCORE)
        script.wait(2.25)
        assert first.hears().status == 504
        container = script.containers[-1]  # a new one: the old one was broken off
        assert container.number == 2
        script.wait(1)
        assert second.hears().status == 504
        assert [record.fault for record in script.records] == [Fault.DEADLINE] * 2


def test_a_request_that_leaves_the_queue_leaves_it_to_the_others() -> None:
    with Script(Setup(limit=1)) as script:
        clients = [script.client() for _ in range(3)]
        for client in clients:
            client.says(SCORE)
        clients[1].breaks()
        container = script.container()
        for client in (clients[0], clients[2]):
            container.hears()
            container.answers()
            assert client.hears().status == 200
        assert len(script.containers) == 1
        statuses = sorted(record.status for record in script.records)
        assert statuses == [200, 200, 499]
