"""Who the client is, and what the container is told about it (RFC 7239, ``X-Forwarded-*``).

Anybody can write these headers, so they are believed only when they come from a configured proxy,
and only as far as the chain of configured proxies reaches. To the container they are always ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from gateway.core.grammar import HOST, OWS

Network = IPv4Network | IPv6Network
# `for=192.0.2.60;proto=http` -- the parameter that names the client, quoted or not (RFC 7239 4).
_FOR = re.compile(rb'(?i:for)=(?:"([^"]*)"|([^;,\s]*))')
_PORT = re.compile(rb"(\[[^\]]*\]|[^:]*):\d+")
# A chain longer than this is a loop or an attack.
MAX_HOPS = 20


class Forwarding:
    """Lays out the forwarding headers of one peer's requests."""

    __slots__ = ("_trusted",)

    def __init__(self, trusted: Iterable[str]) -> None:
        """:param trusted: addresses and networks of the proxies in front of the gateway."""
        self._trusted: tuple[Network, ...] = tuple(
            ip_network(entry, strict=False) for entry in trusted
        )

    def trusts(self, address: str) -> bool:
        if not self._trusted:
            return False
        parsed = _address(address.encode())
        return parsed is not None and any(
            parsed in network for network in self._trusted if network.version == parsed.version
        )

    def describe(
        self,
        peer: str,
        scheme: str,
        host: bytes,
        sent: Sequence[tuple[bytes, bytes]],
        trusted: bool,
    ) -> tuple[str, bytes]:
        """The client's address, and the header lines for the container.

        :param peer: address of the other end of the connection.
        :param scheme: ``http`` or ``https``, from the socket, never from the request.
        :param sent: the client's own forwarding headers, names in lower case.
        :param trusted: whether the peer is a configured proxy.
        """
        before: list[bytes] = []
        if trusted and sent:
            before = self._chain(sent)
            scheme = _last(sent, b"x-forwarded-proto", (b"http", b"https")) or scheme
            host = _last_host(sent) or host
        client = peer
        for hop in reversed(before):
            client = hop.decode()
            if not self.trusts(client):
                break
        hops = [*before, peer.partition("%")[0].encode()]
        lines = b"X-Forwarded-For: " + b", ".join(hops) + b"\r\n"
        lines += b"X-Forwarded-Proto: " + scheme.encode() + b"\r\n"
        if host:
            lines += b"X-Forwarded-Host: " + host + b"\r\n"
        elements = [b"for=" + _node(hop) for hop in hops]
        elements[-1] += b";proto=" + scheme.encode()
        if host:
            elements[-1] += b';host="' + host + b'"'
        return client, lines + b"Forwarded: " + b", ".join(elements) + b"\r\n"

    def _chain(self, sent: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Addresses in front of the peer, first the farthest. What is no address ends the chain:
        nothing before it can be believed."""
        text = b",".join(value for name, value in sent if name == b"x-forwarded-for")
        if text:
            entries = [entry.strip(OWS) for entry in text.split(b",")]
        else:
            text = b",".join(value for name, value in sent if name == b"forwarded")
            entries = [quoted or plain for quoted, plain in _FOR.findall(text)]
        chain: list[bytes] = []
        for entry in reversed(entries[-MAX_HOPS:]):
            address = _address(entry)
            if address is None:
                break
            chain.append(str(address).encode())
        return chain[::-1]


def _address(text: bytes) -> IPv4Address | IPv6Address | None:
    match = _PORT.fullmatch(text) if text.count(b":") == 1 or text.startswith(b"[") else None
    bare = (match[1] if match else text).strip(b"[]")
    try:
        address = ip_address(bare.decode("ascii"))
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    # A zone names an interface of the machine that wrote it, in any characters (RFC 4007 section
    # 11). It tells nobody else anything, and quotes or commas in it would write headers of ours.
    return IPv6Address(int(address)) if address.scope_id else address


def _node(address: bytes) -> bytes:
    """RFC 7239 section 6: an IPv6 address is bracketed and quoted."""
    return b'"[' + address + b']"' if b":" in address else address


def _last(
    sent: Sequence[tuple[bytes, bytes]], wanted: bytes, accepted: tuple[bytes, ...]
) -> str | None:
    values = [value.lower() for name, value in sent if name == wanted]
    return values[-1].decode() if values and values[-1] in accepted else None


def _last_host(sent: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    values = [value for name, value in sent if name == b"x-forwarded-host"]
    return values[-1] if values and HOST.fullmatch(values[-1]) else None
