"""Listening sockets: opened by the supervisor, inherited by every worker.

There is one socket for each address, and all workers accept from it. What has connected and was not
accepted yet belongs to the socket, not to a worker: nothing is lost when one dies (reliability.md
1.3: with a socket for each worker, SO_REUSEPORT, its queue dies with it).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from gateway.control.messages import Door

Address = tuple[str, int]
# The first descriptor that systemd passes (sd_listen_fds(3)).
_FIRST_PASSED = 3


class CannotListen(Exception):
    """An address cannot be had; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An address to listen on. ``name`` tells what it is for."""

    name: str
    address: Address
    backlog: int


class Doors:
    """The sockets of one gateway, by what they are for."""

    def __init__(self, given: Iterable[socket.socket] = ()) -> None:
        """:param given: listening sockets that others have opened, used where one is wanted."""
        self._given = {_address(each): each for each in given}
        self._numbers = count(1)
        self._open: dict[str, tuple[Door, socket.socket]] = {}

    def __repr__(self) -> str:
        return f"<Doors {', '.join(f'{name} {self.address(name)}' for name in self._open)}>"

    def address(self, name: str) -> Address:
        """Where it really listens, a port chosen by the system included."""
        return _address(self._open[name][1])

    def opened(self, name: str) -> socket.socket:
        return self._open[name][1]

    def prepare(self, wanted: Iterable[Wanted]) -> Mapping[str, tuple[Door, socket.socket]]:
        """Open what is not open yet, and change nothing of what is.

        :raises CannotListen: all that was opened for it is closed again.
        """
        prepared: dict[str, tuple[Door, socket.socket]] = {}
        opened: list[socket.socket] = []
        try:
            for each in wanted:
                door, sock = self._open.get(each.name, (None, None))
                if door is None or sock is None or door.address != each.address:
                    sock = self._have(each, {w.name: w.address for w in wanted})
                    opened.append(sock)
                    door = Door(next(self._numbers), each.name, each.address, each.backlog)
                elif door.backlog != each.backlog:
                    sock.listen(each.backlog)
                    door = Door(door.number, each.name, each.address, each.backlog)
                prepared[each.name] = door, sock
        except CannotListen:
            for sock in opened:
                sock.close()
            raise
        return prepared

    def adopt(self, prepared: Mapping[str, tuple[Door, socket.socket]]) -> None:
        """From now on, these are the doors; what is not among them is closed."""
        kept = {sock for _, sock in prepared.values()}
        for _, sock in self._open.values():
            if sock not in kept:
                sock.close()
        self._open = dict(prepared)

    def discard(self, prepared: Mapping[str, tuple[Door, socket.socket]]) -> None:
        """What was prepared is not wanted after all."""
        kept = {sock for _, sock in self._open.values()}
        for _, sock in prepared.values():
            if sock not in kept:
                sock.close()

    def decline(self, given: Collection[socket.socket]) -> None:
        """Close those of the given sockets that nobody wanted: whoever connected there would wait
        for ever."""
        for address, sock in [*self._given.items()]:
            if sock in given:
                del self._given[address]
                sock.close()

    def close(self) -> None:
        self.adopt({})
        for sock in self._given.values():
            sock.close()
        self._given = {}

    def _have(self, wanted: Wanted, all_wanted: Mapping[str, Address]) -> socket.socket:
        given = self._given.pop(_resolve(wanted.address), None)
        if given is not None:
            given.listen(wanted.backlog)
            return given
        taken = {_address(sock)[1]: name for name, (_, sock) in self._open.items()}
        taken |= {address[1]: name for name, address in all_wanted.items() if name != wanted.name}
        others = f"{taken[wanted.address[1]]} or " if wanted.address[1] in taken else ""
        return listen(wanted.address, wanted.backlog, f"{others}another program")


def listen(address: Address, backlog: int, others: str = "another program") -> socket.socket:
    """A listening socket: two that are only bound could have one address, and uvloop would not
    tell. Whoever connects before anybody accepts waits in the queue.

    :param others: who may have the address already.
    :raises CannotListen: the address cannot be had.
    """
    host = address[0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind(address)
        opened.listen(backlog)
    except OSError as error:
        opened.close()
        where = show(address)
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(f"{where} is in use by {others}") from None
        raise CannotListen(f"cannot listen on {where}: {error.strerror}") from None
    opened.setblocking(False)
    return opened


def show(address: Address) -> str:
    """As it is written in a configuration."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def passed_by_systemd(environment: Mapping[str, str], pid: int) -> list[socket.socket]:
    """The sockets of a socket unit (systemd.socket(5)), none if there is no such."""
    if environment.get("LISTEN_PID") != str(pid):
        return []
    count = environment.get("LISTEN_FDS", "0")
    end = _FIRST_PASSED + (int(count) if count.isdigit() else 0)
    passed: list[socket.socket] = []
    for descriptor in range(_FIRST_PASSED, end):
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setblocking(False)
            passed.append(sock)
        else:
            sock.close()
    return passed


def _resolve(address: Address) -> Address:
    """The address in the form in which sockets tell theirs. What has none is left as it is."""
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return address
    host, port = found[0][4][:2]
    return str(host), int(port)


def _address(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return host, port
