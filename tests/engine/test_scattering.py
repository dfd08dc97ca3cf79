"""A request that is cut into parts is answered as if it had not been, or fails as one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.core.backends import Backend
from gateway.core.confidence import DEPENDENT, State
from gateway.engine.batching import BatchRules
from tests.support.batches import BAD_INPUT, FAILED, Asker, Call, Story
from tests.support.raw import Closed
from tests.support.script import Setup

FIRST, SECOND = Backend("10.0.0.5", 5001), Backend("10.0.0.6", 5002)


def setup(
    *,
    backends: tuple[Backend, ...] = (FIRST, SECOND),
    max_rows: int = 2,
    max_wait: float = 0.5,
    max_length: int = 1000,
) -> Setup:
    rules = BatchRules(max_rows=max_rows, scatter=True)
    return Setup(
        backends=backends,
        concurrency=1,
        batching=rules,
        max_wait=max_wait,
        max_length=max_length,
        timeout=10.0,
    )


@contextmanager
def trusting(
    *,
    backends: tuple[Backend, ...] = (FIRST, SECOND),
    max_rows: int = 2,
    max_wait: float = 0.5,
    max_length: int = 1000,
) -> Iterator[Story]:
    """A story in which cutting up such requests has been proved sound."""
    made = setup(
        backends=backends, max_rows=max_rows, max_wait=max_wait, max_length=max(max_length, 2)
    )
    with Story(made, proved=False) as story:
        rows = range(100, 101 + max_rows)
        asker = story.say(body(*rows))
        while (call := story.next_call()) is not None:
            call.scores(score)
        assert asker.hears() == said(*rows)
        assert story.family.confidence.state is State.ON
        story.deployment.slots.max_length = max_length
        yield story


def body(*rows: int) -> bytes:
    return json.dumps({"data": [[row] for row in rows]}).encode()


def score(row: list[int]) -> int:
    return row[0] * 10


def said(*rows: int) -> str:
    return json.dumps([row * 10 for row in rows])


def part_calls(story: Story, asked: int) -> list[Call]:
    """So many calls that are made at the same time, in the order of their rows."""
    return sorted((story.call() for _ in range(asked)), key=lambda call: call.rows)


def test_parts_go_to_several_containers_at_once() -> None:
    with trusting() as story:
        asker = story.say(body(1, 2, 3, 4))
        one, two = part_calls(story, 2)
        assert (one.rows, two.rows) == ([[1], [2]], [[3], [4]])
        assert one.container is not two.container
        two.scores(score)
        assert asker.hears_nothing()
        one.scores(score)
        assert asker.hears() == said(1, 2, 3, 4)
        assert story.batcher.tally.scattered == 1


def test_parts_are_of_equal_size() -> None:
    with trusting(max_rows=4) as story:
        asker = story.say(body(1, 2, 3, 4, 5, 6))
        one, two = part_calls(story, 2)
        assert (one.rows, two.rows) == ([[1], [2], [3]], [[4], [5], [6]])
        one.scores(score)
        two.scores(score)
        assert asker.hears() == said(1, 2, 3, 4, 5, 6)


def test_parts_wait_for_places() -> None:
    with trusting(backends=(FIRST,)) as story:
        asker = story.say(body(1, 2, 3, 4, 5, 6))
        for rows in ([[1], [2]], [[3], [4]], [[5], [6]]):
            call = story.call()
            assert call.rows == rows
            assert story.next_call() is None
            call.scores(score)
        assert asker.hears() == said(1, 2, 3, 4, 5, 6)


def test_a_part_carries_what_the_request_carries() -> None:
    with trusting() as story:
        asker = story.say(body(1, 2, 3), headers={"X-Custom": "7", "x-ms-client-request-id": "me"})
        for call in part_calls(story, 2):
            assert call.seen.header("x-custom") == "7"
            assert call.seen.header("x-ms-client-request-id") == "me"
            call.scores(score)
        story.call().scores(score)  # another header, another kind: it is proved first
        answer = asker.answer()
        assert answer.text == said(1, 2, 3)
        assert answer.header("x-ms-client-request-id") == "me"


def test_a_request_within_the_limit_is_not_cut() -> None:
    with trusting() as story:
        asker = story.say(body(1, 2))
        call = story.call()
        assert call.seen.body == body(1, 2)
        call.scores(score)
        assert asker.hears() == said(1, 2)


def test_the_first_is_scored_whole_as_well_and_answered_by_that() -> None:
    with Story(setup(), proved=False) as story:
        asker = story.say(body(1, 2, 3))
        for call in part_calls(story, 2):
            call.scores(score)
        assert asker.hears_nothing()
        call = story.call()
        assert call.seen.body == body(1, 2, 3)
        call.answers(b"[10,20, 30]")
        assert asker.answer().body == b"[10,20, 30]"
        assert story.batcher.tally.proofs == {"proved": 1, "disproved": 0, "inconclusive": 0}


def test_answers_that_depend_on_the_other_rows_are_found_out() -> None:
    def centred(rows: list[list[int]]) -> list[float]:
        values = [row[0] for row in rows]
        return [value - sum(values) / len(values) for value in values]

    with Story(setup(), proved=False) as story:
        asker = story.say(body(1, 2, 6))
        for _ in range(3):
            call = story.call()
            call.answers(centred(call.rows))
        assert asker.hears() == "[-2.0, -1.0, 3.0]"
        confidence = story.family.confidence
        assert (confidence.state, confidence.reason) == (State.OFF, DEPENDENT)
        asker = story.say(body(1, 2, 6))
        call = story.call()
        assert call.seen.body == body(1, 2, 6), "from now on, such requests go whole"
        call.answers(centred(call.rows))
        assert asker.hears() == "[-2.0, -1.0, 3.0]"


def test_only_one_proof_at_a_time() -> None:
    with Story(setup(), proved=False) as story:
        first, second = story.say(body(1, 2, 3)), story.say(body(4, 5, 6))
        rows = []
        for _ in range(4):
            call = story.call()
            rows.append([row[0] for row in call.rows])
            call.scores(score)
        assert sorted(rows) == [[1, 2], [1, 2, 3], [3], [4, 5, 6]]
        assert (first.hears(), second.hears()) == (said(1, 2, 3), said(4, 5, 6))


@pytest.mark.parametrize(
    ("head", "text"),
    [(BAD_INPUT, {"message": "row 3"}), (FAILED, {"message": "row 3"}), (None, "row 3 is bad")],
)
def test_what_a_part_is_told_of_its_rows_is_asked_of_the_whole(head: str | None, text: str) -> None:
    """Only the whole request is told what it would have been told."""
    with trusting() as story:
        asker = story.say(body(1, 2, 3))
        one, two = part_calls(story, 2)
        one.scores(score)
        two.answers(text, *([head] if head else []))
        call = story.call()
        assert call.seen.body == body(1, 2, 3)
        call.answers("the verdict on the whole")
        assert asker.hears() == '"the verdict on the whole"'


def test_a_part_that_loses_its_container_fails_the_whole_and_ends_the_others() -> None:
    with trusting() as story:
        asker = story.say(body(1, 2, 3, 4))
        one, two = part_calls(story, 2)
        one.container.breaks()
        assert asker.answer().status == 502
        assert two.container.fate == "aborted"
        assert story.deployment.slots.busy == 0


def test_a_part_that_waits_too_long_fails_the_whole() -> None:
    with trusting(max_wait=0.2) as story:
        asker = story.say(body(1, 2, 3, 4, 5))
        part_calls(story, 2)
        story.wait(0.3)
        assert asker.answer().status == 503
        assert story.deployment.slots.busy == 0


def test_a_full_queue_fails_the_whole() -> None:
    with trusting(max_length=1) as story:
        asker = story.say(body(1, 2, 3, 4, 5, 6, 7, 8))
        assert asker.answer().status == 503
        assert (story.deployment.slots.busy, story.deployment.slots.waiting) == (0, 0)


def test_a_part_moves_on_from_a_backend_that_is_down() -> None:
    with trusting() as story:
        for container in story.containers:
            story.loop.perform(container.transport.abort)
        story.down.add(SECOND.port)
        asker = story.say(body(1, 2, 3))
        for _ in range(2):
            call = story.call()
            assert call.seen.header("host") == FIRST.name
            call.scores(score)
        assert asker.hears() == said(1, 2, 3)


def test_no_container_at_all_is_told_once() -> None:
    with trusting() as story:
        for container in story.containers:
            story.loop.perform(container.transport.abort)
        story.down |= {FIRST.port, SECOND.port}
        asker = story.say(body(1, 2, 3))
        assert asker.answer().status == 503


@pytest.mark.parametrize("answered", [0, 1])
def test_a_client_that_leaves_ends_all_parts(answered: int) -> None:
    with trusting() as story:
        asker = story.say(body(1, 2, 3, 4, 5, 6))
        one, two = part_calls(story, 2)
        if answered:
            one.scores(score)
        asker.leaves()
        assert two.container.fate == "aborted"
        assert (story.deployment.slots.busy, story.deployment.slots.waiting) == (0, 0)


def test_a_deadline_ends_all_parts() -> None:
    with trusting() as story:
        asker = story.say(body(1, 2, 3))
        one, two = part_calls(story, 2)
        story.wait(11)
        assert asker.answer().status == 504
        assert (one.container.fate, two.container.fate) == ("aborted", "aborted")


def test_a_proof_that_fails_is_no_harm() -> None:
    with Story(setup(), proved=False) as story:
        asker = story.say(body(1, 2, 3))
        one, _ = part_calls(story, 2)
        one.container.breaks()
        call = story.call()
        assert call.seen.body == body(1, 2, 3)
        call.scores(score)
        assert asker.hears() == said(1, 2, 3)
        assert story.batcher.tally.proofs["inconclusive"] == 1


@pytest.mark.parametrize("seed", range(100))
def test_any_mixture_of_sizes_fates_and_orders(seed: int) -> None:
    draw = random.Random(seed)
    with trusting(max_rows=draw.randint(2, 4)) as story:
        asked: dict[Asker, list[int]] = {}
        for number in range(30):
            match draw.random():
                case chance if chance < 0.4:
                    rows = [100 * number + at for at in range(draw.randint(1, 12))]
                    asked[story.say(body(*rows))] = rows
                case chance if chance < 0.5 and asked:
                    gone = draw.choice(list(asked))
                    del asked[gone]
                    gone.leaves()
                case chance if chance < 0.55:
                    if (call := story.next_call()) is not None:
                        call.container.breaks()
                case _:
                    if (call := story.next_call()) is not None:
                        call.scores(score)
            story.wait(draw.choice([0.0, 0.0, 0.2]))
        while (call := story.next_call()) is not None:
            call.scores(score)
        story.wait(1)
        for asker, rows in asked.items():
            try:
                answer = asker.answer()
            except Closed:
                pytest.fail(f"{rows} were not answered")
            assert answer.status in (200, 502, 503)
            assert answer.status != 200 or answer.text == said(*rows)
