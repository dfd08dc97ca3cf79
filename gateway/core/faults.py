"""The fault table: everything that can go wrong with a request, and what each client is told.

One row per fault: slug (for logs and metrics), who is to blame, and the answer in each dialect.
The v1 texts are those of the Azure ML front end on AKS, the managed ones those of managed online
endpoints (contract.md 1.2, 1.3). Where the contract knows no text, the text is ours and says what
was wrong. Texts are templates: ``{service}`` is the endpoint's name, ``{detail}`` what the code
that found the fault had to say. Neither ever contains bytes that a client sent, nor an address of
a backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique


@unique
class Blame(Enum):
    """Whose doing it was: dashboards tell apart who failed."""

    CLIENT = "client"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one dialect says to a fault.

    ``model_status`` and ``model_reason`` become ``ms-azureml-model-error-statuscode`` and
    ``-reason`` (contract.md 1.4), which only the managed dialect has.
    """

    status: int
    text: str
    model_status: int = 0
    model_reason: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    slug: str
    blame: Blame
    v1: Answer
    managed: Answer


def _same(slug: str, blame: Blame, status: int, text: str) -> Row:
    answer = Answer(status, text)
    return Row(slug, blame, answer, answer)


_C, _G, _U = Blame.CLIENT, Blame.GATEWAY, Blame.UPSTREAM

NO_VALID_DEPLOYMENTS = (
    "No valid deployments to route to. Please check that the endpoint has at least one deployment "
    "with positive weight values or use a deployment specific header to route."
)
_REPLICA_CLOSED = "Replica closed connection before replying"
_CANCELLED = (
    "Post /score: net/http: request canceled (Client.Timeout exceeded while awaiting headers)"
)


@unique
class Fault(Enum):
    """What can go wrong. The order is that of the walk."""

    # Reading the request. RFC 9110 section 15.5, RFC 6585.
    BAD_REQUEST = _same("bad_request", _C, 400, "Bad request: {detail}")
    URI_TOO_LONG = _same("uri_too_long", _C, 414, "The request line is too long: {detail}")
    HEAD_TOO_LARGE = _same("head_too_large", _C, 431, "Request header too large: {detail}")
    REQUEST_TIMEOUT = _same("request_timeout", _C, 408, "The request took too long: {detail}")
    VERSION = _same("http_version", _C, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here")
    EXPECTATION = _same("expectation", _C, 417, "The only expectation met here is 100-continue")
    METHOD = _same("method_not_allowed", _C, 405, "Method not allowed: use GET or POST")
    CONNECTIONS = _same("too_many_connections", _G, 503, "Too many connections")

    # Routing.
    NO_ROUTE = _same("no_route", _C, 404, "There is no such service here")
    NO_DEPLOYMENT = _same("no_deployment", _C, 404, NO_VALID_DEPLOYMENTS)

    # Authentication. The text for a wrong v1 key is unknown (contract.md 10): it is ours.
    NO_CREDENTIALS = Row(
        "no_credentials",
        _C,
        Answer(401, "Unauthorized, no Authorization header"),
        Answer(401, "key_auth_bad_header_forbidden"),
    )
    BAD_CREDENTIALS = Row(
        "bad_credentials",
        _C,
        Answer(401, "Unauthorized, the key or token is not valid"),
        Answer(401, "key_auth_access_denied"),
    )

    # The keys come from an issuer that could not be asked so far: nobody's credentials are wrong.
    NO_KEYS = _same("no_keys", _G, 503, "Tokens cannot be checked yet: try again later")

    # Admission.
    BODY_TOO_LARGE = _same("body_too_large", _C, 413, "The request body is too large: {detail}")

    # Upstream. What a managed front end says of an unreachable container is not documented; 424
    # with the reasons that public captures show keeps its closed set of statuses.
    NO_BACKEND = Row(
        "no_backend",
        _U,
        Answer(503, "No ready replicas for service {service}"),
        Answer(424, "", 503, "model_not_ready"),
    )
    OVERLOADED = Row(
        "overloaded",
        _G,
        Answer(503, "Too many requests for service {service} (overloaded)"),
        Answer(429, ""),
    )
    UPSTREAM_CLOSED = Row(
        "upstream_closed",
        _U,
        Answer(502, _REPLICA_CLOSED),
        Answer(424, _REPLICA_CLOSED, 502, "model_error"),
    )
    UPSTREAM_MALFORMED = Row(
        "upstream_malformed",
        _U,
        Answer(502, "Replica sent an answer that is not valid HTTP"),
        Answer(424, "Replica sent an answer that is not valid HTTP", 502, "model_error"),
    )
    UPSTREAM_UNTRUSTED = Row(
        "upstream_untrusted",
        _U,
        Answer(502, "Replica could not prove who it is"),
        Answer(424, "Replica could not prove who it is", 502, "model_error"),
    )
    DEADLINE = Row("deadline", _U, Answer(504, _CANCELLED), Answer(408, "upstream request timeout"))

    # Ourselves.
    DRAINING = _same("draining", _G, 503, "The gateway is stopping")
    INTERNAL = _same("internal", _G, 500, "The gateway failed to handle this request")
    # Never sent: there is nobody left to read it. 499 is nginx's code for it in logs.
    CLIENT_GONE = _same("client_gone", _C, 499, "")

    @property
    def slug(self) -> str:
        """Name for logs and metrics, lower case with underscores."""
        row: Row = self.value
        return row.slug

    @property
    def blame(self) -> Blame:
        row: Row = self.value
        return row.blame


class Refusal(Exception):
    """A request ends here, with the answer that the fault table has for ``fault``.

    ``detail`` says what exactly was wrong, in our own words only; ``headers`` are complete header
    lines (each ended by CRLF) that the answer needs, such as ``Allow``.
    """

    __slots__ = ("detail", "fault", "headers")

    def __init__(self, fault: Fault, detail: str = "", headers: bytes = b"") -> None:
        super().__init__(fault, detail)
        self.fault = fault
        self.detail = detail
        self.headers = headers

    def anew(self) -> Refusal:
        """The same once more. One that is kept must not be raised itself: every time, its traceback
        would grow by what raised it, and keep all of that alive."""
        return Refusal(self.fault, self.detail, self.headers)
