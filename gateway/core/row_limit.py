"""How many rows a batch may have so that the container answers within a target.

The time of a call is taken to be ``a * rows + b``. Both are estimated by least squares in which
older calls count less and less. That tells ``a`` from ``b`` only while batches differ in size, and
in the long run they do not: all are as large as they may be. So ``b`` is pulled towards what it was
when it could be told, with the weight of one percent of the calls, and towards zero before that.
Zero makes it plain proportion, which is on the safe side: growing by ``target / seconds`` cannot
overshoot whatever ``b`` is, because the fixed part does not grow.
"""

from __future__ import annotations

START = 32

# Weight of the past at each new call: about the last twenty count.
_MEMORY = 0.95
_PULL = 0.01
# Batches differ enough in size to tell the fixed part when this share of the mean square of rows is
# variance: a fifth up and down.
_TELLING = 0.04
# While they do not, and the fixed part keeps calls from the target, what is remembered of it fades.
# So the limit falls by and by, until batches have differed enough: a wrong memory, which would
# allow for ever larger batches, cannot last. Where the target is kept a wrong one does no harm: the
# limit stays where calls take as long as the target, however that is divided.
_FADE = 0.98
# A call off by more than this factor, and by more than four times what is usual, is a surprise.
# The first is taken for a pause of the garbage collector or a noisy neighbour and not learned; from
# the second in a row on, it is the container that has changed, and what was before is forgotten.
_SURPRISE = 1.3
_UNUSUAL = 4.0
# The least that must have been seen before anything can surprise or be predicted.
_ENOUGH = 3
# How fast the limit moves at each call.
_GROWTH = 2
_FALL = 4
# After a scoring timeout the limit may grow by a sixteenth for each full batch that ends well.
_CREEP = 16
# After so many full batches without a change one batch has a row more: what is known may be out of
# date, and batches of one row would never show it. When even one row takes longer than the target
# it has three more, to learn whether rows are what takes the time: if they are, the four callers
# lose nothing, since one after the other they would have waited as long.
_STILL = 30
# The clock of an event loop may stand still for a millisecond, but no call takes no time.
_TICK = 1e-4
# Seconds for which the fastest call is remembered: at least one of these, at most two.
_RECENT = 5.0


class RowLimit:
    """The limit for one deployment, learned from its calls."""

    __slots__ = (
        "_before",
        "_ceiling",
        "_current",
        "_fixed",
        "_known",
        "_most",
        "_nn",
        "_noise",
        "_nt",
        "_rows",
        "_seen",
        "_since",
        "_slope",
        "_still",
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
        #: Usual error of the estimate, relative to it.
        self._noise = 0.0
        self._slope = self._fixed = 0.0
        #: The fixed part when it could last be told.
        self._known: float | None = None
        #: Full batches since the limit changed.
        self._still = 0
        # The fastest call since ``_since``, and in the stretch of time before that.
        self._current: float | None = None
        self._before: float | None = None
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<RowLimit {self.cap} of {self._most}, fit {self.fit}>"

    @property
    def fit(self) -> tuple[float, float] | None:
        """Seconds per row and seconds per call; None while the calls have not told them apart."""
        if self._seen < _ENOUGH or self._known is None:
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

        :param rows: of the batch; requests may have none, but their call takes time as well.
        :param seconds: that the call took.
        :param full: the batch would have had more rows but for the limit.
        """
        rows = max(rows, 1)
        seconds = max(seconds, _TICK)
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
        if surprise:
            self._weight = self._rows = self._time = self._nn = self._nt = 0.0
            self._known = None
        self._learn(rows, seconds)
        self._adjust(rows, seconds, full)

    def shrink(self, rows: int) -> None:
        """A batch of so many rows ran into the container's own timeout: half of it at most."""
        self._ceiling = max(1, min(self._ceiling, rows // 2))
        self.cap = min(self.cap, self._ceiling)

    def _surprise(self, rows: int, seconds: float) -> int:
        """1 if the call was far slower than expected, -1 if far faster, else 0."""
        if self._seen < _ENOUGH:
            return 0
        least = most = self._slope * rows + self._fixed
        if self._known is None:
            # Anything between a fixed part only and proportion is as expected.
            mean = self._time / self._weight
            least, most = min(mean, least), max(mean, most)
        factor = max(_SURPRISE, 1.0 + _UNUSUAL * self._noise)
        error = max(seconds - most, least - seconds, 0.0)
        self._noise += (1.0 - _MEMORY) * (min(1.0, error / seconds) - self._noise)
        if seconds > most * factor:
            return 1
        return -1 if seconds * factor < least else 0

    def _learn(self, rows: int, seconds: float) -> None:
        self._weight = weight = self._weight * _MEMORY + 1.0
        self._rows = total = self._rows * _MEMORY + rows
        self._time = time = self._time * _MEMORY + seconds
        self._nn = squares = self._nn * _MEMORY + rows * rows
        self._nt = products = self._nt * _MEMORY + rows * seconds
        self._seen += 1
        variance = 1.0 - total * total / (weight * squares)
        told = time / weight - total * products / (weight * squares)
        fixed = (told + _PULL * (self._known or 0.0)) / (variance + _PULL)
        # Neither part is negative in truth: the other one explains it all then.
        fixed = min(max(fixed, 0.0), time / weight)
        slope = (products - fixed * total) / squares
        if slope < 0.0:
            slope, fixed = 0.0, time / weight
        self._slope, self._fixed = slope, fixed
        if variance >= _TELLING and self._seen >= _ENOUGH:
            self._known = fixed
        elif self._known is not None and self._allowed() > self._target:
            self._known *= _FADE

    def _adjust(self, rows: int, seconds: float, full: bool) -> None:
        cap, most = self.cap, self._most
        allowed = self._allowed()
        wanted = float(most)
        if self._slope > 0.0:
            wanted = min(wanted, (allowed - self._fixed) / self._slope)
        if full and rows >= self._ceiling < most:
            self._ceiling = min(most, self._ceiling + 1 + self._ceiling // _CREEP)
        if wanted < cap:
            cap = max(1, int(wanted), cap // _FALL)
        elif full:
            # By what was seen, not by what the limit is now: of several batches under way at the
            # same time, each would double it.
            cap = max(cap, int(min(wanted, rows * min(_GROWTH, allowed / seconds), self._ceiling)))
        if cap != self.cap:
            self._still = 0
            self.cap = cap
        elif full:
            self._still += 1
            if self._still >= _STILL:
                self._still = 0
                self.cap = min(cap + (1 if wanted >= cap else 3), self._ceiling)

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
