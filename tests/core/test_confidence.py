"""When the requests of one family are merged, and for how long not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.confidence import (
    DEPENDENT,
    EVERYBODY_GUILTY,
    INCONCLUSIVE,
    LONG_GOOD,
    MAX_INCONCLUSIVE,
    NOBODY_GUILTY,
    NOT_PROVED,
    NOT_SPLITTABLE,
    PROVED,
    Confidence,
    State,
)


def believed(now: float = 0.0) -> Confidence:
    """One that has been proved at that time."""
    confidence = Confidence()
    prove(confidence, now)
    return confidence


def state_of(confidence: Confidence) -> State:
    """Asked for anew each time, which mypy does not expect of an attribute."""
    return confidence.state


def prove(confidence: Confidence, now: float) -> None:
    assert confidence.admits(now)
    confidence.begin_proof()
    confidence.proved(now)
    assert state_of(confidence) is State.ON


def test_states_are_called_as_metrics_and_the_admin_api_call_them() -> None:
    assert [state.value for state in State] == ["proving", "on", "off"]


def test_one_proof_at_a_time_and_then_everybody() -> None:
    confidence = Confidence()
    assert state_of(confidence) is State.PROVING
    assert confidence.reason == NOT_PROVED
    assert confidence.admits(0.0)
    confidence.begin_proof()
    assert not confidence.admits(0.0)
    confidence.proved(1.0)
    assert state_of(confidence) is State.ON
    assert confidence.reason == PROVED
    assert confidence.admits(1.0)
    assert (confidence.changes, confidence.fallbacks) == (1, 0)


def test_what_is_disproved_is_tried_again_after_a_while() -> None:
    confidence = Confidence()
    confidence.begin_proof()
    confidence.disproved(5.0, DEPENDENT)
    assert state_of(confidence) is State.OFF
    assert (confidence.reason, confidence.until) == (DEPENDENT, 15.0)
    assert not confidence.admits(14.9)
    assert confidence.admits(15.0)
    assert state_of(confidence) is State.PROVING
    assert confidence.reason == DEPENDENT
    assert (confidence.changes, confidence.fallbacks) == (2, 1)
    prove(confidence, 16.0)


def test_each_failure_lasts_twice_as_long_as_the_one_before() -> None:
    confidence = Confidence(base=10.0, longest=100.0)
    now = 0.0
    pauses = []
    for _ in range(6):
        assert confidence.admits(now)
        confidence.begin_proof()
        confidence.disproved(now, NOT_SPLITTABLE)
        pauses.append(confidence.until - now)
        now = confidence.until
    assert pauses == [10.0, 20.0, 40.0, 80.0, 100.0, 100.0]


@pytest.mark.parametrize(
    ("last_good", "pause"),
    [
        pytest.param(None, 20.0, id="no good answer"),
        pytest.param(LONG_GOOD - 0.1, 20.0, id="not for long"),
        pytest.param(LONG_GOOD, 10.0, id="for long"),
    ],
)
def test_a_long_good_time_makes_failures_forgotten(last_good: float | None, pause: float) -> None:
    confidence = Confidence()
    confidence.begin_proof()
    confidence.disproved(0.0, DEPENDENT)
    prove(confidence, 100.0)
    if last_good is not None:
        confidence.good(100.0 + last_good)
    confidence.disproved(1000.0, DEPENDENT)
    assert confidence.until == 1000.0 + pause


def test_a_good_time_counts_once() -> None:
    confidence = believed(0.0)
    confidence.good(2.0 * LONG_GOOD)
    confidence.disproved(200.0, DEPENDENT)
    assert confidence.until == 210.0
    assert confidence.admits(210.0)
    confidence.begin_proof()
    confidence.disproved(210.0, DEPENDENT)
    assert confidence.until == 230.0


def test_a_doubt_asks_for_another_proof_without_prejudice() -> None:
    confidence = believed(0.0)
    confidence.doubt()
    assert state_of(confidence) is State.PROVING
    assert (confidence.reason, confidence.fallbacks) == (NOT_PROVED, 0)
    prove(confidence, 30.0)
    # The good time goes on.
    confidence.good(LONG_GOOD)
    for now, until in ((100.0, 110.0), (110.0, 130.0)):
        assert confidence.admits(now)
        confidence.disproved(now, DEPENDENT)
        assert confidence.until == until
    confidence.doubt()
    assert state_of(confidence) is State.OFF


def test_three_strikes_in_a_row_take_the_permission_away() -> None:
    confidence = believed()
    for _ in range(10):
        confidence.strike(1.0, NOBODY_GUILTY)
        confidence.strike(1.0, NOBODY_GUILTY)
        assert confidence.strikes == 2
        confidence.good(1.0)
        assert confidence.strikes == 0
    for _ in range(3):
        assert confidence.admits(2.0)
        confidence.strike(2.0, EVERYBODY_GUILTY)
    assert state_of(confidence) is State.OFF
    assert (confidence.reason, confidence.until) == (EVERYBODY_GUILTY, 12.0)
    assert not confidence.admits(2.0)


def test_the_number_of_strikes_is_a_setting() -> None:
    confidence = Confidence(base=1.0, strikes=1)
    prove(confidence, 0.0)
    confidence.strike(0.0, NOBODY_GUILTY)
    assert (confidence.state, confidence.until) == (State.OFF, 1.0)


def test_one_failure_is_counted_once_however_many_calls_were_under_way() -> None:
    confidence = believed()
    for now in (1.0, 1.1, 1.2):
        confidence.disproved(now, DEPENDENT)
        confidence.strike(now, NOBODY_GUILTY)
        confidence.good(now)
    assert (confidence.fallbacks, confidence.until) == (1, 11.0)
    assert (confidence.reason, confidence.strikes) == (DEPENDENT, 0)
    assert confidence.admits(11.0)


def test_a_proof_without_conclusion_is_made_again() -> None:
    confidence = Confidence()
    for now in range(MAX_INCONCLUSIVE - 1):
        assert confidence.admits(float(now))
        confidence.begin_proof()
        confidence.abandon_proof(float(now))
    assert (confidence.state, confidence.changes) == (State.PROVING, 0)
    prove(confidence, 10.0)


def test_proofs_that_never_come_to_one_do_not_burden_everybody() -> None:
    confidence = Confidence()
    now = 0.0
    proofs = 0
    while now < 100.0:
        if confidence.admits(now):
            confidence.begin_proof()
            confidence.abandon_proof(now)
            proofs += 1
        now += 0.125
    # Without prejudice: the pauses do not grow.
    assert confidence.reason == INCONCLUSIVE
    assert 9 * MAX_INCONCLUSIVE <= proofs <= 10 * MAX_INCONCLUSIVE


def test_a_proof_that_found_no_container_does_not_count() -> None:
    confidence = Confidence()
    for _ in range(10 * MAX_INCONCLUSIVE):
        assert confidence.admits(0.0)
        confidence.begin_proof()
        confidence.postpone_proof()
    assert confidence.changes == 0


def test_what_comes_after_the_end_of_a_proof_changes_nothing() -> None:
    confidence = Confidence()
    confidence.begin_proof()
    confidence.disproved(0.0, DEPENDENT)
    confidence.proved(1.0)
    confidence.abandon_proof(1.0)
    assert (confidence.state, confidence.reason) == (State.OFF, DEPENDENT)
    assert confidence.changes == 1


def test_a_proof_that_is_not_due_is_a_mistake() -> None:
    confidence = Confidence()
    confidence.begin_proof()
    with pytest.raises(RuntimeError, match="proving"):
        confidence.begin_proof()
    confidence.proved(0.0)
    with pytest.raises(RuntimeError, match="on: merged and single answers agree"):
        confidence.begin_proof()


@given(seed=st.integers(0, 100_000))
def test_whatever_happens_the_rules_hold(seed: int) -> None:
    draw = random.Random(seed)
    confidence = Confidence(base=1.0, longest=8.0)
    now = 0.0
    for _ in range(200):
        now += draw.choice((0.0, 0.1, 1.0, 20.0))
        before = confidence.state
        changes = confidence.changes
        doubted = False
        match draw.randrange(8):
            case 0:
                admitted = confidence.admits(now)
                assert admitted is (
                    confidence.state is State.ON
                    or (confidence.state is State.PROVING and not confidence.proof_under_way)
                )
                if admitted and confidence.state is State.PROVING:
                    confidence.begin_proof()
            case 1:
                confidence.proved(now)
            case 2:
                if draw.random() < 0.5:
                    confidence.abandon_proof(now)
                else:
                    confidence.postpone_proof()
            case 3 if draw.random() < 0.2:
                confidence.disproved(now, DEPENDENT)
            case 4:
                confidence.strike(now, NOBODY_GUILTY)
            case 5 if draw.random() < 0.2:
                confidence.doubt()
                doubted = True
            case _:
                confidence.good(now)
        # Permission comes from a proof only, and a pause is not cut short.
        assert (before, confidence.state) != (State.OFF, State.ON)
        assert doubted or (before, confidence.state) != (State.ON, State.PROVING)
        assert confidence.changes - changes == (before is not confidence.state)
        assert not (confidence.proof_under_way and confidence.state is not State.PROVING)
        if confidence.state is State.OFF:
            assert confidence.until <= now + 8.0
        elif before is State.OFF:
            assert now >= confidence.until
        assert confidence.strikes < 3
    # It never gives up for good.
    assert confidence.state is not State.OFF or confidence.admits(now + 8.0)
