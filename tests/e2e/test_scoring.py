"""The main job: a client's request, the gateway, a real container, and its answer back.

Contract.md 1.1 to 1.4, 2.3 and 2.4. The promise: what a client of Azure ML gets from the gateway
is what the container says, status, body and headers, except where the front end is known to change
it. So most answers here are compared with what the same container says to the same request itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gateway.control.demo import ROWS
from tests.support.containers import Container
from tests.support.gateways import KEY, SECOND_KEY, GatewayProcess, minimal
from tests.support.raw import Answer, RawClient, request

GUIDE = json.dumps({"data": ROWS}).encode()
# Set by the gateway, belonging to one connection only, or different in every answer.
OWN = {
    "x-request-id", "x-ms-request-id", "x-ms-client-request-id", "azureml-model-deployment",
    "server", "date", "connection", "content-length", "transfer-encoding", "x-ms-run-fn-exec-ms",
}  # fmt: skip
RAW = """
import json

from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse


def init():
    pass


@rawhttp
def run(request):
    do = request.args.get("do")
    if do == "raise":
        raise ValueError("what only the container's log may say")
    if do == "status":
        headers = {"X-Model": "ridge", "WWW-Authenticate": "Model", "Retry-After": "7"}
        return AMLResponse("as asked", int(request.args["code"]), headers)
    if do == "headers":
        return AMLResponse(json.dumps([list(pair) for pair in request.headers]), 200)
    if do == "stream":
        return AMLResponse((b"piece %d\\n" % n for n in range(1000)), 200)
    return AMLResponse(request.get_data(), 200, {"Content-Type": "application/octet-stream"})
"""
PLAIN = """
def init():
    pass


def run(data, request_headers):
    if data == "trouble":
        try:
            raise ValueError("told in so many words")
        except ValueError as error:
            return str(error)
    return {"data": data, "content type": request_headers.get("Content-Type")}
"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A container whose run() is given the whole request."""
    script = tmp_path_factory.mktemp("raw") / "score.py"
    script.write_text(RAW)
    with Container(script.parent, script) as running:
        yield running


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A container whose run() has no schema: it is given text."""
    script = tmp_path_factory.mktemp("plain") / "score.py"
    script.write_text(PLAIN)
    with Container(script.parent, script) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    container: Container, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """One endpoint, the demo's."""
    folder = tmp_path_factory.mktemp("gateway")
    with GatewayProcess(minimal(container.url), folder) as running:
        yield running
        assert running.complaints() == []


@pytest.fixture(scope="module")
def several(
    container: Container,
    raw: Container,
    plain: Container,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayProcess]:
    """An endpoint for each container, and the same ones in the managed dialect."""
    lines = ["listen: 127.0.0.1:0", "admin: 127.0.0.1:0", "endpoints:"]
    for name, box in (("demo", container), ("raw", raw), ("plain", plain)):
        deployments = f"deployments: {{blue: {{backends: [{box.url}]}}}}"
        keys = "keys: {primary: {env: TEST_KEY}}"
        lines += [
            f"  {name}: {{auth: {{{keys}}}, hosts: [{name}.test], {deployments}}}",
            f"  managed-{name}: {{auth: {{{keys}}}, dialect: managed, {deployments}}}",
            f"  trusting-{name}: {{auth: {{{keys}, forward_credentials: true}}, {deployments}}}",
        ]
    text = "\n".join(lines) + "\n"
    with GatewayProcess(text, tmp_path_factory.mktemp("several")) as running:
        yield running
        assert running.complaints() == []


def v1(endpoint: str, path: str, body: bytes | None = None, **more: str) -> bytes:
    """A request for ``path`` of an endpoint's container; ``more`` are headers."""
    return _to(f"/api/v1/service/{endpoint}{path}", body, {"Authorization": f"Bearer {KEY}"}, more)


def direct(box: Container, path: str, body: bytes | None = None, **more: str) -> Answer:
    """What the container says to the same request itself."""
    with RawClient(("127.0.0.1", box.port)) as client:
        client.send(_to(path, body, {}, more))
        return client.answer()


def _to(path: str, body: bytes | None, headers: dict[str, str], more: dict[str, str]) -> bytes:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    method = "GET" if body is None else "POST"
    return request(path, body, method=method, headers=headers | named)


def meaning(answer: Answer) -> list[tuple[str, str]]:
    return sorted(pair for pair in answer.headers if pair[0] not in OWN)


@pytest.mark.parametrize("key", [KEY, SECOND_KEY])
def test_both_keys_score_the_two_rows_of_the_guide(
    gateway: GatewayProcess, container: Container, key: str
) -> None:
    answer = gateway.ask(request(body=GUIDE, key=key))
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.header("x-ms-run-function-failed") == "False"
    assert float(answer.header("x-ms-run-fn-exec-ms") or "") > 0
    assert answer.header("azureml-model-deployment") == "blue"
    assert len(json.loads(answer.body)) == 2
    assert answer.body == direct(container, "/score", GUIDE).body


