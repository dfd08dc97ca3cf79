"""Request identifiers and the other headers that tie a request together, on the wire.

Contract.md 1.4 and 2.5, threat T05. The promise: every answer carries a GUID of ours; a client's
own identifiers reach the container and come back as each dialect says; nothing that a client puts
into them becomes more than the value of that one header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.backends import FakeBackend, Seen, answering
from tests.support.gateways import KEY, GatewayProcess
from tests.support.raw import Answer, request

GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
OURS = "our GUID"
IDS = ("x-request-id", "x-ms-request-id", "x-ms-client-request-id")


@pytest.fixture(scope="module")
def backend() -> Iterator[FakeBackend]:
    # What a container answers here is the front end's to say, so none of it may come through.
    headers = "".join(f"{name}: of-the-container\r\n" for name in IDS)
    with FakeBackend(answering(headers=headers)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    keys = "auth: {keys: {primary: {env: TEST_KEY}}}"
    rest = f"{keys}, deployments: {{blue: {{backends: [{backend.url}]}}}}"
    text = (
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nendpoints:\n"
        f"  v1: {{{rest}}}\n  managed: {{{rest}, dialect: managed}}\n"
    )
    with GatewayProcess(text, tmp_path_factory.mktemp("identifiers")) as running:
        yield running
        assert running.complaints() == []


def ask(
    gateway: GatewayProcess, backend: FakeBackend, endpoint: str, headers: dict[str, str]
) -> tuple[Answer, Seen]:
    backend.seen.clear()
    path = f"/api/v1/service/{endpoint}/score"
    answer = gateway.ask(request(path, headers=headers, key=KEY))
    assert len(backend.seen) == 1
    return answer, backend.seen[0]


A, B, C = "id-A", "id-B", "id-C"
# In contract.md 2.5's order: what comes in, what the container gets, what goes out.
TRUTH = [
    ("v1", (None, None, None), (OURS, None, None), (OURS, OURS, None)),
    ("v1", (A, None, None), (A, None, None), (A, OURS, None)),
    ("v1", (None, B, None), (OURS, B, None), (OURS, OURS, B)),
    ("v1", (A, B, None), (A, B, None), (A, OURS, B)),
    ("v1", (None, None, C), (OURS, None, C), (OURS, OURS, C)),
    ("v1", (A, None, C), (A, None, C), (A, OURS, C)),
    ("v1", (None, B, C), (OURS, B, C), (OURS, OURS, C)),
    ("v1", (A, B, C), (A, B, C), (A, OURS, C)),
    ("managed", (None, None, None), (OURS, None, None), (OURS, OURS, None)),
    ("managed", (A, None, None), (OURS, None, None), (OURS, OURS, None)),
    ("managed", (None, B, None), (OURS, None, B), (OURS, OURS, B)),
    ("managed", (A, None, C), (OURS, None, C), (OURS, OURS, C)),
    ("managed", (A, B, C), (OURS, None, C), (OURS, OURS, C)),
]


@pytest.mark.parametrize(("endpoint", "sent", "received", "returned"), TRUTH)
def test_identifiers_follow_the_truth_table(
    gateway: GatewayProcess,
    backend: FakeBackend,
    endpoint: str,
    sent: tuple[str | None, ...],
    received: tuple[str | None, ...],
    returned: tuple[str | None, ...],
) -> None:
    headers = {name: value for name, value in zip(IDS, sent, strict=True) if value is not None}
    answer, seen = ask(gateway, backend, endpoint, headers)
    ours = answer.header("x-ms-request-id") or ""
    assert GUID.fullmatch(ours)

    def named(values: tuple[str | None, ...]) -> list[str | None]:
        return [ours if value == OURS else value for value in values]

    assert [seen.header(name) for name in IDS] == named(received)
    assert [answer.header(name) for name in IDS] == named(returned)


def test_every_answer_has_a_guid_of_its_own(gateway: GatewayProcess) -> None:
    found = set()
    with gateway.client() as client:
        for number in range(300):
            key = KEY if number % 2 else "wrong-key-of-somebody"
            client.send(request("/api/v1/service/v1/score", key=key))
            answer = client.answer()
            assert answer.status == (200 if number % 2 else 401)
            found.add(answer.header("x-ms-request-id"))
    assert len(found) == 300
    assert all(GUID.fullmatch(identifier or "") for identifier in found)


REFUSED = {
    "unknown-service": request("/api/v1/service/nowhere/score"),
    "no-key": request("/api/v1/service/v1/score"),
    "not-HTTP": b"hello\r\n\r\n",
    "bad-header": request(headers={"X A": "a"}),
    "method": request(method="DELETE"),
    "version": request(version="HTTP/3.0"),
    "dot-segments": request("/api/v1/service/v1/../admin", key=KEY),
}


@pytest.mark.parametrize("name", REFUSED)
def test_answers_of_the_gateways_own_have_one_too(gateway: GatewayProcess, name: str) -> None:
    answer = gateway.ask(REFUSED[name])
    assert answer.status >= 400
    assert GUID.fullmatch(answer.header("x-ms-request-id") or "")
    assert answer.header("x-request-id") == answer.header("x-ms-request-id")


def test_an_error_still_names_the_clients_own(gateway: GatewayProcess) -> None:
    headers = {"x-ms-client-request-id": "call-17", "x-request-id": "of-mine"}
    answer = gateway.ask(request("/api/v1/service/v1/score", headers=headers))
    assert (answer.status, answer.header("x-ms-client-request-id")) == (401, "call-17")
    assert answer.header("x-request-id") == "of-mine"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("plain_Text-40", "plain_Text-40"),
        ("x" * 41, "x" * 40),
        ("a b;c<d>\"e'", "abcde"),
        ("../../etc/passwd", "etcpasswd"),
        ("\xe9t\xe9", "t"),
        ("!!!", None),
        ("", None),
        ("a\tb", "ab"),
    ],
)
def test_t05_managed_reduces_the_clients_identifier(
    gateway: GatewayProcess, backend: FakeBackend, sent: str, expected: str | None
) -> None:
    answer, seen = ask(gateway, backend, "managed", {"x-ms-client-request-id": sent})
    assert answer.header("x-ms-client-request-id") == expected
    assert seen.header("x-ms-client-request-id") == expected


@pytest.mark.parametrize("header", ["x-request-id", "x-ms-client-request-id"])
@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("x" * 101, "x" * 100),
        ("caf\xe9", "caf?"),
        ("a\tb", "a?b"),
        ("%0d%0aSet-Cookie: a=b", "%0d%0aSet-Cookie: a=b"),
        ('{"admin": true}', '{"admin": true}'),
        ("<script>", "<script>"),
    ],
    ids=["long", "not-ASCII", "tab", "escaped-line-end", "JSON", "markup"],
)
def test_t05_v1_echoes_only_printable_ascii(
    gateway: GatewayProcess, backend: FakeBackend, header: str, sent: str, echoed: str
) -> None:
    """The container judges the client's own value (431 beyond 100); our echo is bounded."""
    answer, seen = ask(gateway, backend, "v1", {header: sent})
    assert answer.header(header) == echoed
    assert seen.header(header) == sent
    assert answer.header("set-cookie") is None


