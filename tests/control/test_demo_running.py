"""The demo as its users see it: it scores through two real containers, what it prints can be
pasted, and however it ends nothing of it is left."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.demos import DemoProcess, configuration
from tests.support.gateways import wait_until
from tests.support.tools import tool

PROXY = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}
SERVING = "Serving. Press Ctrl-C to stop everything."


def ports(config: Path) -> list[int]:
    return [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", config.read_text())]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_check_scores_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    with DemoProcess(config, "--check") as demo:
        assert demo.process.wait(50) == 0
        assert demo.left() == []
        output = demo.output()
    public, admin, *backends = ports(config)
    assert all(is_free(port) for port in (public, admin, *backends))
    lines = output.splitlines()
    assert lines[:4] == [
        "Training a Ridge model on scikit-learn's diabetes data ...",
        f"Starting 2 scoring containers on 127.0.0.1:{backends[0]}, 127.0.0.1:{backends[1]} ...",
        "Starting the gateway ...",
        "",
    ]
    predictions = json.loads(lines[4].removeprefix("Predictions: "))
    assert len(predictions) == 2
    assert all(150 < prediction < 250 for prediction in predictions)
    assert re.fullmatch(r"  deployment blue, id [0-9a-f-]{36}", lines[5])
    assert lines[6:] == ["  batching on, at most 1024 rows a call"]


def blocks(output: str) -> tuple[str, str]:
    """The printed calls: for curl and for Python."""
    curl, _, rest = output.partition("Try it yourself:\n\n")[2].partition("\n\n")
    return curl, rest.partition("\n\n")[0]


def paste(call: str) -> list[float]:
    """Run a printed call as a shell would, behind a proxy that cannot be reached."""
    environment = {
        **os.environ,
        **PROXY,
        "PATH": f"{Path(tool('curl')).parent}:{Path(sys.executable).parent}",
    }
    ran = subprocess.run(
        ["/bin/sh", "-c", call], capture_output=True, env=environment, timeout=20, check=True
    )
    predictions: list[float] = json.loads(ran.stdout)
    return predictions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_it_serves_the_printed_calls_work_and_a_signal_stops_everything(
    tmp_path: Path, number: signal.Signals
) -> None:
    config = configuration(tmp_path)
    with DemoProcess(config) as demo:
        demo.wait_for(SERVING)
        wait_until(
            lambda: len(demo.processes()) == 7,
            what="demo, gateway and its worker, servers and theirs",
        )
        output = demo.output()
        for call in blocks(output):
            (prediction,) = paste(call)
            assert 150 < prediction < 250
        # The requests went to both containers in turn.
        (metrics,) = re.findall(r"Metrics: (http://\S+)", output)
        with urllib.request.urlopen(metrics, timeout=5) as page:
            assert page.read().count(b"gateway_upstream_connects_total{") == 2
        assert demo.signal(number) == 0
        assert demo.output() == output
        assert demo.left() == []
    assert all(is_free(port) for port in ports(config))


@pytest.mark.parametrize("stage", ["containers", "gateway"])
def test_a_signal_while_it_starts_leaves_nothing_behind(tmp_path: Path, stage: str) -> None:
    # The moment in which a process is being started is looked at in test_demo.py.
    sick = {"STAND_IN_SICK": "1"} if stage == "containers" else {}
    config = configuration(tmp_path)
    public, _, *backends = ports(config)
    awaited = backends if stage == "containers" else [public]
    with DemoProcess(config, stand_ins=True, environment=sick) as demo:
        wait_until(lambda: not any(is_free(port) for port in awaited), 20, f"the {stage}")
        assert demo.signal(signal.SIGTERM, pause=0) in ((130,) if sick else (0, 130))
        assert demo.left() == []
        assert "Traceback" not in demo.output()


@pytest.mark.parametrize("who", ["gateway", "container"])
def test_when_something_ends_by_itself_the_rest_is_stopped(tmp_path: Path, who: str) -> None:
    with DemoProcess(configuration(tmp_path), stand_ins=True) as demo:
        demo.wait_for(SERVING)
        (victim,) = [
            number
            for number in demo.processes()
            if (
                b"\0serve\0" if who == "gateway" else str(ports(tmp_path / "demo.yaml")[2]).encode()
            )
            in Path(f"/proc/{number}/cmdline").read_bytes()
        ]
        os.kill(victim, signal.SIGKILL)
        assert demo.process.wait(20) == 1
        assert "scoring-gateway: a process ended by itself: " in demo.output().splitlines()[-1]
        assert demo.left() == []


def test_an_impatient_second_signal_leaves_nothing_behind(tmp_path: Path) -> None:
    with DemoProcess(configuration(tmp_path), stand_ins=True) as demo:
        demo.wait_for(SERVING)
        demo.signal(signal.SIGINT, signal.SIGINT)
        assert demo.left() == []


def test_a_terminal_that_is_closed_leaves_nothing_behind(tmp_path: Path) -> None:
    with DemoProcess(configuration(tmp_path), stand_ins=True) as demo:
        demo.wait_for(SERVING)
        demo.signal(signal.SIGHUP)
        assert demo.left() == []


def test_a_proxy_in_the_environment_does_not_matter(tmp_path: Path) -> None:
    with DemoProcess(configuration(tmp_path), "--check", stand_ins=True, environment=PROXY) as demo:
        assert demo.process.wait(20) == 0


def test_the_demo_runs_on_ipv6(tmp_path: Path) -> None:
    config = configuration(tmp_path, {"listen: 127.0.0.1:8080": "listen: '[::1]:8080'"})
    with DemoProcess(config, "--check", stand_ins=True) as demo:
        assert demo.process.wait(20) == 0


def test_the_calls_printed_for_ipv6_can_be_pasted(tmp_path: Path) -> None:
    more = {
        "listen: 127.0.0.1:8080": "listen: '[::1]:8080'",
        "admin: 127.0.0.1:9090": "admin: '[::1]:9090'",
        "http://127.0.0.1:5001": "http://[::1]:5001",
    }
    with DemoProcess(configuration(tmp_path, more)) as demo:
        demo.wait_for(SERVING)
        for call in blocks(demo.output()):
            assert "http://[::1]:" in call
            assert len(paste(call)) == 1
        assert demo.signal(signal.SIGTERM) == 0
        assert demo.left() == []


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_many_impatient_signals_leave_nothing_behind(
    tmp_path: Path, second: signal.Signals
) -> None:
    with DemoProcess(configuration(tmp_path), stand_ins=True) as demo:
        demo.wait_for(SERVING)
        assert demo.signal(signal.SIGINT, *[second] * 8) == 0
        assert demo.left() == []
