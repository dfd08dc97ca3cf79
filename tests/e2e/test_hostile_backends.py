"""Sick answers of a container: none of them reaches a client, and none harms the next request.

Threats T30 and T31. The promise: whatever an answer gets wrong before its first byte was passed on
ends in a 502 of the gateway's own words; what goes wrong later breaks the client's connection, so
that a cut answer never looks whole. Either way the upstream connection is closed and never used
again. Answers that go wrong while they are being streamed are in ``test_hostile_streams``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.backends import Behaviour, FakeBackend, Link, choosing
from tests.support.gateways import GatewayProcess, wait_until
from tests.support.raw import Answer, Closed, request

MALFORMED = "Replica sent an answer that is not valid HTTP"
CLOSED = "Replica closed connection before replying"
# In every sick answer, so that it can be looked for in what the client gets.
SICK = "sick-canary"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nwell"
HEAD = b"HTTP/1.1 200 OK\r\nX-Sick: sick-canary\r\n"
BODY = b"Content-Length: 11\r\n\r\nsick-canary"
CHUNK = b"b\r\nsick-canary\r\n"
END = b"0\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: <sick-canary>\r\n\r\n"

# Wrong before anything was passed on.
REFUSED = {
    "length-and-chunked": HEAD
    + b"Content-Length: 21\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNK
    + END,
    "chunked-and-length": HEAD
    + b"Transfer-Encoding: chunked\r\nContent-Length: 21\r\n\r\n"
    + CHUNK
    + END,
    "two-lengths": HEAD + b"Content-Length: 4\r\n" + BODY,
    "equal-lengths": HEAD + b"Content-Length: 11\r\n" + BODY,
    "length-list": HEAD + b"Content-Length: 11, 11\r\n\r\nsick-canary",
    "length-with-sign": HEAD + b"Content-Length: +11\r\n\r\nsick-canary",
    "length-negative": HEAD + b"Content-Length: -1\r\n\r\nsick-canary",
    "length-hexadecimal": HEAD + b"Content-Length: 0xb\r\n\r\nsick-canary",
    "length-empty": HEAD + b"Content-Length:\r\n\r\nsick-canary",
    "length-beyond-64-bits": HEAD + b"Content-Length: 18446744073709551627\r\n\r\nsick-canary",
    "chunked-identity": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNK + END,
    "xchunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNK + END,
    "chunked-twice": HEAD + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + CHUNK + END,
    "gzip-chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNK + END,
    "bare-LF-everywhere": b"HTTP/1.1 200 OK\nContent-Length: 11\n\nsick-canary",
    "bare-LF-after-a-field": b"HTTP/1.1 200 OK\r\nX-Sick: sick-canary\n" + BODY,
    "obs-fold": HEAD + b" folded\r\n" + BODY,
    "folded-length": HEAD + b"Content-Length: 1\r\n 1\r\n\r\nsick-canary",
    "CR-in-a-value": b"HTTP/1.1 200 OK\r\nX-A: a\rX-Sick: sick-canary\r\n" + BODY,
    "NUL-in-a-value": b"HTTP/1.1 200 OK\r\nX-Sick: a\0sick-canary\r\n" + BODY,
    "control-in-a-value": b"HTTP/1.1 200 OK\r\nX-Sick: a\x01sick-canary\r\n" + BODY,
    "CR-in-the-reason": b"HTTP/1.1 200 OK\rX-Sick: sick-canary\r\n" + BODY,
    "space-before-colon": b"HTTP/1.1 200 OK\r\nX-Sick : sick-canary\r\n" + BODY,
    "space-before-the-colon-of-the-length": HEAD + b"Content-Length : 11\r\n\r\nsick-canary",
    "empty-name": b"HTTP/1.1 200 OK\r\n: sick-canary\r\n" + BODY,
    "no-colon": b"HTTP/1.1 200 OK\r\nsick-canary\r\n" + BODY,
    "non-ASCII-name": b"HTTP/1.1 200 OK\r\nX-\xe9: sick-canary\r\n" + BODY,
    "version-0.9": b"HTTP/0.9 200 OK\r\n" + BODY,
    "version-1.2": b"HTTP/1.2 200 OK\r\n" + BODY,
    "version-2.0": b"HTTP/2.0 200 OK\r\n" + BODY,
    "junk-for-a-version": b"ICY 200 OK\r\n" + BODY,
    "version-in-lower-case": b"http/1.1 200 OK\r\n" + BODY,
    "no-status-line": b"<html>sick-canary</html>\r\n\r\n",
    "status-0200": b"HTTP/1.1 0200 OK\r\n" + BODY,
    "status-099": b"HTTP/1.1 099 OK\r\n" + BODY,
    "status-600": b"HTTP/1.1 600 OK\r\n" + BODY,
    "status-999": b"HTTP/1.1 999 OK\r\n" + BODY,
    "status-abc": b"HTTP/1.1 abc OK\r\n" + BODY,
    "status-20": b"HTTP/1.1 20 OK\r\n" + BODY,
    "two-spaces-before-the-status": b"HTTP/1.1  200 OK\r\n" + BODY,
    "101-unasked": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
    b"Upgrade: sick-canary\r\n\r\nsick-canary",
    "101-then-200": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + HEAD + BODY,
    "17-early-hints": EARLY * 17 + HEAD + BODY,
    "1000-early-hints": EARLY * 1000 + HEAD + BODY,
    "header-of-64-KiB": HEAD + b"X-A: " + b"a" * 65536 + b"\r\n" + BODY,
    "257-headers": HEAD + b"X-A: a\r\n" * 255 + BODY,
    "5000-headers": HEAD + b"X-A: a\r\n" * 5000 + BODY,
    "extra-bytes": HEAD + BODY + b"more",
    "extra-bytes-after-a-head-seen-before": GOOD + b"sick-canary",
    "a-second-answer": HEAD + BODY + GOOD,
    "chunk-size-is-no-number": CHUNKED + b"zz\r\nsick-canary\r\n" + END,
    "chunk-size-with-0x": CHUNKED + b"0xb\r\nsick-canary\r\n" + END,
    "chunk-size-beyond-64-bits": CHUNKED + b"f" * 17 + b"\r\nsick-canary\r\n" + END,
    "chunk-size-ended-by-LF": CHUNKED + b"b\nsick-canary\r\n" + END,
    "chunk-longer-than-its-size": CHUNKED + b"5\r\nsick-canary\r\n" + END,
    "bytes-after-the-last-chunk": CHUNKED + CHUNK + END + b"more",
    # llhttp accepts these four.
    "control-in-the-reason": b"HTTP/1.1 200 O\x01K\r\n" + BODY,
    "NUL-in-the-reason": b"HTTP/1.1 200 O\0K\r\n" + BODY,
    "empty-line-first": b"\r\n" + HEAD + BODY,
    "chunked-in-HTTP-1.0": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        + CHUNK
        + END
    ),
}

# The connection ends before the head is complete, or before a body that was still held back.
CUT = {
    "nothing": b"",
    "half-a-status-line": b"HTTP/1.",
    "half-a-head": HEAD,
    "early-hints-only": EARLY,
    "no-body": HEAD + b"Content-Length: 12\r\n\r\n",
    "short-body": HEAD + b"Content-Length: 12\r\n\r\nsick-canary",
    "short-body-after-a-head-seen-before": GOOD[:-1],
}
# The head was good and has been passed on; then the connection ends.
BEGUN = {
    "short-large-body": HEAD + b"Content-Length: 100000\r\n\r\n" + b"a" * 70000,
    "chunked-without-an-end": CHUNKED + CHUNK,
    "chunk-cut": CHUNKED + b"ff\r\nsick-canary",
    "last-chunk-cut": CHUNKED + CHUNK + b"0\r\n",
}


def ending(data: bytes, how: str) -> Behaviour:
    """Sends ``data`` and closes or resets."""

    def behave(link: Link) -> None:
        link.send(data)
        if how == "reset":
            link.reset()
        else:
            link.socket.close()

    return behave


def endless(first: bytes, again: bytes) -> Behaviour:
    """Sends until the other side has had enough; 100 MB would take more than the test's time."""

    def behave(link: Link) -> None:
        link.send(first)
        for _ in range(100_000):
            link.send(again * (1000 // len(again)))

    return behave


ENDLESS = {
    "endless-status-line": endless(b"HTTP/1.1 200 OK", b"K"),
    "endless-header": endless(HEAD + b"X-A: ", b"a"),
    "endless-headers": endless(HEAD, b"X-A: a\r\n"),
    "endless-early-hints": endless(EARLY, EARLY),
}


def answers() -> dict[str, bytes | Behaviour]:
    table: dict[str, bytes | Behaviour] = {**REFUSED, **ENDLESS}
    for how in ("closed", "reset"):
        table |= {f"{name}-{how}": ending(data, how) for name, data in {**CUT, **BEGUN}.items()}
    return table


@pytest.fixture(scope="module")
def backend() -> Iterator[FakeBackend]:
    """Never closes on its own account, so a sick connection is there to be used again."""
    with FakeBackend(choosing(answers(), GOOD)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    ward = f"auth: none, deployments: {{blue: {{backends: [{backend.url}]}}}}"
    text = (
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nendpoints:\n"
        f"  diabetes: {{{ward}, timeout: 2s}}\n"
        f"  managed: {{{ward}, dialect: managed}}\n"
    )
    with GatewayProcess(text, tmp_path_factory.mktemp("hostile")) as running:
        yield running
        # A sick container is no error of the gateway's, and no reason for a traceback.
        assert running.complaints() == []


def sick(name: str, endpoint: str = "diabetes") -> bytes:
    return request(f"/api/v1/service/{endpoint}/{name}")


def assert_well(gateway: GatewayProcess, backend: FakeBackend, name: str) -> None:
    """The next request is served, on another connection; the sick one has been closed."""
    after = gateway.ask(request())
    assert (after.status, after.body) == (200, b"well")
    ill = [seen for seen in backend.seen if seen.line.split(" ")[1] == f"/{name}"]
    assert len(ill) == 1, "a sick answer must not be asked for twice"
    connection = ill[0].connection
    wait_until(lambda: connection in backend.dropped, what="the end of the upstream connection")
    assert [seen for seen in backend.seen if seen.connection == connection][-1] is ill[0]


def assert_own_words(answer: Answer, status: int, text: str) -> None:
    assert (answer.status, answer.text) == (status, text)
    assert answer.header("content-type") == "text/plain; charset=utf-8"
    assert answer.header("azureml-model-deployment") == "blue"
    assert answer.header("x-ms-request-id")
    assert SICK not in repr(answer)


@pytest.mark.parametrize("name", [*REFUSED, *ENDLESS])
def test_t30_a_malformed_answer_is_a_502_of_our_own(
    gateway: GatewayProcess, backend: FakeBackend, name: str
) -> None:
    backend.seen.clear()
    answer = gateway.ask(sick(name))
    assert_own_words(answer, 502, MALFORMED)
    assert answer.reason == "Bad Gateway"
    assert_well(gateway, backend, name)


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("name", CUT)
def test_t30_an_answer_cut_before_it_began_is_a_502_of_our_own(
    gateway: GatewayProcess, backend: FakeBackend, name: str, how: str
) -> None:
    backend.seen.clear()
    answer = gateway.ask(sick(f"{name}-{how}"))
    assert_own_words(answer, 502, CLOSED)
    assert_well(gateway, backend, f"{name}-{how}")


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("name", BEGUN)
def test_t30_an_answer_cut_after_it_began_breaks_the_clients_connection(
    gateway: GatewayProcess, backend: FakeBackend, name: str, how: str
) -> None:
    backend.seen.clear()
    with pytest.raises(Closed):
        gateway.ask(sick(f"{name}-{how}"))
    assert_well(gateway, backend, f"{name}-{how}")


@pytest.mark.parametrize(
    ("name", "text"), [("equal-lengths", MALFORMED), ("nothing-closed", CLOSED)]
)
def test_t30_the_managed_dialect_wraps_the_502_into_424(
    gateway: GatewayProcess, backend: FakeBackend, name: str, text: str
) -> None:
    backend.seen.clear()
    answer = gateway.ask(sick(name, "managed"))
    assert_own_words(answer, 424, text)
    assert answer.header("ms-azureml-model-error-statuscode") == "502"
    assert answer.header("ms-azureml-model-error-reason") == "model_error"
    assert_well(gateway, backend, name)


def test_t30_a_sick_answer_does_not_end_the_clients_connection(gateway: GatewayProcess) -> None:
    with gateway.client() as client:
        for name, status in (("two-lengths", 502), ("score", 200), ("nothing-closed", 502)):
            client.send(sick(name))
            assert client.answer().status == status


def test_t30_every_sick_answer_is_named_in_the_log_and_counted(gateway: GatewayProcess) -> None:
    before = gateway.metric("gateway_faults_total", endpoint="managed", fault="upstream_malformed")
    answer = gateway.ask(sick("status-999", "managed"))
    after = gateway.metric("gateway_faults_total", endpoint="managed", fault="upstream_malformed")
    assert after == before + 1

    def lines() -> list[dict[str, object]]:
        identifier = answer.header("x-ms-request-id")
        return [e for e in gateway.log_entries() if e.get("request_id") == identifier]

    wait_until(lambda: len(lines()) == 1, what="the line in the access log")
    assert lines()[0]["status"] == 424
    assert lines()[0]["fault"] == "upstream_malformed"
    assert lines()[0]["detail"] == "its status is not between 200 and 599"
