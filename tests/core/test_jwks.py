"""Only keys fit for verifying are taken, each bound to its algorithms (RFC 7517, T34, T36)."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.jwks import (
    ALGORITHMS,
    ASYMMETRIC,
    EMPTY,
    MAX_KEYS,
    SYMMETRIC,
    KeySet,
    UnusableKey,
    VerificationKey,
    keys_from_jwks,
    keys_from_pem,
    keys_from_secret,
)
from tests.support.signing import SECRET, b64url, jwk, jwks, private_key, public_pem, sign

RSA = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def algorithms(keys: KeySet) -> list[set[str]]:
    return [set(key.verifiers) for key in keys.keys]


def why(document: bytes, allowed: frozenset[str] = ALGORITHMS) -> str:
    with pytest.raises(UnusableKey) as caught:
        keys_from_jwks(document, allowed)
    return str(caught.value)


KINDS = [
    ("RSA", RSA),
    ("P-256", {"ES256"}),
    ("P-384", {"ES384"}),
    ("P-521", {"ES512"}),
    ("Ed25519", {"EdDSA"}),
    ("Ed448", {"EdDSA"}),
]


@pytest.mark.parametrize(("kind", "fitting"), KINDS)
def test_a_key_verifies_with_the_algorithms_of_its_kind(kind: str, fitting: set[str]) -> None:
    for keys in (
        keys_from_jwks(jwks(jwk(kind)), ALGORITHMS),
        keys_from_jwks(json.dumps(jwk(kind)).encode(), ALGORITHMS),
        keys_from_pem(public_pem(kind), ASYMMETRIC),
    ):
        assert (algorithms(keys), keys.notes) == ([fitting], ())
        for algorithm in fitting:
            token = sign({"alg": algorithm}, {}, private_key(kind))
            signing_input, _, signature = token.rpartition(b".")
            given_signature = base64.urlsafe_b64decode(signature + b"==")
            [verify] = keys.candidates(None, algorithm)
            assert verify(signing_input, given_signature)
            assert not verify(signing_input + b"x", given_signature)
            assert not verify(signing_input, given_signature[:-1])
            assert not verify(signing_input, b"")


def test_a_shared_secret_verifies_with_hmac() -> None:
    for keys in (
        keys_from_jwks(jwks(jwk("oct")), ALGORITHMS),
        keys_from_secret(SECRET, SYMMETRIC),
    ):
        assert algorithms(keys) == [set(SYMMETRIC)]
        token = sign({"alg": "HS256"}, {})
        signing_input, _, signature = token.rpartition(b".")
        [verify] = keys.candidates(None, "HS256")
        assert verify(signing_input, base64.urlsafe_b64decode(signature + b"=="))
        assert not verify(signing_input, b"")


def test_only_allowed_algorithms_are_bound() -> None:
    assert algorithms(keys_from_jwks(jwks(jwk("RSA")), {"RS256", "ES256"})) == [{"RS256"}]
    assert algorithms(keys_from_pem(public_pem("RSA"), {"PS512"})) == [{"PS512"}]
    assert algorithms(keys_from_secret(SECRET, {"HS384"})) == [{"HS384"}]


@pytest.mark.parametrize(
    ("members", "fitting"),
    [
        ({"alg": "RS256"}, {"RS256"}),
        ({"alg": "PS384", "use": "sig"}, {"PS384"}),
        ({"use": "sig"}, RSA),
        ({"key_ops": ["verify"]}, RSA),
        ({"key_ops": ["sign", "verify"]}, RSA),
        ({"x5t": "anything", "unknown": {"a": []}}, RSA),
    ],
    ids=str,
)
def test_a_key_may_be_pinned_to_its_use(members: dict[str, Any], fitting: set[str]) -> None:
    assert algorithms(keys_from_jwks(jwks(jwk("RSA", **members)), ALGORITHMS)) == [fitting]


NO_FIT = "its kind fits none of the allowed algorithms"
NO_VERIFY = "its `key_ops` do not include `verify`"
NO_KEY = "its members do not make a key"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        pytest.param(jwk("RSA", use="enc"), "its `use` is not `sig`", id="use enc"),
        pytest.param(jwk("RSA", use=None), "its `use` is not `sig`", id="use null"),
        pytest.param(
            jwk("RSA", key_ops=["sign"]), "its `key_ops` do not include `verify`", id="ops"
        ),
        pytest.param(jwk("RSA", key_ops=[]), NO_VERIFY, id="no ops"),
        pytest.param(jwk("RSA", key_ops="verify"), NO_VERIFY, id="ops as text"),
        pytest.param(jwk("RSA", kid=5), "its `kid` is not a string", id="kid"),
        pytest.param(jwk("RSA", alg="RSA-OAEP"), NO_FIT, id="encryption algorithm"),
        pytest.param(jwk("RSA", alg="ES256"), NO_FIT, id="algorithm of another kind"),
        pytest.param(jwk("RSA", alg="none"), NO_FIT, id="alg none"),
        pytest.param(jwk("RSA", alg=""), NO_FIT, id="alg empty"),
        pytest.param(jwk("P-256", alg="ES384"), NO_FIT, id="algorithm of another curve"),
        pytest.param(jwk("secp256k1"), NO_FIT, id="curve"),
        pytest.param({"kty": "OKP", "crv": "X25519", "x": "A" * 43}, NO_FIT, id="key agreement"),
        pytest.param({"kty": "AKP"}, NO_FIT, id="unknown kind"),
        pytest.param({"kty": ["RSA"]}, NO_FIT, id="kind of another type"),
        pytest.param({}, NO_FIT, id="empty"),
        pytest.param({"kty": "RSA"}, NO_KEY, id="no members"),
        pytest.param({"kty": "RSA", "n": "", "e": ""}, NO_KEY, id="empty members"),
        pytest.param({"kty": "RSA", "n": 5, "e": "AQAB"}, NO_KEY, id="number"),
        pytest.param(jwk("P-256", x="AAAA"), NO_KEY, id="not on the curve"),
        pytest.param(jwk("P-384", crv="P-256"), NO_KEY, id="another curve's coordinates"),
        pytest.param({"kty": "oct", "k": ""}, NO_KEY, id="empty secret"),
        pytest.param(
            {"kty": "oct", "k": b64url(b"x" * 31).decode(), "alg": "HS256"},
            "its secret is too short for HS256",
            id="short secret",
        ),
        pytest.param(
            jwk("RSA-1024"), "an RSA key of 1024 bits; at least 2048 needed", id="weak RSA"
        ),
        pytest.param("text", "not an object", id="text"),
        pytest.param(None, "not an object", id="null"),
    ],
)
def test_a_key_of_no_use_is_left_out_with_its_reason(entry: Any, reason: str) -> None:
    assert why(jwks(entry)).startswith(f"no usable key: key 1: {reason}")
    keys = keys_from_jwks(jwks(entry, jwk("P-256", kid="good")), ALGORITHMS)
    assert [key.kid for key in keys.keys] == ["good"]
    assert len(keys.notes) == 1
    assert keys.notes[0].startswith(f"key 1: {reason}")


@pytest.mark.parametrize(
    "entry",
    [jwk("RSA", alg=["RS256"]), jwk("RSA", alg={}), jwk("P-256", crv=["P-256"])],
    ids=["list of algorithms", "object for the algorithm", "list of curves"],
)
def test_a_member_of_the_wrong_type_spoils_only_its_own_key(entry: Any) -> None:
    keys = keys_from_jwks(jwks(entry, jwk("P-256", kid="good")), ALGORITHMS)
    assert [key.kid for key in keys.keys] == ["good"]


# Whatever a server of keys sends.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
ENTRIES = st.builds(
    lambda base, changes: {**base, **changes},
    st.sampled_from([jwk("P-256"), jwk("Ed25519"), jwk("oct"), jwk("RSA"), {}]),
    st.dictionaries(
        st.sampled_from(["kty", "kid", "use", "key_ops", "alg", "crv", "n", "e", "x", "y", "k"]),
        JSON,
    ),
)


@given(st.lists(ENTRIES | JSON, max_size=3))
def test_any_document_makes_keys_or_a_clear_refusal(entries: list[Any]) -> None:
    try:
        keys = keys_from_jwks(jwks(*entries), ALGORITHMS)
    except UnusableKey:
        return
    assert len(keys.keys) + len(keys.notes) == len(entries)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JWK Set: expected an object with a list `keys`"),
        (b'"keys"', "not a JWK Set: expected an object with a list `keys`"),
        (b'{"keys": {}}', "not a JWK Set: expected an object with a list `keys`"),
        (b'{"keys": []}', "no usable key: the set is empty"),
        (jwks(*[{}] * (MAX_KEYS + 1)), f"{MAX_KEYS + 1} keys; at most {MAX_KEYS} are accepted"),
    ],
    ids=["empty", "cut off", "binary", "deep", "list", "text", "no list", "no keys", "too many"],
)
def test_a_document_that_is_no_key_set_is_refused(document: bytes, reason: str) -> None:
    assert why(document) == reason


def test_a_secret_among_public_keys_is_left_out() -> None:
    # Threat T34: whoever can publish into the set must not add a secret of his own.
    keys = keys_from_jwks(jwks(jwk("oct", kid="s"), jwk("RSA", kid="p")), ALGORITHMS)
    assert [key.kid for key in keys.keys] == ["p"]
    assert keys.notes == ("key 1: a shared secret in a set of public keys",)


def test_a_kid_that_names_two_keys_names_none() -> None:
    document = jwks(
        jwk("RSA", kid="a"),
        jwk("P-256", kid="a"),
        jwk("P-384", kid="b"),
        jwk("P-521"),
        jwk("Ed448"),
    )
    keys = keys_from_jwks(document, ALGORITHMS)
    assert [key.kid for key in keys.keys] == ["b", None, None]
    assert keys.notes == tuple(f"key {n}: its `kid` names more than one key" for n in (1, 2))


def test_keys_that_cannot_be_used_anyway_share_a_kid_with_no_harm() -> None:
    document = jwks(jwk("RSA", kid="a", use="enc"), jwk("P-256", kid="a"))
    assert algorithms(keys_from_jwks(document, ALGORITHMS)) == [{"ES256"}]


@pytest.mark.parametrize("kind", ["RSA", "P-256", "Ed25519"])
def test_the_private_half_of_a_key_is_never_looked_at(kind: str) -> None:
    whole = jwk(kind, private=True)
    assert "d" in whole
    spoilt = whole | {name: "!" for name in ("d", "p", "q", "dp", "dq", "qi") if name in whole}
    for entry in (whole, spoilt):
        [key] = keys_from_jwks(jwks(entry), ALGORITHMS).keys
        algorithm = sorted(key.verifiers)[0]
        token = sign({"alg": algorithm}, {}, private_key(kind))
        signing_input, _, signature = token.rpartition(b".")
        assert key.verifiers[algorithm](signing_input, base64.urlsafe_b64decode(signature + b"=="))


def weak_modulus() -> int:
    """2048 bits of the form k*M + 65537**a mod M, M the product of the primes up to 167."""
    product = 2
    for number in range(3, 168, 2):
        if all(number % divisor for divisor in range(3, number, 2)):
            product *= number
    residue = pow(65537, 4711, product)
    return residue + product * ((1 << 2047) // product + 1)


def test_an_rsa_key_of_the_faulty_generator_is_refused() -> None:
    modulus = weak_modulus()
    assert modulus.bit_length() == 2048
    public = rsa.RSAPublicNumbers(65537, modulus).public_key()
    reason = "an RSA key of a faulty generator (ROCA, CVE-2017-15361)"
    with pytest.raises(UnusableKey) as caught:
        keys_from_pem(
            public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), ASYMMETRIC
        )
    assert str(caught.value) == reason
    n = b64url(modulus.to_bytes(256, "big")).decode()
    assert why(jwks({"kty": "RSA", "n": n, "e": "AQAB"})) == f"no usable key: key 1: {reason}"


def pem_of(public: Any) -> bytes:
    data: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def certificate(kind: str) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    made = x509.CertificateBuilder(name, name, private_key(kind).public_key(), serial_number=1)
    made = made.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
    made = made.not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
    algorithm = None if kind.startswith("Ed") else hashes.SHA256()
    return made.sign(private_key(kind), algorithm).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(("kind", "fitting"), [KINDS[0], KINDS[1], KINDS[4]])
def test_a_certificate_gives_its_key(kind: str, fitting: set[str]) -> None:
    keys = keys_from_pem(certificate(kind), ASYMMETRIC)
    assert algorithms(keys) == [fitting]


NOT_PEM = "not a public key or certificate in PEM"
NONE_FITS = "this key cannot verify any of the algorithms ES256, RS256"


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        pytest.param(b"", NOT_PEM, id="empty"),
        pytest.param(b"secret", NOT_PEM, id="text"),
        pytest.param(
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", NOT_PEM, id="garbage"
        ),
        pytest.param(
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            NOT_PEM,
            id="garbage as a certificate",
        ),
        pytest.param(
            private_key("P-256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            NOT_PEM,
            id="private key",
        ),
        pytest.param(
            public_pem("RSA-1024"), "an RSA key of 1024 bits; at least 2048 needed", id="weak RSA"
        ),
        pytest.param(public_pem("P-384"), NONE_FITS, id="other curve"),
        pytest.param(public_pem("secp256k1"), NONE_FITS, id="unknown curve"),
        pytest.param(public_pem("Ed25519"), NONE_FITS, id="other kind"),
        pytest.param(
            pem_of(x25519.X25519PrivateKey.generate().public_key()), NONE_FITS, id="key agreement"
        ),
        pytest.param(pem_of(dsa.generate_private_key(1024).public_key()), NONE_FITS, id="DSA"),
    ],
)
def test_a_pem_of_no_use_is_refused_with_its_reason(pem: bytes, reason: str) -> None:
    with pytest.raises(UnusableKey) as caught:
        keys_from_pem(pem, {"RS256", "ES256"})
    assert str(caught.value) == reason


def test_a_pem_of_a_curve_that_cryptography_does_not_know_is_refused() -> None:
    algorithm = bytes.fromhex("301006072a8648ce3d020106052b81040006")  # secp112r1
    key = b"\x30\x31" + algorithm + b"\x03\x1d\0\4" + bytes(27)
    pem = b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(key) + b"-----END PUBLIC KEY-----\n"
    with pytest.raises(UnusableKey):
        keys_from_pem(pem, ASYMMETRIC)


@pytest.mark.parametrize(
    ("secret", "allowed", "reason"),
    [
        (b"", {"HS256"}, "HS256 needs a secret of at least 32 bytes, this one has 0"),
        (b"x" * 31, {"HS256"}, "HS256 needs a secret of at least 32 bytes, this one has 31"),
        (b"x" * 32, {"HS256"}, None),
        (b"x" * 32, {"HS384", "HS256"}, "HS384 needs a secret of at least 48 bytes, this one has "),
        (b"x" * 63, {"HS512"}, "HS512 needs a secret of at least 64 bytes, this one has 63"),
        (b"x" * 64, {"HS512"}, None),
        (public_pem("RSA"), {"HS256"}, "a public key or certificate used as a shared secret"),
        (certificate("P-256"), {"HS256"}, "a public key or certificate used as a shared secret"),
    ],
    ids=["empty", "31", "32", "short for one", "63", "64", "public key", "certificate"],
)
def test_a_secret_is_as_long_as_its_hash(
    secret: bytes, allowed: set[str], reason: str | None
) -> None:
    if reason is None:
        assert algorithms(keys_from_secret(secret, allowed)) == [allowed]
        return
    with pytest.raises(UnusableKey) as caught:
        keys_from_secret(secret, allowed)
    assert str(caught.value).startswith(reason)


def test_candidates_are_the_keys_that_fit_name_and_algorithm() -> None:
    def verify(signing_input: bytes, signature: bytes) -> bool:
        return True

    def other(signing_input: bytes, signature: bytes) -> bool:
        return False

    keys = KeySet(
        (
            VerificationKey("a", {"RS256": verify, "PS256": other}),
            VerificationKey("b", {"RS256": other}),
            VerificationKey(None, {"RS256": verify}),
        )
    )
    assert keys.candidates("a", "RS256") == [verify]
    assert keys.candidates("a", "PS256") == [other]
    assert keys.candidates("b", "PS256") == []
    assert keys.candidates("c", "RS256") == []
    assert keys.candidates(None, "RS256") == [verify, other, verify]
    assert [keys.knows(kid) for kid in ("a", "b", "c", None)] == [True, True, False, True]


def test_keys_without_any_names_leave_a_kid_nothing_to_choose() -> None:
    keys = keys_from_jwks(jwks(jwk("P-256"), jwk("P-256b")), ALGORITHMS)
    assert keys.knows("a")
    assert len(keys.candidates("a", "ES256")) == 2


def test_the_empty_set_knows_no_key() -> None:
    assert not EMPTY.knows("a")
    # So a token without a `kid` waits for the first keys too.
    assert not EMPTY.knows(None)
    assert EMPTY.candidates(None, "RS256") == []
