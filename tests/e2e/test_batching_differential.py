"""Turning batching on changes no answer (design.md section 4).

Requests of all sorts come at the same time to a real container that takes one at a time, so that
they have to wait and are sent together. Each is compared with what the same request gets alone,
through a deployment without batching: status, body byte for byte, headers.

``SOAK`` in the environment is by how much more to try (`make soak`).
"""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.e2e.batching.middlemen import Careless
from tests.e2e.batching.mixes import STRANGERS, Ask, alike, mixes, with_a_stranger
from tests.e2e.batching.stage import Different, Stage, stage

_SOAK = int(os.environ.get("SOAK", "0"))
_EXAMPLES = _SOAK * 100 or 16
_MOST = 64 if _SOAK else 24
_LONG = 60 * (1 + 10 * _SOAK)

#: Container, script, and whether its rows are objects.
SCRIPTS = {
    "a list": ("plain", "list", False),
    "an object with a list": ("plain", "object", False),
    "a list as text": ("plain", "text of a list", False),
    "an object with a list as text": ("plain", "text of an object", False),
    "its exceptions as text": ("plain", "careful", False),
    "4xx for a bad row": ("plain", "judging", False),
    "NaN and Infinity": ("plain", "odd numbers", False),
    "an object for each row": ("plain", "objects", False),
    "with parameters beside the rows": ("plain", "parameters", False),
    "what numpy makes of an array": ("array", "", False),
    "what numpy makes of any array": ("loose", "", False),
    "what numpy makes of a table": ("table", "", True),
}
# Their answers cannot be split, or not without being changed.
DEPENDENT = {"one number for all rows": "total", "less the mean of all rows": "centred"}
#: Whose rows the script cannot abide, of 24 requests at the same time.
GUILTY = [{5}, {12}, {23}, {7, 8}, {3, 19}, set(range(24)) - {11}]


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("batching") / "stage") as running:
        yield running


def explore(cast: Stage, box: str, script: str, table: bool) -> None:
    """Compare mixes that hypothesis thinks of. They are not reduced: with what is sent at the same
    time, what comes together is not the same twice."""

    @seed(secrets.randbits(32) if _SOAK else zlib.crc32(f"{box} {script}".encode()))
    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def hold(data: st.DataObject) -> None:
        cast.compare(box, data.draw(mixes(script, table, _MOST)))

    hold()


@pytest.mark.timeout(_LONG)
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_request_gets_the_answer_it_would_get_alone(cast: Stage, name: str) -> None:
    box, script, table = SCRIPTS[name]
    merged = cast.count(box, "gateway_batch_requests_sum")
    proved = cast.count(box, "gateway_batch_proofs_total", result="proved")
    for _ in range(2):
        cast.compare(box, alike(script, table, 32))
    assert cast.count(box, "gateway_batch_proofs_total", result="proved") > proved
    # At the least: the first goes alone, the next eight are the proof.
    assert cast.count(box, "gateway_batch_requests_sum") > merged + 40, "else it proves nothing"
    for guilty in GUILTY:
        isolated = cast.count(box, "gateway_batch_isolations_total")
        cast.compare(box, alike(script, table, 24, guilty))
        assert cast.count(box, "gateway_batch_isolations_total") > isolated, "nor does it here"
    for rows in STRANGERS:
        cast.compare(box, with_a_stranger(script, table, rows))
    explore(cast, box, script, table)


@pytest.mark.timeout(_LONG)
@pytest.mark.parametrize("name", DEPENDENT)
def test_answers_that_depend_on_other_rows_are_what_they_are_alone(cast: Stage, name: str) -> None:
    def proofs(result: str) -> float:
        return cast.count("plain", "gateway_batch_proofs_total", result=result)

    proved, tried = proofs("proved"), proofs("disproved") + proofs("inconclusive")
    for _ in range(2):
        cast.compare("plain", alike(DEPENDENT[name], False, 32))
    assert proofs("disproved") + proofs("inconclusive") > tried, "else it proves nothing"
    assert proofs("proved") == proved
    explore(cast, "plain", DEPENDENT[name], False)


# The comparison itself.


def ask(row: str, parameters: str = "", **more: str) -> Ask:
    headers = {"X-Script": "parameters", **{name.replace("_", "-"): more[name] for name in more}}
    return Ask(f'{{"data": [{row}]{parameters}}}'.encode(), more=tuple(headers.items()))


async def merge_carelessly(cast: Stage, asks: list[Ask]) -> None:
    async with Careless(upstream=cast.gateway.address) as batcher:
        await cast.compare_at(batcher.address, "plain", asks)


def test_it_has_nothing_to_say_against_a_careless_batcher_as_long_as_all_goes_well(
    cast: Stage,
) -> None:
    cast.runner.run(merge_carelessly(cast, [ask(f"[{number}, 1.5]") for number in range(8)]))


@pytest.mark.parametrize(
    "odd",
    [
        ask("[1]"),
        ask('["3", 1]'),
        ask("[1, 2]", ', "GlobalParameters": {"factor": 2}'),
        ask("[1, 2]", Azureml_Model_Deployment="green"),
        ask("[1, 2]", X_Script="object"),
        ask("[1, 2]", X_Script="text of a list"),
        ask("[1, 2]", X_Script="centred"),
    ],
    ids=["width", "type", "parameters", "deployment", "header", "text", "dependent"],
)
@pytest.mark.parametrize("at", [0, 3, 7], ids=["first", "middle", "last"])
def test_it_finds_what_a_careless_batcher_does_wrong(cast: Stage, odd: Ask, at: int) -> None:
    asks = [ask(f"[{number}, 1.5]") for number in range(8)]
    asks[at] = odd
    with pytest.raises(Different):
        cast.runner.run(merge_carelessly(cast, asks))
