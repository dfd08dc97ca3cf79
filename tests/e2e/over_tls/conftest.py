"""All gateways of this folder have a certificate, all clients speak TLS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateways import GatewayProcess, OverTls
from tests.support.tls import GATEWAY, asking


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> OverTls:
    chain, key = GATEWAY.write(tmp_path_factory.mktemp("tls"), "gateway")
    return OverTls(chain, key, asking())


@pytest.fixture(scope="module", autouse=True)
def over_tls(certificate: OverTls) -> Iterator[None]:
    GatewayProcess.over_tls = certificate
    try:
        yield
    finally:
        GatewayProcess.over_tls = None
