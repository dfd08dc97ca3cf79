"""Where the keys of tokens come from: a JWK Set server that changes keys, fails or misbehaves.

Threat T37. The promise: a new key is accepted after one refetch and a removed one refused, without
a restart; nobody can make the gateway fetch more than once in 30 seconds; and while the server is
down or talks nonsense, the keys that are known go on working.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support.backends import FakeBackend, answering
from tests.support.containers import free_port
from tests.support.gateways import GatewayProcess, wait_until
from tests.support.raw import Answer, request
from tests.support.tokens import AUDIENCE, ISSUER, Issuer, KeyServer, Publish, document, key_set

REFUSED = "Unauthorized, the key or token is not valid"
NO_KEYS = "Tokens cannot be checked yet: try again later"
OLD, NEW, NEXT = (Issuer("ES256", kid) for kid in ("old", "new", "next"))
# Between two fetches that unknown keys ask for, in seconds.
REFETCH = 30.0


def config(servers: dict[str, str], backend: FakeBackend, more: str = "") -> str:
    """One endpoint for each JWK Set URL."""
    lines = ["listen: 127.0.0.1:0", "admin: 127.0.0.1:0", "endpoints:"]
    for name, url in servers.items():
        rules = f"algorithms: [ES256], issuer: {ISSUER}, audience: {AUDIENCE}, jwks: {url}{more}"
        deployments = f"deployments: {{blue: {{backends: [{backend.url}]}}}}"
        lines.append(f"  {name}: {{auth: {{tokens: {{{rules}}}}}, {deployments}}}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def backend() -> Iterator[FakeBackend]:
    with FakeBackend(answering()) as running:
        yield running


def score(gateway: GatewayProcess, endpoint: str, token: str) -> Answer:
    headers = {"Authorization": f"Bearer {token}"}
    return gateway.ask(request(f"/api/v1/service/{endpoint}/score", headers=headers))


def fetches(gateway: GatewayProcess, endpoint: str, result: str) -> float:
    return gateway.metric("gateway_jwks_fetches_total", endpoint=endpoint, result=result)


class Held:
    """Answers only when the test says so."""

    def __init__(self, then: Publish) -> None:
        self.asked = threading.Event()
        self.go = threading.Event()
        self._then = then

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.set()
        self.go.wait(20)
        self._then(handler)


# Keys that are fetched anew after at least 30 s: started first, so that the others' time counts.
@pytest.fixture(scope="module", autouse=True)
def steady(
    backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[GatewayProcess, KeyServer, float]]:
    with KeyServer(document(key_set(OLD))) as server:
        text = config({"steady": server.url}, backend)
        with GatewayProcess(text, tmp_path_factory.mktemp("steady")) as gateway:
            wait_until(lambda: score(gateway, "steady", OLD.token()).status == 200)
            yield gateway, server, time.monotonic()
            assert gateway.complaints() == []


def test_t37_keys_are_fetched_before_anybody_asks_and_not_again(
    steady: tuple[GatewayProcess, KeyServer, float],
) -> None:
    gateway, server, _ = steady
    for _ in range(20):
        assert score(gateway, "steady", OLD.token()).status == 200
    assert server.paths == ["/keys"]
    assert fetches(gateway, "steady", "success") == 1


@pytest.mark.parametrize("kid", ["old", None])
def test_t37_a_request_during_the_first_fetch_waits_for_it(
    backend: FakeBackend, tmp_path: Path, kid: str | None
) -> None:
    held = Held(document(key_set(OLD)))
    with (
        KeyServer(held) as server,
        GatewayProcess(config({"slow": server.url}, backend), tmp_path) as gateway,
        gateway.client() as client,
    ):
        assert held.asked.wait(5)
        headers = {"Authorization": f"Bearer {OLD.token(kid=kid)}"}
        client.send(request("/api/v1/service/slow/score", headers=headers))
        threading.Timer(0.2, held.go.set).start()
        assert client.answer().status == 200
        assert server.fetches == 1


def test_t37_a_key_server_that_hangs_costs_five_seconds_and_only_its_own_endpoint(
    backend: FakeBackend, tmp_path: Path
) -> None:
    held = Held(document(key_set(OLD)))
    with KeyServer(held) as hanging, KeyServer(document(key_set(OLD))) as good:
        text = config({"hanging": hanging.url, "good": good.url}, backend)
        with GatewayProcess(text, tmp_path) as gateway, ThreadPoolExecutor(1) as pool:
            assert held.asked.wait(5)
            begun = time.monotonic()
            waiting = pool.submit(score, gateway, "hanging", OLD.token())
            wait_until(lambda: score(gateway, "good", OLD.token()).status == 200, 2)
            answer = waiting.result(10)
            assert (answer.status, answer.text) == (503, NO_KEYS)
            assert 3.5 < time.monotonic() - begun < 6.0
            held.go.set()  # and a second later it is asked again
            wait_until(lambda: score(gateway, "hanging", OLD.token()).status == 200, 5)


REDIRECT = "redirecting"
NONSENSE: dict[str, Publish] = {
    "huge": document(key_set(OLD)[:-1] + b"," + b" " * (10 << 20) + b'"a": 1}'),
    "page": document(b"<html>Sign in</html>", Content_Type="text/html"),
    "empty-set": document(b'{"keys": []}'),
    "no-set": document(b"[]"),
    "deep": document(b"[" * 500_000),
    "cut": document(key_set(OLD)[:-20], Content_Length="5000"),
    "not-found": document(key_set(OLD), status=404),
    "server-error": document(key_set(OLD), status=500),
}


@pytest.fixture(scope="module")
def moody(
    backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[GatewayProcess, KeyServer]]:
    """Fetches every second, and its server has been well so far."""
    with KeyServer(document(key_set(OLD))) as server:
        text = config({"moody": server.url}, backend, ", refresh: 1s")
        with GatewayProcess(text, tmp_path_factory.mktemp("moody")) as gateway:
            wait_until(lambda: score(gateway, "moody", OLD.token()).status == 200)
            yield gateway, server
            assert gateway.complaints() == []


def await_result(gateway: GatewayProcess, result: str) -> None:
    """The second from now: the first may have been on its way already."""
    enough = fetches(gateway, "moody", result) + 2
    wait_until(lambda: fetches(gateway, "moody", result) >= enough, 8, f"a fetch with {result}")


@pytest.mark.parametrize("name", [*NONSENSE, REDIRECT])
def test_t37_nonsense_from_the_key_server_leaves_the_old_keys(
    moody: tuple[GatewayProcess, KeyServer], name: str
) -> None:
    gateway, server = moody
    elsewhere = KeyServer(document(key_set(NEW)))
    redirect = document(b"", status=302, Location=elsewhere.url)
    with elsewhere:
        server.answer = NONSENSE.get(name, redirect)
        await_result(gateway, "failure")
        assert elsewhere.fetches == 0, "keys come from where the configuration says"
    assert score(gateway, "moody", OLD.token()).status == 200
    assert score(gateway, "moody", NEW.token()).status == 401
    assert gateway.memory() < 120 << 20
    server.answer = document(key_set(OLD))
    await_result(gateway, "success")


def test_t37_a_removed_key_is_refused_although_its_token_is_remembered(
    moody: tuple[GatewayProcess, KeyServer],
) -> None:
    gateway, server = moody
    remembered = OLD.token()
    assert score(gateway, "moody", remembered).status == 200
    server.answer = document(key_set(NEW))
    await_result(gateway, "success")
    answer = score(gateway, "moody", remembered)
    assert (answer.status, answer.text) == (401, REFUSED)
    assert score(gateway, "moody", NEW.token()).status == 200
    server.answer = document(key_set(OLD, NEW))
    await_result(gateway, "success")
    assert score(gateway, "moody", remembered).status == 200


def test_t37_one_broken_key_in_a_set_does_not_cost_the_others(
    moody: tuple[GatewayProcess, KeyServer],
) -> None:
    gateway, server = moody
    good = key_set(OLD)
    broken = b'{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "broken"}, '
    server.answer = document(good.replace(b"[", b"[" + broken, 1))
    await_result(gateway, "success")
    assert score(gateway, "moody", OLD.token()).status == 200


def test_t37_known_keys_go_on_working_while_the_server_is_down(
    backend: FakeBackend, tmp_path: Path
) -> None:
    with KeyServer(document(key_set(OLD))) as server:
        text = config({"moody": server.url}, backend, ", refresh: 1s")
        with GatewayProcess(text, tmp_path) as gateway:
            wait_until(lambda: score(gateway, "moody", OLD.token()).status == 200)
            server.stop()
            await_result(gateway, "failure")
            assert score(gateway, "moody", OLD.token()).status == 200
            assert score(gateway, "moody", NEW.token()).status == 401
            assert gateway.complaints() == []


def test_t37_a_server_that_is_down_at_the_start_is_asked_again(
    backend: FakeBackend, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{free_port()}/keys"
    with GatewayProcess(config({"dead": url}, backend), tmp_path) as gateway:
        wait_until(lambda: fetches(gateway, "dead", "failure") >= 2, 5, "a second try")
        answer = score(gateway, "dead", OLD.token())
        assert (answer.status, answer.text) == (503, NO_KEYS)
        assert gateway.admin_get("/healthz") == (200, "ok\n")


def test_t37_a_flood_of_unknown_keys_asks_once_and_brings_the_new_one(
    steady: tuple[GatewayProcess, KeyServer, float],
) -> None:
    """Right after a fetch nothing is asked; 30 s later one fetch answers everybody."""
    gateway, server, started = steady
    strangers = [Issuer("ES256", f"stranger-{number}").token() for number in range(40)]

    def ask(token: str) -> int:
        return score(gateway, "steady", token).status

    def flood() -> list[int]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(ask, strangers * 3))

    server.answer = document(key_set(OLD, NEW))
    if time.monotonic() < started + REFETCH - 5:
        assert flood() == [401] * 120
        assert score(gateway, "steady", NEW.token()).status == 401
        assert server.fetches == 1, "not within 30 s of the last"
    wait_until(lambda: time.monotonic() > started + REFETCH + 0.5, REFETCH + 5)
    assert score(gateway, "steady", NEW.token()).status == 200
    assert server.fetches == 2
    server.answer = document(key_set(OLD, NEW, NEXT))
    assert flood() == [401] * 120
    assert score(gateway, "steady", NEXT.token()).status == 401
    assert score(gateway, "steady", OLD.token()).status == 200
    assert server.fetches == 2
