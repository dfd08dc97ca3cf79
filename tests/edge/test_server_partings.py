"""However a connection ends, its request ends with it, exactly once; and a client that only stops
talking still gets its answers.

A FIN says that no more will be sent. Whether the sender waits for its answer or is gone cannot be
told from it, so it is asked (``PROBE_AFTER``).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.backends import Backend
from gateway.core.faults import Fault
from gateway.edge.server import PROBE_AFTER
from tests.support.gateways import KEY
from tests.support.raw import Closed, request
from tests.support.script import ClientSide, Script, Setup

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SCORE = request(key=KEY)
GET = request(body=None, method="GET", key=KEY)
OPTIONS = request(body=None, method="OPTIONS")
UPLOAD = {"Content-Type": "application/octet-stream", "Content-Length": "1000"}
STREAM = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000
# Time enough for a probe and its sweep.
A_PROBE = PROBE_AFTER + 0.25

Act = Callable[[Script, ClientSide], object]

# Half-close.


def test_a_client_that_stops_talking_gets_its_answer() -> None:
    with Script() as script:
        client = script.client()
        client.ends(SCORE)
        container = script.container()
        assert container.hears().body == b'{"data": [[1, 2]]}'
        container.answers(b"late")
        answer = client.hears()
        assert (answer.text, answer.header("connection")) == ("late", "close")
        assert client.fate == "closed"


def test_a_client_that_stops_talking_gets_all_its_answers() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE * 2)
        client.ends(SCORE)
        container = script.container()
        for n in range(3):
            container.answers(b"%d" % n)
        answers = [client.hears() for _ in range(3)]
        assert [answer.text for answer in answers] == ["0", "1", "2"]
        assert [answer.header("connection") for answer in answers] == [None, None, "close"]
        assert client.fate == "closed"


def test_a_fin_right_behind_pipelined_requests_spoils_none() -> None:
    with Script() as script:
        client = script.client()
        client.ends(OPTIONS * 3)  # answered at once, so FIN comes between two of them
        assert [client.hears().status for _ in range(3)] == [204, 204, 204]


def test_a_fin_during_a_slow_answer_spoils_no_request_behind_it() -> None:
    with Script() as script:
        client = script.client()
        client.takes(0)
        client.says(SCORE * 2)
        container = script.container()
        container.answers(b"y" * 100_000)
        client.ends()
        client.takes(None)
        assert len(client.hears().body) == 100_000
        container.answers(b"next")
        assert client.hears().text == "next"


@pytest.mark.parametrize(
    ("size", "behind"),
    [
        (60_000, 0),
        (100_000, 0),
        (100_000, 1),
    ],
    ids=["below the mark", "above the mark", "with another request behind"],
)
def test_a_client_that_stops_talking_may_be_slow_to_listen(size: int, behind: int) -> None:
    with Script() as script:
        client = script.client()
        client.takes(0)
        client.ends(SCORE * (1 + behind))
        container = script.container()
        container.answers(b"y" * size)
        script.wait(29)
        client.takes(None)
        assert len(client.hears().body) == size


def test_a_silent_client_is_asked_whether_it_is_still_there() -> None:
    with Script() as script:
        client = script.client()
        client.ends(SCORE)
        script.wait(PROBE_AFTER - 0.1)
        assert client.hears_nothing()
        script.wait(A_PROBE)
        assert client.heard() == CONTINUE
        script.wait(30)
        assert client.hears_nothing()
        script.container().answers(b"late")
        assert client.hears().text == "late"


def test_a_client_that_is_gone_is_found_out_and_its_request_given_up() -> None:
    with Script() as script:
        client = script.client()
        client.ends(SCORE)
        client.dies()
        script.wait(2 * A_PROBE)
        assert client.fate == "aborted"
        assert script.container().fate == "aborted"
        assert script.records[0].fault is Fault.CLIENT_GONE


def test_a_client_of_http_1_0_is_not_asked() -> None:
    # It knows no interim answers: the probe would be taken for the answer.
    with Script() as script:
        client = script.client()
        client.ends(request(key=KEY, version="HTTP/1.0"))
        client.dies()
        script.wait(10)
        assert client.hears_nothing()
        script.container().answers(b"late")
        assert client.hears().text == "late"


def test_a_client_is_not_asked_in_the_middle_of_its_answer() -> None:
    with Script() as script:
        client = script.client()
        client.ends(SCORE)
        container = script.container()
        container.says(STREAM)
        script.wait(10)
        container.says(b"x" * 100_000)
        answer = client.hears()
        assert (answer.interim, len(answer.body)) == ([], 200_000)


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (SCORE[:50], "the request ends in its header"),
        (SCORE[:-1], "the body is shorter than declared"),
        (request(body=b"abc", key=KEY, headers=UPLOAD), "the body is shorter than declared"),
    ],
    ids=["in the head", "in a collected body", "in a streamed body"],
)
def test_a_request_cut_short_by_fin_is_refused(sent: bytes, detail: str) -> None:
    with Script() as script:
        client = script.client()
        client.says(sent)
        client.ends()
        answer = client.hears()
        assert (answer.status, answer.text) == (400, f"Bad request: {detail}")
        assert client.fate == "closed"
        for container in script.containers:
            assert container.fate == "aborted"


def test_a_pipelined_request_cut_short_by_fin_is_refused_in_its_turn() -> None:
    with Script() as script:
        client = script.client()
        client.ends(SCORE + SCORE[:-1])
        script.container().answers()
        assert client.hears().status == 200
        assert client.hears().status == 400


def test_fin_between_requests_closes() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE)
        script.container().answers()
        assert client.hears().status == 200
        client.ends()
        assert client.fate == "closed"


# Gone at any time.


def arrive(script: Script, client: ClientSide) -> None:
    """Nothing was said."""


def half_a_head(script: Script, client: ClientSide) -> None:
    client.says(SCORE[:30])


def half_a_collected_body(script: Script, client: ClientSide) -> None:
    client.says(SCORE[:-5])


def half_a_streamed_body(script: Script, client: ClientSide) -> None:
    client.says(request(body=b"abc", key=KEY, headers=UPLOAD))


def waiting_for_a_connection(script: Script, client: ClientSide) -> None:
    script.silent.add(5001)
    client.says(SCORE)


def waiting_for_the_answer(script: Script, client: ClientSide) -> None:
    client.says(SCORE)


def half_an_answer(script: Script, client: ClientSide) -> None:
    client.says(SCORE)
    script.containers[0].says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")


def in_a_stream(script: Script, client: ClientSide) -> None:
    client.says(SCORE)
    script.containers[0].says(STREAM)


def in_a_stream_nobody_takes(script: Script, client: ClientSide) -> None:
    client.takes(0)
    client.says(SCORE)
    script.containers[0].says(STREAM)


def in_a_skipped_body(script: Script, client: ClientSide) -> None:
    client.says(request(body=b"abc", headers=UPLOAD))


def before_the_answer_has_left(script: Script, client: ClientSide) -> None:
    client.takes(0)
    client.says(SCORE)
    script.containers[0].answers(b"x" * 100_000)


def lingering(script: Script, client: ClientSide) -> None:
    client.says(request(headers={"Connection": "close"}))


# What was going on: fault of the only record (None where it was answered), container's fate.
PHASES: dict[Act, tuple[tuple[Fault | None, ...], tuple[str, ...]]] = {
    arrive: ((), ()),
    half_a_head: ((), ()),
    half_a_collected_body: ((Fault.CLIENT_GONE,), ()),
    half_a_streamed_body: ((Fault.CLIENT_GONE,), ("aborted",)),
    waiting_for_a_connection: ((Fault.CLIENT_GONE,), ()),
    waiting_for_the_answer: ((Fault.CLIENT_GONE,), ("aborted",)),
    half_an_answer: ((Fault.CLIENT_GONE,), ("aborted",)),
    in_a_stream: ((Fault.CLIENT_GONE,), ("aborted",)),
    in_a_stream_nobody_takes: ((Fault.CLIENT_GONE,), ("aborted",)),
    in_a_skipped_body: ((Fault.NO_CREDENTIALS,), ()),
    before_the_answer_has_left: ((None,), ("open",)),
    lingering: ((Fault.NO_CREDENTIALS,), ()),
}


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
def test_a_client_that_resets_its_connection_ends_its_request_once(phase: Act) -> None:
    faults, fates = PHASES[phase]
    with Script() as script:
        client = script.client()
        phase(script, client)
        client.breaks()
        assert tuple(record.fault for record in script.records) == faults
        assert tuple(container.fate for container in script.containers) == fates
        assert script.listener.tally.open == 0
        script.wait(120)
        assert len(script.records) == len(faults)
        # Whoever comes next is served.
        script.silent.clear()
        other = script.client()
        other.says(SCORE)
        script.containers[-1].answers(b"next")
        assert other.hears().text == "next"


def test_a_client_that_left_is_logged_as_such() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE)
        script.wait(3)
        client.breaks()
        record = script.records[0]
        assert (record.status, record.fault, record.sent) == (499, Fault.CLIENT_GONE, 0)
        assert record.seconds == pytest.approx(3)
        assert script.deployment.tally.codes == {499: 1}


def test_a_client_that_leaves_after_a_large_upload_is_noticed() -> None:
    with Script() as script:
        client = script.client()
        client.says(request(body=None, key=KEY, headers=UPLOAD | {"Content-Length": "100000"}))
        container = script.container()
        container.takes(0)
        client.says(b"x" * 100_000)
        container.takes(None)
        assert len(container.hears().body) == 100_000
        client.breaks()
        assert container.fate == "aborted"
        assert script.records[0].fault is Fault.CLIENT_GONE


# An answer that cannot be completed must not look complete.


@pytest.mark.parametrize(
    ("version", "head"),
    [
        ("HTTP/1.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhello"),
        ("HTTP/1.0", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ],
    ids=["chunked", "with a length", "until the connection ends"],
)
def test_a_broken_answer_does_not_look_complete(version: str, head: bytes) -> None:
    with Script() as script:
        client = script.client()
        client.says(request(key=KEY, version=version))
        container = script.container()
        container.says(head)
        container.breaks()
        assert client.fate == "aborted"
        if not client.transport.socket.resets:
            with pytest.raises(Closed):
                client.hears()
        assert script.records[0].fault is Fault.UPSTREAM_CLOSED


def test_two_backends_down_and_a_client_that_waited_for_both() -> None:
    backends = (Backend("10.0.0.5", 5001), Backend("10.0.0.6", 5002))
    with Script(Setup(backends=backends)) as script:
        script.silent |= {5001, 5002}
        client = script.client()
        client.says(GET)
        script.wait(1.5)  # the first try has timed out, the second is under way
        client.breaks()
        assert [record.fault for record in script.records] == [Fault.CLIENT_GONE]
        assert script.records[0].attempts == 2
