"""JSON Web Tokens at the door: which open an endpoint, which do not, and what the client is told.

Threats T34, T35, T36 and T38. The promise: a token opens an endpoint when a configured key of the
configured kind signed it for this issuer, this audience and this time. Whatever is wrong with one,
the answer is the same 401, and nothing of the request reaches a container.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.backends import FakeBackend, answering
from tests.support.gateways import KEY, SECOND_KEY, GatewayProcess, wait_until
from tests.support.raw import Answer, request
from tests.support.tokens import (
    AUDIENCE,
    ISSUER,
    Issuer,
    base64url,
    claims,
    key_set,
    unsigned,
)

REFUSED = "Unauthorized, the key or token is not valid"
SECRET = "a-shared-secret-of-the-tests-0123456789"
RSA = Issuer("RS256", "one")
OTHER = Issuer("RS256", "one")
PSS = Issuer("PS256", "pss")
EC = Issuer("ES256", "ec")
ED = Issuer("EdDSA", "ed")


def endpoint(backend: FakeBackend, tokens: str, keys: str = "") -> str:
    expected = f"issuer: {ISSUER}, audience: [{AUDIENCE}, api://other]"
    return (
        f"{{auth: {{{keys}tokens: {{{expected}, {tokens}}}}}, "
        f"deployments: {{blue: {{backends: [{backend.url}]}}}}}}"
    )


@pytest.fixture(scope="module")
def backend() -> Iterator[FakeBackend]:
    with FakeBackend(answering()) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "rsa.pem").write_bytes(RSA.pem())
    (folder / "keys.json").write_bytes(key_set(RSA, PSS, EC, ED))
    keys = "keys: {primary: {env: TEST_KEY}, secondary: {env: TEST_SECOND_KEY}}, "
    families = "algorithms: [RS256, PS256, ES256, EdDSA], jwks_file: keys.json"
    text = (
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nendpoints:\n"
        f"  pem: {endpoint(backend, 'algorithms: [RS256], public_key: rsa.pem')}\n"
        f"  file: {endpoint(backend, families)}\n"
        f"  shared: {endpoint(backend, 'algorithms: [HS256], secret: {env: TEST_SECRET}')}\n"
        f"  both: {endpoint(backend, 'algorithms: [RS256], public_key: rsa.pem', keys)}\n"
        f"  strict: {endpoint(backend, 'algorithms: [RS256], public_key: rsa.pem, leeway: 0s')}\n"
        f"  brief: {endpoint(backend, families + ', max_lifetime: 1h')}\n"
    )
    environment = {"TEST_SECRET": SECRET}
    with GatewayProcess(text, folder, environment=environment) as running:
        yield running
        assert running.complaints() == []


def score(gateway: GatewayProcess, endpoint: str, token: str, scheme: str = "Bearer") -> Answer:
    headers = {"Authorization": f"{scheme} {token}"}
    return gateway.ask(request(f"/api/v1/service/{endpoint}/score", headers=headers))


def shared_token(**header: object) -> str:
    return jwt.encode(claims(), SECRET, algorithm="HS256", headers=header)


@pytest.mark.parametrize(
    ("where", "token"),
    [
        ("pem", lambda: RSA.token()),
        ("pem", lambda: RSA.token(kid=None)),
        ("shared", lambda: shared_token(kid="one")),
        ("file", lambda: RSA.token()),
        ("file", lambda: RSA.token(kid=None)),
        ("file", lambda: PSS.token()),
        ("file", lambda: EC.token()),
        ("file", lambda: ED.token()),
        ("shared", shared_token),
        ("both", lambda: RSA.token(kid=None)),
        ("both", lambda: KEY),
        ("both", lambda: SECOND_KEY),
        ("file", lambda: RSA.token(claims(aud=["somebody-else", "api://other"]))),
        ("file", lambda: RSA.token(claims(exp=int(time.time()) - 20))),
        ("file", lambda: RSA.token(claims(nbf=int(time.time()) + 20))),
        ("file", lambda: RSA.token(claims(exp=time.time() + 100.5))),
        ("file", lambda: RSA.token(typ="at+jwt")),
        ("brief", lambda: RSA.token(claims(exp=int(time.time()) + 3500))),
    ],
    ids=[
        "pem", "pem-without-kid", "HS256-with-kid", "file-RS256", "file-without-kid",
        "file-PS256", "file-ES256", "file-EdDSA", "HS256", "token-beside-keys",
        "primary-key-beside-tokens", "secondary-key-beside-tokens",
        "one-audience-of-several", "expired-within-the-leeway",
        "not-yet-valid-within-the-leeway", "fraction-of-a-second", "access-token-type",
        "short-enough-a-life",
    ],
)  # fmt: skip
def test_a_good_token_opens_the_endpoint(
    gateway: GatewayProcess, where: str, token: Callable[[], str]
) -> None:
    assert score(gateway, where, token()).status == 200


def _with_header(**header: Any) -> str:
    return RSA.sign({"kid": "one", **header}, json.dumps(claims()).encode())


def _embedded(**header: Any) -> str:
    """Signed by a stranger, who tells where to find his key."""
    return OTHER.token(kid=None, **header)


def _reencoded(token: str) -> str:
    """The same signature in an encoding with meaningless bits set."""
    head, body, signature = token.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        other = signature[:-1] + last
        if other != signature and base64.urlsafe_b64decode(other + "==") == raw:
            return f"{head}.{body}.{other}"
    raise AssertionError("every last character carries meaning")


def _hs(key: bytes, **header: Any) -> str:
    """HS256 by hand: PyJWT refuses to sign with a public key."""
    implementation = jwt.get_algorithm_by_name("HS256")
    head = base64url(json.dumps({"alg": "HS256", "typ": "JWT", **header}).encode())
    body = base64url(json.dumps(claims()).encode())
    signature: bytes = implementation.sign(f"{head}.{body}".encode(), key)
    return f"{head}.{body}.{base64url(signature)}"


def _signed(payload: str) -> str:
    return RSA.sign({"kid": "one"}, payload.encode())


T34: dict[str, Callable[[], str]] = {
    "alg-none": lambda: unsigned({"alg": "none", "typ": "JWT"}, claims(), b""),
    "alg-none-with-a-signature": lambda: unsigned({"alg": "none"}, claims()),
    "alg-NONE": lambda: unsigned({"alg": "NONE", "kid": "one"}, claims()),
    "alg-missing": lambda: unsigned({"kid": "one"}, claims()),
    "alg-list": lambda: unsigned({"alg": ["RS256"], "kid": "one"}, claims()),
    "HS256-by-the-PEM": lambda: _hs(RSA.pem(), kid="one"),
    "HS256-by-the-PEM-on-one-line": lambda: _hs(RSA.pem().replace(b"\n", b"")),
    "HS256-by-the-JWK": lambda: _hs(json.dumps(RSA.jwk()).encode(), kid="one"),
    "HS256-by-nothing": lambda: _hs(b"", kid="one"),
    "another-key-of-the-same-name": lambda: OTHER.token(),
    "another-key-without-a-name": lambda: OTHER.token(kid=None),
    "key-of-another-kind": lambda: Issuer("ES256", "one").token(),
    "algorithm-not-allowed": lambda: jwt.encode(claims(), RSA.key, "RS512", headers={"kid": "one"}),
    "signature-cut": lambda: RSA.token()[:-4],
    "signature-empty": lambda: RSA.token().rpartition(".")[0] + ".",
    "signature-padded": lambda: RSA.token() + "==",
    "signature-in-another-encoding": lambda: _reencoded(RSA.token()),
    "payload-changed": lambda: RSA.token().replace(".eyJ", ".eyK", 1),
    "four-parts": lambda: RSA.token() + ".e30",
    "two-parts": lambda: RSA.token().rpartition(".")[0],
    "not-base64": lambda: "a.%.c",
}
T35: dict[str, Callable[[], str]] = {
    "crit": lambda: _with_header(crit=["exp"]),
    "crit-unknown": lambda: _with_header(crit=["x"], x=1),
    "b64": lambda: _with_header(b64=True),
    "zip": lambda: _with_header(zip="DEF"),
    "jwk": lambda: _embedded(jwk=OTHER.jwk()),
    "jku": lambda: _embedded(jku="http://127.0.0.1:1/keys"),
    "x5u": lambda: _embedded(x5u="http://127.0.0.1:1/cert"),
    "kid-is-a-path": lambda: _with_header(kid="../../../dev/null"),
    "kid-is-a-query": lambda: _with_header(kid="one' OR '1'='1"),
    "kid-is-a-number": lambda: _with_header(kid=1),
    "kid-is-too-long": lambda: _with_header(kid="o" * 129),
    "kid-is-unknown": lambda: _with_header(kid="two"),
    "typ-of-something-else": lambda: _with_header(typ="dpop+jwt"),
}
T36: dict[str, Callable[[], str]] = {
    "expired": lambda: RSA.token(claims(exp=int(time.time()) - 40)),
    "no-exp": lambda: RSA.token(claims(exp=None)),
    "exp-is-text": lambda: RSA.token(claims(exp=str(int(time.time()) + 300))),
    "exp-is-true": lambda: RSA.token(claims(exp=True)),
    "exp-is-absurd": lambda: RSA.token(claims(exp=10**15)),
    "exp-is-negative": lambda: RSA.token(claims(exp=-1)),
    "not-yet-valid": lambda: RSA.token(claims(nbf=int(time.time()) + 60)),
    "nbf-is-text": lambda: RSA.token(claims(nbf="0")),
    "from-the-future": lambda: RSA.token(claims(iat=int(time.time()) + 60)),
    "another-issuer": lambda: RSA.token(claims(iss="https://login.test/other")),
    "issuer-is-a-prefix": lambda: RSA.token(claims(iss=ISSUER[:-1])),
    "issuer-is-longer": lambda: RSA.token(claims(iss=ISSUER + "/")),
    "issuer-is-a-list": lambda: _signed(json.dumps(claims(iss=[ISSUER]))),
    "no-issuer": lambda: RSA.token(claims(iss=None)),
    "another-audience": lambda: RSA.token(claims(aud="api://scoring2")),
    "audience-is-a-prefix": lambda: RSA.token(claims(aud="api://scorin")),
    "other-audiences": lambda: RSA.token(claims(aud=["a", "b"])),
    "no-audience": lambda: RSA.token(claims(aud=None)),
    "duplicate-claims": lambda: _signed(json.dumps(claims())[:-1] + ', "sub": "another"}'),
    "payload-is-a-list": lambda: _signed("[]"),
    "payload-is-no-JSON": lambda: _signed("{"),
    "more-than-8-KiB": lambda: RSA.token(claims(filler="x" * 6200)),
}


def assert_refused(gateway: GatewayProcess, backend: FakeBackend, where: str, token: str) -> None:
    before = len(backend.seen)
    answer = score(gateway, where, token)
    assert (answer.status, answer.text) == (401, REFUSED)
    assert answer.header("www-authenticate") == 'Bearer error="invalid_token"'
    assert answer.header("x-ms-request-id")
    assert len(backend.seen) == before


@pytest.mark.parametrize("where", ["pem", "file"])
@pytest.mark.parametrize("name", T34)
def test_t34_a_token_does_not_choose_how_it_is_verified(
    gateway: GatewayProcess, backend: FakeBackend, where: str, name: str
) -> None:
    assert_refused(gateway, backend, where, T34[name]())


@pytest.mark.parametrize("name", T35)
def test_t35_a_tokens_header_is_neither_obeyed_nor_followed(
    gateway: GatewayProcess, backend: FakeBackend, name: str
) -> None:
    assert_refused(gateway, backend, "file", T35[name]())


@pytest.mark.parametrize("name", T36)
def test_t36_claims_are_compared_exactly(
    gateway: GatewayProcess, backend: FakeBackend, name: str
) -> None:
    assert_refused(gateway, backend, "file", T36[name]())


def test_t36_a_token_that_lives_too_long_is_refused(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    now = int(time.time())
    assert_refused(gateway, backend, "brief", RSA.token(claims(exp=now + 3700)))
    assert_refused(gateway, backend, "brief", RSA.token(claims(exp=now + 3700, iat=None)))


def test_t34_a_shared_secret_opens_only_its_own_endpoint(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    assert_refused(gateway, backend, "shared", RSA.token())
    assert_refused(gateway, backend, "shared", _hs(b"another secret of the same length....."))
    assert_refused(gateway, backend, "file", shared_token())


def test_a_token_is_not_accepted_where_only_keys_are_and_no_scheme_but_bearer(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    assert score(gateway, "file", RSA.token(), "bearer").status == 200
    before = len(backend.seen)
    for scheme in ("Basic", "Token", "JWT", ""):
        answer = score(gateway, "file", RSA.token(), scheme)
        assert (answer.status, answer.text) == (401, "Unauthorized, no Authorization header")
        assert answer.header("www-authenticate") == "Bearer"
    assert len(backend.seen) == before


def test_t38_a_remembered_token_keeps_its_own_name(gateway: GatewayProcess) -> None:
    tokens = {name: EC.token(claims(sub=name)) for name in ("tenant-a", "tenant-b")}
    asked = {}
    for _ in range(5):
        for name, token in tokens.items():
            answer = score(gateway, "file", token)
            assert answer.status == 200
            asked[answer.header("x-ms-request-id")] = name

    def logged() -> dict[object, object]:
        entries = gateway.log_entries()
        return {e["request_id"]: e["principal"] for e in entries if e.get("request_id") in asked}

    wait_until(lambda: len(logged()) == 10, what="ten lines in the access log")
    assert logged() == asked
    assert gateway.metric("gateway_authentications_total", outcome="token_cached") >= 8


def test_t38_a_remembered_token_still_expires(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    token = RSA.token(claims(exp=time.time() + 0.8), kid=None)
    assert score(gateway, "strict", token).status == 200
    assert score(gateway, "strict", token).status == 200
    wait_until(lambda: score(gateway, "strict", token).status == 401, 2, "the token's end")
    assert_refused(gateway, backend, "strict", token)


def test_t38_what_resembles_a_remembered_token_is_not_it(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    token = RSA.token()
    assert score(gateway, "file", token).status == 200
    for other in (token + "=", token + "x", token[:-1], token.swapcase(), _reencoded(token)):
        assert_refused(gateway, backend, "file", other)
    assert_refused(gateway, backend, "shared", token)


def test_t05_a_claim_that_is_no_text_does_not_cost_the_access_log(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    """JSON can spell half a surrogate pair, and some issuers let users choose their names."""
    listen = "listen: {address: '127.0.0.1:0', timeouts: {drain: 100ms}}"
    text = gateway.config.read_text().replace("listen: 127.0.0.1:0", listen)
    for name in ("rsa.pem", "keys.json"):
        text = text.replace(name, str(gateway.folder / name))
    token = RSA.token(claims(sub="\ud800"), kid=None)
    data = request("/api/v1/service/pem/score", headers={"Authorization": f"Bearer {token}"})
    with GatewayProcess(text, tmp_path, environment={"TEST_SECRET": SECRET}) as own:
        with own.client(timeout=2) as client:
            for _ in range(100):  # more than one batch of lines
                client.send(data)
                assert client.answer().status == 200
        wait_until(lambda: len([e for e in own.log_entries() if "request_id" in e]) == 100)
        assert own.complaints() == []
