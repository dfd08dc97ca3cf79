"""The record of a request begins empty, with its deadline set."""

from __future__ import annotations

from typing import cast

import pytest

from gateway.core.heads import CHUNKED, RequestHead
from gateway.engine.exchange import Client, Exchange
from gateway.engine.routed import Routed

CLIENT = cast(Client, object())


def exchange(length: int, body: bytes | None) -> Exchange:
    return Exchange(CLIENT, Routed(RequestHead(b"POST", 1), 60.0), length, body, b"the-id", 100.0)


def test_the_deadline_counts_from_the_end_of_the_head() -> None:
    assert exchange(0, b"").deadline == 160.0


@pytest.mark.parametrize(
    ("length", "body", "received"), [(3, b"abc", 3), (0, b"", 0), (3, None, 0), (CHUNKED, None, 0)]
)
def test_a_body_that_is_there_counts_as_received(
    length: int, body: bytes | None, received: int
) -> None:
    assert exchange(length, body).received == received


def test_nothing_has_happened_yet() -> None:
    x = exchange(0, b"")
    assert (x.status, x.fault, x.detail, x.attempts, x.sent, x.begun) == (0, None, "", 0, 0, False)
    assert (x.endpoint, x.deployment, x.custody, x.walk, x.upload) == (None,) * 5


def test_it_has_no_room_for_anything_else() -> None:
    with pytest.raises(AttributeError):
        exchange(0, b"").anything = 1  # type: ignore[attr-defined]


def test_it_says_which_request_it_is() -> None:
    assert repr(exchange(0, b"")) == "<Exchange the-id <RequestHead POST / HTTP/1.1>>"
