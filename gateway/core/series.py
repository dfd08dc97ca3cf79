"""What a worker tells of its counters: numbers that changed, under numbers that stand for names.

Many processes count, one is asked (design.md section 2). A worker reports what has changed since it
last did; the other side adds up (``core/totals.py``). Values are the worker's totals, not what was
added to them. They are whole numbers throughout, seconds in millionths: a sum of floats depends on
the order of adding, and a counter that falls by the last digit is a restart to Prometheus.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.core.blocks import Key, pack
from gateway.core.readings import Way, present, sources
from gateway.core.statistics import Statistics

# What is configured no longer is looked at so many times more after it last changed: requests that
# were under way still count there. At two reports a second that is 20 minutes.
_PATIENCE = 2400


class Report(NamedTuple):
    """``new`` are the blocks first mentioned, numbered in this order from where the report before
    ended. ``changes`` are the blocks as they are now, by their numbers; None for what there is no
    longer, which happens to gauges only."""

    new: list[Key]
    changes: dict[int, int | None]


class _Watch:
    """An object that is counted in, and what has been seen of it."""

    __slots__ = ("labels", "mark", "seen", "source", "turn", "way")

    def __init__(self, source: Any, labels: Key, way: Way) -> None:
        #: Held, so that its identity stays its own.
        self.source = source
        self.labels = labels
        self.way = way
        self.mark: object = None
        #: What of it is in the totals already, by number of the block.
        self.seen: dict[int, int] = {}
        #: The report that it was last wanted in, or last changed in.
        self.turn = 0


class _State:
    """How things are at one place of the configuration, as told last."""

    __slots__ = ("blocks", "mark", "turn")

    def __init__(self) -> None:
        self.mark: object = None
        self.blocks: dict[Key, int] = {}
        self.turn = 0


class Reporter:
    """Turns the statistics of one process into reports, each of what changed since the one before.

    What was counted stays in the totals when the configuration has no place for it any longer, and
    when another object takes the place under the same name, be it long after. It has to have been
    in one report for that: whoever puts a configuration to use asks for one at once.
    """

    def __init__(self) -> None:
        self._numbers: dict[Key, int] = {}
        #: What was counted in objects ever, by number of the block.
        self._totals: dict[int, int] = {}
        #: By identity: two objects may count under one name, the old one and the new one.
        self._watches: dict[int, _Watch] = {}
        self._states: dict[Key, _State] = {}
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Reporter of {len(self._numbers)} blocks>"

    def report(self, statistics: Statistics) -> Report:
        """What has changed. It costs little where that is little."""
        report = Report([], {})
        self._turn = turn = self._turn + 1
        watches, wanted = self._watches, 0
        for source, labels, way in sources(statistics):
            wanted += 1
            watch = watches.get(id(source))
            if watch is None:
                watch = watches[id(source)] = _Watch(source, labels, way)
            watch.turn = turn
            mark = way[0](source)
            if mark != watch.mark:
                watch.mark = mark
                self._count(watch, report)
        if len(watches) > wanted:
            self._look_after(report)
        self._tell_states(statistics, report)
        return report

    def _number(self, key: Key, report: Report) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            report.new.append(key)
        return number

    def _count(self, watch: _Watch, report: Report) -> None:
        """Take over what has been counted in an object since."""
        for key, values in watch.way[1](watch.source, watch.labels):
            number = self._number(key, report)
            block = pack(values)
            seen = watch.seen.get(number)
            if block != seen:
                watch.seen[number] = block
                total = self._totals.get(number, 0) + block - (seen or 0)
                self._totals[number] = report.changes[number] = total

    def _look_after(self, report: Report) -> None:
        """Of objects that the configuration has no longer: what still happens to them."""
        for identity, watch in list(self._watches.items()):
            if watch.turn == self._turn:
                continue
            mark = watch.way[0](watch.source)
            if mark != watch.mark:
                watch.mark, watch.turn = mark, self._turn
                self._count(watch, report)
            elif self._turn - watch.turn > _PATIENCE:
                del self._watches[identity]

    def _tell_states(self, statistics: Statistics, report: Report) -> None:
        states, wanted = self._states, 0
        for source, labels, (mark_of, read) in present(statistics):
            wanted += 1
            state = states.get(labels)
            if state is None:
                state = states[labels] = _State()
            state.turn = self._turn
            mark = mark_of(source)
            if mark != state.mark:
                state.mark = mark
                blocks = {key: pack(values) for key, values in read(source, labels)}
                self._tell(state, blocks, report)
        if len(states) > wanted:
            for labels, state in list(states.items()):
                if state.turn != self._turn:
                    del states[labels]
                    self._tell(state, {}, report)

    def _tell(self, state: _State, blocks: dict[Key, int], report: Report) -> None:
        """What differs in the blocks of one place."""
        for key in state.blocks.keys() - blocks.keys():
            report.changes[self._numbers[key]] = None
        for key, block in blocks.items():
            if block != state.blocks.get(key):
                report.changes[self._number(key, report)] = block
        state.blocks = blocks
