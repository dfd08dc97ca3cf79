"""Who is held back for company, for how long, and who is not."""

from __future__ import annotations

import pytest

from gateway.engine.batching import BatchRules
from tests.support.batches import BOTH, Story, merging
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import Setup

DELAY = 0.1


def holding(**rules: float) -> Story:
    """A story in which requests are held back with a free place."""
    return Story(merging(max_queue_delay=DELAY, **rules))


def flushes(story: Story) -> dict[str, int]:
    """What made batches leave, without the proof."""
    counts = {name: count for name, count in story.batcher.tally.flushes.items() if count}
    counts["delay"] = counts.get("delay", 0) - 1
    return {name: count for name, count in counts.items() if count}


def test_a_request_is_held_back_until_its_time_is_up() -> None:
    with holding() as story:
        one = story.ask(1)
        story.wait(0.05)
        two = story.ask(2)
        story.wait(0.04)
        assert story.next_call() is None
        story.wait(0.02)
        call = story.call()
        assert call.rows == [[1], [2]]
        call.scores()
        assert (one.hears(), two.hears()) == ("[1]", "[2]")
        assert flushes(story) == {"delay": 1}


def test_alone_it_goes_by_its_own_bytes() -> None:
    with holding() as story:
        asker = story.say(b'{ "data": [[1]] }')
        story.wait(0.11)
        call = story.call()
        assert call.body == b'{ "data": [[1]] }'
        call.scores()
        assert asker.hears() == "[1]"
        assert flushes(story) == {}


def test_a_full_batch_goes_at_once() -> None:
    with holding(max_rows=3) as story:
        askers = [story.ask(number) for number in (1, 2)]
        assert story.next_call() is None
        askers.append(story.ask(3))
        call = story.call()
        call.scores()
        assert [asker.hears() for asker in askers] == ["[1]", "[2]", "[3]"]
        assert flushes(story) == {"full": 1}


def test_full_batches_let_the_limit_grow() -> None:
    with holding() as story:
        story.batcher.limit.cap = 4
        for _ in range(3):
            askers = [story.ask(number) for number in range(story.batcher.cap)]
            story.wait(0.01)
            story.call().scores()
            assert all(asker.hears() for asker in askers)
        assert story.batcher.cap == 32


def test_it_goes_while_its_answer_can_still_be_in_time() -> None:
    rules = BatchRules(max_queue_delay=1.0, latency_target=10.0)
    with Story(Setup(concurrency=1, timeout=3.0, max_wait=60.0, batching=rules)) as story:
        for number in range(3):  # calls of two rows take two seconds and a half, it turns out
            askers = [story.ask(number), story.ask(number)]
            story.wait(1.01)
            call = story.call()
            story.wait(1.5)
            call.scores()
            assert all(asker.hears() for asker in askers)
        seconds = story.batcher.limit.predict(2)
        assert seconds == pytest.approx(1.5, abs=0.02)
        story.batcher.delay = 5.0
        askers = [story.ask(number) for number in (1, 2)]
        story.wait(1.4)
        assert story.next_call() is None
        story.wait(0.1)
        call = story.call()
        assert call.rows == [[1], [2]]
        story.wait(1.49)
        call.scores()
        assert [asker.hears() for asker in askers] == ["[1]", "[2]"]
        assert flushes(story) == {"delay": 3, "deadline": 1}


def test_what_cannot_be_merged_is_not_held_back() -> None:
    with holding() as story:
        held = story.ask(1)
        for body in (b"[1]", b'{"data": []}', b'{"x": 1}', b"not json?"):
            other = story.say(body, headers={"Content-Type": "text/plain"})
            call = story.call()
            assert call.body == body
            call.answers([0])
            assert other.hears() == "[0]"
        assert held.hears_nothing()
        story.wait(0.11)
        assert story.play() == [[[1]]]
        assert held.hears() == "[1]"


def test_requests_without_rows_are_not_held_back() -> None:
    with holding() as story:
        client = story.client()
        client.says(request(body=None, method="GET", key=KEY))
        call = story.call()
        assert call.seen.line == "GET /score HTTP/1.1"
        call.answers("alive")
        assert client.hears().text == '"alive"'


def test_where_merging_is_off_nobody_is_held_back() -> None:
    with holding() as story:
        story.family.confidence.disproved(story.clock.now, "for the test")
        asker = story.ask(1)
        assert story.play() == [[[1]]]
        assert asker.hears() == "[1]"
        story.wait(11)
        asker = story.ask(1)
        assert story.next_call() is None, "a proof is due again, and takes two"
        story.wait(0.11)
        assert story.play() == [[[1]]]
        assert asker.hears() == "[1]"


