"""API keys are known by digest only; each of them opens, nothing else does (threat T32)."""

from __future__ import annotations

import hashlib

import pytest

from gateway.core.keys import KeyRing

RING = KeyRing({"primary": "first-key", "secondary": "zweiter-schlüssel"})


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


@pytest.mark.parametrize(
    ("key", "holder"),
    [
        ("first-key", "primary"),
        ("zweiter-schlüssel", "secondary"),
        ("first-ke", None),
        ("first-key ", None),
        ("First-Key", None),
        ("", None),
    ],
    ids=repr,
)
def test_a_key_is_held_by_its_name(key: str, holder: str | None) -> None:
    assert RING.holder(digest(key)) == holder


@pytest.mark.parametrize(
    "wrong", [b"", digest("first-key")[:-1], digest("first-key") + b"\0", b"first-key"], ids=repr
)
def test_only_the_whole_digest_counts(wrong: bytes) -> None:
    assert RING.holder(wrong) is None


def test_a_ring_without_keys_opens_to_nobody() -> None:
    assert KeyRing({}).holder(digest("")) is None


def test_neither_keys_nor_digests_are_shown() -> None:
    assert repr(RING) == "<KeyRing primary, secondary>"
