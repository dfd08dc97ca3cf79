"""The address of one scoring container."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from gateway.core.faults import Refusal
from gateway.core.paths import split_target

_URL = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<user>[^/@]*@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"  # RFC 3986 section 3.3
)
# One part of an IPv4 address as inet_aton(3) reads it: hexadecimal, octal or decimal.
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+|0[0-7]*|[1-9][0-9]{0,9}")
# IPv6 addresses whose last 32 bits are an IPv4 address that is connected to: compatible and mapped
# ones (RFC 4291 section 2.5.5), and those of NAT64 (RFC 6052 section 2.1).
_EMBEDDING = tuple(map(IPv6Network, ("::/96", "::ffff:0:0/96", "64:ff9b::/96")))


@dataclass(frozen=True, slots=True)
class Backend:
    """Where to connect, and how requests to it begin.

    ``name`` is ``host:port`` for logs and metrics; ``prefix`` is put before every path. To one that
    is ``secure``, nothing is sent but through TLS.
    """

    host: str
    port: int
    prefix: bytes = b""
    secure: bool = False

    @property
    def name(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """As the configuration could say it."""
        return f"{'https' if self.secure else 'http'}://{self.name}{self.prefix.decode()}"

    @property
    def host_line(self) -> bytes:
        return f"Host: {self.name}\r\n".encode()


def parse_backend(url: str) -> Backend:
    """Read ``http://host[:port][/prefix]``, or the same with ``https``.

    Backends come from the configuration only, never from a request (reliability.md T39). Link-local
    addresses are refused, however they are written: cloud metadata services live there.

    :raises ValueError: with what is wrong and what is accepted, never with a password (T44).
    """
    match = _URL.fullmatch(url)
    if "@" in url and (match is None or match["user"]):
        raise ValueError("a backend URL must not carry a user name or password")
    if match is None:
        raise ValueError(f"{url!r} is not a URL such as http://10.0.0.5:5001")
    scheme = match["scheme"]
    if scheme not in ("http", "https"):
        raise ValueError(f"{url!r}: backends are reached by http:// or https://, not {scheme}://")
    secure = scheme == "https"
    port = int(match["port"] or (443 if secure else 80))
    if not 0 < port < 65536:
        raise ValueError(f"{url!r}: the port must lie between 1 and 65535")
    host = match["host"].strip("[]")
    _refuse_forbidden(host, url)
    return Backend(host, port, _prefix(match["path"] or "/", url), secure)


def _prefix(path: str, url: str) -> bytes:
    """What is put before the paths of requests, which are in normal form: as it must be itself."""
    try:
        normal, _ = split_target(path.encode())
    except Refusal as why:
        raise ValueError(f"{url!r}: {why.detail}") from None
    if normal != path.encode():
        raise ValueError(f"{url!r}: write the path in its normal form, {normal.decode()}")
    return normal.rstrip(b"/")


def _refuse_forbidden(host: str, url: str) -> None:
    try:
        address = literal_address(host)
    except ValueError:
        raise ValueError(f"{url!r}: not an IPv6 address") from None
    if address is None:
        # RFC 1035 section 2.3.4. A dot at the end says that the name is complete.
        if len(host) > 253 or not all(0 < len(s) < 64 for s in host.removesuffix(".").split(".")):
            raise ValueError(f"{url!r}: not a host name: its parts have 1 to 63 characters")
        return
    if address.is_link_local:
        raise ValueError(f"{url!r}: link-local addresses are not accepted as backends")
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{url!r}: not the address of one machine")


def reaches(backend: Backend, host: str, port: int) -> bool:
    """Whether ``backend`` is this machine's listener on ``host`` and ``port``, by what is written:
    names other than ``localhost`` are not looked up."""
    if backend.port != port:
        return False
    here, there = _written(host), _written(backend.host)
    if here == there:
        return True
    if isinstance(there, str) or not there.is_loopback:
        return False
    # A listener on every IPv6 address takes IPv4 connections, too; not the other way round.
    every = (IPv6Address(0), IPv4Address(0)) if there.version == 4 else (IPv6Address(0),)
    return here in every


def _written(host: str) -> IPv4Address | IPv6Address | str:
    if ":" in host:
        address = IPv6Address(host)
        return address.ipv4_mapped or address
    name = host.lower()
    return IPv4Address("127.0.0.1") if name == "localhost" else literal_address(name) or name


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that the system will connect to, None for a name.

    :param host: without brackets.
    :raises ValueError: a colon, but no IPv6 address.
    """
    if ":" not in host:
        return _ipv4(host)
    address = IPv6Address(host)
    if any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _ipv4(host: str) -> IPv4Address | None:
    """What inet_aton(3), and so getaddrinfo(3), makes of a host: one to four numbers, the last of
    which fills all the bytes that are left. None if it is a name."""
    parts = host.split(".")
    if len(parts) > 4 or not all(map(_NUMBER.fullmatch, parts)):
        return None
    *first, last = map(_number, parts)
    room = 256 ** (4 - len(first))
    if last >= room or any(number > 255 for number in first):
        return None
    return IPv4Address(int.from_bytes(first) * room + last)


def _number(text: str) -> int:
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    return int(text, 8 if text[0] == "0" else 10)