def test_two_lanes_are_held_back_each_for_itself() -> None:
    with holding() as story:
        numbers = [story.ask(1)]
        story.wait(0.06)
        texts = [story.ask("x"), story.ask("y")]
        numbers.append(story.ask(2))
        story.wait(0.05)
        call = story.call()
        assert call.rows == [[1], [2]]
        call.scores()
        assert [asker.hears() for asker in numbers] == ["[1]", "[2]"]
        assert story.next_call() is None
        story.wait(0.06)
        call = story.call()
        assert call.rows == [["x"], ["y"]]
        call.answers(["x", "y"])
        assert [asker.hears() for asker in texts] == ['["x"]', '["y"]']


def test_a_place_that_gets_free_is_kept_for_those_whose_time_is_up() -> None:
    with holding() as story:
        story.occupy()
        asker = story.ask(1)
        story.wait(0.05)
        story.release()
        assert story.next_call() is None
        story.wait(0.06)
        assert story.play() == [[[1]]]
        assert asker.hears() == "[1]"


def test_one_whose_time_is_up_goes_when_a_place_is_free() -> None:
    with holding() as story:
        story.occupy()
        askers = [story.ask(1), story.ask(2)]
        story.wait(0.5)
        assert story.next_call() is None
        story.release()
        assert story.play() == [[[1], [2]]]
        assert [asker.hears() for asker in askers] == ["[1]", "[2]"]


def test_whoever_leaves_while_held_back_is_not_sent() -> None:
    with holding() as story:
        askers = [story.ask(number) for number in (1, 2, 3)]
        askers[0].leaves()
        story.wait(0.11)
        assert story.play() == [[[2], [3]]]
        assert [asker.hears() for asker in askers[1:]] == ["[2]", "[3]"]
        lonely = story.ask(4)
        lonely.leaves()
        story.wait(0.11)
        assert story.next_call() is None


def test_nobody_is_forgotten_when_the_alarm_was_cancelled() -> None:
    """Two lanes get full while no place is free, and go; the third one has its own time."""
    with holding(max_rows=2) as story:
        story.ask(1)
        story.occupy()
        story.wait(0.05)
        for row in ((2,), ("a",), ("b",), (7, 8)):
            story.ask(*row)
        story.release()
        calls = story.play(score=lambda row: row[0])
        assert calls == [[[1], [2]], [["a"], ["b"]]]
        story.wait(0.09)
        assert story.next_call() is None
        story.wait(0.02)
        assert story.play() == [[[7, 8]]]


def test_of_those_whose_time_is_up_the_earliest_goes_first() -> None:
    with holding() as story:
        story.occupy()
        story.ask(1)
        story.wait(0.01)
        story.ask("a")
        story.wait(0.01)
        story.ask(7, 8)
        story.wait(1)
        story.release()
        assert story.play(score=lambda row: row[0]) == [[[1]], [["a"]], [[7, 8]]]


@pytest.mark.parametrize("backends", [1, 2])
def test_when_no_container_can_be_reached_it_is_told_at_once(backends: int) -> None:
    rules = BatchRules(max_queue_delay=DELAY)
    setup = Setup(concurrency=1, max_wait=20, backends=BOTH[:backends], batching=rules)
    with Story(setup, proved=False) as story:
        story.down |= {5001, 5002}
        asker = story.ask(1)
        story.wait(0.11)
        answer = asker.answer()
        assert (answer.status, answer.text) == (503, "No ready replicas for service diabetes")


def test_where_nobody_may_queue_nobody_is_held_back() -> None:
    rules = BatchRules(max_queue_delay=DELAY)
    with Story(Setup(concurrency=1, max_length=0, batching=rules), proved=False) as story:
        asker = story.ask(1)
        assert story.play() == [[[1]]]
        assert asker.hears() == "[1]"


def test_a_queue_full_of_those_who_are_held_back_refuses_nobody_a_free_place() -> None:
    rules = BatchRules(max_queue_delay=DELAY)
    with Story(Setup(concurrency=1, max_length=2, batching=rules)) as story:
        askers = [story.ask(number) for number in (1, 2, 3)]
        assert story.play() == [[[3]]]
        story.wait(0.11)
        assert story.play() == [[[1], [2]]]
        assert [asker.hears() for asker in askers] == ["[1]", "[2]", "[3]"]
