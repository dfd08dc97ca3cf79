"""A request head, and what follows from it under one configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.core.dialects import V1, Dialect
from gateway.core.faults import Refusal
from gateway.core.heads import RequestHead
from gateway.core.identity import NO_IDENTIFIERS, Identifiers, identify
from gateway.engine.endpoints import Endpoint


class Words(NamedTuple):
    """A head in words for a log. No query: it may hold secrets."""

    method: str
    path: str
    user_agent: str


NO_WORDS = Words("", "", "")


class Routed:
    """A head and what follows from it under one configuration."""

    __slots__ = (
        "bare_fields",
        "common",
        "cut",
        "endpoint",
        "fields",
        "head",
        "identifiers",
        "is_json",
        "refusal",
        "request_line",
        "timeout",
        "traceparent",
        "words",
    )

    def __init__(self, head: RequestHead, timeout: float) -> None:
        self.head = head
        self.endpoint: Endpoint | None = None
        #: Why it gets no further: there is no endpoint for it, or nothing that it can do there.
        self.refusal: Refusal | None = None
        self.timeout = timeout
        #: Path prefix that names the endpoint and is not passed on.
        self.cut = b""
        self.request_line = b""
        #: End-to-end fields for the container, complete lines; ``bare_fields`` are those without
        #: identifiers of the request.
        self.fields = self.bare_fields = b""
        #: The request line and the fields that all heads of this kind share, the same object for
        #: all of them. What changes from request to request is not among them.
        self.common = b""
        self.identifiers: Identifiers = NO_IDENTIFIERS
        self.traceparent: bytes | None = None
        self.is_json = False
        #: What the access log says of all such requests.
        self.words = NO_WORDS

    def __repr__(self) -> str:
        return f"<Routed {self.head!r} to {self.endpoint!r}>"

    @property
    def dialect(self) -> Dialect:
        return self.endpoint.dialect if self.endpoint is not None else V1

    def identify(
        self,
        fields: bytes,
        request_id: bytes | None,
        ms_request_id: bytes | None,
        client_request_id: bytes | None,
    ) -> None:
        """Add what the request's identifiers decide."""
        managed = self.endpoint is not None and self.endpoint.dialect.name == "managed"
        self.bare_fields = fields
        self.identifiers = identify(managed, request_id, ms_request_id, client_request_id)
        self.fields = fields + self.identifiers.upstream

    def individual(self, names: Sequence[bytes], values: Sequence[bytes]) -> Routed:
        """The same head with values of its own.

        :param names: lower case; identifiers, parts of a trace, or of no meaning here.
        """
        routed = Routed.__new__(Routed)  # nothing is set twice: some clients make each request so
        head = routed.head = self.head
        routed.endpoint = self.endpoint
        routed.refusal = self.refusal
        routed.timeout = self.timeout
        routed.cut = self.cut
        routed.request_line = self.request_line
        routed.common = self.common
        routed.is_json = self.is_json
        routed.words = self.words
        traceparent = self.traceparent
        request_id, ms_request_id = head.request_id, head.ms_request_id
        client_request_id = head.client_request_id
        fields = self.bare_fields
        for name, value in zip(names, values, strict=True):
            if name == b"content-length":
                continue
            if name == b"traceparent":
                traceparent = value
                fields += b"traceparent: " + value + b"\r\n"
            elif name == b"tracestate":
                fields += b"tracestate: " + value + b"\r\n"
            elif name == b"x-ms-client-request-id":
                client_request_id = value
            elif name == b"x-request-id":
                request_id = value
            elif name == b"x-ms-request-id":
                ms_request_id = value
        routed.traceparent = traceparent
        routed.identify(fields, request_id, ms_request_id, client_request_id)
        return routed
