"""Every backend is taken in turn, and none that was tried already."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.round_robin import RoundRobin


def test_backends_are_taken_in_their_order_again_and_again() -> None:
    balance = RoundRobin("abc")
    assert [balance.choose() for _ in range(7)] == list("abcabca")


def test_what_was_tried_is_passed_over() -> None:
    balance = RoundRobin("abc")
    assert balance.choose("a") == "b"
    assert balance.choose("ac") == "b"


def test_who_moves_on_takes_nobodys_turn() -> None:
    balance = RoundRobin("ab")
    taken = [balance.choose() for _ in range(3)]
    assert [*taken, balance.choose("a"), balance.choose()] == ["a", "b", "a", "b", "b"]


def test_the_load_of_a_dead_backend_is_spread_over_the_others() -> None:
    balance = RoundRobin("abc")
    served: Counter[str | None] = Counter()
    for _ in range(60):
        chosen = balance.choose()
        served[balance.choose("a") if chosen == "a" else chosen] += 1
    assert served == {"b": 30, "c": 30}


def test_when_all_were_tried_there_is_none_and_the_turn_goes_on() -> None:
    balance = RoundRobin("abc")
    assert balance.choose() == "a"
    assert balance.choose("abc") is None
    assert balance.choose() == "b"


def test_a_single_backend_is_taken_every_time() -> None:
    balance = RoundRobin(["only"])
    assert [balance.choose(), balance.choose(), balance.choose(["only"])] == ["only", "only", None]


def test_there_must_be_a_backend() -> None:
    with pytest.raises(ValueError, match=r"^nothing to balance over$"):
        RoundRobin([])


@given(size=st.integers(1, 9), rounds=st.integers(1, 9))
def test_whole_rounds_are_shared_equally(size: int, rounds: int) -> None:
    balance = RoundRobin(range(size))
    taken = Counter(balance.choose() for _ in range(size * rounds))
    assert taken == Counter(dict.fromkeys(range(size), rounds))


@given(st.lists(st.sets(st.integers(0, 4)), max_size=20))
def test_the_chosen_was_never_tried(histories: list[set[int]]) -> None:
    balance = RoundRobin(range(5))
    for tried in histories:
        chosen = balance.choose(tried)
        assert (chosen is None) == (len(tried) == 5)
        assert chosen not in tried
