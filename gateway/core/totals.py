"""The numbers of many workers, added up.

What workers report (``core/series.py``) is kept by worker until it is asked for; then what has
changed is added up anew. The counters of a worker that has died stay in the sums for ever, its
gauges are gone with it.

What a deployment has counted stays as well when the configuration has it no longer, as long as the
process lives: requests on their way in it still count, it may come back, and what was counted last
must have the time to be seen by whoever asks twice a minute. The names are an operator's, not a
client's, so they are not many.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.blocks import GAUGES, Key, largest
from gateway.core.series import Report

# Gauges that every worker tells of the same thing, or of what it has learned alone: their sum means
# nothing, the largest is how far one has come.
_LARGEST = frozenset(("learned", "places"))
# One number for each worker, which becomes a label.
_OF_A_WORKER = frozenset(("cpu", "worst"))


class Block:
    """One block over all workers."""

    __slots__ = ("_kept", "_largest", "key", "rows")

    def __init__(self, key: Key) -> None:
        self.key = key
        self._largest = key[0] in _LARGEST
        #: As the workers alive last told, by worker.
        self.rows: dict[int, int] = {}
        #: What the dead have counted.
        self._kept: int | None = None

    def __repr__(self) -> str:
        return f"<Block {' '.join(self.key)} of {len(self.rows)} workers>"

    def keep(self, worker: int) -> None:
        """A worker has died."""
        row = self.rows.pop(worker, None)
        if row is not None and self.key[0] not in GAUGES:
            self._kept = (self._kept or 0) + row

    @property
    def total(self) -> int | None:
        """Over all workers; None if there is nothing to tell (any longer)."""
        if not self.rows:
            return self._kept
        if self._largest:
            return largest(list(self.rows.values()))
        return sum(self.rows.values(), self._kept or 0)


class Totals:
    """Adds up what workers report."""

    def __init__(self) -> None:
        self._blocks: dict[Key, Block] = {}
        #: For each worker alive: what its numbers stand for.
        self._workers: dict[int, list[Block]] = {}
        #: In the order in which they did.
        self._changed: dict[Block, None] = {}

    def __repr__(self) -> str:
        return f"<Totals of {len(self._workers)} workers, {len(self._blocks)} blocks>"

    def apply(self, worker: int, report: Report) -> None:
        """Take over the next report of a worker.

        :param worker: its number, which becomes a label: a small one, that its successor has again.
        """
        blocks = self._workers.setdefault(worker, [])
        for key in report.new:
            if key[0] in _OF_A_WORKER:
                key = (*key, str(worker))
            block = self._blocks.get(key)
            if block is None:
                block = self._blocks[key] = Block(key)
            blocks.append(block)
        changed = self._changed
        for number, values in report.changes.items():
            block = blocks[number]
            changed[block] = None
            if values is None:
                block.rows.pop(worker, None)
            else:
                block.rows[worker] = values

    def retire(self, worker: int) -> None:
        """A worker has died: what it counted stays. Its number is free for another."""
        for block in self._workers.pop(worker, ()):
            block.keep(worker)
            self._changed[block] = None

    def changes(self) -> Iterable[Block]:
        """The blocks that have changed since this was last asked."""
        changed, self._changed = self._changed, {}
        return changed
