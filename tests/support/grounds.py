"""The memory and the locks that workers share, played by the test: one step at a time.

Every worker acts in a thread of its own, but only one at a time, and each stops before everything
that another worker could see or change. So a test decides in which order they meet, and where in
the middle of it a worker dies.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from gateway.core.turns import SIZE, Turns
from gateway.engine.permits import SharedArea

# Seconds until a test is given up that hangs.
_PATIENCE = 20.0


class Killed(BaseException):
    """Raised in a worker that is dead, so that its thread ends."""


class FakeMemory:
    """Bytes; ``pause`` is called before each time that they are looked at or changed."""

    def __init__(self, size: int, pause: Callable[[], None]) -> None:
        self.content = bytearray(size)
        self._pause = pause

    def __getitem__(self, index: int, /) -> int:
        self._pause()
        return self.content[index]

    def __setitem__(self, index: int, value: int, /) -> None:
        self._pause()
        self.content[index] = value

    def find(self, sub: bytes, start: int, end: int, /) -> int:
        self._pause()
        return self.content.find(sub, start, end)


class Plot:
    """What all workers share."""

    def __init__(self, backends: int = 1) -> None:
        self.content = bytearray(backends * SIZE)
        #: Who has the lock of which byte.
        self.owners: dict[tuple[int, int], object] = {}
        #: Calls that were not heard yet: worker and backend.
        self.calls: deque[tuple[int, int]] = deque()


class FakeGround:
    """The plot as one process sees it."""

    def __init__(self, plot: Plot, pause: Callable[[], None] = lambda: None) -> None:
        self.memory = FakeMemory(0, pause)
        self.memory.content = plot.content
        self._plot = plot
        self._pause = pause

    def lock(self, number: int, index: int) -> bool:
        self._pause()
        return self._plot.owners.setdefault((number, index), self) is self

    def unlock(self, number: int, index: int) -> None:
        self._pause()
        if self._plot.owners.get((number, index)) is self:
            del self._plot.owners[number, index]

    def fence(self, number: int) -> None:
        self._pause()

    def wake(self, worker: int, number: int) -> None:
        self._pause()
        self._plot.calls.append((worker, number))

    def die(self) -> None:
        """The system takes all locks back."""
        for key in [key for key, owner in self._plot.owners.items() if owner is self]:
            del self._plot.owners[key]


class Actor:
    """A worker with requests for one backend, which does one step when told to."""

    def __init__(self, plot: Plot, me: int, concurrency: int) -> None:
        self.me = me
        self.ground = FakeGround(plot, self._pause)
        self.turns = Turns(self.ground, 0, me, concurrency)
        self.seen: dict[int, int] = {}
        self.queue = 0
        self.serving = 0
        self.served = 0
        self.dead = False
        self._action: Callable[[], None] | None = None
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def acts(self) -> bool:
        """It is in the middle of something."""
        return self._action is not None

    def begin(self, action: Callable[[], None]) -> None:
        assert self._action is None
        self._action = action

    def step(self) -> None:
        """Go on up to the next thing that others could see."""
        self._go.release()
        assert self._stopped.acquire(timeout=_PATIENCE), "it hangs"

    def finish_acting(self) -> None:
        while self.acts:
            self.step()

    def die(self) -> None:
        """As of ``kill -9``: wherever it is, it does nothing more."""
        self.dead = True
        self.ground.die()
        self.step()
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            try:
                if self.dead:
                    return
                if self._action is not None:
                    self._action()
                    self._action = None
            except Killed:
                return
            finally:
                self._stopped.release()

    def _pause(self) -> None:
        if threading.current_thread() is not self._thread:
            return
        self._stopped.release()
        self._go.acquire()
        if self.dead:
            raise Killed

    # What a worker does.

    def arrive(self) -> None:
        """Somebody wants a place."""
        if not self.turns.waiting and not self.queue and self.turns.take():
            self._serve_one()
        else:
            self.queue += 1
            self._serve()

    def leave(self) -> None:
        """Somebody waits no longer."""
        self.queue -= 1

    def finish(self) -> None:
        """A container has answered."""
        self.serving -= 1
        if not self.queue or self.turns.others_wait():
            self.turns.give()
        else:
            self.queue -= 1
            self._serve_one()
        self._serve()

    def hear(self) -> None:
        """The worker is called."""
        self.turns.waiting = False
        self._serve()
        if not self.turns.waiting:
            self.turns.withdraw()
        self.turns.refuse()

    def look(self) -> None:
        """Time has passed."""
        if self.turns.waiting and self.turns.reclaim(self.seen):
            self.hear()

    def _serve(self) -> None:
        while self.queue and not self.turns.waiting and (self.turns.take() or self.turns.ask()):
            self.queue -= 1
            self._serve_one()

    def _serve_one(self) -> None:
        self.serving += 1
        self.served += 1


class Neighbour(SharedArea):
    """The real area of a worker that lives in the same process as others, which the locks of the
    system do not tell apart."""

    __slots__ = ("_owners",)

    def __init__(self, land: Land, me: int) -> None:
        super().__init__(land.descriptors, me)
        self._owners = land.owners

    def lock(self, number: int, index: int) -> bool:
        return self._owners.setdefault((number, index), self) is self

    def unlock(self, number: int, index: int) -> None:
        if self._owners.get((number, index)) is self:
            del self._owners[number, index]

    def die(self) -> None:
        for key in [key for key, owner in self._owners.items() if owner is self]:
            del self._owners[key]


class Land:
    """An area for workers that live in one process. To be closed."""

    def __init__(self) -> None:
        self._area = SharedArea.create()
        self.descriptors = self._area.descriptors
        self.owners: dict[tuple[int, int], SharedArea] = {}
        self._neighbours: list[Neighbour] = []

    def neighbour(self, me: int) -> Neighbour:
        self._neighbours.append(Neighbour(self, me))
        return self._neighbours[-1]

    def close(self) -> None:
        for area in (self._area, *self._neighbours):
            area.memory.close()
        for descriptor in self.descriptors.all:
            os.close(descriptor)
