"""A token is good only if signature, header and claims all are, to the letter (T34 to T36)."""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.jwks import (
    ALGORITHMS,
    ASYMMETRIC,
    KeySet,
    UnusableKey,
    keys_from_jwks,
    keys_from_pem,
    keys_from_secret,
)
from gateway.core.tokens import (
    MAX_TOKEN,
    BadToken,
    UnknownKey,
    looks_like_token,
    verify_signature,
)
from tests.support.signing import SECRET, b64url, jwk, jwks, private_key, public_pem, sign

HS = frozenset({"HS256"})
KEYS = keys_from_secret(SECRET, HS)
UNSIGNED = "no key confirms its signature"
HEADER: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}


def why(token: bytes, algorithms: frozenset[str] = HS, keys: KeySet = KEYS) -> str:
    with pytest.raises(BadToken) as caught:
        verify_signature(token, algorithms, keys)
    return str(caught.value)


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        *((name, "RSA") for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        *[("ES256", "P-256"), ("ES384", "P-384"), ("ES512", "P-521")],
        *[("EdDSA", "Ed25519"), ("EdDSA", "Ed448")],
    ],
)
def test_a_signature_of_every_algorithm_is_confirmed(algorithm: str, kind: str) -> None:
    keys = keys_from_jwks(jwks(jwk(kind, kid="k")), ASYMMETRIC)
    token = sign({"alg": algorithm, "kid": "k"}, b"payload", private_key(kind))
    assert verify_signature(token, ASYMMETRIC, keys) == b"payload"
    other = sign({"alg": algorithm, "kid": "k"}, b"payload", private_key(kind + "b"))
    assert why(other, ASYMMETRIC, keys) == UNSIGNED


def test_without_a_kid_every_fitting_key_is_tried() -> None:
    keys = keys_from_jwks(
        jwks(jwk("P-256", kid="a"), jwk("RSA", kid="b"), jwk("P-256b", kid="c")), ASYMMETRIC
    )
    token = sign({"alg": "ES256"}, b"", private_key("P-256b"))
    assert verify_signature(token, ASYMMETRIC, keys) == b""


def test_a_kid_chooses_the_key_and_an_unknown_one_may_be_news() -> None:
    keys = keys_from_jwks(jwks(jwk("P-256", kid="a"), jwk("P-256b", kid="b")), ASYMMETRIC)
    wrong = sign({"alg": "ES256", "kid": "a"}, b"", private_key("P-256b"))
    assert why(wrong, ASYMMETRIC, keys) == UNSIGNED
    unknown = sign({"alg": "ES256", "kid": "c"}, b"", private_key("P-256"))
    with pytest.raises(UnknownKey, match=r"^its `kid` is unknown$"):
        verify_signature(unknown, ASYMMETRIC, keys)


