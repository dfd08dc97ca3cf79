"""What a gateway with a certificate shows to those who look: only what is configured.

The lookers are other people's: openssl s_client, curl, sslyze, and the ssl module of Python.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.backends import FakeBackend, answering
from tests.support.certificates import HOST, authority, issue, rsa_key
from tests.support.gateways import KEY, GatewayProcess, wait_until
from tests.support.raw import RawClient, request
from tests.support.raw_tls import TlsClient
from tests.support.resources import room_for
from tests.support.tls import ROOT, asking
from tests.support.tools import tool

BETWEEN = authority("Between", by=ROOT)
SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
}
IDLE = 1000
# Measured: 12 KiB.
PER_CONNECTION = 24 << 10


def configuration(backend: FakeBackend, tls: str = "", more: str = "") -> str:
    return f"""
listen:
  address: 127.0.0.1:0
  {more}
  tls:
    certificates:
      - {{certificate: first.pem, key: first.key}}
      - {{certificate: second.pem, key: second.key}}
    {tls}
admin: 127.0.0.1:0
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments: {{blue: {{backends: ["{backend.url}"], concurrency: 64}}}}
"""


@pytest.fixture(scope="module")
def backend() -> Iterator[FakeBackend]:
    with FakeBackend(answering()) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gateway")
    issue(HOST, "localhost", "127.0.0.1", by=BETWEEN).write(folder, "first")
    issue("*.second.test", by=ROOT, key=rsa_key()).write(folder, "second")
    (folder / "root.pem").write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    return folder


@pytest.fixture(scope="module")
def gateway(backend: FakeBackend, folder: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(configuration(backend), folder) as running:
        yield running
        assert running.complaints() == []


@pytest.fixture(scope="module")
def modern(
    backend: FakeBackend, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    own = tmp_path_factory.mktemp("modern")
    for file in folder.glob("*.[pk]e[my]"):
        shutil.copy(file, own)
    with GatewayProcess(configuration(backend, "max_version: 1.3"), own) as running:
        yield running
        assert running.complaints() == []


def s_client(gateway: GatewayProcess, *options: str, says: str = "") -> str:
    """What openssl says about a connection."""
    done = subprocess.run(
        [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{gateway.address[1]}",
         "-CAfile", str(gateway.folder / "root.pem"), *options],
        input=says, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


# Versions and suites.


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1", "-tls1_3"])
def test_no_version_but_the_configured_one(gateway: GatewayProcess, version: str) -> None:
    seen = s_client(gateway, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "Cipher is (NONE)" in seen
    assert "alert protocol version" in seen


def test_1_3_only_if_it_is_configured(gateway: GatewayProcess, modern: GatewayProcess) -> None:
    assert "New, TLSv1.2, " in s_client(gateway)
    assert "New, TLSv1.3, " in s_client(modern)
    assert "New, TLSv1.2, " in s_client(modern, "-tls1_2")
    assert "alert protocol version" in s_client(modern, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")


@pytest.mark.parametrize(
    "suites",
    ["RC4", "3DES", "AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384",
     "AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256", "aNULL", "eNULL", "PSK",
     "ECDHE-ECDSA-AES128-CCM"],
)  # fmt: skip
def test_no_suite_that_is_not_of_today(gateway: GatewayProcess, suites: str) -> None:
    seen = s_client(gateway, "-cipher", f"{suites}:@SECLEVEL=0")
    assert "Cipher is (NONE)" in seen or "no cipher match" in seen


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_the_suites_of_today(gateway: GatewayProcess, suite: str) -> None:
    assert f"New, TLSv1.2, Cipher is {suite}" in s_client(gateway, "-cipher", suite)


def test_compression_is_off_and_the_chain_is_whole(gateway: GatewayProcess) -> None:
    seen = s_client(gateway, "-comp", "-alpn", "h2,http/1.1")
    assert "Compression: NONE" in seen
    assert "Verify return code: 0 (ok)" in seen
    assert "ALPN protocol: http/1.1" in seen
    assert "Secure Renegotiation IS supported" in seen
    assert "Extended master secret: yes" in seen


def test_renegotiation_ends_the_connection(gateway: GatewayProcess) -> None:
    with subprocess.Popen(
        [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{gateway.address[1]}", "-tls1_2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            for line in client.stdout:
                if "Verify return code" in line:
                    break
            client.stdin.write("R\n")
            client.stdin.flush()
            seen = client.stdout.read()  # to the end: the gateway closes
        finally:
            client.kill()
    assert "RENEGOTIATING" in seen
    assert "no renegotiation" in seen


@pytest.mark.tool
@pytest.mark.parametrize("which", ["gateway", "modern"])
def test_sslyze_finds_nothing_wrong(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    running: GatewayProcess = request.getfixturevalue(which)
    report = tmp_path / "report.json"
    subprocess.run(
        [_sslyze(), "--mozilla_config=intermediate", f"--json_out={report}",
         f"localhost:{running.address[1]}"],
        capture_output=True, timeout=50, check=False,
    )  # fmt: skip
    scan = json.loads(report.read_text())["server_scan_results"][0]
    found = scan["scan_result"]
    accepted = {
        version: [
            s["cipher_suite"]["name"] for s in found[version]["result"]["accepted_cipher_suites"]
        ]
        for version in found
        if version.endswith("_cipher_suites")
    }
    assert len(accepted.pop("tls_1_2_cipher_suites")) == 3
    assert len(accepted.pop("tls_1_3_cipher_suites")) == (3 if which == "modern" else 0)
    assert not any(accepted.values())
    assert found["tls_compression"]["result"]["supports_compression"] is False
    assert found["heartbleed"]["result"]["is_vulnerable_to_heartbleed"] is False
    renegotiation = found["session_renegotiation"]["result"]
    assert renegotiation["is_vulnerable_to_client_renegotiation_dos"] is False
    assert renegotiation["supports_secure_renegotiation"] is True
    assert found["tls_fallback_scsv"]["result"]["supports_fallback_scsv"] is True
    resumption = found["session_resumption"]["result"]
    if resumption is not None and which == "gateway":
        assert resumption["tls_ticket_resumption_result"] == "FULLY_SUPPORTED"


def _sslyze() -> str:
    """In an environment of its own, because it wants an older cryptography than the gateway."""
    own = Path(sys.prefix, "sslyze", "bin", "sslyze")
    return str(own) if own.exists() else tool("sslyze")


def test_sslyze_s_verdict(gateway: GatewayProcess, tmp_path: Path) -> None:
    """Of Mozilla's profile, all but the trust in an authority that exists for a test."""
    done = subprocess.run(
        [_sslyze(), "--mozilla_config=intermediate", f"localhost:{gateway.address[1]}"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    verdict = done.stdout.partition("COMPLIANCE AGAINST")[2]
    complaints = [line.strip() for line in verdict.splitlines() if line.strip().startswith("*")]
    assert [line for line in complaints if "certificate_path_validation" not in line] == []
    assert "Not compliant" in verdict or "OK - Compliant" in verdict


# Which certificate.


@pytest.mark.parametrize(
    ("asked", "shown"),
    [(HOST, HOST), ("a.second.test", "*.second.test"), ("a.b.second.test", HOST),
     ("other.test", HOST), (None, HOST)],
)  # fmt: skip
@pytest.mark.parametrize("which", ["gateway", "modern"])
def test_the_chain_goes_by_the_name(
    which: str, asked: str | None, shown: str, request: pytest.FixtureRequest
) -> None:
    running: GatewayProcess = request.getfixturevalue(which)
    name = ["-noservername"] if asked is None else ["-servername", asked]
    seen = s_client(running, *name)
    assert f"subject=CN = {shown}" in seen
    assert "Verify return code: 0 (ok)" in seen


def test_a_name_that_is_none_is_no_event(gateway: GatewayProcess) -> None:
    context = asking()
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="sssssss.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    assert b"sssssss.test" in hello
    before = gateway.log()
    with socket.create_connection(gateway.address, 5) as plain:
        plain.sendall(hello.replace(b"sssssss.test", b"\xff\xfe\xfd\xfc\xfbss.test"))
        assert plain.recv(5)[:1] in (b"\x15", b"\x16")
    assert gateway.log()[len(before) :] == ""
    assert gateway.ask_over(asking()).status == 200


# Sessions.


@pytest.mark.parametrize("which", ["gateway", "modern"])
def test_sessions_are_resumed(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    running: GatewayProcess = request.getfixturevalue(which)
    before = running.metric("gateway_tls_handshakes_total", result="resumed")
    session = tmp_path / "session.pem"
    ask = "GET / HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n"
    options = ["-servername", HOST, "-ign_eof", "-quiet", "-no_ign_eof"][:2]
    s_client(running, *options, "-ign_eof", "-sess_out", str(session), says=ask)
    seen = s_client(running, *options, "-ign_eof", "-sess_in", str(session), says=ask)
    assert "Reused, TLSv1." in seen
    after = running.metric("gateway_tls_handshakes_total", result="resumed")
    assert after == before + 1


def test_a_session_id_is_enough(gateway: GatewayProcess) -> None:
    seen = s_client(gateway, "-no_ticket", "-reconnect", "-servername", HOST)
    assert seen.count("Reused, TLSv1.2") == 5


# Clients.


@pytest.mark.parametrize("which", ["gateway", "modern"])
def test_curl_scores(which: str, request: pytest.FixtureRequest) -> None:
    running: GatewayProcess = request.getfixturevalue(which)
    port = running.address[1]
    done = subprocess.run(
        [tool("curl"), "--silent", "--show-error", "--cacert", str(running.folder / "root.pem"),
         "--resolve", f"{HOST}:{port}:127.0.0.1", "--header", f"Authorization: Bearer {KEY}",
         "--header", "Content-Type: application/json", "--data", '{"data": [[1]]}',
         "--write-out", "%{http_code} %{http_version} %{ssl_verify_result}",
         f"https://{HOST}:{port}/api/v1/service/diabetes/score"],
        capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert done.stdout == "[1.0]200 1.1 0"


def test_python_scores(gateway: GatewayProcess, backend: FakeBackend) -> None:
    context = ssl.create_default_context(cafile=str(gateway.folder / "root.pem"))
    connection = http.client.HTTPSConnection("localhost", gateway.address[1], context=context)
    for _ in range(3):
        connection.request(
            "POST",
            "/api/v1/service/diabetes/score",
            b'{"data": [[1]]}',
            {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"[1.0]")
    connection.close()
    assert backend.seen[-1].header("x-forwarded-proto") == "https"


def test_whoever_has_mistaken_the_port_is_told_so(gateway: GatewayProcess) -> None:
    before = gateway.metric("gateway_tls_handshakes_total", result="failed")
    with RawClient(gateway.address) as plain:
        plain.send(request(key=KEY))
        answer = plain.answer()
        assert (answer.status, answer.text) == (400, "This port is for https:// only\n")
        assert plain.is_closed()
    after = gateway.metric("gateway_tls_handshakes_total", result="failed")
    assert after == before + 1


def test_plain_http_beside_it_by_choice(backend: FakeBackend, folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("*.[pk]e[my]"):
        shutil.copy(file, tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = configuration(backend, more=f"plain: 127.0.0.1:{port}")
    with GatewayProcess(text, tmp_path) as running:
        assert running.ask_over(asking()).status == 200
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        connection.request("POST", "/api/v1/service/diabetes/score", b"[]", headers)
        assert connection.getresponse().status == 200
        connection.close()
        assert backend.seen[-1].header("x-forwarded-proto") == "http"


# What it costs.


def test_an_idle_connection_costs_little(gateway: GatewayProcess) -> None:
    """Scoreboard 6: at most 60 KiB."""
    with room_for(IDLE + 200):
        for wave in (200, IDLE):
            before = gateway.own_memory()
            clients = [TlsClient(gateway.address, 20, asking()) for _ in range(wave)]
            for client in clients:
                client.send(request(key=KEY))
                assert client.answer().status == 200
            each = (gateway.own_memory() - before) / wave
            for client in clients:
                client.close()
            wait_until(lambda: gateway.metric("gateway_connections") == 0, 10, "their leaving")
    assert each < PER_CONNECTION, f"{each / 1024:.1f} KiB for every connection"


def test_when_certificates_end_is_a_metric(gateway: GatewayProcess) -> None:
    first = gateway.metric(
        "gateway_certificate_expiry_timestamp_seconds", use="listen", file="first.pem"
    )
    assert first == BETWEEN.certificate.not_valid_after_utc.timestamp()
