"""A page in a real browser calls the gateway across origins.

The promise: a page of an allowed origin reads the prediction, the exposed headers and the text of
errors; a page of any other origin reads nothing; and the browser's preflights stay at the gateway.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.control.demo import ROWS
from tests.support.backends import FakeBackend, choosing
from tests.support.containers import Container
from tests.support.gateways import KEY, GatewayProcess, wait_until

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("REQUIRE_TOOLS"),
        reason="needs Debian's package chromium",
    ),
]
# Runs the calls one after the other and writes what came of them into the page.
PAGE = """<!doctype html><meta charset="utf-8"><title>caller</title><pre id="result"></pre><script>
const calls = CALLS;
(async () => {
  const results = [];
  for (const call of calls) {
    try {
      const answer = await fetch(call.url, call.options);
      results.push({
        status: answer.status,
        headers: Object.fromEntries(answer.headers),
        text: await answer.text(),
      });
    } catch (error) {
      results.push({error: error.name});
    }
  }
  document.getElementById("result").textContent = JSON.stringify(results);
  document.title = "done";
})();
</script>"""


class Site:
    """Serves one page on an origin of its own."""

    def __init__(self) -> None:
        self.page = ""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = owner.page.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing to standard error."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def _serving() -> Iterator[Site]:
    site = Site()
    threading.Thread(target=site.server.serve_forever, args=(0.05,), daemon=True).start()
    yield site
    site.server.shutdown()
    site.server.server_close()


@pytest.fixture(scope="module")
def allowed() -> Iterator[Site]:
    with _serving() as site:
        yield site


@pytest.fixture(scope="module")
def stranger() -> Iterator[Site]:
    with _serving() as site:
        yield site


@pytest.fixture(scope="module")
def backend() -> Iterator[FakeBackend]:
    good = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n[1.5]"
    with FakeBackend(choosing({"sick": b"HTTP/9.9\r\n\r\n"}, good)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    allowed: Site,
    backend: FakeBackend,
    container: Container,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayProcess]:
    rules = (
        f"auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}, cors: {{origins: ['{allowed.origin}']}}"
    )
    text = (
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nendpoints:\n"
        f"  diabetes: {{{rules}, deployments: {{blue: {{backends: [{container.url}]}}}}}}\n"
        f"  fake: {{{rules}, deployments: {{blue: {{backends: [{backend.url}]}}}}}}\n"
    )
    with GatewayProcess(text, tmp_path_factory.mktemp("browser")) as running:
        yield running
        assert running.complaints() == []


def call(
    gateway: GatewayProcess,
    path: str,
    *,
    key: str = KEY,
    body: str = "[]",
    options: dict[str, object] | None = None,
) -> dict[str, object]:
    """One ``fetch``, as a page would write it; ``options`` replace the usual ones."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    usual: dict[str, object] = {"method": "POST", "headers": headers, "body": body}
    url = f"http://127.0.0.1:{gateway.address[1]}{path}"
    return {"url": url, "options": usual | (options or {})}


def visit(site: Site, calls: list[dict[str, object]], profile: Path) -> list[dict[str, object]]:
    """Let the page of ``site`` make ``calls`` in a fresh browser, and read what it got."""
    assert CHROMIUM is not None
    site.page = PAGE.replace("CALLS", json.dumps(calls))
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={profile}", "--virtual-time-budget=10000",
        "--dump-dom", f"{site.origin}/",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    found = re.search(r'<pre id="result">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, f"status {done.returncode}: {done.stdout[:500]}{done.stderr[-500:]}"
    results: list[dict[str, object]] = json.loads(html.unescape(found[1]))
    assert len(results) == len(calls)
    return results


def test_t41_a_page_of_an_allowed_origin_reads_answers_and_errors(
    gateway: GatewayProcess, allowed: Site, backend: FakeBackend, tmp_path: Path
) -> None:
    prediction, fake, denied, sick = visit(
        allowed,
        [
            call(gateway, "/api/v1/service/diabetes/score", body=json.dumps({"data": ROWS})),
            call(gateway, "/api/v1/service/fake/score"),
            call(gateway, "/api/v1/service/fake/score", key="wrong-key-of-a-page"),
            call(gateway, "/api/v1/service/fake/sick"),
        ],
        tmp_path / "profile",
    )
    assert prediction["status"] == 200
    assert len(json.loads(str(prediction["text"]))) == 2
    headers = prediction["headers"]
    assert isinstance(headers, dict)
    assert headers["x-ms-run-function-failed"] == "False"
    assert float(headers["x-ms-run-fn-exec-ms"]) > 0
    assert headers["azureml-model-deployment"] == "blue"
    assert len(headers["x-ms-request-id"]) == 36
    assert headers["content-type"] == "application/json"
    assert (fake["status"], fake["text"]) == (200, "[1.5]")
    assert (denied["status"], denied["text"]) == (
        401,
        "Unauthorized, the key or token is not valid",
    )
    assert (sick["status"], sick["text"]) == (502, "Replica sent an answer that is not valid HTTP")
    # Every call needed leave, and none of the asking reached a container.
    assert [seen.line.split(" ")[0] for seen in backend.seen] == ["POST", "POST"]
    wait_until(lambda: len(_preflights(gateway)) >= 2, what="the preflights' log lines")
    assert {entry["status"] for entry in _preflights(gateway)} == {204}
    assert {entry["backend"] for entry in _preflights(gateway)} == {""}


def _preflights(gateway: GatewayProcess) -> list[dict[str, object]]:
    return [entry for entry in gateway.log_entries() if entry.get("method") == "OPTIONS"]


def test_t41_a_page_of_another_origin_reads_nothing(
    gateway: GatewayProcess, stranger: Site, backend: FakeBackend, tmp_path: Path
) -> None:
    backend.seen.clear()
    simple: dict[str, object] = {"headers": {"Content-Type": "text/plain"}}
    asked, plain, opaque = visit(
        stranger,
        [
            call(gateway, "/api/v1/service/fake/score"),
            # Needs no leave to be sent, so the gateway sees it; without a key it gets nowhere.
            call(gateway, "/api/v1/service/fake/score", options=simple),
            call(gateway, "/api/v1/service/fake/score", options={"mode": "no-cors", **simple}),
        ],
        tmp_path / "profile",
    )
    assert asked == {"error": "TypeError"}
    assert plain == {"error": "TypeError"}
    assert opaque == {"status": 0, "headers": {}, "text": ""}
    assert backend.seen == []
