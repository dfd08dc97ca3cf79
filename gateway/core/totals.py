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

from gateway.core.series import GAUGES, Key, Report, Values

# Gauges that every worker tells of the same thing, or of what it has learned alone: their sum means
# nothing, the largest is how far one has come.
_LARGEST = frozenset(("learned", "places"))
# One number for each worker, which becomes a label.
_OF_A_WORKER = frozenset(("cpu", "worst"))


class Block:
    """One block over all workers."""

    __slots__ = ("_kept", "key", "rows")

    def __init__(self, key: Key) -> None:
        self.key = key
        #: As the workers alive last told, by worker.
        self.rows: dict[int, Values] = {}
        self._kept: Values | None = None

    def __repr__(self) -> str:
        return f"<Block {' '.join(self.key)} of {len(self.rows)} workers>"

    def keep(self, worker: int) -> None:
        """A worker has died."""
        row = self.rows.pop(worker, None)
        if row is not None and self.key[0] not in GAUGES:
            kept = self._kept
            self._kept = (
                row if kept is None else [sum(pair) for pair in zip(kept, row, strict=True)]
            )

    def values(self) -> Values | None:
        """For all workers; None if there is nothing to tell (any longer)."""
        rows = list(self.rows.values())
        if self._kept is not None:
            rows.append(self._kept)
        if len(rows) < 2:
            return rows[0] if rows else None
        merge = max if self.key[0] in _LARGEST else sum
        return list(map(merge, zip(*rows, strict=True)))


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
