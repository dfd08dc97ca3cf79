"""Certificates for tests: authorities, servers and clients, good ones and all kinds of bad ones."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
AnyKey = PrivateKey | dsa.DSAPrivateKey
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
HOST = "gateway.test"


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key. ``above`` are those of the issuers, without the root."""

    certificate: x509.Certificate
    key: AnyKey
    above: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """The chain, without the root."""
        chain = (self.certificate, *self.above)
        return b"".join(each.public_bytes(Encoding.PEM) for each in chain)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def encrypted_key_pem(self) -> bytes:
        lock = BestAvailableEncryption(b"a pass phrase")
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """As ``NAME.pem`` and ``NAME.key``; their paths."""
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        paths[0].write_bytes(self.pem)
        paths[1].write_bytes(self.key_pem)
        return paths


def issue(
    *names: str,
    by: Issued | None = None,
    common_name: str | None = None,
    key: AnyKey | None = None,
    start: datetime = NOW - DAY,
    end: datetime = NOW + 30 * DAY,
    usage: x509.ObjectIdentifier | None = None,
    authority: bool = False,
) -> Issued:
    """A certificate.

    :param names: host names, addresses, URIs and e-mail addresses; told apart by how they look.
    :param by: who signs it, itself if absent.
    """
    key = key or ec_key()
    words = names[0] if names else "nobody"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or words)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
    )
    if names and not authority:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_name(name) for name in names]), critical=False
        )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    signer = by.key if by else key
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    certificate = builder.sign(signer, algorithm)
    above = (by.certificate, *by.above) if by and not _is_root(by) else ()
    return Issued(certificate, key, above)


def authority(name: str = "Test authority", by: Issued | None = None) -> Issued:
    return issue(name, by=by, authority=True)


def client(*names: str, by: Issued, common_name: str | None = None) -> Issued:
    return issue(
        *names, by=by, common_name=common_name or "client", usage=ExtendedKeyUsageOID.CLIENT_AUTH
    )


def _is_root(issued: Issued) -> bool:
    return issued.certificate.issuer == issued.certificate.subject


def _name(text: str) -> x509.GeneralName:
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    if "@" in text:
        return x509.RFC822Name(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
