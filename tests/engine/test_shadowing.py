"""Shadow: requests are served as if there were no batching, and what batching would have said is
found out behind their backs: with a place that nobody wants, and never at anybody's cost."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.comparing import Difference
from gateway.core.confidence import DEPENDENT, NOBODY_GUILTY, NOT_SPLITTABLE, State
from gateway.engine.batching import PROOF, BatchRules
from gateway.engine.shadowing import (
    COMPARED,
    KEPT,
    LARGEST_ANSWER,
    LARGEST_REQUEST,
    LONGEST,
    LOOK,
    MOST,
    REST,
    Sample,
    Shadow,
)
from tests.support.batches import BAD_INPUT, FAILED, GOOD, Asker, Call, Story
from tests.support.gateways import SECOND_KEY
from tests.support.script import Setup

ALL = BatchRules(sample=100.0)
# Long enough for requests to have found company.
SOON = 2.0 + 2 * LOOK


class ShadowStory(Story):
    """One container with one place. Every request is compared, unless ``draws`` say otherwise."""

    def __init__(
        self, rules: BatchRules = ALL, *, draws: list[float] | None = None, **options: Any
    ) -> None:
        super().__init__(Setup(concurrency=1, batching=rules, **options), proved=False)
        slots = self.deployment.slots
        batcher = slots.batcher
        assert batcher is not None
        slots.batcher = None
        numbers = itertools.cycle(draws or [0.0])
        self.shadow = Shadow(batcher, slots, lambda: next(numbers))
        self.deployment.shadow = self.shadow

    def results(self) -> dict[str, int]:
        """How often each result was found, if it was found."""
        return {result: n for result, n in self.shadow.tally.results.items() if n}

    def score(self, *rows: Any, by: Callable[[Any], Any] = sum) -> None:
        """Requests of one row each, one after the other, answered by what ``by`` makes of it."""
        for row in rows:
            self.tell({"data": [row]}, [by(row)])

    def tell(self, body: Any, answer: Any, head: str = GOOD, **options: Any) -> None:
        """A request, which the container gets as it is and answers so."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        asker = self.say(sent, **options)
        call = self.call()
        assert call.seen.body == sent
        call.answers(answer, head)
        wanted = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        assert asker.answer().body == wanted

    def merged(self, seconds: float = SOON) -> Call:
        """The call that is made for comparison within that time."""
        self.wait(seconds)
        return self.call()

    def is_quiet(self, seconds: float = SOON) -> bool:
        """Whether nothing is sent to the container in that time."""
        self.wait(seconds)
        return self.next_call() is None


def test_requests_are_sent_once_more_merged_and_compared() -> None:
    with ShadowStory() as story:
        story.score([1, 2], [3, 4], [5, 6])
        call = story.merged()
        assert call.rows == [[1, 2], [3, 4], [5, 6]]
        call.scores(sum)
        assert story.results() == {"agree": 3}
        assert story.family.confidence.state is State.ON
        assert (story.shadow.tally.calls, story.shadow.difference) == (1, None)
        assert story.is_quiet(100)


def test_no_request_is_merged_however_many_wait() -> None:
    with ShadowStory() as story:
        story.occupy()
        askers = [story.ask(number) for number in range(4)]
        story.release()
        for number, asker in enumerate(askers):
            call = story.call()
            assert call.rows == [[number]]
            call.scores(sum)
            assert asker.hears() == f"[{number}]"
        tally = story.batcher.tally
        assert sum(tally.flushes.values()) == sum(tally.proofs.values()) == tally.fallbacks == 0


def test_as_many_as_a_proof_needs_go_at_once() -> None:
    with ShadowStory() as story:
        story.score(*([number] for number in range(PROOF + 1)))
        call = story.merged(2 * LOOK)
        assert call.rows == [[number] for number in range(PROOF)]
        call.scores(sum)
        assert story.is_quiet(KEPT)
        assert story.results() == {"agree": PROOF, "dropped": 1}


