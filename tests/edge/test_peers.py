"""Containers are told who asks by us alone; clients behind a trusted proxy keep their names."""

from __future__ import annotations

from gateway.core.forwarding import Forwarding
from gateway.core.heads import RequestHead
from gateway.edge.peers import Peer
from gateway.engine.routed import Routed
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import Script, Setup

PROXY = "10.1.2.3"
STRANGER = "192.0.2.7"


def routed(host: bytes | None, *forwarded: tuple[bytes, bytes]) -> Routed:
    head = RequestHead(b"GET", 1)
    head.host = host
    head.forwarded = list(forwarded)
    return Routed(head, 1.0)


def told(peer: Peer, request: Routed) -> bytes:
    peer.look_at(request)
    return peer.lines


def lines(*pairs: tuple[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in pairs).encode()


def test_a_strangers_headers_are_replaced() -> None:
    peer = Peer(Forwarding([PROXY]), STRANGER, "http")
    forged = routed(b"a.test", (b"x-forwarded-for", b"1.2.3.4"), (b"forwarded", b"for=1.2.3.4"))
    assert told(peer, forged) == lines(
        ("X-Forwarded-For", STRANGER),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "a.test"),
        ("Forwarded", f'for={STRANGER};proto=http;host="a.test"'),
    )
    assert peer.address == STRANGER


def test_lines_follow_the_host_of_each_request() -> None:
    peer = Peer(Forwarding(()), STRANGER, "https")
    first = told(peer, routed(b"a.test"))
    assert b"X-Forwarded-Host: a.test\r\n" in first
    assert b"X-Forwarded-Proto: https\r\n" in first
    assert b"X-Forwarded-Host: b.test\r\n" in told(peer, routed(b"b.test"))
    assert told(peer, routed(b"a.test")) == first
    assert b"X-Forwarded-Host" not in told(peer, routed(None))


def test_a_trusted_proxy_speaks_for_each_of_its_clients() -> None:
    peer = Peer(Forwarding([PROXY]), PROXY, "http")
    for address in (b"198.51.100.1", b"198.51.100.2"):
        found = told(peer, routed(b"a.test", (b"x-forwarded-for", address)))
        assert b"X-Forwarded-For: " + address + b", 10.1.2.3\r\n" in found
        assert peer.address == address.decode()
    told(peer, routed(b"a.test"))
    assert peer.address == PROXY


def forwarded(address: str, key: str) -> bytes:
    return request(key=key, headers={"X-Forwarded-For": address})


def test_the_record_names_the_client_behind_the_proxy() -> None:
    with Script(Setup(trusted=(PROXY,))) as script:
        client = script.client(PROXY)
        client.says(forwarded("198.51.100.1", KEY))
        container = script.container()
        assert container.hears().header("x-forwarded-for") == f"198.51.100.1, {PROXY}"
        container.answers()
        assert [record.client for record in script.records] == ["198.51.100.1"]


def test_a_refused_request_is_recorded_under_its_own_client() -> None:
    with Script(Setup(trusted=(PROXY,))) as script:
        client = script.client(PROXY)
        client.says(forwarded("198.51.100.66", "a wrong key"))
        client.says(forwarded("198.51.100.1", KEY))
        script.container().answers()
        client.says(forwarded("198.51.100.66", "another wrong key"))
        assert [record.status for record in script.records] == [401, 200, 401]
        assert [record.client for record in script.records] == [
            "198.51.100.66",
            "198.51.100.1",
            "198.51.100.66",
        ]
