"""A carrier brings an answer back whole, and can be stopped wherever it waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.core.faults import Fault, Refusal
from gateway.core.replies import Reply
from gateway.edge.upstream import UpstreamConnection
from gateway.engine import basins
from gateway.engine.carriers import Carrier
from gateway.engine.pools import Pool
from gateway.engine.walking import interrupt, start
from tests.support.script import ContainerSide, Script

HEAD = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"


class Stop(Exception):
    """Thrown into a carrier."""


class Errand(Carrier):
    """One call."""

    __slots__ = ("departures", "error", "reply")

    def __init__(self, script: Script) -> None:
        super().__init__(script.clock)
        self.reply: Reply | None = None
        self.error: Exception | None = None
        self.departures: list[str] = []

    def set_out(self, pool: Pool) -> None:
        self.departures.append(pool.name)

    async def run(self, pool: Pool) -> None:
        try:
            self.reply = await self.call(pool, HEAD, b"{}")
        except Stop as error:
            self.break_off()
            self.error = error
        except Refusal as error:
            self.error = error


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as script:
        yield script


def send(script: Script) -> Errand:
    errand = Errand(script)
    script.loop.perform(lambda: start(errand, errand.run(script.pool)))
    return errand


def stop(script: Script, errand: Errand) -> None:
    script.loop.perform(lambda: interrupt(errand, Stop()))


def is_over(errand: Errand) -> bool:
    return errand.walk is None and errand.custody is None


def test_there_and_back(script: Script) -> None:
    errand = send(script)
    container = script.container()
    seen = container.hears()
    assert (seen.line, seen.body) == ("POST /score HTTP/1.1", b"{}")
    assert isinstance(errand.custody, UpstreamConnection)
    script.wait(0.25)
    container.answers(b"[1]", "HTTP/1.1 418 Teapot\r\nX-Own: a\r\n")
    assert errand.reply is not None
    assert (errand.reply.status, errand.reply.body) == (418, b"[1]")
    assert errand.reply.lines == [b"X-Own: a\r\n"]
    assert errand.upstream_seconds == 0.25
    assert errand.departures == [script.pool.name]
    assert is_over(errand)


def test_connections_are_used_again(script: Script) -> None:
    send(script)
    script.container().answers()
    errand = send(script)
    assert len(script.containers) == 1
    assert script.pool.tally.reused == 1
    script.containers[0].answers(b"[2]")
    assert errand.reply is not None
    assert errand.reply.body == b"[2]"


def stream(container: ContainerSide, pieces: list[bytes], *, chunked: bool) -> None:
    if chunked:
        container.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        container.says(*(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces))
        container.says(b"0\r\n\r\n")
    else:
        container.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % sum(map(len, pieces)))
        container.says(*pieces)


@pytest.mark.parametrize("chunked", [False, True])
def test_streamed_answers_are_collected(script: Script, chunked: bool) -> None:
    errand = send(script)
    pieces = [bytes([65 + at]) * 40_000 for at in range(5)]
    stream(script.container(), pieces, chunked=chunked)
    assert errand.reply is not None
    assert errand.reply.body == b"".join(pieces)
    assert is_over(errand)
    send(script)
    assert len(script.containers) == 1, "the connection is in order"
    script.containers[0].answers()


def test_the_time_of_a_streamed_answer_is_that_of_all_of_it(script: Script) -> None:
    errand = send(script)
    container = script.container()
    container.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    script.wait(0.5)
    container.says(b"1\r\nx\r\n0\r\n\r\n")
    assert errand.upstream_seconds == 0.5


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_that_is_too_large_has_no_body(
    script: Script, monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    monkeypatch.setattr(basins, "LARGEST", 100_000)
    errand = send(script)
    stream(script.container(), [b"x" * 60_000] * 2, chunked=chunked)
    assert errand.reply is not None
    assert (errand.reply.status, errand.reply.body) == (200, None)
    assert is_over(errand)


def test_stopped_while_it_waits_for_a_connection(script: Script) -> None:
    script.silent.add(5001)
    errand = send(script)
    assert errand.custody is script.pool
    stop(script, errand)
    assert is_over(errand)
    assert isinstance(errand.error, Stop)
    assert "0 waiting" in repr(script.pool)
    assert errand.departures == []


def test_stopped_in_flight(script: Script) -> None:
    errand = send(script)
    stop(script, errand)
    assert is_over(errand)
    assert script.container().fate == "aborted"


def test_stopped_while_the_answer_streams_in(script: Script) -> None:
    errand = send(script)
    container = script.container()
    container.says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nabc")
    assert errand.reply is None
    stop(script, errand)
    assert is_over(errand)
    assert container.fate == "aborted"


def test_no_container(script: Script) -> None:
    script.down.add(5001)
    errand = send(script)
    assert isinstance(errand.error, Refusal)
    assert errand.error.fault is Fault.NO_BACKEND
    assert errand.departures == []


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (b"", Fault.UPSTREAM_CLOSED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[", Fault.UPSTREAM_CLOSED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n[", Fault.UPSTREAM_CLOSED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n", Fault.UPSTREAM_CLOSED),
        (b"nonsense\r\n\r\n", Fault.UPSTREAM_MALFORMED),
    ],
)
@pytest.mark.parametrize("how", ["reset", "fin"])
def test_a_broken_connection(script: Script, said: bytes, fault: Fault, how: str) -> None:
    errand = send(script)
    container = script.container()
    container.says(said)
    if how == "reset":
        container.breaks()
    else:
        container.ends()
    assert isinstance(errand.error, Refusal)
    assert errand.error.fault is fault
    assert errand.walk is None
    assert script.pool.open == 0