@pytest.mark.parametrize(
    ("keys", "key", "algorithm"),
    [
        pytest.param(
            keys_from_pem(public_pem("P-256"), {"ES256"}), private_key("P-256"), "ES256", id="PEM"
        ),
        pytest.param(KEYS, SECRET, "HS256", id="secret"),
    ],
)
def test_the_only_key_has_no_name_so_a_name_does_not_matter(
    keys: KeySet, key: object, algorithm: str
) -> None:
    # RFC 7515 section 4.1.4: `kid` is a hint. A configured PEM or secret is all there is.
    token = sign({"alg": algorithm, "kid": "2026-11"}, b"payload", key)
    assert verify_signature(token, frozenset({algorithm}), keys) == b"payload"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        pytest.param({}, "its algorithm is not allowed", id="no alg"),
        pytest.param({"alg": "none"}, "its algorithm is not allowed", id="alg none"),
        pytest.param({"alg": "None"}, "its algorithm is not allowed", id="alg None"),
        pytest.param({"alg": ""}, "its algorithm is not allowed", id="alg empty"),
        pytest.param({"alg": "hs256"}, "its algorithm is not allowed", id="alg in lower case"),
        pytest.param({"alg": "HS512"}, "its algorithm is not allowed", id="alg not allowed"),
        pytest.param({"alg": ["HS256"]}, "its algorithm is not allowed", id="alg list"),
        pytest.param({"alg": None}, "its algorithm is not allowed", id="alg null"),
        pytest.param(HEADER | {"crit": ["exp"]}, "its header has `crit`", id="crit"),
        pytest.param(HEADER | {"crit": []}, "its header has `crit`", id="crit empty"),
        pytest.param(HEADER | {"b64": False}, "its header has `b64`", id="b64"),
        pytest.param(HEADER | {"b64": True}, "its header has `b64`", id="b64 true"),
        pytest.param(HEADER | {"zip": "DEF"}, "its header has `zip`", id="zip"),
        pytest.param(HEADER | {"typ": "JOSE"}, "its `typ` is not JWT", id="typ"),
        pytest.param(HEADER | {"typ": "logout+jwt"}, "its `typ` is not JWT", id="logout token"),
        pytest.param(HEADER | {"typ": None}, "its `typ` is not JWT", id="typ null"),
        pytest.param(HEADER | {"typ": ["JWT"]}, "its `typ` is not JWT", id="typ list"),
        *(
            pytest.param(HEADER | {"kid": kid}, "its `kid` is not a plain name", id=f"kid {name}")
            for name, kid in {
                "empty": "",
                "number": 5,
                "list": ["a"],
                "path up": "../../etc/passwd\0",
                "query": "https://evil.test/?a",
                "sql": "' OR 1=1",
                "space": "a b",
                "line feed": "a\n",
                "long": "a" * 129,
                "other script": "é",
            }.items()
        ),
        pytest.param(b"[]", "its header is not an object", id="list"),
        pytest.param(b'"HS256"', "its header is not an object", id="text"),
        pytest.param(b"{", "its header is not JSON", id="cut off"),
        pytest.param(b'{"alg": "HS256"\xff}', "its header is not JSON", id="not UTF-8"),
        pytest.param(b'{"alg":"none","alg":"HS256"}', "its header is not JSON", id="alg twice"),
        pytest.param(b"[" * 5000, "its header is not JSON", id="deep"),
    ],
)
def test_a_bad_header_is_refused(header: dict[str, Any] | bytes, reason: str) -> None:
    assert why(sign(header, b"", algorithm="HS256")) == reason


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256"},
        {"alg": "HS256", "typ": "JWT"},
        {"alg": "HS256", "typ": "jwt"},
        {"alg": "HS256", "typ": "at+jwt"},
        {"alg": "HS256", "typ": "application/at+JWT"},
        {"alg": "HS256", "kid": None},
        # Keys in a token are neither used nor fetched (RFC 8725 section 3.10).
        {"alg": "HS256", "jku": "http://evil.test/", "x5u": "http://evil.test/", "jwk": {}},
        {"alg": "HS256", "cty": "JWT", "unknown": [1]},
    ],
    ids=str,
)
def test_a_harmless_header_is_accepted(header: dict[str, Any]) -> None:
    assert verify_signature(sign(header, b"payload"), HS, KEYS) == b"payload"


def test_the_key_that_a_token_brings_along_is_not_used() -> None:
    own = jwk("P-256b")
    keys = keys_from_jwks(jwks(jwk("P-256")), ASYMMETRIC)
    token = sign({"alg": "ES256", "jwk": own}, b"", private_key("P-256b"))
    assert why(token, ASYMMETRIC, keys) == UNSIGNED


@pytest.mark.parametrize("confused", [public_pem("RSA"), b64url(public_pem("RSA"))])
def test_a_public_key_is_never_taken_for_a_secret(confused: bytes) -> None:
    # Threat T34: HS256 with the text of the RSA key, which everybody knows.
    signing_input = b64url(b'{"alg":"HS256"}') + b"." + b64url(b"{}")
    token = signing_input + b"." + b64url(hmac.digest(confused, signing_input, "sha256"))
    keys = keys_from_pem(public_pem("RSA"), ALGORITHMS)
    assert why(token, ALGORITHMS, keys) == UNSIGNED


