"""Nothing is merged on trust: what a model answers merged is first compared to what it says alone.

During a proof everybody gets what it was told alone, so even a model that must not be merged has
answered nobody wrongly.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.core import confidence
from gateway.core.confidence import DEPENDENT, INCONCLUSIVE, NOBODY_GUILTY, NOT_SPLITTABLE, State
from gateway.engine import basins
from gateway.engine.batching import FAMILIES, PROOF, BatchRules, Family
from tests.support.batches import BOTH, BUSY, FAILED, GOOD, Asker, Call, Story, merging
from tests.support.script import Setup

Model = Callable[[list[Any]], Any]


def each(rows: list[Any]) -> Any:
    """A model as it should be."""
    return [row[0] for row in rows]


def mean(rows: list[Any]) -> Any:
    """A model that answers by all rows together."""
    return [sum(row[0] for row in rows) / len(rows)] * len(rows)


def count(rows: list[Any]) -> Any:
    return len(rows)


def two_lists(rows: list[Any]) -> Any:
    return {"a": each(rows), "b": each(rows)}


def waiting(story: Story, *rows: Any, **options: Any) -> list[Asker]:
    """Some wait for a place, which gets free."""
    story.occupy()
    askers = [story.ask(row, **options) for row in rows]
    story.release()
    return askers


def run(story: Story, model: Model) -> list[int]:
    """Be that model until nothing more is asked. How many rows each call had."""
    sizes = []
    while (call := story.next_call()) is not None:
        sizes.append(len(call.rows))
        call.answers(model(call.rows))
    return sizes


def proofs(story: Story) -> dict[str, int]:
    return {name: number for name, number in story.batcher.tally.proofs.items() if number}


def test_a_sound_model_is_proved_by_the_first_who_wait_together() -> None:
    with Story(proved=False) as story:
        askers = waiting(story, 1, 2, 3)
        assert run(story, each) == [3, 1, 1, 1]
        assert [asker.hears() for asker in askers] == ["[1]", "[2]", "[3]"]
        assert (story.state, proofs(story)) == (State.ON, {"proved": 1})
        assert story.batcher.tally.extra_calls == 3
        askers = waiting(story, 4, 5, 6)
        assert run(story, each) == [3]
        assert [asker.hears() for asker in askers] == ["[4]", "[5]", "[6]"]


def test_a_proof_takes_no_more_than_a_few() -> None:
    with Story(proved=False) as story:
        askers = waiting(story, *range(20))
        assert run(story, each) == [PROOF] + [1] * PROOF + [20 - PROOF]
        assert [asker.hears() for asker in askers] == [f"[{row}]" for row in range(20)]


def test_single_calls_of_a_proof_are_made_by_the_original_bytes() -> None:
    with Story(proved=False) as story:
        bodies = [b' {"data":[[1.50]]}', b'{"data" : [[2e0]]}\n']
        story.occupy()
        askers = [story.say(body, headers={"User-Agent": "me"}) for body in bodies]
        story.release()
        call = story.call()
        assert call.rows == [[1.5], [2.0]]
        assert call.seen.header("user-agent") is None
        call.answers(each(call.rows))
        for body in bodies:
            call = story.call()
            assert call.body == body
            assert call.seen.header("user-agent") == "me"
            call.answers(each(call.rows))
        assert [asker.hears() for asker in askers] == ["[1.5]", "[2.0]"]


@pytest.mark.parametrize(
    ("model", "reason", "alone"),
    [
        (mean, DEPENDENT, ["[1.0]", "[5.0]"]),
        (two_lists, NOT_SPLITTABLE, ['{"a": [1], "b": [1]}', '{"a": [5], "b": [5]}']),
        (count, NOT_SPLITTABLE, ["1", "1"]),
        (lambda rows: each(rows) if len(rows) < 2 else "no", NOBODY_GUILTY, ["[1]", "[5]"]),
        (lambda rows: [*each(rows), 9], NOT_SPLITTABLE, ["[1, 9]", "[5, 9]"]),
        (lambda rows: each(rows)[:1], NOBODY_GUILTY, ["[1]", "[5]"]),
        (lambda rows: each(rows)[::-1], DEPENDENT, ["[1]", "[5]"]),
    ],
    ids=["mean", "two lists", "count", "only alone", "one more", "one only", "reversed"],
)
def test_an_unsound_model_is_found_out_and_has_harmed_nobody(
    model: Model, reason: str, alone: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with Story(proved=False) as story:
        askers = waiting(story, 1, 5)
        assert run(story, model) == [2, 1, 1]
        assert [asker.hears() for asker in askers] == alone
        assert (story.state, proofs(story)) == (State.OFF, {"disproved": 1})
        assert story.family.confidence.reason == reason
        assert story.batcher.tally.fallbacks == 1
        assert f"blue: requests are not merged for 10 s: {reason}" in caplog.text
        askers = waiting(story, 1, 5)
        assert run(story, model) == [1, 1], "nothing is merged any more"
        assert [asker.hears() for asker in askers] == alone


def test_after_a_while_it_is_tried_again_and_each_time_later() -> None:
    with Story(proved=False) as story:
        for pause in (10, 20, 40, 80, 160, 320, 600, 600):
            askers = waiting(story, 1, 5)
            assert run(story, mean) == [2, 1, 1]
            assert [asker.hears() for asker in askers] == ["[1.0]", "[5.0]"]
            story.wait(pause - 0.1)
            askers = waiting(story, 1, 5)
            assert run(story, mean) == [1, 1]
            assert [asker.hears() for asker in askers] == ["[1.0]", "[5.0]"]
            story.wait(0.2)
        askers = waiting(story, 1, 5)
        assert run(story, each) == [2, 1, 1], "the model was replaced by a sound one"
        assert [asker.hears() for asker in askers] == ["[1]", "[5]"]
        assert story.state is State.ON
        waiting(story, 1, 5)
        assert run(story, each) == [2]


def test_while_it_is_off_nothing_waits_for_company() -> None:
    with Story(merging(max_queue_delay=1.0), proved=False) as story:
        story.occupy()
        askers = [story.ask(1), story.ask(5)]
        story.wait(1)
        story.release()
        assert run(story, mean) == [2, 1, 1]
        asker = story.ask(1)
        assert run(story, mean) == [1]
        assert [a.hears() for a in (*askers, asker)] == ["[1.0]", "[5.0]", "[1.0]"]


def test_a_tolerance_is_for_floats_only() -> None:
    def near(rows: list[Any]) -> Any:
        return [row[0] + (1e-9 if len(rows) > 1 else 0.0) for row in rows]

    with Story(merging(tolerance=1e-6), proved=False) as story:
        waiting(story, 1, 2)
        assert run(story, near) == [2, 1, 1]
        assert story.state is State.ON
    with Story(merging(tolerance=0.0), proved=False) as story:
        waiting(story, 1, 2)
        assert run(story, near) == [2, 1, 1]
        assert story.state is State.OFF


# The same rows prove little.


def test_equal_rows_prove_only_for_rows_like_them() -> None:
    with Story(proved=False) as story:
        waiting(story, 5, 5, 5)
        assert run(story, mean) == [3, 1, 1, 1]
        assert story.state is State.ON
        assert story.family.only == b"[5]"
        waiting(story, 5, 5)
        assert run(story, mean) == [2], "for these the mean is as good as any"
        askers = waiting(story, 5, 6)
        assert run(story, mean) == [2, 1, 1], "another proof is due"
        assert [asker.hears() for asker in askers] == ["[5.0]", "[6.0]"]
        assert story.family.confidence.reason == DEPENDENT


def test_rows_that_differ_prove_for_all() -> None:
    with Story(proved=False) as story:
        waiting(story, 5, 5)
        run(story, each)
        askers = waiting(story, 5, *range(20))
        sizes = run(story, each)
        assert sizes == [PROOF] + [1] * PROOF + [21 - PROOF]
        assert [asker.hears() for asker in askers] == ["[5]", *(f"[{n}]" for n in range(20))]
        assert story.family.only is None
        waiting(story, 7, 8)
        assert run(story, each) == [2]


# Proofs that come to nothing.


def test_a_bad_row_makes_a_proof_inconclusive() -> None:
    with Story(proved=False) as story:
        askers = waiting(story, 1, 2)
        story.call().fails("merged")
        story.call().answers([1])
        story.call().fails("alone")
        assert askers[0].hears() == "[1]"
        answer = askers[1].answer()
        assert (answer.status, answer.text) == (502, '{"message": "alone"}')
        assert (story.state, proofs(story)) == (State.PROVING, {"inconclusive": 1})
        waiting(story, 3, 4)
        assert run(story, each) == [2, 1, 1]
        assert story.state is State.ON


@pytest.mark.parametrize("step", range(3))
def test_a_bad_row_whose_owner_has_left_is_left_out(step: int) -> None:
    with Story(proved=False) as story:
        askers = waiting(story, 1, 2, 3)
        bad = askers.pop()
        for number in range(3):
            if number == step:
                bad.leaves()
            call = story.call()
            if [3] in call.rows:
                call.fails()
            else:
                call.answers(each(call.rows))
        assert [asker.hears() for asker in askers] == ["[1]", "[2]"]
        assert run(story, each) == [2]
        assert (story.state, proofs(story)) == (State.ON, {"proved": 1})


def busy(call: Call) -> None:
    call.answers(b"busy", BUSY)


def too_slow(call: Call) -> None:
    call.answers(b"Scoring timeout after 60000 ms", FAILED)


def too_large(call: Call) -> None:
    call.answers(b"", "HTTP/1.1 413 Request Entity Too Large\r\n")


@pytest.mark.parametrize("trouble", [busy, too_slow, too_large])
def test_what_is_no_rows_fault_proves_nothing(trouble: Callable[[Call], None]) -> None:
    with Story(proved=False) as story:
        askers = waiting(story, 1, 2, 3, 4)
        trouble(story.call())
        assert run(story, each) == [1, 1, 1, 1]
        assert [asker.hears() for asker in askers] == ["[1]", "[2]", "[3]", "[4]"]
        assert (story.state, proofs(story)) == (State.PROVING, {"inconclusive": 1})
        assert (story.batcher.cap == 2) == (trouble is not busy)
        waiting(story, 1, 2)
        assert run(story, each) == [2, 1, 1]
        assert story.state is State.ON


@pytest.mark.parametrize("step", range(4))
def test_a_broken_connection_proves_nothing(step: int) -> None:
    with Story(proved=False) as story:
        askers = waiting(story, 1, 2, 3)
        for number in range(10):
            call = story.next_call()
            if call is None:
                break
            if number == step:
                call.breaks()
            else:
                call.answers(each(call.rows))
        answers = [asker.answer() for asker in askers]
        failed = [answer.status for answer in answers].count(502)
        assert failed == (3 if step == 0 else 1)
        for row, answer in enumerate(answers, 1):
            assert answer.status == 502 or answer.text == f"[{row}]"
        assert (story.state, proofs(story)) == (State.PROVING, {"inconclusive": 1})


@pytest.mark.parametrize("step", range(3))
def test_a_backend_that_goes_away_during_a_proof_is_left_for_the_other(step: int) -> None:
    setup = Setup(concurrency=1, max_wait=20, backends=BOTH, batching=BatchRules())
    with Story(setup, proved=False) as story:
        story.occupy()
        askers = [story.ask(row) for row in (1, 2, 3)]
        story.release()
        call = story.call()
        port = int((call.seen.header("host") or "").partition(":")[2])
        for _ in range(step):
            call.answers(each(call.rows))
            call = story.call()
        story.down.add(port)
        call.answers(each(call.rows), GOOD + "Connection: close\r\n")
        story.release()
        run(story, each)
        assert [asker.hears() for asker in askers] == ["[1]", "[2]", "[3]"]


def test_a_proof_that_finds_no_container_is_only_put_off() -> None:
    with Story(proved=False) as story:
        for _ in range(confidence.MAX_INCONCLUSIVE + 2):
            story.occupy()
            story.down.add(5001)
            askers = [story.ask(row) for row in (1, 2)]
            story.release(GOOD + "Connection: close\r\n")
            assert [asker.answer().status for asker in askers] == [503, 503]
            story.down.clear()
        assert (story.state, proofs(story)) == (State.PROVING, {})
        waiting(story, 1, 2)
        assert run(story, each) == [2, 1, 1]
        assert story.state is State.ON


def test_answers_too_large_to_hold_reach_everybody_from_a_proof_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(basins, "LARGEST", 1000)
    with Story(proved=False) as story:
        askers = waiting(story, 1, 2, 3)
        while (call := story.next_call()) is not None:
            body = json.dumps(["x" * 2000 if row == [2] else "y" for row in call.rows]).encode()
            call.container.says((GOOD + "Transfer-Encoding: chunked\r\n\r\n").encode())
            call.container.says(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert [asker.hears() for asker in askers] == ['["y"]', json.dumps(["x" * 2000]), '["y"]']
        assert (story.state, proofs(story)) == (State.PROVING, {"inconclusive": 1})


def test_when_proofs_come_to_nothing_again_and_again_they_pause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Story(proved=False) as story:
        for _ in range(confidence.MAX_INCONCLUSIVE):
            waiting(story, 1, 2)
            assert story.state is State.PROVING
            story.call().fails("merged")
            story.call().answers([1])
            story.call().fails("alone")
        assert (story.state, story.family.confidence.reason) == (State.OFF, INCONCLUSIVE)
        assert story.batcher.tally.fallbacks == 1, "which is shown like any other fallback"
        assert f"not merged for 10 s: {INCONCLUSIVE}" in caplog.text
        story.wait(10.1)
        waiting(story, 1, 2)
        assert run(story, each) == [2, 1, 1]
        assert story.state is State.ON


# One at a time.


def test_while_a_proof_is_under_way_others_go_alone() -> None:
    setup = Setup(concurrency=2, max_wait=20, batching=BatchRules())
    with Story(setup, proved=False) as story:
        story.occupy()
        askers = [story.ask(1), story.ask(2)]
        story.release()
        proof = story.call()
        assert len(proof.rows) == 2
        late = [story.ask(row) for row in (3, 4)]
        story.release()
        for row in (3, 4):
            call = story.call()
            assert call.rows == [[row]]
            call.answers([row])
        proof.answers([1, 2])
        assert run(story, each) == [1, 1]
        assert [asker.hears() for asker in (*askers, *late)] == ["[1]", "[2]", "[3]", "[4]"]
        assert (story.state, proofs(story)) == (State.ON, {"proved": 1})


# Families.


def families(story: Story) -> Iterator[Family]:
    yield from story.batcher.families


def test_what_one_family_does_is_of_no_account_for_others() -> None:
    ways: list[dict[str, Any]] = [
        {},
        {"path": "/api/v1/service/diabetes/score?verbose=true"},
        {"headers": {"Accept": "text/plain"}},
        {"headers": {"Content-Type": "application/json; charset=utf-8"}},
    ]
    with Story(proved=False) as story:
        for number, way in enumerate(ways):
            model = mean if number % 2 else each
            story.occupy()
            askers = [story.ask(row, **way) for row in (1, 5)]
            story.release()
            assert run(story, model) == [2, 1, 1]
            assert all(asker.hears() for asker in askers)
        states = [family.confidence.state for family in families(story)]
        assert states == [State.OFF, State.ON, State.OFF, State.ON]
        for number, way in enumerate(ways):
            waiting(story, 1, 5, **way)
            assert run(story, each) == ([1, 1] if number % 2 else [2])


def test_other_members_make_another_family() -> None:
    with Story(proved=False) as story:
        texts = ['{"data": [[%d]]}', '{"data": [[%d]], "method": "predict"}']
        for text, model in zip(texts, (each, mean), strict=True):
            story.occupy()
            askers = [story.say((text % row).encode()) for row in (1, 5)]
            story.release()
            assert run(story, model) == [2, 1, 1]
            assert all(asker.hears() for asker in askers)
        states = {family.frame.suffix: family.confidence.state for family in families(story)}
        assert states == {b"]}": State.ON, b'], "method": "predict"}': State.OFF}


def test_families_are_forgotten_and_proved_anew() -> None:
    with Story(proved=False) as story:
        first = "/api/v1/service/diabetes/score"
        waiting(story, 1, 5)
        assert run(story, mean) == [2, 1, 1]
        for number in range(2 * FAMILIES + 5):
            asker = story.ask(1, path=f"{first}?n={number}")
            second = story.ask(2, path=f"{first}?n={number}")
            run(story, each)
            assert (asker.hears(), second.hears()) == ("[1]", "[2]")
            asker.side.ends()
            second.side.ends()
        assert FAMILIES <= len(list(families(story))) <= 2 * FAMILIES
        askers = waiting(story, 1, 5)
        assert run(story, mean) == [2, 1, 1], "forgotten, and so not believed"
        assert [asker.hears() for asker in askers] == ["[1.0]", "[5.0]"]


def test_in_a_proof_too_nobody_gets_more_than_its_own_cookies() -> None:
    with Story(proved=False) as story:
        askers = waiting(story, 1, 2)
        while (call := story.next_call()) is not None:
            cookie = f"Set-Cookie: of={json.dumps(call.rows)}\r\n"
            call.answers(each(call.rows), GOOD + cookie)
        assert [asker.answer().header("set-cookie") for asker in askers] == ["of=[[1]]", "of=[[2]]"]
        assert story.state is State.OFF, "what carries cookies is never cut"
