"""A flood of handshakes: T14 and T17 of the threat table, with TLS.

The promise: whoever makes the gateway compute keeps nobody waiting, whoever keeps it waiting is let
go in time, and neither leaves anything behind.
"""

from __future__ import annotations

import multiprocessing
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import FakeBackend, echoing
from tests.support.certificates import HOST, issue, rsa_key
from tests.support.gateways import KEY, GatewayProcess, wait_until
from tests.support.raw import request
from tests.support.raw_tls import TlsClient
from tests.support.resources import room_for
from tests.support.tls import ROOT, asking

SECONDS = 3.0
# What two processes, one of which wants all of a core, make of a machine with two is not measured:
# the longest that the loop was kept from anything is.
LATE = 0.1
CROWD = 600


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    # RSA costs the server a millisecond each, which is what a flood is about.
    issue(HOST, by=ROOT, key=rsa_key()).write(tmp_path, "gateway")
    with FakeBackend(echoing) as backend:
        text = f"""
listen:
  address: 127.0.0.1:0
  tls: {{certificate: gateway.pem, key: gateway.key}}
  limits: {{connections: 2000}}
  timeouts: {{handshake: 1s}}
admin: 127.0.0.1:0
access_log: off
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments: {{blue: {{backends: ["{backend.url}"], concurrency: 64}}}}
"""
        with GatewayProcess(text, tmp_path) as running:
            yield running
            assert "Traceback" not in running.log()
            assert running.complaints() == []


def hello() -> bytes:
    """What a client begins with."""
    outgoing = ssl.MemoryBIO()
    client = asking().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def flood(address: tuple[str, int], greeting: bytes, seconds: float) -> None:
    """Begin handshakes as fast as possible, and never go on with one."""
    end = time.monotonic() + seconds
    held: list[socket.socket] = []
    while time.monotonic() < end:
        connection = socket.socket()
        connection.settimeout(0.2)
        try:
            connection.connect(address)
            connection.send(greeting)
        except OSError:
            connection.close()
            continue
        held.append(connection)
        if len(held) > 200:
            held.pop(0).close()


def test_t17_a_flood_of_handshakes_does_not_keep_others_waiting(gateway: GatewayProcess) -> None:
    with TlsClient(gateway.address, 20, asking()) as client:
        attacker = multiprocessing.get_context("fork").Process(
            target=flood, args=(gateway.address, hello(), SECONDS)
        )
        attacker.start()
        served = 0
        while attacker.is_alive():
            client.send(request(body=b"%d" % served, key=KEY, headers={"Content-Type": "a/b"}))
            answer = client.answer()
            assert (answer.status, answer.body) == (200, b"%d" % served)
            served += 1
        attacker.join()
    assert gateway.metric("gateway_event_loop_lag_max_seconds") < LATE
    ends = {
        result: gateway.metric("gateway_tls_handshakes_total", result=result)
        for result in ("left", "displaced", "timed_out")
    }
    assert sum(ends.values()) > 100, "that was no flood"
    assert served > 100
    wait_until(lambda: gateway.metric("gateway_connections") == 0, what="all of them gone")


def test_t14_idle_handshakes_are_ended_in_time(gateway: GatewayProcess) -> None:
    greeting = hello()
    with room_for(CROWD + 100):
        idle = [socket.create_connection(gateway.address, 10) for _ in range(CROWD)]
        for number, connection in enumerate(idle):
            if number % 3:
                connection.sendall(greeting[: 1 if number % 3 == 1 else len(greeting)])
        began = time.monotonic()
        # Others get in meanwhile, although a quarter of the places at most is for handshakes.
        for _ in range(5):
            with TlsClient(gateway.address, 10, asking()) as client:
                client.send(request(key=KEY))
                assert client.answer().status == 200
        for connection in idle:
            connection.settimeout(5)
            while True:
                try:
                    if not connection.recv(65536):
                        break
                except ConnectionResetError:
                    break
            connection.close()
        assert time.monotonic() - began < 4
    ended = sum(
        gateway.metric("gateway_tls_handshakes_total", result=result)
        for result in ("timed_out", "displaced")
    )
    assert ended == CROWD
    wait_until(lambda: gateway.metric("gateway_connections") == 0, what="all of them gone")


def test_t17_handshakes_that_break_off_leave_nothing_behind(gateway: GatewayProcess) -> None:
    greeting = hello()
    assert gateway.ask_over(asking()).status == 200
    wait_until(lambda: gateway.metric("gateway_upstream_connections") == 0)
    before = gateway.descriptors()

    def leave(count: int) -> None:
        for number in range(count):
            with socket.create_connection(gateway.address, 5) as connection:
                connection.sendall((greeting, greeting[:50], b"GET / HTTP/1.1\r\n\r\n")[number % 3])
                if number % 2:
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    threads = [threading.Thread(target=leave, args=(200,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = "gateway_tls_handshakes_total"
    wait_until(lambda: gateway.metric(done) >= 800, 20, "the end of every one of them")
    wait_until(lambda: gateway.metric("gateway_connections") == 0, what="all of them gone")
    wait_until(lambda: gateway.descriptors() <= before + 1, what="their descriptors closed")
