"""What answers look like on the wire, byte for byte, in both dialects."""

from __future__ import annotations

from typing import cast

import pytest

from gateway.core.cors import Cors, CorsRules
from gateway.core.dialects import MANAGED, V1, Dialect
from gateway.core.faults import Fault, Refusal
from gateway.core.gates import Gate
from gateway.core.heads import ALLOW, RequestHead
from gateway.core.identity import identify
from gateway.core.replies import CHUNKED, UNTIL_CLOSE, Reply
from gateway.core.traffic import Traffic
from gateway.edge.responses import (
    CLOSE,
    KEEP,
    date_line,
    is_chunked,
    is_delimited,
    render_local,
    render_refusal,
    render_reply,
)
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.exchange import Client, Exchange
from gateway.engine.routed import Routed
from gateway.engine.slots import Slots

DATE = b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
ORIGIN = b"https://app.example.com"
CORS = Cors(CorsRules([ORIGIN.decode()], expose=["x-ms-request-id"]))
BLUE = Deployment("blue", cast(Slots, object()))


def exchange(
    dialect: Dialect = V1,
    *,
    method: bytes = b"POST",
    minor: int = 1,
    cors: Cors | None = None,
    origin: bytes | None = None,
    deployment: Deployment | None = BLUE,
    identifiers: tuple[bytes | None, bytes | None, bytes | None] = (None, None, None),
) -> Exchange:
    """A request on its way back."""
    endpoint = Endpoint(
        "diabetes",
        dialect=dialect,
        gate=Gate(None, None),
        keeper=None,
        cors=cors,
        traffic=Traffic({"blue": BLUE}, {}, "blue"),
        deployments=[BLUE],
        timeout=1.0,
        body_limit=1,
        forward_credentials=False,
    )
    head = RequestHead(method, minor)
    head.origin = origin
    routed = Routed(head, 1.0)
    routed.endpoint = endpoint
    routed.identifiers = identify(dialect is MANAGED, *identifiers)
    x = Exchange(cast(Client, None), routed, 0, b"", b"our-id", 0.0)
    x.endpoint, x.deployment = endpoint, deployment
    return x


def reply(status: int = 200, body: bytes | None = b"[1]", *lines: bytes) -> Reply:
    found = Reply(status)
    found.lines = [line + b"\r\n" for line in lines]
    found.body = body
    if body is not None:
        found.length = len(body)
    return found


def text(*lines: str, body: str = "") -> bytes:
    return "".join(line + "\r\n" for line in (*lines, "")).encode() + body.encode()


OURS = ("x-ms-request-id: our-id", "x-request-id: our-id")
BY_BLUE = ("azureml-model-deployment: blue", "Date: Thu, 01 Jan 2026 00:00:00 GMT")
JSON = b"Content-Type: application/json"


def test_the_date_is_that_of_rfc_9110() -> None:
    assert date_line(784111777.9) == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


# Answers of containers.


def test_a_plain_answer() -> None:
    x = exchange()
    assert render_reply(x, reply(200, b"[1]", JSON), DATE, b"") == text(
        "HTTP/1.1 200 OK",
        "Content-Type: application/json",
        *BY_BLUE,
        *OURS,
        "Content-Length: 3",
        body="[1]",
    )
    assert (x.status, x.sent) == (200, 3)


