"""Every message arrives as it was sent."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from gateway.control.messages import (
    Abort,
    Commit,
    Count,
    Counted,
    Describe,
    Described,
    Door,
    Drain,
    Drained,
    Fetch,
    Fetched,
    Prepare,
    Prepared,
    Refused,
    Running,
)
from gateway.core.allotting import Allotment
from gateway.core.series import Report


@pytest.mark.parametrize(
    "message",
    [
        Prepare(
            2,
            b"configuration",
            Allotment(2, {("e", "d", "h:1"): 0}),
            (Door(1, "listen", ("127.0.0.1", 80), 5),),
        ),
        Commit(2),
        Abort(2),
        Count(),
        Describe(1),
        Drain(1.5),
        Fetched(1, b"", "no answer"),
        Prepared(2),
        Refused(2, "why"),
        Running(2),
        Counted(Report([("a", "b")], {0: 5, 1: None})),
        Counted(None),
        Fetch(1, "https://issuer.example"),
        Described(1, {"diabetes": {}}),
        Drained(3),
    ],
    ids=lambda message: type(message).__name__,
)
def test_messages_are_values(message: Any) -> None:
    copy = pickle.loads(pickle.dumps(message))
    assert copy == message
    assert hash(copy) if not isinstance(message, Counted | Described | Prepare) else True
