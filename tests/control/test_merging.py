"""What several workers say of the same deployments becomes one page."""

from __future__ import annotations

from typing import Any

from gateway.control.merging import merge_deployments


def state(taken: int, waiting: int, *, mode: str = "off", name: str = "h:1") -> dict[str, Any]:
    batching: dict[str, Any] = {"mode": mode}
    if mode != "off":
        batching["row_cap"] = taken * 100
    return {
        "diabetes": {
            "blue": {
                "backends": [{"name": name, "places_taken": taken, "connections": taken + 1}],
                "places": 4,
                "waiting": waiting,
                "batching": batching,
            }
        }
    }


def test_one_worker_is_shown_as_it_is() -> None:
    assert merge_deployments({0: state(1, 2, mode="on")}) == state(1, 2, mode="on")
    assert merge_deployments({}) == {}


def test_numbers_of_the_moment_are_summed_and_limits_are_not() -> None:
    merged = merge_deployments({0: state(1, 2), 1: state(3, 5)})
    blue = merged["diabetes"]["blue"]
    assert blue["backends"] == [{"name": "h:1", "places_taken": 4, "connections": 6}]
    assert (blue["places"], blue["waiting"]) == (4, 7)
    assert blue["batching"] == {"mode": "off"}


def test_what_was_learned_is_shown_by_worker() -> None:
    merged = merge_deployments({2: state(3, 0, mode="on"), 0: state(1, 0, mode="on")})
    assert merged["diabetes"]["blue"]["batching"] == {
        "mode": "on",
        "workers": {"0": {"mode": "on", "row_cap": 100}, "2": {"mode": "on", "row_cap": 300}},
    }


def test_during_a_reload_workers_may_know_different_backends() -> None:
    merged = merge_deployments({0: state(1, 0), 1: state(2, 0, name="h:2")})
    assert [each["name"] for each in merged["diabetes"]["blue"]["backends"]] == ["h:1", "h:2"]


def test_what_workers_said_is_not_changed() -> None:
    first = state(1, 2)
    merge_deployments({0: first, 1: state(3, 5)})
    assert first["diabetes"]["blue"]["backends"] == state(1, 2)["diabetes"]["blue"]["backends"]
