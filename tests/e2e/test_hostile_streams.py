"""Answers that go wrong while they are being passed on, and oddities that must be borne.

Threats T30 and T31, continued from ``test_hostile_backends``: the head was believed, so the client
has it already. What follows breaks the client's connection instead of looking like a clean end. And
an answer never puts a client's connection out of step, whatever a container sends.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import Behaviour, FakeBackend, Link, choosing
from tests.support.gateways import KEY, GatewayProcess, minimal, wait_until
from tests.support.raw import Closed, RawClient, request

MALFORMED = "Replica sent an answer that is not valid HTTP"
LATE = "Post /score: net/http: request canceled (Client.Timeout exceeded while awaiting headers)"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nwell"
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
LARGE = HEAD + b"Content-Length: 100000\r\n\r\nfirst"
# The timeout of the endpoint ``hasty``, in seconds.
HASTY = 0.4
MUCH = b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmuch"
BOMB = gzip.compress(bytes(64 << 20), 9)

# What the container sends first, and what after the client has seen that.
LATER = {
    "chunk-size-is-no-number": (CHUNKED, b"zz\r\nsick-canary\r\n0\r\n\r\n"),
    "chunk-size-beyond-64-bits": (CHUNKED, b"f" * 17 + b"\r\nsick-canary"),
    "chunk-size-ended-by-LF": (CHUNKED, b"b\nsick-canary\r\n0\r\n\r\n"),
    "chunk-without-its-CRLF": (CHUNKED, b"b\r\nsick-canary0\r\n\r\n"),
    "head-in-the-middle": (CHUNKED, GOOD),
    "trailer-is-no-field": (CHUNKED, b"0\r\nsick canary\r\n\r\n"),
    "bytes-after-the-last-chunk": (CHUNKED, b"0\r\n\r\nsick-canary"),
    "bytes-after-the-length": (LARGE, b"a" * 99995 + b"sick-canary"),
}
# What may be passed on although it is odd: the answer's bytes, status and body for the client.
BORNE = {
    "16-early-hints": (b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" * 16 + GOOD, 200, b"well"),
    "100-unasked": (b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD, 200, b"well"),
    "no-reason": (b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\nwell", 200, b"well"),
    "204-with-a-length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n", 204, b""),
    "304-with-a-length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", 304, b""),
    "upgrade-with-200": (
        HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nwell",
        200,
        b"well",
    ),
    "chunk-extension": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n4;a=b\r\nwell\r\n0\r\n\r\n",
        200,
        b"well",
    ),
    "trailer": (
        HEAD
        + b"Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n4\r\nwell\r\n0\r\nX-T: a\r\n\r\n",
        200,
        b"well",
    ),
    "length-with-zeros": (HEAD + b"Content-Length: 0004\r\n\r\nwell", 200, b"well"),
    "length-in-another-spelling": (
        HEAD + b"CONTENT-length:\t 4 \r\n\r\nwell",
        200,
        b"well",
    ),
}


class Script:
    """Behaviours in steps; ``go`` is set by the test when the next one is due."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def steps(self, first: bytes, second: bytes, *, end: bool = False) -> Behaviour:
        def behave(link: Link) -> None:
            link.send(first)
            assert self.go.wait(10)
            if end:
                link.reset()
            else:
                link.send(second)

        return behave

    def drip(self, first: bytes, data: bytes) -> Behaviour:
        """After ``first`` a byte now and then: never silent, never done."""

        def behave(link: Link) -> None:
            link.send(first)
            for byte in data:
                link.send(bytes((byte,)))
                if self.go.wait(HASTY / 8):
                    break

        return behave


def silent(link: Link) -> None:
    """Reads on and says nothing."""


def until_close(link: Link) -> None:
    link.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nwell")
    link.socket.close()


