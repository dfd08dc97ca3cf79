"""Everybody in a batch gets what it would have got alone, whatever becomes of the others."""

from __future__ import annotations

from gateway.core.confidence import State
from gateway.engine.batching import BatchRules
from tests.support.batches import BAD_INPUT, FAILED, Story
from tests.support.script import Setup


def test_a_free_place_is_used_at_once_by_the_original_bytes() -> None:
    with Story() as story:
        asker = story.say(b' {"data": [[1.50, 2e0]] } ')
        call = story.call()
        assert call.seen.body == b' {"data": [[1.50, 2e0]] } '
        call.answers([3])
        assert asker.hears() == "[3]"


def test_those_who_wait_go_together() -> None:
    with Story() as story:
        askers, call = story.together(1, 2, 3)
        assert call.rows == [[1], [2], [3]]
        call.answers([10, 20, 30])
        assert [asker.hears() for asker in askers] == ["[10]", "[20]", "[30]"]


def test_rows_of_a_request_stay_together() -> None:
    with Story() as story:
        story.occupy()
        one = story.say(b'{"data": [[1], [2.0],[3]]}')
        two = story.say(b'{"data": [[4], [5.0],[6]]}')
        story.release()
        story.call().answers([1, 2, 3, 4, 5, 6])
        for _ in "12":  # another kind of rows, but the family is known
            pass
        assert one.hears() == "[1, 2, 3]"
        assert two.hears() == "[4, 5, 6]"


def test_the_guilty_hears_what_it_would_have_heard_alone() -> None:
    with Story() as story:
        askers, call = story.together(1, 2, 3, 4)
        call.answers({"message": "row 2"}, FAILED)
        call = story.call()
        assert call.rows == [[1], [2]]
        call.answers({"message": "row 2"}, FAILED)
        call = story.call()
        assert call.rows == [[1]]
        call.answers([10])
        assert askers[0].hears() == "[10]"
        call = story.call()
        assert call.rows == [[2]]
        call.answers({"message": "bad"}, FAILED)
        answer = askers[1].answer()
        assert (answer.status, answer.text) == (502, '{"message": "bad"}')
        call = story.call()
        assert call.rows == [[3], [4]]
        call.answers([30, 40])
        assert [asker.hears() for asker in askers[2:]] == ["[30]", "[40]"]
        assert story.family.confidence.state is State.ON
        assert story.batcher.tally.extra_calls == 2 + 4