@pytest.mark.parametrize(
    ("dialect", "status", "line", "said"),
    [
        (V1, 200, "200 OK", ()),
        (V1, 404, "404 Not Found", ()),
        (V1, 500, "502 Bad Gateway", ()),
        (V1, 503, "503 Service Unavailable", ()),
        (V1, 299, "299 ", ()),
        (MANAGED, 200, "200 OK", ()),
        (MANAGED, 201, "424 Failed Dependency", ("201", "model_error")),
        (MANAGED, 400, "424 Failed Dependency", ("400", "model_error")),
        (MANAGED, 500, "424 Failed Dependency", ("500", "model_error")),
    ],
)
def test_the_status_is_that_of_the_dialect(
    dialect: Dialect, status: int, line: str, said: tuple[str, str]
) -> None:
    names = ("ms-azureml-model-error-statuscode", "ms-azureml-model-error-reason")
    errors = [f"{name}: {value}" for name, value in zip(names, said, strict=False)]
    assert render_reply(exchange(dialect), reply(status, b"x"), DATE, b"") == text(
        f"HTTP/1.1 {line}", *errors, *BY_BLUE, *OURS, "Content-Length: 1", body="x"
    )


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 70_000])
def test_the_length_is_that_of_the_body(size: int) -> None:
    wire = render_reply(exchange(), reply(200, b"x" * size), DATE, b"")
    assert wire.endswith(f"\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size)


def test_one_answer_to_many_tells_each_what_is_its_own() -> None:
    shared = reply(200, None, JSON)
    askers = [
        (exchange(identifiers=(b"theirs", None, None)), b"[1]", b"", ("theirs", "3", "[1]")),
        (exchange(), b"[1.25]", b"", ("our-id", "6", "[1.25]")),
        (exchange(method=b"HEAD"), b"[2]", b"", ("our-id", "3", "")),
        (exchange(), b"[]", CLOSE, ("our-id", "2", "[]")),
    ]
    for x, body, connection, (identifier, size, sent) in askers:
        shared.body = body
        last = ["Connection: close"] if connection else []
        assert render_reply(x, shared, DATE, connection) == text(
            "HTTP/1.1 200 OK",
            "Content-Type: application/json",
            *BY_BLUE,
            "x-ms-request-id: our-id",
            f"x-request-id: {identifier}",
            *last,
            f"Content-Length: {size}",
            body=sent,
        )
    assert shared.lines == [JSON + b"\r\n"]


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_by_its_status(status: int) -> None:
    x = exchange()
    wire = render_reply(x, reply(status, b"", b'ETag: "a"'), DATE, b"")
    assert wire.endswith(text(*OURS))
    assert b"Content-Length" not in wire
    assert b'ETag: "a"\r\n' in wire
    assert x.sent == 0


def test_no_content_becomes_an_empty_body_where_the_status_does() -> None:
    wire = render_reply(exchange(MANAGED), reply(204, b""), DATE, b"")
    assert wire.startswith(b"HTTP/1.1 424 Failed Dependency\r\n")
    assert wire.endswith(b"Content-Length: 0\r\n\r\n")


def test_head_is_told_the_length_and_nothing_more() -> None:
    x = exchange(method=b"HEAD")
    wire = render_reply(x, reply(200, b"[1]"), DATE, b"")
    assert wire == text("HTTP/1.1 200 OK", *BY_BLUE, *OURS, "Content-Length: 3")
    assert x.sent == 0


@pytest.mark.parametrize(
    ("length", "minor", "framing", "delimited", "chunked"),
    [
        (70_000, 1, "Content-Length: 70000", True, False),
        (70_000, 0, "Content-Length: 70000", True, False),
        (CHUNKED, 1, "Transfer-Encoding: chunked", True, True),
        (UNTIL_CLOSE, 1, "Transfer-Encoding: chunked", True, True),
        (CHUNKED, 0, None, False, False),
        (UNTIL_CLOSE, 0, None, False, False),
    ],
)
def test_a_stream_is_framed_as_the_client_understands(
    length: int, minor: int, framing: str | None, delimited: bool, chunked: bool
) -> None:
    x, streamed = exchange(minor=minor), reply(200, None, JSON)
    streamed.length = length
    assert is_delimited(x, streamed) is delimited
    assert is_chunked(x, streamed) is chunked
    lines = ("HTTP/1.1 200 OK", JSON.decode(), *BY_BLUE, *OURS)
    assert render_reply(x, streamed, DATE, b"") == text(*lines, *([framing] if framing else []))


@pytest.mark.parametrize(
    ("connection", "line"), [(CLOSE, "Connection: close"), (KEEP, "Connection: keep-alive")]
)
def test_what_becomes_of_the_connection_is_said(connection: bytes, line: str) -> None:
    expected = text("HTTP/1.1 200 OK", *BY_BLUE, *OURS, line, "Content-Length: 0")
    assert render_reply(exchange(), reply(200, b""), DATE, connection) == expected


@pytest.mark.parametrize(
    ("dialect", "sent", "lines"),
    [
        (V1, (b"theirs", None, None), ("x-ms-request-id: our-id", "x-request-id: theirs")),
        (V1, (None, b"alias", None), (*OURS, "x-ms-client-request-id: alias")),
        (V1, (None, None, b"mine"), (*OURS, "x-ms-client-request-id: mine")),
        (MANAGED, (b"theirs", None, None), OURS),
        (MANAGED, (None, None, b"m i!ne"), (*OURS, "x-ms-client-request-id: mine")),
    ],
    ids=["v1 x-request-id", "v1 alias", "v1 client's", "managed x-request-id", "managed client's"],
)
def test_identifiers_are_on_every_answer(
    dialect: Dialect, sent: tuple[bytes | None, bytes | None, bytes | None], lines: tuple[str, ...]
) -> None:
    x = exchange(dialect, identifiers=sent)
    expected = text(*lines).removesuffix(b"\r\n")
    assert expected in render_reply(x, reply(), DATE, b"")
    assert expected in render_local(x, 204, ALLOW, DATE, b"")
    assert expected in render_refusal(x, Refusal(Fault.DEADLINE), DATE, b"")


# Who may read it.

ALLOWED = (
    "Access-Control-Allow-Origin: https://app.example.com",
    "Access-Control-Expose-Headers: x-ms-request-id",
    "Vary: Origin",
)
THEIRS = b"Access-Control-Allow-Origin: *\r\n"


@pytest.mark.parametrize(
    ("cors", "origin", "lines"),
    [
        (CORS, ORIGIN, ALLOWED),
        (CORS, b"https://evil.example.com", ("Vary: Origin",)),
        (CORS, None, ("Vary: Origin",)),
        (None, ORIGIN, ()),
    ],
    ids=["allowed", "a stranger", "no origin", "no rules"],
)
def test_cors_is_said_on_answers_and_errors_alike(
    cors: Cors | None, origin: bytes | None, lines: tuple[str, ...]
) -> None:
    x = exchange(cors=cors, origin=origin)
    answers = [
        render_reply(x, reply(200, b"x", JSON), DATE, b""),
        render_reply(x, reply(500, b"x", JSON), DATE, b""),
        *(
            render_refusal(x, Refusal(fault), DATE, CLOSE)
            for fault in (Fault.NO_CREDENTIALS, Fault.BODY_TOO_LARGE, Fault.UPSTREAM_CLOSED)
        ),
    ]
    for wire in answers:
        head = wire.split(b"\r\n\r\n")[0].decode().split("\r\n")
        assert [line for line in head if line.startswith(("Access-", "Vary"))] == list(lines)


@pytest.mark.parametrize(("cors", "passed"), [(None, True), (CORS, False)])
def test_the_containers_own_cors_counts_only_without_rules(cors: Cors | None, passed: bool) -> None:
    found = reply(200, b"x")
    found.cors_lines = (THEIRS,)
    assert (THEIRS in render_reply(exchange(cors=cors), found, DATE, b"")) is passed


# Our own.


def test_an_answer_without_a_body() -> None:
    x = exchange(method=b"OPTIONS")
    assert render_local(x, 204, ALLOW, DATE, KEEP) == text(
        "HTTP/1.1 204 No Content",
        "Allow: GET, HEAD, POST, OPTIONS",
        "Date: Thu, 01 Jan 2026 00:00:00 GMT",
        *OURS,
        "Connection: keep-alive",
    )
    assert x.status == 204


REFUSALS = [
    (V1, Refusal(Fault.NO_CREDENTIALS), "401 Unauthorized",
     "Unauthorized, no Authorization header"),
    (MANAGED, Refusal(Fault.NO_CREDENTIALS), "401 Unauthorized", "key_auth_bad_header_forbidden"),
    (V1, Refusal(Fault.NO_BACKEND), "503 Service Unavailable",
     "No ready replicas for service diabetes"),
    (V1, Refusal(Fault.OVERLOADED), "503 Service Unavailable",
     "Too many requests for service diabetes (overloaded)"),
    (V1, Refusal(Fault.UPSTREAM_CLOSED), "502 Bad Gateway",
     "Replica closed connection before replying"),
    (MANAGED, Refusal(Fault.DEADLINE), "408 Request Timeout", "upstream request timeout"),
    (V1, Refusal(Fault.BODY_TOO_LARGE, "at most 5 bytes"), "413 Request Entity Too Large",
     "The request body is too large: at most 5 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "refusal", "line", "said"),
    REFUSALS,
    ids=[f"{row[0].name} {row[1].fault.slug}" for row in REFUSALS],
)
def test_a_refusal_is_plain_text_in_the_words_of_the_dialect(
    dialect: Dialect, refusal: Refusal, line: str, said: str
) -> None:
    x = exchange(dialect, deployment=None)
    assert render_refusal(x, refusal, DATE, b"") == text(
        f"HTTP/1.1 {line}",
        "Content-Type: text/plain; charset=utf-8",
        "Date: Thu, 01 Jan 2026 00:00:00 GMT",
        *OURS,
        f"Content-Length: {len(said)}",
        body=said,
    )
    assert (x.status, x.sent) == (int(line[:3]), len(said))


@pytest.mark.parametrize(
    ("fault", "errors", "said"),
    [
        (Fault.NO_BACKEND, ("503", "model_not_ready"), ""),
        (
            Fault.UPSTREAM_CLOSED,
            ("502", "model_error"),
            "Replica closed connection before replying",
        ),
    ],
    ids=["nobody there", "gone"],
)
def test_a_managed_refusal_says_what_failed_behind_it(
    fault: Fault, errors: tuple[str, str], said: str
) -> None:
    wire = render_refusal(exchange(MANAGED), Refusal(fault), DATE, b"")
    assert wire == text(
        "HTTP/1.1 424 Failed Dependency",
        *(["Content-Type: text/plain; charset=utf-8"] if said else []),
        f"ms-azureml-model-error-statuscode: {errors[0]}",
        f"ms-azureml-model-error-reason: {errors[1]}",
        *BY_BLUE,
        *OURS,
        f"Content-Length: {len(said)}",
        body=said,
    )


def test_a_refusal_brings_the_headers_it_needs() -> None:
    refusal = Refusal(Fault.METHOD, headers=ALLOW)
    assert ALLOW in render_refusal(exchange(), refusal, DATE, CLOSE)


def test_a_refused_head_request_is_told_the_length_only() -> None:
    x = exchange(method=b"HEAD")
    wire = render_refusal(x, Refusal(Fault.NO_CREDENTIALS), DATE, b"")
    assert wire.endswith(b"Content-Length: 37\r\n\r\n")
    assert x.sent == 0


@pytest.mark.parametrize("dialect", [V1, MANAGED], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.slug)
def test_every_fault_makes_a_well_formed_answer(dialect: Dialect, fault: Fault) -> None:
    wire = render_refusal(exchange(dialect), Refusal(fault, "the detail"), DATE, CLOSE)
    head, _, body = wire.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].split(b" ", 2)[1] == b"%d" % dialect.answer(fault).status
    assert all(b": " in line and b"\n" not in line for line in lines[1:])
    assert b"Content-Length: %d" % len(body) in lines
    assert b"{" not in body
