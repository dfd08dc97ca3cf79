"""Workers of a gateway, killed, and what they had with them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.gateways import GatewayProcess, wait_until


def inside(worker: int, port: int) -> set[int]:
    """Ports of the clients whose connections to a port a process has, if it is not running."""
    folder = Path(f"/proc/{worker}/fd")
    sockets = {os.readlink(entry) for entry in folder.iterdir()}
    found: set[int] = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *_, inode = line.split()[:10]
        if int(local.partition(":")[2], 16) == port and f"socket:[{inode}]" in sockets:
            found.add(int(remote.partition(":")[2], 16))
    return found


@dataclass(slots=True)
class Killer:
    """Kills workers, and remembers what they had."""

    gateway: GatewayProcess
    #: Clients' ports with the times at which their connections died.
    had: list[tuple[int, float]] = field(default_factory=list)
    #: Seconds from each death until there was another worker that served.
    taken: list[float] = field(default_factory=list)

    def kill(self) -> None:
        """One worker, the one that has been there longest; returns when there is another."""
        before = self.gateway.workers()
        victim = before[0]
        os.kill(victim, signal.SIGSTOP)
        ports = inside(victim, self.gateway.address[1])
        begun = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        self.had += [(port, begun) for port in ports]
        wait_until(lambda: self._is_replaced(before, victim), 10, "another worker")
        self.taken.append(time.monotonic() - begun)

    def _is_replaced(self, before: list[int], victim: int) -> bool:
        now = self.gateway.workers()
        if victim in now or len(now) < len(before):
            return False
        return self.gateway.metric("gateway_workers") == len(before)

    def accounts_for(self, port: int, when: float) -> bool:
        """Whether a request that was lost then was inside one of them."""
        return any(port == its and when - 1 < died <= when for its, died in self.had)