GOOD = sign({"alg": "HS256"}, b"{}")
HEAD, BODY, MARK = GOOD.split(b".")
FORM = "not three base64url parts"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        pytest.param(b"", FORM, id="empty"),
        pytest.param(HEAD + b"." + BODY, FORM, id="two parts"),
        pytest.param(GOOD + b".", FORM, id="four parts"),
        pytest.param(b"." + BODY + b"." + MARK, FORM, id="no header"),
        pytest.param(HEAD + b"." + BODY + b".", FORM, id="no signature"),
        pytest.param(GOOD + b"=", FORM, id="padding"),
        pytest.param(GOOD + b"\n", FORM, id="line feed"),
        pytest.param(b" " + GOOD, FORM, id="space"),
        pytest.param(HEAD + b"+." + BODY + b"." + MARK, FORM, id="alphabet of base64"),
        pytest.param(GOOD.replace(b".", b"\xc2\xb7"), FORM, id="other dots"),
        pytest.param(HEAD + b"." + BODY + b"." + MARK + b"AA", "not base64url", id="odd length"),
        pytest.param(HEAD[:-1] + b"." + BODY + b"." + MARK, "not base64url", id="cut header"),
        pytest.param(HEAD + b"." + BODY + b"." + MARK[:-3], UNSIGNED, id="cut"),
        pytest.param(
            HEAD + b"." + b64url(b"{ }") + b"." + MARK,
            UNSIGNED,
            id="payload",
        ),
        pytest.param(HEAD + b".." + MARK, UNSIGNED, id="no payload"),
    ],
)
def test_a_token_in_bad_form_is_refused(token: bytes, reason: str) -> None:
    assert why(token) == reason


def test_one_message_has_one_form() -> None:
    # Threat T38: were there two spellings of a signature, a revoked token could be spelt anew.
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    signature = base64.urlsafe_b64decode(MARK + b"=")
    twins = [MARK[:-1] + bytes([last]) for last in alphabet]
    same = [twin for twin in twins if base64.urlsafe_b64decode(twin + b"=") == signature]
    assert len(same) == 4
    verdicts = [why(HEAD + b"." + BODY + b"." + twin) for twin in same if twin != MARK]
    assert verdicts == ["not base64url"] * 3


def test_a_token_has_a_bound() -> None:
    room = MAX_TOKEN - len(sign(HEADER, b"")) - 1
    fitting = sign(HEADER, bytes(room * 3 // 4))
    assert MAX_TOKEN - 3 <= len(fitting) <= MAX_TOKEN
    assert verify_signature(fitting, HS, KEYS) == bytes(room * 3 // 4)
    assert why(sign(HEADER, bytes(room))) == f"longer than {MAX_TOKEN} bytes"


@given(st.binary(max_size=200) | st.lists(st.binary(max_size=30).map(b64url)).map(b".".join))
def test_any_bytes_are_refused_and_nothing_of_them_is_told(token: bytes) -> None:
    assert why(token) in (
        FORM,
        "not base64url",
        "its header is not JSON",
        "its header is not an object",
        "its algorithm is not allowed",
    )


@pytest.mark.parametrize(
    ("credential", "verdict"),
    [(b"a.b.c", True), (b"a.b", False), (b"a.b.c.d.e", False), (b"", False), (b"0" * 32, False)],
)
def test_a_credential_with_two_dots_is_taken_for_a_token(credential: bytes, verdict: bool) -> None:
    assert looks_like_token(credential) is verdict


# Of the public vectors these are not judged as labelled, with the reason.
QUIRKS = {
    "346": "the key's own `alg` is PS256, the token says PS384: 338 labels the same invalid",
    "350": "as 346; 340 labels the same invalid",
    "347": "`ES521` is no registered algorithm",
    "351": "as 347",
    "367": "identical to a valid token: mislabelled",
    "370": "as 367",
    "372": "a `?` inside base64url",
    "373": "as 372",
}


@pytest.mark.parametrize(
    ("name", "count", "quirks"),
    [
        ("json_web_signature_test.json", 401, sorted(QUIRKS)),
        ("json_web_key_test.json", 26, []),
        ("json_web_crypto_test.json", 49, []),
    ],
)
def test_the_vectors_of_wycheproof_are_judged_as_labelled(
    corpora: Path, name: str, count: int, quirks: list[str]
) -> None:
    path = corpora / "wycheproof" / name
    judged, surprising = 0, []
    for group in json.loads(path.read_bytes())["testGroups"]:
        key = json.dumps(group.get("public") or group.get("private")).encode()
        for vector in group["tests"]:
            if "jws" not in vector:  # encryption, which is not spoken here
                continue
            judged += 1
            token = vector["jws"]
            text = token if isinstance(token, str) else json.dumps(token)
            try:
                verify_signature(text.encode(), ALGORITHMS, keys_from_jwks(key, ALGORITHMS))
            except (BadToken, UnusableKey):
                verdict = "invalid"
            else:
                verdict = "valid"
            if verdict != vector["result"]:
                surprising.append(str(vector["tcId"]))
    assert (judged, sorted(surprising)) == (count, quirks)