def test_the_first_ones_wait_for_company() -> None:
    with ShadowStory() as story:
        story.score([1])
        assert story.is_quiet(1.0)
        story.score([2])
        assert story.is_quiet(0.9)
        assert story.merged(0.2).rows == [[1], [2]]


def test_who_finds_no_company_is_forgotten() -> None:
    with ShadowStory() as story:
        story.score([1])
        assert story.is_quiet(KEPT - 1)
        assert story.results() == {}
        assert story.is_quiet(1 + 2 * LOOK)
        assert story.results() == {"dropped": 1}
        story.score([2])
        assert story.is_quiet()


def test_only_the_sampled_share_is_compared() -> None:
    rules = replace(ALL, sample=25.0)
    with ShadowStory(rules, draws=[0.24, 0.25, 0.9, 0.0]) as story:
        story.score([1], [2], [3], [4])
        assert story.merged().rows == [[1], [4]]


# What different answers show.


def score_less_mean(call: Call) -> None:
    numbers = [sum(row) for row in call.rows]
    call.answers([number - sum(numbers) / len(numbers) for number in numbers])


def test_answers_that_depend_on_the_other_rows_are_found(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), ShadowStory() as story:
        for _ in range(2):
            story.score([1], [2], [3], by=lambda row: 0.0)
            score_less_mean(story.merged())
            confidence = story.family.confidence
            assert (confidence.state, confidence.reason) == (State.OFF, DEPENDENT)
            story.wait(60)  # until it is tried again
        assert story.results() == {"differ": 4, "agree": 2}
        assert story.shadow.difference == Difference("$[0]", "0.0", "-1.0")
        # Said once, and nothing that was answered is said.
        (record,) = caplog.records
        assert record.getMessage() == (
            "blue: merged requests would get other answers: batching must stay off "
            "(answers depend on the other rows)"
        )


def test_a_kind_that_is_known_to_be_wrong_is_left_alone_for_a_while() -> None:
    with ShadowStory() as story:
        story.score([1], [2], *([number] for number in range(3, 12)))
        call = story.merged(2 * LOOK)
        call.answers([0] * PROOF)
        assert story.results() == {"differ": PROOF, "dropped": 3}, "the others of it are forgotten"
        story.score([1], [2])
        assert story.is_quiet()
        assert story.results() == {"differ": PROOF, "dropped": 5}
        story.wait(10)
        story.score([1], [2])
        story.merged().scores(sum)
        assert story.results() == {"differ": PROOF, "dropped": 5, "agree": 2}
        assert story.family.confidence.state is State.ON
        assert story.shadow.difference == Difference("$[0]", "1", "0")


@pytest.mark.parametrize(
    ("alone", "merged", "tolerance", "differ"),
    [
        (b"[0.1]", b"[0.1, 0.1]", 0.0, 0),
        (b"[0.1]", b"[0.10000000001, 0.1]", 1e-6, 0),
        (b"[0.1]", b"[0.10000000001, 0.1]", 0.0, 1),
        (b"[0.1]", b"[0.1001, 0.1]", 1e-6, 1),
        (b"[1]", b"[1.0, 1]", 1e-6, 1),
        (b"[NaN]", b"[NaN, NaN]", 0.0, 0),
    ],
)
def test_the_tolerance_is_that_of_the_deployment(
    alone: bytes, merged: bytes, tolerance: float, differ: int
) -> None:
    with ShadowStory(replace(ALL, tolerance=tolerance)) as story:
        for row in (1, 2):
            story.tell({"data": [[row]]}, alone)
        story.merged().answers(merged)
        found = {"agree": 2 - differ, "differ": differ}
        assert story.results() == {result: n for result, n in found.items() if n}


