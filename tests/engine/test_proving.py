"""What a proof sees besides the answers: their headers, and containers that cannot be reached."""

from __future__ import annotations

import pytest

from gateway.core.confidence import FIELDS_DIFFER, NOT_PROVED, State
from gateway.engine.batching import BatchRules
from tests.support.batches import GOOD, Story
from tests.support.script import Setup


def prove(story: Story, merged: str, alone: str) -> list[str]:
    """Have two requests proved, by answers with these further header lines."""
    askers, call = story.together(1, 2)
    call.answers([1, 2], GOOD + merged)
    for _ in askers:
        call = story.call()
        call.answers([row[0] for row in call.rows], GOOD + alone.format(row=call.rows[0][0]))
    return [asker.hears() for asker in askers]


@pytest.mark.parametrize(
    ("merged", "alone"),
    {
        "same": ("X-Model: 7\r\n", "x-model: 7\r\n"),
        "timing": ("x-ms-run-fn-exec-ms: 9.5\r\n", "x-ms-run-fn-exec-ms: {row}.5\r\n"),
        "proxy": ("x-envoy-upstream-service-time: 9\r\n", "X-Envoy-Upstream-Service-Time: 8\r\n"),
        "name-of-the-call": ("x-operation-id: 5\r\nTraceId: 1\r\n", "x-operation-id: {row}\r\n"),
        "order": ("a: 1\r\nb: 2\r\n", "b: 2\r\na: 1\r\n"),
    }.values(),
)
def test_fields_that_say_nothing_of_rows_may_differ(merged: str, alone: str) -> None:
    with Story(proved=False) as story:
        assert prove(story, merged, alone) == ["[1]", "[2]"]
        assert story.family.confidence.state is State.ON


@pytest.mark.parametrize(
    ("merged", "alone"),
    {
        "of-the-row": ("x-score: 0\r\n", "x-score: {row}\r\n"),
        "only-alone": ("", "x-warning: row {row}\r\n"),
        "only-merged": ("x-warning: row 2\r\n", ""),
        "content-type": ("", "Content-Language: en\r\n"),
    }.values(),
)
def test_fields_that_may_be_about_rows_must_not(merged: str, alone: str) -> None:
    with Story(proved=False) as story:
        assert prove(story, merged, alone) == ["[1]", "[2]"]
        confidence = story.family.confidence
        assert (confidence.state, confidence.reason) == (State.OFF, FIELDS_DIFFER)


def test_a_container_that_cannot_be_reached_says_nothing_of_proofs() -> None:
    setup = Setup(concurrency=1, batching=BatchRules())
    with Story(setup, proved=False) as story:
        story.down.add(story.pool.backend.port)
        for _ in range(20):
            askers = [story.ask(1), story.ask(2)]
            assert {asker.answer().status for asker in askers} == {503}
        story.down.clear()
        assert story.family.confidence.reason == NOT_PROVED
        assert story.family.confidence.state is State.PROVING
        story.prove()


def test_a_bad_row_in_every_proof_does_not_prevent_one() -> None:
    """Whoever sends it hears what it would have heard alone; the others are merged without it."""
    with Story(proved=False) as story:
        askers, call = story.together(1, 2, 3)
        call.fails("merged")
        rows = story.play(guilty=[[3]])
        assert rows == [[[1]], [[2]], [[3]], [[1], [2]]]
        assert [asker.hears() for asker in askers[:2]] == ["[1]", "[2]"]
        assert askers[2].answer().status == 502
        assert story.family.confidence.state is State.ON


def test_the_second_merged_call_of_a_proof_can_object_too() -> None:
    with Story(proved=False) as story:
        askers, call = story.together(1, 2, 3)
        call.fails("merged")
        for _ in (1, 2):
            story.call().scores(sum)
        story.call().fails("bad")
        story.call().answers([7, 2])
        assert [asker.hears() for asker in askers[:2]] == ["[1]", "[2]"]
        assert askers[2].answer().status == 502
        assert story.family.confidence.state is State.OFF


def test_a_second_merged_call_that_hangs_is_given_up() -> None:
    with Story(proved=False) as story:
        _, call = story.together(1, 2, 3)
        call.fails("merged")
        for _ in (1, 2):
            story.call().scores(sum)
        story.call().fails("bad")
        call = story.call()
        assert call.rows == [[1], [2]]
        assert story.deployment.slots.busy == 1
        story.wait(6)
        assert call.container.fate == "aborted"
        assert story.deployment.slots.busy == 0
        assert story.batcher.tally.proofs["inconclusive"] == 1


def test_with_one_good_row_there_is_nothing_to_merge() -> None:
    with Story(proved=False) as story:
        askers, call = story.together(1, 2)
        call.fails("merged")
        assert story.play(guilty=[[2]]) == [[[1]], [[2]]]
        assert askers[0].hears() == "[1]"
        assert story.batcher.tally.proofs["inconclusive"] == 1
