"""Certificates of clients that open endpoints, and containers that must prove who they are."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.edge.contexts import Identity, ServerRules, server_context
from tests.support.backends import Behaviour, FakeBackend, Link, answering, echoing
from tests.support.certificates import DAY, HOST, NOW, Issued, authority, client, issue
from tests.support.checking import FILE, check
from tests.support.gateways import KEY, GatewayProcess, wait_until
from tests.support.raw import Answer, Closed, request
from tests.support.raw_tls import TlsClient
from tests.support.tls import ROOT, asking

STRANGER = authority("Another")
NAMES = "certificates: ['cn:scoring client', 'dns:b.test', 'uri:spiffe://example.com/c']"


def encrypted(context: ssl.SSLContext, behaviour: Behaviour) -> Behaviour:
    """The same over TLS."""

    def behave(link: Link) -> None:
        link.socket = context.wrap_socket(link.socket, server_side=True)
        behaviour(link)

    return behave


def presenting(issued: Issued, client_ca: Issued | None = None) -> ssl.SSLContext:
    authorities = None if client_ca is None else client_ca.certificate.public_bytes(Encoding.PEM)
    identity = Identity(issued.pem, issued.key_pem)
    return server_context(
        ServerRules((identity,), highest="1.3", client_ca=authorities, required=bool(authorities))
    )


def put(folder: Path) -> None:
    issue(HOST, by=ROOT).write(folder, "gateway")
    client("gateway.test", by=ROOT, common_name="the gateway").write(folder, "own")
    (folder / "root.pem").write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))


# Clients.


@pytest.fixture(scope="module")
def asks_back(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    put(folder)
    with FakeBackend(answering()) as backend:
        blue = f"{{blue: {{backends: [{backend.url}], concurrency: 64}}}}"
        text = f"""
listen:
  address: 127.0.0.1:0
  tls: {{certificate: gateway.pem, key: gateway.key, client_ca: root.pem, max_version: 1.3}}
admin: 127.0.0.1:0
endpoints:
  alone: {{auth: {{{NAMES}}}, deployments: {blue}}}
  both: {{auth: {{keys: {{primary: {{env: TEST_KEY}}}}, {NAMES}}}, deployments: {blue}}}
  keys: {{auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}, deployments: {blue}}}
"""
        with GatewayProcess(text, folder) as running:
            yield running
            assert running.complaints() == []


def knock(
    gateway: GatewayProcess, endpoint: str, certificate: Issued | None, key: str | None = None
) -> Answer:
    with TlsClient(gateway.address, 10, asking(certificate=certificate)) as connection:
        connection.send(request(f"/api/v1/service/{endpoint}/score", key=key))
        return connection.answer()


CN = client("a.test", by=ROOT, common_name="scoring client")
DNS = client("B.test", by=ROOT)
URI = client("spiffe://example.com/c", by=ROOT)
OTHER = client("other.test", by=ROOT)


@pytest.mark.parametrize(
    ("certificate", "principal"),
    [(CN, "cn:scoring client"), (DNS, "dns:b.test"), (URI, "uri:spiffe://example.com/c")],
)
@pytest.mark.parametrize("endpoint", ["alone", "both"])
def test_a_certificate_that_is_listed_opens_and_names_the_principal(
    asks_back: GatewayProcess, endpoint: str, certificate: Issued, principal: str
) -> None:
    answer = knock(asks_back, endpoint, certificate)
    assert answer.status == 200
    wanted = answer.header("x-request-id")

    def named() -> list[object]:
        return [e["principal"] for e in asks_back.log_entries() if e.get("request_id") == wanted]

    wait_until(named, what="the line in the log")
    assert named() == [principal]


@pytest.mark.parametrize(
    ("endpoint", "certificate", "key", "status"),
    [
        ("alone", None, None, 401),
        ("alone", OTHER, None, 401),
        ("alone", OTHER, KEY, 401),
        ("alone", CN, "not-a-key-of-ours-0123456789", 200),  # not for us: the container's own
        ("both", None, KEY, 200),
        ("both", OTHER, KEY, 200),
        ("both", OTHER, None, 401),
        ("both", CN, "not-a-key-of-ours-0123456789", 401),  # what is said of itself counts
        ("keys", CN, None, 401),
        ("keys", CN, KEY, 200),
    ],
)
def test_what_opens_which_endpoint(
    asks_back: GatewayProcess,
    endpoint: str,
    certificate: Issued | None,
    key: str | None,
    status: int,
) -> None:
    assert knock(asks_back, endpoint, certificate, key).status == status


def test_how_it_went_is_counted(asks_back: GatewayProcess) -> None:
    name = "gateway_authentications_total"
    for certificate, outcome in ((CN, "certificate"), (OTHER, "wrong_certificate")):
        before = asks_back.metric(name, endpoint="alone", outcome=outcome)
        knock(asks_back, "alone", certificate)
        assert asks_back.metric(name, endpoint="alone", outcome=outcome) == before + 1


@pytest.mark.parametrize(
    "certificate",
    [
        client("b.test", by=STRANGER, common_name="scoring client"),
        issue("b.test", by=ROOT, start=NOW - 3 * DAY, end=NOW - 2 * DAY),
        issue("b.test"),
    ],
    ids=["other authority", "expired", "self-signed"],
)
def test_a_certificate_that_proves_nothing_opens_not_even_the_connection(
    asks_back: GatewayProcess, certificate: Issued
) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        knock(asks_back, "alone", certificate)


def test_without_a_certificate_nobody_gets_in_where_it_is_required(tmp_path: Path) -> None:
    put(tmp_path)
    with FakeBackend(answering()) as backend:
        text = f"""
