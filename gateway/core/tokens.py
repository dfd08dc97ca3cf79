"""Bearer tokens: JSON Web Tokens, verified strictly (RFC 7515, 7519, 8725).

PyJWT's algorithms check the signature. Everything else is decided here, with the time as an
argument: PyJWT reads the clock itself, enforces ``exp`` only when asked, accepts it as a string and
a token with padding (reliability.md 1.7).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from gateway.core.jwks import KeySet

MAX_TOKEN = 8192
_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]+)")
# A key identifier is an opaque name, never a path, a URL or a query (reliability.md T35).
_KID = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}")
_TYPES = frozenset(("jwt", "at+jwt", "application/at+jwt", "application/jwt"))


class BadToken(Exception):
    """The token is not acceptable. The message is for logs and never contains any of it."""


class UnknownKey(BadToken):
    """It names a key we do not have. A refreshed key set may have it."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say. ``leeway`` is seconds of clock skew allowed in either direction;
    ``max_lifetime`` bounds ``exp - iat`` in seconds, 0 for no bound."""

    algorithms: frozenset[str]
    issuer: str | None = None
    audiences: frozenset[str] = frozenset()
    leeway: float = 30.0
    max_lifetime: float = 0.0
    principal_claim: str = "sub"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token is good for: a name for logs, which can be encoded as UTF-8, and when
    it ends (unix seconds)."""

    principal: str
    expires: float


def looks_like_token(credential: bytes) -> bool:
    """Whether a bearer credential is a compact JWS rather than an API key."""
    return credential.count(b".") == 2


def verify_token(token: bytes, rules: TokenRules, keys: KeySet, now: float) -> Claims:
    """Verify signature and claims.

    :param token: exactly what the client sent after ``Bearer``.
    :param now: unix time in seconds.
    :raises UnknownKey: the token's ``kid`` is not in ``keys``.
    :raises BadToken: anything else that is wrong with it.
    """
    return check_claims(verify_signature(token, rules.algorithms, keys), rules, now)


def verify_signature(token: bytes, algorithms: frozenset[str], keys: KeySet) -> bytes:
    """The payload of a compact JWS whose signature one of ``keys`` confirms (RFC 7515 5.2)."""
    if len(token) > MAX_TOKEN:
        raise BadToken(f"longer than {MAX_TOKEN} bytes")
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise BadToken("not three base64url parts")
    header = _read_object(_decode(match[1]), "header")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise BadToken("its algorithm is not allowed")
    # No extension is understood here, so any critical one must be refused (RFC 7515 4.1.11); keys
    # inside the token (`jwk`, `jku`, `x5u`, `x5c`) are never looked at.
    for name in ("crit", "b64", "zip"):
        if name in header:
            raise BadToken(f"its header has `{name}`")
    if "typ" in header and str(header["typ"]).lower() not in _TYPES:
        raise BadToken("its `typ` is not JWT")
    kid = header.get("kid")
    if kid is not None and (not isinstance(kid, str) or not _KID.fullmatch(kid)):
        raise BadToken("its `kid` is not a plain name")
    if not keys.knows(kid):
        raise UnknownKey("its `kid` is unknown")
    signing_input, signature = token[: match.end(2)], _decode(match[3])
    if not any(verify(signing_input, signature) for verify in keys.candidates(kid, algorithm)):
        raise BadToken("no key confirms its signature")
    return _decode(match[2])


def check_claims(payload: bytes, rules: TokenRules, now: float) -> Claims:
    """The claims of RFC 7519 section 4.1, all times with ``rules.leeway``."""
    claims = _read_object(payload, "payload")
    expires = _time(claims, "exp")
    if expires is None:
        raise BadToken("it has no `exp`")
    if now >= expires + rules.leeway:
        raise BadToken("it has expired")
    not_before, issued = _time(claims, "nbf"), _time(claims, "iat")
    if not_before is not None and now < not_before - rules.leeway:
        raise BadToken("it is not valid yet")
    if issued is not None and now < issued - rules.leeway:
        raise BadToken("it was issued in the future")
    if rules.max_lifetime:
        start = issued if issued is not None else now
        if expires - start > rules.max_lifetime + rules.leeway:
            raise BadToken("it lives longer than allowed")
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        raise BadToken("its issuer is not the expected one")
    if rules.audiences and not rules.audiences & _audiences(claims):
        raise BadToken("it is for another audience")
    principal = claims.get(rules.principal_claim)
    name = principal if isinstance(principal, str) else ""
    # JSON can spell half of a surrogate pair, which no log can hold (RFC 8259 section 8.2).
    name = name.encode("utf-8", "replace").decode("utf-8")
    return Claims(name or "token", expires + rules.leeway)


def _audiences(claims: dict[str, Any]) -> set[str]:
    audience = claims.get("aud")
    members = audience if isinstance(audience, list) else [audience]
    return {member for member in members if isinstance(member, str)}


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    # RFC 7519 2: NumericDate is a JSON number; bool is one only in Python. The bound keeps
    # infinities and absurd dates out (year 5138).
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise BadToken(f"its `{name}` is not a time")
    return float(value)


def _decode(segment: bytes) -> bytes:
    try:
        decoded = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except binascii.Error:
        raise BadToken("not base64url") from None
    # The last character may carry bits that mean nothing; only zeros are the encoding (RFC 4648
    # 3.5), and one message shall have one form.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment:
        raise BadToken("not base64url")
    return decoded


def _read_object(text: bytes, what: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise BadToken(f"its {what} is not JSON") from None
    if not isinstance(parsed, dict):
        raise BadToken(f"its {what} is not an object")
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # RFC 7519 4: either refused, or the last one taken; other parsers take the first.
        raise ValueError("duplicate member")
    return found
