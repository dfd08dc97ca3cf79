"""What answers look like on the wire. The only place that knows."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from gateway.core.dialects import Dialect, error_headers
from gateway.core.faults import Refusal
from gateway.core.heads import CHUNKED
from gateway.core.replies import UNTIL_CLOSE, Reply
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


# Deployment, date, CORS, our identifier twice (or the client's), the client's, persistence.
_OWN_LINES = b"%b%b%bx-ms-request-id: %b\r\nx-request-id: %b\r\n%b%b"


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
    lines = reply.lines
    lines.insert(0, STATUS_LINES[status])
    cors = b""
    if endpoint.cors is not None:
        cors = endpoint.cors.headers(x.routed.head.origin)
    elif reply.cors_lines:
        lines += reply.cors_lines
    if status != reply.status:
        lines.append(endpoint.dialect.model_error_headers(reply.status))
    identifiers = x.routed.identifiers
    lines.append(
        _OWN_LINES
        % (
            deployment.name_line,
            date,
            cors,
            x.request_id,
            identifiers.theirs or x.request_id,
            identifiers.echo,
            connection,
        )
    )
    if status == 204 or status == 304:
        lines.append(b"\r\n")
    elif body is not None:
        lines.append(b"Content-Length: %d\r\n\r\n" % len(body))
        if x.routed.head.method != b"HEAD":
            x.sent = len(body)
            lines.append(body)
    else:
        lines.append(streamed_framing(x, reply))
    return b"".join(lines)


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
