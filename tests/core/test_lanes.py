"""Who is added leaves exactly once, in order, and never in a group that is too large."""

from __future__ import annotations

import random

import pytest

from gateway.core.lanes import Flush, Lanes, Ticket

LANE, OTHER = "lane", "other"
MANY = 1 << 30


def ticket(
    name: str, lane: str | None = LANE, *, deadline: float = 60.0, rows: int = 1, size: int = 10
) -> Ticket[str]:
    return Ticket(name, 0.0, deadline, lane, rows, size)


def queue(*tickets: Ticket[str]) -> Lanes[str]:
    lanes: Lanes[str] = Lanes()
    for each in tickets:
        lanes.add(each)
    return lanes


def names(tickets: list[Ticket[str]]) -> str:
    return "".join(each.item for each in tickets)


def gather(
    lanes: Lanes[str], rows: int = MANY, size: int = MANY, count: int = MANY
) -> tuple[str, Flush]:
    group, flush = lanes.gather(lanes.first(), rows, size, count)
    return names(group), flush


def test_a_lane_leaves_together() -> None:
    lanes = queue(ticket("a"), ticket("b"), ticket("c"))
    assert repr(lanes) == "<Lanes, 3 waiting in 1>"
    assert gather(lanes) == ("abc", Flush.SLOT_FREE)
    assert not lanes
    assert repr(lanes) == "<Lanes, 0 waiting in 0>"


def test_other_lanes_stay_as_they_are() -> None:
    lanes = queue(ticket("a"), ticket("x", OTHER), ticket("b"), ticket("-", None), ticket("c"))
    assert gather(lanes) == ("abc", Flush.SLOT_FREE)
    assert names(list(lanes)) == "x-"
    assert gather(lanes) == ("x", Flush.SLOT_FREE)
    assert gather(lanes) == ("-", Flush.SLOT_FREE)


def test_who_goes_alone_goes_alone() -> None:
    lanes = queue(ticket("a", None), ticket("b", None))
    assert gather(lanes) == ("a", Flush.SLOT_FREE)
    assert gather(lanes) == ("b", Flush.SLOT_FREE)
    assert not lanes


@pytest.mark.parametrize(
    ("caps", "expected"),
    [
        ({"rows": 3}, ("ab", Flush.FULL)),
        ({"rows": 5}, ("ab", Flush.FULL)),
        ({"rows": 6}, ("abc", Flush.SLOT_FREE)),
        ({"size": 30}, ("ab", Flush.BYTES)),
        ({"size": 60}, ("abc", Flush.SLOT_FREE)),
        ({"count": 2}, ("ab", Flush.SLOT_FREE)),
        ({"rows": 1}, ("a", Flush.FULL)),
        ({"rows": 3, "size": 30}, ("ab", Flush.BYTES)),
    ],
)
def test_a_group_keeps_to_the_caps(caps: dict[str, int], expected: tuple[str, Flush]) -> None:
    lanes = queue(ticket("a"), ticket("b", rows=2, size=20), ticket("c", rows=3, size=30))
    assert gather(lanes, **caps) == expected
    rest = len("abc") - len(expected[0])
    assert len(lanes) == rest


def test_whoever_is_above_the_caps_alone_goes_all_the_same() -> None:
    lanes = queue(ticket("a", rows=9, size=900), ticket("b"))
    assert gather(lanes, rows=4, size=40) == ("a", Flush.BYTES)
    assert gather(lanes, rows=4, size=40) == ("b", Flush.SLOT_FREE)


def test_nobody_overtakes_in_a_lane() -> None:
    """A small one would fit, but somebody larger came before."""
    lanes = queue(ticket("a"), ticket("b", rows=5), ticket("c"))
    assert gather(lanes, rows=4) == ("a", Flush.FULL)


def test_the_earliest_deadline_is_first() -> None:
    lanes = queue(ticket("a", deadline=61), ticket("b", deadline=62), ticket("c", deadline=60))
    assert names(list(lanes)) == "cab"
    assert gather(lanes) == ("cab", Flush.SLOT_FREE)


def test_equal_deadlines_are_served_as_they_came() -> None:
    lanes = queue(ticket("a", deadline=61), ticket("b"), ticket("c"), ticket("d", deadline=61))
    assert names(list(lanes)) == "bcad"


def test_who_has_waited_longest_need_not_be_first() -> None:
    lanes = queue(Ticket("a", 1.0, 61.0, LANE), Ticket("b", 2.0, 60.0, LANE))
    assert (lanes.first().item, lanes.longest_waiting().item, lanes.waiting_since()) == (
        "b",
        "a",
        1.0,
    )
    lanes.remove("b")
    assert lanes.first() is lanes.longest_waiting()