# Path and body (None: GET), content type, and the status that the container is known to give.
THROUGH = {
    "score": ("/score", GUIDE, "application/json", 200),
    "score-with-a-charset": ("/score", GUIDE, "application/json; charset=utf-8", 200),
    "score-as-json-of-a-kind": ("/score", GUIDE, "application/vnd.rows+json", 200),
    "score-by-query": ("/score?data=" + json.dumps(ROWS).replace(" ", ""), None, "", 200),
    "health": ("/", None, "", 200),
    "swagger": ("/swagger.json", None, "", 200),
    "swagger-2": ("/swagger.json?version=2", None, "", 200),
    "swagger-3": ("/swagger.json?version=3", None, "", 200),
    "swagger-3.1": ("/swagger.json?version=3.1", None, "", 200),
    "swagger-4": ("/swagger.json?version=4", None, "", 404),
    "a-sub-path": ("/v2/health/ready", None, "", 404),
    "score-with-a-slash": ("/score/", GUIDE, "application/json", 404),
    "a-sub-path-with-an-escape": ("/v2/models/a%20b/infer", b"{}", "application/json", 404),
    "method-not-allowed": ("/", b"{}", "application/json", 405),
    "malformed-JSON": ("/score", b'{"data": [', "application/json", 400),
    "empty-body": ("/score", b"", "application/json", 400),
    "not-an-object": ("/score", b"[1, 2]", "application/json", 400),
    "a-parameter-is-missing": ("/score", b'{"rows": []}', "application/json", 400),
    "not-JSON": ("/score", GUIDE, "text/plain", 415),
    "form": ("/score", b"data=1", "application/x-www-form-urlencoded", 415),
}


@pytest.mark.parametrize("name", THROUGH)
def test_v1_passes_on_what_the_container_says(
    several: GatewayProcess, container: Container, name: str
) -> None:
    path, body, kind, status = THROUGH[name]
    more = {"Content_Type": kind} if kind else {}
    ours, its = several.ask(v1("demo", path, body, **more)), direct(container, path, body, **more)
    assert ours.status == its.status == status
    assert ours.body == its.body
    assert meaning(ours) == meaning(its)


def test_health_and_swagger_are_those_of_the_container(gateway: GatewayProcess) -> None:
    assert gateway.ask(v1("diabetes", "/")).body == b"Healthy"
    assert gateway.ask(v1("diabetes", "")).body == b"Healthy"
    assert gateway.ask(v1("diabetes", "/nowhere")).text == (
        '{"message": "The requested URL was not found on the server. If you entered the URL '
        'manually please check your spelling and try again."}'
    )
    swagger = json.loads(gateway.ask(v1("diabetes", "/swagger.json")).body)
    assert swagger["swagger"] == "2.0"
    score = swagger["paths"]["/api/v1/service/diabetes/score"]
    assert score["post"]["operationId"] == "RunMLService"


@pytest.mark.parametrize("host", ["demo.test", "DEMO.test:8080", "demo.test."])
def test_v2_paths_are_found_by_host(several: GatewayProcess, host: str) -> None:
    answer = several.ask(request("/score", GUIDE, key=KEY, host=host))
    assert (answer.status, len(json.loads(answer.body))) == (200, 2)
    answer = several.ask(request("/swagger.json", None, method="GET", key=KEY, host=host))
    assert answer.status == 200


def test_v2_paths_of_an_unknown_host_are_nobodys(several: GatewayProcess) -> None:
    answer = several.ask(request("/score", GUIDE, key=KEY, host="other.test"))
    assert (answer.status, answer.text) == (404, "There is no such service here")


def test_v2_paths_need_no_host_name_when_there_is_one_endpoint(gateway: GatewayProcess) -> None:
    assert gateway.ask(request("/score", GUIDE, key=KEY, host="whatever.test")).status == 200
    lines = ["POST /score HTTP/1.0", f"Authorization: Bearer {KEY}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(GUIDE)}", "", ""]
    assert gateway.ask("\r\n".join(lines).encode() + GUIDE).status == 200


@pytest.mark.parametrize("keep", [False, True])
def test_an_http_1_0_client_is_served(gateway: GatewayProcess, keep: bool) -> None:
    """ApacheBench, with and without -k."""
    headers = {"Connection": "Keep-Alive"} if keep else {}
    data = request(body=GUIDE, key=KEY, headers=headers, version="HTTP/1.0")
    with gateway.client() as client:
        for _ in range(2 if keep else 1):
            client.send(data)
            answer = client.answer()
            assert (answer.status, len(json.loads(answer.body))) == (200, 2)
            assert answer.header("connection") == ("keep-alive" if keep else "close")
        assert keep or client.is_closed()


