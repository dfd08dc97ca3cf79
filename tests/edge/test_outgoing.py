"""Answers are written as they are framed, and their source waits for a client that is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest

from gateway.core.heads import RequestHead
from gateway.edge.outgoing import HIGH_WATER, Outgoing
from gateway.engine.exchange import Client, Exchange
from gateway.engine.routed import Routed
from tests.support.fakes import FakeClock, FakeLoop, FakeTransport


class Ears:
    """The protocol that a transport tells about its buffer."""

    def __init__(self) -> None:
        self.outgoing: Outgoing

    def pause_writing(self) -> None:
        self.outgoing.stall(30.0)

    def resume_writing(self) -> None:
        self.outgoing.flow()

    def connection_lost(self, error: Exception | None) -> None:
        pass


class FakeSource:
    def __init__(self) -> None:
        self.said: list[str] = []

    def hold(self) -> None:
        self.said.append("hold")

    def go_on(self) -> None:
        self.said.append("go on")


class Bench:
    """An ``Outgoing`` on a fake transport."""

    def __init__(self) -> None:
        ears = Ears()
        self.loop = FakeLoop(FakeClock())
        self.transport = FakeTransport(self.loop, cast("asyncio.Protocol", ears))
        ears.outgoing = self.outgoing = Outgoing(self.transport)
        self.source = FakeSource()
        head = Routed(RequestHead(b"GET", 1), 1.0)
        self.exchange = Exchange(cast(Client, None), head, 0, b"", b"id", 0.0)

    def piece(self, data: bytes) -> None:
        self.outgoing.write_piece(self.exchange, data, self.source)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.loop.close()


@pytest.mark.parametrize(
    ("chunked", "muted", "wire", "sent"),
    [
        (False, False, b"abc" + b"d" * 16, 19),
        (True, False, b"3\r\nabc\r\n10\r\n" + b"d" * 16 + b"\r\n0\r\n\r\n", 19),
        (True, True, b"", 0),
        (False, True, b"", 0),
    ],
    ids=["as it is", "in chunks", "HEAD in chunks", "HEAD"],
)
def test_a_body_in_pieces_is_framed(
    bench: Bench, chunked: bool, muted: bool, wire: bytes, sent: int
) -> None:
    bench.outgoing.begin(chunked, muted)
    bench.piece(b"abc")
    bench.piece(b"d" * 16)
    bench.outgoing.end()
    assert (bytes(bench.transport.sent), bench.exchange.sent) == (wire, sent)


def test_one_body_does_not_change_the_framing_of_the_next(bench: Bench) -> None:
    bench.outgoing.begin(True, True)
    bench.outgoing.end()
    bench.outgoing.begin(False, False)
    bench.piece(b"plain")
    bench.outgoing.end()
    assert bytes(bench.transport.sent) == b"plain"


def test_the_source_waits_while_the_client_is_slow(bench: Bench) -> None:
    bench.outgoing.begin(False, False)
    bench.transport.room = 0
    bench.piece(b"x" * HIGH_WATER)
    assert (bench.source.said, bench.outgoing.due) == ([], 0.0)
    bench.piece(b"x")
    assert "hold" in bench.source.said
    assert bench.outgoing.due == 30.0
    bench.transport.take(HIGH_WATER // 2)
    assert "go on" not in bench.source.said
    bench.transport.take(None)
    assert (bench.source.said[-1], bench.outgoing.due) == ("go on", 0.0)


def test_a_piece_that_comes_while_the_client_is_slow_holds_its_source_too(bench: Bench) -> None:
    bench.transport.room = 0
    bench.outgoing.write(b"x" * (HIGH_WATER + 1))  # what went before fills the buffer
    assert bench.outgoing.due == 30.0
    bench.outgoing.begin(False, False)
    bench.piece(b"abc")
    assert bench.source.said == ["hold"]


def test_an_ended_body_leaves_its_source_alone(bench: Bench) -> None:
    bench.outgoing.begin(False, False)
    bench.piece(b"abc")
    bench.outgoing.end()
    bench.transport.room = 0
    bench.outgoing.write(b"x" * (HIGH_WATER + 1))
    bench.transport.take(None)
    assert bench.source.said == []


def test_nothing_is_written_to_a_transport_that_is_closing(bench: Bench) -> None:
    bench.transport.close()
    bench.outgoing.write(b"late")
    assert (bytes(bench.transport.sent), bench.transport.misuse) == (b"", [])
