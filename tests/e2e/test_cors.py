"""Cross-origin rules on the wire, threat T41. What a browser makes of them is in ``test_browser``.

The promise: exactly the configured origins may read the answers, errors included; every answer of
such an endpoint says that it varies by origin; and a preflight is answered here, at once and
without a key, and never reaches a container.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.backends import FakeBackend, choosing
from tests.support.gateways import KEY, GatewayProcess
from tests.support.raw import Answer, request

APP = "https://app.example.com"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell"
OWN_CORS = (
    b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept\r\n"
    b"Access-Control-Expose-Headers: X-Model\r\nContent-Length: 4\r\n\r\nwell"
)
EXPOSED = (
    "x-ms-request-id, x-request-id, x-ms-client-request-id, x-ms-run-function-failed, "
    "x-ms-run-fn-exec-ms, azureml-model-deployment, ms-azureml-model-error-statuscode, "
    "ms-azureml-model-error-reason"
)


@pytest.fixture(scope="module")
def backend() -> Iterator[FakeBackend]:
    failed = b"HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\nfailed"
    table = {"fails": failed, "sick": b"HTTP/9.9\r\n\r\n", "own-cors": OWN_CORS}
    with FakeBackend(choosing(table, GOOD)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    keys = "auth: {keys: {primary: {env: TEST_KEY}}}, limits: {body: 1KiB}"
    rest = f"{keys}, deployments: {{blue: {{backends: [{backend.url}]}}}}"
    text = f"""
listen: 127.0.0.1:0
admin: 127.0.0.1:0
endpoints:
  exact: {{{rest}, cors: {{origins: ["{APP}", "http://localhost:3000"], credentials: true}}}}
  sub: {{{rest}, cors: {{origins: ["https://*.example.com"]}}}}
  any: {{{rest}, cors: {{origins: ["*"], headers: ["*"], max_age: 1h}}}}
  none: {{{rest}}}
