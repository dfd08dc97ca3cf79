"""The demo of what batching does: the same rush of requests, to the same containers, through a
gateway without batching and then through one with it."""

from __future__ import annotations

import secrets
from pathlib import Path

import uvloop
import yaml

from gateway.control import rush
from gateway.control.children import Children
from gateway.control.demo import (
    DemoFailed,
    DemoPlan,
    Say,
    Stage,
    await_ready,
    batching_of,
    ended_early,
    set_stage,
    start_gateway,
)
from gateway.control.rush import Results
from gateway.core.backends import Backend


def run_load(plan: DemoPlan, say: Say, show: Say | None) -> None:
    """Measure, and say what came of it.

    :param show: replaces the line at the cursor; None where that cannot be done.
    :raises DemoFailed: something will not start, or there is nothing to compare.
    :raises KeyboardInterrupt: a signal came; nothing is left of it.
    """
    with set_stage(plan, say) as stage:
        questions = rush.Questions(_predictor(stage.folder))
        say(
            f"Sending requests on {rush.CONNECTIONS} connections for {rush.SECONDS:g} s each.\n"
            "Each has other numbers, and each answer is compared with the model's own ..."
        )
        say("")
        say(heading())
        unbatched = stage.folder / "unbatched.yaml"
        unbatched.write_text(without_batching(plan.config.read_text()))
        before = _rush(plan, stage, "off", unbatched, questions, say, show)
        after = _rush(plan, stage, "on", plan.config, questions, say, show)
        say("")
        for line in summary(before, after):
            say(line)


def without_batching(text: str) -> str:
    """A configuration with batching turned off."""
    described = yaml.safe_load(text)
    for endpoint in described["endpoints"].values():
        for deployment in endpoint["deployments"].values():
            deployment["batching"] = "off"
    return yaml.safe_dump(described)


def _rush(
    plan: DemoPlan, stage: Stage, mode: str, config: Path, ask: rush.Questions, say: Say,
    show: Say | None,
) -> Results:  # fmt: skip
    """What a rush through a gateway of its own comes to."""
    key = secrets.token_hex(16)
    # Children of its own: this gateway is gone when the next one needs the ports.
    with Children() as children:
        gateway = start_gateway(children, config, stage.folder, key)
        with stage.interruption.allowed():
            await_ready(gateway, plan.admin, "/readyz", "the gateway", say)
            if not batching_of(plan).startswith(mode):
                raise DemoFailed(f"{plan.config} does not turn batching on: nothing to compare")
            rushing = rush.Rush(plan.public, _head(plan, key), ask).run(
                rush.CONNECTIONS,
                rush.SECONDS,
                lambda recent: show(row(mode, recent)) if show is not None else None,
            )
            results = uvloop.run(rushing)
            if show is not None:
                show("")
            say(row(mode, results))
            for child in (gateway, *stage.containers):
                if child.ended:
                    raise ended_early(child)
    return results


def _head(plan: DemoPlan, key: str) -> bytes:
    return (
        f"POST {plan.scoring_path} HTTP/1.1\r\nHost: {Backend(*plan.public).name}\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n"
    ).encode()


def _predictor(folder: Path) -> rush.Predict:
    import joblib

    predict: rush.Predict = joblib.load(folder / "sklearn_regression_model.pkl").predict
    return predict


def heading() -> str:
    return f"{'batching':<10}{'requests/s':>12}{'p50':>12}{'p99':>12}{'failed':>10}"


def row(label: str, results: Results) -> str:
    p50, p99 = (f"{1000 * results.percentile(share):,.1f} ms" for share in (0.5, 0.99))
    failed = results.failures.total()
    return f"{label:<10}{results.rate:>12,.0f}{p50:>12}{p99:>12}{failed:>10,}"


def summary(before: Results, after: Results) -> list[str]:
    """What came of it, failures first."""
    lines = [
        f"batching {label}: {count:,} x {what}"
        for label, results in (("off", before), ("on", after))
        for what, count in results.failures.most_common()
    ]
    if before.rate and after.rate:
        lines.append(f"{after.rate / before.rate:.1f} times the requests per second with batching.")
    return lines
