"""The container learns who the client is from us alone; others are believed only if configured."""

from __future__ import annotations

import pytest

from gateway.core.forwarding import MAX_HOPS, Forwarding

PROXY = "10.0.0.1"
Sent = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def forwarding() -> Forwarding:
    return Forwarding(["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"])


def lines(*parts: str) -> bytes:
    return "".join(part + "\r\n" for part in parts).encode()


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.0.0.1", True),
        ("10.255.255.255", True),
        ("11.0.0.1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8:1::5", True),
        ("2001:db8:2::5", False),
        ("::ffff:10.0.0.1", True),
        ("", False),
        ("unknown", False),
        ("10.0.0.1, 10.0.0.2", False),
        ("é", False),
    ],
    ids=repr,
)
def test_trusted_are_the_configured_networks(
    forwarding: Forwarding, address: str, trusted: bool
) -> None:
    assert forwarding.trusts(address) is trusted


def test_nobody_is_trusted_unless_configured() -> None:
    assert not Forwarding([]).trusts("127.0.0.1")


def test_a_network_may_be_named_by_one_of_its_addresses() -> None:
    assert Forwarding(["10.1.2.3/8"]).trusts("10.9.9.9")


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "proxy.example.com", ""])
def test_what_is_no_network_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 network"):
        Forwarding([entry])


def test_a_stranger_is_not_believed_a_word(forwarding: Forwarding) -> None:
    sent = [
        (b"x-forwarded-for", b"10.9.9.9"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"evil.test"),
        (b"forwarded", b"for=10.9.9.9;proto=https"),
    ]
    assert forwarding.describe("203.0.113.9", "http", b"a.test", sent, False) == (
        "203.0.113.9",
        lines(
            "X-Forwarded-For: 203.0.113.9",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: a.test",
            'Forwarded: for=203.0.113.9;proto=http;host="a.test"',
        ),
    )


def test_without_a_host_none_is_told(forwarding: Forwarding) -> None:
    assert forwarding.describe("203.0.113.9", "https", b"", [], False) == (
        "203.0.113.9",
        lines(
            "X-Forwarded-For: 203.0.113.9",
            "X-Forwarded-Proto: https",
            "Forwarded: for=203.0.113.9;proto=https",
        ),
    )


def test_an_ipv6_client_is_bracketed_and_quoted(forwarding: Forwarding) -> None:
    _, told = forwarding.describe("2001:db8::9", "http", b"[::1]:80", [], False)
    assert told == lines(
        "X-Forwarded-For: 2001:db8::9",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: [::1]:80",
        'Forwarded: for="[2001:db8::9]";proto=http;host="[::1]:80"',
    )


def test_a_trusted_proxy_tells_client_scheme_and_host(forwarding: Forwarding) -> None:
    sent = [
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"x-forwarded-proto", b"HTTPS"),
        (b"x-forwarded-host", b"public.test"),
    ]
    assert forwarding.describe(PROXY, "http", b"inner.test", sent, True) == (
        "203.0.113.9",
        lines(
            "X-Forwarded-For: 203.0.113.9, 10.0.0.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: public.test",
            'Forwarded: for=203.0.113.9, for=10.0.0.1;proto=https;host="public.test"',
        ),
    )


