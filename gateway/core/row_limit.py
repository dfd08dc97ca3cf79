"""How many rows a batch may have so that the container answers within a target.

The time of a call is taken to be ``a * rows + b``. Both are estimated by least squares in which
older calls count less and less, with one addition: ``b`` is pulled towards zero, by as much as one
percent of the calls would if they had said so. When batches differ in size, which tells ``a`` from
``b``, that changes nothing; when they do not, the estimate becomes plain proportion. Proportion is
on the safe side: growing by ``target / seconds`` cannot overshoot whatever ``b`` is, because the
fixed part does not grow.
"""

from __future__ import annotations

START = 32

# Weight of the past at each new call: about the last ten count.
_MEMORY = 0.9
_PULL = 0.01
# A call off by more than this factor is a surprise. The first is taken for a pause of the garbage
# collector or a noisy neighbour and not learned; from the second in a row on, it is the container
# that has changed, and each counts as much as everything before.
_SURPRISE = 1.3
# The least that must have been seen before anything can surprise or be predicted.
_ENOUGH = 3
# How fast the limit moves at each call.
_GROWTH = 2
_FALL = 4
# After a scoring timeout the limit may grow by a sixteenth for each full batch that ends well.
_CREEP = 16
# Seconds for which the fastest call is remembered: at least one of these, at most two.
_RECENT = 5.0


