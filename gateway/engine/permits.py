"""What the workers of one gateway share so that, together, they never send a container more than it
may have: some memory, locks, and a bell for each.

The supervisor makes it and hands it down; the rules are core's (``core/turns.py``). Locks are POSIX
record locks of empty files (fcntl(2)). They belong to the process, and the kernel takes them back
when it ends, whatever ended it. They are gone as well when the process closes *any* descriptor of
the file, so these descriptors are never closed, never duplicated, and never wrapped in an object
that would. That is why the memory is a file of its own: a map duplicates its descriptor.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SHRINK, LOCK_EX, LOCK_NB, LOCK_UN, fcntl, lockf
from typing import Protocol
from weakref import WeakValueDictionary

from gateway.core.allotting import BACKENDS, Allotment, Spot
from gateway.core.backends import Backend
from gateway.core.turns import SIZE, WORKERS, Turns

_log = logging.getLogger("gateway")

# The kernel searches the locks of a file one by one: taking and giving back costs 2 us beside few
# others that are held, 13 us beside 1000, 90 us beside 5000. So they are spread over some files.
_FILES = 16
_TRY = LOCK_EX | LOCK_NB
# Behind the places: a row for each worker, with a byte for each backend that it is called for.
_CALLS = BACKENDS * SIZE
_LENGTH = _CALLS + WORKERS * BACKENDS
_CALLED = b"\1"
# Seconds between two looks at what is waited for. Needed only when somebody died or hangs.
LOOK = 0.02


@dataclass(frozen=True, slots=True)
class Descriptors:
    """The numbers of what is shared, the same in all processes. Can be pickled."""

    memory: int
    locks: tuple[int, ...]
    bells: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        """What a worker has to inherit."""
        return self.memory, *self.locks, *self.bells

    def words(self) -> tuple[str, str, str]:
        """For the command line of a worker."""
        return str(self.memory), ",".join(map(str, self.locks)), ",".join(map(str, self.bells))

    @classmethod
    def from_words(cls, memory: str, locks: str, bells: str) -> Descriptors:
        """What ``words`` were made of."""
        return cls(int(memory), _numbers(locks), _numbers(bells))


class SharedArea:
    """The ground on which places are shared, as one process sees it. Lasts as long as that."""

    __slots__ = ("_bells", "_locks", "descriptors", "me", "memory")

    def __init__(self, descriptors: Descriptors, me: int) -> None:
        self.descriptors = descriptors
        self.me = me
        self.memory = mmap.mmap(descriptors.memory, _LENGTH)
        self._locks = descriptors.locks
        self._bells = descriptors.bells

    def __repr__(self) -> str:
        return f"<SharedArea of worker {self.me}>"

    @classmethod
    def create(cls) -> SharedArea:
        """A new one, for the supervisor. No program that it starts inherits any of it unasked.

        It takes up no memory but for what is used: 640 bytes for each backend.

        :raises OSError: too many files are open.
        """
        memory = os.memfd_create("places", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, _LENGTH)
        fcntl(memory, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK)
        locks = tuple(os.memfd_create("place-locks") for _ in range(_FILES))
        bells = tuple(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(WORKERS))
        return cls(Descriptors(memory, locks, bells), 0)

    @classmethod
    def join(cls, me: int, descriptors: Descriptors) -> SharedArea:
        """The one that was inherited, for a worker; once for each process.

        :param me: the worker, below ``WORKERS``; no two that live have the same.
        """
        return cls(descriptors, me)

    def clear(self, worker: int, used: int) -> None:
        """Put in order what a worker has left that is dead. For the supervisor, before another one
        gets its number.

        :param used: numbers of backends below this one have been used (``Allotter.used``).
        """
        for number in range(used):
            Turns(self, number, worker).bury()
        row = _CALLS + worker * BACKENDS
        self.memory[row : row + used] = bytes(used)

    def is_idle(self, number: int) -> bool:
        """Whether nobody has a place at a backend, or waits for one."""
        return Turns(self, number, self.me).is_idle()

    # What ``Turns`` want.

    def lock(self, number: int, index: int) -> bool:
        try:
            lockf(self._locks[number % _FILES], _TRY, 1, index)
        except (BlockingIOError, PermissionError):  # POSIX leaves it open which
            return False
        return True

    def unlock(self, number: int, index: int) -> None:
        lockf(self._locks[number % _FILES], LOCK_UN, 1, index)

    def fence(self, number: int) -> None:
        # Nobody ever locks a flag, so nothing happens, but under the file's lock in the kernel.
        lockf(self._locks[number % _FILES], LOCK_UN, 1, number * SIZE)

    def wake(self, worker: int, number: int) -> None:
        self.memory[_CALLS + worker * BACKENDS + number] = 1
        os.eventfd_write(self._bells[worker], 1)

    # Being called.

    @property
    def bell(self) -> int:
        """A descriptor that can be read when this worker is called."""
        return self._bells[self.me]

    def calls(self, used: int) -> list[int]:
        """The backends that this worker is called for; each is told once for each time.

        :param used: numbers below this one are looked at.
        """
        try:
            os.eventfd_read(self.bell)
        except BlockingIOError:
            return []
        memory, row = self.memory, _CALLS + self.me * BACKENDS
        numbers = []
        index = memory.find(_CALLED, row, row + used)
        while index >= 0:
            memory[index] = 0
            numbers.append(index - row)
            index = memory.find(_CALLED, index + 1, row + used)
        return numbers


class Waiter(Protocol):
    """Has requests that wait for places."""

    def look(self) -> None:
        """There may be a place now."""


@dataclass(frozen=True, slots=True)
class Permit:
    """What a worker may use of the places at the backends of one deployment."""

    permits: Permits
    #: One for each backend; none where the places are divided between the workers.
    turns: tuple[Turns, ...]
    #: Places at each backend that are this worker's own on average, or where they are divided.
    part: int


class Sharing(Protocol):
    """Knows what of the places at backends may be used here."""

    @property
    def workers(self) -> int:
        """How many there are. With another number, every ``Permit`` is another."""

    def at(
        self, endpoint: str, deployment: str, backends: Sequence[Backend], concurrency: int
    ) -> Permit | None:
        """For the backends of a deployment; None where no other worker uses them."""


class Permits:
    """How one worker shares places with the others. One for each process."""

    __slots__ = (
        "_allotment",
        "_area",
        "_listening",
        "_seen",
        "_timer",
        "_turns",
        "_used",
        "_waiting",
    )

    def __init__(self, area: SharedArea) -> None:
        self._area = area
        self._allotment = Allotment()
        #: Numbers of backends below this one are in use.
        self._used = 0
        #: By number. There must be no two for one number: they would take each other's locks.
        self._turns: WeakValueDictionary[int, Turns] = WeakValueDictionary()
        #: Who waits here, in the order of coming: usually one, two after a reload.
        self._waiting: dict[Turns, dict[Waiter, None]] = {}
        self._seen: dict[Turns, dict[int, int]] = {}
        self._listening = False
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Permits of worker {self._area.me}, {len(self._waiting)} waited for>"

    @property
    def workers(self) -> int:
        return self._allotment.workers

    def adopt(self, allotment: Allotment) -> None:
        """``at`` follows this from now on. What was made before goes on as it is."""
        self._allotment = allotment
        self._used = max(self._used, 1 + max(allotment.numbers.values(), default=-1))

    def at(
        self, endpoint: str, deployment: str, backends: Sequence[Backend], concurrency: int
    ) -> Permit | None:
        """
        :raises KeyError: the allotment does not know the backend.
        """
        allotment, me = self._allotment, self._area.me
        if allotment.workers < 2:
            return None
        part = allotment.part(concurrency, me)
        if allotment.divides(concurrency):
            return Permit(self, (), part)
        spots = (spot_of(endpoint, deployment, backend) for backend in backends)
        turns = (self._turns_at(allotment.numbers[spot], concurrency) for spot in spots)
        return Permit(self, tuple(turns), part)

    def wait(self, turns: Turns, waiter: Waiter) -> None:
        """Call ``waiter`` when there may be a place."""
        self._waiting.setdefault(turns, {})[waiter] = None
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(LOOK, self._look)
            if not self._listening:
                self._listening = True
                loop.add_reader(self._area.bell, self._hear)

    def is_waiting(self, turns: Turns, waiter: Waiter) -> bool:
        """Whether ``waiter`` will be called when there may be a place."""
        return waiter in self._waiting.get(turns, ())

    def forget(self, turns: Turns, waiter: Waiter) -> None:
        """``waiter`` wants no place any more."""
        waiters = self._waiting.get(turns, {})
        waiters.pop(waiter, None)
        if not waiters:
            self._waiting.pop(turns, None)
            self._seen.pop(turns, None)
            turns.withdraw()

    def _turns_at(self, number: int, concurrency: int) -> Turns:
        turns = self._turns.get(number)
        if turns is None:
            turns = self._turns[number] = Turns(self._area, number, self._area.me, concurrency)
        return turns

    def _hear(self) -> None:
        """Another worker has given a place back that is promised to this one."""
        for number in self._area.calls(self._used):
            turns = self._turns.get(number)
            if turns is None:
                Turns(self._area, number, self._area.me).refuse()
            else:
                self._offer(turns)

    def _offer(self, turns: Turns) -> None:
        waiters = self._waiting.pop(turns, {})
        self._seen.pop(turns, None)
        turns.waiting = False
        for waiter in waiters:
            try:
                waiter.look()
            except Exception:  # noqa: BLE001  the others have nothing to do with it
                _log.exception("a place could not be used")
        if not turns.waiting:
            turns.withdraw()
        turns.refuse()

    def _look(self) -> None:
        """Places of those who died, or do not come for what they are promised, are of use, too."""
        self._timer = None
        for turns in tuple(self._waiting):
            if turns in self._waiting and turns.reclaim(self._seen.setdefault(turns, {})):
                self._offer(turns)
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)


class Survey:
    """Takes down all backends that there are, where nothing is shared: for the supervisor, which
    builds everything once to see whether it can be built."""

    workers = 1

    def __init__(self) -> None:
        self.spots: list[Spot] = []

    def at(
        self, endpoint: str, deployment: str, backends: Sequence[Backend], concurrency: int
    ) -> Permit | None:
        self.spots.extend(spot_of(endpoint, deployment, backend) for backend in backends)
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def spot_of(endpoint: str, deployment: str, backend: Backend) -> Spot:
    """What a backend is known by: its address, however it is spoken to."""
    return endpoint, deployment, f"{backend.name}{backend.prefix.decode()}"
