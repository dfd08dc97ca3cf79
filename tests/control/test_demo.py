"""What can go wrong with the demo is told in one sentence, and nothing that was started is left.

The demo runs in this process, with stand-ins for its containers except where a real one must fail.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.app import plan_demo
from gateway.control import demo
from gateway.control.demo import (
    NEEDED,
    ROWS,
    DemoFailed,
    DemoPlan,
    container_command,
    last_words,
    run_demo,
)
from gateway.settings.loading import BadConfiguration
from tests.support.demos import configuration, stand_in
from tests.support.gateways import wait_until
from tests.support.processes import marked

MARK = "DEMO_MARK"


@pytest.fixture
def plan(tmp_path: Path) -> DemoPlan:
    return plan_demo(configuration(tmp_path))


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Marks what the demo starts, by a variable of the environment."""
    monkeypatch.setenv(MARK, str(tmp_path))
    return f"{MARK}={tmp_path}"


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "container_command", stand_in)
    monkeypatch.setattr(demo, "train", lambda folder: None)


def failure(plan: DemoPlan, check: bool = True) -> str:
    said: list[str] = []
    with pytest.raises(DemoFailed) as caught:
        run_demo(plan, said.append, check)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def assert_nothing_is_left(mark: str) -> None:
    wait_until(lambda: marked(mark) == [], 2, "the end of all processes")


@pytest.mark.parametrize("missing", [["sklearn"], ["joblib", "gunicorn"], list(NEEDED)])
def test_missing_libraries_are_named_with_the_cure(
    plan: DemoPlan, monkeypatch: pytest.MonkeyPatch, missing: list[str]
) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name in missing else True)
    assert failure(plan) == (
        f"the demo needs {', '.join(missing)}: install them with "
        "`pip install '.[demo]'` in the checkout"
    )


@pytest.mark.parametrize("which", ["public", "admin", "first backend", "second backend"])
def test_a_port_that_is_taken_is_named_before_anything_is_started(
    plan: DemoPlan, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    host, port = {
        "public": plan.public,
        "admin": plan.admin,
        "first backend": plan.backends[0],
        "second backend": plan.backends[1],
    }[which]
    monkeypatch.setattr(subprocess, "Popen", None)
    with socket.create_server((host, port)):
        assert failure(plan) == (
            f"port {port} on 127.0.0.1 is in use: stop what runs there, or change the port in the "
            "demo's configuration file"
        )


def broken_script(folder: Path, text: str) -> Path:
    script = folder / "score.py"
    script.write_text(text)
    return script


@pytest.fixture(params=["import", "init"])
def broken(request: pytest.FixtureRequest, tmp_path: Path, plan: DemoPlan) -> DemoPlan:
    """A demo with one real container whose entry script fails."""
    raising = "raise RuntimeError('the weights are not there')"
    text = {"import": raising, "init": f"def init():\n    {raising}\ndef run(data): ...\n"}
    script = broken_script(tmp_path, text[request.param])
    return replace(plan, score_script=script, backends=plan.backends[:1])


def test_a_container_that_does_not_start_is_one_sentence(broken: DemoPlan, mark: str) -> None:
    assert failure(broken).startswith("scoring container 1 did not start: ")
    assert_nothing_is_left(mark)


def test_a_container_that_does_not_start_says_why(broken: DemoPlan) -> None:
    assert "the weights are not there" in failure(broken)


@pytest.mark.usefixtures("stand_ins")
def test_a_gateway_that_does_not_start_says_why(plan: DemoPlan, mark: str) -> None:
    text = plan.config.read_text()
    plan.config.write_text(text.replace("access_log: off", "access_log: /proc/log"))
    assert failure(plan) == (
        "the gateway did not start: scoring-gateway: cannot write the access log /proc/log: "
        "No such file or directory"
    )
    assert_nothing_is_left(mark)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import time; time.sleep(60)", "it said nothing"),
        ("import time; print('loading ...', flush=True); time.sleep(60)", "loading ..."),
    ],
)
def test_a_container_that_never_gets_ready_is_given_up(
    plan: DemoPlan, mark: str, monkeypatch: pytest.MonkeyPatch, program: str, words: str
) -> None:
    monkeypatch.setattr(demo, "train", lambda folder: None)
    monkeypatch.setattr(demo, "container_command", lambda at: [sys.executable, "-c", program])
    monkeypatch.setattr(demo, "START_TIMEOUT", 0.5)
    assert failure(plan) == (f"scoring container 1 did not become ready within 0.5 s: {words}")
    assert_nothing_is_left(mark)


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param('"shapes do not fit"', id="text"),
        pytest.param("[1.0]", id="too-few"),
        pytest.param("{}", id="object"),
        pytest.param("not json", id="no-json"),
    ],
)
def test_an_answer_that_is_no_prediction_is_shown(
    plan: DemoPlan, mark: str, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setenv("STAND_IN_ANSWER", answer)
    assert failure(plan) == (
        f"the container did not answer with 2 predictions: {answer.encode()!r}"
    )
    assert_nothing_is_left(mark)


@pytest.mark.usefixtures("stand_ins")
def test_a_configuration_with_other_keys_is_refused_by_the_gateway(
    plan: DemoPlan, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "a-key-that-the-demo-does-not-know")
    plan.config.write_text(plan.config.read_text().replace("DEMO_PRIMARY_KEY", "MY_KEY"))
    assert failure(plan) == "scoring through the gateway failed: HTTP Error 401: Unauthorized"
    assert_nothing_is_left(mark)


@pytest.mark.usefixtures("stand_ins")
def test_what_was_said_is_complete_and_every_key_is_new(plan: DemoPlan, mark: str) -> None:
    keys: list[str] = []
    watched: Callable[[Any], None] = lambda children: None  # noqa: E731
    for _ in range(2):
        said: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(demo, "_wait", watched)
            run_demo(plan, said.append, False)
        (call,) = [text for text in said if "Try it yourself" in text]
        assert said[-4].startswith("Predictions: [1.5, 2.5]")
        assert said[-2] == "  batching on, at most 1024 rows a call"
        assert plan.scoring_uri in call
        keys.append(call.partition("Authorization: Bearer ")[2][:32])
    assert len(set(keys)) == 2
    assert_nothing_is_left(mark)


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("batching: on ", "batching: off ", "off"),
        ("batching: on ", "batching: {max_rows: 7} ", "on, at most 7 rows a call"),
        ("admin: 127.0.0.1:", "admin: {token: {env: TOKEN}, address: 127.0.0.1:", "unknown"),
    ],
)
def test_what_is_said_of_batching_is_what_the_running_gateway_says(
    plan: DemoPlan, monkeypatch: pytest.MonkeyPatch, old: str, new: str, words: str
) -> None:
    monkeypatch.setenv("TOKEN", "a-token-of-the-admin-port")
    text = plan.config.read_text().replace(old, new)
    plan.config.write_text(re.sub(r"^(admin: {.*)$", r"\1}", text, flags=re.MULTILINE))
    said: list[str] = []
    run_demo(plan, said.append, True)
    assert said[-1] == f"  batching {words}"


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("which", [1, 3])
def test_a_signal_while_a_process_is_being_started_leaves_nothing_behind(
    plan: DemoPlan, mark: str, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    class Popen(subprocess.Popen[bytes]):
        started = 0

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            Popen.started += 1
            if Popen.started == which:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_demo(plan, lambda text: None, True)
        assert_nothing_is_left(mark)
    finally:
        for number in marked(mark):
            os.kill(number, signal.SIGKILL)


def test_the_signal_handler_that_was_there_is_there_again(
    plan: DemoPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        assert signal.getsignal(signal.SIGTERM) is not before
        raise DemoFailed("no model")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(demo, "train", fail)
    assert failure(plan) == "no model"
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_request_is_that_of_the_guide() -> None:
    assert [len(row) for row in ROWS] == [10, 10]
    assert ROWS[0][0] == 0.0199132141783263
    assert ROWS[1][9] == 0.00720651632920303


CHAIN = """\
INFO Booting worker
survived: Traceback (most recent call last):
  File "client.py", line 1, in client
NotADirectoryError: survived
container - Traceback (most recent call last):
  File "score.py", line 1, in init
    weights()
    ^^^^^^^^^
weights.Missing: the weights are not there

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "server.py", line 1, in load
ScriptError: a script failed

INFO Worker exiting
"""
SYNTAX = """\
Traceback (most recent call last):
  File "score.py", line 1
    def init(:
             ^
SyntaxError: invalid syntax
"""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", "it said nothing"),
        ("one\n  two  ", "two"),
        # A worker that was killed: the exceptions before that did not end it.
        (CHAIN + "ERROR out of memory?", "ERROR out of memory?"),
        (CHAIN + "ERROR Worker failed to boot.", "weights.Missing: the weights are not there"),
        ("ERROR Worker failed to boot.", "ERROR Worker failed to boot."),
        (SYNTAX + "ERROR Worker failed to boot.", "SyntaxError: invalid syntax"),
    ],
)
def test_the_words_that_say_why_are_found(log: str, words: str) -> None:
    assert last_words(log) == words


