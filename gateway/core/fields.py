"""The fields of a request head: which the gateway acts on, which go on, which end here.

llhttp has accepted them before they come here. What it leaves open is which of them mean something
to the gateway, and which the container must never get from a client (RFC 9110 section 7.6.1,
reliability.md T5 to T9).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.core.faults import Fault, Refusal
from gateway.core.grammar import HOST, OWS, tokens

if TYPE_CHECKING:
    from gateway.core.heads import RequestHead

CHUNKED = -1


def read_fields(head: RequestHead, lines: list[bytes]) -> None:
    """Take note of every line, in order.

    :raises Refusal: ``BAD_REQUEST``: the host or the length is missing, malformed or ambiguous.
    """
    kept = head.kept
    for line in lines:
        name, _, value = line.partition(b":")
        value = value.strip(OWS)
        lower = name.lower()
        reader = _READERS.get(lower, _keep)
        if reader is _keep:
            if _passes(lower):
                kept.append((name, value))
        elif reader is not _drop:
            reader(head, name, value)
    if head.minor == 1 and head.host is None:
        raise Refusal(Fault.BAD_REQUEST, "no host header")
    if head.nominated and head.nominated != [b"keep-alive"]:
        # RFC 9110 7.6.1. Only what is merely passed on can be struck off: the fields the gateway
        # acts on, and its own, cannot (reliability.md T8).
        struck = [name for name in head.nominated if not _stays(name)]
        head.kept = [pair for pair in kept if pair[0].lower() not in struck]
    if head.minor == 0 and b"keep-alive" not in head.nominated:
        head.close = True


def _passes(name: bytes) -> bool:
    """Whether a field that the gateway does not act on goes upstream; ``name`` in lower case.

    Underscore twins (``X_Forwarded_For``) reach WSGI servers as the name they imitate, so names
    outside [a-z0-9-] are not passed on (reliability.md T7).

    :raises Refusal: the name imitates one that frames the message.
    """
    if name.replace(b"-", b"").isalnum():
        # Who a request came through is ours to say (reliability.md T6).
        return not name.startswith(b"x-forwarded-")
    if name.replace(b"_", b"-") in (b"content-length", b"transfer-encoding"):
        raise Refusal(Fault.BAD_REQUEST, "an imitation of a framing header")
    return False


def _stays(name: bytes) -> bool:
    """Whether ``Connection`` cannot strike a field off: the gateway acts on it, or the body cannot
    be read without it."""
    return name in _READERS or name.startswith(b"content-")


def _twice(name: bytes) -> Refusal:
    """A second one of these would be read differently by different programs."""
    return Refusal(Fault.BAD_REQUEST, f"more than one {name.lower().decode()} header")


def _keep(head: RequestHead, name: bytes, value: bytes) -> None:
    head.kept.append((name, value))


def _drop(head: RequestHead, name: bytes, value: bytes) -> None:
    """Hop-by-hop, or what only a forged request carries inwards."""


def _host(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.host is not None:
        raise _twice(name)
    if not HOST.fullmatch(value):
        raise Refusal(Fault.BAD_REQUEST, "the host header is not a host name and port")
    head.host = value


def _content_length(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.length is not None:
        raise _twice(b"content-length or transfer-encoding")
    head.length = int(value)  # llhttp agreed that these are digits, and not too many


def _transfer_encoding(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.length is not None:
        raise _twice(b"content-length or transfer-encoding")
    if value.lower() != b"chunked" or head.minor == 0:
        raise Refusal(Fault.BAD_REQUEST, "the only transfer coding accepted is chunked")
    head.length = CHUNKED


def _connection(head: RequestHead, name: bytes, value: bytes) -> None:
    if value in (b"keep-alive", b"Keep-Alive"):
        head.nominated.append(b"keep-alive")  # what nearly everybody sends
        return
    head.nominated += tokens(value)
    if b"close" in head.nominated:
        head.close = True


def _expect(head: RequestHead, name: bytes, value: bytes) -> None:
    if value.lower() != b"100-continue":
        head.unmet = True
        return
    head.expects_continue = head.minor == 1  # RFC 9110 10.1.1: ignored in HTTP/1.0


def _authorization(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.authorization is not None:
        raise _twice(name)
    head.authorization = value


def _origin(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.origin is not None:
        raise _twice(name)
    head.origin = value
    head.kept.append((name, value))


def _content_type(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.content_type is not None:
        raise _twice(name)
    head.content_type = value
    head.kept.append((name, value))


def _pin(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.pin is not None:
        raise _twice(name)
    head.pin = value


def _request_id(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.request_id is not None:
        raise _twice(name)
    head.request_id = value


def _ms_request_id(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.ms_request_id is not None:
        raise _twice(name)
    head.ms_request_id = value


def _client_request_id(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.client_request_id is not None:
        raise _twice(name)
    head.client_request_id = value


def _traceparent(head: RequestHead, name: bytes, value: bytes) -> None:
    head.traceparent = value
    head.kept.append((name, value))


def _user_agent(head: RequestHead, name: bytes, value: bytes) -> None:
    head.user_agent = value
    head.kept.append((name, value))


def _forwarded(head: RequestHead, name: bytes, value: bytes) -> None:
    head.forwarded.append((name.lower(), value))


def _asked_method(head: RequestHead, name: bytes, value: bytes) -> None:
    head.asked_method = value


def _asked_headers(head: RequestHead, name: bytes, value: bytes) -> None:
    head.asked_headers = value


def _asked_network(head: RequestHead, name: bytes, value: bytes) -> None:
    head.asked_network = value.lower() == b"true"


_READERS: dict[bytes, Callable[[RequestHead, bytes, bytes], None]] = {
    b"host": _host,
    b"content-length": _content_length,
    b"transfer-encoding": _transfer_encoding,
    b"connection": _connection,
    b"expect": _expect,
    b"authorization": _authorization,
    b"origin": _origin,
    b"content-type": _content_type,
    b"azureml-model-deployment": _pin,
    b"x-request-id": _request_id,
    b"x-ms-request-id": _ms_request_id,
    b"x-ms-client-request-id": _client_request_id,
    b"traceparent": _traceparent,
    b"user-agent": _user_agent,
    b"forwarded": _forwarded,
    b"x-forwarded-for": _forwarded,
    b"x-forwarded-host": _forwarded,
    b"x-forwarded-proto": _forwarded,
    b"access-control-request-method": _asked_method,
    b"access-control-request-headers": _asked_headers,
    b"access-control-request-private-network": _asked_network,
    # Hop-by-hop, RFC 9110 section 7.6.1.
    b"keep-alive": _drop,
    b"proxy-connection": _drop,
    b"proxy-authorization": _drop,
    b"proxy-authenticate": _drop,
    b"te": _drop,
    b"trailer": _drop,
    b"upgrade": _drop,
    b"http2-settings": _drop,
    # Believed by servers behind proxies, so never taken from a client.
    b"proxy": _drop,  # httpoxy, CVE-2016-5385
    b"x-real-ip": _drop,
    b"x-forwarded-port": _drop,
    b"x-forwarded-prefix": _drop,
    b"x-forwarded-server": _drop,
    b"x-original-url": _drop,
    b"x-rewrite-url": _drop,
}
