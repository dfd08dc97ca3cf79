"""Who may share a call, how many may, and for how long one is held back for that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest

from gateway.core.confidence import MAX_INCONCLUSIVE, NOBODY_GUILTY, State
from gateway.core.lanes import Flush, Ticket
from gateway.core.rows import LARGEST
from gateway.edge.server import Downstream
from gateway.engine.batching import FAMILIES, PROOF, Batcher, BatchRules
from gateway.engine.exchange import Exchange
from tests.support.batches import Story, merging
from tests.support.gateways import KEY
from tests.support.raw import request

DELAY = 0.1


@pytest.fixture
def story() -> Iterator[Story]:
    setup = merging(max_queue_delay=DELAY, max_rows=5, max_bytes=200)
    with Story(setup, proved=False) as story:
        story.occupy()
        yield story


def exchange(story: Story, body: bytes = b'{"data": [[1]]}', **options: Any) -> Exchange:
    """A request that waits in the queue."""
    asker = story.say(body, **options)
    found = cast(Downstream, asker.side.transport.protocol)._exchange
    assert found is not None
    return found


def ticket(story: Story, body: bytes = b'{"data": [[1]]}', **options: Any) -> Ticket[Exchange]:
    made = story.batcher.ticket(exchange(story, body, **options), story.clock.now)
    assert made is not None
    return made


def prove(batcher: Batcher, made: Ticket[Exchange], now: float) -> None:
    confidence = family(made).confidence
    confidence.begin_proof()
    confidence.proved(now)


def family(made: Ticket[Exchange]) -> Any:
    return cast(tuple[Any, ...], made.lane)[0]


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Content-Type": "text/plain"}},
        {"headers": {"Content-Encoding": "gzip"}},
        {"headers": {"x-ms-client-request-id": "i" * 101}},
        {"headers": {"x-request-id": "i" * 101}},
        {"body": b'{"data": []}'},
        {"body": b'{"data": 1}'},
        {"body": b'{"rows": [[1]]}'},
        {"body": b"[[1]]"},
        {"body": b'{"data": [[1], [2], [3], [4], [5], [6]]}'},
        {"body": b'{"data": [["%b"]]}' % (b"x" * 200)},
    ],
    ids=str,
)
def test_some_requests_have_no_lane(story: Story, options: Any) -> None:
    assert story.batcher.ticket(exchange(story, **options), 0.0) is None


@pytest.mark.parametrize(
    ("scatter", "size", "read"),
    [(False, LARGEST, True), (False, LARGEST + 1, False), (True, LARGEST + 1, True)],
)
def test_t20_what_takes_long_to_read_is_left_alone_unless_it_is_to_be_cut_up(
    scatter: bool, size: int, read: bool
) -> None:
    setup = merging(max_queue_delay=DELAY, max_bytes=1 << 20, scatter=scatter)
    with Story(setup, proved=False) as story:
        story.occupy()
        frame = b'{"data": [["%b"]]}'
        asked = exchange(story, frame % (b"x" * (size - len(frame) + 2)))
        assert len(asked.body or b"") == size
        assert (story.batcher.rows(asked) is not None) is read


def test_a_ticket_says_what_the_queue_has_to_know(story: Story) -> None:
    waiting = exchange(story, b'{"data": [[1], [2]]}', headers={"x-request-id": "i" * 100})
    made = story.batcher.ticket(waiting, 17.0)
    assert made is not None
    assert (made.item, made.since, made.deadline) == (waiting, 17.0, waiting.deadline)
    assert (made.rows, made.size) == (2, len("[1], [2]") + 1)
    assert made.freight.inner == b"[1], [2]"


def test_lanes_are_those_of_equal_requests(story: Story) -> None:
    one = ticket(story)
    assert ticket(story).lane == one.lane
    assert ticket(story, b'{"data":[[3]]}').lane == one.lane
    assert ticket(story, headers={"x-a": "b"}).lane != one.lane
    assert ticket(story, b'{"data": [["3"]]}').lane != one.lane
    assert family(ticket(story, b'{"data": [["3"]]}')) is family(one)
    assert ticket(story).lane == one.lane, "whatever came in between"


def test_how_many_may_go_is_a_matter_of_trust(story: Story) -> None:
    batcher, made = story.batcher, ticket(story)
    confidence = family(made).confidence
    assert batcher.crew(made, 0.0) == PROOF
    confidence.begin_proof()
    assert batcher.crew(made, 0.0) == 1
    confidence.proved(0.0)
    assert batcher.crew(made, 0.0) == sys.maxsize
    batcher.distrust(family(made), "for the test")
    now = story.clock.now
    assert batcher.crew(made, now + 9.9) == 1
    assert batcher.crew(made, now + 10.1) == PROOF


@pytest.mark.parametrize(
    ("left", "rows", "predicted", "held"),
    [
        (60.0, 1, None, DELAY),
        (60.0, 4, None, DELAY),
        (60.0, 5, None, 0.0),
        (60.0, 9, None, 0.0),
        (0.08, 1, None, 0.075),
        (0.004, 1, None, 0.0),
        (3.0, 1, 2.95, 0.045),
        (3.0, 1, 3.5, 0.0),
    ],
)
def test_how_long_a_request_is_held_back(
    story: Story,
    monkeypatch: pytest.MonkeyPatch,
    left: float,
    rows: int,
    predicted: float | None,
    held: float,
) -> None:
    batcher, made = story.batcher, ticket(story)
    monkeypatch.setattr(type(batcher.limit), "predict", lambda *_: predicted)
    made.deadline = made.since + left
    assert batcher.ripe_at(made, rows) == pytest.approx(made.since + held)


def test_what_goes_alone_is_not_held_back(story: Story) -> None:
    batcher, made = story.batcher, ticket(story)
    assert batcher.ripe_at(Ticket(made.item, 5.0, 60.0), 1) == 5.0
    batcher.distrust(family(made), "for the test")
    assert batcher.ripe_at(made, 1) == made.since


@pytest.mark.parametrize(
    ("delay", "rows", "waited", "reason"),
    [
        (0.0, 1, 9.0, Flush.SLOT_FREE),
        (0.0, 5, 0.0, Flush.SLOT_FREE),
        (DELAY, 2, DELAY, Flush.DELAY),
        (DELAY, 2, 0.01, Flush.DEADLINE),
        (DELAY, 5, 0.01, Flush.FULL),
        (DELAY, 5, 9.0, Flush.FULL),
    ],
)
def test_why_a_group_goes_now(
    story: Story, delay: float, rows: int, waited: float, reason: Flush
) -> None:
    story.batcher.delay = delay
    group = [ticket(story) for _ in range(rows)]
    assert story.batcher.why_now(group, group[0].since + waited) is reason


def test_hope_is_lost_by_recent_news_only(story: Story) -> None:
    batcher = story.batcher
    assert not batcher.is_hopeless(0.0, 1000.0)
    batcher.limit.observe(1, 2.0, False, 1000.0)
    assert batcher.is_hopeless(1001.9, 1000.0)
    assert not batcher.is_hopeless(1002.1, 1000.0)
    assert not batcher.is_hopeless(1001.9 + 11, 1011.0)


def test_strikes_lead_to_a_fallback_that_is_told_once(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    batcher, made = story.batcher, ticket(story)
    prove(batcher, made, story.clock.now)
    for strikes in (1, 2):
        batcher.strike(family(made), NOBODY_GUILTY)
        assert (batcher.tally.fallbacks, family(made).confidence.strikes) == (0, strikes)
    batcher.strike(family(made), NOBODY_GUILTY)
    batcher.strike(family(made), NOBODY_GUILTY)
    assert batcher.tally.fallbacks == 1
    assert family(made).confidence.state is State.OFF
    assert caplog.text.count("requests are not merged for 10 s") == 1


def test_proofs_given_up_lead_to_a_fallback_too(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    batcher, made = story.batcher, ticket(story)
    for number in range(1, MAX_INCONCLUSIVE + 1):
        assert batcher.tally.fallbacks == 0
        family(made).confidence.begin_proof()
        batcher.give_up_proof(family(made))
        assert batcher.tally.proofs["inconclusive"] == number
    assert batcher.tally.fallbacks == 1
    assert "no proof came to a conclusion" in caplog.text


def test_families_used_last_are_remembered(story: Story) -> None:
    batcher, waiting = story.batcher, exchange(story)
    made = batcher.ticket(waiting, 0.0)
    assert made is not None
    routed = waiting.routed
    common = routed.common
    for number in range(3 * FAMILIES):
        routed.common = b"POST /%d HTTP/1.1\r\n" % number
        assert batcher.ticket(waiting, 0.0) is not None
        routed.common = bytes(bytearray(common))
        again = batcher.ticket(waiting, 0.0)
        assert again is not None
        assert family(again) is family(made), "it was in use all the time"
    assert FAMILIES <= len(batcher.families) <= 2 * FAMILIES
    assert batcher.families[0].line in (b"POST /score HTTP/1.1\r\n", b"POST /767 HTTP/1.1\r\n")


def test_scouts_are_learned_from_when_they_are_back(story: Story) -> None:
    batcher, limit = story.batcher, story.batcher.limit
    limit.shrink(2)
    assert batcher.cap == 1
    made = ticket(story)
    batcher.scout(made, 0.0)
    batcher.scout(ticket(story), 0.0)
    assert batcher.cap == 1, "it is still on its way"
    made.item.ended, made.item.status, made.item.upstream_seconds = 1.0, 502, 0.001
    second = ticket(story)
    batcher.scout(second, 1.0)
    assert batcher.cap == 1, "an error says nothing of rows"
    second.item.ended, second.item.status, second.item.upstream_seconds = 2.0, 200, 0.001
    batcher.scout(ticket(story), 2.0)
    assert batcher.cap == 2
    for waiting in (made, second):
        waiting.item.ended = waiting.item.status = 0
        waiting.item.upstream_seconds = 0.0


@pytest.mark.parametrize(
    ("waiting", "places", "returning", "aboard", "expected"),
    [
        (1, 1, 0, 0, 1),
        (32, 1, 0, 0, 32),  # few enough
        (33, 1, 1, 0, 17),
        (254, 1, 2, 0, 128),
        (128, 1, 128, 0, 128),
        (100, 1, 300, 0, 200),
        (100, 2, 20, 60, 60),
        (60, 9, 0, 0, 16),  # no call for less
    ],
)
def test_those_who_wait_are_shared_out(
    waiting: int, places: int, returning: int, aboard: int, expected: int
) -> None:
    """One group for each place and one on its way between client and gateway, of equal size."""
    batcher = Batcher("x", BatchRules(), clock=lambda: 0.0, ids=iter([]))
    batcher.returning, batcher.aboard = returning, aboard
    assert batcher.share(waiting, places) == expected


def test_groups_that_come_and_go_become_equal() -> None:
    """Two clients that ask and ask again are not always left to themselves by sixty others."""
    with Story() as story:
        story.occupy()
        askers = [story.ask(number) for number in range(62)]
        story.release()
        sizes = []
        for _ in range(6):
            call = story.call()
            sizes.append(len(call.rows))
            call.scores(sum)
            for number, asker in enumerate(askers):
                if asker.side.heard():
                    asker.side.says(request(body=b'{"data": [[%d]]}' % number, key=KEY))
        assert sizes[-3:] == [31, 31, 31]
        story.play()


def test_everybody_aboard_is_counted_once() -> None:
    with Story() as story:
        askers, call = story.together(1, 2, 3)
        assert story.batcher.aboard == 3
        askers[0].leaves()
        call.scores(sum)
        assert [asker.hears() for asker in askers[1:]] == ["[2]", "[3]"]
        assert (story.batcher.aboard, story.batcher.returning) == (0, 0)
