"""Groupings are many, within the caps, and the same every time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.groupings import Caps, groupings

WIDE = Caps(1024, 1 << 20)

Members = list[tuple[int, int]]


def named(members: Members, caps: Caps = WIDE) -> dict[str, list[tuple[int, ...]]]:
    found = {name: list(groups) for name, groups in groupings(members, caps)}
    assert len(found) == len(list(groupings(members, caps))), "every name occurs once"
    return found


def test_the_groupings_of_five_members() -> None:
    found = named([(1, 10)] * 5)
    assert found["pairs"] == [(0, 1), (2, 3), (4, 0)]
    assert found["pairs, swapped"] == [(1, 0), (3, 2), (0, 4)]
    assert found["other neighbours"] == [(1, 2), (3, 4)]
    assert found["halves"] == [(0, 1, 2), (3, 4)]
    assert found["all"] == [(0, 1, 2, 3, 4)]
    assert found["all, reversed"] == [(4, 3, 2, 1, 0)]
    assert found["each three times"][4] == (4, 4, 4, 0)
    assert [len(group) for group in found["groups of 1024"]] == [1024]
    assert {name for name in found if name.startswith("groups of")} == {
        f"groups of {size}" for size in (4, 16, 64, 256, 1024)
    }


def test_groups_of_chance_hold_everybody_but_one_that_is_left_over_and_differ() -> None:
    found = named([(1, 10)] * 40)
    rounds = [found[f"random groups {number}"] for number in (1, 2, 3, 4)]
    assert all(len({at for group in groups for at in group}) >= 39 for groups in rounds)
    assert len({str(groups) for groups in rounds}) == 4
    assert len({len(group) for groups in rounds for group in groups}) > 3


@pytest.mark.parametrize("size", [4, 16])
def test_groups_of_one_size_hold_nearly_everybody(size: int) -> None:
    groups = named([(1, 10)] * 64)[f"groups of {size}"]
    assert sorted(at for group in groups for at in group) == list(range(64))


MEMBERS = st.lists(st.tuples(st.integers(1, 9), st.integers(2, 50)), min_size=2, max_size=40)
CAPS = st.builds(Caps, st.integers(1, 60), st.integers(1, 300))


@given(MEMBERS, CAPS)
def test_no_group_is_over_a_cap_or_of_one_member(members: Members, caps: Caps) -> None:
    for name, groups in groupings(members, caps):
        assert groups, name
        for group in groups:
            assert len(group) > 1, name
            assert sum(members[at][0] for at in group) <= caps.rows
            assert sum(members[at][1] for at in group) <= caps.size


@given(MEMBERS)
def test_every_member_is_merged_with_another_when_caps_allow(members: Members) -> None:
    found = named(members)
    for name in ("pairs", "all", "each three times"):
        assert {at for group in found[name] for at in group} == set(range(len(members)))


def test_a_verdict_can_be_had_again() -> None:
    assert named([(1, 10)] * 30) == named([(1, 10)] * 30)
