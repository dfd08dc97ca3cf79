"""Collects a streamed answer whole, for whoever needs all of it before anything can be done."""

from __future__ import annotations

from gateway.engine.exchange import Source

# Bytes. More is not kept: whoever gets that much gets it as a stream of its own.
LARGEST = 64 << 20


class Basin:
    """Takes the pieces of an answer, as a client would."""

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def __repr__(self) -> str:
        return f"<Basin of {self._size} bytes>"

    def write_reply(self, data: bytes, source: Source) -> None:
        self._size += len(data)
        if self._size <= LARGEST:
            self._pieces.append(data)
        else:
            self._pieces.clear()

    def contents(self) -> bytes | None:
        """All of it; None if it was too much."""
        return b"".join(self._pieces) if self._size <= LARGEST else None
