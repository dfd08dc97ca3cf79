"""What OpenSSL is told, seen from outside: versions, suites, certificates."""

from __future__ import annotations

import os
import ssl

import pytest

from gateway.edge.contexts import (
    SUITES,
    ClientRules,
    Identity,
    ServerRules,
    client_context,
    server_context,
)
from tests.support.certificates import HOST, authority, client, issue, rsa_key
from tests.support.tls import GATEWAY, ROOT, asking, identity, serving


def shake(
    server: ssl.SSLContext, client: ssl.SSLContext, host: str | None = HOST
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake.

    :raises ssl.SSLError: one of them did not like it.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server.wrap_bio(to_server, to_client, server_side=True)
    other = client.wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(4):
        for end in (other, one):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return one, other


def test_every_suite_has_forward_secrecy_and_authenticated_encryption() -> None:
    for context in (serving(highest="1.3"), client_context(ClientRules())):
        names = [cipher["name"] for cipher in context.get_ciphers()]
        assert len(names) >= 6
        for name in names:
            assert name.startswith("TLS_") or name in SUITES.split(":")
            assert "GCM" in name or "POLY1305" in name
        assert context.options & ssl.OP_NO_COMPRESSION
    assert serving().options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize(
    ("lowest", "highest", "version"),
    [("1.2", "1.2", "TLSv1.2"), ("1.2", "1.3", "TLSv1.3"), ("1.3", "1.3", "TLSv1.3")],
)
def test_the_best_version_that_is_allowed_is_spoken(
    lowest: str, highest: str, version: str
) -> None:
    server, _ = shake(serving(lowest=lowest, highest=highest), asking())
    assert server.version() == version


def test_a_version_that_is_not_allowed_is_not_spoken() -> None:
    old = asking()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake(serving(lowest="1.3", highest="1.3"), old)


def test_the_client_chooses_among_the_suites() -> None:
    for suite in ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"):
        picky = asking()
        others = [name for name in SUITES.split(":") if name != suite and "ECDSA" in name]
        picky.set_ciphers(":".join([suite, *others]))
        chosen = shake(serving(), picky)[0].cipher()
        assert chosen is not None
        assert chosen[0] == suite


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        (HOST, HOST),
        ("second.test", "second.test"),
        ("a.wild.test", "*.wild.test"),
        ("unknown.test", HOST),
        (None, HOST),
    ],
)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_certificate_goes_by_the_name(host: str | None, shown: str, version: str) -> None:
    second = issue("second.test", by=ROOT, key=rsa_key())
    wild = issue("*.wild.test", by=authority("Between", by=ROOT))
    identities = (identity(GATEWAY, HOST), identity(second, "second.test"))
    server = server_context(
        ServerRules((*identities, identity(wild, "*.wild.test")), highest=version)
    )
    lax = asking()
    lax.check_hostname = False
    _, other = shake(server, lax, host)
    certificate = other.getpeercert()
    assert certificate is not None
    assert ("DNS", shown) in certificate["subjectAltName"]


def test_certificates_of_clients_may_be_asked_for() -> None:
    known, stranger = client("c.test", by=ROOT), client("c.test", by=authority("Another"))
    for required in (False, True):
        server = serving(client_ca=ROOT.pem, required=required)
        assert shake(server, asking(certificate=known))[0].getpeercert(True) == known.der
        with pytest.raises(ssl.SSLError):
            shake(server, asking(certificate=stranger))
    assert shake(serving(client_ca=ROOT.pem), asking())[0].getpeercert(True) is None
    with pytest.raises(ssl.SSLError):
        shake(serving(client_ca=ROOT.pem, required=True), asking())
    assert shake(serving(), asking(certificate=known))[0].getpeercert(True) is None


def test_trust_may_begin_with_one_that_another_has_signed() -> None:
    between = authority("Between", by=ROOT)
    pem = between.pem
    assert pem.count(b"BEGIN") == 1
    ours = client("c.test", by=between)
    server = serving(client_ca=pem, required=True)
    assert shake(server, asking(certificate=ours))[0].getpeercert(True) == ours.der
    with pytest.raises(ssl.SSLError):
        shake(server, asking(certificate=client("c.test", by=ROOT)))


def test_containers_are_verified() -> None:
    root = ROOT.pem
    shake(serving(), client_context(ClientRules(root)))
    shake(serving(), client_context(ClientRules(root)), "127.0.0.1")
    for rules, host in ((ClientRules(root), "other.test"), (ClientRules(), HOST)):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake(serving(), client_context(rules), host)
    shake(serving(), client_context(ClientRules(verify=False)), "other.test")


def test_containers_may_ask_who_we_are() -> None:
    own = client("gateway.test", by=ROOT)
    server = serving(client_ca=ROOT.pem, required=True)
    rules = ClientRules(ROOT.pem, identity(own))
    assert shake(server, client_context(rules))[0].getpeercert(True) == own.der


def test_nothing_is_left_open_and_no_pass_phrase_is_asked_for() -> None:
    before = len(os.listdir("/proc/self/fd"))
    serving()
    with pytest.raises(ssl.SSLError):
        server_context(ServerRules((Identity(GATEWAY.pem, GATEWAY.encrypted_key_pem),)))
    with pytest.raises(ssl.SSLError):
        server_context(ServerRules((Identity(b"", b""),)))
    assert len(os.listdir("/proc/self/fd")) == before
