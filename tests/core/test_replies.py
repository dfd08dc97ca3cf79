"""Of a container's answer only what is sound and meant for the client goes on (T30, T31, T46)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import replies
from gateway.core.faults import Fault, Refusal
from gateway.core.replies import CHUNKED, MAX_FIELDS, UNTIL_CLOSE, Reply, parse_reply_head


def text(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"".join(part + b"\r\n" for part in (line, *fields)) + b"\r\n"


def parse(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK") -> Reply:
    return parse_reply_head(text(*fields, line=line))


def refusal(raw: bytes) -> tuple[Fault, str]:
    with pytest.raises(Refusal) as caught:
        parse_reply_head(raw)
    return caught.value.fault, caught.value.detail


STATUS_LINE = "its status line is not HTTP/1.x"
STATUS = "its status is not between 200 and 599"


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        (b"HTTP/1.1 200 OK", 200),
        (b"HTTP/1.1 200", 200),
        (b"HTTP/1.1 200 ", 200),
        (b"HTTP/1.0 404 Not Found", 404),
        (b"HTTP/1.1 599 What \xe9ver", 599),
        (b"HTTP/1.1 199 Early", STATUS),
        (b"HTTP/1.1 101 Switching Protocols", STATUS),
        (b"HTTP/1.1 600 Late", STATUS),
        (b"HTTP/1.1 999 Odd", STATUS),
        (b"HTTP/1.1 000 Zero", STATUS),
        (b"HTTP/1.1 2x0 OK", STATUS_LINE),
        (b"HTTP/1.1 \xb2\xb2\xb2 OK", STATUS_LINE),
        (b"HTTP/2.0 200 OK", STATUS_LINE),
        (b"HTTP/1.2 200 OK", STATUS_LINE),
        (b"HTTP/0.9 200 OK", STATUS_LINE),
        (b"ICY 200 OK", STATUS_LINE),
    ],
    ids=repr,
)
def test_the_status_is_one_that_an_answer_can_have(line: bytes, outcome: int | str) -> None:
    for _ in range(2):  # the second time from memory
        if isinstance(outcome, int):
            assert parse(line=line).status == outcome
        else:
            assert refusal(text(line=line)) == (Fault.UPSTREAM_MALFORMED, outcome)


TWICE = "its length is given twice"
CODING = "its transfer coding is not chunked"


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ([], UNTIL_CLOSE),
        ([b"Content-Length: 0"], 0),
        ([b"content-length:17"], 17),
        ([b"CONTENT-LENGTH:\t 17 "], 17),
        ([b"Transfer-Encoding: chunked"], CHUNKED),
        ([b"transfer-encoding:\tCHUNKED "], CHUNKED),
        ([b"Content-Length: 5", b"Content-Length: 5"], TWICE),
        ([b"Content-Length: 5", b"content-length: 6"], TWICE),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], TWICE),
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], CODING),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], CODING),
        ([b"Transfer-Encoding: gzip, chunked"], CODING),
        ([b"Transfer-Encoding: chunked, identity"], CODING),
        ([b"Transfer-Encoding: xchunked"], CODING),
        ([b"Transfer-Encoding: identity"], CODING),
        ([b"Transfer-Encoding:"], CODING),
    ],
    ids=repr,
)
def test_the_length_is_said_once_and_clearly(fields: list[bytes], outcome: int | str) -> None:
    for _ in range(2):
        if isinstance(outcome, int):
            assert parse(*fields).length == outcome
        else:
            assert refusal(text(*fields)) == (Fault.UPSTREAM_MALFORMED, outcome)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize("fields", [[], [b"Content-Length: 5"], [b"Transfer-Encoding: chunked"]])
def test_what_cannot_have_a_body_has_none(status: bytes, fields: list[bytes]) -> None:
    # RFC 9112 section 6.3, first rule: whatever the fields say.
    assert parse(*fields, line=b"HTTP/1.1 " + status).length == 0


@pytest.mark.parametrize(
    ("line", "fields", "close"),
    [
        (b"HTTP/1.1 200 OK", [], False),
        (b"HTTP/1.1 200 OK", [b"Connection: close"], True),
        (b"HTTP/1.1 200 OK", [b"connection:Close "], True),
        (b"HTTP/1.1 200 OK", [b"Connection: X-A, close"], True),
        (b"HTTP/1.1 200 OK", [b"Connection: close, keep-alive"], True),
        (b"HTTP/1.1 200 OK", [b"Connection: keep-alive"], False),
        (b"HTTP/1.1 200 OK", [b"Connection: keep-alive", b"Connection: close"], True),
        (b"HTTP/1.0 200 OK", [], True),
        (b"HTTP/1.0 200 OK", [b"Connection: keep-alive"], False),
        (b"HTTP/1.0 200 OK", [b"Connection: Keep-Alive, X-A"], False),
        # RFC 9112 section 9.3: `close` anywhere ends it.
        (b"HTTP/1.1 200 OK", [b"Connection: close", b"Connection: keep-alive"], True),
        (b"HTTP/1.1 200 OK", [b"Connection: close, X-A", b"Connection: keep-alive, X-B"], True),
    ],
)
def test_whether_the_container_will_close(line: bytes, fields: list[bytes], close: bool) -> None:
    for _ in range(2):
        assert parse(*fields, line=line).close is close


def test_a_transfer_coding_in_http_1_0_is_faulty() -> None:
    # RFC 9112 section 6.1.
    with pytest.raises(Refusal) as caught:
        parse(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK")
    assert caught.value.fault is Fault.UPSTREAM_MALFORMED


def test_lines_go_on_as_they_came_and_in_their_order() -> None:
    reply = parse(
        b"Content-Type: application/json",
        b"X-Odd:  two  spaces ",
        b"Content-Length: 5",
        b"Set-Cookie: a=1",
        b"Set-Cookie: b=2",
        b"x-ms-run-function-failed: False",
        b"x-ms-run-fn-exec-ms: 0.5",
        b"X-Last: \xe9",
    )
    assert reply.lines == [
        b"Content-Type: application/json\r\n",
        b"X-Odd:  two  spaces \r\n",
        b"Set-Cookie: a=1\r\n",
        b"Set-Cookie: b=2\r\n",
        b"x-ms-run-function-failed: False\r\n",
        b"x-ms-run-fn-exec-ms: 0.5\r\n",
        b"X-Last: \xe9\r\n",
    ]


@pytest.mark.parametrize(
    "name",
    [
        # Hop-by-hop.
        *["Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization"],
        *["TE", "Trailer", "Upgrade"],
        # Ours to say.
        *["Server", "Date", "X-Powered-By", "Alt-Svc", "x-request-id", "x-ms-request-id"],
        *["x-ms-client-request-id", "azureml-model-deployment"],
        *["ms-azureml-model-error-statuscode", "ms-azureml-model-error-reason"],
    ],
)
def test_what_is_not_the_containers_to_say_is_dropped(name: str) -> None:
    for spelling in (name, name.upper(), name.lower(), name):
        reply = parse(b"%b: 1" % spelling.encode(), b"X-Good: 1")
        assert reply.lines == [b"X-Good: 1\r\n"]


@pytest.mark.parametrize(
    ("connection", "kept"),
    [
        ([b"X-A"], [b"X-B"]),
        ([b"close, x-a ,X-B"], []),
        ([b"x-a", b"x-b"], []),
        ([b"keep-alive", b"x-b"], [b"X-A"]),
        ([b"X-C"], [b"X-A", b"X-B"]),
        ([b"close"], [b"X-A", b"X-B"]),
    ],
)
def test_fields_that_connection_names_are_struck_off(
    connection: list[bytes], kept: list[bytes]
) -> None:
    nominating = [b"Connection: " + value for value in connection]
    fields = [b"X-A: 1", b"X-B: 1"]
    for order in (nominating + fields, fields + nominating):
        assert parse(*order).lines == [name + b": 1\r\n" for name in kept]


def test_cors_and_location_are_kept_apart() -> None:
    cors = [
        b"Access-Control-Allow-Origin: *",
        b"access-control-allow-credentials: true",
        b"Access-Control-Allow-Headers: a",
        b"Access-Control-Allow-Methods: GET",
        b"Access-Control-Allow-Private-Network: true",
        b"Access-Control-Expose-Headers: b",
        b"Access-Control-Max-Age: 5",
        b"vary: origin",
    ]
    locations = [b"Location: http://10.0.0.5:5001/x", b"content-location: /y"]
    reply = parse(*cors, b"Vary: Accept, Origin", *locations, line=b"HTTP/1.1 302 Found")
    assert reply.cors_lines == tuple(line + b"\r\n" for line in cors)
    assert reply.locations == tuple(line + b"\r\n" for line in locations)
    assert reply.lines == [b"Vary: Accept, Origin\r\n"]


def test_one_reply_never_shows_in_the_next() -> None:
    parse(b"Access-Control-Allow-Origin: *", b"Location: /", b"Connection: X-A, close")
    reply = parse()
    assert (reply.cors_lines, reply.locations, reply.nominated) == ((), (), ())
    assert (reply.lines, reply.close, reply.body) == ([], False, None)


@pytest.mark.parametrize(
    ("count", "good"),
    [
        (MAX_FIELDS - 1, True),
        (MAX_FIELDS, True),
        (MAX_FIELDS + 1, False),
    ],
)
def test_fields_are_counted(count: int, good: bool) -> None:
    raw = text(*[b"X: y"] * count)
    if good:
        assert len(parse_reply_head(raw).lines) == count
    else:
        assert refusal(raw) == (
            Fault.UPSTREAM_MALFORMED,
            f"more than {MAX_FIELDS} header fields",
        )


def memory() -> int:
    """Entries in every dictionary of the module, whatever they are called."""
    return sum(len(value) for value in vars(replies).values() if type(value) is dict)


def test_the_memory_of_lines_stays_bounded() -> None:
    before = memory()
    for number in range(10_000):
        reply = parse(
            b"X-%d: %d" % (number, number),
            b"Date: %d" % number,
            b"x-request-id: %d" % number,
            line=b"HTTP/1.1 %d %d" % (200 + number % 400, number),
        )
        assert reply.lines == [b"X-%d: %d\r\n" % (number, number)]
    # Lines, names and status lines: 1024 of each.
    assert memory() - before <= 3 * 1024


def test_long_lines_are_not_remembered() -> None:
    parse(b"Date: now")
    before = memory()
    long = b"x" * 300
    parse(b"X: " + long, line=b"HTTP/1.1 200 " + long)
    assert memory() == before


FIELDS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"Connection", b"connection", b"Content-Type", b"Date", b"X-A", b"Location"]
        )
        | st.sampled_from([b"Content-Length", b"Transfer-Encoding", b"x-request-id", b"Server"])
        | st.sampled_from([b"Access-Control-Allow-Origin", b"x-ms-run-fn-exec-ms", b"dAtE"]),
        st.sampled_from(
            [b" close", b" keep-alive", b"X-A, date", b" 5", b" chunked", b"\t", b" a:b"]
        ),
    ).map(b":".join),
    max_size=6,
)


def meaning(raw: bytes) -> object:
    try:
        reply = parse_reply_head(raw)
    except Refusal as refused:
        return refused.fault, refused.detail
    except ValueError:
        return "a length that llhttp would have refused"
    return (
        *(reply.status, reply.length, reply.close, reply.lines, reply.nominated),
        *(reply.cors_lines, reply.locations),
    )


@given(fields=FIELDS, others=st.lists(FIELDS, max_size=3))
def test_what_was_read_before_never_changes_what_is_read(
    fields: list[bytes], others: list[list[bytes]]
) -> None:
    raw = text(*fields)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_lines", "_names", "_statuses"):
            patch.setattr(replies, name, {})
        fresh = meaning(raw)
    for other in others:
        meaning(text(*other))
    assert meaning(raw) == meaning(raw) == fresh


def test_a_reply_shows_its_status_and_length() -> None:
    assert repr(parse(b"Content-Length: 5")) == "<Reply 200, length 5>"


def test_a_copy_with_another_body_leaves_the_original_as_it_is() -> None:
    reply = parse_reply_head(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
        b"Access-Control-Allow-Origin: *\r\n\r\n"
    )
    reply.body = b"[1, 2, 3]"
    copies = [reply.with_body(body) for body in (b"[1]", b"[2]")]
    for copy in copies:
        assert (copy.status, copy.lines) == (200, [b"Content-Type: application/json\r\n"])
        assert copy.cors_lines == (b"Access-Control-Allow-Origin: *\r\n",)
        assert not copy.close
    assert [copy.body for copy in copies] == [b"[1]", b"[2]"]
    copies[0].lines.append(b"X-Other: 1\r\n")
    assert reply.lines == copies[1].lines == [b"Content-Type: application/json\r\n"]
    assert reply.body == b"[1, 2, 3]"
