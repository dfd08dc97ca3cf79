"""What must not be told: secrets, the control plane on the public port, names of libraries.

Threats T44, T45 and T46. The promise: no credential, body or query appears in anything that the
gateway writes; the admin pages are on their own port and nothing else is; and no answer says what
the gateway or a container is made of.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import FakeBackend, Link
from tests.support.gateways import GatewayProcess, minimal, wait_until
from tests.support.raw import Answer, RawClient, request
from tests.support.tokens import Issuer, claims
from tests.support.usage import family

CANARY = "canary-3f9d1c"
KEYS = {name: f"{CANARY}-{name}-0123456789" for name in ("TEST_KEY", "TEST_SECOND_KEY", "ADMIN")}
# What nobody has to know, and versions of anything. Addresses are told apart by their port.
LIBRARIES = re.compile(
    r"aiohttp|python|uvloop|asyncio|httptools|llhttp|orjson|pydantic|gunicorn|werkzeug|flask|azmlinf"
    r"|uvicorn|traceback|file \"|\d+\.\d+\.\d+(?!\.)",
    re.IGNORECASE,
)


def behave(link: Link) -> None:
    """Tells the secrets it was told, in every kind of bad answer; its software, too."""
    while (seen := link.read_request()) is not None:
        what = seen.line.split(" ")[1].partition("?")[0].rpartition("/")[2]
        server = "Server: gunicorn/27.0.1\r\nX-Powered-By: Flask/3.1.3\r\n"
        if what == "hangs":
            continue
        if what == "closes":
            return
        version = "HTTP/9.9" if what == "sick" else "HTTP/1.1"
        link.send(f"{version} 200 OK\r\n{server}Content-Length: 4\r\n\r\nwell".encode())


@pytest.fixture(scope="module")
def backend() -> Iterator[FakeBackend]:
    with FakeBackend(behave) as running:
        yield running


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer("ES256")


@pytest.fixture(scope="module")
def gateway(
    backend: FakeBackend, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("secrecy")
    (folder / "key.pem").write_bytes(issuer.pem())
    keys = "keys: {primary: {env: TEST_KEY}, secondary: {env: TEST_SECOND_KEY}}"
    tokens = "tokens: {algorithms: [ES256], public_key: key.pem}"
    text = f"""
listen: 127.0.0.1:0
admin: {{address: "127.0.0.1:0", token: {{env: ADMIN}}}}
endpoints:
  diabetes: {{auth: {{{keys}, {tokens}}}, timeout: 300ms, limits: {{body: 2KiB}},
    deployments: {{blue: {{backends: [{backend.url}]}}}}}}
  dead: {{auth: {{{keys}}}, deployments: {{blue: {{backends: ["http://127.0.0.1:1"]}}}}}}
