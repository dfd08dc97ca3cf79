"""What dies young is started again later and later; what was well, at once."""

from __future__ import annotations

import pytest

from gateway.core.restarts import FIRST, LAST, WELL, Restarts


@pytest.mark.parametrize(
    ("lifetimes", "delays"),
    [
        ([WELL], [0.0]),
        ([3600.0, 3600.0], [0.0, 0.0]),
        ([0.0], [FIRST]),
        ([0.0, 0.1, 4.9], [0.1, 0.2, 0.4]),
        ([0.0] * 9, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LAST, LAST]),
        ([0.0, 0.0, 60.0, 0.0], [0.1, 0.2, 0.0, 0.1]),
    ],
)
def test_delays(lifetimes: list[float], delays: list[float]) -> None:
    restarts = Restarts()
    assert [restarts.delay(lifetime) for lifetime in lifetimes] == pytest.approx(delays)
    assert repr(restarts).startswith("<Restarts, next after ")
