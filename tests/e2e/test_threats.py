"""Threats to keys and to the choice of backends: T32, T33 and T39 of the threat table.

The promise: a key opens its endpoint by the Authorization header alone, a wrong one tells nothing,
and the gateway keeps none as text. Where a request goes is decided by the configuration; neither a
request nor a container's redirect can name another place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import FakeBackend, Link, answering, choosing
from tests.support.gateways import KEY, SECOND_KEY, GatewayProcess, minimal
from tests.support.raw import request
from tests.support.usage import family

REFUSED = "Unauthorized, the key or token is not valid"
MISSING = "Unauthorized, no Authorization header"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[FakeBackend]:
    """Where no request may ever arrive."""
    with FakeBackend(answering(b"elsewhere")) as running:
        yield running
        assert running.connections == 0


@pytest.fixture(scope="module")
def backend(elsewhere: FakeBackend) -> Iterator[FakeBackend]:
    table = {
        name: f"HTTP/1.1 {status} Found\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()
        for name, status, where in (
            ("away", 302, f"{elsewhere.url}/score"),
            ("away-307", 307, f"{elsewhere.url}/score"),
            ("scheme-relative", 302, elsewhere.url.removeprefix("http:") + "/score"),
        )
    }
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell"

    def to_itself(link: Link) -> None:
        head = f"HTTP/1.1 307 Moved\r\nLocation: {link.backend.url}/next?a=b\r\n"
        link.send(head.encode() + b"Content-Length: 0\r\n\r\n")

    with FakeBackend(choosing({**table, "itself": to_itself}, good)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    other = "  other: {auth: {keys: {primary: {env: OTHER_KEY}}}, deployments: {blue: {backends: "
    text = minimal(backend.url) + f"{other}[{backend.url}]}}}}}}\n"
    environment = {"OTHER_KEY": "key-of-the-other-endpoint-0123"}
    folder = tmp_path_factory.mktemp("threats")
    with GatewayProcess(text, folder, environment=environment) as running:
        yield running
        assert running.complaints() == []


WRONG = {
    "unknown": "Bearer some-other-key-of-somebody-else",
    "all-but-the-last-character": f"Bearer {KEY[:-1]}",
    "one-character-more": f"Bearer {KEY}x",
    "last-character-wrong": f"Bearer {KEY[:-1]}x",
    "first-character-wrong": f"Bearer x{KEY[1:]}",
    "upper-case": f"Bearer {KEY.upper()}",
    "both-keys": f"Bearer {KEY} {SECOND_KEY}",
    "quoted": f'Bearer "{KEY}"',
    "of-another-endpoint": "Bearer key-of-the-other-endpoint-0123",
    "very-long": "Bearer " + "k" * 20_000,
    "one-character": "Bearer k",
    "not-ASCII": "Bearer \xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9",
    "like-a-token": "Bearer a.b.c",
}


@pytest.mark.parametrize("name", WRONG)
def test_t32_every_wrong_key_gets_the_same_answer(
    gateway: GatewayProcess, backend: FakeBackend, name: str
) -> None:
    before = len(backend.seen)
    answer = gateway.ask(request(headers={"Authorization": WRONG[name]}))
    assert (answer.status, answer.text) == (401, REFUSED)
    changing = ("date", "x-ms-request-id", "x-request-id")
    assert [pair for pair in answer.headers if pair[0] not in changing] == [
        ("content-type", "text/plain; charset=utf-8"),
        ("www-authenticate", 'Bearer error="invalid_token"'),
        ("content-length", str(len(REFUSED))),
    ]
    assert len(backend.seen) == before


@pytest.mark.parametrize(
    "data",
    [
        request(),
        request(f"/api/v1/service/diabetes/score?key={KEY}"),
        request(f"/api/v1/service/diabetes/score?code={KEY}&access_token={KEY}"),
        request(headers={"Authorization": KEY}),
        request(headers={"Authorization": f"Basic {KEY}"}),
        request(headers={"Authorization": "Bearer"}),
        request(headers={"Authorization": "Bearer "}),
        request(headers={"Authorization": ""}),
        request(headers={"api-key": KEY, "Ocp-Apim-Subscription-Key": KEY}),
        request(headers={"Cookie": f"key={KEY}"}),
        request(headers={"Proxy-Authorization": f"Bearer {KEY}"}),
        request(body=f'{{"key": "{KEY}"}}'.encode()),
    ],
    ids=[
        "nothing", "query-key", "query-code", "without-scheme", "basic", "scheme-alone",
        "empty-credential", "empty", "other-headers", "cookie", "proxy", "body",
    ],
)  # fmt: skip
def test_t33_a_key_counts_in_its_header_only(
    gateway: GatewayProcess, backend: FakeBackend, data: bytes
) -> None:
    before = len(backend.seen)
    answer = gateway.ask(data)
    assert (answer.status, answer.text) == (401, MISSING)
    assert answer.header("www-authenticate") == "Bearer"
    assert len(backend.seen) == before


def test_t33_two_credentials_are_ambiguous(gateway: GatewayProcess) -> None:
    answer = gateway.ask(
        request(headers={"Authorization": f"Bearer x\r\nAuthorization: Bearer {KEY}"})
    )
    assert answer.status == 400


def test_t33_the_running_configuration_names_sources_only(gateway: GatewayProcess) -> None:
    status, text = gateway.admin_get("/config")
    assert status == 200
    assert '"env": "TEST_KEY"' in text
    assert KEY not in text
    assert SECOND_KEY not in text


def test_t33_a_key_file_is_not_passed_by_command_line_or_left_open(
    gateway: GatewayProcess,
) -> None:
    for pid in family(gateway.process.pid):
        root = Path(f"/proc/{pid}")
        assert KEY.encode() not in (root / "cmdline").read_bytes()
        opened = {os.readlink(entry) for entry in (root / "fd").iterdir()}
        assert not [name for name in opened if "key" in name.lower()]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Host": "{elsewhere}"},
        {"Forwarded": "host={elsewhere}"},
        {"X-Original-URL": "http://{elsewhere}/"},
        {"X-Rewrite-URL": "http://{elsewhere}/"},
        {"X-Route": "http://{elsewhere}"},
        {"X-Backend": "{elsewhere}"},
        {"X-Real-IP": "{elsewhere}"},
        {"Destination": "http://{elsewhere}/"},
        {"azureml-model-group": "http://{elsewhere}"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_t39_no_header_chooses_where_a_request_goes(
    gateway: GatewayProcess,
    backend: FakeBackend,
    elsewhere: FakeBackend,
    headers: dict[str, str],
) -> None:
    place = elsewhere.url.removeprefix("http://")
    named = {name: value.format(elsewhere=place) for name, value in headers.items()}
    answer = gateway.ask(request(headers=named, key=KEY))
    assert (answer.status, answer.text) == (200, "well")
    assert backend.seen[-1].line == "POST /score HTTP/1.1"
    assert backend.seen[-1].header("host") == backend.url.removeprefix("http://")


def test_t39_neither_host_nor_target_chooses_where_a_request_goes(
    gateway: GatewayProcess, backend: FakeBackend, elsewhere: FakeBackend
) -> None:
    place = elsewhere.url.removeprefix("http://")
    path = "/api/v1/service/diabetes/score"
    assert gateway.ask(request(path, host=place, key=KEY)).text == "well"
    assert gateway.ask(request(f"http://{place}{path}", host=place, key=KEY)).text == "well"
    assert gateway.ask(request(f"http://{place}{path}", key=KEY)).status == 400
    assert gateway.ask(request(f"//{place}/score", host=place, key=KEY)).status == 404
    assert gateway.ask(request(place, method="CONNECT", host=place, key=KEY)).status in (400, 405)
    for target in (f"@{place}/", f"ftp://{place}/", f"http://a@{place}{path}"):
        assert gateway.ask(request(target, host=place, key=KEY)).status == 400
    assert backend.seen[-1].header("host") == backend.url.removeprefix("http://")


@pytest.mark.parametrize(("name", "status"), [("away", 302), ("away-307", 307)])
def test_t39_a_redirect_is_passed_on_and_not_followed(
    gateway: GatewayProcess, elsewhere: FakeBackend, name: str, status: int
) -> None:
    answer = gateway.ask(request(f"/api/v1/service/diabetes/{name}", key=KEY))
    assert (answer.status, answer.body) == (status, b"")
    assert answer.header("location") == f"{elsewhere.url}/score"


def test_t39_a_redirect_to_the_container_itself_names_the_gateways_path(
    gateway: GatewayProcess,
) -> None:
    answer = gateway.ask(request("/api/v1/service/diabetes/itself", key=KEY))
    assert answer.status == 307
    assert answer.header("location") == "/api/v1/service/diabetes/next?a=b"


def test_t39_a_relative_redirect_names_no_other_place(
    gateway: GatewayProcess, elsewhere: FakeBackend
) -> None:
    answer = gateway.ask(request("/api/v1/service/diabetes/scheme-relative", key=KEY))
    assert answer.header("location") == elsewhere.url.removeprefix("http:") + "/score"
