"""How many rows a call may have is learned from all who go, and who is without hope is told."""

from __future__ import annotations

import pytest

from gateway.core.confidence import State
from gateway.core.faults import Fault
from gateway.engine.batching import BatchRules
from tests.support.batches import FAILED, Asker, Story, merging
from tests.support.script import Setup


def one_by_one(story: Story, *rows: int, seconds: float = 0.01) -> list[list[int]]:
    """Have rows scored that wait together; each call takes a while. The rows of each call."""
    story.occupy()
    askers = [story.ask(row) for row in rows]
    story.release()
    calls = []
    while (call := story.next_call()) is not None:
        calls.append([row for (row,) in call.rows])
        story.wait(seconds)
        call.scores()
    assert [asker.hears() for asker in askers] == [f"[{row}]" for row in rows]
    return calls


def test_a_limit_of_one_row_is_not_for_ever() -> None:
    """One timeout of two rows, and no call has two rows any more. Those who go alone for that show
    that the container is well."""
    with Story() as story:
        _, call = story.together(1, 2)
        call.answers(b"Scoring timeout after 60000 ms", FAILED)
        assert len(story.play()) == 2
        assert story.batcher.cap == 1
        assert one_by_one(story, 1, 2, 3, 4) == [[1], [2], [3], [4]]
        assert story.batcher.cap > 1
        sizes = [len(call) for call in one_by_one(story, *range(20))]
        assert max(sizes) > 2


def test_a_limit_of_one_row_stays_while_rows_take_long() -> None:
    with Story() as story:
        story.batcher.limit.cap = 1
        for _ in range(5):
            assert one_by_one(story, 1, 2, 3, seconds=0.5) == [[1], [2], [3]]


def test_requests_of_many_rows_show_that_a_call_may_have_more() -> None:
    """No two of them fit into the limit at the beginning."""
    with Story() as story:
        body = b'{"data": [%b]}' % b", ".join([b"[1]"] * 20)
        for _ in range(4):
            story.occupy()
            askers = [story.say(body) for _ in range(4)]
            story.release()
            calls = []
            while (call := story.next_call()) is not None:
                calls.append(len(call.rows))
                story.wait(0.01)
                call.scores()
            assert all(asker.hears() for asker in askers)
        assert story.batcher.cap >= 80
        assert calls == [80]


def test_failures_and_departures_show_nothing() -> None:
    with Story() as story:
        story.batcher.limit.cap = 1
        for _ in range(3):
            story.occupy()
            askers = [story.ask(number) for number in (1, 2, 3)]
            story.release()
            story.wait(0.01)
            story.call().fails()
            assert askers[0].answer().status == 502
            call = story.call()
            askers[1].leaves()
            assert call.is_dropped
            story.call().fails()
            assert askers[2].answer().status == 502
        assert story.batcher.cap == 1


# Without hope.


def slow(story: Story, seconds: float) -> None:
    """Let it be known that calls take so long."""
    askers, call = story.together(1, 2)
    story.wait(seconds)
    call.scores()
    assert all(asker.hears() for asker in askers)


def impatient(timeout: float = 10.0) -> Setup:
    return Setup(concurrency=1, max_wait=60, timeout=timeout, batching=BatchRules())


def late(asker: Asker) -> bool:
    answer = asker.answer()
    return (answer.status, answer.text) == (
        504,
        "Post /score: net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
    )


def test_who_can_no_longer_be_answered_in_time_is_told_when_its_turn_comes() -> None:
    with Story(impatient(6.0)) as story:
        slow(story, 2.0)
        story.occupy()
        hopeless = story.ask(1)
        story.wait(2.5)
        hopeful = story.ask(2)
        story.wait(2)
        story.release()
        assert late(hopeless), "a second and a half is left, and two are needed"
        assert story.records[-2].fault is Fault.DEADLINE
        assert story.records[-2].attempts == 0, "the container was spared"
        assert story.play() == [[[2]]]
        assert hopeful.hears() == "[2]"


def test_old_news_turn_nobody_away() -> None:
    with Story(impatient()) as story:
        slow(story, 9.0)
        story.wait(10.1)
        story.occupy()
        asker = story.ask(1)
        story.wait(5)
        story.release()
        assert story.play() == [[[1]]]
        assert asker.hears() == "[1]"


def test_one_quick_answer_is_hope_enough() -> None:
    with Story(impatient(6.0)) as story:
        slow(story, 2.0)
        slow(story, 0.01)
        story.occupy()
        asker = story.ask(1)
        story.wait(4.5)
        story.release()
        assert story.play() == [[[1]]]
        assert asker.hears() == "[1]"


def test_those_without_hope_do_not_take_places_from_each_other() -> None:
    with Story(impatient(6.0)) as story:
        slow(story, 2.0)
        story.occupy()
        askers = [story.ask(number) for number in range(50)]
        story.wait(4.5)
        story.release()
        assert all(late(asker) for asker in askers)
        assert story.deployment.slots.busy == 0


# Caps.


@pytest.mark.parametrize(("max_rows", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (100, [7])])
def test_no_call_has_more_rows_than_may_be(max_rows: int, sizes: list[int]) -> None:
    with Story(merging(max_rows=max_rows), proved=max_rows > 1) as story:
        assert [len(rows) for rows in one_by_one(story, *range(7))] == sizes


def test_no_call_is_larger_than_may_be() -> None:
    with Story(merging(max_bytes=100)) as story:
        texts = [f"{number:030d}" for number in range(7)]
        story.occupy()
        askers = [story.ask(text) for text in texts]
        story.release()
        calls = story.play(score=lambda row: row[0])
        assert [asker.hears() for asker in askers] == [f'["{text}"]' for text in texts]
        assert max(map(len, calls)) == 2
        assert story.batcher.tally.flushes["bytes"] > 0


@pytest.mark.parametrize(
    "body",
    [b'{"data": [[1], [2], [3], [4], [5]]}', b'{"data": [["%b"]]}' % (b"x" * 200)],
    ids=["rows", "bytes"],
)
def test_what_is_larger_than_a_call_may_be_goes_alone(body: bytes) -> None:
    with Story(merging(max_rows=4, max_bytes=150)) as story:
        story.occupy()
        askers = [story.ask(1), story.say(body), story.ask(2)]
        story.release()
        calls = []
        while (call := story.next_call()) is not None:
            calls.append(call.body)
            call.answers([0] * len(call.rows))
        assert calls == [b'{"data": [[1],[2]]}', body]
        assert [asker.answer().status for asker in askers] == [200] * 3
        assert story.state is State.ON
