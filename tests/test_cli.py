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
from gateway.control.demo import DemoFailed
from gateway.settings.schema import json_schema
from tests.support.checking import FILE, SECRETS, demo

COMMANDS = ["serve", "check", "demo", "schema"]
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
    wanted = {"serve": ["-c, --config FILE"], "check": ["-c, --config FILE"], "schema": [],
              "demo": ["-c, --config FILE", "--check"]}[command]  # fmt: skip
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


@pytest.mark.parametrize("command", ["serve", "check", "demo"])
def test_a_file_that_is_not_there_is_the_callers_mistake(command: str, tmp_path: Path) -> None:
    result = run(command, "-c", str(tmp_path / "none.yaml"))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory\n1 mistake\n"
    )


@pytest.mark.parametrize("command", ["serve", "check", "demo"])
def test_every_command_reports_a_broken_configuration_alike(command: str, tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(demo(more="timeout: 5\nhosts: [a b]"))
    result = run(command, "-c", str(path))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"{path}:6: endpoints.demo.timeout: found 5, expected a duration such as 500ms, 60s, 5m or "
        "1h\n"
        f"{path}:7: endpoints.demo.hosts[0]: 'a b' is not a host name: leave out scheme, port, "
        "path\n"
        "2 mistakes\n"
    )


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


def test_an_interrupted_demo_says_so_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "plan_demo", lambda config: None)
    monkeypatch.setattr(module, "run_demo", interrupt)
    result = run("demo")
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
