"""Settings that have the right shape and can never work, or not as they read."""

from __future__ import annotations

import re

from gateway.settings.mistakes import NAME_HINT, Keys, Mistake, show
from gateway.settings.notes import Notes
from gateway.settings.schema import NAME, EndpointSettings, Settings, Tokens
from gateway.settings.units import is_loopback

MAX_LEEWAY = 60.0
MAX_TIMEOUT = 300.0  # contract.md 1.5: scoring_timeout_ms is at most 300000

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_EVERY = frozenset(("0.0.0.0", "::"))  # noqa: S104  recognised, not bound
# The four sources of keys for tokens.
SOURCES = ("jwks", "jwks_file", "public_key", "secret")
_SYMMETRIC = ("HS256", "HS384", "HS512")


def judge(notes: Notes, settings: Settings) -> None:
    """Note what is wrong with ``settings``, as far as it can be told without building anything."""
    _judge_admin(notes, settings)
    _judge_encryption(notes, settings)
    if settings.access_log.enabled and settings.access_log.path is not None:
        notes.check_log(("access_log", "path"), settings.access_log.path)
    owners: dict[str, str] = {}
    for name, entry in settings.endpoints.items():
        at: Keys = ("endpoints", name)
        for path in (at, *((*at, "deployments", deployment) for deployment in entry.deployments)):
            _judge_name(notes, path)
        if not 0.001 <= entry.timeout <= MAX_TIMEOUT:
            notes.note((*at, "timeout"), f"must lie between 1ms and {MAX_TIMEOUT:g}s")
        _judge_hosts(notes, name, entry, owners)
        if entry.auth.tokens is not None:
            _judge_tokens(notes, (*at, "auth", "tokens"), entry.auth.tokens)


def _judge_encryption(notes: Notes, settings: Settings) -> None:
    """Plain HTTP beside nothing, and names in certificates that nobody is asked for."""
    listen = settings.listen
    if notes.source.is_replaced(("listen", "tls")):
        return
    if listen.plain is not None and listen.tls is None:
        notes.note(("listen", "plain"), "is for plain HTTP beside TLS, and there is no listen.tls")
    elif listen.plain is not None and _collide(listen.plain, listen.address):
        notes.note(("listen", "plain"), "is the address for TLS already: use another port")
    if listen.tls is not None and listen.tls.client_ca is not None:
        return
    for name, entry in settings.endpoints.items():
        if entry.auth.certificates:
            path = ("endpoints", name, "auth", "certificates")
            notes.note(path, "nobody is asked for a certificate: say listen.tls.client_ca")


def _judge_admin(notes: Notes, settings: Settings) -> None:
    at: Keys = ("admin", "address")
    if settings.admin.token is not None:
        notes.read_credential(("admin", "token"), settings.admin.token, "token")
    elif not is_loopback(settings.admin.address[0]):
        notes.note(
            at,
            "only a loopback address is accepted without a token: the admin port shows the "
            "configuration; say admin: {address: ..., token: {file: PATH}}",
        )
    for key in ("address", "plain"):
        taken: tuple[str, int] | None = getattr(settings.listen, key)
        given = taken is not None and not notes.source.is_replaced(("listen", key))
        if taken is not None and given and _collide(taken, settings.admin.address):
            notes.note(at, "is taken by listen already: the two need different ports")


def _collide(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two listeners cannot have these addresses. Port 0 is a new one each time."""
    if one[1] != other[1] or one[1] == 0:
        return False
    hosts = {host.lower().replace("localhost", "127.0.0.1") for host in (one[0], other[0])}
    return len(hosts) == 1 or not hosts.isdisjoint(_EVERY)


def _judge_name(notes: Notes, path: Keys) -> None:
    name = str(path[-1])
    if len(name) < 2 or not re.fullmatch(NAME, name):
        # A wrong name is what the file says, whatever stands in for the value below it.
        notes.mistakes.append(Mistake(path, f"found {show(name)}, {NAME_HINT}"))


def _judge_hosts(notes: Notes, name: str, entry: EndpointSettings, owners: dict[str, str]) -> None:
    for number, host in enumerate(entry.hosts):
        path = ("endpoints", name, "hosts", number)
        if "*" in host:
            notes.note(path, f"{show(host)}: wildcards are not supported: name every host")
        elif host.endswith(".") and _HOST.fullmatch(host[:-1]):
            notes.note(path, f"{show(host)}: leave out the dot at the end")
        elif len(host) > 253 or not _HOST.fullmatch(host):
            notes.note(path, f"{show(host)} is not a host name: leave out scheme, port, path")
        elif (owner := owners.setdefault(host.lower(), name)) != name:
            notes.note(path, f"{show(host)} belongs to endpoint {show(owner)} already")


def _judge_tokens(notes: Notes, at: Keys, tokens: Tokens) -> None:
    if tokens.leeway > MAX_LEEWAY:
        notes.note((*at, "leeway"), f"must be at most {MAX_LEEWAY:g}s")
    if tokens.jwks and tokens.refresh < 1:
        notes.note((*at, "refresh"), "must be at least 1s")
    if source_of_keys(tokens) is None:
        notes.note(at, "say exactly one of jwks, jwks_file, public_key and secret")
    elif (why := wrong_family(tokens)) and notes.source.is_whole((*at, "algorithms")):
        notes.note((*at, "algorithms"), why)


def source_of_keys(tokens: Tokens) -> str | None:
    """Which of ``SOURCES`` is given. None unless it is exactly one."""
    given = [name for name in SOURCES if getattr(tokens, name)]
    return given[0] if len(given) == 1 else None


def wrong_family(tokens: Tokens) -> str | None:
    """Why the algorithms do not go with the source of keys (RFC 8725 section 3.1); None if they
    do."""
    source = source_of_keys(tokens)
    symmetric = [algorithm in _SYMMETRIC for algorithm in tokens.algorithms]
    if any(symmetric) and not all(symmetric):
        return "shared-secret and public-key algorithms cannot be mixed"
    if any(symmetric) != (source == "secret") and source != "jwks_file":
        needed = "HS256, HS384 or HS512" if source == "secret" else "public-key algorithms"
        return f"{source} goes with {needed}"
    return None


def judge_claims(notes: Notes, at: Keys, tokens: Tokens) -> None:
    """Note claims that must be fixed where keys are fetched from an issuer (T36, RFC 8725 section
    3.8 and 3.9): one issuer's keys sign tokens for many services, and some serve many tenants."""
    if not tokens.issuer:
        notes.note(
            (*at, "issuer"),
            "is required with jwks: without it, whoever signs with one of these keys is believed",
        )
    if not tokens.audience or "" in tokens.audience:
        notes.note(
            (*at, "audience"),
            "is required with jwks: without it, tokens made for other services are accepted",
        )
