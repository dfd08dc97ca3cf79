"""Shadow"""

from __future__ import annotations

from gateway.engine.batching import Batcher


class Shadow:
    __slots__ = ("batcher",)

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher
