"""Requests as a container gets them, and what of its answers would lead back to it."""

from __future__ import annotations

from gateway.core.grammar import OWS
from gateway.core.heads import CHUNKED
from gateway.core.replies import Reply
from gateway.engine.exchange import Exchange
from gateway.engine.pools import Pool


def lone_head(x: Exchange, pool: Pool, body: bytes | None) -> bytes:
    """The request as the container gets it: re-framed from the parsed length, headers of this hop
    gone, ours added last so that nothing the client sent can replace them.

    :param body: what will be sent, None if it will be poured.
    """
    routed = x.routed
    line = routed.request_line
    if pool.prefix:
        method, _, target = line.partition(b" ")
        line = method + b" " + pool.prefix + target
    own = b"x-request-id: %b\r\n" % x.request_id if routed.identifiers.theirs is None else b""
    if body:
        framing = b"Content-Length: %d\r\n\r\n" % len(body)
    elif body is not None:
        framing = b"Content-Length: 0\r\n\r\n" if routed.head.method == b"POST" else b"\r\n"
    elif x.length == CHUNKED:
        framing = b"Transfer-Encoding: chunked\r\n\r\n"
    else:
        framing = b"Content-Length: %d\r\n\r\n" % x.length
    return b"".join((line, pool.host_line, routed.fields, x.client.forwarding, own, framing))


def relocate(reply: Reply, pool: Pool, cut: bytes) -> None:
    """A redirect to the container's own address becomes one to the gateway's path: internal
    addresses never leak, and the client could not follow them."""
    own = b"http://" + pool.name.encode()
    for line in reply.locations:
        name, _, value = line.partition(b":")
        value = value.strip(OWS + b"\r\n")
        if value.startswith(own) and value[len(own) : len(own) + 1] in (b"", b"/", b"?"):
            value = value[len(own) :] or b"/"
        if value.startswith(b"/") and not value.startswith(b"//"):
            inside = value[len(pool.prefix) :]
            if value.startswith(pool.prefix) and inside[:1] in (b"", b"/", b"?", b"#"):
                value = inside if inside.startswith(b"/") else b"/" + inside
            value = cut + value
        reply.lines.append(name + b": " + value + b"\r\n")


def merged_head(line: bytes, fields: bytes, pool: Pool, name: str, length: int) -> bytes:
    """The head of a call that stands for many requests.

    :param line: the request line that all of them have.
    :param fields: header lines that all of them have; others are no part of the call.
    :param name: identifies the call.
    :param length: bytes of its body.
    """
    if pool.prefix:
        method, _, target = line.partition(b" ")
        line = method + b" " + pool.prefix + target
    own = b"x-request-id: %b\r\nContent-Length: %d\r\n\r\n" % (name.encode(), length)
    return b"".join((line, pool.host_line, fields, own))
