"""The order of the walk, as a table, and what is done once whatever happens.

Each row is a way out: the answer, and the stages that were passed on the way. Whoever moves a stage
breaks a row by name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import pytest

from gateway.core.backends import Backend
from gateway.core.cors import Cors, CorsRules
from gateway.core.dialects import MANAGED
from gateway.core.faults import Fault
from gateway.core.gates import NOBODY, Gate
from gateway.core.heads import RequestHead
from gateway.core.keys import KeyRing
from gateway.core.traffic import Traffic
from gateway.engine.endpoints import Deployment
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import ContainerSide, Script, Setup

SCORE = request(key=KEY)
LIMIT = 1000
ORIGIN = "https://app.example.com"


class Diary(Script):
    """A script that notes the stages of its walks."""

    def __init__(self, setup: Setup | None = None) -> None:
        self.stages: list[str] = []
        setup = setup or Setup()
        setup.gate = _Gate(self.stages)
        setup.body_limit = LIMIT
        super().__init__(setup)
        self.endpoint.traffic = _Traffic(self.stages, self.deployment)
        self.recorder.then = lambda x: self.stages.append("record")

    def passed(self) -> str:
        return " ".join(self.stages)


class _Gate(Gate):
    __slots__ = ("_stages",)

    def __init__(self, stages: list[str]) -> None:
        super().__init__(KeyRing({"primary": KEY}), None)
        self._stages = stages

    def check(
        self,
        head: RequestHead,
        wall: Callable[[], float],
        certificate: frozenset[str] = NOBODY,
    ) -> str:
        self._stages.append("authenticate")
        return super().check(head, wall, certificate)


class _Traffic(Traffic[Deployment]):
    __slots__ = ("_stages",)

    def __init__(self, stages: list[str], deployment: Deployment) -> None:
        super().__init__({"blue": deployment}, {}, "blue")
        self._stages = stages

    def choose(self, pin: bytes | None, draw: Callable[[], float]) -> Deployment:
        self._stages.append("choose")
        return super().choose(pin, draw)


def answer(container: ContainerSide) -> None:
    container.answers()


def crash(container: ContainerSide) -> None:
    container.answers(head="HTTP/1.1 500 Oh\r\n")


def babble(container: ContainerSide) -> None:
    container.says(b"rubbish\r\n\r\n")


def hang_up(container: ContainerSide) -> None:
    container.ends()


def say_nothing(container: ContainerSide) -> None:
    """Until the time is up."""


PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
PINNED = {"azureml-model-deployment": "nobody"}
LARGE = {"Content-Length": "1000000"}
TO_THE_END = "authenticate choose upstream record"
WAYS_OUT: dict[str, tuple[bytes, Callable[[ContainerSide], None] | None, int, str]] = {
    "no such service": (request("/api/v1/service/x/score", key=KEY), None, 404, "record"),
    "no such service, a stranger": (request("/api/v1/service/x/score"), None, 404, "record"),
    "a preflight": (request(method="OPTIONS", headers=PREFLIGHT), None, 204, "record"),
    "OPTIONS": (request(method="OPTIONS"), None, 204, "record"),
    "no key": (request(), None, 401, "authenticate record"),
    "a wrong key": (request(key="wrong"), None, 401, "authenticate record"),
    "too large": (request(key=KEY, headers=LARGE), None, 413, "authenticate record"),
    "too large, a stranger": (request(headers=LARGE), None, 401, "authenticate record"),
    "not UTF-8": (request(body=b'"\xff"', key=KEY), None, 400, "authenticate record"),
    "not UTF-8, a stranger": (request(body=b'"\xff"'), None, 401, "authenticate record"),
    "not UTF-8, for nobody": (
        request(body=b'"\xff"', key=KEY, headers=PINNED), None, 400, "authenticate record",
    ),
    "nested too deep": (request(body=b"[" * 900, key=KEY), None, 400, "authenticate record"),
    "no such deployment": (request(key=KEY, headers=PINNED), None, 404,
                           "authenticate choose record"),
    "no such deployment, a stranger": (request(headers=PINNED), None, 401, "authenticate record"),
    "no such deployment, too large": (
        request(key=KEY, headers=PINNED | LARGE), None, 413, "authenticate record",
    ),
    "answered": (SCORE, answer, 200, TO_THE_END),
    "a crash": (SCORE, crash, 502, TO_THE_END),
    "no HTTP": (SCORE, babble, 502, TO_THE_END),
    "no answer": (SCORE, hang_up, 502, TO_THE_END),
    "no answer in time": (SCORE, say_nothing, 504, TO_THE_END),
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS_OUT)
def test_the_order_of_the_walk(name: str) -> None:
    sent, behave, status, stages = WAYS_OUT[name]
    with Diary(Setup(cors=Cors(CorsRules([ORIGIN])))) as script:
        client = script.client()
        client.says(sent)
        if behave is not None:
            script.stages.append("upstream")
            behave(script.container())
        if behave is say_nothing:
            script.wait(61)
        assert client.hears().status == status
        assert script.passed() == stages
        assert script.records[0].status == status


def test_an_unreachable_backend_is_found_last() -> None:
    with Diary() as script:
        script.down.add(5001)
        client = script.client()
        client.says(SCORE)
        assert client.hears().status == 503
        assert script.passed() == "authenticate choose record"
        assert script.records[0].fault is Fault.NO_BACKEND


def test_the_body_is_asked_for_between_authentication_and_choice() -> None:
    with Diary() as script:
        client = script.client()
        client.says(request(body=b"[1]", key=KEY, headers={"Expect": "100-continue"})[:-3])
        assert client.heard() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert script.passed() == "authenticate"
        client.says(b"[1]")
        assert script.passed() == "authenticate choose"


def test_a_preflight_never_reaches_a_container() -> None:
    with Script(Setup(cors=Cors(CorsRules([ORIGIN])))) as script:
        client = script.client()
        client.says(request(method="OPTIONS", body=None, headers=PREFLIGHT))
        found = client.hears()
        assert found.status == 204
        assert found.header("access-control-allow-origin") == ORIGIN
        assert found.header("access-control-allow-methods") == "GET, POST"
        assert script.containers == []


@pytest.mark.parametrize("headers", [{}, {"Origin": ORIGIN}], ids=["plain", "with an origin"])
def test_other_options_are_told_what_is_allowed(headers: Mapping[str, str]) -> None:
    with Script(Setup(cors=Cors(CorsRules([ORIGIN])))) as script:
        client = script.client()
        client.says(request(method="OPTIONS", body=None, headers=dict(headers)))
        assert client.hears().header("allow") == "GET, HEAD, POST, OPTIONS"


# Failures of our own.


class _Broken(Traffic[Deployment]):
    def choose(self, pin: bytes | None, draw: Callable[[], float]) -> Deployment:
        raise ZeroDivisionError("a bug of ours")


def test_a_bug_of_ours_is_500_and_logged_and_harms_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Script() as script:
        script.may_fail = True
        sound = script.endpoint.traffic
        script.endpoint.traffic = _Broken({"blue": script.deployment}, {}, "blue")
        client = script.client()
        with caplog.at_level(logging.ERROR, "gateway"):
            client.says(SCORE)
        found = client.hears()
        assert (found.status, found.text) == (500, "The gateway failed to handle this request")
        assert "failed inside the gateway" in caplog.text
        assert "a bug of ours" in caplog.text
        script.endpoint.traffic = sound
        client.says(SCORE)
        script.container().answers()
        assert client.hears().status == 200
        assert [record.fault for record in script.records] == [Fault.INTERNAL, None]


# Counting.


def test_every_way_out_is_counted_once_where_it_belongs() -> None:
    with Script() as script:
        client = script.client()
        client.says(request("/api/v1/service/x/score"), request(), request(headers=PINNED))
        client.says(SCORE)
        container = script.container()
        assert (script.endpoint.tally.in_flight, script.deployment.tally.in_flight) == (1, 1)
        script.wait(0.3)
        container.answers()
        client.says(SCORE)
        container.breaks()
        assert script.unrouted.codes == {404: 1}
        assert script.endpoint.tally.codes == {401: 2}
        assert script.endpoint.tally.faults == {"no_credentials": 2}
        assert script.deployment.tally.codes == {200: 1, 502: 1}
        assert script.deployment.tally.faults == {"upstream_closed": 1}
        assert sum(script.deployment.tally.duration.counts) == 2
        assert script.deployment.tally.duration.total == pytest.approx(0.3)
        assert sum(script.deployment.tally.upstream.counts) == 1
        assert script.deployment.tally.upstream.total == pytest.approx(0.3)


def test_a_slow_stream_counts_for_its_container_up_to_its_head() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE)
        container = script.container()
        script.wait(2)
        container.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        script.wait(5)
        container.says(b"0\r\n\r\n")
        assert client.hears().text == "a"
        assert script.deployment.tally.upstream.total == pytest.approx(2)
        assert script.records[0].seconds == pytest.approx(7)


def test_a_refusal_after_the_head_was_sent_breaks_the_connection() -> None:
    with Script() as script:
        client = script.client()
        client.says(SCORE)
        container = script.container()
        container.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", b"!")
        assert (client.fate, container.fate) == ("aborted", "aborted")
        record = script.records[0]
        assert (record.status, record.fault) == (200, Fault.UPSTREAM_MALFORMED)


def test_the_managed_dialect_speaks_of_itself_in_its_own_words() -> None:
    with Script(Setup(dialect=MANAGED)) as script:
        client = script.client()
        client.says(request())
        assert client.hears().text == "key_auth_bad_header_forbidden"
        client.says(SCORE)
        script.container().answers(head="HTTP/1.1 400 Bad\r\n")
        found = client.hears()
        assert (found.status, found.header("ms-azureml-model-error-statuscode")) == (424, "400")
        client.says(SCORE)
        script.wait(61)
        assert client.hears().status == 408


# What the container is sent.


@pytest.mark.parametrize(
    ("prefix", "line"),
    [(b"", "POST /score?a=1 HTTP/1.1"), (b"/m/1", "POST /m/1/score?a=1 HTTP/1.1")],
)
def test_the_request_of_this_hop(prefix: bytes, line: str) -> None:
    with Script(Setup(backends=(Backend("10.0.0.5", 5001, prefix),))) as script:
        client = script.client()
        headers = {
            "Connection": "keep-alive, X-Hop", "X-Hop": "a", "Keep-Alive": "timeout=5", "TE": "x",
            "Upgrade": "h2c", "Proxy-Authorization": "b", "X-Real-IP": "1.2.3.4",
            "X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4", "X_Under": "c",
            "Accept": "*/*", "Content-Encoding": "gzip",
        }  # fmt: skip
        client.says(request("/api/v1/service/diabetes/score?a=1", b"abc", key=KEY, headers=headers))
        assert script.container().heard().decode() == (
            f"{line}\r\n"
            "Host: 10.0.0.5:5001\r\n"
            "Content-Type: application/json\r\n"
            "Accept: */*\r\n"
            "Content-Encoding: gzip\r\n"
            "X-Forwarded-For: 192.0.2.7\r\n"
            "X-Forwarded-Proto: http\r\n"
            "X-Forwarded-Host: gateway.test\r\n"
            'Forwarded: for=192.0.2.7;proto=http;host="gateway.test"\r\n'
            "x-request-id: 00000000-0000-4000-8000-000000000001\r\n"
            "Content-Length: 3\r\n"
            "\r\n"
            "abc"
        )


@pytest.mark.parametrize(
    ("sent", "line", "length"),
    [
        (request(body=None, method="GET", key=KEY), "GET /score HTTP/1.1", None),
        (request(body=None, method="HEAD", key=KEY), "GET /score HTTP/1.1", None),
        (request(body=b"ab", method="GET", key=KEY), "GET /score HTTP/1.1", "2"),
        (request(body=b"", key=KEY), "POST /score HTTP/1.1", "0"),
        (request(body=None, key=KEY), "POST /score HTTP/1.1", "0"),
    ],
    ids=["GET", "HEAD", "GET with a body", "POST of nothing", "POST without a length"],
)
def test_every_request_is_framed_anew(sent: bytes, line: str, length: str | None) -> None:
    with Script() as script:
        script.client().says(sent)
        seen = script.container().hears()
        assert (seen.line, seen.header("content-length")) == (line, length)
        assert seen.header("authorization") is None


def test_a_clients_own_request_id_is_passed_on_instead_of_ours() -> None:
    with Script() as script:
        script.client().says(request(key=KEY, headers={"x-request-id": "theirs"}))
        assert script.container().hears().header("x-request-id") == "theirs"


# Redirects.

V1_PATH = "/api/v1/service/diabetes"
RELOCATIONS = [
    ("", "/x", f"{V1_PATH}/x"),
    ("", "/", f"{V1_PATH}/"),
    ("", "/x?y=/z#a", f"{V1_PATH}/x?y=/z#a"),
    ("", "http://10.0.0.5:5001/x", f"{V1_PATH}/x"),
    ("", "http://10.0.0.5:5001", f"{V1_PATH}/"),
    ("", "http://10.0.0.5:50011/x", "http://10.0.0.5:50011/x"),
    ("", "http://10.0.0.5:5001.evil.test/x", "http://10.0.0.5:5001.evil.test/x"),
    ("", "https://login.test/x", "https://login.test/x"),
    ("", "//other.test/x", "//other.test/x"),
    ("", "x/y", "x/y"),
    ("", "?y", "?y"),
    ("/m", "/m/x", f"{V1_PATH}/x"),
    ("/m", "http://10.0.0.5:5001/m/x", f"{V1_PATH}/x"),
]
BESIDE = [("/m", "/model/x"), ("/m", "http://10.0.0.5:5001/mx")]


def relocated(prefix: str, location: str, name: str = "Location") -> str | None:
    backend = Backend("10.0.0.5", 5001, prefix.encode())
    with Script(Setup(backends=(backend,))) as script:
        client = script.client()
        client.says(SCORE)
        script.container().answers(head=f"HTTP/1.1 302 Found\r\n{name}: {location}\r\n")
        return client.hears().header(name)


@pytest.mark.parametrize(("prefix", "location", "expected"), RELOCATIONS)
@pytest.mark.parametrize("name", ["Location", "Content-Location"])
def test_a_redirect_stays_outside(prefix: str, location: str, expected: str, name: str) -> None:
    assert relocated(prefix, location, name) == expected


@pytest.mark.parametrize(("prefix", "location"), BESIDE)
def test_a_redirect_beside_the_prefix_is_not_mangled(prefix: str, location: str) -> None:
    found = relocated(prefix, location) or ""
    assert found.endswith(("/model/x", "/mx"))


# What is refused again and again.


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(path="/api/v1/service/unknown/score", key=KEY), 404),
        (request(method="PUT", key=KEY), 405),
        (request(path="/api/v1/service/diabetes/a%2fb", key=KEY), 400),
    ],
    ids=["no such endpoint", "method", "path"],
)
def test_a_refusal_that_is_remembered_does_not_grow(sent: bytes, status: int) -> None:
    with Script() as script:
        for _ in range(20):
            client = script.client()
            client.says(sent)
            assert client.hears().status == status
        routed, _ = script.listener.plane.reader.read(sent.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        assert routed.refusal is not None
        assert routed.refusal.__traceback__ is None


@pytest.mark.parametrize("line", ["PUT", "Expect"])
def test_whom_nothing_is_done_for_is_answered_and_counted_by_its_endpoint(line: str) -> None:
    cors = Cors(CorsRules(origins=["https://app.test"]))
    headers = {"Origin": "https://app.test", "x-ms-client-request-id": "mine"}
    if line == "Expect":
        sent = request(key=KEY, headers=headers | {"Expect": "gold"})
    else:
        sent = request(method=line, key=KEY, headers=headers)
    with Script(Setup(cors=cors)) as script:
        client = script.client()
        client.says(sent)
        answer = client.hears()
        assert answer.status == (405 if line == "PUT" else 417)
        assert answer.header("access-control-allow-origin") == "https://app.test"
        assert answer.header("x-ms-client-request-id") == "mine"
        assert (client.fate, script.containers) == ("shut", [])
        assert script.endpoint.tally.codes == {answer.status: 1}