@pytest.mark.parametrize("header", [*IDS, "traceparent", "azureml-model-deployment"])
@pytest.mark.parametrize(
    "value", ["a\nX-Evil: b", "a\rX-Evil: b", "a\r\n X-Evil: b", "a\0b", "a\x01b", "a\x7fb"]
)
def test_t05_what_could_split_a_header_is_refused_at_the_door(
    gateway: GatewayProcess, backend: FakeBackend, header: str, value: str
) -> None:
    backend.seen.clear()
    for endpoint in ("v1", "managed"):
        path = f"/api/v1/service/{endpoint}/score"
        answer = gateway.ask(request(path, headers={header: value}, key=KEY))
        assert answer.status == 400
        assert "evil" not in repr(answer).lower()
    assert backend.seen == []


@pytest.mark.parametrize("header", IDS)
def test_t05_an_identifier_given_twice_is_refused(gateway: GatewayProcess, header: str) -> None:
    data = request("/api/v1/service/v1/score", headers={header: f"a\r\n{header}: b"}, key=KEY)
    answer = gateway.ask(data)
    assert (answer.status, answer.text) == (400, f"Bad request: more than one {header} header")


def test_trace_context_and_office_headers_pass(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    sent = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
        "TraceId": "office-1",
        "azureml-collect-request": "false",
        "Accept": "application/json",
        "User-Agent": "azsdk-python-ai-ml/1.0",
        "Inference-Header-Content-Length": "3",
    }
    _, seen = ask(gateway, backend, "v1", sent)
    assert {name: seen.header(name) for name in sent} == sent
    assert seen.header("host") == backend.url.removeprefix("http://")
    assert seen.header("x-forwarded-for") == "127.0.0.1"
    assert seen.header("x-forwarded-host") == "gateway.test"


def test_credentials_do_not_reach_the_container(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    _, seen = ask(gateway, backend, "v1", {"Proxy-Authorization": f"Basic {KEY}"})
    assert KEY.encode() not in seen.head
    assert b"authorization" not in seen.head.lower()
