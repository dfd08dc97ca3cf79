"""The Prometheus text format, version 0.0.4, at the pace of a machine that has little else to do.

A page is thousands of lines in which a few numbers have changed. So the text of a line up to its
number is made once, the lines of a column are filled in by one formatting, and what has not changed
since the last page is not even looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate

from gateway.control.families import FAMILIES, LAYOUTS, WIDTHS, Column
from gateway.core.blocks import MILLION, Key, unpack
from gateway.core.totals import Block, Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Pairs of name and value.
Labels = Iterable[tuple[str, str]]
# Labels and value.
Sample = tuple[Labels, float]

_LABELS = "\0"
_IN_LABELS = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Page:
    """What workers have counted, as text."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._headings = {name: heading(name, kind, text) for name, kind, text in FAMILIES}
        #: The lines of each family, by what they are filled from.
        self._pieces: dict[str, list[_Piece]] = {name: [] for name in self._headings}
        self._of_blocks: dict[Block, list[_Piece]] = {}

    def render(self, others: dict[str, Sequence[Sample]]) -> bytes:
        """The whole page.

        :param others: samples of what no worker counts, by family. Of these there are no
            histograms.
        """
        for block in self._totals.changes():
            pieces = self._of_blocks.get(block)
            if pieces is None:
                pieces = self._of_blocks[block] = self._add(block.key)
            total = block.total
            values = None if total is None else unpack(total, WIDTHS[block.key[0]])
            for piece in pieces:
                piece.fill(values)
        parts: list[str] = []
        for name, top in self._headings.items():
            parts.append(top)
            parts += [piece.text for piece in self._pieces[name]]
            parts += [
                f"{start(name, written(labels))}{number(value)}\n"
                for labels, value in others.get(name, ())
            ]
        return "".join(parts).encode()

    def _add(self, key: Key) -> list[_Piece]:
        names, columns = LAYOUTS[key[0]]
        labels = written(zip(names, key[1:], strict=True)).replace("%", "%%")
        pieces, at = [], 0
        for column in columns:
            piece = _Piece(column, labels, at)
            self._pieces[column.family].append(piece)
            pieces.append(piece)
            at += column.width
        return pieces


class _Piece:
    """The lines that one column of a block becomes."""

    __slots__ = ("_from", "_histogram", "_own", "_scaled", "_template", "_to", "text")

    def __init__(self, column: Column, labels: str, at: int) -> None:
        """
        :param labels: of the block, ready for formatting.
        :param at: where in the block's numbers the column begins.
        """
        self._from, self._to = at, at + column.width
        self._histogram = bool(column.bounds)
        self._scaled = column.scaled
        # Thousands of lines differ in nothing else: one replacement makes those of a column.
        self._template = _skeleton(column, labels and _LABELS).replace(_LABELS, labels)
        self._own: tuple[int, ...] | None = None
        self.text = ""

    def fill(self, values: tuple[int, ...] | None) -> None:
        """:param values: those of the block; None if there are no lines at present."""
        own = None if values is None else values[self._from : self._to]
        if own == self._own:
            return
        self._own = own
        if own is None:
            self.text = ""
        elif self._histogram:
            numbers: list[float] = list(accumulate(own))
            # The sum is no bucket: in its place goes the count of all, and it comes last.
            numbers[-1] = numbers[-2]
            numbers.append(own[-1] / MILLION)
            self.text = self._template % tuple(numbers)
        elif self._scaled:
            self.text = self._template % tuple([value / MILLION for value in own])
        else:
            self.text = self._template % own


@cache
def _skeleton(column: Column, labels: str) -> str:
    """The lines of a column, with ``%s`` in the place of every number, which is how both kinds of
    them are to be written.

    :param labels: what stands in the place of those that all lines have; nothing if there are none.
    """
    name = column.family
    if column.bounds:
        bounds = (*map(repr, column.bounds), "+Inf")
        starts = [start(f"{name}_bucket", labels, written((("le", each),))) for each in bounds]
        starts += (start(f"{name}_count", labels), start(f"{name}_sum", labels))
    elif column.choices:
        choices = [written(((column.label, each),)) for each in column.choices]
        starts = [start(name, labels, each) for each in choices]
    else:
        starts = [start(name, labels)]
    return "".join(each + "%s\n" for each in starts)


def heading(name: str, kind: str, text: str) -> str:
    """The two lines above a family."""
    return f"# HELP {name} {text.translate(_IN_HELP)}\n# TYPE {name} {kind}\n"


def written(labels: Labels) -> str:
    """Labels as they stand in a line."""
    return ",".join(f'{label}="{value.translate(_IN_LABELS)}"' for label, value in labels)


def start(name: str, *labels: str) -> str:
    """A line up to its number.

    :param labels: as ``written``.
    """
    inner = ",".join(filter(None, labels))
    return f"{name}{{{inner}}} " if inner else f"{name} "


def number(value: float) -> str:
    """As the format writes it, which differs from Python where there is no number."""
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
