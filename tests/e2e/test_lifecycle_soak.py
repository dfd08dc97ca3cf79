"""A short soak: under load nothing grows, nothing leaks, nothing is counted wrongly.

The long one is ``python -m benchmarks soak``.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest

from tests.support.gateways import GatewayProcess
from tests.support.hashing import HashingBackend
from tests.support.soaking import Disturbance, Look, Report, growth, soak
from tests.support.traffic import RIGHT, Account

SECONDS, WARM_UP = 16.0, 8.0

CONFIGURATION = """
listen: 127.0.0.1:0
admin: 127.0.0.1:0
access_log: access.log
workers: 2
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    traffic: {{green: {weight}}}
    deployments:
      blue: {{backends: ["{one}/blue", "{two}/blue"], concurrency: 64, batching: on,
        connections: {{max: 64, idle_timeout: 500ms}}}}
      green: {{backends: ["{two}/green"], concurrency: 64,
        connections: {{max: 64, idle_timeout: 500ms}}}}
"""


@pytest.mark.timeout(90)
def test_nothing_grows_and_nothing_is_lost(tmp_path: Path) -> None:
    with HashingBackend() as one, HashingBackend() as two:
        text = partial(CONFIGURATION.format, one=one.url, two=two.url)
        weights = cycle((5, 60, 25))
        with GatewayProcess(text(weight=25), tmp_path) as gateway:

            def reload() -> None:
                gateway.configure(text(weight=next(weights)))
                good, said = gateway.reload()
                assert good, said

            report = soak(gateway, SECONDS, warm_up=WARM_UP, disturbances=[Disturbance(3, reload)])
        lines = (tmp_path / "access.log").read_text().count("\n")
    assert report.problems() == []
    assert lines == report.account.right, "every request is logged once"
    assert report.account.right > 100 * SECONDS, "else it proves little"
    assert len(report.warm) > WARM_UP


def looks(*memory: float) -> list[Look]:
    return [Look(at, 1, int(size), 10) for at, size in enumerate(memory)]


@pytest.mark.parametrize(
    ("memory", "share"),
    [
        ([1000, 1000, 1000, 1000, 1000, 1000], 0.0),
        ([1000, 1010, 1020, 1030, 1040, 1050], 0.05),
        ([1000, 1000, 9000, 1000, 1000, 1000], 0.0),
        ([1000, 990, 980, 970, 960, 950], -0.05),
    ],
)
def test_growth_is_of_the_whole_time(memory: list[float], share: float) -> None:
    assert growth(looks(*memory)) == pytest.approx(share)


def good_report(**changes: object) -> Report:
    account = Account(Counter({RIGHT: 7}), Counter({("diabetes", "blue", 200): 7}))
    report = Report(1.0, account, warm=looks(*[1000] * 8), counted=7.0)
    for name, value in changes.items():
        setattr(report, name, value)
    return report


def test_a_report_without_problems() -> None:
    assert good_report().problems() == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"warm": looks(*range(1000, 1030))}, "memory grew by 2.9%"),
        ({"descriptors": (10, 16)}, "10 descriptors"),
        ({"counted": 6.0}, "the gateway has counted 6"),
        ({"counted": 8.0, "kills": 1}, "the gateway has counted 8"),
        ({"log": '{"level":"error","message":"x"}'}, '"message":"x"'),
        ({"log": "Traceback (most recent call last):"}, "traceback"),
        ({"complaints": ["backwards"]}, "backwards"),
        ({"account": Account(Counter({"status 502": 1, RIGHT: 7}))}, "status 502"),
        ({"account": Account(Counter({"broken": 1, RIGHT: 7}))}, "broken"),
        ({"account": Account(Counter({"status 502": 1, RIGHT: 7})), "kills": 1}, "status 502"),
    ],
)
def test_a_report_tells_what_should_not_have_been(changes: dict[str, object], problem: str) -> None:
    assert any(problem in found for found in good_report(**changes).problems())


def test_who_was_inside_a_killed_worker_is_no_problem() -> None:
    account = Account(Counter({"broken": 1, RIGHT: 7}), Counter({("diabetes", "blue", 200): 7}))
    assert good_report(account=account, kills=1, counted=5.0).problems() == []
