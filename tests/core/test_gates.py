"""Who may pass: by key, by token or openly; the wrong all look alike (threats T32, T38)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core import gates
from gateway.core.faults import Fault, Refusal
from gateway.core.gates import (
    ANONYMOUS,
    KEY,
    MISSING,
    OPEN,
    OUTCOMES,
    TOKEN,
    TOKEN_CACHED,
    VERDICT_LIFE,
    WRONG_KEY,
    WRONG_TOKEN,
    Gate,
    KeySource,
)
from gateway.core.heads import HeadLimits, RequestHead, parse_request_head
from gateway.core.jwks import EMPTY, KeySet, keys_from_jwks, keys_from_secret
from gateway.core.keys import KeyRing
from gateway.core.tokens import TokenRules, UnknownKey
from tests.support.signing import SECRET, jwk, jwks, private_key, sign

NOW = 1_800_000_000.0
HS = frozenset({"HS256"})
RULES = TokenRules(HS, leeway=30)
RING = KeyRing({"primary": "first-key", "secondary": "other-key"})


def keys() -> KeySet:
    return keys_from_secret(SECRET, HS)


def head(*credentials: bytes) -> RequestHead:
    lines = [b"POST / HTTP/1.1", b"Host: a", *(b"Authorization: " + c for c in credentials)]
    return parse_request_head(b"\r\n".join([*lines, b"", b""]), HeadLimits())


def bearer(credential: bytes) -> RequestHead:
    return head(b"Bearer " + credential)


def token(exp: float = NOW + 600, sub: str = "me") -> bytes:
    return sign({"alg": "HS256"}, {"exp": exp, "sub": sub})


def at(now: float) -> Callable[[], float]:
    return lambda: now


def never() -> float:
    raise AssertionError("the time is asked for tokens only")


def counted(gate: Gate) -> dict[str, int]:
    return {outcome: count for outcome, count in gate.outcomes.items() if count}


def refusal(gate: Gate, request: RequestHead) -> Refusal:
    with pytest.raises(Refusal) as caught:
        gate.check(request, at(NOW))
    return caught.value


@pytest.mark.parametrize(
    ("credential", "principal"), [(b"first-key", "primary"), (b"other-key", "secondary")]
)
def test_a_key_opens_under_its_name(credential: bytes, principal: str) -> None:
    gate = Gate(RING, None)
    assert gate.check(bearer(credential), never) == principal
    assert counted(gate) == {KEY: 1}


def test_a_token_opens_under_its_principal() -> None:
    gate = Gate(None, RULES, KeySource(keys()))
    assert gate.check(bearer(token()), at(NOW)) == "me"
    assert counted(gate) == {TOKEN: 1}


def test_where_both_are_accepted_either_opens() -> None:
    gate = Gate(RING, RULES, KeySource(keys()))
    assert gate.check(bearer(b"first-key"), never) == "primary"
    assert gate.check(bearer(token()), at(NOW)) == "me"
    assert counted(gate) == {KEY: 1, TOKEN: 1}
    assert not gate.is_open


@pytest.mark.parametrize("request_head", [head(), bearer(b"whatever"), head(b"Basic abc")])
def test_an_open_gate_asks_for_nothing(request_head: RequestHead) -> None:
    gate = Gate(None, None)
    assert gate.is_open
    assert gate.check(request_head, never) == ANONYMOUS
    assert counted(gate) == {OPEN: 1}


@pytest.mark.parametrize(
    "request_head",
    [head(), head(b""), head(b"Bearer"), head(b"Bearer  "), head(b"Basic Zmlyc3Qta2V5")],
    ids=["none", "empty", "no key", "spaces", "basic"],
)
@pytest.mark.parametrize("tokens", [False, True])
def test_without_a_credential_one_is_asked_for(request_head: RequestHead, tokens: bool) -> None:
    gate = Gate(RING, RULES, KeySource(keys())) if tokens else Gate(RING, None)
    refused = refusal(gate, request_head)
    why = "" if request_head.authorization is None else "not of the form `Bearer <key or token>`"
    assert (refused.fault, refused.detail) == (Fault.NO_CREDENTIALS, why)
    assert refused.headers == b"WWW-Authenticate: Bearer\r\n"
    assert counted(gate) == {MISSING: 1}


NEITHER = "neither a known key nor a token"
WRONG = [
    pytest.param(b"third-key", WRONG_KEY, NEITHER, id="unknown key"),
    pytest.param(b"first-key2", WRONG_KEY, NEITHER, id="key and more"),
    pytest.param(b"FIRST-KEY", WRONG_KEY, NEITHER, id="key in upper case"),
    pytest.param(b"first-key other-key", WRONG_KEY, NEITHER, id="two keys"),
    pytest.param(b"a.b.c", WRONG_TOKEN, "not base64url", id="no token"),
    pytest.param(
        token()[:-3] + b"AAA", WRONG_TOKEN, "no key confirms its signature", id="forged token"
    ),
    pytest.param(token(exp=NOW - 31), WRONG_TOKEN, "it has expired", id="expired token"),
    pytest.param(
        sign({"alg": "HS256"}, {"sub": "me"}),
        WRONG_TOKEN,
        "it has no `exp`",
        id="token without exp",
    ),
    pytest.param(token() + b".e30.AA", WRONG_KEY, NEITHER, id="five parts"),
]


@pytest.mark.parametrize(("credential", "outcome", "why"), WRONG)
def test_all_wrong_credentials_look_alike(credential: bytes, outcome: str, why: str) -> None:
    gate = Gate(RING, RULES, KeySource(keys()))
    refused = refusal(gate, bearer(credential))
    assert (refused.fault, refused.headers) == (
        Fault.BAD_CREDENTIALS,
        b'WWW-Authenticate: Bearer error="invalid_token"\r\n',
    )
    assert "{detail}" not in Fault.BAD_CREDENTIALS.value.v1.text, "why is for the log only"
    assert "{detail}" not in Fault.BAD_CREDENTIALS.value.managed.text
    assert refused.detail == why
    assert counted(gate) == {outcome: 1}
    # So does a refusal that the walk makes after it has asked for newer keys.
    later = gate.refuse(WRONG_TOKEN, "its key is not known")
    assert (later.fault, later.headers) == (refused.fault, refused.headers)


def test_whether_there_are_keys_at_all_is_known() -> None:
    assert Gate(RING, RULES, KeySource()).has_no_keys
    assert not Gate(RING, RULES, KeySource(keys())).has_no_keys
    assert not Gate(RING, None).has_no_keys


def test_without_tokens_a_token_is_a_wrong_key() -> None:
    gate = Gate(RING, None)
    assert refusal(gate, bearer(token())).fault is Fault.BAD_CREDENTIALS
    assert counted(gate) == {WRONG_KEY: 1}


def test_a_token_of_an_unknown_key_is_neither_good_nor_counted_yet() -> None:
    source = KeySource()
    gate = Gate(None, TokenRules(frozenset({"ES256"})), source)
    signed = sign({"alg": "ES256", "kid": "new"}, {"exp": NOW + 60}, private_key("P-256"))
    assert source.keys is EMPTY
    with pytest.raises(UnknownKey):
        gate.check(bearer(signed), at(NOW))
    assert counted(gate) == {}
    source.keys = keys_from_jwks(jwks(jwk("P-256", kid="new")), {"ES256"})
    assert gate.check(bearer(signed), at(NOW)) == "token"


def test_a_verdict_is_remembered_for_a_minute() -> None:
    gate = Gate(None, RULES, KeySource(keys()))
    request = bearer(token(sub="her"))
    for now, outcome in (
        (NOW, {TOKEN: 1}),
        (NOW + 1, {TOKEN: 1, TOKEN_CACHED: 1}),
        (NOW + VERDICT_LIFE - 1, {TOKEN: 1, TOKEN_CACHED: 2}),
        (NOW + VERDICT_LIFE, {TOKEN: 2, TOKEN_CACHED: 2}),
        (NOW + VERDICT_LIFE + 1, {TOKEN: 2, TOKEN_CACHED: 3}),
    ):
        assert gate.check(request, at(now)) == "her"
        assert counted(gate) == outcome


def test_a_verdict_ends_with_its_token() -> None:
    gate = Gate(None, RULES, KeySource(keys()))
    request = bearer(token(exp=NOW))
    gate.check(request, at(NOW))
    gate.check(request, at(NOW + 29))
    with pytest.raises(Refusal) as caught:
        gate.check(request, at(NOW + 30))
    assert caught.value.fault is Fault.BAD_CREDENTIALS
    assert counted(gate) == {TOKEN: 1, TOKEN_CACHED: 1, WRONG_TOKEN: 1}


def test_newer_keys_end_every_verdict() -> None:
    source = KeySource(keys())
    gate = Gate(None, RULES, source)
    request = bearer(token())
    gate.check(request, at(NOW))
    source.keys = keys()
    gate.check(request, at(NOW))
    assert counted(gate) == {TOKEN: 2}
    source.keys = keys_from_secret(SECRET[::-1], HS)
    assert refusal(gate, request).fault is Fault.BAD_CREDENTIALS


def test_a_verdict_is_that_of_the_exact_credential() -> None:
    gate = Gate(None, RULES, KeySource(keys()))
    assert gate.check(bearer(token(sub="her")), at(NOW)) == "her"
    assert gate.check(bearer(token(sub="him")), at(NOW)) == "him"
    assert gate.check(bearer(token(sub="her")), at(NOW)) == "her"
    for forged in (token(sub="her") + b"=", token(sub="her")[:-1], token(sub="her").upper()):
        assert refusal(gate, bearer(forged)).fault is Fault.BAD_CREDENTIALS


def test_refusals_are_not_remembered() -> None:
    gate = Gate(None, RULES, KeySource(keys()))
    early = bearer(sign({"alg": "HS256"}, {"exp": NOW + 600, "nbf": NOW + 100}))
    assert refusal(gate, early).fault is Fault.BAD_CREDENTIALS
    assert gate.check(early, at(NOW + 100)) == "token"


def test_the_memory_of_verdicts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "VERDICTS", 4)
    gate = Gate(None, RULES, KeySource(keys()))
    first = bearer(token(sub="first"))
    gate.check(first, at(NOW))
    gate.check(first, at(NOW))
    assert counted(gate) == {TOKEN: 1, TOKEN_CACHED: 1}
    for number in range(8):
        gate.check(bearer(token(sub=str(number))), at(NOW))
    gate.check(first, at(NOW))
    assert counted(gate) == {TOKEN: 10, TOKEN_CACHED: 1}


def test_every_outcome_is_counted_from_the_start() -> None:
    # The metric must show a zero before the first refusal, or a rate over it is wrong.
    assert Gate(RING, None).outcomes == dict.fromkeys(OUTCOMES, 0)
    assert len(set(OUTCOMES)) == 9


@pytest.mark.parametrize(("rules", "source"), [(RULES, None), (None, KeySource())])
def test_rules_for_tokens_need_keys_and_keys_need_rules(
    rules: TokenRules | None, source: KeySource | None
) -> None:
    with pytest.raises(ValueError, match=r"^token rules and a source of keys go together$"):
        Gate(None, rules, source)
