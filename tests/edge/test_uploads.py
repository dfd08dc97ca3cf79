"""A body on its way in is collected, poured or thrown away, within bounds of size and speed."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, cast

import pytest

from gateway.core.faults import Fault, Refusal
from gateway.core.heads import CHUNKED
from gateway.edge.phases import Patience
from gateway.edge.uploads import HIGH_WATER, IncomingBody
from gateway.engine.exchange import Connection, Exchange
from gateway.engine.walking import park, start


class Reader:
    """The client's connection."""

    def __init__(self) -> None:
        self.paused = False

    def hold(self) -> None:
        self.paused = True

    def go_on(self) -> None:
        self.paused = False


class Walker:
    """A walk that waits for its body."""

    def __init__(self, body: IncomingBody, limit: int) -> None:
        self.walk: Coroutine[None, Any, None] | None = None
        self.got: list[bytes | None] = []
        body.collect(cast(Exchange, self), limit)
        start(self, self._wait())

    async def _wait(self) -> None:
        self.got.append(await park())


class Container:
    """The connection that a body is poured into."""

    def __init__(self) -> None:
        self.said: list[bytes | str] = []

    def attach(self, upload: object) -> None:
        self.said.append("attached")

    def write_body(self, data: bytes) -> None:
        self.said.append(data)

    def end_body(self) -> None:
        self.said.append("end")


def incoming(length: int, limit: int = 1 << 20) -> tuple[IncomingBody, Reader]:
    reader = Reader()
    return IncomingBody(reader, length, limit, Patience(), 0.0), reader


def feed(body: IncomingBody, data: bytes, now: float = 0.0) -> bytes:
    rest = body.feed(data, now)
    body.settle()
    return rest


def pour(body: IncomingBody) -> Container:
    container = Container()
    body.pour(cast(Connection, container))
    return container


FORMS = {
    "with a length": (5, [b"ab", b"cde"]),
    "in chunks": (CHUNKED, [b"2\r\nab\r\n3\r\nc", b"de\r\n0\r\n\r\n"]),
}
forms = pytest.mark.parametrize(("length", "pieces"), FORMS.values(), ids=FORMS)


@forms
def test_what_follows_a_body_is_handed_back(length: int, pieces: list[bytes]) -> None:
    body, _ = incoming(length)
    assert feed(body, pieces[0]) == b""
    assert not body.complete
    assert feed(body, pieces[1] + b"GET / ") == b"GET / "
    assert (body.complete, body.size) == (True, 5)
    assert body.take() == b"abcde"
    assert repr(body) == "<IncomingBody 5 bytes, complete>"


@forms
def test_how_much_is_left_is_known_of_a_length_only(length: int, pieces: list[bytes]) -> None:
    body, _ = incoming(length)
    feed(body, pieces[0])
    assert body.left == (None if length == CHUNKED else 3)


@forms
def test_a_collector_is_given_the_whole(length: int, pieces: list[bytes]) -> None:
    body, _ = incoming(length)
    walker = Walker(body, 5)
    feed(body, pieces[0])
    assert walker.got == []
    feed(body, pieces[1])
    assert walker.got == [b"abcde"]


def test_a_collector_that_wants_less_is_told_so_and_nothing_is_lost() -> None:
    body, _ = incoming(CHUNKED)
    walker = Walker(body, 3)
    feed(body, b"2\r\nab\r\n")
    assert walker.got == []
    feed(body, b"2\r\ncd\r\n")
    assert walker.got == [None]
    container = pour(body)
    feed(body, b"1\r\ne\r\n0\r\n\r\n")
    assert container.said == ["attached", b"ab", b"cd", b"e", "end"]


def test_who_comes_late_sees_that_it_is_complete() -> None:
    body, _ = incoming(5)
    feed(body, b"abcde")
    assert (body.complete, body.take()) == (True, b"abcde")


def test_a_collector_that_left_is_given_nothing() -> None:
    body, _ = incoming(5)
    walker = Walker(body, 5)
    body.abandon(cast(Exchange, walker))
    feed(body, b"abcde")
    assert walker.got == []


