"""What a verified token says must be said in the right form, and hold now (RFC 7519, T36)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.jwks import keys_from_secret
from gateway.core.tokens import BadToken, Claims, TokenRules, check_claims, verify_token
from tests.support.signing import SECRET, sign

NOW = 1_800_000_000
HS = frozenset({"HS256"})
RULES = TokenRules(HS, leeway=30)
LATER = {"exp": NOW + 600}


def why(claims: dict[str, Any] | bytes, rules: TokenRules = RULES, now: float = NOW) -> str:
    with pytest.raises(BadToken) as caught:
        check(claims, rules, now)
    return str(caught.value)


def check(claims: dict[str, Any] | bytes, rules: TokenRules = RULES, now: float = NOW) -> Claims:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return check_claims(payload, rules, now)


def test_a_good_token_is_worth_a_name_and_a_time() -> None:
    token = sign({"alg": "HS256"}, {"sub": "me", "exp": NOW + 600, "nbf": NOW, "iat": NOW})
    keys = keys_from_secret(SECRET, HS)
    assert verify_token(token, RULES, keys, NOW) == Claims("me", NOW + 630)
    with pytest.raises(BadToken, match=r"^it has expired$"):
        verify_token(token, RULES, keys, NOW + 630)


NO_TIMES = [
    pytest.param(b"null", id="null"),
    pytest.param(b'"1800000600"', id="text"),
    pytest.param(b"true", id="bool"),
    pytest.param(b"[1800000600]", id="list"),
    pytest.param(b"1e11", id="far future"),
    pytest.param(b"1e999", id="infinite"),
    pytest.param(b"99999999999999999999999999", id="huge"),
    pytest.param(b"-1", id="negative"),
    pytest.param(b"NaN", id="not a number"),
]


@pytest.mark.parametrize("value", NO_TIMES)
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_a_time_is_a_number(name: str, value: bytes) -> None:
    others = b"" if name == "exp" else b'"exp": 1800000600, '
    assert why(b"{" + others + b'"%b": %b}' % (name.encode(), value)) == (
        f"its `{name}` is not a time"
    )


def test_a_time_of_endless_digits_is_no_json() -> None:
    assert why(b'{"exp": ' + b"9" * 5000 + b"}") == "its payload is not JSON"


LIMITED = TokenRules(HS, leeway=30, max_lifetime=3600)


@pytest.mark.parametrize(
    ("claims", "rules", "verdict"),
    [
        pytest.param({}, RULES, "it has no `exp`", id="no exp"),
        pytest.param({"sub": "me"}, RULES, "it has no `exp`", id="only a subject"),
        pytest.param({"exp": NOW + 1}, RULES, None, id="not expired"),
        pytest.param({"exp": NOW - 29}, RULES, None, id="expired, within the leeway"),
        pytest.param({"exp": NOW - 29.5}, RULES, None, id="fraction"),
        pytest.param({"exp": NOW - 30}, RULES, "it has expired", id="expired"),
        pytest.param({"exp": 0}, RULES, "it has expired", id="expired long ago"),
        pytest.param({"exp": NOW}, TokenRules(HS, leeway=0), "it has expired", id="no leeway"),
        pytest.param(LATER | {"nbf": NOW + 30}, RULES, None, id="not before, within the leeway"),
        pytest.param(LATER | {"nbf": NOW + 31}, RULES, "it is not valid yet", id="not before"),
        pytest.param(LATER | {"nbf": 0}, RULES, None, id="not before long ago"),
        pytest.param(LATER | {"iat": NOW + 30}, RULES, None, id="issued, within the leeway"),
        pytest.param(LATER | {"iat": NOW + 31}, RULES, "it was issued in the future", id="issued"),
        pytest.param(LATER | {"iat": 1}, RULES, None, id="old, no bound on the lifetime"),
        pytest.param(
            {"exp": NOW + 600, "iat": NOW - 3030}, LIMITED, None, id="lifetime at the bound"
        ),
        pytest.param(
            {"exp": NOW + 600, "iat": NOW - 3031},
            LIMITED,
            "it lives longer than allowed",
            id="lifetime above",
        ),
        pytest.param({"exp": NOW + 3630}, LIMITED, None, id="no iat, at the bound"),
        pytest.param(
            {"exp": NOW + 3631}, LIMITED, "it lives longer than allowed", id="no iat, above"
        ),
    ],
)
def test_times_are_kept_with_leeway_on_both_sides(
    claims: dict[str, Any], rules: TokenRules, verdict: str | None
) -> None:
    if verdict is None:
        assert check(claims, rules).expires == claims["exp"] + rules.leeway
    else:
        assert why(claims, rules) == verdict


ISSUER = TokenRules(HS, issuer="https://issuer.test")
AUDIENCE = TokenRules(HS, audiences=frozenset({"scoring", "models"}))
NOT_ISSUER = "its issuer is not the expected one"
NOT_AUDIENCE = "it is for another audience"


@pytest.mark.parametrize(
    ("claims", "rules", "verdict"),
    [
        ({"iss": "https://issuer.test"}, ISSUER, None),
        ({"iss": "https://issuer.test/"}, ISSUER, NOT_ISSUER),
        ({"iss": "https://issuer.tes"}, ISSUER, NOT_ISSUER),
        ({"iss": "https://Issuer.test"}, ISSUER, NOT_ISSUER),
        ({"iss": "h"}, ISSUER, NOT_ISSUER),
        ({"iss": ""}, ISSUER, NOT_ISSUER),
        ({"iss": ["https://issuer.test"]}, ISSUER, NOT_ISSUER),
        ({"iss": None}, ISSUER, NOT_ISSUER),
        ({}, ISSUER, NOT_ISSUER),
        ({"iss": "anybody"}, RULES, None),
        ({"aud": "scoring"}, AUDIENCE, None),
        ({"aud": ["other", "models"]}, AUDIENCE, None),
        ({"aud": "scoring models"}, AUDIENCE, NOT_AUDIENCE),
        ({"aud": "scorin"}, AUDIENCE, NOT_AUDIENCE),
        ({"aud": ["other"]}, AUDIENCE, NOT_AUDIENCE),
        ({"aud": []}, AUDIENCE, NOT_AUDIENCE),
        ({"aud": [["scoring"], {"scoring": 1}, None, 5]}, AUDIENCE, NOT_AUDIENCE),
        ({"aud": {"scoring": True}}, AUDIENCE, NOT_AUDIENCE),
        ({"aud": None}, AUDIENCE, NOT_AUDIENCE),
        ({}, AUDIENCE, NOT_AUDIENCE),
        ({"aud": "anything"}, RULES, None),
    ],
    ids=str,
)
def test_issuer_and_audience_are_exact(
    claims: dict[str, Any], rules: TokenRules, verdict: str | None
) -> None:
    if verdict is None:
        check(LATER | claims, rules)
    else:
        assert why(LATER | claims, rules) == verdict


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "its payload is not JSON"),
        (b"{", "its payload is not JSON"),
        (b"\xff", "its payload is not JSON"),
        (b"\xef\xbb\xbf{}", "its payload is not JSON"),
        (b"[" * 100_000, "its payload is not JSON"),
        (b'{"exp":1,"exp":1800000600}', "its payload is not JSON"),
        (b'{"exp":1800000600,"a":{"b":1,"b":2}}', "its payload is not JSON"),
        (b'{"exp":1800000600,"\\u0065xp":1}', "its payload is not JSON"),
        (b"[]", "its payload is not an object"),
        (b"1800000600", "its payload is not an object"),
    ],
    ids=[
        "empty",
        "cut",
        "binary",
        "BOM",
        "deep",
        "twice",
        "deep twice",
        "escaped",
        "list",
        "number",
    ],
)
def test_a_payload_is_an_object_that_says_everything_once(payload: bytes, reason: str) -> None:
    assert why(payload) == reason


@pytest.mark.parametrize(
    ("claims", "rules", "name"),
    [
        ({"sub": "me"}, RULES, "me"),
        ({"sub": ""}, RULES, "token"),
        ({"sub": 5}, RULES, "token"),
        ({}, RULES, "token"),
        ({"sub": "me", "azp": "app"}, TokenRules(HS, principal_claim="azp"), "app"),
        ({"sub": "me"}, TokenRules(HS, principal_claim="azp"), "token"),
    ],
    ids=str,
)
def test_the_principal_is_a_configured_claim(
    claims: dict[str, Any], rules: TokenRules, name: str
) -> None:
    assert check(LATER | claims, rules).principal == name


def test_the_principal_can_be_written() -> None:
    check(b'{"exp": 1800000600, "sub": "\\ud800"}').principal.encode()


@given(
    st.dictionaries(
        st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
        | st.lists(st.text(max_size=5), max_size=2),
    )
)  # fmt: skip
def test_any_claims_are_accepted_within_their_time_or_refused(claims: dict[str, Any]) -> None:
    try:
        found = check(claims)
    except BadToken:
        return
    assert NOW < found.expires < 1e11 + 30
