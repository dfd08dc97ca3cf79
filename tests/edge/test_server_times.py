"""Every wait for a client has an end, and a client is never blamed for a wait of our making.

Slow clients are the cheapest attack on a server (reliability.md T14): the deadlines here are
absolute where a drip could stretch a relative one.
"""

from __future__ import annotations

import pytest

from gateway.core.faults import Fault
from gateway.edge.phases import Patience
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import ClientSide, Script, Setup

SCORE = request(key=KEY)
# A sweep comes at least this often, so this much later than its time a thing may happen.
SWEEP = 0.25
UPLOAD = {"Content-Type": "application/octet-stream"}


def upload(length: int, **more: str) -> bytes:
    """The head of a request whose body flows through."""
    fields = UPLOAD | {"Content-Length": str(length)} | more
    return request(body=None, key=KEY, headers=fields)


def test_a_head_must_come_within_its_time_even_if_it_drips() -> None:
    with Script() as script:
        client = script.client()
        for at in range(9):
            client.says(SCORE[at : at + 1])
            script.wait(1)
        script.wait(1 - SWEEP)
        assert client.hears_nothing()
        script.wait(2 * SWEEP)
        answer = client.hears()
        assert answer.status == 408
        assert answer.text == "The request took too long: the header did not arrive in time"
        assert answer.header("connection") == "close"
        assert client.fate == "shut"
        assert script.listener.tally.timeouts == {"head": 1, "body": 0, "idle": 0, "write": 0}


def test_the_next_head_has_its_own_time_from_its_first_byte() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE)
        script.container().answers()
        assert client.hears().status == 200
        script.wait(60)
        client.says(SCORE[:10])
        script.wait(10 - SWEEP)
        client.says(SCORE[10:20])
        assert client.hears_nothing()
        script.wait(2 * SWEEP)
        assert client.hears().status == 408


def test_a_client_that_never_says_anything_is_closed_without_a_word() -> None:
    with Script() as script:
        client = script.client()
        script.wait(10 - SWEEP)
        assert client.fate == "open"
        script.wait(2 * SWEEP)
        assert client.hears_nothing()
        assert client.fate == "closed"
        assert script.listener.tally.timeouts["idle"] == 1
        assert script.records == []


def test_a_kept_connection_is_closed_after_the_idle_time() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE)
        script.container().answers()
        assert client.hears().status == 200
        script.wait(75 - SWEEP)
        assert client.fate == "open"
        script.wait(2 * SWEEP)
        assert client.hears_nothing()
        assert client.fate == "closed"


@pytest.mark.parametrize("served", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("sent", [b"\r\n", b"\r", b"\r\n\r"], ids=["CRLF", "CR", "CRLF CR"])
def test_empty_lines_do_not_keep_a_connection_for_ever(sent: bytes, served: bool) -> None:
    with Script() as script:
        client = script.client()
        if served:
            client.says(SCORE)
            script.container().answers()
        client.says(sent)
        script.wait(100)
        assert client.fate in ("closed", "shut", "aborted")
        assert sum(script.listener.tally.timeouts.values()) == 1


def test_a_body_must_not_pause_for_long() -> None:
    with Script() as script:
        client = script.client()
        client.says(upload(100_000), b"x" * 50_000)
        script.wait(15)
        client.says(b"x" * 10_000)
        script.wait(20 - SWEEP)
        assert client.hears_nothing()
        script.wait(2 * SWEEP)
        answer = client.hears()
        assert (answer.status, client.fate) == (408, "shut")
        assert answer.text == "The request took too long: the body did not arrive in time"
        assert script.container().fate == "aborted"
        assert script.listener.tally.timeouts["body"] == 1


@pytest.mark.parametrize("media_type", ["application/json", "text/csv"])
def test_a_body_below_the_least_rate_is_refused(media_type: str) -> None:
    with Script() as script:
        client = script.client()
        client.says(upload(50_000, **{"Content-Type": media_type}))
        for _ in range(20):
            script.wait(1)
            client.says(b" " * 255)
            assert client.hears_nothing()
        script.wait(1)
        client.says(b" " * 255)
        assert client.hears().status == 408
        assert script.records[0].detail == "the body arrives at less than 256 bytes per second"
        assert client.fate == "shut"


def test_a_body_above_the_least_rate_may_take_its_time() -> None:
    with Script() as script:
        client = script.client()
        client.says(upload(60 * 257))
        for _ in range(59):
            script.wait(1)
            client.says(b" " * 257)
        assert client.hears_nothing()
        client.says(b" " * 257)
        script.container().answers()
        assert client.hears().status == 200


def test_a_fast_start_buys_a_drip_one_window_only() -> None:
    with Script() as script:
        client = script.client()
        client.says(upload(1_000_000), b"x" * 60_000)
        for _ in range(45):
            script.wait(1)
            client.says(b"x")
        assert client.hears().status == 408


def paused_client(script: Script) -> ClientSide:
    """A client whose body is not read because the container takes none of it."""
    client = script.client()
    client.says(upload(400_000))
    script.containers[0].takes(0)
    client.says(b"x" * 100_000)
    assert not client.transport.is_reading()
    return client


def test_a_client_is_not_blamed_while_we_do_not_read() -> None:
    with Script(Setup(timeout=300)) as script:
        client = paused_client(script)
        script.wait(100)
        assert client.hears_nothing()
        assert client.fate == "open"
        # When we read again, its time begins anew, and so does the measure of its speed.
        script.containers[0].takes(None)
        assert client.transport.is_reading()
        script.wait(19)
        client.says(b"x" * 10_000)
        script.wait(19)
        assert client.hears_nothing()
        script.wait(1 + SWEEP)
        assert client.hears().status == 408


def test_a_container_that_takes_no_body_is_the_one_to_blame() -> None:
    with Script(Setup(timeout=30)) as script:
        client = paused_client(script)
        script.wait(30 + SWEEP)
        assert client.hears().status == 504
        assert script.records[0].fault is Fault.DEADLINE
        assert script.containers[0].fate == "aborted"


def test_no_answer_within_the_timeout() -> None:
    with Script(Setup(timeout=5)) as script:
        client = script.client()
        client.says(SCORE)
        script.wait(5 - SWEEP)
        assert client.hears_nothing()
        script.wait(2 * SWEEP)
        answer = client.hears()
        assert answer.status == 504
        assert answer.header("connection") is None
        assert script.container().fate == "aborted"
        assert (client.fate, script.pool.open) == ("open", 0)


def test_an_answer_that_does_not_end_within_the_timeout_is_broken_off() -> None:
    with Script(Setup(timeout=5)) as script:
        client = script.client()
        client.says(SCORE)
        container = script.container()
        container.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        script.wait(5 + SWEEP)
        assert (client.fate, container.fate) == ("aborted", "aborted")
        assert not client.heard().endswith(b"0\r\n\r\n")
        record = script.records[0]
        assert (record.status, record.fault) == (200, Fault.DEADLINE)


def streaming(script: Script, client: ClientSide, size: int, request: bytes = SCORE) -> None:
    """The container sends a large answer that the client does not take."""
    client.takes(0)
    client.says(request)
    script.container().says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)


