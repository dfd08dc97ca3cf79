"""What clients would refuse is found before they do, and named."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.certificates import (
    UnusableCertificate,
    holder_names,
    judge_chain,
    judge_dates,
    judge_key,
    judge_server,
    read_certificates,
    read_chain,
)
from tests.support.certificates import (
    DAY,
    HOST,
    NOW,
    Issued,
    authority,
    client,
    ec_key,
    issue,
    rsa_key,
)

ROOT = authority()
BETWEEN = authority("Between", by=ROOT)
GOOD = issue(HOST, "*.gateway.test", "127.0.0.1", by=BETWEEN)
# Signed by ECDSA over SHA-1, which our own tools refuse to do: openssl req -x509 -sha1.
SHA1 = b"""\
-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUJXPqb9/h5f3n6bFn8cXrHsCLRfwwCQYHKoZIzj0EATAX
MRUwEwYDVQQDDAxnYXRld2F5LnRlc3QwHhcNMjYxMTIxMTQwNzIwWhcNMjYxMjIx
MTQwNzIwWjAXMRUwEwYDVQQDDAxnYXRld2F5LnRlc3QwWTATBgcqhkjOPQIBBggq
hkjOPQMBBwNCAAQ+UiAjWgxkamgabHBygKPSCTY7qUdL19B16FF5lc4dXwvIVD9k
WXGIhLV5fknWjrDgPKdtbqkDxvqOxpZ9z63io2wwajAdBgNVHQ4EFgQUj8ZmymtI
hAfxIGMJMr9SXwfDLFAwHwYDVR0jBBgwFoAUj8ZmymtIhAfxIGMJMr9SXwfDLFAw
DwYDVR0TAQH/BAUwAwEB/zAXBgNVHREEEDAOggxnYXRld2F5LnRlc3QwCQYHKoZI
zj0EAQNIADBFAiAcwYI5TCKWJ2Yx7iGxgqPYoshCGglSPVEVzgD+8CJ6zgIhAJ9g
WWvsb62mja48moiKd53r/OLnYXlRC6zsE95LOwzF
-----END CERTIFICATE-----
"""
KINDS = "RSA of at least 2048 bits, ECDSA on P-256, P-384 or P-521, or Ed25519"


def judged(issued: Issued) -> list[str]:
    return judge_chain(read_chain(issued.pem))


@pytest.mark.parametrize(
    "key",
    [ec_key, rsa_key, lambda: ec_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate],
    ids=["P-256", "RSA", "P-521", "Ed25519"],
)
def test_a_good_chain(key: Callable[[], ec.EllipticCurvePrivateKey]) -> None:
    issued = issue(HOST, by=BETWEEN, key=key())
    chain = read_chain(issued.pem)
    assert len(chain.certificates) == 2
    assert judge_chain(chain) == judge_server(chain) == judge_dates(chain, NOW.timestamp()) == []
    assert judge_key(issued.key_pem, chain) is None


def test_names_and_the_end() -> None:
    chain = read_chain(GOOD.pem)
    assert chain.names == (HOST, "*.gateway.test", "127.0.0.1")
    assert chain.expires == (NOW + 30 * DAY).timestamp()


def test_the_chain_ends_with_the_first_of_it() -> None:
    brief = issue("brief", by=ROOT, authority=True, end=NOW + DAY)
    assert read_chain(issue(HOST, by=brief).pem).expires == (NOW + DAY).timestamp()


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        (b"", "has no certificate in PEM"),
        (GOOD.key_pem, "has no certificate in PEM"),
        (GOOD.der, "has no certificate in PEM"),
        (GOOD.pem[:200], "has a certificate that is not well-formed"),
        (GOOD.pem.replace(b"MII", b"MIJ", 1), "has a certificate that is not well-formed"),
    ],
)
def test_what_is_no_certificate(pem: bytes, why: str) -> None:
    with pytest.raises(UnusableCertificate, match=why):
        read_certificates(pem)
    with pytest.raises(UnusableCertificate, match=why):
        read_chain(pem)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_damage_is_told_as_such(junk: bytes, at: int) -> None:
    for pem in (junk, GOOD.pem[:at] + junk + GOOD.pem[at + len(junk) :]):
        with suppress(UnusableCertificate):
            assert read_chain(pem).certificates


def test_weak_keys_and_signatures() -> None:
    weak = rsa_key(1024)
    assert judged(issue(HOST, key=weak)) == [
        "has an RSA key of 1024 bits: at least 2048 are needed"
    ]
    assert judged(issue(HOST, key=ec_key(ec.SECP192R1()))) == [
        "has a key on the curve secp192r1: use P-256, P-384 or P-521"
    ]
    assert judged(issue(HOST, key=ec_key(ec.BrainpoolP256R1()))) == [
        "has a key on the curve brainpoolP256r1: use P-256, P-384 or P-521"
    ]
    assert judged(issue(HOST, key=dsa.generate_private_key(2048))) == [
        f"has a key of a kind that is not supported: {KINDS}"
    ]


def test_a_broken_signature() -> None:
    assert judge_chain(read_chain(SHA1)) == ["is signed with SHA1, which is broken: use SHA-256"]


def test_a_weak_link_is_named_by_its_place() -> None:
    weak = issue("weak", by=ROOT, authority=True, key=rsa_key(1024))
    assert judged(issue(HOST, by=weak)) == [
        "certificate 2 of the chain has an RSA key of 1024 bits: at least 2048 are needed"
    ]


def test_a_chain_out_of_order() -> None:
    out_of_order = Issued(GOOD.certificate, GOOD.key, (ROOT.certificate, BETWEEN.certificate))
    (why,) = judged(out_of_order)
    assert why.startswith("is out of order: certificate 2 is not the issuer of certificate 1;")
    upside_down = Issued(BETWEEN.certificate, GOOD.key, (GOOD.certificate,))
    assert judged(upside_down) == [why]
    whole = Issued(GOOD.certificate, GOOD.key, (BETWEEN.certificate, ROOT.certificate))
    assert judged(whole) == []


def test_an_authority_of_the_same_name_is_another() -> None:
    double = authority("Between", by=ROOT)
    (why,) = judged(Issued(GOOD.certificate, GOOD.key, (double.certificate,)))
    assert why.startswith("is out of order")


def test_what_is_no_certificate_of_a_server() -> None:
    chain = read_chain(issue(common_name=HOST).pem)
    assert judge_server(chain) == [
        "names no host: it needs a subject alternative name, clients do not look at the common name"
    ]
    chain = read_chain(client("client.test", by=ROOT).pem)
    assert judge_server(chain) == ["is not for servers: its extended key usage lacks serverAuth"]
    chain = read_chain(issue(HOST, usage=ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE).pem)
    assert judge_server(chain) == []


@pytest.mark.parametrize(
    ("start", "end", "why"),
    [
        (-2 * DAY, -DAY, [f"expired on {NOW - DAY:%Y-%m-%d %H:%M} UTC"]),
        (DAY, 2 * DAY, [f"is not valid before {NOW + DAY:%Y-%m-%d %H:%M} UTC"]),
        (timedelta(0), DAY, []),
        (-DAY, timedelta(0), []),
    ],
)
def test_dates(start: timedelta, end: timedelta, why: list[str]) -> None:
    chain = read_chain(issue(HOST, start=NOW + start, end=NOW + end).pem)
    assert judge_dates(chain, NOW.timestamp()) == why


def test_dates_of_the_whole_chain() -> None:
    old = issue("old", by=ROOT, authority=True, start=NOW - 3 * DAY, end=NOW - DAY)
    (why,) = judge_dates(read_chain(issue(HOST, by=old).pem), NOW.timestamp())
    assert why.startswith("certificate 2 of the chain expired on ")


def test_keys() -> None:
    chain = read_chain(GOOD.pem)
    encrypted = "is encrypted: the gateway asks for no pass phrase, decrypt the key"
    assert judge_key(GOOD.key_pem, None) is None
    assert judge_key(BETWEEN.key_pem, chain) == "is not the key of the certificate"
    assert judge_key(GOOD.encrypted_key_pem, chain) == encrypted
    assert judge_key(b"", chain) == "is not a private key in PEM"
    assert judge_key(GOOD.pem, chain) == "is not a private key in PEM"
    assert judge_key(GOOD.key_pem[:80], chain) == "is not a private key in PEM"


def test_names_of_clients() -> None:
    issued = client(
        "Client.Example.com", "spiffe://example.com/Scoring", "Ops@example.com", "10.0.0.1",
        by=ROOT, common_name="Scoring client",
    )  # fmt: skip
    assert holder_names(issued.der) == {
        "cn:Scoring client",
        "dns:client.example.com",
        "uri:spiffe://example.com/Scoring",
        "email:Ops@example.com",
    }
    assert holder_names(issue(common_name="alone").der) == {"cn:alone"}
    assert holder_names(b"no certificate") == frozenset()


def test_a_name_of_one_kind_is_none_of_another() -> None:
    names = holder_names(client("uri:x", by=ROOT, common_name="dns:admin.test").der)
    assert names == {"cn:dns:admin.test", "dns:uri:x"}
