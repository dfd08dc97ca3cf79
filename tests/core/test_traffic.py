"""Requests are split by weight, the rest goes to the default, a pin wins (contract 1.7, 5.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.faults import Fault, Refusal
from gateway.core.traffic import Traffic

NAMES = {"blue": "BLUE", "green": "GREEN", "red": "RED"}


def never() -> float:
    raise AssertionError("no number is to be drawn")


def drawn(value: float) -> Callable[[], float]:
    return lambda: value


def shares(traffic: Traffic[str]) -> Counter[str]:
    """How many of a hundred evenly spread requests each deployment gets; refusals as `none`."""
    found: Counter[str] = Counter()
    for percent in range(100):
        try:
            found[traffic.choose(None, drawn(percent / 100 + 0.001))] += 1
        except Refusal as refusal:
            found["none" if refusal.fault is Fault.NO_DEPLOYMENT else "?"] += 1
    return found


@pytest.mark.parametrize(
    ("weights", "default", "split"),
    [
        pytest.param({"blue": 90, "green": 10}, None, {"BLUE": 90, "GREEN": 10}, id="whole"),
        pytest.param({"blue": 30}, "green", {"BLUE": 30, "GREEN": 70}, id="rest to the default"),
        pytest.param({"blue": 30}, "blue", {"BLUE": 100}, id="rest to itself"),
        pytest.param(
            {"blue": 1, "green": 1}, "red", {"BLUE": 1, "GREEN": 1, "RED": 98}, id="three"
        ),
        pytest.param({"blue": 30}, None, {"BLUE": 30, "none": 70}, id="rest to nobody"),
        pytest.param({}, "blue", {"BLUE": 100}, id="default only"),
        pytest.param({}, None, {"none": 100}, id="nothing"),
        pytest.param({"blue": 0, "green": 0}, None, {"none": 100}, id="zeros"),
        pytest.param({"blue": 0, "green": 100}, None, {"GREEN": 100}, id="zero and all"),
        pytest.param({"blue": 100}, "green", {"BLUE": 100}, id="nothing left for the default"),
    ],
)
def test_weights_are_percentages(
    weights: dict[str, int], default: str | None, split: dict[str, int]
) -> None:
    assert shares(Traffic(NAMES, weights, default)) == split


@given(st.lists(st.integers(0, 50), min_size=2, max_size=2), st.sampled_from([None, "red"]))
def test_every_split_is_exact(weights: list[int], default: str | None) -> None:
    blue, green = weights
    found = shares(Traffic(NAMES, {"blue": blue, "green": green}, default))
    assert found == Counter(
        {"BLUE": blue, "GREEN": green, ("RED" if default else "none"): 100 - blue - green}
    )


@pytest.mark.parametrize(
    ("value", "chosen"),
    [(0.0, "BLUE"), (0.2999, "BLUE"), (0.3, "GREEN"), (0.9999999999999999, "GREEN")],
)
def test_a_bound_belongs_to_the_next_deployment(value: float, chosen: str) -> None:
    traffic = Traffic(NAMES, {"blue": 30, "green": 70}, None)
    assert traffic.choose(None, drawn(value)) == chosen


def test_a_pin_bypasses_the_split() -> None:
    traffic = Traffic(NAMES, {"blue": 100}, None)
    assert traffic.choose(b"red", never) == "RED"


@pytest.mark.parametrize("pin", [b"", b"Blue", b"blue ", b"white", b"\xff"], ids=repr)
def test_a_pin_to_an_unknown_deployment_is_refused(pin: bytes) -> None:
    traffic = Traffic(NAMES, {"blue": 100}, None)
    with pytest.raises(Refusal) as caught:
        traffic.choose(pin, never)
    assert caught.value.fault is Fault.NO_DEPLOYMENT


@pytest.mark.parametrize(
    ("weights", "default"),
    [({}, "green"), ({"green": 100}, None), ({"green": 30}, "green"), ({"green": 100}, "blue")],
)
def test_nothing_is_drawn_where_there_is_nothing_to_choose(
    weights: dict[str, int], default: str | None
) -> None:
    assert Traffic(NAMES, weights, default).choose(None, never) == "GREEN"


@pytest.mark.parametrize(
    ("weights", "default", "message"),
    [
        ({"white": 10}, None, "no deployment 'white'; have blue, green, red"),
        ({}, "white", "no deployment 'white'; have blue, green, red"),
        ({"blue": 51, "green": 50}, None, "weights must .* sum to at most 100: 101$"),
        ({"blue": -1}, None, "weights must lie between 0 and 100"),
        ({"blue": 101, "green": -1}, None, "weights must lie between 0 and 100"),
    ],
)
def test_mistakes_are_named(weights: dict[str, int], default: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Traffic(NAMES, weights, default)