def test_who_comes_back_has_not_waited_since_it_first_came() -> None:
    lanes: Lanes[str] = Lanes()
    back = Ticket("back", 1.0, 30.0)
    for ticket in (back, Ticket("other", 2.0, 31.0), Ticket("early", 3.0, 20.0)):
        lanes.add(ticket)
    assert lanes.longest_waiting() is back
    lanes.remove("back")
    back.since = 4.0
    lanes.add(back)
    assert [lanes.remove(lanes.longest_waiting().item).item for _ in "123"] == [
        "other",
        "early",
        "back",
    ]


def test_who_has_left_is_forgotten_although_deadlines_are_out_of_order() -> None:
    lanes: Lanes[int] = Lanes()
    lanes.add(Ticket(0, 0.0, 10.0))
    lanes.add(Ticket(1, 1.0, 9.0))
    for number in range(2, 1000):
        lanes.add(Ticket(number, float(number), 10.0 + number))
        lanes.remove(number)
    assert len(lanes._by_age) <= 2 * len(lanes) + 2
    assert lanes.longest_waiting().item == 0


def test_rows_that_could_go_together() -> None:
    lanes = queue(ticket("a", rows=2), ticket("b", rows=3), ticket("c", None, rows=7))
    first, second, alone = lanes
    assert [lanes.rows_beside(each) for each in (first, second, alone)] == [5, 5, 7]
    lanes.remove("a")
    assert lanes.rows_beside(second) == 3
    assert names(lanes.fronts()) == "bc"


def test_who_does_not_wait_cannot_leave() -> None:
    lanes = queue(ticket("a"))
    assert "a" in lanes
    assert "b" not in lanes
    with pytest.raises(KeyError):
        lanes.remove("b")
    assert lanes.remove("a").item == "a"


class Story:
    """Random arrivals, departures and groups, checked against a plain list."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lanes: Lanes[int] = Lanes()
        #: In the order that must hold: by deadline, then by coming.
        self.model: list[Ticket[int]] = []
        self.left: list[int] = []
        self.come = 0

    def arrive(self) -> None:
        draw = self.random
        early = draw.random() < 0.1
        new = Ticket(
            self.come,
            float(self.come),
            self.come + (draw.uniform(-50, 0) if early else 0.0),
            draw.choice([None, "x", "y", "z"]),
            draw.randint(1, 9),
            draw.randint(1, 99),
        )
        self.come += 1
        self.lanes.add(new)
        at = next((n for n, t in enumerate(self.model) if t.deadline > new.deadline), None)
        self.model.insert(len(self.model) if at is None else at, new)

    def leave(self) -> None:
        if self.model:
            gone = self.model.pop(self.random.randrange(len(self.model)))
            assert self.lanes.remove(gone.item) is gone
            self.left.append(gone.item)

    def board(self) -> None:
        if not self.model:
            return
        draw = self.random
        rows, size, count = draw.randint(1, 30), draw.randint(1, 300), draw.randint(1, 9)
        leader = self.lanes.first()
        assert leader is self.model[0], "whoever is first is served next"
        group, flush = self.lanes.gather(leader, rows, size, count)
        assert group[0] is leader
        same = [t for t in self.model if t.lane == leader.lane] if leader.lane else [leader]
        assert group == same[: len(group)], "of one lane, in order, without gaps"
        fits = (
            sum(t.rows for t in group) <= rows
            and sum(t.size for t in group) <= size
            and len(group) <= count
        )
        assert fits or len(group) == 1
        if len(group) < len(same):
            more = same[: len(group) + 1]
            assert (
                sum(t.rows for t in more) > rows
                or sum(t.size for t in more) > size
                or len(more) > count
            ), "nobody who would have fitted is left behind"
            whole = sum(t.rows for t in more) > rows or sum(t.size for t in more) > size
            assert (flush is not Flush.SLOT_FREE) is whole
        else:
            assert flush is Flush.SLOT_FREE
        self.model = [t for t in self.model if t not in group]
        self.left += [t.item for t in group]

    def check(self) -> None:
        assert list(self.lanes) == self.model
        assert len(self.lanes) == len(self.model)
        fronts = {t.lane: t for t in reversed(self.model)}
        assert {t.lane: t for t in self.lanes.fronts()} == fronts
        if self.model:
            assert self.lanes.waiting_since() == min(t.since for t in self.model)
            assert self.lanes.longest_waiting().since == self.lanes.waiting_since()
        for waiting in self.model:
            rows = sum(t.rows for t in self.model if t.lane == waiting.lane)
            assert self.lanes.rows_beside(waiting) == (rows if waiting.lane else waiting.rows)


@pytest.mark.parametrize("seed", range(300))
def test_everybody_leaves_exactly_once(seed: int) -> None:
    story = Story(seed)
    for _ in range(60):
        story.random.choices([story.arrive, story.leave, story.board], [6, 1, 2])[0]()
        story.check()
    while story.model:
        story.board()
    assert sorted(story.left) == list(range(story.come))
    assert repr(story.lanes) == "<Lanes, 0 waiting in 0>"