"""
    with GatewayProcess(text, folder, environment=KEYS) as running:
        yield running
        assert running.complaints() == []


def admin(gateway: GatewayProcess, data: bytes) -> Answer:
    with RawClient(gateway.admin) as client:
        client.send(data)
        return client.answer()


def admin_page(path: str, token: str | None = KEYS["ADMIN"], method: str = "GET") -> bytes:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return request(path, None, method=method, headers={**headers, "Connection": "close"})


SECRET_BODY = f'{{"data": "{CANARY}-body"}}'.encode()
SCORE = f"/api/v1/service/diabetes/score?code={CANARY}-query"


def speaking(
    key: str,
    path: str = SCORE,
    body: bytes = SECRET_BODY,
    *,
    more: dict[str, str] | None = None,
) -> bytes:
    """A request that has a secret wherever one can be."""
    headers = {"Cookie": f"session={CANARY}-cookie", "api-key": f"{CANARY}-api"} | (more or {})
    return request(path, body, key=key, headers=headers)


ERRORS = {
    "wrong key": speaking(f"{CANARY}-wrong-key-0123456789"),
    "wrong token": speaking(f"{CANARY}.{CANARY}.{CANARY}"),
    "no such service": speaking(KEYS["TEST_KEY"], f"/nowhere?code={CANARY}-query"),
    "no such deployment": speaking(KEYS["TEST_KEY"], more={"azureml-model-deployment": CANARY}),
    "not JSON": speaking(KEYS["TEST_KEY"], body=SECRET_BODY + b"\xff"),
    "too deep": speaking(KEYS["TEST_KEY"], body=SECRET_BODY + b"[" * 1000),
    "too large": speaking(KEYS["TEST_KEY"], body=SECRET_BODY * 100),
    "bad header": speaking(KEYS["TEST_KEY"], more={"X-Bad": f"{CANARY}\0"}),
    "bad header name": speaking(KEYS["TEST_KEY"], more={f"X {CANARY}": "a"}),
    "bad path": speaking(KEYS["TEST_KEY"], f"/../{CANARY}"),
    "bad length": speaking(KEYS["TEST_KEY"], more={"Content-Length": CANARY}),
    "two credentials": speaking(KEYS["TEST_KEY"], more={"X-A": f"a\r\nAuthorization: {CANARY}"}),
    "bad version": request(SCORE, SECRET_BODY, version="HTTP/4.0"),
    "bad method": request(SCORE, SECRET_BODY, method=CANARY.upper()),
    "bad expectation": speaking(KEYS["TEST_KEY"], more={"Expect": CANARY}),
    "long line": speaking(KEYS["TEST_KEY"], "/" + CANARY * 1000),
    "large head": speaking(KEYS["TEST_KEY"], more={"X-A": CANARY * 3000}),
    "not HTTP": f"{CANARY}\r\n\r\n".encode(),
    "TLS": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "sick container": speaking(KEYS["TEST_KEY"], "/api/v1/service/diabetes/sick"),
    "closing container": speaking(KEYS["TEST_KEY"], "/api/v1/service/diabetes/closes"),
    "hanging container": speaking(KEYS["TEST_KEY"], "/api/v1/service/diabetes/hangs"),
    "dead container": speaking(KEYS["TEST_KEY"], "/api/v1/service/dead/score"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_t46_no_error_says_what_anything_is_made_of(gateway: GatewayProcess, name: str) -> None:
    answer = gateway.ask(ERRORS[name])
    assert answer.status >= 400
    said = f"{answer.headers} {answer.text}"
    assert LIBRARIES.search(said) is None, said
    assert "127.0.0.1" not in said, "nor where its containers are"
    assert answer.header("server") is None
    assert answer.header("x-ms-request-id")
    assert answer.header("content-type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize("name", ERRORS)
def test_t44_no_error_repeats_what_was_sent(gateway: GatewayProcess, name: str) -> None:
    answer = gateway.ask(ERRORS[name])
    assert CANARY not in f"{answer.headers} {answer.text}".lower()


def test_t46_a_good_answer_does_not_name_the_containers_software(gateway: GatewayProcess) -> None:
    answer = gateway.ask(speaking(KEYS["TEST_KEY"]))
    assert (answer.status, answer.text) == (200, "well")
    assert LIBRARIES.search(str(answer.headers)) is None


def test_t44_secrets_are_in_nothing_that_is_written(
    gateway: GatewayProcess, issuer: Issuer
) -> None:
    with RawClient(gateway.address) as client:
        client.send(speaking(KEYS["TEST_KEY"])[:-1])  # a body that never comes whole
    token = issuer.token(claims(jti=f"{CANARY}-claim"), kid=None)
    good = (KEYS["TEST_KEY"], KEYS["TEST_SECOND_KEY"], token)
    for key in good:
        assert gateway.ask(speaking(key)).status == 200
    for data in ERRORS.values():
        gateway.ask(data)
    for page in ("/metrics", "/config", "/deployments", "/nowhere"):
        for secret in (KEYS["ADMIN"], f"{CANARY}-wrong"):
            answer = admin(gateway, admin_page(page, secret))
            assert CANARY not in f"{answer.headers} {answer.text}"
            assert token not in answer.text

    def logged() -> int:
        return len([entry for entry in gateway.log_entries() if "request_id" in entry])

    wait_until(lambda: logged() >= len(ERRORS) + len(good) + 1, what="the access log")
    # Paths and methods are logged on purpose; the canaries in them are not secrets.
    lines = [
        line
        for line in gateway.log().lower().splitlines()
        if not re.search(f'"path":"/[^"]*{CANARY}|"method":"{CANARY}', line)
    ]
    assert [line for line in lines if CANARY in line] == []
    for part in token.split("."):
        assert part not in gateway.log()
    for pid in family(gateway.process.pid):
        assert CANARY not in Path(f"/proc/{pid}/cmdline").read_text()
    assert CANARY not in gateway.config.read_text()


@pytest.mark.parametrize(
    "path", ["/metrics", "/config", "/deployments", "/healthz", "/readyz", "/"]
)
@pytest.mark.parametrize("key", [None, KEYS["TEST_KEY"], KEYS["ADMIN"]])
def test_t45_the_public_port_has_no_admin_pages(
    gateway: GatewayProcess, path: str, key: str | None
) -> None:
    answer = gateway.ask(request(path, None, method="GET", key=key))
    assert (answer.status, answer.text) == (404, "There is no such service here")


def test_t45_with_one_endpoint_such_paths_are_the_containers(
    backend: FakeBackend, tmp_path: Path
) -> None:
    with GatewayProcess(minimal(backend.url), tmp_path, environment=KEYS) as sole:
        for path in ("/metrics", "/config", "/deployments", "/healthz", "/readyz"):
            assert sole.ask(request(path, None, method="GET")).status == 401
            answer = sole.ask(request(path, None, method="GET", key=KEYS["TEST_KEY"]))
            assert (answer.status, answer.text) == (200, "well")


def test_t45_the_admin_port_scores_nothing(gateway: GatewayProcess, backend: FakeBackend) -> None:
    before = len(backend.seen)
    for key in (None, KEYS["TEST_KEY"], KEYS["ADMIN"]):
        for method in ("GET", "POST"):
            data = admin_page("/api/v1/service/diabetes/score", key, method)
            assert admin(gateway, data).status in (401, 404)
    assert len(backend.seen) == before


@pytest.mark.parametrize("path", ["/metrics", "/config", "/deployments", "/", "/nowhere"])
@pytest.mark.parametrize("token", [None, "", "wrong", KEYS["TEST_KEY"], KEYS["ADMIN"] + "x"])
def test_t45_admin_pages_ask_for_the_admin_token(
    gateway: GatewayProcess, path: str, token: str | None
) -> None:
    answer = admin(gateway, admin_page(path, token))
    assert (answer.status, answer.text) == (401, "Unauthorized\n")
    assert answer.header("www-authenticate") == "Bearer"


def test_t45_health_needs_no_token_and_tells_nothing_else(gateway: GatewayProcess) -> None:
    answer = admin(gateway, admin_page("/healthz", None))
    assert (answer.status, answer.text) == (200, "ok\n")
    answer = admin(gateway, admin_page("/readyz", None))
    assert (answer.status, json.loads(answer.body)) == (200, {"ready": True, "reasons": []})


def test_t45_both_ports_listen_where_they_were_told_to(gateway: GatewayProcess) -> None:
    """On loopback only: another address of this machine is refused."""
    for port in (gateway.address[1], gateway.admin[1]):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.2", port)) != 0


ADMIN_ERRORS = {
    "no token": admin_page("/metrics", None),
    "no such page": admin_page("/nowhere"),
    "method": admin_page("/metrics", method="POST"),
    "not HTTP": f"{CANARY}\r\n\r\n".encode(),
    "bad header": request("/metrics", None, method="GET", headers={"X-Bad": f"{CANARY}\0"}),
    "large head": request("/metrics", None, method="GET", headers={"X-A": CANARY * 3000}),
    "expectation": request("/metrics", None, method="GET", headers={"Expect": CANARY}),
}


@pytest.mark.parametrize("name", ADMIN_ERRORS)
def test_t46_no_error_of_the_admin_port_says_what_it_is_made_of(
    admin_only: GatewayProcess, name: str
) -> None:
    answer = admin(admin_only, ADMIN_ERRORS[name])
    assert answer.status >= 400
    said = f"{answer.headers} {answer.text}"
    assert LIBRARIES.search(said) is None, said


@pytest.mark.parametrize("name", ["not HTTP", "bad header", "large head", "expectation"])
def test_t44_no_error_of_the_admin_port_repeats_what_was_sent(
    admin_only: GatewayProcess, name: str
) -> None:
    """What is refused may be an Authorization header with a slip of the pen in it."""
    answer = admin(admin_only, ADMIN_ERRORS[name])
    assert CANARY not in f"{answer.headers} {answer.text}"


def test_t43_bad_requests_to_the_admin_port_are_no_errors_of_ours(
    admin_only: GatewayProcess,
) -> None:
    for data in ADMIN_ERRORS.values():
        admin(admin_only, data)
    assert admin_only.complaints() == []
    assert CANARY not in admin_only.log()


@pytest.fixture(scope="module")
def admin_only(
    backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    text = minimal(backend.url).replace(
        "admin: 127.0.0.1:0", "admin: {address: '127.0.0.1:0', token: {env: ADMIN}}"
    )
    with GatewayProcess(text, tmp_path_factory.mktemp("admin"), environment=KEYS) as running:
        yield running
