"""Places at one backend that several processes share, and whose turn it is.

A place is one byte of memory that all processes see. Whoever has the *lock* of that byte has the
place; the system takes the lock back from a process that dies, whatever it died of. What the byte
says is written only by whoever has its lock, and is a hint for the others: free, taken by a worker,
or promised to one. Beside the places lies one flag for each worker: it waits.

Who gives a place back promises it to the next worker that waits, counted from itself in a circle,
and wakes that one; a place that is promised is not taken by anybody else. So it goes round: a flag
that is up is never passed over, and nobody starves, however fast the others are.

No wake-up is lost: who is to wait raises its flag first and looks once more; who gives a place back
looks for flags before and once more afterwards. Whatever the order, one of the two sees the other,
for both go through the lock of the system in between. A flag is taken down before its worker is
woken, so there is always either the flag or the call. What a process leaves undone that dies in the
middle of any of this is made good by ``bury``, and by ``reclaim`` until then.
"""

from __future__ import annotations

from typing import Protocol

# Workers of one gateway, and places at one backend, at most.
WORKERS = 64
MOST = 512
# Bytes that one backend takes up.
SIZE = WORKERS + MOST

_FREE = b"\0"
_WAITS = b"\1"
# Added to the number of the worker.
_PROMISED = 1
_TAKEN = 128


class Memory(Protocol):
    """Bytes that all workers see; storing one is atomic."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...

    def find(self, sub: bytes, start: int, end: int, /) -> int: ...


class Ground(Protocol):
    """What the workers have in common. Places are told by ``number`` of the backend and ``index``.

    Locks are of processes: one that asks for a lock that it has gets it.
    """

    @property
    def memory(self) -> Memory: ...

    def lock(self, number: int, index: int) -> bool:
        """Whether the lock of a byte could be had."""

    def unlock(self, number: int, index: int) -> None: ...

    def fence(self, number: int) -> None:
        """What was written before is seen by whoever gets a lock of this backend afterwards, and
        what was written by whoever had one before is seen from now on."""

    def wake(self, worker: int, number: int) -> None: ...


class Turns:
    """The places at one backend, as one worker sees them."""

    __slots__ = (
        "__weakref__",
        "_end",
        "_first",
        "_flags",
        "_ground",
        "_lock",
        "_memory",
        "_promised",
        "has_surplus",
        "held",
        "me",
        "number",
        "waiting",
    )

    def __init__(self, ground: Ground, number: int, me: int, concurrency: int = MOST) -> None:
        """
        :param number: of the backend; no two that are in use have the same.
        :param me: the worker, below ``WORKERS``.
        :param concurrency: places, ``MOST`` at most.
        """
        self._ground = ground
        self._memory = ground.memory
        self._lock = ground.lock
        self._flags = number * SIZE
        self._first = self._flags + WORKERS
        self._end = self._first + concurrency
        self._promised = bytes((_PROMISED + me,))
        self.number = number
        self.me = me
        #: Where the places are that this worker has.
        self.held: list[int] = []
        #: Some of these are above ``concurrency``, which was more once. They are given back first,
        #: and never taken again.
        self.has_surplus = False
        #: This worker waits for a place: its flag is up, or it is about to be woken.
        self.waiting = False

    def __repr__(self) -> str:
        state = ", waiting" if self.waiting else ""
        return f"<Turns at {self.number}: {len(self.held)} of {self.concurrency} held{state}>"

    @property
    def concurrency(self) -> int:
        """Places, those of other workers included."""
        return self._end - self._first

    @concurrency.setter
    def concurrency(self, concurrency: int) -> None:
        self._end = self._first + concurrency
        self.has_surplus = any(index >= self._end for index in self.held)

    def take(self) -> bool:
        """Take a place that is promised to this worker, or to nobody."""
        memory = self._memory
        for wanted in (self._promised, _FREE):
            index = memory.find(wanted, self._first, self._end)
            while index >= 0:
                # Whatever the byte says by now: the lock is what counts.
                if self._lock(self.number, index):
                    memory[index] = _TAKEN + self.me
                    self.held.append(index)
                    return True
                index = memory.find(wanted, index + 1, self._end)
        return False

    def ask(self) -> bool:
        """Wait for a place, unless one can be had after all, which is taken then."""
        self._memory[self._flags + self.me] = 1
        self._ground.fence(self.number)
        if self.take():
            self.withdraw()
            return True
        self.waiting = True
        return False

    def withdraw(self) -> None:
        """Wait no longer. What was promised in this moment comes with a call all the same."""
        self.waiting = False
        self._memory[self._flags + self.me] = 0

    def others_wait(self) -> bool:
        """Whether another worker wants a place."""
        worker = self._next()
        return worker >= 0 and worker != self.me

    def give(self) -> bool:
        """Give back a place that was taken; whether it was promised to somebody."""
        if self.has_surplus:
            self.held.sort()
            self.has_surplus = len(self.held) > 1 and self.held[-2] >= self._end
        return self._pass_on(self.held.pop())

    def refuse(self) -> None:
        """Pass on whatever is promised to this worker, which needs it no more."""
        self._pass_on_all(self._promised)

    def reclaim(self, seen: dict[int, int]) -> bool:
        """Look for a place that is free in truth, whatever its byte says, or whose promise was not
        taken up, and promise it to this worker. Needed only where somebody died, or hangs. Only
        what was the same the last time counts: a promise is young, usually.

        :param seen: what the bytes said then, by their places; is brought up to date.
        """
        memory = self._memory
        if memory.find(self._promised, self._first, self._end) >= 0:
            return True
        for index in range(self._first, self._end):
            value, before = memory[index], seen.get(index)
            seen[index] = value
            if index not in self.held and value == before and self._lock(self.number, index):
                memory[index] = self._promised[0]
                self._ground.unlock(self.number, index)
                return True
        return False

    def bury(self) -> None:
        """Undo what a dead worker has left: this one. Whoever waits gets its places."""
        self._memory[self._flags + self.me] = 0
        self._pass_on_all(bytes((_TAKEN + self.me,)))
        self._pass_on_all(self._promised)

    def is_idle(self) -> bool:
        """Whether no byte says that anybody waits here, or has a place."""
        memory = self._memory
        return not any(memory[self._flags + offset] for offset in range(SIZE))

    def _pass_on_all(self, value: bytes) -> None:
        """Those places of this worker whose bytes say so."""
        # Beyond the end, too: there may have been more once.
        end = self._first + MOST
        index = self._memory.find(value, self._first, end)
        while index >= 0:
            if index not in self.held and self._lock(self.number, index):
                self._pass_on(index)
            index = self._memory.find(value, index + 1, end)

    def _pass_on(self, index: int) -> bool:
        """Let go of a place whose lock is ours; whether somebody waited for it."""
        memory, ground = self._memory, self._ground
        while True:
            worker = self._next() if index < self._end else -1
            if worker >= 0:
                memory[self._flags + worker] = 0
                memory[index] = _PROMISED + worker
                ground.unlock(self.number, index)
                ground.wake(worker, self.number)
                return True
            memory[index] = 0
            ground.unlock(self.number, index)
            # Somebody may have looked in vain while it was locked, and be waiting only now.
            if index >= self._end or self._next() < 0 or not self._lock(self.number, index):
                return False

    def _next(self) -> int:
        """The worker that is to be served next, -1 if nobody waits; this one after all others."""
        flags, behind = self._flags, self._flags + self.me + 1
        found = self._memory.find(_WAITS, behind, flags + WORKERS)
        if found < 0:
            found = self._memory.find(_WAITS, flags, behind)
        return found - flags if found >= 0 else -1
