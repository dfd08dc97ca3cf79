"""Before and after: what is shown, and that it is measured with batching off and then on."""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path

import pytest
import yaml

from gateway.app import load, plan_demo
from gateway.control import rush
from gateway.control.demo import DemoFailed, DemoPlan
from gateway.control.load_demo import heading, row, run_load, summary, without_batching
from gateway.control.rush import Results
from tests.support.demos import ROOT, DemoProcess, configuration
from tests.support.gateways import wait_until
from tests.support.processes import marked

KEYS = {"DEMO_PRIMARY_KEY": "0" * 16, "DEMO_SECONDARY_KEY": "1" * 16}
SENDING = "Sending requests on 64 connections"
OFF = r"off +[\d,]+ +[\d,.]+ ms +[\d,.]+ ms +0"
ON = OFF.replace("off", "on ")


def test_a_row_stands_below_its_heading() -> None:
    results = Results(2.0, [0.001, 0.002, 1.5], Counter({"status 503": 1234}))
    assert heading() == "batching    requests/s         p50         p99    failed"
    assert row("off", results) == ("off                  2      2.0 ms  1,500.0 ms     1,234")
    assert row("on", Results()) == "on                   0      0.0 ms      0.0 ms         0"


def test_the_summary_names_every_failure_before_the_ratio() -> None:
    before = Results(1.0, [0.1] * 10, Counter({"status 503": 2, "no answer": 3000}))
    after = Results(2.0, [0.1] * 95)
    assert summary(before, after) == [
        "batching off: 3,000 x no answer",
        "batching off: 2 x status 503",
        "4.8 times the requests per second with batching.",
    ]
    assert summary(after, before)[-1] == "0.2 times the requests per second with batching."


@pytest.mark.parametrize("empty", [0, 1])
def test_without_good_answers_there_is_no_ratio(empty: int) -> None:
    both = [Results(1.0, [0.1]), Results(1.0, [0.1])]
    both[empty] = Results(1.0, [], Counter({"no answer": 1}))
    (line,) = summary(*both)
    assert line == f"batching {'on' if empty else 'off'}: 1 x no answer"


def test_the_other_configuration_differs_in_batching_only(tmp_path: Path) -> None:
    shipped = (ROOT / "config" / "demo.yaml").read_text()
    path = tmp_path / "unbatched.yaml"
    path.write_text(without_batching(shipped))
    batched, _ = load(ROOT / "config" / "demo.yaml", KEYS)
    unbatched, _ = load(path, KEYS)
    modes = []
    for settings in (batched, unbatched):
        dump = settings.model_dump()
        modes.append(dump["endpoints"]["diabetes"]["deployments"]["blue"].pop("batching")["mode"])
        assert yaml.safe_dump(dump)
    assert modes == ["on", "off"]
    first, second = batched.model_dump(), unbatched.model_dump()
    for dump in (first, second):
        del dump["endpoints"]["diabetes"]["deployments"]["blue"]["batching"]
    assert first == second


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DemoPlan:
    monkeypatch.setattr(rush, "SECONDS", 0.6)
    return plan_demo(configuration(tmp_path))


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Marks what the demo starts, by a variable of the environment."""
    monkeypatch.setenv("DEMO_MARK", str(tmp_path))
    return f"DEMO_MARK={tmp_path}"


@pytest.mark.parametrize("live", [False, True])
def test_a_load_is_measured_without_and_with_batching_and_leaves_nothing_behind(
    plan: DemoPlan, mark: str, live: bool
) -> None:
    lines: list[str] = []
    shown: list[str] = []
    run_load(plan, lines.append, shown.append if live else None)
    assert lines[2].startswith(SENDING)
    assert lines[3:5] == ["", heading()]
    assert re.fullmatch(OFF, lines[5])
    assert re.fullmatch(ON, lines[6])
    assert lines[7] == ""
    assert re.fullmatch(r"\d+\.\d times the requests per second with batching\.", lines[8])
    assert len(lines) == 9
    if live:
        labels = [text.partition(" ")[0] for text in shown]
        middle = labels.index("")
        assert 2 <= middle <= 4
        assert labels == ["off"] * middle + [""] + ["on"] * (len(labels) - middle - 2) + [""]
    else:
        assert shown == []
    wait_until(lambda: marked(mark) == [], 2, "the end of all processes")


def test_a_configuration_without_batching_has_nothing_to_show(plan: DemoPlan, mark: str) -> None:
    plan.config.write_text(plan.config.read_text().replace("batching: on ", "batching: off "))
    with pytest.raises(DemoFailed, match=r" does not turn batching on: nothing to compare$"):
        run_load(plan, lambda line: None, None)
    wait_until(lambda: marked(mark) == [], 2, "the end of all processes")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    with DemoProcess(configuration(tmp_path), "--load") as demo:
        demo.wait_for(heading())
        assert demo.signal(number, pause=2) == 130
        assert demo.left() == []
        assert "Traceback" not in demo.output()
