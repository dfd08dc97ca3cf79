"""A request has a place at a container, or waits for one, and gives it back however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.core.backends import Backend
from gateway.core.faults import Fault
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import ClientSide, Script, Setup

FIRST, SECOND = Backend("10.0.0.5", 5001), Backend("10.0.0.6", 5002)
BOTH = (FIRST, SECOND)
SCORE = request(key=KEY)
CSV = {"Content-Type": "text/csv"}
UPLOAD = request(body=None, method="POST", key=KEY, headers=CSV | {"Content-Length": "9"})
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


def one_place(**more: float) -> Setup:
    setup = Setup(concurrency=1, max_wait=20.0)
    for name, value in more.items():
        setattr(setup, name, value)
    return setup


def asking(script: Script, count: int, sent: bytes = SCORE) -> list[ClientSide]:
    """So many clients that have asked, in this order."""
    clients = [script.client() for _ in range(count)]
    for client in clients:
        client.says(sent)
    return clients


def places(script: Script) -> tuple[int, int]:
    """Taken, and waited for."""
    return script.deployment.slots.busy, script.deployment.slots.waiting


def test_one_is_served_after_the_other_on_one_connection() -> None:
    with Script(one_place()) as script:
        clients = asking(script, 3)
        container = script.container()
        assert places(script) == (1, 2)
        for number, client in enumerate(clients):
            container.hears()
            assert container.hears_nothing(), "the others wait at the gateway"
            container.answers(b"%d" % number)
            assert client.hears().text == str(number)
        assert len(script.containers) == 1
        assert places(script) == (0, 0)


def test_a_streamed_answer_keeps_its_place_to_its_end() -> None:
    with Script(one_place()) as script:
        one, two = asking(script, 2)
        container = script.container()
        container.says(STREAM)
        assert places(script) == (1, 1)
        container.says(b"0\r\n\r\n")
        assert places(script) == (1, 0)
        assert one.hears().text == "abc"
        container.answers()
        assert two.hears().status == 200


def test_who_waited_too_long_is_refused_and_keeps_its_connection() -> None:
    with Script(one_place(max_wait=1.0)) as script:
        one, two = asking(script, 2)
        script.wait(1.01)
        answer = two.hears()
        assert answer.status == 503
        assert answer.text == "Too many requests for service diabetes (overloaded)"
        script.container().answers()
        assert one.hears().status == 200
        two.says(SCORE)
        script.containers[0].answers()
        assert two.hears().status == 200
        record = script.records[0]
        assert (record.fault, record.attempts, record.upstream) == (Fault.OVERLOADED, 0, "")


def at_the_queue(script: Script) -> ClientSide:
    """A client that is made to wait for a place."""
    _, client = asking(script, 2)
    assert places(script) == (1, 1)
    return client


def at_the_dial(script: Script) -> ClientSide:
    """A client that has a place, and no connection yet."""
    script.silent.add(FIRST.port)
    (client,) = asking(script, 1)
    return client


def at_the_upload(script: Script) -> ClientSide:
    (client,) = asking(script, 1, UPLOAD)
    assert not script.container().hears_nothing()
    return client


def at_the_answer(script: Script) -> ClientSide:
    (client,) = asking(script, 1)
    return client


def in_a_stream(script: Script) -> ClientSide:
    (client,) = asking(script, 1)
    script.container().says(STREAM)
    return client


Stage = Callable[[Script], ClientSide]
STAGES: list[Stage] = [at_the_queue, at_the_dial, at_the_upload, at_the_answer, in_a_stream]


@pytest.mark.parametrize("stage", STAGES)
def test_a_client_that_leaves_gives_its_place_back(stage: Stage) -> None:
    with Script(one_place(connect_timeout=30.0)) as script:
        client = stage(script)
        before = places(script)
        client.breaks()
        queued = before == (1, 1)
        assert places(script) == ((1, 0) if queued else (0, 0))
        assert script.records[0].fault is Fault.CLIENT_GONE


@pytest.mark.parametrize("stage", STAGES)
def test_the_deadline_takes_places_back(stage: Stage) -> None:
    with Script(one_place(timeout=3.0, connect_timeout=30.0)) as script:
        stage(script)
        script.wait(3.5)
        assert places(script) == (0, 0)
        faults = {record.fault for record in script.records}
        assert faults <= {Fault.DEADLINE, Fault.REQUEST_TIMEOUT}


@pytest.mark.parametrize("stage", STAGES)
def test_stopping_takes_places_back(stage: Stage) -> None:
    with Script(one_place(connect_timeout=30.0)) as script:
        stage(script)
        dialled = script.pool.tally.connects
        task: list[asyncio.Task[int]] = []
        script.loop.perform(
            lambda: task.append(script.loop.create_task(script.listener.drain(1.0)))
        )
        script.wait(1.5)
        assert task[0].done()
        assert places(script) == (0, 0)
        assert {record.fault for record in script.records} == {Fault.DRAINING}
        assert script.pool.tally.connects == dialled, "nobody is sent to a container at the end"


def test_nobody_is_sent_to_a_container_after_his_deadline() -> None:
    with Script(one_place(timeout=3.0)) as script:
        clients = asking(script, 12)
        script.wait(3.5)
        for client in clients:
            answer = client.hears()
            assert (answer.status, answer.header("connection")) == (504, None)
            assert client.fate == "open", "a sweep that ends many looks at each as it is by then"
        assert script.pool.tally.connects == 1
        assert {record.fault for record in script.records} == {Fault.DEADLINE}
        script.wait(1)
        clients[3].says(SCORE)
        script.containers[1].answers()
        assert clients[3].hears().status == 200


def test_a_place_that_comes_after_the_deadline_comes_too_late() -> None:
    with Script(one_place(timeout=3.0)) as script:
        script.wait(0.1)
        one, two = asking(script, 2)
        container = script.container()
        container.hears()
        script.wait(3.05)
        assert two.hears_nothing(), "the sweep has not come by"
        container.answers()
        assert (one.hears().status, two.hears().status) == (200, 504)
        assert container.hears_nothing()


@pytest.mark.parametrize("said", [None, b"rubbish\r\n\r\n", STREAM + b"rubbish"])
def test_a_container_that_fails_gives_its_place_to_the_next(said: bytes | None) -> None:
    with Script(one_place()) as script:
        _, two = asking(script, 2)
        failing = script.container()
        if said is None:
            failing.breaks()
        else:
            failing.says(said)
        script.container().answers()
        assert two.hears().status == 200
        assert places(script) == (0, 0)


def test_an_error_of_our_own_gives_the_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("unforeseen")

    with Script(one_place()) as script:
        script.may_fail = True
        monkeypatch.setattr("gateway.engine.pipeline.lone_head", fail)
        for client in asking(script, 3):
            assert client.hears().status == 500
        assert places(script) == (0, 0)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_when_all_backends_are_dead_everybody_is_told_so(count: int) -> None:
    setup = one_place()
    setup.backends = BOTH
    with Script(setup) as script:
        script.down |= {FIRST.port, SECOND.port}
        clients = asking(script, count)
        script.wait(0.1)
        for client in clients:
            assert client.hears().text == "No ready replicas for service diabetes"
        assert places(script) == (0, 0)
        assert [pool.tally.connects for pool in script.pools] == [count, count]


def test_who_comes_late_does_not_overtake_by_way_of_a_dead_backend() -> None:
    """All pass by the one that refuses, which takes no time, and wait for the one that serves."""
    setup = one_place()
    setup.backends = BOTH
    with Script(setup) as script:
        script.down.add(FIRST.port)
        clients = asking(script, 6)
        assert places(script) == (1, 5)
        container = script.container()
        for number, client in enumerate(clients):
            container.hears()
            container.answers(b"%d" % number)
            assert client.hears().text == str(number)


def test_who_comes_late_to_a_dead_backend_does_not_run_out_of_time_early() -> None:
    setup = one_place(max_wait=1.0)
    setup.backends = BOTH
    with Script(setup) as script:
        script.down.add(FIRST.port)
        served, early = asking(script, 2)
        script.wait(0.9)
        (late,) = asking(script, 1)
        script.wait(0.2)
        assert early.hears().status == 503
        assert late.hears_nothing()
        for client in (served, late):
            script.containers[0].answers()
            assert client.hears().status == 200


def test_a_relocation_that_fails_has_given_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("unforeseen")

    with Script(one_place()) as script:
        script.may_fail = True
        (client,) = asking(script, 1)
        monkeypatch.setattr("gateway.engine.pipeline.relocate", fail)
        script.container().answers(head="HTTP/1.1 302 Found\r\nLocation: /there\r\n")
        assert client.hears().status == 500
        assert places(script) == (0, 0)
