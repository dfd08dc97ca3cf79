"""Listening sockets: opened once, kept over reloads, closed when nobody wants them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.control.doors import CannotListen, Doors, Wanted, listen, passed_by_systemd

HOST = "127.0.0.1"


def wanted(name: str = "listen", port: int = 0, backlog: int = 16) -> Wanted:
    return Wanted(name, (HOST, port), backlog)


def is_open(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 2).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_door_is_open_as_soon_as_it_is_prepared_and_kept_over_reloads() -> None:
    doors = Doors()
    doors.adopt(doors.prepare([wanted(), wanted("admin")]))
    port = doors.address("listen")[1]
    assert is_open(port)
    assert is_open(doors.address("admin")[1])
    first = doors.opened("listen")
    again = doors.prepare([wanted(backlog=32), wanted("admin")])
    assert again["listen"][1] is first
    assert again["listen"][0].number == 1
    assert again["listen"][0].backlog == 32
    doors.adopt(again)
    assert is_open(port)
    assert f"listen ('127.0.0.1', {port})" in repr(doors)
    doors.close()
    assert not is_open(port)


def test_another_address_is_another_door() -> None:
    doors = Doors()
    doors.adopt(doors.prepare([wanted()]))
    before = doors.address("listen")[1]
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    prepared = doors.prepare([wanted(port=port)])
    assert is_open(before)
    assert is_open(port)
    assert prepared["listen"][0].number == 2
    doors.adopt(prepared)
    assert not is_open(before)
    assert is_open(port)
    doors.close()


def test_what_is_not_wanted_after_all_is_closed_and_the_rest_is_not() -> None:
    doors = Doors()
    doors.adopt(doors.prepare([wanted()]))
    prepared = doors.prepare([wanted(), wanted("plain")])
    port = prepared["plain"][1].getsockname()[1]
    doors.discard(prepared)
    assert not is_open(port)
    assert is_open(doors.address("listen")[1])
    doors.close()


def test_an_address_that_cannot_be_had_changes_nothing() -> None:
    doors = Doors()
    doors.adopt(doors.prepare([wanted()]))
    with socket.create_server((HOST, 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1:{taken} is in use by another program"):
            doors.prepare([wanted(), wanted("new"), wanted("plain", taken)])
    assert is_open(doors.address("listen")[1])
    port = doors.address("listen")[1]
    with pytest.raises(CannotListen, match="is in use by listen or another program"):
        doors.prepare([wanted(), wanted("plain", port)])
    doors.close()


@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_given_sockets_are_used_for_their_address_and_the_others_closed(host: str) -> None:
    given, other = (listen((HOST, 0), 5) for _ in range(2))
    port = given.getsockname()[1]
    doors = Doors([given, other])
    doors.adopt(doors.prepare([Wanted("listen", (host, port), 16)]))
    assert doors.opened("listen") is given
    doors.close()
    assert other.fileno() == given.fileno() == -1


def test_given_sockets_that_nobody_wanted_can_be_declined() -> None:
    given = [listen((HOST, 0), 5) for _ in range(3)]
    doors = Doors(given)
    doors.adopt(doors.prepare([wanted(port=given[0].getsockname()[1])]))
    doors.decline(given[:2])
    assert [sock.fileno() == -1 for sock in given] == [False, True, False]
    doors.close()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (("203.0.113.1", 80), "cannot listen on 203.0.113.1:80: Cannot assign requested address"),
        (("no..name", 80), "cannot listen on no..name:80: Name or service not known"),
        (("2001:db8::1", 80), r"cannot listen on \[2001:db8::1\]:80: "),
    ],
)
def test_why_an_address_cannot_be_had_is_said_in_words(address: tuple[str, int], why: str) -> None:
    with pytest.raises(CannotListen, match=why):
        listen(address, 5)


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_PID": "7"}],
)
def test_sockets_of_a_unit_are_for_the_process_they_are_for(environment: dict[str, str]) -> None:
    assert passed_by_systemd(environment, 7) == []


def test_sockets_of_a_unit_come_under_the_numbers_from_three(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "from gateway.control.doors import passed_by_systemd\n"
        "found = passed_by_systemd({**os.environ, 'LISTEN_PID': str(os.getpid())}, os.getpid())\n"
        "print([sock.getsockname() for sock in found], os.get_inheritable(3))\n"
    )
    with socket.create_server((HOST, 0)) as opened:
        ended = subprocess.run(
            [sys.executable, "-c", program, str(opened.fileno())],
            env={**os.environ, "LISTEN_FDS": "1"},
            pass_fds=[opened.fileno()],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        assert ended.stdout == f"[{opened.getsockname()}] False\n"
