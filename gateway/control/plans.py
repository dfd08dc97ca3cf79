"""What the supervisor has to know of a configuration; it never sees the settings themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.control.doors import Address, Wanted
from gateway.core.allotting import Spot

# What the address of the admin port is for.
ADMIN = "admin"
_BACKLOG = 128


class BadPlan(Exception):
    """A configuration cannot be used; ``lines`` is the report, one mistake a line. ``sought`` are
    the files that it was read from: when one of them changes, it may be good."""

    def __init__(self, lines: Sequence[str], sought: Iterable[Path] = ()) -> None:
        self.lines = list(lines)
        self.sought = frozenset(sought)
        super().__init__("\n".join(self.lines))


@dataclass(frozen=True, slots=True)
class Plan:
    """One configuration, judged and found good."""

    #: For the workers, pickled once for all of them.
    payload: bytes
    #: How many workers.
    workers: int
    #: Seconds without a sign of life after which one is replaced.
    worker_timeout: float
    #: Public addresses. The first is named ``listen``.
    doors: Sequence[Wanted]
    admin: Address
    #: What the admin port asks for, None to ask nothing.
    token: str | None
    #: Seconds from unreadiness to the end of accepting, and from there to the end.
    drain_delay: float
    drain: float
    #: Backends, for sharing the places there.
    spots: Sequence[Spot]
    #: Where another gateway may ask for the listening sockets.
    takeover: Path | None
    #: Files that make up the configuration.
    files: frozenset[Path]
    #: Whether they are looked at for changes.
    watch: bool
    #: For how many seconds a document fetched from a URL is as good as a new one.
    freshness: Mapping[str, float]
    #: For the log and the admin port.
    scheme: str
    endpoints: Sequence[str]
    #: The configuration without secrets.
    description: Any
    #: Unix time at which certificates end, by what they are used for and the name of the file.
    certificates: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @property
    def wanted(self) -> list[Wanted]:
        """All addresses; the last one is the admin port's."""
        return [*self.doors, Wanted(ADMIN, self.admin, _BACKLOG)]
