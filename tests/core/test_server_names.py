"""The certificate for a server name is the closest one, and the first if none is close."""

from __future__ import annotations

import pytest

from gateway.core.server_names import ServerNames

NAMES = ServerNames(
    [
        ("first.example.com", "10.0.0.1"),
        ("*.example.com", "example.com"),
        ("www.example.com", "First.example.com"),
        ("*.deep.example.com", "*.example.com"),
    ]
)


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (None, 0),
        ("", 0),
        ("first.example.com", 0),
        ("FIRST.Example.Com", 0),
        ("example.com", 1),
        ("any.example.com", 1),
        ("www.example.com", 2),
        ("one.deep.example.com", 3),
        ("deep.example.com", 1),
        # A wildcard stands for one label and no more, and not for none.
        ("two.one.example.com", 0),
        (".example.com", 0),
        ("*.example.com", 1),
        ("elsewhere.test", 0),
        ("com", 0),
    ],
)
def test_the_closest_certificate_is_chosen(asked: str | None, chosen: int) -> None:
    assert NAMES.choose(asked) == chosen


def test_a_single_certificate_is_for_everybody() -> None:
    assert ServerNames([()]).choose("whatever.test") == 0
