"""A gateway under load for a while: what it uses, what it counts, and what becomes of requests.

``soak`` is what the test and the benchmark of that name have in common.
"""

from __future__ import annotations

import ssl
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from tests.support.gateways import GatewayProcess, wait_until
from tests.support.questions import Scoring
from tests.support.scrapes import Scraper
from tests.support.traffic import Account, Traffic
from tests.support.usage import descriptors, family, own_memory

#: Of its memory, that the gateway may be larger at the end than after the warm-up.
MOST_GROWTH = 0.02
#: Descriptors that may be open at the end and were not before, or the other way round.
MOST_DESCRIPTORS = 5
#: Between two looks at what the gateway uses, in seconds.
_LOOK = 0.5


@dataclass(frozen=True, slots=True)
class Look:
    """What all processes together used at one moment: bytes of memory, open descriptors."""

    when: float
    processes: int
    memory: int
    descriptors: int


def growth(looks: Sequence[Look]) -> float:
    """By which share memory grows over all looks, by the median of the slopes of pairs (Theil-Sen):
    a single look at a bad moment says nothing.
    """
    if len(looks) < 4:
        raise ValueError("too few looks")
    half = len(looks) // 2
    slopes = [
        (later.memory - earlier.memory) / (later.when - earlier.when)
        for earlier, later in zip(looks, looks[half:], strict=False)
    ]
    return statistics.median(slopes) * (looks[-1].when - looks[0].when) / looks[0].memory


@dataclass(slots=True)
class Report:
    """What was seen. ``problems`` says what of it should not have been."""

    seconds: float
    account: Account
    looks: list[Look] = field(default_factory=list)
    warm: list[Look] = field(default_factory=list)
    descriptors: tuple[int, int] = (0, 0)
    #: Answers by the gateway's own count, and what its counters are accused of.
    counted: float = 0.0
    complaints: list[str] = field(default_factory=list)
    kills: int = 0
    log: str = ""

    @property
    def growth(self) -> float:
        return growth(self.warm)

    def problems(self) -> list[str]:
        found = list(self.complaints)
        if self.growth > MOST_GROWTH:
            found.append(f"memory grew by {self.growth:.1%}")
        before, after = self.descriptors
        if abs(after - before) > MOST_DESCRIPTORS:
            found.append(f"{before} descriptors were open before, {after} afterwards")
        account = self.account
        failed = account.fates.total() - account.right - (account.lost if self.kills else 0)
        if failed or (account.lost and not self.kills):
            found.append(f"not all were answered: {account}")
        answered = sum(account.answers.values())
        # What a worker that is killed has counted since its last report is lost.
        if self.counted > answered or (self.counted < answered and not self.kills):
            found.append(f"{answered} answers, of which the gateway has counted {self.counted:.0f}")
        found += [line for line in self.log.splitlines() if '"level":"error"' in line][:3]
        if "Traceback" in self.log:
            found.append("there is a traceback in the log")
        return found


class _Watch:
    """Looks at the processes of a gateway again and again. Use as a context manager."""

    def __init__(self, pid: int) -> None:
        self.looks: list[Look] = []
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(_LOOK):
            processes = len(family(self._pid))
            try:
                memory, opened = own_memory(self._pid), descriptors(self._pid)
            except OSError:
                continue  # one of them has just ended
            self.looks.append(Look(time.monotonic(), processes, memory, opened))


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something that is done every so many seconds; ``kills`` if it costs requests."""

    every: float
    do: Callable[[], None]
    kills: bool = False


def soak(
    gateway: GatewayProcess,
    seconds: float,
    *,
    warm_up: float,
    kept: int = 24,
    fresh: int = 4,
    pause: float = 0.02,
    tls: ssl.SSLContext | None = None,
    disturbances: Sequence[Disturbance] = (),
) -> Report:
    """Ask the endpoint ``diabetes`` of a gateway that nobody has asked anything yet.

    :param warm_up: seconds, of these, after which memory should not grow any more.
    :param kept: and what follows: see ``Traffic``.
    """
    before = _at_rest(gateway)
    whole = len(family(gateway.process.pid))
    clients = Traffic(
        gateway.address, Scoring("soak"), kept=kept, fresh=fresh, pause=pause, tls=tls,
        name="localhost",
    )  # fmt: skip
    begun = time.monotonic()
    with _Watch(gateway.process.pid) as watch, Scraper(gateway, 1.0) as scraper, clients as traffic:
        kills = _disturb(begun + seconds, disturbances)
    report = Report(time.monotonic() - begun, traffic.account, watch.looks, kills=kills)
    report.warm = [
        look for look in watch.looks if look.when > begun + warm_up and look.processes == whole
    ]
    report.complaints = scraper.complaints
    report.descriptors = before, _at_rest(gateway)
    report.counted = gateway.metric("gateway_requests_total")
    report.log = gateway.log()
    return report


def _disturb(until: float, disturbances: Sequence[Disturbance]) -> int:
    """Do what is to be done whenever it is due; how many of that were kills."""
    kills, due = 0, [(time.monotonic() + one.every, one) for one in disturbances]
    while due and (first := min(due, key=lambda entry: entry[0]))[0] < until:
        _sleep_until(first[0])
        first[1].do()
        kills += first[1].kills
        due.remove(first)
        due.append((first[0] + first[1].every, first[1]))
    _sleep_until(until)
    return kills


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))


def _at_rest(gateway: GatewayProcess) -> int:
    """Descriptors that are open while nobody asks anything."""
    for name in ("gateway_connections", "gateway_upstream_connections"):
        wait_until(lambda name=name: gateway.metric(name) == 0, 15, f"{name} 0")
    return gateway.descriptors()
