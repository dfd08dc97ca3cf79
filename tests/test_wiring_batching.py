"""What the file says about batching reaches the objects that do it, and what it says wrongly is
reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.replies import Reply
from gateway.engine.batching import BatchRules
from gateway.engine.endpoints import Deployment
from gateway.engine.exchange import Exchange
from gateway.settings.loading import Source, parse_source, validate
from gateway.wiring import Tools, wire
from tests.support.checking import check, demo, good, refused

AT = "5: endpoints.demo.deployments.blue.batching"
EVERYTHING = (
    "field: Inputs.rows, max_rows: 17, max_bytes: 5KiB, max_queue_delay: 3ms, "
    "latency_target: 70ms, significant_headers: [X-Model, X-Tenant], isolate_principals: true, "
    "scatter: true, tolerance: 0.001, sample: 2.5, debug_header: true"
)
RULES = BatchRules(
    field=("Inputs", "rows"),
    max_rows=17,
    max_bytes=5120,
    max_queue_delay=0.003,
    latency_target=0.07,
    significant_headers=("X-Model", "X-Tenant"),
    isolate_principals=True,
    scatter=True,
    tolerance=0.001,
    sample=2.5,
    debug_header=True,
)

INDIVIDUAL = "every request has another, and a merged call has none of them"


class Nobody:
    def record(self, exchange: Exchange) -> None:
        raise AssertionError("nothing happens here")


async def never(_: object) -> Any:
    raise AssertionError("nothing is connected here")


def text(batching: str) -> str:
    deployment = f"{{blue: {{backends: [http://h], batching: {batching}}}}}"
    return demo(auth="none", deployments=deployment)


def built(batching: str, draw: Callable[[], float] = lambda: 0.5) -> Deployment:
    """The deployment that comes of it."""
    source = parse_source(text(batching), Source("gateway.yaml", Path("/")))
    settings, mistakes = validate(source)
    assert settings is not None
    clock = iter([7.0])
    ids = iter([b"first"])
    tools = Tools(never, never, Nobody(), lambda: next(clock), lambda: 0.0, draw, ids, {})
    wired, more = wire(settings, source, tools)
    assert mistakes + more == []
    (deployment,) = wired.endpoints["demo"].deployments
    return deployment


@pytest.mark.parametrize("batching", ["off", "{mode: off}", "{mode: off, max_rows: 5}", "false"])
def test_without_batching_nothing_is_made_for_it(batching: str) -> None:
    deployment = built(batching)
    assert (deployment.mode, deployment.batcher, deployment.shadow) == ("off", None, None)
    assert not deployment.slots.scatters


@pytest.mark.parametrize("batching", ["on", "{mode: on}", "{}", "true", "{max_rows: 1024}"])
def test_what_the_file_leaves_open_is_as_the_rules_have_it(batching: str) -> None:
    deployment = built(batching)
    assert (deployment.mode, deployment.shadow) == ("on", None)
    batcher = deployment.slots.batcher
    assert batcher is not None
    assert batcher.rules == BatchRules()


@pytest.mark.parametrize("mode", ["on", "shadow"])
def test_every_setting_reaches_the_rules(mode: str) -> None:
    deployment = built(f"{{mode: {mode}, {EVERYTHING}}}")
    batcher = deployment.batcher
    assert batcher is not None
    assert batcher.rules == RULES
    assert all(getattr(RULES, name) != getattr(BatchRules(), name) for name in RULES.__slots__)
    assert (batcher.name, batcher.delay, batcher.max_bytes) == ("demo/blue", 0.003, 5120)
    assert batcher.cap <= 17
    assert (batcher.clock(), next(batcher.ids)) == (7.0, b"first")


def test_where_answers_are_only_compared_nothing_is_merged_or_cut_or_held_back() -> None:
    deployment = built(f"{{mode: shadow, {EVERYTHING}}}")
    assert deployment.mode == "shadow"
    assert deployment.shadow is not None
    assert (deployment.slots.batcher, deployment.slots.scatters) == (None, False)


@pytest.mark.parametrize(("drawn", "seen"), [(0.0249, 1), (0.025, 0)])
def test_chance_decides_what_is_compared(drawn: float, seen: int) -> None:
    shadow = built("{mode: shadow, sample: 2.5}", lambda: drawn).shadow
    assert shadow is not None

    class Answered:
        body = b"no JSON"

    shadow.see(Answered(), Reply(500))  # type: ignore[arg-type]
    assert shadow.tally.results["ineligible"] == seen


@pytest.mark.parametrize(
    ("names", "report"),
    [
        ("all", None),
        ("[]", None),
        ("[X-Model, x_tenant.id]", None),
        ("['a b']", "[0]: 'a b' is not a header name"),
        ("[X-Model, '']", "[1]: '' is not a header name"),
        ("['X-Model:']", "[0]: 'X-Model:' is not a header name"),
        ("['clé']", "[0]: 'clé' is not a header name"),
        ("[Traceparent]", f"[0]: 'Traceparent' cannot count: {INDIVIDUAL}"),
    ],
)
@pytest.mark.parametrize("mode", ["on", "shadow", "off"])
def test_headers_that_count_have_names_that_headers_can_have(
    tmp_path: Path, names: str, report: str | None, mode: str
) -> None:
    found = check(tmp_path, text(f"{{mode: {mode}, significant_headers: {names}}}"))
    assert found == (good() if report is None else refused(f"{AT}.significant_headers{report}"))


def test_all_of_several_wrong_names_are_reported(tmp_path: Path) -> None:
    assert check(tmp_path, text("{significant_headers: ['a b', X-Model, 'c d']}")) == refused(
        f"{AT}.significant_headers[0]: 'a b' is not a header name",
        f"{AT}.significant_headers[2]: 'c d' is not a header name",
    )


@pytest.mark.parametrize(
    ("delay", "wait", "good_enough"),
    [("10ms", "20ms", True), ("20ms", "20ms", False), ("1s", "20ms", False), ("0ms", "0ms", True)],
)
def test_holding_back_ends_before_waiting_does(
    tmp_path: Path, delay: str, wait: str, good_enough: bool
) -> None:
    batching = f"{{max_queue_delay: {delay}}}, queue: {{max_wait: {wait}}}"
    found = check(tmp_path, text(batching))
    why = "must be below queue.max_wait, or requests are refused while they are held back"
    assert found == (good() if good_enough else refused(f"{AT}.max_queue_delay: {why}"))