def test_the_end_of_the_log_is_shown_when_it_has_more_to_say(
    plan: DemoPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "print(*range(50), sep='\\n')"
    monkeypatch.setattr(demo, "train", lambda folder: None)
    monkeypatch.setattr(demo, "container_command", lambda at: [sys.executable, "-c", program])
    said: list[str] = []
    with pytest.raises(DemoFailed, match="scoring container 1 did not start: 49"):
        run_demo(plan, said.append, True)
    assert said[-1] == "\n  ".join(["The end of its log:", *map(str, range(30, 50))])


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (("203.0.113.1", 8080), "cannot listen on 203.0.113.1:8080: Cannot assign requested"),
        (("2001:db8::1", 8080), r"cannot listen on \[2001:db8::1\]:8080: Cannot assign requested"),
        (("no..name", 8080), "cannot listen on no..name:8080: "),
    ],
)
def test_an_address_that_is_not_ours_is_one_sentence(
    plan: DemoPlan, address: tuple[str, int], why: str
) -> None:
    with pytest.raises(DemoFailed, match=f"^{why}"):
        run_demo(replace(plan, public=address), lambda text: None, True)


def test_one_address_for_both_planes_is_found_before_anything_starts(plan: DemoPlan) -> None:
    port = plan.public[1]
    plan.config.write_text(plan.config.read_text().replace(f":{plan.admin[1]}", f":{port}"))
    with pytest.raises(BadConfiguration, match=r"admin\.address: is taken by listen already"):
        plan_demo(plan.config)


@pytest.mark.parametrize(
    ("address", "bound"),
    [(("127.0.0.1", 5001), "127.0.0.1:5001"), (("::1", 5001), "[::1]:5001")],
)
def test_a_container_is_bound_where_the_plan_says(address: tuple[str, int], bound: str) -> None:
    command = container_command(address)
    assert command[command.index("--bind") + 1] == bound