@pytest.mark.parametrize(
    ("alone", "merged", "shown"),
    [
        ('[{"score": 1.5}]', '[{"score": 2.5}, 0]', Difference("$[0].score", "1.5", "2.5")),
        ("[NaN]", "[-Infinity, 0]", Difference("$[0]", "NaN", "-Infinity")),
        ("[[1]]", "[[1, 2], 0]", Difference("$[0]", "list of 1", "list of 2")),
        ('["a secret"]', "[1, 0]", Difference("$[0]", "(not shown)", "1")),
        ('["17"]', '["18", 0]', Difference("$[0]", "(not shown)", "(not shown)")),
        ("[true]", "[null, 0]", Difference("$[0]", "(not shown)", "(not shown)")),
        (
            '[{"a b": {"c": 1}}]', '[{"a b": {"c": 2}}, 0]', Difference("$[0][...]", "1", "2"),
        ),
        (
            '[{"a": 1}]', '[{"b": 1}, 0]', Difference("$[0]", "(not shown)", "(not shown)"),
        ),
    ],
)  # fmt: skip
def test_a_difference_shows_where_it_is_but_no_text(
    alone: str, merged: str, shown: Difference
) -> None:
    with ShadowStory() as story:
        for row in (1, 2):
            story.tell({"data": [[row]]}, alone.encode())
        story.merged().answers(merged.encode())
        assert story.shadow.difference == shown


def test_a_byte_that_differs_is_not_shown() -> None:
    with ShadowStory(replace(ALL, tolerance=0.0)) as story:
        for row in (1, 2):
            story.tell({"data": [[row]]}, b"[1.0]")
        story.merged().answers(b"[1.00, 1.0]")
        assert story.shadow.difference == Difference("byte 4", "(not shown)", "(not shown)")


def test_what_is_no_json_is_not_shown_though_it_looks_like_a_number() -> None:
    with ShadowStory() as story:
        for row in (1, 2):
            story.tell({"data": [[row]]}, b"0017")
        story.merged().answers([1, 2])
        assert story.shadow.difference == Difference("byte 0", "(not shown)", "(not shown)")


def test_after_a_long_good_time_the_first_pause_is_short_again() -> None:
    with ShadowStory() as story:

        def compare(by: Callable[[Any], Any]) -> float:
            """For how many seconds it is left alone then."""
            story.score([1], [2])
            story.merged().scores(by)
            return story.family.confidence.until - story.clock()

        assert compare(lambda row: 0) == pytest.approx(10)
        story.wait(11)
        assert compare(lambda row: 0) == pytest.approx(20)
        story.wait(21)
        compare(sum)
        story.wait(61)
        compare(sum)
        assert compare(lambda row: 0) == pytest.approx(10)


def test_what_calls_take_is_learned_for_the_time_when_requests_are_merged() -> None:
    with ShadowStory() as story:
        before = story.batcher.cap
        story.score(*([number] for number in range(PROOF)))
        call = story.merged(2 * LOOK)
        story.wait(0.4)
        call.scores(sum)
        assert story.batcher.cap < before


def test_two_are_compared_however_long_a_call_takes() -> None:
    with ShadowStory(replace(ALL, latency_target=0.001)) as story:
        for _ in range(4):
            story.score([1], [2], [3])
            call = story.merged()
            story.wait(0.5)
            call.scores(sum)
            story.wait(KEPT)
        assert story.batcher.cap < 3
        assert call.rows == [[1], [2]]


def test_a_call_that_is_too_large_makes_the_next_one_smaller() -> None:
    with ShadowStory() as story:
        before = story.batcher.cap
        story.score(*([number] for number in range(PROOF)))
        story.merged(2 * LOOK).answers({"message": "too large"}, "HTTP/1.1 413 Too Large\r\n")
        assert story.batcher.cap < before
        assert story.results() == {"incomparable": PROOF}


# What says nothing.


@pytest.mark.parametrize(
    ("alone", "answer", "head", "reason"),
    [
        ([7], [7], GOOD, NOBODY_GUILTY),
        ("no list", "no list", GOOD, NOT_SPLITTABLE),
        ([7], {"message": "bad row"}, FAILED, NOBODY_GUILTY),
        ([7], {"message": "bad row"}, BAD_INPUT, NOBODY_GUILTY),
    ],
    ids=["another length", "never a list", "it fails", "it is refused"],
)
def test_what_cannot_be_split_would_not_be_merged(
    alone: Any, answer: Any, head: str, reason: str
) -> None:
    with ShadowStory() as story:
        for row in (1, 2, 3):
            story.tell({"data": [[row]]}, alone)
        story.merged().answers(answer, head)
        assert story.results() == {"incomparable": 3}
        confidence = story.family.confidence
        assert (confidence.state, confidence.reason) == (State.OFF, reason)
        assert story.shadow.difference is None


