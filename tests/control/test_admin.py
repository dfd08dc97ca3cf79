"""The admin port: what it shows, to whom, and that it tells an attacker nothing about itself.

The application runs on a real loopback socket and is asked by a raw client, because some promises
are about bytes: which library answered, and whether it repeats what it was sent.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway import __version__
from gateway.control.admin import AdminRunner, AdminSources
from tests.support.checking import SECRETS, demo
from tests.support.gateways import GatewayProcess
from tests.support.raw import Answer, RawClient, request

TOKEN = "token-of-the-admin-port-0123456789"
PAGES = ["/", "/healthz", "/readyz", "/metrics", "/config", "/deployments"]
PRIVATE = [
    "/", "/metrics", "/config", "/deployments", "/reload", "/nothing", "/healthz/x", "//metrics",
]  # fmt: skip


async def broken() -> bytes:
    raise ValueError("a secret of ours")


async def made_up() -> bytes:
    return b"# made up\n"


async def made_up_too() -> Any:
    return {"made": {"up": "too"}}


@dataclass
class Admin:
    """The application with made-up sources, served by a thread of its own."""

    token: str | None
    metrics: Callable[[], Awaitable[bytes]] = made_up
    reasons: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    reloads: int = 0
    address: tuple[str, int] = ("", 0)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __enter__(self) -> Admin:
        started = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(
            self._serve(started),))  # fmt: skip
        self._thread.start()
        assert started.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        assert self._thread is not None
        self._thread.join(5)
        self._loop.close()

    async def _serve(self, started: threading.Event) -> None:
        sources = AdminSources(
            unready=lambda: self.reasons,
            status=lambda: {"generation": 3},
            metrics=self.metrics,
            configuration=lambda: {"made": "up"},
            deployments=made_up_too,
            reload=self._reload,
        )
        runner = AdminRunner(sources, self.token)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        self.address = (host, port)
        started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _reload(self) -> tuple[bool, dict[str, Any]]:
        self.reloads += 1
        return not self.problems, {"problems": self.problems}

    def get(self, path: str, authorization: str | None = None, method: str = "GET") -> Answer:
        headers = {} if authorization is None else {"Authorization": authorization}
        return self.send(request(path, None, method=method, headers=headers), method == "HEAD")

    def send(self, data: bytes, head_only: bool = False) -> Answer:
        with RawClient(self.address) as client:
            client.send(data)
            return client.answer(head_only)


@pytest.fixture(scope="module")
def opened() -> Iterator[Admin]:
    with Admin(None) as admin:
        yield admin


@pytest.fixture(scope="module")
def guarded() -> Iterator[Admin]:
    with Admin(TOKEN) as admin:
        yield admin


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/healthz", "text/plain; charset=utf-8", b"ok\n"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", b"# made up\n"),
        ("/config", "application/json", b'{\n  "made": "up"\n}\n'),
        (
            "/deployments",
            "application/json",
            b'{\n  "made": {\n    "up": "too"\n  }\n}\n',
        ),
    ],
)
def test_a_page_has_its_type_and_is_not_kept(
    opened: Admin, path: str, content_type: str, body: bytes
) -> None:
    answer = opened.get(path)
    assert (answer.status, answer.body) == (200, body)
    assert answer.header("content-type") == content_type
    assert answer.header("cache-control") == "no-store"
    assert answer.header("server") == "scoring-gateway"


def test_the_front_page_names_the_others(opened: Admin) -> None:
    answer = opened.get("/")
    assert answer.status == 200
    assert json.loads(answer.body) == {"gateway": __version__, "paths": [*PAGES[1:], "/reload"]}


@pytest.mark.parametrize(
    ("reasons", "status"), [([], 200), (["starting"], 503), (["stopping", "no backend"], 503)]
)
def test_readiness_says_why_not(opened: Admin, reasons: list[str], status: int) -> None:
    opened.reasons = reasons
    answer = opened.get("/readyz")
    opened.reasons = []
    assert answer.status == status
    assert json.loads(answer.body) == {
        "ready": not reasons,
        "reasons": reasons,
        "generation": 3,
    }


def test_a_process_that_is_not_ready_is_alive_all_the_same(opened: Admin) -> None:
    opened.reasons = ["stopping"]
    answer = opened.get("/healthz")
    opened.reasons = []
    assert (answer.status, answer.body) == (200, b"ok\n")


@pytest.mark.parametrize("path", PAGES)
def test_head_is_get_without_the_body(opened: Admin, path: str) -> None:
    head, whole = opened.get(path, method="HEAD"), opened.get(path)
    assert (head.status, head.body) == (200, b"")
    assert head.header("content-length") == str(len(whole.body))


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "nonsense"])
def test_t45_health_is_shown_to_everybody(
    guarded: Admin, path: str, authorization: str | None
) -> None:
    answer = guarded.get(path, authorization)
    assert answer.status == 200
    assert b"generation" not in answer.body


def test_t45_what_is_wrong_with_a_file_is_for_those_who_have_the_token(guarded: Admin) -> None:
    assert json.loads(guarded.get("/readyz").body) == {"ready": True, "reasons": []}
    assert json.loads(guarded.get("/readyz", f"Bearer {TOKEN}").body)["generation"] == 3


@pytest.mark.parametrize(
    "authorization",
    [
        None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}", f"Bearer {TOKEN} {TOKEN}",
        f"Bearer x {TOKEN}", f"Bearer,{TOKEN}", "Bearer tökén",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", PRIVATE)
def test_t45_everything_else_asks_for_the_token_and_says_the_same_to_all(
    guarded: Admin, path: str, authorization: str | None
) -> None:
    answer = guarded.get(path, authorization)
    assert (answer.status, answer.body) == (401, b"Unauthorized\n")
    assert answer.header("www-authenticate") == "Bearer"
    assert answer.header("content-type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
@pytest.mark.parametrize("path", ["/", "/metrics", "/config", "/deployments"])
def test_t45_the_token_opens_every_page(guarded: Admin, path: str, scheme: str) -> None:
    assert guarded.get(path, f"{scheme} {TOKEN}").status == 200


def test_t45_no_other_spelling_of_a_path_goes_round_the_token(guarded: Admin) -> None:
    for path in ("/%6detrics", "/./metrics", "/healthz/../metrics", "/metrics?x=/healthz"):
        assert guarded.get(path).status == 401, path


def test_t45_a_token_beyond_ascii_can_be_given() -> None:
    with Admin("schlüssel-der-tests-0123456789") as admin:
        # RawClient writes Latin-1, so the UTF-8 that a client sends is spelt byte by byte.
        sent = "schlüssel-der-tests-0123456789".encode().decode("latin-1")
        assert admin.get("/config", f"Bearer {sent}").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
@pytest.mark.parametrize("path", PAGES)
def test_nothing_can_be_changed(opened: Admin, path: str, method: str) -> None:
    answer = opened.get(path, method=method)
    assert answer.status == 405
    assert answer.header("allow") == "GET,HEAD"


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/nothing", "GET", 404), ("/metrics", "POST", 405), ("/metrics/", "GET", 404)],
)
def test_t46_a_refusal_tells_no_library(opened: Admin, path: str, method: str, status: int) -> None:
    answer = opened.get(path, method=method)
    assert answer.status == status
    assert answer.header("server") == "scoring-gateway"
    assert "aiohttp" not in str(answer)


def test_t46_a_missing_token_tells_no_library(guarded: Admin) -> None:
    answer = guarded.get("/config")
    assert answer.header("server") == "scoring-gateway"
    assert answer.header("cache-control") == "no-store"


def test_t46_an_unknown_expectation_tells_no_library(opened: Admin) -> None:
    answer = opened.send(request("/healthz", None, method="GET", headers={"Expect": "wonders"}))
    assert answer.status == 417
    assert "aiohttp" not in str(answer)


MALFORMED = {
    "method": b"CANARY /healthz\r\n\r\n",
    "header-name": b"GET / HTTP/1.1\r\nHost: h\r\nBad\x01: CANARY\r\n\r\n",
    "header-value": b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer CANARY\x01\r\n\r\n",
    "header-too-long": b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"CANARY" * 2000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_t46_a_malformed_request_is_not_repeated(opened: Admin, data: bytes) -> None:
    answer = opened.send(data)
    assert answer.status == 400
    assert b"CANARY" not in answer.body
    assert "aiohttp" not in str(answer)


def test_t43_a_malformed_request_is_no_error_of_ours_and_its_bytes_stay_out_of_the_log(
    opened: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        opened.send(MALFORMED["header-value"])
    assert "CANARY" not in caplog.text
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("path", ["/healthz", "/nothing"])
def test_t44_an_unknown_expectation_is_not_repeated(opened: Admin, path: str) -> None:
    answer = opened.send(request(path, None, method="GET", headers={"Expect": "CANARY"}))
    assert (answer.status, answer.body) == (417, b"Expectation Failed\n")


def test_t46_a_fault_of_ours_is_told_to_the_log_and_to_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Admin(None, broken) as admin:
        answer = admin.get("/metrics")
        assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
        assert answer.header("server") == "scoring-gateway"
        assert answer.header("cache-control") == "no-store"
        assert admin.get("/healthz").status == 200
    (record,) = caplog.records
    assert record.name == "gateway.control.admin"
    assert "a secret of ours" in caplog.text


def test_t44_the_running_configuration_names_secrets_and_holds_none(tmp_path: Path) -> None:
    (tmp_path / "second").write_text(SECRETS["OTHER"])
    (tmp_path / "token").write_text(TOKEN)
    text = demo(
        top="listen: 127.0.0.1:0",
        auth="{keys: {primary: {env: KEY}, secondary: {file: second}}}",
        end="admin: {address: '127.0.0.1:0', token: {file: token}}",
    )
    with GatewayProcess(text, tmp_path, environment=SECRETS) as gateway:
        assert gateway.admin_get("/config") == (401, "Unauthorized\n")
        authorization = {"Authorization": f"Bearer {TOKEN}"}
        status, page = gateway.admin_get("/config", authorization)
        everything = page + gateway.admin_get("/metrics", authorization)[1] + gateway.log()
        assert gateway.admin_get("/nothing", authorization)[0] == 404
    shown: dict[str, Any] = json.loads(page)
    assert status == 200
    assert shown["admin"]["token"] == {"file": "token"}
    assert shown["endpoints"]["demo"]["auth"] == {
        "keys": {"primary": {"env": "KEY"}, "secondary": {"file": "second"}},
        "forward_credentials": False,
    }
    for secret in (TOKEN, SECRETS["KEY"], SECRETS["OTHER"]):
        assert secret not in everything


@pytest.mark.parametrize(("problems", "status"), [([], 200), (["f:3: timeout: wrong"], 422)])
def test_reloading_is_asked_for_and_told(opened: Admin, problems: list[str], status: int) -> None:
    opened.problems, before = problems, opened.reloads
    answer = opened.get("/reload", method="POST")
    opened.problems = []
    assert (answer.status, json.loads(answer.body)) == (status, {"problems": problems})
    assert opened.reloads == before + 1


def test_no_page_in_a_browser_can_ask_for_a_reload(opened: Admin) -> None:
    before = opened.reloads
    with RawClient(opened.address) as client:
        client.send(request("/reload", b"", headers={"Origin": "https://evil.example"}))
        assert client.answer().status == 403
    assert opened.get("/reload").status == 405
    assert opened.reloads == before
