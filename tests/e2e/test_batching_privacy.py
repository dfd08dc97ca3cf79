"""Merged requests of several callers, on a bad day: nobody gets another's answer, nobody none.

Threat T24, for batching. A real container answers every row with its keyed hash. Callers of four
principals send hundreds of thousands of rows through a gateway that merges them; one in ten leaves
without waiting, one call in twenty meets a fault on its way to the container, and some are slow.

``SOAK`` in the environment is by how much more to send (`make soak`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.batching import scripts
from tests.e2e.batching.calling import Address
from tests.e2e.batching.middlemen import HONEST, Middleman
from tests.e2e.batching.oracle import KEY as ORACLE_KEY
from tests.e2e.batching.oracle import Betrayed, Oracle
from tests.support.containers import Container
from tests.support.gateways import KEY, SECOND_KEY, GatewayProcess, wait_until
from tests.support.tokens import AUDIENCE, ISSUER, Issuer, claims

_SOAK = int(os.environ.get("SOAK", "0"))
_ROWS = _SOAK * 1_000_000 or 200_000
_CALLERS = 64
_PATH = "/api/v1/service/oracle/score"
_TOKENS = Issuer("ES256", "one")
_CREDENTIALS = [
    KEY,
    SECOND_KEY,
    *(_TOKENS.token(claims(sub=name, exp=4_000_000_000)) for name in ("client-1", "client-2")),
]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    folder = tmp_path_factory.mktemp("oracle")
    # The script has no model. Where there is a file, none is trained.
    (folder / "sklearn_regression_model.pkl").touch()
    script = scripts.write(folder / "script", scripts.ORACLE)
    with Container(folder, script, environment={"ORACLE_KEY": ORACLE_KEY}) as running:
        yield running


def configuration(backend: Address, batching: str) -> str:
    auth = (
        "{keys: {primary: {env: TEST_KEY}, secondary: {env: TEST_SECOND_KEY}}, "
        f"tokens: {{issuer: {ISSUER}, audience: [{AUDIENCE}], algorithms: [ES256], "
        "public_key: key.pem}}"
    )
    queue = "queue: {max_wait: 50s, max_length: 100000}"
    url = f"http://{backend[0]}:{backend[1]}"
    return (
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\naccess_log: off\nendpoints:\n"
        f"  oracle:\n    auth: {auth}\n    deployments:\n"
        f"      blue: {{backends: ['{url}'], {queue}, batching: {batching}}}\n"
    )


def gateway_to(backend: Address, folder: Path, batching: str) -> GatewayProcess:
    (folder / "key.pem").write_bytes(_TOKENS.pem())
    return GatewayProcess(configuration(backend, batching), folder)


def bad_day(draw: random.Random) -> str | None:
    """One call in twenty meets a fault, one in fifty is slow."""
    if draw.random() < 0.05:
        return draw.choice(HONEST)
    return "slow" if draw.random() < 0.02 else None


@dataclass(slots=True)
class Watch:
    """Looks at what reaches the container: ``mixed`` is how many calls carried rows of several
    principals."""

    mixed: int = 0

    def __call__(self, request: bytes) -> None:
        rows = json.loads(request.partition(b"\r\n\r\n")[2])["data"]
        self.mixed += len({number % len(_CREDENTIALS) for number, *_ in rows}) > 1


@pytest.mark.timeout(300 * (1 + 3 * _SOAK))
@pytest.mark.parametrize(
    ("batching", "isolated", "rows"),
    [
        ("{max_rows: 256, latency_target: 10s}", False, _ROWS),
        ("{max_rows: 64, latency_target: 10s, isolate_principals: true}", True, _ROWS // 5),
    ],
    ids=["together", "isolated"],
)
def test_t24_nobody_gets_anothers_row_and_nobody_none(
    oracle: Container, tmp_path: Path, batching: str, isolated: bool, rows: int
) -> None:
    mixed = asyncio.run(_live_through_a_bad_day(oracle, tmp_path, batching, rows))
    assert (mixed == 0) == isolated


async def _live_through_a_bad_day(oracle: Container, folder: Path, batching: str, rows: int) -> int:
    """How many calls carried rows of several principals."""
    watch = Watch()
    async with Middleman(("127.0.0.1", oracle.port), choose=bad_day, notice=watch) as way:
        gateway = gateway_to(way.address, folder, batching)
        await asyncio.to_thread(gateway.start)
        try:
            callers = Oracle(gateway.address, _PATH, _CREDENTIALS)
            await callers.run(_CALLERS, rows)
            await asyncio.to_thread(_look_back, gateway, callers, way)
        finally:
            await asyncio.to_thread(gateway.stop)
    return watch.mixed


def _look_back(gateway: GatewayProcess, callers: Oracle, way: Middleman) -> None:
    """It was a bad day, many requests went together, and nothing is left of it."""
    for name in ("requests_in_flight", "places_taken", "queue_length"):
        wait_until(lambda name=name: gateway.metric(f"gateway_{name}") == 0, what=f"{name} 0")
    assert gateway.complaints() == []
    seen, asked, calls = callers.seen, callers.seen.total(), way.done.total()
    assert seen["left"] > 0.08 * asked
    assert seen["answered"] > 0.7 * asked, seen
    # Only an answer that one caller has to itself is passed on before its end has come.
    assert seen["broken"] <= way.done["cut"]
    assert all(way.done[fault] for fault in HONEST), way.done
    assert sum(way.done[fault] for fault in HONEST) > 0.03 * calls, way.done
    assert gateway.metric("gateway_batch_requests_sum") > 0.5 * asked, "else it proves nothing"


# The oracle itself.


@pytest.mark.parametrize(
    ("wrong", "accusation"),
    [
        ("swap", "was due"),
        ("lose", "nothing came within"),
        ("double", "was due|more came"),
        ("refuse", "closed without an answer"),
        ("forget", "closed without an answer"),
    ],
)
def test_it_notices_a_gateway_that_gives_a_caller_the_wrong_answer_or_none(
    oracle: Container, tmp_path: Path, wrong: str, accusation: str
) -> None:
    def choose(draw: random.Random) -> str | None:
        return wrong if draw.random() < 0.01 else None

    async def run(at: Address) -> None:
        async with Middleman(at, choose=choose) as gateway_and_more:
            callers = Oracle(gateway_and_more.address, _PATH, _CREDENTIALS, patience=2.0)
            await callers.run(8, 20_000)

    backend = ("127.0.0.1", oracle.port)
    with gateway_to(backend, tmp_path, "on") as gateway:
        with pytest.raises(ExceptionGroup) as caught:
            asyncio.run(run(gateway.address))
        assert caught.group_contains(Betrayed, match=accusation)
        asyncio.run(Oracle(gateway.address, _PATH, _CREDENTIALS).run(8, 2000))