@pytest.mark.parametrize("status", [413, 429, 502, 503, 504])
def test_a_refusal_that_is_about_no_row_proves_nothing(status: int) -> None:
    with ShadowStory() as story:
        story.score([1], [2])
        story.merged().answers({"message": "busy"}, f"HTTP/1.1 {status} Busy\r\n")
        assert story.results() == {"incomparable": 2}
        confidence = story.family.confidence
        assert (confidence.state, confidence.proof_under_way) == (State.PROVING, False)


def test_a_connection_that_breaks_proves_nothing() -> None:
    with ShadowStory() as story:
        story.score([1], [2])
        story.merged().container.breaks()
        assert story.results() == {"incomparable": 2}
        assert story.family.confidence.state is State.PROVING
        story.score([1], [2])
        story.merged().scores(sum)
        assert story.results() == {"incomparable": 2, "agree": 2}


def test_a_container_that_cannot_be_reached_any_more_proves_nothing() -> None:
    with ShadowStory() as story:
        story.score([1], [2])
        story.containers[0].ends()
        story.down.add(5001)
        assert story.is_quiet()
        assert story.results() == {"incomparable": 2}
        assert story.deployment.slots.busy == 0


@pytest.mark.parametrize(
    ("body", "answer", "head"),
    [
        ({"data": "no list"}, [1], GOOD),
        ({"rows": [[1]]}, [1], GOOD),
        ({"data": [[1]]}, {"message": "bad"}, BAD_INPUT),
        ({"data": [[1]]}, "x" * LARGEST_ANSWER, GOOD),
        ({"data": [["x" * LARGEST_REQUEST]]}, [1], GOOD),
    ],
    ids=["no rows", "another member", "an error", "a large answer", "a large request"],
)
def test_what_would_not_be_compared_is_not_kept(body: Any, answer: Any, head: str) -> None:
    with ShadowStory() as story:
        for _ in range(3):
            story.tell(body, answer, head)
        assert story.is_quiet()
        assert story.results() == {"ineligible": 3}


# Who may share a call.


def test_requests_that_would_not_be_merged_are_not_merged_here() -> None:
    with ShadowStory() as story:
        for row in ([1], [1.5], ["a"], [1, 2]):
            story.tell({"data": [row]}, [0])
        story.tell({"data": [[1]], "more": 2}, [1])
        story.tell({"data": [[1]]}, [1], headers={"X-Model": "other"})
        assert story.is_quiet()


@pytest.mark.parametrize("apart", [False, True])
def test_principals_are_kept_apart_if_they_are_to_be(apart: bool) -> None:
    with ShadowStory(replace(ALL, isolate_principals=apart)) as story:
        story.score([1])
        story.tell({"data": [[2]]}, [2], key=SECOND_KEY)
        if apart:
            assert story.is_quiet()
            story.score([3])
            assert story.merged().rows == [[1], [3]]
        else:
            assert story.merged().rows == [[1], [2]]


def test_different_rows_go_first() -> None:
    with ShadowStory() as story:
        story.score(*[[1]] * PROOF, [2], [3])
        rows = story.merged().rows
        assert rows[:3] == [[1], [2], [3]]
        assert rows[3:] == [[1]] * (PROOF - 3)


def test_equal_rows_are_compared_only_if_no_others_come() -> None:
    with ShadowStory() as story:
        story.score(*[[1]] * PROOF)
        assert story.is_quiet(KEPT / 2 - 1)
        call = story.merged(1 + 2 * LOOK)
        assert call.rows == [[1]] * PROOF
        call.scores(sum)
        assert story.family.only == b"[1]"
        story.score([1], [2])
        story.merged().scores(sum)
        family = story.family
        assert family.only is None
        story.score(*[[1]] * PROOF)
        story.merged(KEPT / 2 + LOOK).scores(sum)
        assert family.only is None, "what different rows have shown is not forgotten"


