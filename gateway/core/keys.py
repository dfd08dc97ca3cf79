"""API keys: two per endpoint, both valid, compared as digests in constant time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from hmac import compare_digest


class KeyRing:
    """The keys of one endpoint by name, such as ``primary`` and ``secondary``.

    Only SHA-256 digests are kept. Every look-up compares with every key, whichever matches, so its
    time tells nothing about either (CWE-208, reliability.md T32).
    """

    __slots__ = ("_digests",)

    def __init__(self, keys: Mapping[str, str]) -> None:
        """:param keys: name to key text."""
        self._digests = [
            (name, hashlib.sha256(text.encode()).digest()) for name, text in keys.items()
        ]

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(name for name, _ in self._digests)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyRing) and self._digests == other._digests

    __hash__ = None  # type: ignore[assignment]

    def holder(self, digest: bytes) -> str | None:
        """Name of the key whose SHA-256 is ``digest``, None when there is none."""
        found = None
        for name, expected in self._digests:
            if compare_digest(digest, expected):
                found = name
        return found
