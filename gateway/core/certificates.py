"""Certificates and their private keys: read from PEM, and judged before anything relies on them.

What a client would refuse, or should (RFC 9325), is found here, and said in words for whoever
configures the gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# RFC 9325 sections 4.2 and 4.3: 112 bits of security at least.
MIN_RSA_BITS = 2048
CURVES = ("secp256r1", "secp384r1", "secp521r1")
WEAK_HASHES = ("md5", "sha1")
# What stands before a name of a client, by where in its certificate the name is.
NAME_KINDS = ("cn", "dns", "uri", "email")
_KINDS = "RSA of at least 2048 bits, ECDSA on P-256, P-384 or P-521, or Ed25519"


class UnusableCertificate(ValueError):
    """No certificate or key can be made out; the message says why."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A certificate and those that vouch for it, the first being the one that is shown for.

    ``names`` are its DNS names and addresses, ``expires`` is unix time in seconds when the first of
    the chain expires.
    """

    certificates: tuple[x509.Certificate, ...]
    names: tuple[str, ...]
    expires: float

    @property
    def leaf(self) -> x509.Certificate:
        return self.certificates[0]


def read_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file.

    :raises UnusableCertificate: there is none, or one that is not well-formed.
    """
    try:
        if b"-----BEGIN CERTIFICATE-----" not in pem:
            raise UnusableCertificate("has no certificate in PEM")
        return tuple(x509.load_pem_x509_certificates(pem))
    except UnusableCertificate:
        raise
    except ValueError:
        raise UnusableCertificate("has a certificate that is not well-formed") from None


def read_chain(pem: bytes) -> Chain:
    """The certificate chain of a PEM file.

    :raises UnusableCertificate: there is none, or one that is not well-formed.
    """
    certificates = read_certificates(pem)
    try:
        names = _server_names(certificates[0])
        expires = min(c.not_valid_after_utc.timestamp() for c in certificates)
    except ValueError:
        raise UnusableCertificate("has a certificate that is not well-formed") from None
    return Chain(certificates, names, expires)


def judge_chain(chain: Chain) -> list[str]:
    """What is wrong with a chain, whatever the time."""
    found: list[str] = []
    several = len(chain.certificates) > 1
    for number, certificate in enumerate(chain.certificates, 1):
        which = f"certificate {number} of the chain " if several else ""
        found += [which + why for why in _weaknesses(certificate)]
    for number, (lower, upper) in enumerate(zip(chain.certificates, chain.certificates[1:]), 1):  # noqa: B905
        if not _is_issued_by(lower, upper):
            found.append(
                f"is out of order: certificate {number + 1} is not the issuer of certificate "
                f"{number}; say the server's own first, then the one that signed it, and so on"
            )
            break
    return found


def judge_server(chain: Chain) -> list[str]:
    """What keeps clients from believing that this is the certificate of a server."""
    found: list[str] = []
    if not chain.names:
        found.append(
            "names no host: it needs a subject alternative name, clients do not look at the "
            "common name"
        )
    if not _is_for(chain.leaf, ExtendedKeyUsageOID.SERVER_AUTH):
        found.append("is not for servers: its extended key usage lacks serverAuth")
    return found


def judge_dates(chain: Chain, now: float) -> list[str]:
    """Which certificates of a chain are not valid at present.

    :param now: unix time in seconds.
    """
    moment = datetime.fromtimestamp(now, UTC)
    found: list[str] = []
    several = len(chain.certificates) > 1
    for number, certificate in enumerate(chain.certificates, 1):
        which = f"certificate {number} of the chain " if several else ""
        if certificate.not_valid_after_utc < moment:
            found.append(f"{which}expired on {_show(certificate.not_valid_after_utc)}")
        elif certificate.not_valid_before_utc > moment:
            found.append(f"{which}is not valid before {_show(certificate.not_valid_before_utc)}")
    return found


def judge_key(pem: bytes, chain: Chain | None) -> str | None:
    """What is wrong with a private key, None if it is that of the certificate.

    :param chain: None if the certificate is not known: then the key is only read.
    """
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:
        return "is encrypted: the gateway asks for no pass phrase, decrypt the key"
    except UnsupportedAlgorithm:
        return f"is of a kind that is not supported: {_KINDS}"
    except ValueError:
        if b"ENCRYPTED" in pem:
            return "is encrypted: the gateway asks for no pass phrase, decrypt the key"
        return "is not a private key in PEM"
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if chain is not None and public != _public_key(chain.leaf):
        return "is not the key of the certificate"
    return None


def holder_names(certificate: bytes) -> frozenset[str]:
    """The names in a client's certificate, as the configuration writes them: ``cn:``, ``dns:``,
    ``uri:`` or ``email:`` and the name.

    :param certificate: DER; one that cannot be read has no names.
    """
    try:
        read = x509.load_der_x509_certificate(certificate)
        return frozenset(_holder_names(read))
    except ValueError:
        return frozenset()


def common_name(certificate: x509.Certificate) -> str:
    """The common name of the subject; empty unless it has exactly one."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def _holder_names(certificate: x509.Certificate) -> Iterator[str]:
    if name := common_name(certificate):
        yield f"cn:{name}"
    names = _alternative_names(certificate)
    if names is not None:
        for kind, word in (
            (x509.DNSName, "dns"),
            (x509.UniformResourceIdentifier, "uri"),
            (x509.RFC822Name, "email"),
        ):
            for value in names.get_values_for_type(kind):
                yield f"{word}:{value.lower() if word == 'dns' else value}"


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _server_names(certificate: x509.Certificate) -> tuple[str, ...]:
    names = _alternative_names(certificate)
    if names is None:
        return ()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _weaknesses(certificate: x509.Certificate) -> Iterator[str]:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        yield f"has a key of a kind that is not supported: {_KINDS}"
        return
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            yield f"has an RSA key of {key.key_size} bits: at least {MIN_RSA_BITS} are needed"
    elif isinstance(key, EllipticCurvePublicKey):
        if key.curve.name not in CURVES:
            yield f"has a key on the curve {key.curve.name}: use P-256, P-384 or P-521"
    elif not isinstance(key, Ed25519PublicKey):
        yield f"has a key of a kind that is not supported: {_KINDS}"
    # Nobody looks at the signature of a root: it is trusted for being known.
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        yield "is signed in a way that is not supported"
        return
    if algorithm is not None and algorithm.name in WEAK_HASHES:
        yield f"is signed with {algorithm.name.upper()}, which is broken: use SHA-256"


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_for(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages


def _public_key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _show(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
