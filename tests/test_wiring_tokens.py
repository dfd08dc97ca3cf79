"""Rules under which a forged token would pass, or none at all, are mistakes (T34, RFC 8725)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from tests.support.checking import check, demo, good, refused

AT = "4: endpoints.demo.auth.tokens"
ONE = f"{AT}: say exactly one of jwks, jwks_file, public_key and secret"
HTTPS = "must be an https:// URL (http:// is accepted on loopback only)"
PARTS = f"{AT}.jwks: must be a URL with a host and without user information"
URL = "jwks: https://idp.example/keys"
JWKS = f"{URL}, issuer: me, audience: me"
SECRETS = {"S31": "s" * 31, "S32": "s" * 32, "S64": "s" * 64}

_PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_KEYS: dict[str, PublicKeyTypes] = {
    "rsa.pem": _PRIVATE.public_key(),
    "weak.pem": rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key(),
    "p256.pem": ec.generate_private_key(ec.SECP256R1()).public_key(),
    "k1.pem": ec.generate_private_key(ec.SECP256K1()).public_key(),
    "ed.pem": ed25519.Ed25519PrivateKey.generate().public_key(),
}
_FILES = {
    name: key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for name, key in _KEYS.items()
} | {
    "private.pem": _PRIVATE.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ),
    "junk.pem": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    "junk.crt": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "none.json": b'{"keys": []}',
    "text.json": b"not json",
    "list.json": b"[]",
    "use.json": b'{"keys": [{"kty": "RSA", "use": "enc"}, 5]}',
    "many.json": json.dumps({"keys": [{}] * 65}).encode(),
}

BROKEN: dict[str, tuple[str, list[str]]] = {
    "no-source": ("algorithms: [RS256]", [ONE]),
    "two-sources": (f"algorithms: [RS256], {JWKS}, public_key: rsa.pem", [ONE]),
    "three-sources": (
        f"algorithms: [RS256], {JWKS}, jwks_file: none.json, secret: {{env: S32}}", [ONE]
    ),
    "empty-source": ("algorithms: [RS256], jwks: ''", [ONE]),
    "families-mixed": (
        f"algorithms: [RS256, HS256], {JWKS}",
        [f"{AT}.algorithms: shared-secret and public-key algorithms cannot be mixed"],
    ),
    "families-mixed-with-a-secret": (
        "algorithms: [HS256, EdDSA], secret: {env: S32}",
        [f"{AT}.algorithms: shared-secret and public-key algorithms cannot be mixed"],
    ),
    "shared-secret-from-the-net": (
        f"algorithms: [HS256], {JWKS}", [f"{AT}.algorithms: jwks goes with public-key algorithms"]
    ),
    "public-key-as-shared-secret": (
        "algorithms: [HS256], public_key: rsa.pem",
        [f"{AT}.algorithms: public_key goes with public-key algorithms"],
    ),
    "secret-for-public-key-algorithms": (
        "algorithms: [RS256], secret: {env: S32}",
        [f"{AT}.algorithms: secret goes with HS256, HS384 or HS512"],
    ),
    "jwks-http": ("algorithms: [RS256], jwks: 'http://idp.example/keys'",
                  [f"{AT}.jwks: 'http://idp.example/keys' {HTTPS}"]),
    "jwks-file-url": ("algorithms: [RS256], jwks: 'file:///etc/passwd'",
                      [f"{AT}.jwks: 'file:///etc/passwd' {HTTPS}"]),
    "jwks-no-url": ("algorithms: [RS256], jwks: idp.example/keys",
                    [f"{AT}.jwks: 'idp.example/keys' {HTTPS}"]),
    "jwks-loopback-in-name-only": (
        "algorithms: [RS256], jwks: 'http://127.0.0.1.example/keys'",
        [f"{AT}.jwks: 'http://127.0.0.1.example/keys' {HTTPS}"],
    ),
    "jwks-with-user": ("algorithms: [RS256], jwks: 'https://me:pass@idp.example/keys'", [PARTS]),
    "jwks-without-host": ("algorithms: [RS256], jwks: 'https:///keys'", [PARTS]),
    "refresh-too-fast": (f"algorithms: [RS256], {JWKS}, refresh: 999ms",
                         [f"{AT}.refresh: must be at least 1s"]),
    "leeway": (f"algorithms: [RS256], {JWKS}, leeway: 61s", [f"{AT}.leeway: must be at most 60s"]),
    "leeway-and-source": ("algorithms: [RS256], leeway: 61s",
                          [f"{AT}.leeway: must be at most 60s", ONE]),
    "secret-31-bytes": (
        "algorithms: [HS256], secret: {env: S31}",
        [f"{AT}.secret: HS256 needs a secret of at least 32 bytes, this one has 31"],
    ),
    "secret-for-the-longest-of-several": (
        "algorithms: [HS256, HS384], secret: {env: S32}",
        [f"{AT}.secret: HS384 needs a secret of at least 48 bytes, this one has 32"],
    ),
    "pem-missing": ("algorithms: [RS256], public_key: no.pem",
                    [f"{AT}.public_key: cannot read {{folder}}/no.pem: No such file or directory"]),
    "pem-junk": ("algorithms: [RS256], public_key: junk.pem",
                 [f"{AT}.public_key: not a public key or certificate in PEM"]),
    "certificate-junk": ("algorithms: [RS256], public_key: junk.crt",
                         [f"{AT}.public_key: not a public key or certificate in PEM"]),
    "pem-private": ("algorithms: [RS256], public_key: private.pem",
                    [f"{AT}.public_key: not a public key or certificate in PEM"]),
    "pem-weak": ("algorithms: [RS256], public_key: weak.pem",
                 [f"{AT}.public_key: an RSA key of 1024 bits; at least 2048 needed"]),
    "pem-of-another-kind": (
        "algorithms: [RS256, ES384], public_key: p256.pem",
        [f"{AT}.public_key: this key cannot verify any of the algorithms ES384, RS256"],
    ),
    "pem-of-an-unknown-curve": (
        "algorithms: [ES256], public_key: k1.pem",
        [f"{AT}.public_key: this key cannot verify any of the algorithms ES256"],
    ),
    "set-missing": ("algorithms: [RS256], jwks_file: no.json",
                    [f"{AT}.jwks_file: cannot read {{folder}}/no.json: No such file or directory"]),
    "set-no-json": ("algorithms: [RS256], jwks_file: text.json", [f"{AT}.jwks_file: not JSON"]),
    "set-no-object": (
        "algorithms: [RS256], jwks_file: list.json",
        [f"{AT}.jwks_file: not a JWK Set: expected an object with a list `keys`"],
    ),
    "set-empty": ("algorithms: [RS256], jwks_file: none.json",
                  [f"{AT}.jwks_file: no usable key: the set is empty"]),
    "set-useless": (
        "algorithms: [RS256], jwks_file: use.json",
        [f"{AT}.jwks_file: no usable key: key 1: its `use` is not `sig`; key 2: not an object"],
    ),
    "set-too-large": ("algorithms: [RS256], jwks_file: many.json",
                      [f"{AT}.jwks_file: 65 keys; at most 64 are accepted"]),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in _FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize(("tokens", "report"), BROKEN.values(), ids=BROKEN)
def test_t34_rules_under_which_tokens_prove_nothing_are_refused(
    folder: Path, tokens: str, report: list[str]
) -> None:
    lines = [line.format(folder=folder) for line in report]
    assert check(folder, demo(auth=f"{{tokens: {{{tokens}}}}}"), SECRETS) == refused(*lines)


# What would pass, were it taken as it reads: (tokens, what would come of it).
LOOSE = {
    "broken-ipv6": ("jwks: 'https://[::1/keys'", "urlsplit raises ValueError: a traceback"),
    "port-too-high": ("jwks: 'https://idp.example:99999/keys'", "every fetch will fail"),
    "space": ("jwks: 'https://idp example/keys'", "every fetch will fail"),
    "link-local": ("jwks: 'https://169.254.169.254/keys'", "T39: only backends are checked"),
    "no-issuer": (f"{URL}, audience: me", "T36: whoever signs with these keys is believed"),
    "no-audience-at-all": (f"{URL}, issuer: me", "T36: tokens made for other services are taken"),
    "no-audience": (f"{URL}, issuer: me, audience: []", "it reads as: nobody, and means: anybody"),
    "no-lifetime": (f"{JWKS}, max_lifetime: 0s", "it reads as: none at all, and means: no limit"),
}  # fmt: skip


@pytest.mark.parametrize("tokens", [tokens for tokens, _ in LOOSE.values()], ids=LOOSE)
def test_t34_what_reads_stricter_than_it_is_is_refused(folder: Path, tokens: str) -> None:
    assert check(folder, demo(auth=f"{{tokens: {{algorithms: [RS256], {tokens}}}}}")).status == 2


@pytest.mark.parametrize(
    "tokens",
    [
        f"algorithms: [RS256, ES256, EdDSA], {URL}, issuer: me, audience: [a, b], leeway: 60s",
        "algorithms: [RS256], jwks: 'http://127.0.0.1:9000/keys'",
        "algorithms: [RS256], jwks: 'http://localhost/keys', refresh: 1s",
        "algorithms: [RS256, PS512], public_key: rsa.pem",
        "algorithms: [ES256, ES384], public_key: p256.pem",
        "algorithms: [EdDSA], public_key: ed.pem",
        "algorithms: [HS256], secret: {env: S32}",
        "algorithms: [HS256, HS384, HS512], secret: {env: S64}",
    ],
    ids=["jwks", "loopback", "localhost", "rsa", "ec", "ed", "secret", "secrets"],
)
def test_good_rules_for_tokens_are_accepted(folder: Path, tokens: str) -> None:
    assert check(folder, demo(auth=f"{{tokens: {{{tokens}}}}}"), SECRETS) == good()


def test_judging_a_file_asks_no_issuer(folder: Path) -> None:
    # Nothing listens on port 1; the verdict must not depend on it, nor wait for it.
    auth = "{tokens: {algorithms: [RS256], jwks: 'http://127.0.0.1:1/keys'}}"
    assert check(folder, demo(auth=auth)) == good()
