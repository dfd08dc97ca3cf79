"""Keys and tokens of every kind, made by the tests themselves."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)

SECRET = b"a shared secret of sixty-four bytes, which is enough for HS512.."


@cache
def private_key(kind: str) -> PrivateKey:
    """One key of a kind, the same for the whole session: making RSA keys is slow.

    :param kind: ``RSA`` or ``RSA-<bits>``, a curve such as ``P-256``, ``Ed25519`` or ``Ed448``. A
        second key of a kind is had by adding a letter, such as ``P-256b``.
    """
    name = kind.rstrip("abc")
    if name.startswith("RSA"):
        return rsa.generate_private_key(65537, int(name[4:] or 2048))
    if name == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if name == "Ed448":
        return ed448.Ed448PrivateKey.generate()
    return ec.generate_private_key(CURVES[name])


CURVES: Mapping[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "secp256k1": ec.SECP256K1(),
}


def public_pem(kind: str) -> bytes:
    public = private_key(kind).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(kind: str, private: bool = False, **members: Any) -> dict[str, Any]:
    """A key as a JWK (RFC 7517), public unless asked for. ``oct`` is ``SECRET``."""
    if kind == "oct":
        return {"kty": "oct", "k": b64url(SECRET).decode(), **members}
    key = private_key(kind)
    chosen = key if private else key.public_key()
    name = kind.split("-")[0].rstrip("abc")
    algorithm = {"RSA": "RS256", "P": "ES256", "secp256k1": "ES256K"}.get(name, "EdDSA")
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(chosen, as_dict=True)
    made.pop("key_ops", None)
    return {**made, **members}


def jwks(*entries: Any) -> bytes:
    return json.dumps({"keys": entries}).encode()


def b64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def sign(
    header: Mapping[str, Any] | bytes,
    payload: Mapping[str, Any] | bytes,
    key: Any = SECRET,
    algorithm: str = "",
) -> bytes:
    """A compact JWS, however odd its parts: bytes are taken as they are.

    :param algorithm: what it is really signed with; else what the header says.
    """
    parts = [
        b64url(part if isinstance(part, bytes) else json.dumps(part).encode())
        for part in (header, payload)
    ]
    signing_input = b".".join(parts)
    if not algorithm:
        algorithm = header["alg"] if not isinstance(header, bytes) else "HS256"
    implementation = jwt.get_algorithm_by_name(algorithm)
    return signing_input + b"." + b64url(implementation.sign(signing_input, key))
