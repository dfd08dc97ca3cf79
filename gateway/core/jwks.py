"""Keys that verify tokens: read from PEM, a shared secret or a JWK Set (RFC 7517).

A key knows which algorithms it may be used with, and each use is bound to one of them when it is
read. So a token never chooses how it is verified (RFC 8725 section 3.1, reliability.md T34).
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

SYMMETRIC = frozenset(("HS256", "HS384", "HS512"))
_RSA = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_PEM_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
ASYMMETRIC = _RSA | frozenset(_CURVES.values()) | {"EdDSA"}
ALGORITHMS = SYMMETRIC | ASYMMETRIC

# RFC 7518: 2048 bits for RSA (3.3), the hash's length for HMAC (3.2).
MIN_RSA_BITS = 2048
MIN_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
MAX_KEYS = 64
_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "oth")

Verify = Callable[[bytes, bytes], bool]


class UnusableKey(ValueError):
    """A key, or a whole document of keys, that cannot verify anything; the message says why."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One key: ``verifiers`` maps an algorithm to ``verify(signing_input, signature)``."""

    kid: str | None
    verifiers: dict[str, Verify]


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one issuer. ``notes`` says which keys of the source were left out, and why.

    A ``kid`` is a hint for choosing among keys (RFC 7515 section 4.1.4). Where no key has a name,
    as with a PEM or a secret, there is nothing to choose by, and whatever a token says fits.
    """

    keys: tuple[VerificationKey, ...]
    notes: tuple[str, ...] = field(default=())

    def candidates(self, kid: str | None, algorithm: str) -> list[Verify]:
        """Keys a token may have been signed with; without a ``kid``, every key that fits."""
        any_name = kid is None or self._nameless
        return [
            key.verifiers[algorithm]
            for key in self.keys
            if algorithm in key.verifiers and (any_name or key.kid == kid)
        ]

    def knows(self, kid: str | None) -> bool:
        """Whether a token with this ``kid`` can be judged; without any keys, none can."""
        if kid is None or self._nameless:
            return bool(self.keys)
        return any(key.kid == kid for key in self.keys)

    @property
    def _nameless(self) -> bool:
        return all(key.kid is None for key in self.keys)


EMPTY = KeySet(())


def keys_from_secret(secret: bytes, allowed: Collection[str]) -> KeySet:
    """A shared secret for the HS algorithms.

    :raises UnusableKey: too short for one of the algorithms, or a public key in disguise.
    """
    for algorithm in sorted(allowed):
        if len(secret) < MIN_SECRET_BYTES[algorithm]:
            raise UnusableKey(
                f"{algorithm} needs a secret of at least {MIN_SECRET_BYTES[algorithm]} bytes, "
                f"this one has {len(secret)}"
            )
    verifiers = {a: _bind(a, _prepare(a, secret)) for a in allowed}
    return KeySet((VerificationKey(None, verifiers),))


def keys_from_pem(text: bytes, allowed: Collection[str]) -> KeySet:
    """A public key or certificate in PEM.

    :raises UnusableKey: not PEM, of an unsupported kind, too weak, or of no allowed algorithm.
    """
    try:
        if b"BEGIN CERTIFICATE" in text:
            key: object = x509.load_pem_x509_certificate(text).public_key()
        else:
            key = load_pem_public_key(text)
    except ValueError:
        raise UnusableKey("not a public key or certificate in PEM") from None
    except UnsupportedAlgorithm:
        raise UnusableKey("a key of a kind or curve that is not supported") from None
    usable = _algorithms_of(key) & set(allowed)
    if not usable:
        raise UnusableKey(
            f"this key cannot verify any of the algorithms {', '.join(sorted(allowed))}"
        )
    return KeySet((VerificationKey(None, {a: _bind(a, key) for a in usable}),))


def keys_from_jwks(document: bytes, allowed: Collection[str]) -> KeySet:
    """A JWK Set, or one JWK. Keys that are of no use here are left out, as RFC 7517 section 5 asks.

    :raises UnusableKey: not such a document, or none of its keys can be used.
    """
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError):
        raise UnusableKey("not JSON") from None
    entries = parsed.get("keys", [parsed]) if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise UnusableKey("not a JWK Set: expected an object with a list `keys`")
    if len(entries) > MAX_KEYS:
        raise UnusableKey(f"{len(entries)} keys; at most {MAX_KEYS} are accepted")
    return _collect(entries, frozenset(allowed))


def _collect(entries: Iterable[Any], allowed: frozenset[str]) -> KeySet:
    keys: list[tuple[int, VerificationKey]] = []
    notes: list[str] = []
    for number, entry in enumerate(entries, 1):
        try:
            keys.append((number, _read_jwk(entry, allowed)))
        except UnusableKey as why:
            notes.append(f"key {number}: {why}")
    mixed = len({SYMMETRIC.isdisjoint(key.verifiers) for _, key in keys}) == 2
    kids = Counter(key.kid for _, key in keys if key.kid is not None)
    usable: list[VerificationKey] = []
    for number, key in keys:
        if mixed and not SYMMETRIC.isdisjoint(key.verifiers):
            notes.append(f"key {number}: a shared secret in a set of public keys")
        elif key.kid is not None and kids[key.kid] > 1:
            notes.append(f"key {number}: its `kid` names more than one key")
        else:
            usable.append(key)
    if not usable:
        raise UnusableKey("no usable key: " + ("; ".join(notes) or "the set is empty"))
    return KeySet(tuple(usable), tuple(notes))


def _read_jwk(entry: Any, allowed: frozenset[str]) -> VerificationKey:
    if not isinstance(entry, dict):
        raise UnusableKey("not an object")
    # PyJWT looks at neither of these (reliability.md 1.7); RFC 7517 sections 4.2 and 4.3.
    if entry.get("use", "sig") != "sig":
        raise UnusableKey("its `use` is not `sig`")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKey("its `key_ops` do not include `verify`")
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise UnusableKey("its `kid` is not a string")
    usable = _jwk_algorithms(entry) & allowed
    if not usable:
        raise UnusableKey("its kind fits none of the allowed algorithms")
    public = {name: value for name, value in entry.items() if name not in _PRIVATE_MEMBERS}
    return VerificationKey(kid, {a: _bind(a, _jwk_key(public, a)) for a in usable})


def _jwk_algorithms(entry: dict[str, Any]) -> set[str]:
    kind, curve = entry.get("kty"), entry.get("crv")
    fitting: set[str] = set()
    if kind == "RSA":
        fitting = set(_RSA)
    elif kind == "EC" and isinstance(curve, str) and curve in _CURVES:
        fitting = {_CURVES[curve]}
    elif kind == "OKP" and curve in ("Ed25519", "Ed448"):
        fitting = {"EdDSA"}
    elif kind == "oct":
        fitting = set(SYMMETRIC)
    named = entry.get("alg")
    # Compared one by one: what the issuer sends may be a list, which no set can be asked for.
    return fitting if named is None else {name for name in fitting if name == named}


def _jwk_key(entry: dict[str, Any], algorithm: str) -> Any:
    try:
        # HS secrets come back as bytes, the rest as key objects: never as text.
        key = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        raise UnusableKey("its members do not make a key") from None
    if algorithm in SYMMETRIC:
        if len(key) < MIN_SECRET_BYTES[algorithm]:
            raise UnusableKey(f"its secret is too short for {algorithm}")
    elif algorithm not in _algorithms_of(key):
        raise UnusableKey(f"it is not a key for {algorithm}")
    return key


def _algorithms_of(key: object) -> set[str]:
    """What a public key can verify.

    :raises UnusableKey: an RSA key below 2048 bits.
    """
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise UnusableKey(f"an RSA key of {key.key_size} bits; at least {MIN_RSA_BITS} needed")
        if _is_roca(key.public_numbers().n):
            raise UnusableKey("an RSA key of a faulty generator (ROCA, CVE-2017-15361)")
        return set(_RSA)
    if isinstance(key, EllipticCurvePublicKey):
        name = _PEM_CURVES.get(key.curve.name)
        return {name} if name else set()
    if isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        return {"EdDSA"}
    return set()


_ROCA_PRIMES = (
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
)  # fmt: skip


def _is_roca(modulus: int) -> bool:
    """Whether an RSA modulus is a product of primes of the form k*M + 65537**a mod M, M a product
    of small primes: such keys can be factored (Nemec et al., CCS 2017). A sound key is taken for
    one with a probability below 2**-100."""
    for prime in _ROCA_PRIMES:
        residue, power = modulus % prime, 1
        for _ in range(prime):
            if power == residue:
                break
            power = power * 65537 % prime
        else:
            return False
    return True


def _prepare(algorithm: str, secret: bytes) -> Any:
    try:
        return jwt.get_algorithm_by_name(algorithm).prepare_key(secret)
    except jwt.InvalidKeyError:
        raise UnusableKey("a public key or certificate used as a shared secret") from None


def _bind(algorithm: str, key: Any) -> Verify:
    implementation = jwt.get_algorithm_by_name(algorithm)

    def verify(signing_input: bytes, signature: bytes) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return bool(implementation.verify(signing_input, key, signature))
            except (jwt.PyJWTError, ValueError):
                return False

    return verify
