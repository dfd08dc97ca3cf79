"""What answers look like on the wire. The only place that knows."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from gateway.core.dialects import Dialect, error_headers
from gateway.core.faults import Refusal
from gateway.core.heads import CHUNKED
from gateway.core.replies import UNTIL_CLOSE, Reply
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.exchange import Exchange

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"Connection: close\r\n"
KEEP = b"Connection: keep-alive\r\n"
PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n"


def _reasons() -> dict[int, bytes]:
    known = {status.value: status.phrase for status in HTTPStatus}
    known[499] = "Client Closed Request"
    return {code: f"HTTP/1.1 {code} {known.get(code, '')}\r\n".encode() for code in range(200, 600)}


# The reason is made from the code: what a container writes there is never passed on
# (reliability.md T31).
STATUS_LINES = _reasons()


def date_line(wall: float) -> bytes:
    """``Date`` for a unix time in seconds (RFC 9110 section 6.6.1)."""
    return f"Date: {formatdate(wall, usegmt=True)}\r\n".encode()


# Most answers are short: to look the line up costs a third of formatting it.
_LENGTHS = tuple(b"Content-Length: %d\r\n\r\n" % size for size in range(1024))


def identifier_lines(x: Exchange) -> bytes:
    """``x-ms-request-id`` and its relatives, on every answer (contract.md 1.4, 2.5)."""
    identifiers = x.routed.identifiers
    return b"x-ms-request-id: %b\r\nx-request-id: %b\r\n%b" % (
        x.request_id,
        identifiers.theirs or x.request_id,
        identifiers.echo,
    )


def cors_lines(x: Exchange) -> bytes:
    endpoint = x.endpoint
    if endpoint is None or endpoint.cors is None:
        return b""
    return endpoint.cors.headers(x.routed.head.origin)


def render_reply(x: Exchange, reply: Reply, date: bytes, connection: bytes) -> bytes:
    """The head of a container's answer, and its body if that is complete.

    :param connection: the ``Connection`` line, or empty.
    """
    endpoint, deployment, body = x.endpoint, x.deployment, reply.body
    if endpoint is None or deployment is None:
        raise AssertionError("only a routed request has an upstream answer")
    status = x.status = endpoint.dialect.statuses[reply.status]
    head = reply.head or _render_head(reply, status, endpoint, deployment)
    if status == 204 or status == 304:
        framing, body = b"\r\n", b""
    elif body is not None:
        size = len(body)
        framing = _LENGTHS[size] if size < len(_LENGTHS) else b"Content-Length: %d\r\n\r\n" % size
        if x.routed.head.method != b"HEAD":
            x.sent = size
        else:
            body = b""
    else:
        framing, body = streamed_framing(x, reply), b""
    cors = endpoint.cors
    request_id, identifiers = x.request_id, x.routed.identifiers
    # Joining so many pieces takes half the time of formatting them.
    return b"".join(
        (
            head,
            date,
            cors.headers(x.routed.head.origin) if cors is not None else b"",
            b"x-ms-request-id: ",
            request_id,
            b"\r\nx-request-id: ",
            identifiers.theirs or request_id,
            b"\r\n",
            identifiers.echo,
            connection,
            framing,
            body,
        )
    )


def _render_head(reply: Reply, status: int, endpoint: Endpoint, deployment: Deployment) -> bytes:
    """What the answer says to everybody who gets it, whoever asked."""
    lines = [STATUS_LINES[status], *reply.lines]
    if endpoint.cors is None:
        lines += reply.cors_lines
    if status != reply.status:
        lines.append(endpoint.dialect.model_error_headers(reply.status))
    lines.append(deployment.name_line)
    head = reply.head = b"".join(lines)
    return head


def streamed_framing(x: Exchange, reply: Reply) -> bytes:
    """How a body that is still coming will end (RFC 9112 section 6.3)."""
    if reply.length >= 0:
        return b"Content-Length: %d\r\n\r\n" % reply.length
    if x.routed.head.minor == 1:
        return b"Transfer-Encoding: chunked\r\n\r\n"
    return b"\r\n"  # an HTTP/1.0 client is told the end by the end of the connection


def is_delimited(x: Exchange, reply: Reply) -> bool:
    """Whether the client can tell the end of the body without the connection's end."""
    return reply.body is not None or reply.length >= 0 or x.routed.head.minor == 1


def is_chunked(x: Exchange, reply: Reply) -> bool:
    return (
        reply.body is None and reply.length in (CHUNKED, UNTIL_CLOSE) and x.routed.head.minor == 1
    )


def render_local(x: Exchange, status: int, lines: bytes, date: bytes, connection: bytes) -> bytes:
    """An answer of the gateway's own, without a body."""
    x.status = status
    return b"".join((STATUS_LINES[status], lines, date, identifier_lines(x), connection, b"\r\n"))


def render_refusal(x: Exchange, refusal: Refusal, date: bytes, connection: bytes) -> bytes:
    """A fault, in the words of the endpoint's dialect. Plain text, as the Azure front end's own
    errors are in every capture (contract.md 1.3)."""
    dialect: Dialect = x.routed.dialect
    answer = dialect.answer(refusal.fault)
    x.status = answer.status
    service = x.endpoint.name if x.endpoint is not None else ""
    text = answer.text.format(service=service, detail=refusal.detail).encode()
    head = x.routed.head
    lines = [
        STATUS_LINES[answer.status],
        PLAIN if text else b"",
        refusal.headers,
        error_headers(answer.model_status, answer.model_reason),
        x.deployment.name_line if x.deployment is not None else b"",
        date,
        cors_lines(x),
        identifier_lines(x),
        connection,
        b"Content-Length: %d\r\n\r\n" % len(text),
    ]
    if head.method != b"HEAD":
        x.sent = len(text)
        lines.append(text)
    return b"".join(lines)
