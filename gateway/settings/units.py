"""Durations, sizes, addresses: how they are written, and what they become."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address, ip_address

# In the syntax that Python and JSON Schema share. The numbers of digits bound the arithmetic.
DURATION = r"([0-9]{1,15}(?:\.[0-9]{1,20})?) *(ms|s|m|h|d)"
SIZE = r"([0-9]{1,19}(?:\.[0-9]{1,20})?) *(B|KiB|MiB|GiB|kB|MB|GB)"
# An IPv6 address, an IPv4 address or a name: that has a letter, so that `1:3000` is not the host 1.
ADDRESS = (
    r"(\[[0-9A-Fa-f:.]+\]|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9._-]*[A-Za-z][A-Za-z0-9._-]*)"
    r":([0-9]{1,5})"
)

_SECONDS = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
_BYTES = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_LARGEST = (1 << 63) - 1

DURATION_HINT = "a duration such as 500ms, 60s, 5m or 1h"
SIZE_HINT = "a size such as 512B, 64KiB or 100MiB"
ADDRESS_HINT = "an address such as 127.0.0.1:8080 or [::1]:8080"


def parse_duration(value: object) -> float:
    """Seconds. A bare number has no unit and is refused: is 60 a minute or a blink?

    :raises ValueError: with what is accepted.
    """
    match = re.fullmatch(DURATION, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected {DURATION_HINT}")
    return float(Fraction(match[1]) * _SECONDS[match[2]])


def format_duration(seconds: float) -> str:
    """A duration in the largest unit that needs no fraction; it reads back as the same."""
    exact = Fraction(seconds)
    for unit in ("d", "h", "m", "s"):
        count = exact / _SECONDS[unit]
        if count >= 1 and count.denominator == 1:
            return f"{count}{unit}"
    # repr() has the fewest digits that mean this very number.
    return f"{(Decimal(repr(seconds)) * 1000).normalize():f}ms"


def parse_size(value: object) -> int:
    """Bytes, a whole number of them and at most what 63 bits hold.

    :raises ValueError: with what is accepted.
    """
    match = re.fullmatch(SIZE, value) if isinstance(value, str) else None
    size = Fraction(match[1]) * _BYTES[match[2]] if match else None
    if size is None or size.denominator != 1 or size > _LARGEST:
        raise ValueError(f"expected {SIZE_HINT}")
    return int(size)


def format_size(size: int) -> str:
    """The shortest way to write a size that reads back as the same."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def parse_address(value: object) -> tuple[str, int]:
    """Host and port of a listener. Port 0 lets the system choose.

    :raises ValueError: with what is accepted.
    """
    match = re.fullmatch(ADDRESS, value) if isinstance(value, str) else None
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"expected {ADDRESS_HINT}")
    host = match[1].strip("[]")
    try:
        if match[1].startswith("["):
            IPv6Address(host)
        elif not re.search("[A-Za-z]", host):
            IPv4Address(host)
    except ValueError:
        raise ValueError(f"expected {ADDRESS_HINT}") from None
    return host, int(match[2])


def format_address(address: tuple[str, int]) -> str:
    """The address as ``parse_address`` reads it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