@forms
def test_a_body_is_poured_as_it_comes(length: int, pieces: list[bytes]) -> None:
    body, _ = incoming(length)
    feed(body, pieces[0])
    container = pour(body)
    before = container.said.copy()
    feed(body, pieces[1])
    assert before == ["attached", b"ab"] if length != CHUNKED else ["attached", b"ab", b"c"]
    assert b"".join(s for s in container.said if isinstance(s, bytes)) == b"abcde"
    assert (container.said[0], container.said[-1]) == ("attached", "end")


def test_a_complete_body_is_poured_at_once() -> None:
    body, _ = incoming(3)
    feed(body, b"abc")
    assert pour(body).said == ["attached", b"abc", "end"]


def test_a_detached_body_is_read_and_thrown_away() -> None:
    body, reader = incoming(10)
    container = pour(body)
    reader.hold()
    body.detach()
    assert not reader.paused
    assert feed(body, b"0123456789rest") == b"rest"
    assert container.said == ["attached"]
    assert body.take() == b""


def test_nobody_reads_ahead_of_a_walk_that_has_not_decided() -> None:
    body, reader = incoming(10**6)
    feed(body, b"x" * HIGH_WATER)
    states = [reader.paused]
    feed(body, b"x")
    states.append(reader.paused)
    pour(body)
    assert [*states, reader.paused] == [False, True, False]


@pytest.mark.parametrize("wanted", ["collected", "discarded", "poured"])
def test_a_body_that_is_wanted_or_not_at_all_is_not_held_up(wanted: str) -> None:
    body, reader = incoming(10**6)
    if wanted == "collected":
        Walker(body, 10**6)
    elif wanted == "discarded":
        body.discard()
    else:
        pour(body)
    for _ in range(5):
        feed(body, b"x" * HIGH_WATER)
    assert not reader.paused


def test_the_container_can_make_the_client_wait() -> None:
    body, reader = incoming(10)
    states = []
    for act in (body.hold, body.go_on, body.hold):
        act()
        states.append(reader.paused)
    assert states == [True, False, True]


# Bounds.


def test_more_than_the_limit_is_refused_with_its_first_byte() -> None:
    body, _ = incoming(CHUNKED, limit=4)
    feed(body, b"4\r\nabcd\r\n")
    with pytest.raises(Refusal) as refusal:
        feed(body, b"1\r\ne")
    assert refusal.value.fault is Fault.BODY_TOO_LARGE
    assert refusal.value.detail == "at most 4 bytes are accepted"


def test_what_is_thrown_away_may_be_more_than_the_limit() -> None:
    body, _ = incoming(CHUNKED, limit=4)
    body.discard()
    assert feed(body, b"9\r\n123456789\r\n0\r\n\r\n") == b""
    assert body.complete


def test_every_byte_buys_the_next_some_time() -> None:
    body, _ = incoming(1000)
    assert body.due == 20.0
    feed(body, b"x" * 900, now=15.0)
    assert body.due == 35.0


@pytest.mark.parametrize(
    ("fed", "slow"),
    [
        ([(10.0, 10), (20.0, 10)], False),  # the first window is not over
        ([(20.1, 5000)], True),
        ([(20.1, 6000)], False),
        ([(20.1, 6000), (40.0, 1), (40.2, 1)], True),  # each window counts for itself
        ([(20.1, 6000), (40.3, 6000)], False),
        ([(20.1, 9000)], False),  # complete, however late
    ],
)
def test_a_rate_is_asked_for_in_every_window(fed: list[tuple[float, int]], slow: bool) -> None:
    body, _ = incoming(9000 if fed[0][1] == 9000 else 100_000)
    *before, last = fed
    for now, size in before:
        feed(body, b"x" * size, now)
    if not slow:
        feed(body, b"x" * last[1], last[0])
        return
    with pytest.raises(Refusal) as refusal:
        feed(body, b"x" * last[1], last[0])
    assert refusal.value.fault is Fault.REQUEST_TIMEOUT


def test_the_measure_begins_anew_after_a_wait_of_our_making() -> None:
    body, _ = incoming(100_000)
    feed(body, b"x" * 100, now=1.0)
    body.restart(500.0)
    assert body.due == 520.0
    feed(body, b"x", now=519.0)
    assert body.due == 539.0