def test_an_http_1_0_client_gets_a_streamed_answer_up_to_the_end(several: GatewayProcess) -> None:
    expected = b"".join(b"piece %d\n" % number for number in range(1000))
    data = v1("raw", "/score?do=stream", b"")
    answer = several.ask(data.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (answer.status, answer.body) == (200, expected)
    assert answer.header("transfer-encoding") is None
    answer = several.ask(data)
    assert (answer.status, answer.body) == (200, expected)
    assert answer.header("transfer-encoding") == "chunked"


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/json", 'x/y; a="b"'])
@pytest.mark.parametrize("size", [0, 1, 256, 65536, 65537, 3 << 20])
def test_bodies_pass_untouched_in_both_directions(
    several: GatewayProcess, kind: str, size: int
) -> None:
    body = (
        b"x" * size
        if kind == "application/json"
        else (bytes(range(256)) * (size // 256 + 1))[:size]
    )
    answer = several.ask(v1("raw", "/score", body, Content_Type=kind))
    assert answer.status == 200
    assert answer.body == body
    assert answer.header("content-type") == "application/octet-stream"


def test_a_chunked_body_reaches_the_container(gateway: GatewayProcess) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (GUIDE[:7], GUIDE[7:]))
    data = request(body=None, key=KEY, method="POST", headers={
        "Content-Type": "application/json", "Transfer-Encoding": "chunked"
    }) + chunks + b"0\r\n\r\n"  # fmt: skip
    answer = gateway.ask(data)
    assert (answer.status, len(json.loads(answer.body))) == (200, 2)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[1, 2]", "application/json"),
        ("größer".encode(), "text/plain; charset=utf-8"),
        (b"a=1&b=2", "application/x-www-form-urlencoded"),
        (b"", "application/json"),
        (b"trouble", "application/json"),
        (b"\xff\xfe", "text/plain"),
    ],
    ids=["JSON", "text", "form", "empty", "str(error)", "not-UTF-8"],
)
def test_a_run_without_schema_gets_what_it_would_get_directly(
    several: GatewayProcess, plain: Container, body: bytes, kind: str
) -> None:
    ours = several.ask(v1("plain", "/score", body, Content_Type=kind))
    its = direct(plain, "/score", body, Content_Type=kind)
    assert (ours.status, ours.body) == (its.status, its.body)
    assert meaning(ours) == meaning(its)
    if ours.status == 200 and body != b"trouble":
        assert json.loads(ours.body)["content type"] == kind


@pytest.mark.parametrize("code", [201, 204, 301, 400, 401, 403, 404, 418, 422, 429, 501, 503, 599])
def test_v1_leaves_every_status_but_500_alone(
    several: GatewayProcess, raw: Container, code: int
) -> None:
    path = f"/score?do=status&code={code}"
    ours, its = several.ask(v1("raw", path, b"")), direct(raw, path, b"")
    assert (ours.status, ours.body) == (code, its.body)
    assert meaning(ours) == meaning(its)
    assert ours.header("x-model") == "ridge"
    assert ours.header("ms-azureml-model-error-statuscode") is None


@pytest.mark.parametrize("path", ["/score?do=raise", "/score?do=status&code=500"])
def test_v1_turns_the_models_500_into_502(
    several: GatewayProcess, raw: Container, path: str
) -> None:
    ours, its = several.ask(v1("raw", path, b"")), direct(raw, path, b"")
    assert (its.status, ours.status, ours.reason) == (500, 502, "Bad Gateway")
    assert ours.body == its.body
    assert meaning(ours) == meaning(its)
    assert ours.header("x-ms-run-function-failed") == "True"
    assert b"what only" not in ours.body


@pytest.mark.parametrize("code", [201, 204, 400, 404, 418, 429, 500, 503])
def test_managed_wraps_every_status_but_200_into_424(
    several: GatewayProcess, raw: Container, code: int
) -> None:
    path = f"/score?do=status&code={code}"
    ours, its = several.ask(v1("managed-raw", path, b"")), direct(raw, path, b"")
    assert (ours.status, ours.reason, ours.body) == (424, "Failed Dependency", its.body)
    assert ours.header("ms-azureml-model-error-statuscode") == str(code)
    assert ours.header("ms-azureml-model-error-reason") == "model_error"
    wrapped = [pair for pair in meaning(ours) if not pair[0].startswith("ms-azureml-model-error")]
    assert wrapped == meaning(its)


def test_managed_tells_the_containers_own_reason(several: GatewayProcess) -> None:
    answer = several.ask(v1("managed-demo", "/score", b"{}"))
    message = "A value is not provided for the 'data' parameter."
    assert (answer.status, json.loads(answer.body)) == (424, {"message": message})
    answer = several.ask(v1("managed-demo", "/score", GUIDE))
    assert answer.status == 200
    assert answer.header("ms-azureml-model-error-statuscode") is None


@pytest.mark.parametrize(
    ("endpoint", "sees_it"), [("raw", False), ("managed-raw", False), ("trusting-raw", True)]
)
def test_the_container_sees_credentials_only_if_it_is_meant_to(
    several: GatewayProcess, endpoint: str, sees_it: bool
) -> None:
    kind = "application/vnd.rows+json; charset=utf-8"
    answer = several.ask(v1(endpoint, "/score?do=headers", b"{}", Content_Type=kind))
    seen = {name.lower(): value for name, value in json.loads(answer.body)}
    assert seen["content-type"] == kind
    assert seen.get("authorization") == (f"Bearer {KEY}" if sees_it else None)
    assert (KEY in answer.text) is sees_it
