"""What is left over, unread or unsent, is bounded and comes in nobody's way."""

from __future__ import annotations

import pytest

from gateway.core.faults import Fault
from gateway.edge.server import HELD
from gateway.engine.reading import HeadReader
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import ClientSide, Script, Setup

SCORE = request(key=KEY)
OPTIONS = request(body=None, method="OPTIONS")
UPLOAD = {"Content-Type": "application/octet-stream"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


def held(client: ClientSide) -> int:
    """Bytes of a client that the gateway keeps and has not looked at."""
    protocol = client.transport.protocol
    return len(protocol._unread())  # type: ignore[attr-defined]


# Unread.


def test_requests_that_are_answered_at_once_are_not_piled_up() -> None:
    """Each is answered in a turn of its own, so a sender of many small ones is ahead of us."""
    with Script(Setup(requests_per_connection=100_000)) as script:
        client = script.client()
        flood = OPTIONS * (HELD // len(OPTIONS))
        for _ in range(20):
            script.loop.call_soon(client.transport.deliver, flood)
        most = 0
        for _ in range(20):
            script.loop.perform(lambda: None)
            most = max(most, held(client))
        assert most < 2 * HELD + len(flood)
        count = 20 * (HELD // len(OPTIONS))
        while len(script.records) < count:
            script.loop.perform(lambda: None)
        assert [client.hears().status for _ in range(count)] == [204] * count


def test_reading_goes_on_when_little_is_left() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE + OPTIONS * (2 * HELD // len(OPTIONS)))
        assert not client.transport.is_reading()
        script.container().answers()
        while held(client) > HELD:
            assert not client.transport.is_reading()
            script.loop.perform(lambda: None)
        assert client.transport.is_reading()


def test_many_requests_in_one_piece_are_not_copied_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is kept stays the same object; only where the next one begins moves on."""
    seen: set[int] = set()
    read = HeadReader.read

    with Script() as script:
        client = script.client()

        def note(self: HeadReader, raw: bytes) -> object:
            seen.add(id(client.transport.protocol._held))  # type: ignore[attr-defined]
            return read(self, raw)

        monkeypatch.setattr(HeadReader, "read", note)
        piece = OPTIONS * 200
        client.says(piece)
        while len(script.records) < 200:
            script.loop.perform(lambda: None)
        # The piece itself, and nothing while one of its requests is being read.
        assert len(seen) <= 3


@pytest.mark.parametrize("blank", [b"\r\n", b"\r\n\r\n"])
def test_an_empty_line_after_a_body_is_nothing(blank: bytes) -> None:
    with Script() as script:
        client = script.client()
        client.ends(SCORE + blank)
        script.container().answers()
        assert client.hears().header("connection") == "close"
        assert client.hears_nothing()
        assert client.fate == "closed"
        assert [record.status for record in script.records] == [200]


def test_an_empty_line_after_a_body_does_not_shorten_the_wait_for_the_next_request() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE + b"\r\n")
        script.container().answers()
        assert client.hears().status == 200
        script.wait(60)
        client.says(SCORE)
        script.container().answers()
        assert client.hears().status == 200


def test_a_request_behind_a_fin_is_given_up_when_its_client_is_gone() -> None:
    with Script() as script:
        client = script.client()
        client.ends(SCORE * 2)
        container = script.container()
        container.hears()
        container.answers()
        client.dies()
        script.wait(5)
        assert [record.status for record in script.records] == [200, 499]
        assert container.fate == "aborted"


# Unsent.


def test_the_end_of_an_answer_holds_up_nobody_else() -> None:
    """The last chunk fills the client's buffer, when the container's connection serves another."""
    with Script(Setup(limit=1)) as script:
        slow = script.client()
        slow.takes(0)
        slow.says(SCORE)
        container = script.container()
        container.hears()
        container.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        room = 65536 - slow.transport.get_write_buffer_size() - len(b"ffff\r\n\r\n")
        container.says(b"%x\r\n%b\r\n" % (room, b"x" * room))
        other = script.client()
        other.says(SCORE)  # waits for the only connection
        container.says(b"0\r\n\r\n")
        assert container.transport.is_reading()
        container.hears()
        container.answers(b"for the other")
        assert other.hears().text == "for the other"
        slow.takes(None)
        assert len(slow.hears().body) == room


def test_a_container_that_stops_reading_does_not_keep_its_place() -> None:
    with Script(Setup(limit=1)) as script:
        client = script.client()
        client.says(request(body=None, key=KEY, headers=UPLOAD | {"Content-Length": "200000"}))
        container = script.container()
        container.takes(0)
        client.says(b"x" * 50_000)
        container.answers(b"no", head="HTTP/1.1 413 Content Too Large\r\n")
        assert client.hears().status == 413
        assert (container.fate, script.pool.open) == ("aborted", 0)
        other = script.client()
        other.says(SCORE)
        script.container().answers()
        assert other.hears().status == 200


def test_a_connection_whose_request_is_not_out_yet_is_not_used_again() -> None:
    with Script(Setup(limit=1)) as script:
        client = script.client()
        client.says(SCORE)
        container = script.container()
        container.answers()
        assert client.hears().status == 200
        container.takes(0)
        client.says(request(body=b"[" + b"1" * 150_000 + b"]", key=KEY))
        container.answers(b"early")
        assert client.hears().text == "early"
        assert (container.fate, script.pool.open) == ("aborted", 0)


def test_a_container_that_hangs_up_unread_is_no_reason_to_wait() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE)
        container = script.container()
        container.hears()
        container.answers()
        assert client.hears().status == 200
        container.takes(0)
        client.says(request(body=b"[" + b"1" * 100_000 + b"]", key=KEY))
        container.ends()
        assert client.hears().status == 502
        assert script.records[1].fault is Fault.UPSTREAM_CLOSED


@pytest.mark.parametrize("behind", [b"", b"z" * 70_000], ids=["alone", "more behind"])
@pytest.mark.parametrize("wait", [0, 59])
def test_the_last_answer_is_not_bounded_by_the_walk(behind: bytes, wait: float) -> None:
    with Script() as script:
        client = script.client()
        client.takes(0)
        client.says(request(key=KEY, headers={"Connection": "close"}) + behind)
        container = script.container()
        container.hears()
        script.wait(wait)
        container.says(HEAD % 200_000 + b"x" * 200_000)
        for _ in range(5):
            script.wait(5)
            client.takes(1000)
        client.takes(None)
        assert len(client.hears().body) == 200_000


# Unasked.


def test_a_container_that_closes_by_another_name_is_believed() -> None:
    """llhttp takes ``Proxy-Connection`` for ``Connection``."""
    with Script(Setup(limit=1)) as script:
        client = script.client()
        for _ in range(4):
            client.says(SCORE)
            container = script.container()
            container.says(
                b"HTTP/1.1 200 OK\r\nProxy-Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\nok\r\n0\r\n\r\n"
            )
            answer = client.hears()
            assert (answer.status, answer.header("proxy-connection")) == (200, None)
            assert container.fate == "closed"


def test_a_head_of_a_known_kind_is_not_excused_for_its_size() -> None:
    with Script() as script:
        client = script.client()
        for size in (1, 2, 3, 100_000):
            client.says(SCORE)
            container = script.containers[-1] if script.containers else script.container()
            container.says(
                b"HTTP/1.1 200 OK\r\nX-A: %b\r\nContent-Length: 0\r\n\r\n" % (b"a" * size)
            )
            assert client.hears().status == (200 if size < 9 else 502)


@pytest.mark.parametrize(
    "fields",
    [
        ["Tracestate: a=1", "Tracestate: b=2, c=3"],
        ["tracestate: a=1", "Tracestate:b=2"],
        ["traceparent: x", "tracestate: a=1\t, b=2"],
    ],
)
def test_trace_fields_reach_the_container_however_they_are_written(fields: list[str]) -> None:
    more = "".join(f"{field}\r\n" for field in fields).encode()
    with Script() as script:
        client = script.client()
        for turn in range(3):
            client.says(SCORE.replace(b"\r\n\r\n", b"\r\n" + more + b"\r\n", 1))
            container = script.containers[0] if turn else script.container()
            lines = container.hears().head.decode().split("\r\n")
            found = [line for line in lines if line.lower().startswith("trace")]
            assert sorted(f.replace(" ", "").replace(":", ": ") for f in found) == sorted(
                f.replace(" ", "").replace(":", ": ") for f in fields
            )
            container.answers()
            assert client.hears().status == 200


def test_a_refused_head_is_not_logged_as_the_client_before() -> None:
    with Script(Setup(trusted=("192.0.2.0/24",))) as script:
        client = script.client()
        client.says(request(key=KEY, headers={"X-Forwarded-For": "203.0.113.9"}))
        script.container().answers()
        assert client.hears().status == 200
        client.says(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
        assert client.hears().status == 400
        assert [record.client for record in script.records] == ["203.0.113.9", "192.0.2.7"]


def test_who_leaves_with_much_behind_his_request_takes_it_along() -> None:
    """All in one piece: reading stops before the request begins, and its RST is not heard of."""
    with Script() as script:
        client = script.client()
        client.says(SCORE * (2 * HELD // len(SCORE)))
        assert not client.transport.is_reading()
        client.dies()
        script.wait(1)
        assert [record.status for record in script.records] == [499]
        assert script.container().fate == "aborted"