def test_a_client_that_takes_nothing_of_its_answer_is_given_up() -> None:
    with Script() as script:
        client = script.client()
        streaming(script, client, 200_000)
        assert repr(client.transport.protocol) == "<Downstream 192.0.2.7, flushing, 1 served>"
        script.wait(30 - SWEEP)
        assert client.fate == "open"
        script.wait(2 * SWEEP)
        assert client.fate == "aborted"
        assert script.listener.tally.timeouts["write"] == 1


def test_a_client_that_stalls_in_the_middle_of_a_stream_is_given_up() -> None:
    with Script() as script:
        client = script.client()
        client.takes(0)
        client.says(SCORE)
        container = script.container()
        container.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 100_000)
        assert not container.transport.is_reading()
        script.wait(29)
        client.takes(90_000)  # enough for the gateway to go on
        assert container.transport.is_reading()
        container.says(b"x" * 100_000)
        script.wait(30 - 2 * SWEEP)
        assert client.fate == "open"
        script.wait(3 * SWEEP)
        assert (client.fate, container.fate) == ("aborted", "aborted")
        assert script.records[0].fault is Fault.CLIENT_GONE
        assert script.listener.tally.timeouts["write"] == 1


def test_a_slow_client_that_takes_its_answer_after_all_can_ask_again() -> None:
    with Script() as script:
        client = script.client()
        streaming(script, client, 200_000)
        script.wait(20)
        client.takes(None)
        assert len(client.hears().body) == 200_000
        script.wait(60)
        client.says(SCORE)
        script.container().answers(b"next")
        assert client.hears().text == "next"


def test_the_last_answer_has_as_much_time_as_any_other() -> None:
    with Script() as script:
        client = script.client()
        streaming(script, client, 60_000, request(key=KEY, headers={"Connection": "close"}))
        script.wait(20)
        client.takes(None)
        assert len(client.hears().body) == 60_000
        assert client.fate == "shut"


def lingering(script: Script) -> ClientSide:
    client = script.client()
    client.says(request(key=KEY, headers={"Connection": "close"}))
    script.container().answers()
    assert client.hears().status == 200
    return client


def test_a_client_that_does_not_hang_up_after_its_last_answer_is_not_waited_for() -> None:
    with Script(Setup(patience=Patience(linger=4))) as script:
        client = lingering(script)
        script.wait(4 - SWEEP)
        assert client.fate == "shut"
        script.wait(2 * SWEEP)
        assert client.fate == "closed", "and not aborted: it may not have read the answer yet"
        assert script.listener.tally.timeouts == dict.fromkeys(("head", "body", "idle", "write"), 0)


def test_a_client_that_goes_on_sending_after_its_last_answer_has_a_while_for_it() -> None:
    with Script(Setup(patience=Patience(linger=4))) as script:
        client = lingering(script)
        for _ in range(13):
            client.says(b"more of a body that nobody reads")
            script.wait(3)
            assert client.fate == "shut"
        script.wait(2)
        assert client.fate == "closed"
