"""A head with identifiers of its own is all that its kind is, and what these identifiers decide."""

from __future__ import annotations

from typing import cast

import pytest

from gateway.core.dialects import MANAGED, V1
from gateway.core.heads import RequestHead
from gateway.engine.endpoints import Endpoint
from gateway.engine.routed import Routed, Words

# What follows from identifiers, and is not as it is in the kind.
OWN = {"bare_fields", "fields", "identifiers", "traceparent"}


def kind() -> Routed:
    head = RequestHead(b"POST", 1)
    head.request_id = b"constant"
    routed = Routed(head, 7.0)
    routed.cut = b"/service"
    routed.request_line = b"POST /score HTTP/1.1\r\n"
    routed.common = routed.request_line + b"Accept: */*\r\n"
    routed.is_json = True
    routed.words = Words("POST", "/score", "test/1")
    routed.identify(b"Accept: */*\r\n", head.request_id, None, None)
    return routed


def test_what_is_the_same_in_all_of_a_kind_is_the_same_object() -> None:
    routed = kind()
    own = routed.individual([b"content-length", b"x-request-id"], [b"5", b"mine"])
    for name in set(Routed.__slots__) - OWN:
        assert getattr(own, name) is getattr(routed, name), name
    assert routed.identifiers.theirs == b"constant"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (b"content-length", b""),
        (b"traceparent", b"traceparent: v\r\n"),
        (b"tracestate", b"tracestate: v\r\n"),
        (b"x-request-id", b""),
        (b"x-ms-request-id", b""),
        (b"x-ms-client-request-id", b""),
    ],
)
def test_each_value_goes_where_it_belongs(name: bytes, line: bytes) -> None:
    own = kind().individual([name], [b"v"])
    assert own.bare_fields == b"Accept: */*\r\n" + line
    assert own.fields == own.bare_fields + own.identifiers.upstream
    assert own.traceparent == (b"v" if name == b"traceparent" else None)
    assert own.identifiers.theirs == (b"v" if name == b"x-request-id" else b"constant")
    assert own.identifiers.client == ("v" if b"-ms-" in name else "")


def test_a_trace_of_several_lines_stays_as_it_is() -> None:
    own = kind().individual([b"tracestate", b"tracestate"], [b"a", b"b"])
    assert own.bare_fields == b"Accept: */*\r\ntracestate: a\r\ntracestate: b\r\n"


def test_the_dialect_decides_what_becomes_of_identifiers() -> None:
    class Served:
        dialect = MANAGED

    routed = kind()
    assert routed.dialect is V1
    routed.endpoint = cast(Endpoint, Served())
    own = routed.individual([b"x-request-id"], [b"mine"])
    assert (own.dialect, own.identifiers.theirs) == (MANAGED, None)