class RowLimit:
    """The limit for one deployment, learned from its calls."""

    __slots__ = (
        "_b_weight",
        "_before",
        "_ceiling",
        "_current",
        "_fixed",
        "_most",
        "_nn",
        "_nt",
        "_rows",
        "_seen",
        "_since",
        "_slope",
        "_streak",
        "_target",
        "_time",
        "_weight",
        "cap",
    )

    def __init__(self, most: int, target: float) -> None:
        """
        :param most: rows that a batch may have at all, at least 1.
        :param target: seconds that a call may take, above 0.
        """
        if most < 1 or target <= 0:
            raise ValueError(f"no limit for {most} rows in {target:g} s")
        #: Rows that a batch may have now: from 1 to ``most``.
        self.cap = min(START, most)
        self._most = most
        self._target = target
        #: What scoring timeouts have shown to be too much.
        self._ceiling = most
        # Weighted sums over the calls: 1, rows, seconds, rows², rows * seconds.
        self._weight = self._rows = self._time = self._nn = self._nt = 0.0
        self._seen = 0
        #: Surprises in a row: positive for slow ones, negative for fast ones.
        self._streak = 0
        self._slope = self._fixed = 0.0
        #: How much of the weight tells ``b`` from ``a``: the share of the variance in rows².
        self._b_weight = 0.0
        # The fastest call since ``_since``, and in the stretch of time before that.
        self._current: float | None = None
        self._before: float | None = None
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<RowLimit {self.cap} of {self._most}, fit {self.fit}>"

    @property
    def fit(self) -> tuple[float, float] | None:
        """Seconds per row and seconds per call; None while the calls do not tell them apart."""
        if self._seen < _ENOUGH or self._b_weight < _PULL:
            return None
        return self._slope, self._fixed

    def predict(self, rows: int) -> float | None:
        """Seconds that a call of so many rows will take; None while nothing is known.

        Without a :attr:`fit` this is proportion: right for the usual number of rows, too little for
        fewer and too much for more.
        """
        if self._seen < _ENOUGH:
            return None
        return self._slope * rows + self._fixed

    def fastest(self, now: float) -> float | None:
        """The least seconds that a call can be expected to take; None without recent news.

        That is the fastest call of the last seconds, or what a single row would take where that is
        known to be less. Whoever is turned away for this brings no news, so news grow old: after
        ten seconds without any nobody can be turned away.
        """
        self._grow_old(now)
        known = [seconds for seconds in (self._current, self._before) if seconds is not None]
        if not known:
            return None
        fit = self.fit
        return min(known) if fit is None else min(*known, fit[0] + fit[1])

    def observe(self, rows: int, seconds: float, full: bool, now: float) -> None:
        """A call has ended well.

        :param rows: of the batch, at least 1.
        :param seconds: that the call took.
        :param full: the batch would have had more rows but for the limit.
        """
        self._grow_old(now)
        if self._current is None or seconds < self._current:
            self._current = seconds
        surprise = self._surprise(rows, seconds)
        if surprise == 0:
            self._streak = 0
        elif surprise * self._streak > 0:
            self._streak += surprise
        else:
            self._streak = surprise
            return
        self._learn(rows, seconds, _MEMORY if surprise == 0 else 0.0)
        self._adjust(rows, full)

    def shrink(self, rows: int) -> None:
        """A batch of so many rows ran into the container's own timeout: half of it at most."""
        self._ceiling = max(1, min(self._ceiling, rows // 2))
        self.cap = min(self.cap, self._ceiling)

    def _surprise(self, rows: int, seconds: float) -> int:
        """1 if the call was far slower than expected, -1 if far faster, else 0."""
        if self._seen < _ENOUGH:
            return 0
        if self._b_weight >= _PULL:
            least = most = self._slope * rows + self._fixed
        else:
            # Anything between a fixed cost only and proportion is as expected.
            mean = self._time / self._weight
            share = mean * rows * self._weight / self._rows
            least, most = min(mean, share), max(mean, share)
        if seconds > most * _SURPRISE:
            return 1
        return -1 if seconds * _SURPRISE < least else 0

    def _learn(self, rows: int, seconds: float, memory: float) -> None:
        """
        :param memory: weight of the past; 0 lets it count as much as this one call.
        """
        keep = memory or min(1.0, 1.0 / self._weight)
        self._weight = weight = self._weight * keep + 1.0
        self._rows = total = self._rows * keep + rows
        self._time = time = self._time * keep + seconds
        self._nn = squares = self._nn * keep + rows * rows
        self._nt = products = self._nt * keep + rows * seconds
        self._seen += 1
        self._b_weight = b_weight = 1.0 - total * total / (weight * squares)
        fixed = (time / weight - total * products / (weight * squares)) / (b_weight + _PULL)
        # Neither is negative in truth: the other one explains it all then.
        fixed = min(max(fixed, 0.0), time / weight)
        slope = (products - fixed * total) / squares
        if slope < 0.0:
            slope, fixed = 0.0, time / weight
        self._slope, self._fixed = slope, fixed

    def _adjust(self, rows: int, full: bool) -> None:
        wanted = self._wanted()
        if full and rows >= self._ceiling < self._most:
            self._ceiling = min(self._most, self._ceiling + 1 + self._ceiling // _CREEP)
        if wanted < self.cap:
            self.cap = max(1, int(wanted), self.cap // _FALL)
        elif full:
            # By what was seen, not by what the limit is now: of several batches under way at the
            # same time, each would double it.
            self.cap = max(self.cap, int(min(wanted, _GROWTH * rows, self._ceiling)))

    def _wanted(self) -> float:
        """Rows that take as long as a call may."""
        if self._slope <= 0.0:
            return float(self._most)
        return min(float(self._most), (self._allowed() - self._fixed) / self._slope)

    def _allowed(self) -> float:
        """Seconds that a call may take: the target, unless the fixed part leaves no room in it.

        No limit reaches a target below the fixed part. Sending row by row would then only add up
        the fixed parts, and waiting for a turn would cost far more than was saved. So the rows may
        take as long as the fixed part: half of the highest possible throughput, at twice the least
        possible time. The change is gradual, for the estimate of the fixed part wavers: it begins
        at 93 % of the target, allows 1.2 targets at 100 %, and is complete at 180 %.
        """
        fixed, target = self._fixed, self._target
        return max(target, min(2.0 * fixed, 3.0 * fixed - 1.8 * target))

    def _grow_old(self, now: float) -> None:
        age = now - self._since
        if age >= _RECENT:
            self._before = self._current if age < 2.0 * _RECENT else None
            self._current = None
            self._since = now
