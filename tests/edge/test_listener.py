"""A listener bounds its connections, looks after each in time, and lets go of all when asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.core.faults import Fault
from gateway.edge.phases import Patience
from gateway.engine.tasks import spawn
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import ClientSide, Script, Setup

SCORE = request(key=KEY)


Act = Callable[[Script, ClientSide], object]


def drain(script: Script, timeout: float = 30.0) -> asyncio.Task[int]:
    """Begin to stop."""
    return script.loop.perform(lambda: spawn(script.listener.drain(timeout), "drain"))


# The bound.


def test_a_connection_above_the_limit_is_told_so() -> None:
    with Script(Setup(connections=2)) as script:
        first, second, third = script.client(), script.client(), script.client()
        answer = third.hears()
        assert (answer.status, answer.text) == (503, "Too many connections")
        assert answer.header("connection") == "close"
        assert (first.fate, second.fate, third.fate) == ("open", "open", "closed")
        tally = script.listener.tally
        assert (tally.accepted, tally.open, tally.refused) == (3, 2, 1)
        assert script.records[0].fault is Fault.CONNECTIONS


def test_a_place_that_became_free_is_given_away_again() -> None:
    with Script(Setup(connections=1)) as script:
        script.client().breaks()
        client = script.client()
        client.says(SCORE)
        script.container().answers()
        assert client.hears().status == 200
        assert script.listener.tally.refused == 0


def test_a_refused_connection_does_not_stay() -> None:
    with Script(Setup(connections=1)) as script:
        script.client()
        for _ in range(3):
            refused = script.client()
            refused.says(SCORE)
            assert refused.hears().status == 503
        assert script.listener.tally.open == 1
        assert script.containers == []


def test_a_flood_of_connections_is_not_answered_one_by_one() -> None:
    with Script(Setup(connections=1)) as script:
        script.client()
        told = 0
        for _ in range(100):
            refused = script.client(room=0)
            told += bool(refused.transport.writes)
        # Those that do not even take the refusal pile up no further than this.
        assert told < 100
        assert script.listener.tally.refused == 100
        assert script.listener.tally.open < 50


def test_the_listener_says_how_full_it_is() -> None:
    with Script(Setup(connections=7)) as script:
        script.client()
        assert repr(script.listener) == "<Listener, 1 of 7 connections>"


# The sweep.


@pytest.mark.parametrize(
    ("timeout", "patience", "late"),
    [
        (60.0, Patience(), 0.25),
        (0.4, Patience(), 0.05),
        (60.0, Patience(linger=0.08), 0.02),
        (0.001, Patience(), 0.02),
    ],
    ids=["seldom", "by the shortest timeout", "by the shortest patience", "never too often"],
)
def test_times_are_kept_to_an_eighth_of_the_shortest(
    timeout: float, patience: Patience, late: float
) -> None:
    with Script(Setup(timeout=timeout, patience=patience)) as script:
        script.wait(10)
        times = []
        client = script.client()
        client.says(SCORE)
        due = script.clock.now + timeout
        while client.hears_nothing():
            script.wait(0.005)
            times.append(script.clock.now)
        assert due <= times[-1] <= due + late + 0.006


def test_the_date_of_answers_follows_the_clock() -> None:
    with Script() as script:
        client = script.client()
        dates = []
        for _ in range(2):
            client.says(request(body=None, method="OPTIONS"))
            dates.append(client.hears().header("date"))
            script.wait(61)
        assert dates == ["Thu, 01 Jan 2026 00:16:40 GMT", "Thu, 01 Jan 2026 00:17:41 GMT"]


def test_one_late_connection_does_not_keep_the_sweep_from_the_others() -> None:
    with Script() as script:
        clients = []
        for _ in range(3):
            clients.append(script.client())
            clients[-1].says(b"GET / HTTP/1.1\r\n")
            script.wait(3)
        script.wait(2)
        assert [client.fate for client in clients] == ["shut", "open", "open"]
        script.wait(3)
        assert [client.fate for client in clients] == ["closed", "shut", "open"]
        assert script.listener.tally.timeouts["head"] == 2


# Stopping.


def idle(script: Script) -> ClientSide:
    client = script.client()
    client.says(SCORE)
    script.container().answers()
    assert client.hears().header("connection") is None
    return client


def test_draining_closes_what_is_idle_and_takes_nothing_new() -> None:
    with Script() as script:
        client, silent = idle(script), script.client()
        task = drain(script)
        script.wait(0.2)
        found = client.fate, silent.fate, script.loop.server.closed
        assert found == ("open", "open", False), "they may be about to ask"
        script.wait(0.2)
        found = client.fate, silent.fate, script.loop.server.closed
        assert found == ("open", "open", True), "who has just come, too"
        script.wait(0.2)
        assert (client.fate, silent.fate) == ("closed", "closed")
        assert task.result() == 0


def test_whoever_asks_while_draining_is_answered_and_told_to_go() -> None:
    with Script() as script:
        known = idle(script)
        task = drain(script)
        for number, client in enumerate((known, script.client())):
            client.says(SCORE)
            script.containers[-1].answers(b"%d" % number)
            answer = client.hears()
            assert (answer.text, answer.header("connection")) == (str(number), "close")
            client.ends()
        script.wait(0.6)
        assert task.result() == 0


def test_who_may_not_take_long_is_not_waited_for_long() -> None:
    with Script() as script:
        client = idle(script)
        task = drain(script, timeout=0.2)
        script.wait(0.11)
        assert client.fate == "closed"
        assert task.result() == 0, "nobody was cut off"


def test_draining_without_connections_is_done_at_once() -> None:
    with Script() as script:
        assert drain(script).result() == 0


def test_draining_lets_requests_finish_and_says_so_to_their_clients() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE)
        task = drain(script)
        script.wait(5)
        assert not task.done()
        script.container().answers(b"in time")
        answer = client.hears()
        assert (answer.text, answer.header("connection")) == ("in time", "close")
        client.ends()
        assert task.result() == 0


def test_draining_answers_what_was_pipelined() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE + SCORE)
        task = drain(script)
        container = script.container()
        container.answers(b"first")
        answer = client.hears()
        # RFC 9112 section 9.3.2: what is behind an answer with `close` was not processed, and the
        # client may send it again elsewhere.
        assert (answer.text, answer.header("connection")) == ("first", "close")
        client.ends()
        script.wait(0.6)
        assert task.result() == 0
        assert len(script.records) == 1


def test_draining_waits_for_a_request_that_is_still_arriving() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE[:30])
        task = drain(script)
        assert client.fate == "open"
        client.says(SCORE[30:])
        script.container().answers()
        assert client.hears().header("connection") == "close"
        client.ends()
        script.wait(0.6)
        assert task.result() == 0


def test_draining_cuts_off_what_takes_too_long() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE)
        task = drain(script, timeout=3.0)
        script.wait(3)
        assert task.result() == 1
        assert (client.fate, script.container().fate) == ("aborted", "aborted")


def test_what_draining_cuts_off_is_not_blamed_on_the_client() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE)
        drain(script, timeout=3.0)
        script.wait(3)
        assert script.records[0].fault is Fault.DRAINING


def in_a_stream(script: Script, client: ClientSide) -> None:
    client.says(SCORE)
    script.container().says(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 60_000)


def on_its_way_out(script: Script, client: ClientSide) -> None:
    client.takes(0)
    client.says(SCORE)
    script.container().says(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000)


def with_a_body_to_skip(script: Script, client: ClientSide) -> None:
    client.says(request(body=b"x" * 20_000)[:-10_000])


FINISH: dict[Act, Act] = {
    in_a_stream: lambda script, client: script.containers[0].says(b"x" * 10_000),
    on_its_way_out: lambda script, client: client.takes(None),
    with_a_body_to_skip: lambda script, client: client.says(b"x" * 10_000),
}


@pytest.mark.parametrize("phase", FINISH, ids=lambda phase: phase.__name__)
def test_draining_closes_what_was_promised_to_be_kept_once_it_is_idle(phase: Act) -> None:
    with Script() as script:
        client = script.client()
        phase(script, client)
        task = drain(script)
        FINISH[phase](script, client)
        assert client.hears().header("connection") is None
        script.wait(3)
        assert client.fate == "closed"
        assert task.result() == 0
