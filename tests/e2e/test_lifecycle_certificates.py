"""Certificates are exchanged under load: new connections get the new one, old ones notice nothing.

Certificate and key are two files, so there is a moment in which they do not belong together. It
changes nothing either.
"""

from __future__ import annotations

import signal
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.certificates import HOST, NOW, Issued, authority, issue
from tests.support.gateways import KEY, GatewayProcess, wait_until
from tests.support.hashing import HashingBackend
from tests.support.lines import open_line
from tests.support.loops import run_within
from tests.support.questions import Scoring
from tests.support.raw import RawClient, request
from tests.support.scrapes import Scraper
from tests.support.traffic import Traffic

SWAPS = 20
KEPT, FRESH = 12, 3
ROOT = authority()


def trusting(root: Issued = ROOT) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=root.pem.decode())
    context.set_alpn_protocols(["http/1.1"])
    return context


def configuration(backend: HashingBackend, watch: str = "false") -> str:
    return f"""
listen:
  address: 127.0.0.1:0
  tls: {{certificate: gateway.pem, key: gateway.key}}
admin: 127.0.0.1:0
access_log: off
workers: 2
watch: {watch}
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments: {{blue: {{backends: ["{backend.url}/blue"], concurrency: 64}}}}
"""


class TlsClient(RawClient):
    """One connection with TLS."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address)
        self.tls = trusting().wrap_socket(self.socket, server_hostname=HOST)
        self.socket = self.tls

    def __enter__(self) -> TlsClient:
        return self

    @property
    def serial(self) -> int:
        """Of the certificate that the gateway has shown."""
        der = self.tls.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number


@dataclass(slots=True)
class World:
    gateway: GatewayProcess
    traffic: Traffic

    def shown(self) -> set[int]:
        """Serial numbers of the certificates that new connections get, of several workers."""
        found = set()
        for _ in range(6):
            with TlsClient(self.gateway.address) as client:
                found.add(client.serial)
                client.send(request(key=KEY, body=b'{"data": [[1]]}'))
                assert client.answer().status == 200
        return found


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """:param request: whether the gateway watches its files."""
    issue(HOST, by=ROOT).write(tmp_path, "gateway")
    with (
        HashingBackend() as backend,
        GatewayProcess(configuration(backend, request.param), tmp_path) as gateway,
        Scraper(gateway) as scraper,
    ):
        clients = Traffic(
            gateway.address, Scoring(), kept=KEPT, fresh=FRESH, tls=trusting(), name=HOST
        )
        with clients as traffic:
            traffic.more(50)
            yield World(gateway, traffic)
        scraper.check()
        assert "Traceback" not in gateway.log()
        traffic.account.check(50)


@pytest.mark.parametrize("world", ["false"], indirect=True)
def test_twenty_certificates_in_a_row(world: World) -> None:
    gateway, traffic = world.gateway, world.traffic
    with TlsClient(gateway.address) as first:
        serial = first.serial
        for turn in range(SWAPS):
            issued = issue(HOST, by=ROOT)
            issued.write(gateway.folder, "gateway")
            before = gateway.generation()
            if turn % 2:
                assert gateway.reload()[0]
            else:
                gateway.process.send_signal(signal.SIGHUP)
                wait_until(lambda before=before: gateway.generation() > before, what="the reload")
            assert world.shown() == {issued.certificate.serial_number}
            traffic.more(20)
            first.send(request(key=KEY, body=b'{"data": [[1]]}'))
            assert first.answer().status == 200
            assert first.serial == serial
        account = traffic.stop()
    assert account.found_closed == 0, "no connection is closed for a certificate"
    assert account.connections <= KEPT + account.right


@pytest.mark.parametrize("world", ["true"], indirect=True)
def test_changed_files_are_noticed(world: World) -> None:
    gateway = world.gateway
    for _ in range(3):
        issued = issue(HOST, by=ROOT)
        serial = issued.certificate.serial_number
        issued.write(gateway.folder, "gateway")
        wait_until(lambda serial=serial: world.shown() == {serial}, 10, "the new certificate")


def bad(kind: str, good: Issued) -> tuple[bytes, bytes]:
    """A certificate and a key that cannot be used."""
    if kind == "expired":
        old = issue(HOST, by=ROOT, start=NOW - timedelta(days=9), end=NOW - timedelta(days=1))
        return old.pem, old.key_pem
    if kind == "of another key":
        return good.pem, issue(HOST, by=ROOT).key_pem
    if kind == "cut":
        return good.pem[:-40], good.key_pem
    return b"", good.key_pem


@pytest.mark.parametrize("world", ["false"], indirect=True)
def test_what_cannot_be_used_changes_nothing(world: World) -> None:
    gateway = world.gateway
    shown = world.shown()
    for kind in ("expired", "of another key", "cut", "empty"):
        certificate, key = bad(kind, issue(HOST, by=ROOT))
        (gateway.folder / "gateway.pem").write_bytes(certificate)
        (gateway.folder / "gateway.key").write_bytes(key)
        good, said = gateway.reload()
        assert not good, kind
        assert "gateway.yaml:4: listen.tls." in str(said["problems"])
        assert world.shown() == shown
        assert gateway.admin_get("/readyz")[0] == 200


@pytest.mark.parametrize("world", ["false"], indirect=True)
def test_who_trusts_another_authority_is_counted_as_unconnected(world: World) -> None:
    """The clients of these tests do look at what they are shown."""

    async def ask() -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await open_line(world.gateway.address, trusting(authority("Another")), HOST)

    run_within(10, ask())
