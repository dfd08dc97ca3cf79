"""The memory remembers the keys used last, never more than twice its size, and never lies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.memo import Memo


def test_what_was_put_is_found_and_the_rest_is_not() -> None:
    memo: Memo[str, int] = Memo(2)
    memo.put("a", 1)
    assert memo.get("a") == 1
    assert memo.get("b") is None


def test_a_value_can_be_replaced() -> None:
    memo: Memo[str, int] = Memo(2)
    memo.put("a", 1)
    memo.put("a", 2)
    assert memo.get("a") == 2


def test_what_is_not_asked_for_is_forgotten() -> None:
    memo: Memo[int, int] = Memo(2)
    for number in range(5):
        memo.put(number, number)
    assert [memo.get(number) for number in range(5)] == [None, None, 2, 3, 4]


def test_what_is_asked_for_stays_however_much_else_comes() -> None:
    memo: Memo[int, str] = Memo(2)
    memo.put(-1, "kept")
    for number in range(1000):
        memo.put(number, "passing")
        assert memo.get(-1) == "kept"


def test_clearing_forgets_both_generations() -> None:
    memo: Memo[int, int] = Memo(1)
    memo.put(1, 1)
    memo.put(2, 2)
    memo.clear()
    assert (memo.get(1), memo.get(2), len(memo)) == (None, None, 0)


def test_its_values_are_all_that_is_remembered_the_last_first() -> None:
    memo: Memo[str, int] = Memo(2)
    assert memo.values() == []
    for number, key in enumerate("abc"):
        memo.put(key, number)
    assert memo.values() == [2, 1, 0]
    memo.get("a")
    assert memo.values() == [0, 2, 1]
    memo.values().clear()
    assert len(memo) == 3


@pytest.mark.parametrize("size", [0, -1])
def test_a_memory_without_room_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"^a memo of {size} entries remembers nothing$"):
        Memo[int, int](size)


def test_it_shows_how_full_it_is() -> None:
    memo: Memo[int, int] = Memo(3)
    memo.put(1, 1)
    assert repr(memo) == "<Memo 1 of at most 6>"


@given(
    size=st.integers(1, 5),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=80),
)
def test_any_history_keeps_the_bounds_and_the_latest_values(
    size: int, steps: list[tuple[bool, int]]
) -> None:
    memo: Memo[int, int] = Memo(size)
    latest: dict[int, int] = {}
    used: list[int] = []  # in the order of their last use; the end is remembered for certain
    for count, (put, key) in enumerate(steps):
        if put:
            memo.put(key, count)
            latest[key] = count
        found = memo.get(key)
        assert found in (None, latest.get(key))
        if put or key in used[-size:]:
            assert found == latest[key]
        if found is not None:
            used = [*(other for other in used if other != key), key]
        assert len(memo) <= 2 * size