def answering_early(link: Link) -> None:
    """Answers ``/early`` by the head alone, ``/rude`` too, with a reset at once."""
    head = link.read_head() or b""
    if b"/early " in head:
        link.send(MUCH)
        link.read_head()  # whatever comes of the body, up to the end of the connection
    elif b"/rude " in head:
        link.send(MUCH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        link.reset()
    else:
        link.send(GOOD)


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


@pytest.fixture(autouse=True)
def from_the_first_step(script: Script) -> Iterator[None]:
    script.go.clear()
    yield
    script.go.set()


# A whole answer hidden in the body of one that begins with an empty line.
_INNER = HEAD + b"Content-Length: 100000\r\n\r\n"
HIDDEN = b"\r\n" + HEAD + b"Content-Length: %d\r\n\r\n" % len(_INNER) + _INNER


@pytest.fixture(scope="module")
def backend(script: Script) -> Iterator[FakeBackend]:
    table: dict[str, bytes | Behaviour] = {name: answer for name, (answer, *_) in BORNE.items()}
    table |= {name: script.steps(*parts) for name, parts in LATER.items()}
    table |= {
        "until-close-reset": script.steps(HEAD + b"\r\nfirst", b"", end=True),
        "hidden": script.steps(HIDDEN, HEAD + b"Content-Length: 5\r\n\r\nhello"),
        "silent": silent,
        "until-close": until_close,
        "drip-head": script.drip(HEAD, b"X-A: " + b"a" * 1000),
        "drip-body": script.drip(LARGE, b"a" * 1000),
        "bomb": HEAD
        + b"Content-Type: application/json\r\nContent-Encoding: gzip\r\n"
        + b"Content-Length: %d\r\n\r\n" % len(BOMB)
        + BOMB,
        "own-names": b"HTTP/1.1 200 X-Evil: reason\r\nServer: gunicorn\r\nX-Powered-By: Flask\r\n"
        b"x-ms-request-id: forged\r\nx-request-id: forged\r\nx-ms-client-request-id: forged\r\n"
        b"azureml-model-deployment: forged\r\nms-azureml-model-error-reason: forged\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nAlt-Svc: h3=':443'\r\n"
        b"Connection: keep-alive, X-Hop\r\nX-Hop: secret\r\nX-Model: kept\r\n"
        b"Content-Length: 4\r\n\r\nwell",
    }
    with FakeBackend(choosing(table, GOOD)) as running:
        yield running


@pytest.fixture(scope="module")
def early() -> Iterator[FakeBackend]:
    with FakeBackend(answering_early) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    backend: FakeBackend, early: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    ward = f"auth: none, deployments: {{blue: {{backends: [{backend.url}]}}}}"
    text = (
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nendpoints:\n"
        f"  diabetes: {{{ward}, timeout: 3s}}\n"
        f"  hasty: {{{ward}, timeout: {int(HASTY * 1000)}ms}}\n"
        f"  managed: {{{ward}, timeout: {int(HASTY * 1000)}ms, dialect: managed}}\n"
        f"  early: {{auth: none, deployments: {{blue: {{backends: [{early.url}]}}}}}}\n"
    )
    with GatewayProcess(text, tmp_path_factory.mktemp("streams")) as running:
        yield running
        assert running.complaints() == []


def ask_for(name: str, endpoint: str = "diabetes") -> bytes:
    return request(f"/api/v1/service/{endpoint}/{name}")


def receive_until(client: RawClient, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        more = client.receive()
        assert more, f"closed after {data!r}"
        data += more
    return data


def receive_rest(client: RawClient) -> bytes:
    """Everything up to the end of the connection, be it FIN or RST."""
    data = b""
    try:
        while more := client.receive():
            data += more
    except Closed:
        pass
    return data


def assert_well(gateway: GatewayProcess, backend: FakeBackend, name: str) -> None:
    after = gateway.ask(ask_for("score"))
    assert (after.status, after.body) == (200, b"well")
    connections = [s.connection for s in backend.seen if s.line.split(" ")[1] == f"/{name}"]
    assert len(connections) == 1
    wait_until(lambda: connections[0] in backend.dropped, what="the upstream connection's end")
    assert [s.connection for s in backend.seen].count(connections[0]) == 1


@pytest.mark.parametrize("name", [*LATER, "until-close-reset"])
def test_t30_what_goes_wrong_later_breaks_the_clients_connection(
    gateway: GatewayProcess, backend: FakeBackend, script: Script, name: str
) -> None:
    backend.seen.clear()
    with gateway.client() as client:
        client.send(ask_for(name))
        begun = receive_until(client, b"first")
        assert begun.startswith(b"HTTP/1.1 200 OK\r\n")
        script.go.set()
        rest = receive_rest(client)
    if b"\r\nTransfer-Encoding: chunked\r\n" in begun:
        assert b"\r\n0\r\n" not in begun + rest, "a cut answer must not look whole"
    else:
        assert len(begun.partition(b"\r\n\r\n")[2] + rest) < 100_000
    assert b"sick" not in rest
    assert_well(gateway, backend, name)


def test_t30_no_answer_puts_the_clients_connection_out_of_step(
    gateway: GatewayProcess, script: Script
) -> None:
    """Were the inner answer taken for a head here and for a body by llhttp, its length of 100 000
    would be announced, 49 bytes sent, and the next answer taken for more of them."""
    with gateway.client(timeout=2) as client:
        client.send(ask_for("hidden"))
        threading.Timer(0.2, script.go.set).start()
        assert (first := client.answer()).status == 502
        assert first.text == MALFORMED
        client.send(ask_for("score"))
        assert client.answer().body == b"well"


@pytest.mark.parametrize("name", BORNE)
def test_t30_what_is_merely_odd_is_borne(gateway: GatewayProcess, name: str) -> None:
    _, status, body = BORNE[name]
    with gateway.client() as client:
        for _ in range(2):  # the odd answer does not harm the connection of either side
            client.send(ask_for(name))
            answer = client.answer()
            assert (answer.status, answer.body, answer.interim) == (status, body, [])
            assert answer.header("trailer") is None
            assert answer.header("upgrade") is None


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_an_answer_that_ends_with_its_connection_ends_cleanly(
    gateway: GatewayProcess, version: str
) -> None:
    answer = gateway.ask(request("/api/v1/service/diabetes/until-close", version=version))
    assert (answer.status, answer.body) == (200, b"well")
    delimited = answer.header("transfer-encoding") == "chunked"
    assert delimited is (version == "HTTP/1.1")


def test_t30_a_gzip_bomb_passes_as_it_is(gateway: GatewayProcess, backend: FakeBackend) -> None:
    before = gateway.memory()
    answer = gateway.ask(ask_for("bomb"))
    assert answer.body == BOMB
    assert answer.header("content-encoding") == "gzip"
    assert gateway.memory() - before < 8 << 20, "64 MiB must not be unpacked here"


def test_t31_nothing_of_the_gateways_own_comes_from_the_container(gateway: GatewayProcess) -> None:
    answer = gateway.ask(ask_for("own-names"))
    assert (answer.status, answer.reason, answer.body) == (200, "OK", b"well")
    assert answer.header("azureml-model-deployment") == "blue"
    assert answer.header("x-model") == "kept"
    assert answer.header("x-request-id") == answer.header("x-ms-request-id") != "forged"
    gone = {"server", "x-powered-by", "x-ms-client-request-id", "ms-azureml-model-error-reason"}
    gone |= {"keep-alive", "proxy-authenticate", "alt-svc", "connection", "x-hop"}
    assert gone.isdisjoint(name for name, _ in answer.headers)


@pytest.mark.parametrize(
    ("endpoint", "status", "text"),
    [("hasty", 504, LATE), ("managed", 408, "upstream request timeout")],
)
@pytest.mark.parametrize("name", ["silent", "drip-head"])
def test_a_container_that_never_answers_is_given_up_at_the_deadline(
    gateway: GatewayProcess,
    backend: FakeBackend,
    name: str,
    endpoint: str,
    status: int,
    text: str,
) -> None:
    backend.seen.clear()
    begun = time.monotonic()
    answer = gateway.ask(ask_for(name, endpoint))
    taken = time.monotonic() - begun
    assert (answer.status, answer.text) == (status, text)
    assert HASTY <= taken < HASTY + 0.5
    assert_well(gateway, backend, name)


def test_an_answer_that_drips_beyond_the_deadline_is_broken_off(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    backend.seen.clear()
    begun = time.monotonic()
    with gateway.client() as client:
        client.send(ask_for("drip-body", "hasty"))
        with pytest.raises(Closed):
            client.answer()
    assert HASTY <= time.monotonic() - begun < HASTY + 0.5
    assert_well(gateway, backend, "drip-body")


@pytest.mark.parametrize(("size", "goes_on"), [(20_000, True), (200_000, False)])
def test_t30_an_answer_before_the_end_of_the_request_is_passed_on(
    gateway: GatewayProcess, early: FakeBackend, size: int, goes_on: bool
) -> None:
    """What is left of a short body is read for the connection's sake, a long one is not."""
    body = b"a" * size
    with gateway.client() as client:
        data = request(
            "/api/v1/service/early/early", body, headers={"Content-Type": "application/x-rows"}
        )
        client.send(data[:10_000])
        answer = client.answer()
        assert (answer.status, answer.body) == (413, b"much")
        wait_until(lambda: early.connections in early.dropped, what="the upstream's end")
        if goes_on:
            assert answer.header("connection") is None
            client.send(data[10_000:] + ask_for("score", "early"))
            assert client.answer().body == b"well"
        else:
            assert answer.header("connection") == "close"
            assert client.is_closed()


def test_t30_an_answer_followed_by_a_reset_is_whole_or_a_502(
    gateway: GatewayProcess, early: FakeBackend
) -> None:
    """The reset may destroy the answer on its way; half of it is never passed on."""
    seen = set()
    for _ in range(30):
        answer = gateway.ask(
            request(
                "/api/v1/service/early/rude",
                b"a" * 50_000,
                headers={"Content-Type": "application/x-rows"},
            )
        )
        seen.add((answer.status, answer.text))
    assert seen <= {(413, "much"), (502, "Replica closed connection before replying")}


def test_t30_bytes_after_an_answer_are_not_taken_for_the_next(tmp_path: Path) -> None:
    """A container answers once too often while its connection is idle."""
    again = threading.Event()

    def behave(link: Link) -> None:
        while link.read_request() is not None:
            link.send(GOOD)
            if link.number == 1:
                assert again.wait(10)
                link.send(HEAD + b"Content-Length: 6\r\n\r\nforged")

    with (
        FakeBackend(behave) as chatty,
        GatewayProcess(minimal(chatty.url), tmp_path) as running,
        running.client() as client,
    ):
        client.send(request(key=KEY))
        assert client.answer().body == b"well"
        again.set()
        wait_until(lambda: 1 in chatty.dropped, what="the end of the chatty connection")
        client.send(request(key=KEY))
        assert client.answer().body == b"well"
        assert [seen.connection for seen in chatty.seen] == [1, 2]
