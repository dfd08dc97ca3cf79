"""A request head: bytes up to the empty line, read once into a record.

Two readers must agree before a head is believed: llhttp, which checks every header field, and the
grammar here, which checks the request line, the host and the framing headers (RFC 9112 sections
3, 5 and 6). Whatever either refuses is refused, so no two programs can disagree about where a
message ends.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import httptools

from gateway.core.faults import Fault, Refusal
from gateway.core.fields import CHUNKED as CHUNKED
from gateway.core.fields import read_fields
from gateway.core.grammar import ABSOLUTE_FORM, OWS, REQUEST_LINE
from gateway.core.paths import split_target

ALLOW = b"Allow: GET, HEAD, POST, OPTIONS\r\n"
_SERVED = frozenset((b"GET", b"POST", b"HEAD", b"OPTIONS"))


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds on what is read before a request is believed; sizes in bytes."""

    line: int = 8192
    total: int = 32768
    fields: int = 100


class RequestHead:
    """What a client asked for, without the body. Values are as sent, white space around them cut.

    ``kept`` are the end-to-end fields that go upstream as they came, in their order.
    """

    # Most heads lack most fields, so the defaults live in the class and cost nothing to set.
    path = b"/"
    query = b""
    #: Length of the body in bytes, or CHUNKED.
    length: int | None = None
    #: The client does not want the connection kept.
    close = False
    expects_continue = False
    host: bytes | None = None
    authorization: bytes | None = None
    #: SHA-256 of the bearer credential, None when there is none. The credential itself is looked
    #: at only where a token has to be verified.
    digest: bytes | None = None
    origin: bytes | None = None
    content_type: bytes | None = None
    #: Deployment named by ``azureml-model-deployment``.
    pin: bytes | None = None
    request_id: bytes | None = None
    ms_request_id: bytes | None = None
    client_request_id: bytes | None = None
    traceparent: bytes | None = None
    user_agent = b""
    asked_method: bytes | None = None
    asked_headers = b""
    asked_network = False
    #: It expects something that nobody here can do.
    unmet = False

    def __init__(self, method: bytes, minor: int) -> None:
        self.method = method
        self.minor = minor
        self.kept: list[tuple[bytes, bytes]] = []
        #: ``Forwarded`` and ``X-Forwarded-*`` as the client sent them, names in lower case.
        self.forwarded: list[tuple[bytes, bytes]] = []
        #: Names that ``Connection`` lists, lower case.
        self.nominated: list[bytes] = []

    def __repr__(self) -> str:
        return f"<RequestHead {self.method.decode()} {self.path.decode()} HTTP/1.{self.minor}>"

    @property
    def token(self) -> bytes | None:
        """The bearer credential, None unless ``Authorization: Bearer <something>`` (RFC 6750)."""
        if self.authorization is None:
            return None
        scheme, _, token = self.authorization.partition(b" ")
        return token.strip(OWS) or None if scheme.lower() == b"bearer" else None


class UnfitRequest(Refusal):
    """It could be read, but nothing will be done for it. ``head`` is for whoever answers and logs;
    ``routable`` says that its path is in normal form."""

    __slots__ = ("head", "routable")

    def __init__(self, why: Refusal, head: RequestHead, routable: bool) -> None:
        super().__init__(why.fault, why.detail, why.headers)
        self.head = head
        self.routable = routable