listen:
  address: 127.0.0.1:0
  tls: {{certificate: gateway.pem, key: gateway.key, client_ca: root.pem,
    client_certificate: required}}
admin: 127.0.0.1:0
endpoints:
  keys:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments: {{blue: {{backends: [{backend.url}]}}}}
"""
        with GatewayProcess(text, tmp_path) as running:
            assert knock(running, "keys", OTHER, KEY).status == 200
            with pytest.raises(ssl.SSLError):
                knock(running, "keys", None, KEY)


# Containers.


def to_containers(*backends: FakeBackend, tls: str, more: str = "") -> str:
    urls = ", ".join(f'"https://127.0.0.1:{backend.port}"' for backend in backends)
    return f"""
listen: 127.0.0.1:0
admin: 127.0.0.1:0
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    {more}
    deployments:
      blue: {{backends: [{urls}], concurrency: 64, tls: {tls}}}
"""


LOCAL = issue("model.internal", "127.0.0.1", by=ROOT)
EXPIRED = issue("127.0.0.1", by=ROOT, start=NOW - 3 * DAY, end=NOW - timedelta(hours=1))


@pytest.mark.parametrize(
    "tls",
    ["{ca: root.pem}", "{ca: root.pem, server_name: model.internal}", "{verify: false}",
     "{ca: root.pem, certificate: own.pem, key: own.key}"],
)  # fmt: skip
def test_a_container_that_proves_who_it_is(tmp_path: Path, tls: str) -> None:
    put(tmp_path)
    context = presenting(LOCAL, ROOT if "own" in tls else None)
    with (
        FakeBackend(encrypted(context, echoing)) as backend,
        GatewayProcess(to_containers(backend, tls=tls), tmp_path) as running,
    ):
        for size in (10, 200_000, 3_000_000):
            body = b"%d" % size * (size // 8)
            headers = {"Content-Type": "application/octet-stream"}
            answer = running.ask(request(body=body, key=KEY, headers=headers))
            assert (answer.status, answer.body) == (200, body)
        assert backend.connections == 1
        assert running.complaints() == []


@pytest.mark.parametrize(
    ("issued", "tls", "why"),
    [
        (LOCAL, "{}", "its certificate is not good: unable to get local issuer certificate"),
        (
            LOCAL,
            "{ca: root.pem, server_name: other.internal}",
            "its certificate is not good: Hostname mismatch",
        ),
        (EXPIRED, "{ca: root.pem}", "its certificate is not good: certificate has expired"),
        (issue("127.0.0.1"), "{ca: root.pem}", "its certificate is not good: self-signed"),
    ],
    ids=["unknown", "other name", "expired", "self-signed"],
)
def test_a_container_that_proves_nothing_gets_nothing(
    tmp_path: Path, issued: Issued, tls: str, why: str
) -> None:
    put(tmp_path)
    with (
        FakeBackend(encrypted(presenting(issued), echoing)) as backend,
        GatewayProcess(to_containers(backend, tls=tls), tmp_path) as running,
    ):
        answer = running.ask()
        assert (answer.status, answer.text) == (502, "Replica could not prove who it is")
        assert backend.seen == []
        log = running.log()
        assert why in log
        assert "Traceback" not in log


def test_another_container_is_tried(tmp_path: Path) -> None:
    put(tmp_path)
    with (
        FakeBackend(encrypted(presenting(EXPIRED), echoing)) as bad,
        FakeBackend(encrypted(presenting(LOCAL), echoing)) as good,
        GatewayProcess(to_containers(bad, good, tls="{ca: root.pem}"), tmp_path) as running,
    ):
        for _ in range(10):
            assert running.ask().status == 200
        assert bad.seen == []


def test_a_container_without_tls_gets_nothing(tmp_path: Path) -> None:
    put(tmp_path)
    with (
        FakeBackend(echoing) as backend,
        GatewayProcess(to_containers(backend, tls="{ca: root.pem}"), tmp_path) as running,
    ):
        assert running.ask().status in (502, 503)
        assert backend.seen == []
        assert KEY.encode() not in bytes(backend.raw)


def cut_short(link: Link) -> None:
    """Answers up to the end of the connection, which comes without a goodbye."""
    link.read_request()
    link.send(b"HTTP/1.1 200 OK\r\n\r\n[1.0, 2.0")
    link.socket.shutdown(socket.SHUT_RDWR)  # which of TLS's knows nothing of goodbyes


def test_an_answer_that_was_cut_short_does_not_look_whole(tmp_path: Path) -> None:
    put(tmp_path)
    with (
        FakeBackend(encrypted(presenting(LOCAL), cut_short)) as backend,
        GatewayProcess(to_containers(backend, tls="{ca: root.pem}"), tmp_path) as running,
    ):
        with pytest.raises(Closed) as caught:
            running.ask()
        assert caught.value.reset


def test_who_does_not_verify_is_told(tmp_path: Path) -> None:
    put(tmp_path)
    with FakeBackend(echoing) as backend:
        (tmp_path / FILE).write_text(to_containers(backend, tls="{verify: false}"))
        report = check(tmp_path, None, {"TEST_KEY": KEY}).report
    assert len(report) == 1
    assert "tls.verify: warning: backends are not verified" in report[0]
