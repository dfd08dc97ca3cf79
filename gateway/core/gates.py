"""Who may pass: the authentication of one endpoint."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from gateway.core.faults import Fault, Refusal
from gateway.core.heads import RequestHead
from gateway.core.jwks import EMPTY, KeySet
from gateway.core.keys import KeyRing
from gateway.core.memo import Memo
from gateway.core.tokens import BadToken, TokenRules, UnknownKey, looks_like_token, verify_token

# RFC 9110 15.5.2 wants a challenge in every 401; RFC 6750 section 3 names it.
_CHALLENGE = b"WWW-Authenticate: Bearer\r\n"
_CHALLENGE_INVALID = b'WWW-Authenticate: Bearer error="invalid_token"\r\n'

ANONYMOUS = "anonymous"
# A verified token is verified again after a minute, so a key that was removed stops working soon
# even if its set was not fetched anew (reliability.md T38).
VERDICT_LIFE = 60.0
VERDICTS = 4096


# How authentication can end, for the metric of that name. Plain text, because a look-up by a member
# of an Enum costs more than the rest of the check.
OPEN = "open"
KEY = "key"
TOKEN = "token"
TOKEN_CACHED = "token_cached"
CERTIFICATE = "certificate"
MISSING = "missing"
WRONG_KEY = "wrong_key"
WRONG_TOKEN = "wrong_token"
WRONG_CERTIFICATE = "wrong_certificate"
OUTCOMES = (
    OPEN, KEY, TOKEN, TOKEN_CACHED, CERTIFICATE, MISSING, WRONG_KEY, WRONG_TOKEN, WRONG_CERTIFICATE,
)  # fmt: skip
NOBODY: frozenset[str] = frozenset()


@dataclass(slots=True)
class KeySource:
    """The keys that verify tokens now. Whoever refreshes them puts a new set in whole."""

    keys: KeySet = EMPTY


@dataclass(frozen=True, slots=True)
class _Verdict:
    principal: str
    until: float
    keys: KeySet


class Gate:
    """Authenticates requests to one endpoint by key, by token, by the certificate of the connection
    or not at all.

    ``outcomes`` counts how it went. Refusals look the same whichever way a credential was wrong.
    """

    __slots__ = ("_no_header", "_rules", "_verdicts", "certificates", "keys", "outcomes", "source")

    def __init__(
        self,
        keys: KeyRing | None,
        rules: TokenRules | None,
        source: KeySource | None = None,
        outcomes: dict[str, int] | None = None,
        certificates: Collection[str] = (),
    ) -> None:
        """:param rules: what tokens must say, None if no token is accepted.
        :param source: where the keys for tokens come from; required with ``rules``.
        :param outcomes: to go on counting in; a new one if absent.
        :param certificates: names in certificates (see ``holder_names``), in the order in which one
            becomes the principal of who has several.
        """
        if (rules is None) != (source is None):
            raise ValueError("token rules and a source of keys go together")
        self.keys = keys
        self.source = source
        self.certificates = tuple(certificates)
        self._rules = rules
        #: What an Authorization header says is not for us.
        self._no_header = keys is None and rules is None
        self._verdicts: Memo[bytes, _Verdict] = Memo(VERDICTS)
        self.outcomes = dict.fromkeys(OUTCOMES, 0) if outcomes is None else outcomes

    @property
    def is_open(self) -> bool:
        """No credential is asked for (``auth: none``)."""
        return self._no_header and not self.certificates

    def check(
        self,
        head: RequestHead,
        wall: Callable[[], float],
        certificate: frozenset[str] = NOBODY,
    ) -> str:
        """Name of the principal.

        What the request says of itself counts; the certificate of its connection if it says nothing
        that is meant for the gateway.

        :param wall: unix time in seconds; asked only when a token has to be judged.
        :param certificate: names in the verified certificate of the client.
        :raises UnknownKey: the token names a key that is not known (yet).
        :raises Refusal: no credential, or not a good one.
        """
        digest = head.digest
        if digest is None or self._no_header:
            return self._check_certificate(head, certificate)
        if self.keys is not None and (name := self.keys.holder(digest)) is not None:
            self.outcomes[KEY] += 1
            return name
        if self._rules is not None and self.source is not None:
            return self._check_token(head, digest, self._rules, self.source, wall())
        raise self.refuse(WRONG_KEY, "no such key")

    def _check_certificate(self, head: RequestHead, certificate: frozenset[str]) -> str:
        if self.is_open:
            self.outcomes[OPEN] += 1
            return ANONYMOUS
        if certificate and self.certificates and (self._no_header or head.authorization is None):
            for name in self.certificates:
                if name in certificate:
                    self.outcomes[CERTIFICATE] += 1
                    return name
            raise self.refuse(WRONG_CERTIFICATE, "a certificate without any of the names")
        self.outcomes[MISSING] += 1
        why = "" if head.authorization is None else "not of the form `Bearer <key or token>`"
        raise Refusal(Fault.NO_CREDENTIALS, why, _CHALLENGE)

    @property
    def has_no_keys(self) -> bool:
        """Tokens are accepted, but there is nothing to check them with (yet)."""
        return self.source is not None and not self.source.keys.keys

    def refuse(self, outcome: str, why: str) -> Refusal:
        """The refusal of a credential that is no good.

        :param why: for the log only; clients are refused alike whatever was wrong.
        """
        self.outcomes[outcome] += 1
        return Refusal(Fault.BAD_CREDENTIALS, why, _CHALLENGE_INVALID)

    def _check_token(
        self, head: RequestHead, digest: bytes, rules: TokenRules, source: KeySource, now: float
    ) -> str:
        verdict = self._verdicts.get(digest)
        if verdict is not None and verdict.until > now and verdict.keys is source.keys:
            self.outcomes[TOKEN_CACHED] += 1
            return verdict.principal
        token = head.token or b""
        if not looks_like_token(token):
            raise self.refuse(WRONG_KEY, "neither a known key nor a token")
        try:
            claims = verify_token(token, rules, source.keys, now)
        except UnknownKey:
            raise
        except BadToken as bad:
            raise self.refuse(WRONG_TOKEN, str(bad)) from None
        until = min(claims.expires, now + VERDICT_LIFE)
        self._verdicts.put(digest, _Verdict(claims.principal, until, source.keys))
        self.outcomes[TOKEN] += 1
        return claims.principal
