"""JSON texts that break parsers: the real container gets what is JSON, nobody breaks.

Threats T20 and T21. A text that is not JSON is answered with 400, one that is gets the container's
own answer, and none ends in a server error: neither the gateway nor what it protects may fall over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.control.demo import ROWS
from tests.support.containers import Container
from tests.support.gateways import KEY, GatewayProcess, minimal
from tests.support.raw import request

FOLDER = Path(__file__).resolve().parents[1] / "corpora" / "jsontestsuite" / "test_parsing"
NAMES = sorted(path.name for path in FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def gateway(
    container: Container, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    with GatewayProcess(minimal(container.url), tmp_path_factory.mktemp("gateway")) as running:
        yield running
        assert running.process.poll() is None
        assert running.complaints() == []
        assert "Traceback" not in running.log()


def test_the_corpus_is_there(corpora: Path) -> None:
    assert corpora / "jsontestsuite" / "test_parsing" == FOLDER
    assert len(NAMES) == 318


@pytest.mark.parametrize("name", NAMES)
def test_every_text_is_answered_as_its_name_says(gateway: GatewayProcess, name: str) -> None:
    began = time.monotonic()
    answer = gateway.ask(request(body=(FOLDER / name).read_bytes(), key=KEY))
    assert time.monotonic() - began < 2
    if name.startswith("n_"):
        assert answer.status == 400
    else:
        assert 200 <= answer.status <= 499
    if name.startswith("y_"):
        assert answer.header("x-ms-run-function-failed") is not None  # said by the container


def test_the_container_still_scores(gateway: GatewayProcess) -> None:
    body = f'{{"data": {ROWS}}}'.encode()
    assert gateway.ask(request(body=body, key=KEY)).status == 200
