"""Whoever leaves takes nobody along: at any moment, in any number, by its own will or the clock's.

Four callers; every set of them leaves in every phase. The others get exactly their own answers,
those who left get nothing, and when all have left, the container is left in peace at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import pytest

from gateway.core.confidence import State
from gateway.core.faults import Fault
from gateway.engine.batching import BatchRules
from tests.support.batches import GOOD, PATH, Asker, Call, Story
from tests.support.fakes import FakeTransport
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import Setup

ROWS = (1, 2, 3, 4)
SETS = [leaving for size in (1, 2, 3, 4) for leaving in combinations(range(4), size)]
sets = pytest.mark.parametrize("leaving", SETS, ids=str)
Leaving = tuple[int, ...]


def score(row: list[int]) -> int:
    return 10 * row[0]


def leave(askers: list[Asker], leaving: Leaving) -> None:
    for at in leaving:
        askers[at].leaves()


def check(askers: list[Asker], leaving: Leaving) -> None:
    """Those who stayed have their own answers, those who left have nothing."""
    for at, asker in enumerate(askers):
        if at in leaving:
            assert asker.hears_nothing()
        else:
            assert asker.hears() == f"[{10 * ROWS[at]}]"


def staying(leaving: Leaving) -> list[list[int]]:
    return [[row] for at, row in enumerate(ROWS) if at not in leaving]


def is_at_rest(story: Story) -> bool:
    slots = story.deployment.slots
    return (slots.busy, slots.waiting) == (0, 0)


@sets
def test_from_the_queue(leaving: Leaving) -> None:
    with Story() as story:
        story.occupy()
        askers = [story.ask(row) for row in ROWS]
        leave(askers, leaving)
        assert story.deployment.slots.waiting == 4 - len(leaving)
        story.release()
        assert story.play(score) == [rows for rows in [staying(leaving)] if rows]
        check(askers, leaving)


@sets
@pytest.mark.parametrize("first", ["they leave", "the place is free"])
def test_in_the_turn_of_the_loop_in_which_the_batch_is_formed(leaving: Leaving, first: str) -> None:
    with Story() as story:
        story.occupy()
        askers = [story.ask(row) for row in ROWS]
        (occupant, call) = story._occupants.pop()
        head = (GOOD + "Content-Length: 1\r\n\r\n0").encode()

        def free() -> None:
            call.container.transport.deliver(head)

        def go() -> None:
            for at in leaving:
                askers[at].side.transport.deliver(ConnectionResetError("reset"))

        acts = [go, free] if first == "they leave" else [free, go]
        story.loop.perform(lambda: [act() for act in acts])
        assert occupant.hears() == "0"
        if len(leaving) == 4 and first == "the place is free":
            assert call.is_dropped
            assert call.container.hears().body, "it was on its way already"
            assert is_at_rest(story)
        elif len(leaving) < 4:
            expected = staying(leaving) if first == "they leave" else [[row] for row in ROWS]
            assert story.play(score) == [expected]
        check(askers, leaving)


@sets
def test_from_a_call_in_flight(leaving: Leaving) -> None:
    with Story() as story:
        askers, call = story.together(*ROWS)
        leave(askers, leaving)
        if len(leaving) == 4:
            assert call.is_dropped
            assert is_at_rest(story)
        else:
            assert not call.is_dropped
            assert story.play(score) == []
            call.scores(score)
        check(askers, leaving)
        assert story.family.confidence.strikes == 0


@sets
def test_while_the_batch_waits_for_a_connection(leaving: Leaving) -> None:
    with Story() as story:
        story.occupy()
        askers = [story.ask(row) for row in ROWS]
        story.silent.add(5001)
        story.release(GOOD + "Connection: close\r\n")
        assert story.next_call() is None
        leave(askers, leaving)
        slots = story.deployment.slots
        assert (slots.busy, slots.waiting) == (0 if len(leaving) == 4 else 1, 0)
        story.wait(1.1)
        for at, asker in enumerate(askers):
            if at in leaving:
                assert asker.hears_nothing()
            else:
                assert asker.answer().status == 503
        story.silent.clear()


@sets
def test_while_a_large_answer_streams_in(leaving: Leaving) -> None:
    with Story() as story:
        askers, call = story.together(*ROWS)
        text = '", "'.join(str(row) + "x" * 30_000 for row in ROWS)
        body = f'["{text}"]'.encode()
        call.container.says((GOOD + f"Content-Length: {len(body)}\r\n\r\n").encode(), body[:70_000])
        leave(askers, leaving)
        if len(leaving) == 4:
            assert call.is_dropped
            assert is_at_rest(story)
        else:
            call.container.says(body[70_000:])
        for at, asker in enumerate(askers):
            if at in leaving:
                assert asker.hears_nothing()
            else:
                assert asker.hears() == f'["{ROWS[at]}{"x" * 30_000}"]'


def when_written_to(transport: FakeTransport, act: Callable[[], None]) -> None:
    """Have something happen the moment the gateway writes to somebody."""
    write = transport.write

    def act_and_write(data: bytes) -> None:
        act()
        write(data)

    transport.write = act_and_write  # type: ignore[method-assign]


@sets
def test_while_the_answers_are_handed_out_each_by_its_own(leaving: Leaving) -> None:
    """Their transports find out that nobody is there when they are written to."""
    with Story() as story:
        askers, call = story.together(*ROWS)
        for at in leaving:
            transport = askers[at].side.transport
            when_written_to(transport, transport.abort)
        call.scores(score)
        check(askers, leaving)
        assert is_at_rest(story)


@pytest.mark.parametrize(
    ("writer", "leaving"), [(w, each) for w in range(4) for each in SETS if w not in each], ids=str
)
def test_while_the_answers_are_handed_out_to_others(writer: int, leaving: Leaving) -> None:
    """They are gone the moment another one is written to, before or after their own turn."""
    with Story() as story:
        askers, call = story.together(*ROWS)

        def go() -> None:
            for at in leaving:
                transport = askers[at].side.transport
                if not transport.lost:
                    transport.deliver(ConnectionResetError("reset"))

        when_written_to(askers[writer].side.transport, go)
        call.scores(score)
        for at, asker in enumerate(askers):
            if at not in leaving or at < writer:
                assert asker.hears() == f"[{10 * ROWS[at]}]"
            else:
                assert asker.hears_nothing()
        assert is_at_rest(story)


def calls(story: Story) -> Iterator[Call]:
    """What the container is asked, one by one; each is answered when the next one is asked for."""
    while (call := story.next_call()) is not None:
        yield call
        if not call.is_dropped:
            call.scores(score)


@sets
@pytest.mark.parametrize("step", range(5))
def test_during_a_proof(leaving: Leaving, step: int) -> None:
    """From the merged call, or from each of the single ones after it."""
    with Story(proved=False) as story:
        story.occupy()
        askers = [story.ask(row) for row in ROWS]
        story.release()
        heard: dict[int, str] = {}
        waiting: set[int] = set()
        for number, call in enumerate(calls(story)):
            if number == step:
                heard = {at: askers[at].hears() for at in leaving if at < step - 1}
                leave(askers, leaving)
                waiting = set(range(max(step - 1, 0), 4)) - set(leaving)
                assert call.is_dropped == (not waiting)
        for at, asker in enumerate(askers):
            if at in heard:
                assert heard[at] == f"[{10 * ROWS[at]}]"
            elif at in leaving:
                assert asker.hears_nothing()
            else:
                assert asker.hears() == f"[{10 * ROWS[at]}]"
        assert is_at_rest(story)
        assert not story.family.confidence.proof_under_way
        # Who leaves while it is asked alone has been compared all the same.
        compared = set(range(4)) - {at for at in leaving if at >= step}
        assert (story.state is State.ON) == (len(compared) > 1 and bool(waiting))


@sets
@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("guilty", [1, 3])
def test_during_isolation(leaving: Leaving, step: int, guilty: int) -> None:
    """From the merged call, or from each of those that are made to find who is to blame."""
    with Story() as story:
        askers, call = story.together(*ROWS)
        answered: set[int] = set()
        bad = [guilty]

        def listen() -> None:
            for at, asker in enumerate(askers):
                if at in answered or not asker.side.transport.sent:
                    continue
                answered.add(at)
                answer = asker.answer()
                if ROWS[at] == guilty:
                    assert (answer.status, answer.text) == (502, f'{{"message": "[[{guilty}]]"}}')
                else:
                    assert (answer.status, answer.text) == (200, f"[{10 * ROWS[at]}]")

        gone: set[int] = set()
        number = 0
        found: Call | None = call
        while found is not None:
            listen()
            if number == step:
                gone = set(leaving) - answered
                leave(askers, leaving)
                if gone | answered == {0, 1, 2, 3}:
                    assert found.is_dropped
                    assert is_at_rest(story)
                    break
            if bad in found.rows:
                found.fails(f"{found.rows}")
            else:
                found.scores(score)
            number += 1
            found = story.next_call()
        listen()
        assert answered | gone == {0, 1, 2, 3}
        assert answered.isdisjoint(gone)
        assert is_at_rest(story)
        assert story.state is State.ON
        if gone:
            assert story.family.confidence.strikes == 0, "the guilty one may be among those gone"


# The clock.


def impatient(timeout: float = 2.0) -> Setup:
    return Setup(concurrency=1, max_wait=60, timeout=timeout, batching=BatchRules())


def begin(story: Story, row: int) -> Callable[[], Asker]:
    """A client that has begun to ask some time before it is done: its deadline is the earlier."""
    side = story.client()
    data = request(PATH, b'{"data": [[%d]]}' % row, key=KEY)
    side.says(data[:-1])

    def end() -> Asker:
        side.says(data[-1:])
        return Asker(side)

    return end


def is_late(asker: Asker) -> bool:
    answer = asker.answer()
    return answer.status == 504 and "Client.Timeout exceeded" in answer.text


def early_and_late(story: Story) -> tuple[list[Asker], list[Asker], Call]:
    """Two whose time is up in a second, two who have two, all in one merged call."""
    ends = [begin(story, row) for row in ROWS[:2]]
    story.wait(1)
    story.occupy()
    early = [end() for end in ends]
    late = [story.ask(row) for row in ROWS[2:]]
    story.release()
    call = story.call()
    assert call.rows == [[row] for row in ROWS]
    return early, late, call


def test_time_is_up_in_the_queue() -> None:
    with Story(impatient()) as story:
        end = begin(story, 1)
        story.wait(1)
        story.occupy()
        early, late = end(), story.ask(2)
        story.wait(1.1)
        assert is_late(early)
        story.release()
        assert story.play(score) == [[[2]]]
        assert late.hears() == "[20]"
        faults = [record.fault for record in story.records[-3:]]
        assert faults == [Fault.DEADLINE, None, None]


def test_time_is_up_in_flight_for_some() -> None:
    """The call goes on for as long as anybody can use it."""
    with Story(impatient()) as story:
        early, late, call = early_and_late(story)
        story.wait(1.1)
        assert all(is_late(asker) for asker in early)
        assert not call.is_dropped
        story.wait(0.8)
        call.scores(score)
        assert [asker.hears() for asker in late] == ["[30]", "[40]"]


def test_time_is_up_in_flight_for_all() -> None:
    with Story(impatient()) as story:
        early, late, call = early_and_late(story)
        story.wait(1.1)
        assert all(is_late(asker) for asker in early)
        story.wait(1.0)
        assert call.is_dropped
        assert all(is_late(asker) for asker in late)
        assert is_at_rest(story)
        assert story.state is State.ON


@pytest.mark.parametrize("step", range(3))
def test_time_is_up_in_isolation_for_some(step: int) -> None:
    with Story(impatient()) as story:
        early, late, call = early_and_late(story)
        for number in range(10):
            if number == step:
                story.wait(1.1)
            if [2] in call.rows:
                call.fails("2")
            else:
                call.scores(score)
            found = story.next_call()
            if found is None:
                break
            call = found
        assert [asker.hears() for asker in late] == ["[30]", "[40]"]
        assert all(is_late(asker) for asker in early[max(step - 1, 0) :])
        assert is_at_rest(story)


@pytest.mark.parametrize("step", range(3))
def test_time_is_up_in_isolation_for_all(step: int) -> None:
    with Story(impatient()) as story:
        early, late, call = early_and_late(story)
        for _ in range(step):
            call.fails("all")
            call = story.call()
        story.wait(2.1)
        assert call.is_dropped
        assert is_at_rest(story)
        answers = [asker.answer().status for asker in (*early, *late)]
        assert answers == [504] * 4


@pytest.mark.parametrize("step", range(5))
def test_time_is_up_during_a_proof(step: int) -> None:
    with Story(impatient(), proved=False) as story:
        early, late, call = early_and_late(story)
        for _ in range(step):
            call.scores(score)
            call = story.call()
        story.wait(1.1)
        for asker in early[max(step - 1, 0) :]:
            assert is_late(asker)
        if call.rows in ([[1]], [[2]]):
            assert not call.is_dropped, "others are still to come"
        call.scores(score)
        story.play(score)
        assert [asker.hears() for asker in late] == ["[30]", "[40]"]
        for asker in early[: max(step - 1, 0)]:
            assert asker.hears().startswith("[")
        assert is_at_rest(story)
        assert not story.family.confidence.proof_under_way


def test_a_client_that_closes_its_half_still_gets_its_answer() -> None:
    with Story() as story:
        askers, call = story.together(1, 2)
        askers[0].side.ends()
        call.scores(score)
        assert askers[1].hears() == "[20]"
        assert story.records[-1].status == 200


def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    with Story() as story:
        story.occupy()
        askers = [story.ask(row) for row in (1, 2)]
        askers[0].side.takes(0)
        story.release()
        story.call().answers(["x" * 200_000, "y"])
        assert askers[1].hears() == '["y"]'
        assert is_at_rest(story)
        askers[0].side.takes(None)
        assert askers[0].hears() == '["' + "x" * 200_000 + '"]'
