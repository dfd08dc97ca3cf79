"""An hour under load, or as long as is asked for: what grows, leaks, or is counted wrongly.

The same as ``tests/e2e/test_lifecycle_soak.py`` does for half a minute: every answer is checked,
the gateway's counters are compared with the clients' own, and memory and descriptors of all its
processes are looked at twice a second. ``--reload-every`` and ``--kill-every`` make it a life.
"""

from __future__ import annotations

import os
import signal
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path

from tests.support.gateways import GatewayProcess
from tests.support.hashing import HashingBackend
from tests.support.soaking import Disturbance, Look, Report, soak

_CONFIGURATION = """
listen: 127.0.0.1:0
admin: 127.0.0.1:0
access_log: access.log
workers: {workers}
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    traffic: {{green: {weight}}}
    deployments:
      blue: {{backends: ["{one}/blue", "{two}/blue"], concurrency: 64, batching: on}}
      green: {{backends: ["{two}/green"], concurrency: 64}}
"""
_ROWS = 12


def run(options: Namespace) -> None:
    """
    :raises SystemExit: something was not as it should be.
    """
    seconds = options.minutes * 60
    print(f"Soak, {options.minutes:g} min, a fifth of it (at most 5 min) to warm up:\n")
    with tempfile.TemporaryDirectory() as name, HashingBackend() as one, HashingBackend() as two:
        text = partial(
            _CONFIGURATION.format, one=one.url, two=two.url, workers=options.soak_workers
        )
        with GatewayProcess(text(weight=25), Path(name)) as gateway:
            report = soak(
                gateway,
                seconds,
                warm_up=min(seconds / 5, 300),
                pause=0.01,
                disturbances=_disturbances(gateway, text, options),
            )
    _show(report)
    if problems := report.problems():
        raise SystemExit("\n".join(problems))


def _disturbances(
    gateway: GatewayProcess, text: Callable[..., str], options: Namespace
) -> list[Disturbance]:
    """What is asked for."""
    weights, found = cycle((5, 60, 25)), []

    def reload() -> None:
        gateway.configure(text(weight=next(weights)))
        good, said = gateway.reload()
        assert good, said

    def kill() -> None:
        os.kill(gateway.workers()[0], signal.SIGKILL)

    if options.reload_every:
        found.append(Disturbance(options.reload_every, reload))
    if options.kill_every:
        found.append(Disturbance(options.kill_every, kill, kills=True))
    return found


def _show(report: Report) -> None:
    print("| after | processes | memory MiB | descriptors |\n|---|---|---|---|")
    begun = report.looks[0].when
    for look in _some(report.looks, _ROWS):
        memory = f"{look.memory / (1 << 20):.1f}"
        print(f"| {look.when - begun:.0f} s | {look.processes} | {memory} | {look.descriptors} |")
    account, (before, after) = report.account, report.descriptors
    answered = sum(account.answers.values())
    print(f"\nmemory after the warm-up: {report.growth:+.2%}")
    print(f"descriptors at rest: {before} before, {after} afterwards")
    print(f"answers: {answered} ({answered / report.seconds:.0f}/s), counted by the gateway: "
          f"{report.counted:.0f}")  # fmt: skip
    print(f"fates: {dict(account.fates)}; p50 {account.slowest(0.5) * 1000:.2f} ms, "
          f"p99 {account.slowest(0.99) * 1000:.2f} ms, "
          f"slowest {account.slowest() * 1000:.1f} ms")  # fmt: skip
    print()


def _some(looks: Sequence[Look], count: int) -> list[Look]:
    """So many of them at equal distances, the last one included."""
    step = max(1, len(looks) // count)
    return [*looks[:-1:step], looks[-1]]