"""
    with GatewayProcess(text, tmp_path_factory.mktemp("cors")) as running:
        yield running
        assert running.complaints() == []


def cors(answer: Answer) -> dict[str, str]:
    """Its headers of that kind, without the prefix that all of them have."""
    start = "access-control-"
    pairs = [(name, value) for name, value in answer.headers if name.startswith(start)]
    assert len(dict(pairs)) == len(pairs), "none may be there twice"
    return {name.removeprefix(start): value for name, value in pairs}


def score(
    gateway: GatewayProcess, endpoint: str, origin: str | None, path: str = "/score"
) -> Answer:
    headers = {} if origin is None else {"Origin": origin}
    path = f"/api/v1/service/{endpoint}{path}"
    return gateway.ask(request(path, key=KEY, headers=headers))


def preflight(
    gateway: GatewayProcess, endpoint: str, origin: str, method: str = "POST", **more: str
) -> Answer:
    headers = {"Origin": origin, "Access-Control-Request-Method": method}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    path = f"/api/v1/service/{endpoint}/score"
    return gateway.ask(request(path, None, method="OPTIONS", headers=headers))


@pytest.mark.parametrize("origin", [APP, "http://localhost:3000"])
def test_t41_a_configured_origin_may_read_the_answer(gateway: GatewayProcess, origin: str) -> None:
    answer = score(gateway, "exact", origin)
    assert (answer.status, answer.text) == (200, "well")
    assert cors(answer) == {
        "allow-origin": origin,
        "allow-credentials": "true",
        "expose-headers": EXPOSED,
    }
    assert answer.header("vary") == "Origin"


STRANGERS = [
    "null",
    "https://evil.com",
    "https://app.example.com.evil.com",
    "https://evil-app.example.com",
    "https://evil.com/https://app.example.com",
    "https://app.example.comx",
    "https://app.example.co",
    "https://APP.example.com",
    "https://app.example.com:443",
    "https://app.example.com:8443",
    "https://app.example.com/",
    "https://app.example.com.",
    "https://user@app.example.com",
    "http://app.example.com",
    "http://localhost:3001",
    "http://localhost",
    f"{APP} https://evil.com",
    f"{APP}, {APP}",
    "*",
    "",
]


@pytest.mark.parametrize("origin", STRANGERS)
def test_t41_no_other_origin_is_told_anything(
    gateway: GatewayProcess, backend: FakeBackend, origin: str
) -> None:
    answer = score(gateway, "exact", origin)
    assert (answer.status, cors(answer), answer.header("vary")) == (200, {}, "Origin")
    before = len(backend.seen)
    answer = preflight(gateway, "exact", origin, Access_Control_Request_Headers="authorization")
    assert (answer.status, cors(answer), answer.body) == (204, {}, b"")
    assert len(backend.seen) == before


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://a.example.com", True),
        ("https://a.b.example.com", True),
        ("https://example.com", False),
        ("https://.example.com", False),
        ("https://evilexample.com", False),
        ("https://a.example.com.evil.com", False),
        ("https://a.example.com:8443", False),
        ("http://a.example.com", False),
        ("https://evil.com#.example.com", False),
        ("https://evil.com?.example.com", False),
        ("null", False),
    ],
)
def test_t41_sub_domains_are_sub_domains(
    gateway: GatewayProcess, origin: str, allowed: bool
) -> None:
    answer = score(gateway, "sub", origin)
    assert cors(answer).get("allow-origin") == (origin if allowed else None)
    assert "allow-credentials" not in cors(answer)
    assert answer.header("vary") == "Origin"


def test_t41_any_origin_is_never_any_origin_with_credentials(gateway: GatewayProcess) -> None:
    for origin in (APP, "null", "https://evil.com"):
        answer = score(gateway, "any", origin)
        assert cors(answer) == {"allow-origin": "*", "expose-headers": EXPOSED}


ERRORS = {
    401: request("/api/v1/service/exact/score", headers={"Origin": APP}),
    413: request("/api/v1/service/exact/score", b"x" * 1025, headers={"Origin": APP}, key=KEY),
    404: request(
        "/api/v1/service/exact/score",
        headers={"Origin": APP, "azureml-model-deployment": "grey"},
        key=KEY,
    ),
    502: request("/api/v1/service/exact/sick", headers={"Origin": APP}, key=KEY),
}


@pytest.mark.parametrize("status", ERRORS)
def test_t41_an_allowed_page_may_read_errors(gateway: GatewayProcess, status: int) -> None:
    answer = gateway.ask(ERRORS[status])
    assert answer.status == status
    assert cors(answer)["allow-origin"] == APP
    assert answer.header("vary") == "Origin"


def test_t41_answers_vary_by_origin_even_without_one(gateway: GatewayProcess) -> None:
    """A cache that keeps an answer for one page must not hand it to another."""
    for answer in (
        score(gateway, "exact", None),
        score(gateway, "exact", None, "/fails"),
        gateway.ask(request("/api/v1/service/exact/score")),
    ):
        assert (cors(answer), answer.header("vary")) == ({}, "Origin")


@pytest.mark.parametrize("asked", ["authorization,content-type", "x-strange", ""])
def test_t41_a_preflight_is_answered_here(
    gateway: GatewayProcess, backend: FakeBackend, asked: str
) -> None:
    before = len(backend.seen)
    answer = preflight(gateway, "exact", APP, Access_Control_Request_Headers=asked)
    assert (answer.status, answer.body) == (204, b"")
    assert cors(answer) == {
        "allow-origin": APP,
        "allow-credentials": "true",
        "allow-methods": "GET, POST",
        "allow-headers": "authorization, content-type, azureml-model-deployment",
        "max-age": "600",
    }
    assert (answer.header("vary") or "").startswith("Origin, Access-Control-Request-Method")
    assert answer.header("x-ms-request-id")
    assert len(backend.seen) == before


@pytest.mark.parametrize("method", ["PUT", "DELETE", "post", "PATCH", "*", ""])
def test_t41_a_preflight_for_another_method_is_not_granted(
    gateway: GatewayProcess, method: str
) -> None:
    answer = preflight(gateway, "exact", APP, method)
    assert (answer.status, cors(answer)) == (204, {})


def test_t41_any_header_means_those_that_were_asked_for(gateway: GatewayProcess) -> None:
    asked = "authorization,x-custom, content-type"
    answer = preflight(gateway, "any", APP, Access_Control_Request_Headers=asked)
    assert cors(answer)["allow-headers"] == "authorization, x-custom, content-type"
    assert cors(answer)["max-age"] == "3600"


def test_t05_headers_that_are_no_names_are_not_given_back(gateway: GatewayProcess) -> None:
    for asked in ("x-a\xe9", "a b", "a;b", 'x"y', "<b>", "a\tb"):
        answer = preflight(gateway, "any", APP, Access_Control_Request_Headers=asked)
        assert asked not in cors(answer).get("allow-headers", "")


def test_t41_private_networks_are_not_opened_unless_said(gateway: GatewayProcess) -> None:
    more = {"Access_Control_Request_Private_Network": "true"}
    assert "allow-private-network" not in cors(preflight(gateway, "exact", APP, **more))


def test_t41_the_rules_of_the_gateway_replace_the_containers(gateway: GatewayProcess) -> None:
    answer = score(gateway, "exact", "https://evil.com", "/own-cors")
    assert cors(answer) == {}
    assert [value for name, value in answer.headers if name == "vary"] == ["Accept", "Origin"]
    assert cors(score(gateway, "exact", APP, "/own-cors"))["allow-origin"] == APP


def test_without_rules_the_containers_own_pass_and_options_says_what_is_served(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    answer = score(gateway, "none", APP, "/own-cors")
    assert cors(answer) == {"allow-origin": "*", "expose-headers": "X-Model"}
    assert cors(score(gateway, "none", APP)) == {}
    before = len(backend.seen)
    answer = preflight(gateway, "none", APP)
    assert (answer.status, cors(answer)) == (204, {})
    assert answer.header("allow") == "GET, HEAD, POST, OPTIONS"
    assert len(backend.seen) == before