def parse_request_head(raw: bytes, limits: HeadLimits) -> RequestHead:
    """Read a complete request head.

    :param raw: everything up to and including the empty line.
    :raises UnfitRequest: a method, an expectation or a target that is not served.
    :raises Refusal: whatever else is wrong with it. Either way the connection must close after the
        answer.
    """
    line, _, fields = raw.partition(b"\r\n")
    if len(line) > limits.line:
        raise Refusal(Fault.URI_TOO_LONG, f"at most {limits.line} bytes are accepted")
    if len(raw) > limits.total:
        raise Refusal(Fault.HEAD_TOO_LARGE, f"at most {limits.total} bytes are accepted")
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Refusal(Fault.BAD_REQUEST, "the request line is not `METHOD target HTTP/1.1`")
    method, target, version = match.groups()
    if version not in (b"1.1", b"1.0"):
        raise _bad_version(version)
    lines = fields[:-4].split(b"\r\n") if len(fields) > 2 else []
    if len(lines) > limits.fields:
        raise Refusal(Fault.HEAD_TOO_LARGE, f"at most {limits.fields} header fields are accepted")
    _agree(b"POST / HTTP/" + version + b"\r\n" + fields)
    head = RequestHead(method, 1 if version == b"1.1" else 0)
    read_fields(head, lines)
    unfit: Refusal | None = None
    if method not in _SERVED:
        unfit = Refusal(Fault.METHOD, headers=ALLOW)
    elif head.unmet:
        unfit = Refusal(Fault.EXPECTATION)
    routable = True
    try:
        if target.startswith(b"/"):
            head.path, head.query = split_target(target)
        else:
            _read_other_form(head, target)
    except Refusal as refusal:
        # For the log. Another form than a path may hold a password.
        head.path = target.partition(b"?")[0] if target.startswith(b"/") else b""
        routable = False
        unfit = unfit or refusal
    if unfit is not None:
        head.close = True
        raise UnfitRequest(unfit, head, routable)
    if (token := head.token) is not None:
        head.digest = hashlib.sha256(token).digest()
    return head


def judge_partial_head(data: bytes, limits: HeadLimits, ended: bool) -> Refusal | None:
    """What is already wrong with a head that has not come whole, None if it may become good.

    :param ended: nothing more will come.
    """
    if data[0] == 0x16:  # a TLS handshake record, RFC 8446 section 5.1
        return Refusal(Fault.BAD_REQUEST, "TLS spoken to a port without TLS")
    if b"\r\n" not in data and len(data) > limits.line:
        return Refusal(Fault.URI_TOO_LONG, f"at most {limits.line} bytes are accepted")
    if len(data) > limits.total:
        return Refusal(Fault.HEAD_TOO_LARGE, f"at most {limits.total} bytes are accepted")
    if data.count(b"\n") != data.count(b"\r\n"):
        return Refusal(Fault.BAD_REQUEST, "a bare line feed in the header")
    if b"\0" in data:
        return Refusal(Fault.BAD_REQUEST, "a null byte in the header")
    if ended:
        return Refusal(Fault.BAD_REQUEST, "the request ends in its header")
    return None


def _bad_version(version: bytes) -> Refusal:
    if version.startswith(b"0."):
        return Refusal(Fault.BAD_REQUEST, "HTTP versions before 1.0 are not spoken")
    return Refusal(Fault.VERSION)


class _Nobody:
    """llhttp is asked only whether it agrees; nobody listens to what it found."""


_NOBODY = _Nobody()


def _agree(message: bytes) -> None:
    """Ask llhttp. The request line is ours (it knows only its own list of methods), the fields are
    the client's."""
    try:
        httptools.HttpRequestParser(_NOBODY).feed_data(message)
    except httptools.HttpParserUpgrade:
        pass  # `Connection: upgrade` is not an error: it is ignored, as RFC 9110 7.8 allows
    except httptools.HttpParserError as error:
        # llhttp's messages are fixed texts without any byte of the request.
        raise Refusal(Fault.BAD_REQUEST, str(error).lower()) from None


def _read_other_form(head: RequestHead, target: bytes) -> None:
    """Absolute-form and asterisk-form of RFC 9112 section 3.2; the authority is decided once."""
    if target == b"*":
        if head.method != b"OPTIONS":
            raise Refusal(Fault.BAD_REQUEST, "`*` is a target for OPTIONS only")
        head.path = b"*"
        return
    match = ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        raise Refusal(Fault.BAD_REQUEST, "the request target is not a path")
    authority, rest = match.groups()
    # RFC 9112 3.2.2 lets the target win; a client that names two hosts is hiding something.
    if authority.lower() != (head.host or b"").lower() or not authority:
        raise Refusal(Fault.BAD_REQUEST, "the target and the host header name different hosts")
    head.path, head.query = split_target(rest if rest.startswith(b"/") else b"/" + rest)
