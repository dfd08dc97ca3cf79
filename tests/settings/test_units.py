"""Durations, sizes and addresses: what is written is what is meant, or it is refused with a hint.

The hints are the last words of the report of ``scoring-gateway check``, so they are compared whole.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.units import (
    format_address,
    format_duration,
    format_size,
    is_loopback,
    parse_address,
    parse_duration,
    parse_size,
)

DURATION = "expected a duration such as 500ms, 60s, 5m or 1h"
SIZE = "expected a size such as 512B, 64KiB or 100MiB"
ADDRESS = "expected an address such as 127.0.0.1:8080 or [::1]:8080"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("500ms", 0.5),
        ("0.5ms", 0.0005),
        ("60s", 60.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("2d", 172800.0),
        ("10 s", 10.0),
        ("007s", 7.0),
    ],
)
def test_a_duration_becomes_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        60, 0, 1.5, True, None, [], {}, "", "60", "s", "-1s", "+1s", "1,5s", "1.s", ".5s", "1e3s",
        "1 min", "1S", "1M", "1us", "1s ", " 1s", "1s\n", "1m30s", "inf", "nan s", "1:30",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_examples(value: object) -> None:
    with pytest.raises(ValueError, match="expected ") as caught:
        parse_duration(value)
    assert str(caught.value) == DURATION


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.0005, "0.5ms"),
        (0.5, "500ms"),
        (1.5, "1500ms"),
        (60.0, "1m"),
        (90.0, "90s"),
        (5400.0, "90m"),
        (86400.0, "1d"),
        (90000.0, "25h"),
    ],
)
def test_a_duration_is_written_in_the_largest_unit_that_needs_no_fraction(
    seconds: float, text: str
) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 10**9), st.sampled_from(["s", "m", "h", "d"]))
def test_whole_seconds_read_back_as_themselves(count: int, unit: str) -> None:
    seconds = parse_duration(f"{count}{unit}")
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["1048569ms", "1234567.8ms", "1000.0005s"])
def test_a_fraction_of_a_second_reads_back_as_itself(text: str) -> None:
    seconds = parse_duration(text)
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("512B", 512),
        ("64KiB", 65536),
        ("1MiB", 1 << 20),
        ("100MiB", 100 << 20),
        ("2GiB", 2 << 30),
        ("1kB", 1000),
        ("1MB", 10**6),
        ("1GB", 10**9),
        ("1.5KiB", 1536),
        ("1 MiB", 1 << 20),
    ],
)
def test_a_size_becomes_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value",
    [
        1024, 0, 1.5, True, None, [], {}, "", "1024", "B", "-1B", "+1B", "1.B", ".5MiB", "1e3B",
        "1KB", "1kib", "1K", "1M", "1mb", "1TiB", "1B ", " 1B", "1B\n", "1_000B", "0x10B",
    ],
)  # fmt: skip
def test_what_is_no_size_is_refused_with_examples(value: object) -> None:
    with pytest.raises(ValueError, match="expected ") as caught:
        parse_size(value)
    assert str(caught.value) == SIZE


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1, "1B"),
        (1000, "1000B"),
        (1024, "1KiB"),
        (1536, "1536B"),
        (1 << 20, "1MiB"),
        (3 << 30, "3GiB"),
        (1 << 40, "1024GiB"),
    ],
)
def test_a_size_is_written_in_the_largest_unit_that_divides_it(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 1 << 50))
def test_every_size_reads_back_as_itself(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(("text", "size"), [("9007199254740993B", 2**53 + 1), ("1.001kB", 1001)])
def test_no_byte_of_a_size_is_lost(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_size_beyond_all_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="expected "):
        parse_size("9" * 400 + "B")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("my-host.example_1:80", ("my-host.example_1", 80)),
        ("1st:80", ("1st", 80)),
        ("10.example:80", ("10.example", 80)),
        ("[::1]:8080", ("::1", 8080)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("[::ffff:192.0.2.1]:1", ("::ffff:192.0.2.1", 1)),
    ],
)
def test_an_address_becomes_host_and_port_and_is_written_the_same(
    text: str, address: tuple[str, int]
) -> None:
    assert parse_address(text) == address
    assert format_address(address) == text


@pytest.mark.parametrize(
    "value",
    [
        8080, None, True, [], {}, "", "8080", ":8080", "127.0.0.1", "localhost", "::1:8080",
        "[::1]", "::1", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:123456", "127.0.0.1:http",
        "http://127.0.0.1:80", "127.0.0.1:80/", "user@127.0.0.1:80", "127.0.0.1:80 ", "a b:80",
        "127.0.0.1:80\n", "*:80", "[localhost]:80", "[::1%lo]:80",
        "1:3000", "127.1:80", "256.0.0.1:80", "1.2.3.4.5:80", "1-2:80", "...:80", "[127.0.0.1]:80",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_examples(value: object) -> None:
    with pytest.raises(ValueError, match="expected ") as caught:
        parse_address(value)
    assert str(caught.value) == ADDRESS


@pytest.mark.parametrize("value", ["[:::]:80", "[1:2:3]:80", "[abcd]:80"])
def test_what_is_no_ipv6_address_is_refused_with_examples(value: str) -> None:
    with pytest.raises(ValueError, match="address") as caught:
        parse_address(value)
    assert str(caught.value) == ADDRESS


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_ip_address_reads_back_as_itself(host: object, port: int) -> None:
    address = (str(host), port)
    assert parse_address(format_address(address)) == address


@given(st.text() | st.floats() | st.integers() | st.none() | st.binary())
def test_whatever_is_read_becomes_a_value_or_a_hint(value: object) -> None:
    parsers = {parse_duration: DURATION, parse_size: SIZE, parse_address: ADDRESS}
    for parse, hint in parsers.items():
        try:
            found = parse(value)
        except ValueError as why:
            found = str(why)
        assert found == hint or not isinstance(found, str)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("127.0.0.1.example.com", False),
        ("localhost.example.com", False),
        ("127.1", False),
        ("", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