@pytest.mark.parametrize(
    ("sent", "client"),
    [
        pytest.param([], PROXY, id="nothing said"),
        pytest.param([(b"x-forwarded-for", b"203.0.113.9")], "203.0.113.9", id="one hop"),
        pytest.param(
            [(b"x-forwarded-for", b"1.2.3.4, 203.0.113.9")], "203.0.113.9", id="spoofed before it"
        ),
        pytest.param(
            [(b"x-forwarded-for", b"203.0.113.9, 10.0.0.2,10.0.0.3")],
            "203.0.113.9",
            id="three proxies",
        ),
        pytest.param([(b"x-forwarded-for", b"10.0.0.3, 10.0.0.2")], "10.0.0.3", id="proxies only"),
        pytest.param(
            [(b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-for", b"203.0.113.9")],
            "203.0.113.9",
            id="two headers",
        ),
        pytest.param(
            [(b"x-forwarded-for", b"1.2.3.4, unknown, 10.0.0.2")], "10.0.0.2", id="no address"
        ),
        pytest.param([(b"x-forwarded-for", b"unknown")], PROXY, id="no address at all"),
        pytest.param([(b"x-forwarded-for", b"1.2.3.4,")], PROXY, id="empty entry"),
        pytest.param([(b"x-forwarded-for", b"203.0.113.9:4711")], "203.0.113.9", id="port"),
        pytest.param([(b"x-forwarded-for", b"[2001:db8::9]:1")], "2001:db8::9", id="IPv6, port"),
        pytest.param([(b"x-forwarded-for", b"2001:DB8:0::9")], "2001:db8::9", id="IPv6"),
        pytest.param([(b"x-forwarded-for", b"::ffff:1.2.3.4")], "1.2.3.4", id="mapped IPv4"),
        pytest.param(
            [(b"forwarded", b"for=203.0.113.9;proto=https")], "203.0.113.9", id="RFC 7239"
        ),
        pytest.param(
            [(b"forwarded", b'proto=http;For="[2001:db8::9]:80"')], "2001:db8::9", id="RFC 7239, v6"
        ),
        pytest.param(
            [(b"forwarded", b"for=1.2.3.4, for=203.0.113.9, for=10.0.0.2")],
            "203.0.113.9",
            id="RFC 7239, chain",
        ),
        pytest.param([(b"forwarded", b"for=1.2.3.4, for=_hidden")], PROXY, id="RFC 7239, hidden"),
        pytest.param(
            [(b"forwarded", b"for=1.2.3.4"), (b"x-forwarded-for", b"203.0.113.9")],
            "203.0.113.9",
            id="both kinds",
        ),
    ],
)
def test_the_client_is_the_first_that_no_trusted_proxy_vouches_for(
    forwarding: Forwarding, sent: Sent, client: str
) -> None:
    assert forwarding.describe(PROXY, "http", b"a", sent, True)[0] == client


def test_an_endless_chain_is_cut(forwarding: Forwarding) -> None:
    sent = [(b"x-forwarded-for", b", ".join([b"1.2.3.4"] + [b"10.0.0.2"] * (MAX_HOPS + 5)))]
    client, told = forwarding.describe(PROXY, "http", b"", sent, True)
    assert client == "10.0.0.2"
    assert told.split(b"\r\n")[0].count(b",") == MAX_HOPS


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (b"x-forwarded-proto", b"gopher", "X-Forwarded-Proto: http"),
        (b"x-forwarded-proto", b"https, http", "X-Forwarded-Proto: http"),
        (b"x-forwarded-proto", b"https", "X-Forwarded-Proto: https"),
        (b"x-forwarded-host", b'a"b', "X-Forwarded-Host: own.test"),
        (b"x-forwarded-host", b"a, b", "X-Forwarded-Host: own.test"),
        (b"x-forwarded-host", b"b.test:8443", "X-Forwarded-Host: b.test:8443"),
    ],
    ids=repr,
)
def test_even_a_trusted_proxy_is_believed_only_what_makes_sense(
    forwarding: Forwarding, name: bytes, value: bytes, told: str
) -> None:
    _, found = forwarding.describe(PROXY, "http", b"own.test", [(name, value)], True)
    assert told.encode() in found.split(b"\r\n")


@pytest.mark.parametrize(
    "hop", [b'fe80::1%";proto=https;x="', b"fe80::1%e th", b"fe80::1%<b>"], ids=repr
)
def test_a_hop_cannot_write_other_parameters(forwarding: Forwarding, hop: bytes) -> None:
    # The first entry is the client's own: a trusted proxy merely appends to it.
    sent = [(b"x-forwarded-for", hop + b", 203.0.113.9")]
    assert hop.split(b"%")[1] not in forwarding.describe(PROXY, "http", b"a", sent, True)[1]
