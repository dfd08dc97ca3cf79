"""Cross-origin resource sharing: who may read the answers from a browser (Fetch standard, CORS).

Everything that can be decided when the configuration is read is decided then. The answer for one
origin is a block of header lines; a request merely picks it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.grammar import TOKEN, tokens

VARY = b"Vary: Origin\r\n"
# Preflights are answered differently for what they ask for, so caches must tell them apart.
_VARY_PREFLIGHT = (
    b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers, "
    b"Access-Control-Request-Private-Network\r\n"
)
# Response headers of the contract that a page could not read otherwise.
EXPOSED = (
    "x-ms-request-id",
    "x-request-id",
    "x-ms-client-request-id",
    "x-ms-run-function-failed",
    "x-ms-run-fn-exec-ms",
    "azureml-model-deployment",
    "ms-azureml-model-error-statuscode",
    "ms-azureml-model-error-reason",
)


@dataclass(frozen=True, slots=True)
class CorsRules:
    """What an endpoint allows. Origins are serialised as browsers do: ``scheme://host[:port]``.

    An origin may be ``*`` (anyone) or begin its host with ``*.`` (any sub-domain, at any depth).
    """

    origins: Sequence[str]
    methods: Sequence[str] = ("GET", "POST")
    headers: Sequence[str] = ("authorization", "content-type", "azureml-model-deployment")
    expose: Sequence[str] = EXPOSED
    max_age: int = 600
    credentials: bool = False
    private_network: bool = False


class Cors:
    """Answers for one endpoint.

    :raises ValueError: rules that no browser would honour or no operator should want: ``*`` with
        credentials, the opaque origin ``null`` (any sandboxed frame has it), or not an origin.
    """

    __slots__ = ("_actual", "_any", "_exact", "_methods", "_patterns", "_preflight", "_rules")

    def __init__(self, rules: CorsRules) -> None:
        mistakes = check_rules(rules)
        if mistakes:
            raise ValueError("; ".join(mistakes))
        self._rules = rules
        self._any = "*" in rules.origins
        self._methods = frozenset(method.encode() for method in rules.methods)
        self._patterns = [_pattern(o) for o in rules.origins if "*." in o]
        self._actual = _actual_tail(rules)
        self._preflight = _preflight_tail(rules)
        exact = (o.encode() for o in rules.origins if "*" not in o)
        self._exact = {o: self._allow(o) + self._actual for o in exact}

    def headers(self, origin: bytes | None) -> bytes:
        """Lines for an actual answer, errors included: always ``Vary``, the rest if allowed."""
        if origin is None:
            return VARY
        block = self._exact.get(origin)
        if block is not None:
            return block
        return self._allow(origin) + self._actual if self._allowed(origin) else VARY

    def preflight(
        self, origin: bytes | None, method: bytes, headers: bytes, private_network: bool
    ) -> bytes:
        """Lines for the answer to a preflight. What is refused is left out, which browsers read
        as no (Fetch standard, CORS-preflight fetch)."""
        if origin is None or not self._allowed(origin) or method not in self._methods:
            return _VARY_PREFLIGHT
        lines = self._allow(origin) + self._preflight
        if private_network and self._rules.private_network:
            lines += b"Access-Control-Allow-Private-Network: true\r\n"
        if headers and "*" in self._rules.headers:
            # `*` does not cover Authorization, so what was asked for is named (Fetch standard), as
            # far as it is a name: nothing else of a request may stand in our headers (T5).
            asked = b", ".join(filter(TOKEN.fullmatch, tokens(headers)))
            if asked:
                lines += b"Access-Control-Allow-Headers: " + asked + b"\r\n"
        return lines + _VARY_PREFLIGHT

    def _allowed(self, origin: bytes) -> bool:
        return (
            self._any
            or origin in self._exact
            or any(pattern.fullmatch(origin) for pattern in self._patterns)
        )

    def _allow(self, origin: bytes) -> bytes:
        if self._any:
            return b"Access-Control-Allow-Origin: *\r\n"
        lines = b"Access-Control-Allow-Origin: " + origin + b"\r\n"
        if self._rules.credentials:
            lines += b"Access-Control-Allow-Credentials: true\r\n"
        return lines


def _actual_tail(rules: CorsRules) -> bytes:
    expose = ", ".join(rules.expose).encode()
    lines = b"Access-Control-Expose-Headers: " + expose + b"\r\n" if expose else b""
    return lines + VARY


def _preflight_tail(rules: CorsRules) -> bytes:
    lines = b"Access-Control-Allow-Methods: " + ", ".join(rules.methods).encode() + b"\r\n"
    if "*" not in rules.headers:
        lines += b"Access-Control-Allow-Headers: " + ", ".join(rules.headers).encode() + b"\r\n"
    return lines + b"Access-Control-Max-Age: %d\r\n" % rules.max_age


# Browsers serialise an origin in lower case and leave the scheme's own port out.
_HOST_PART = r"(?:[a-z0-9_-]+\.)*[a-z0-9_-]+|\[[0-9a-f:.]+\]"
_ORIGIN = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:{_HOST_PART})(?::(?P<port>\d{{1,5}}))?")
_WILD_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://\*\.(?:[a-z0-9_-]+\.)*[a-z0-9_-]+(?::(?P<port>\d{1,5}))?"
)
_OWN_PORT = {"http": "80", "https": "443"}


def check_origin(origin: str) -> str | None:
    """What is wrong with one configured origin, None if nothing is."""
    if origin == "*":
        return None
    if origin == "null":
        return "'null' is the origin of any sandboxed frame or local file and cannot be allowed"
    match = (_WILD_ORIGIN if "*" in origin else _ORIGIN).fullmatch(origin)
    if match is None:
        return (
            f"{origin!r} is not an origin: expected scheme://host[:port] in lower case, without a "
            "path, such as https://app.example.com or https://*.example.com, or *"
        )
    if match["port"] and _OWN_PORT.get(match["scheme"]) == match["port"]:
        return f"{origin!r} would never match: browsers leave out port {match['port']}"
    return None


def check_rules(rules: CorsRules) -> list[str]:
    """Every mistake in a set of rules, as sentences."""
    found = [mistake for origin in rules.origins if (mistake := check_origin(origin))]
    if rules.credentials and "*" in rules.origins:
        found.append("origin * cannot be combined with credentials: name the origins")
    return found


def _pattern(origin: str) -> re.Pattern[bytes]:
    scheme, _, rest = origin.partition("://*.")
    label = r"(?:[a-z0-9_-]+\.)+"
    return re.compile(f"{re.escape(scheme)}://{label}{re.escape(rest)}".encode())


def is_preflight(method: bytes, origin: bytes | None, asked_method: bytes | None) -> bool:
    """Whether an OPTIONS request is a CORS preflight (Fetch standard, CORS-preflight request)."""
    return method == b"OPTIONS" and origin is not None and asked_method is not None
