"""The states of a client connection, and the defaults of its patience."""

from __future__ import annotations

import pytest

from gateway.edge import phases
from gateway.edge.phases import Patience, Phase


def test_the_unpacked_phases_are_the_phases_of_their_names() -> None:
    assert [getattr(phases, phase.name) for phase in Phase] == list(Phase)


def test_a_head_has_an_absolute_deadline_of_at_most_ten_seconds() -> None:
    # reliability.md T14.
    assert 0 < Patience().head <= 10


def test_no_default_is_for_ever() -> None:
    patience = Patience()
    times = (patience.head, patience.body, patience.idle, patience.write, patience.linger)
    assert all(0 < time <= 120 for time in times)
    assert patience.body_rate > 0


def test_patience_does_not_change_under_way() -> None:
    with pytest.raises(AttributeError):
        Patience().head = 1.0  # type: ignore[misc]
