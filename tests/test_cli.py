"""The command line: what each command says, and where, and with which exit status.

0 is success, 1 something that went wrong while running, 2 something the caller got wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway import __version__, app
from gateway import cli as module
from gateway.cli import main
from gateway.control.demo import DemoFailed, Say
from gateway.settings.schema import json_schema
from tests.support.backends import FakeBackend, Link, answering
from tests.support.checking import FILE, SECRETS, demo

COMMANDS = ["serve", "check", "reload", "diff", "demo", "schema", "verify-batching"]
PROGRAM = str(Path(sys.executable).with_name("scoring-gateway"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(
        main, list(arguments), prog_name="scoring-gateway", env=SECRETS, catch_exceptions=False
    )


def execute(
    *command: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **SECRETS, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_program_says_its_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"scoring-gateway, version {__version__}\n"


def test_help_names_every_command_with_one_line_each() -> None:
    result = run("--help")
    assert (result.exit_code, result.stderr) == (0, "")
    text = result.stdout
    assert text.startswith("Usage: scoring-gateway [OPTIONS] COMMAND [ARGS]...\n")
    listed = text.partition("Commands:\n")[2].splitlines()
    assert sorted(line.split()[0] for line in listed) == sorted(COMMANDS)
    assert all(len(line.split()) > 4 for line in listed)


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_its_options(command: str, option: str) -> None:
    result = run(command, option)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: scoring-gateway {command} [OPTIONS]\n\n  ")
    wanted = {"serve": ["-c, --config FILE"], "reload": ["-c, --config FILE", "--admin URL"],
              "check": ["-c, --config FILE"], "schema": [],
              "diff": ["-c, --config FILE", "--against OLD", "--admin URL"],
              "demo": ["-c, --config FILE", "--check", "--load"],
              "verify-batching": ["-c, --config FILE", "--endpoint NAME", "--deployment NAME",
                                  "--sample FILE", "--tolerance X", "--backend URL"],
             }[command]  # fmt: skip
    assert all(option in result.stdout for option in wanted)
    assert all(len(line) <= 100 for line in result.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["server"], "server"),
        (["serve"], "--config"),
        (["check"], "--config"),
        (["serve", "--config"], "--config"),
        (["check", "-c", "."], "is a directory"),
        (["serve", "gateway.yaml"], "--config"),
        (["schema", "now"], "now"),
        (["serve", "--port", "80"], "--port"),
        (["demo", "--check", "--load"], "--load"),
        (["diff", "--against", "old.yaml"], "--config"),
        (["diff", "-c", "f", "--against", "g", "--admin", "http://h:1"], "--admin"),
        (["verify-batching"], "--config"),
        (["verify-batching", "-c", "f", "--endpoint", "demo"], "--sample"),
        (["verify-batching", "-c", "f", "--endpoint", "demo", "--sample", "none"], "none"),
    ],
)
def test_a_wrong_call_is_explained(arguments: list[str], named: str) -> None:
    # The sentences are click's and change with its versions.
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr.partition("Error: ")[2]


def test_without_a_command_there_is_help() -> None:
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.stdout + result.stderr


def called(command: str, path: Path) -> list[str]:
    """A command with everything that it needs."""
    more = ["--endpoint", "demo", "--sample", __file__] if command == "verify-batching" else []
    return [command, "-c", str(path), *more]


READING = ["serve", "check", "reload", "diff", "demo", "verify-batching"]


@pytest.mark.parametrize("command", READING)
def test_a_file_that_is_not_there_is_the_callers_mistake(command: str, tmp_path: Path) -> None:
    result = run(*called(command, tmp_path / "none.yaml"))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory\n1 mistake\n"
    )


# The mistakes are below `endpoints`: for `reload`, they are for the running gateway to report.
@pytest.mark.parametrize("command", [command for command in READING if command != "reload"])
def test_every_command_reports_a_broken_configuration_alike(command: str, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(demo(more="timeout: 5\nhosts: [a b]"))
    result = run(*called(command, path))
    assert result.exit_code == 2
    assert result.stdout == ""
    leave = "leave out scheme, port, path"
    duration = "expected a duration such as 500ms, 60s, 5m or 1h"
    found = [
        f"{path}:6: endpoints.demo.timeout: found 5, {duration}",
        f"{path}:7: endpoints.demo.hosts[0]: 'a b' is not a host name: {leave}",
        "2 mistakes",
    ]
    if command in ("diff", "verify-batching"):  # build nothing: what is only seen then is not
        found[1:] = ["1 mistake"]
    assert result.stderr.splitlines() == found


def test_check_counts_what_it_found_good(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(
        demo(
            deployments="{blue: {backends: [http://h, http://i]}, green: {backends: [http://j]}}",
            end="  other: {auth: none, deployments: {blue: {backends: [http://k]}}}",
        )
    )
    result = run("check", "--config", str(path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{path}: good (2 endpoints, 4 backends)\n"


def test_check_counts_in_good_english(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(demo())
    assert "(1 endpoint, 1 backend)" in run("check", "-c", str(tmp_path / FILE)).stdout


def test_schema_prints_the_schema_and_nothing_else() -> None:
    result = run("schema")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == json_schema()


def test_the_demo_fails_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DemoFailed("no container")

    monkeypatch.setattr(module, "plan_demo", lambda config: None)
    monkeypatch.setattr(module, "run_demo", fail)
    result = run("demo")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "scoring-gateway: no container\n"


def test_an_incomplete_installation_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "__file__", "/nowhere/gateway/app.py")
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    result = run("demo")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "scoring-gateway: this installation lacks the file demo.yaml: reinstall scoring-gateway\n"
    )


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("arguments", [["demo"], ["demo", "--load"]])
def test_an_interrupted_demo_says_so_by_its_status(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(module, "plan_demo", lambda config: None)
    monkeypatch.setattr(module, "run_demo", interrupt)
    monkeypatch.setattr(module, "run_load", interrupt)
    result = run(*arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_load_shows_live_numbers_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    def load(plan: object, say: Say, show: Say | None) -> None:
        say("heading")
        if show is not None:
            show("1")
            show("")
        say("2")

    monkeypatch.setattr(module, "plan_demo", lambda config: None)
    monkeypatch.setattr(module, "run_load", load)
    monkeypatch.setattr(module, "is_terminal", lambda: terminal)
    result = run("demo", "--load")
    live = "\r1\033[K\r\033[K" if terminal else ""
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"heading\n{live}2\n"


BATCHED = "{blue: {backends: [http://127.0.0.1:1], batching: {max_rows: 8}}, green: {backends: [http://h]}}"
TWO = '{"data": [[1], [2]]}'


def verify(tmp_path: Path, sample: str = TWO, *more: str) -> Result:
    (tmp_path / FILE).write_text(demo(deployments=BATCHED))
    (tmp_path / "sample").write_text(sample)
    return run(
        "verify-batching", "-c", str(tmp_path / FILE), "--endpoint", "demo",
        "--sample", str(tmp_path / "sample"), *more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sample", "more", "complaint"),
    [
        (TWO, (), "scoring-gateway: say which deployment: there are blue, green"),
        (TWO, ("--deployment", "red"),
         "scoring-gateway: no deployment is called 'red': there are blue, green"),
        (TWO, ("--deployment", "blue", "--endpoint", "x"),
         "scoring-gateway: no endpoint is called 'x': there are demo"),
        (TWO, ("--deployment", "blue", "--backend", "ftp://h"),
         "scoring-gateway: 'ftp://h': backends are reached by http:// or https://, not ftp://"),
        ("", ("--deployment", "blue"), "{folder}/sample: is empty"),
        ("[1]\n{}", ("--deployment", "blue"),
         ("{folder}/sample: line 1: a list is no request; an object is expected\n"
         "{folder}/sample: expected one JSON document, or one request a line")),
    ],
)  # fmt: skip
def test_what_cannot_be_verified_is_the_callers_mistake(
    tmp_path: Path, sample: str, more: tuple[str, ...], complaint: str
) -> None:
    result = verify(tmp_path, sample, *more)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == complaint.replace("{folder}", str(tmp_path)) + "\n"


def test_a_verification_needs_no_secrets_and_says_what_it_verifies(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.test_cli.SECRETS", {"KEY": None})
        result = verify(tmp_path, TWO, "--deployment", "blue", "--tolerance", "0")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.splitlines()[:3] == [
        "demo/blue: rows in data, at most 8 rows and 1048576 bytes a call, tolerance 0",
        "2 requests, 2 can be merged",
        "http://127.0.0.1:1/score",
    ]
    assert result.stdout.splitlines()[3].startswith(
        "unclear: no answer from the container to row 1"
    )


@pytest.mark.parametrize("answer", [b"[1.0]", b"{}"])
def test_an_unsafe_model_is_told_by_the_status(tmp_path: Path, answer: bytes) -> None:
    with FakeBackend(answering(answer)) as backend:
        result = verify(tmp_path, TWO, "--deployment", "blue", "--backend", backend.url)
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.splitlines()[-1].startswith("unsafe: ")


def test_a_safe_model_is_told_by_the_status(tmp_path: Path) -> None:
    def ones(link: Link) -> None:
        while (seen := link.read_request()) is not None:
            body = json.dumps([1.0 for _ in json.loads(seen.body)["data"]]).encode()
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with FakeBackend(ones) as backend:
        result = verify(tmp_path, TWO, "--deployment", "blue", "--backend", backend.url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].startswith("safe: ")


def test_an_interrupted_verification_says_so_by_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_verification", interrupt)
    result = verify(tmp_path, TWO, "--deployment", "blue")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize("text", [demo(), demo(more="timeout: 5")], ids=["good", "broken"])
def test_the_module_is_the_same_program_as_the_script(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    script = execute(PROGRAM, "check", "-c", FILE, cwd=tmp_path)
    module_run = execute(sys.executable, "-m", "gateway", "check", "-c", FILE, cwd=tmp_path)
    assert script.returncode == (0 if text == demo() else 2)
    assert (script.stdout, script.stderr, script.returncode) == (
        module_run.stdout,
        module_run.stderr,
        module_run.returncode,
    )
    assert script.stdout + script.stderr != ""


def test_the_module_has_the_same_commands_and_version() -> None:
    for arguments in (["--help"], ["--version"], ["schema"]):
        script = execute(PROGRAM, *arguments)
        module_run = execute(sys.executable, "-m", "gateway", *arguments)
        assert (script.returncode, module_run.returncode) == (0, 0)
        usage = "Usage: python -m gateway "
        assert module_run.stdout.replace(usage, "Usage: scoring-gateway ") == script.stdout


def test_a_report_can_be_piped_into_a_program_that_stops_reading(tmp_path: Path) -> None:
    ended = execute("sh", "-c", f"'{PROGRAM}' schema | head -n 1", cwd=tmp_path)
    assert (ended.stdout, ended.stderr) == ("{\n", "")