@pytest.mark.parametrize(
    ("rules", "rows"),
    [
        (replace(ALL, max_rows=5), [[1], [2], [3], [4], [5]]),
        (replace(ALL, max_bytes=16), [[1], [2], [3], [4]]),
    ],
)
def test_a_call_is_no_larger_than_a_merged_one_may_be(rules: BatchRules, rows: Any) -> None:
    with ShadowStory(rules) as story:
        story.score(*([number] for number in range(1, 8)))
        assert story.merged().rows == rows


def test_no_more_answers_are_compared_at_once_than_take_a_moment() -> None:
    with ShadowStory() as story:
        for row in range(PROOF):
            story.tell({"data": [[row]]}, ["x" * (COMPARED // 3)])
        assert story.merged().rows == [[0], [1]]


def test_rows_are_not_as_many_as_an_array_beside_them() -> None:
    with ShadowStory() as story:
        for row in (1, 2, 3):
            story.tell({"data": [[row]], "names": ["a", "b", "c"]}, [row])
        assert story.merged().rows == [[1], [2]]


# At nobody's cost.


def test_nothing_is_sent_while_no_place_is_free() -> None:
    with ShadowStory() as story:
        story.score([1], [2])
        story.occupy()
        assert story.is_quiet(10)
        story.release()
        assert story.merged(2 * LOOK).rows == [[1], [2]]


def test_nothing_is_sent_while_somebody_waits() -> None:
    with ShadowStory(max_wait=30.0) as story:
        story.score([1], [2])
        story.occupy()
        waiting = story.ask(5)
        # A place that is free while somebody waits: nothing but this code could take it.
        story.pool.busy -= 1
        assert story.is_quiet(10)
        story.pool.busy += 1
        story.release()
        story.call().scores(sum)
        assert waiting.hears() == "[5]"


def test_a_request_that_comes_meanwhile_is_served_as_soon_as_the_answer_is_there() -> None:
    with ShadowStory() as story:
        story.score([1], [2])
        call = story.merged()
        asker = story.ask(3)
        assert asker.hears_nothing()
        call.scores(sum)
        story.call().scores(sum)
        assert asker.hears() == "[3]"


def test_after_a_call_there_is_a_rest_for_its_length() -> None:
    with ShadowStory() as story:
        story.score([1], [2])
        call = story.merged()
        assert story.shadow._trial is not None
        story.wait(story.shadow._trial.began + 0.5 - story.clock())
        call.scores(sum)
        story.score(*([number] for number in range(PROOF)))
        assert story.is_quiet(0.5 * REST - 2 * LOOK)
        assert len(story.merged(4 * LOOK).rows) == PROOF


def test_there_is_one_call_at_a_time() -> None:
    with ShadowStory(limit=4) as story:
        story.deployment.slots._places.concurrency = 3
        story.score([1], [2])
        story.merged().scores(sum)  # as long as there is no proof, there is one for that reason
        story.wait(SOON * REST)
        story.score(*([number] for number in range(2 * PROOF)))
        call = story.merged()
        assert story.is_quiet(5)
        assert len(call.rows) == PROOF


@pytest.mark.parametrize("timeout", [2.0, 60.0])
def test_a_call_that_takes_too_long_is_given_up(timeout: float) -> None:
    with ShadowStory(timeout=timeout) as story:
        story.score([1], [2])
        call = story.merged()
        story.wait(min(timeout, LONGEST) - 3 * LOOK)
        assert call.container.fate == "open"
        story.wait(4 * LOOK)
        assert call.container.fate == "aborted"
        assert story.results() == {"incomparable": 2}
        assert story.deployment.slots.busy == 0


def test_what_is_kept_is_bounded() -> None:
    with ShadowStory(connections=1000) as story:
        story.score(*([number] for number in range(MOST)), by=lambda row: 0)
        assert story.results() == {}
        story.score([0])
        assert story.results() == {"dropped": 1}
        wide = "x" * (LARGEST_REQUEST - 100)
        for number in range(MOST):
            story.tell({"data": [[number, wide]]}, [0])
        kept = story.shadow._samples
        assert sum(sample.size for sample in kept) <= 4 << 20
        assert story.results() == {"dropped": 2 * MOST + 1 - len(kept)}
        assert len(kept) == 32
        assert kept[-1].rows.inner.startswith(b"[63,")


# The end, and trouble.


def test_at_the_end_everything_is_given_up() -> None:
    with ShadowStory() as story:
        story.score(*([number] for number in range(PROOF + 1)))
        call = story.merged()
        timer = story.shadow._timer
        assert timer is not None
        story.loop.perform(story.deployment.close)
        assert timer.cancelled()
        assert call.container.fate == "aborted"
        assert story.results() == {"dropped": 1, "incomparable": PROOF}
        story.score([1], [2])
        assert (story.shadow._samples, story.shadow._timer) == ([], None)
        assert sum(story.results().values()) == PROOF + 1


def test_a_call_can_be_given_up_before_it_has_a_connection() -> None:
    with ShadowStory() as story:
        story.score([1], [2])
        story.containers[0].ends()
        story.silent.add(5001)
        assert story.is_quiet()
        assert story.deployment.slots.busy == 1
        story.loop.perform(story.deployment.close)
        assert story.deployment.slots.busy == 0
        assert story.results() == {"incomparable": 2}


def test_no_mishap_of_its_own_reaches_a_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with ShadowStory() as story:
        with monkeypatch.context() as patch:
            patch.setattr("gateway.engine.shadowing.Sample", fail)
            story.score([1])
        story.score([1], [2])
        with monkeypatch.context() as patch:
            patch.setattr("gateway.engine.shadowing.compare", fail)
            story.merged().scores(sum)
        assert story.results() == {"incomparable": 2}
        story.score([1], [2])
        with monkeypatch.context() as patch:
            patch.setattr("gateway.engine.shadowing.merged_head", fail)
            assert story.is_quiet()
        assert story.results() == {"incomparable": 4}
        assert story.deployment.slots.busy == 0
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "blue: a request could not be kept for comparison",
        "blue: answers could not be compared",
        "a call of blue for comparison failed",
    ]


def test_they_show_what_they_are_about() -> None:
    with ShadowStory() as story:
        assert repr(story.shadow) == "<Shadow of blue, 0 samples, None>"
        story.score([1], [2])
        story.merged()
        assert repr(story.shadow) == "<Shadow of blue, 0 samples, <Trial of 2 requests>>"


STEPS = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 3)),
    st.tuples(st.just("answer"), st.sampled_from(["sum", "wrong", "error", "break"])),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 2.2, 20.0])),
)


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(STEPS, max_size=25))
def test_whatever_happens_every_sample_is_counted_once(steps: list[tuple[str, Any]]) -> None:
    """And every client hears what the container said to its own request."""
    with ShadowStory() as story:
        samples = 0
        call: Call | None = None
        for step, what in steps:
            if step == "wait":
                story.wait(what)
                call = story.next_call() or call
            elif step == "ask" and story.deployment.slots.busy == 0:
                story.score([what])
                samples += 1
            elif step == "answer" and call is not None and call.container.fate == "open":
                play(call, what)
                call = None
        shadow = story.shadow
        kept: list[Sample] = [*shadow._samples, *(shadow._trial.group if shadow._trial else [])]
        assert sum(shadow.tally.results.values()) + len(kept) == samples
        assert len(set(map(id, kept))) == len(kept)


def play(call: Call, how: str) -> None:
    if how == "sum":
        call.scores(sum)
    elif how == "wrong":
        call.scores(lambda row: sum(row) + 1)
    elif how == "error":
        call.answers({"message": "no"}, FAILED)
    else:
        call.container.breaks()


def test_an_asker_that_leaves_is_not_missed() -> None:
    with ShadowStory() as story:
        askers: list[Asker] = [story.ask(1)]
        call = story.call()
        askers[0].leaves()
        assert call.container.fate == "aborted"
        assert story.is_quiet()
        assert story.results() == {}
