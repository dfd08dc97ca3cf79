"""From settings to gates: who may call, and the keys that verify tokens.

Where an endpoint of that name has a gate already, it is used again if nothing has changed for it,
with the verdicts that it remembers; and who fetches keys goes on as long as it fetches the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import urlsplit

from gateway.core.backends import parse_backend
from gateway.core.certificates import NAME_KINDS
from gateway.core.gates import Gate, KeySource
from gateway.core.jwks import KeySet, UnusableKey, keys_from_jwks, keys_from_pem, keys_from_secret
from gateway.core.keys import KeyRing
from gateway.core.tokens import TokenRules
from gateway.engine.keepers import KeyKeeper
from gateway.settings.judging import judge_claims, source_of_keys, wrong_family
from gateway.settings.mistakes import Keys, show
from gateway.settings.notes import Notes
from gateway.settings.schema import Auth, Tokens
from gateway.settings.secrets import SecretSource
from gateway.settings.units import is_loopback
from gateway.wired import MadeGate


class Outside(Protocol):
    """What is needed to fetch keys."""

    @property
    def fetch(self) -> Callable[[str], Awaitable[bytes]]: ...

    @property
    def clock(self) -> Callable[[], float]: ...

    @property
    def draw(self) -> Callable[[], float]: ...


def make_gate(
    notes: Notes, tools: Outside, at: Keys, auth: Auth, before: MadeGate | None
) -> MadeGate:
    """
    :param before: the gate of the same endpoint that is in use.
    """
    tokens = auth.tokens
    ring = _keys(notes, (*at, "keys"), auth) if auth.keys is not None else None
    content = _content(notes, (*at, "tokens"), tokens) if tokens is not None else None
    digest = None if content is None else hashlib.sha256(content).digest()
    if before is not None and (before.auth, before.ring, before.digest) == (auth, ring, digest):
        return before
    outcomes = None if before is None else before.gate.outcomes
    certificates = _certificates(notes, (*at, "certificates"), auth.certificates or [])
    if tokens is None:
        gate = Gate(ring, None, outcomes=outcomes, certificates=certificates)
        return MadeGate(auth, ring, digest, gate, None)
    rules = TokenRules(
        algorithms=frozenset(tokens.algorithms),
        issuer=tokens.issuer,
        audiences=frozenset(tokens.audience or ()),
        leeway=tokens.leeway,
        max_lifetime=tokens.max_lifetime or 0.0,
        principal_claim=tokens.principal,
    )
    keeper, source = None, KeySource()
    fetching = (tokens.jwks, tokens.algorithms, tokens.refresh)
    if source_of_keys(tokens) == "jwks":
        keeper = _keeper(notes, tools, (*at, "tokens"), tokens)
        if before is not None and before.keeper is not None and before.fetching == fetching:
            keeper = before.keeper
        if keeper is not None:
            source = keeper.source
    elif content is not None:
        keys = _fixed_keys(notes, (*at, "tokens", source_of_keys(tokens) or ""), tokens, content)
        source.keys = keys or source.keys
    gate = Gate(ring, rules, source, outcomes, certificates)
    return MadeGate(auth, ring, digest, gate, keeper, fetching)


def _certificates(notes: Notes, at: Keys, names: list[str]) -> list[str]:
    """The names that open the endpoint, as ``holder_names`` writes them."""
    found: list[str] = []
    for number, name in enumerate(names):
        kind, colon, value = name.partition(":")
        if not colon or kind not in NAME_KINDS or not value.strip() or not value.isprintable():
            notes.note(
                (*at, number),
                f"{show(name)} is not a name in a certificate, such as cn:scoring-client, "
                "dns:client.example.com, uri:spiffe://example.com/client or email:me@example.com",
            )
            continue
        name = name.lower() if kind == "dns" else name
        if name in found:
            notes.note((*at, number), f"{show(name)} is there twice")
        found.append(name)
    return found


def _keys(notes: Notes, at: Keys, auth: Auth) -> KeyRing | None:
    if auth.keys is None:
        return None
    found: dict[str, str] = {}
    for name in ("primary", "secondary"):
        where: SecretSource | None = getattr(auth.keys, name)
        if where is None or (text := notes.read_credential((*at, name), where, "key")) is None:
            continue
        if text in found.values():
            notes.note((*at, name), "is the same key as the primary one")
        found[name] = text
    return KeyRing(found)


def _content(notes: Notes, at: Keys, tokens: Tokens) -> bytes | None:
    """What verifies tokens, as far as it is there to be read; None if it is to be fetched.

    :param at: path of ``tokens``.
    """
    given = source_of_keys(tokens)
    if given is None or given == "jwks":
        return None
    if tokens.secret is not None:
        text = notes.read_secret((*at, given), tokens.secret)
        return None if text is None else text.encode()
    return notes.read_file((*at, given), tokens.public_key or tokens.jwks_file or "")


def _fixed_keys(notes: Notes, at: Keys, tokens: Tokens, content: bytes) -> KeySet | None:
    """Keys from a file or a secret.

    :param at: path of the source of the keys.
    """
    # Whether keys are of use depends on the algorithms, so nothing is said if those are wrong.
    sound = notes.source.is_whole((*at[:-1], "algorithms")) and wrong_family(tokens) is None
    if not sound:
        return None
    readers = {
        "secret": keys_from_secret,
        "public_key": keys_from_pem,
        "jwks_file": keys_from_jwks,
    }
    try:
        return readers[str(at[-1])](content, frozenset(tokens.algorithms))
    except UnusableKey as why:
        notes.note(at, why)
        return None


def _keeper(notes: Notes, tools: Outside, at: Keys, tokens: Tokens) -> KeyKeeper | None:
    url = tokens.jwks or ""
    loopback = notes.attempt((*at, "jwks"), lambda: _judge_url(url))
    if loopback is None:
        return None
    if not loopback:
        judge_claims(notes, at, tokens)
    return KeyKeeper(
        url,
        KeySource(),
        fetch=tools.fetch,
        allowed=tokens.algorithms,
        interval=tokens.refresh,
        clock=tools.clock,
        draw=tools.draw,
    )


def _judge_url(url: str) -> bool:
    """Whether the keys at ``url`` come from this very machine.

    :raises ValueError: nothing can be fetched from there, or nothing must (T39).
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"{show(url)} is not a URL") from None
    if "@" in parts.netloc or (parts.scheme == "https" and not parts.hostname):
        raise ValueError("must be a URL with a host and without user information")
    loopback = is_loopback(parts.hostname or "")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise ValueError(
            f"{show(url)} must be an https:// URL (http:// is accepted on loopback only)"
        )
    try:
        parse_backend(f"http://{parts.netloc}")
    except ValueError:
        raise ValueError(
            f"{show(url)} must name a host, not link-local, and a port from 1 to 65535"
        ) from None
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{show(url)} must be printable ASCII without spaces")
    return loopback
