"""A plan that cannot be used says why, and where to look for a better one."""

from __future__ import annotations

from pathlib import Path

from gateway.control.plans import BadPlan


def test_the_report_is_kept_by_line() -> None:
    bad = BadPlan(["f:1: a", "f:2: b"], [Path("f"), Path("key")])
    assert bad.lines == ["f:1: a", "f:2: b"]
    assert str(bad) == "f:1: a\nf:2: b"
    assert bad.sought == {Path("f"), Path("key")}
    assert BadPlan(["why"]).sought == frozenset()
