"""``scoring-gateway diff``: what a file would change, and an exit status for scripts.

As with diff(1), 0 is no difference, 1 some, and 2 trouble.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.settings.loading import read_source, validate
from gateway.wiring import describe
from tests.support.backends import FakeBackend, answering
from tests.support.checking import FILE, SECRETS, demo

TOKEN = SECRETS["KEY"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(
        main, ["diff", *arguments], prog_name="scoring-gateway", env=SECRETS, catch_exceptions=False
    )


def write(folder: Path, text: str, name: str = FILE) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def shown(folder: Path, text: str) -> bytes:
    """What ``/config`` of a gateway shows that runs with this file."""
    settings, mistakes = validate(read_source(Path(write(folder, text, "running.yaml"))))
    assert settings is not None
    assert mistakes == []
    return json.dumps(describe(settings)).encode()


def test_two_files_are_compared_with_their_defaults(tmp_path: Path) -> None:
    old = write(tmp_path, demo(), "old.yaml")
    same = write(tmp_path, demo(more="timeout: 60s\ndialect: v1\ndefault: blue"))
    result = run("-c", same, "--against", old)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_every_difference_is_a_line(tmp_path: Path) -> None:
    old = write(tmp_path, demo(), "old.yaml")
    auth = "{keys: {primary: {env: OTHER}, secondary: {file: key.txt}}}"
    green = "{blue: {backends: [http://h], batching: on}, green: {backends: [http://i]}}"
    new = write(
        tmp_path,
        demo(
            top="listen: {address: 127.0.0.1:8080, limits: {headers: 64KiB}}",
            auth=auth,
            deployments=green,
            more="traffic: {blue: 90, green: 10}",
        ),
    )
    result = run("--config", new, "--against", old)
    assert (result.exit_code, result.stderr) == (1, "")
    needs = "takes a restart unless the running gateway has OTHER in its environment"
    assert result.stdout.splitlines() == [
        "listen.limits.headers: 32KiB -> 64KiB",
        f"endpoints.demo.auth.keys.primary: changed ({needs})",
        "endpoints.demo.auth.keys.secondary: added",
        "endpoints.demo.deployments.blue.backends: added http://h",
        "endpoints.demo.deployments.blue.backends: removed http://127.0.0.1:5001",
        "endpoints.demo.deployments.blue.batching.mode: off -> on",
        "endpoints.demo.deployments.green: added",
        "endpoints.demo.traffic: added, blue: 90, green: 10",
    ]


@pytest.mark.parametrize("named", [True, False])
def test_the_running_gateway_is_asked_for_what_it_has(tmp_path: Path, named: bool) -> None:
    with FakeBackend(answering(b"")) as port:
        admin = f"admin: {{address: 127.0.0.1:{port.port}, token: {{env: KEY}}}}"
        port.behaviour = answering(shown(tmp_path, demo(end=admin)))
        url = ["--admin", f"http://127.0.0.1:{port.port}/"] if named else []
        new = write(tmp_path, demo(end=admin))
        result = run("-c", new, *url)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
        result = run("-c", write(tmp_path, demo(end=admin, more="timeout: 5s")), *url)
        assert (result.exit_code, result.stdout) == (1, "endpoints.demo.timeout: 1m -> 5s\n")
        assert {seen.line for seen in port.seen} == {"GET /config HTTP/1.1"}
        assert {seen.header("authorization") for seen in port.seen} == {f"Bearer {TOKEN}"}


def test_where_no_gateway_runs_the_status_is_trouble(tmp_path: Path) -> None:
    result = run("-c", write(tmp_path, demo(end="admin: 127.0.0.1:1")))
    assert (result.exit_code, result.stdout) == (2, "")
    why = "no gateway can be asked at 127.0.0.1:1: Connection refused"
    assert result.stderr == f"scoring-gateway: {why}\n"


def test_a_token_that_cannot_be_read_is_trouble(tmp_path: Path) -> None:
    end = "admin: {address: 127.0.0.1:1, token: {file: none}}"
    result = run("-c", write(tmp_path, demo(end=end)))
    assert (result.exit_code, result.stdout) == (2, "")
    why = f"cannot read {tmp_path}/none: No such file or directory"
    assert result.stderr == f"scoring-gateway: {why}\n"


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "localhost", "http://h:1/x", ""])
def test_what_is_no_url_of_an_admin_port_is_trouble(tmp_path: Path, url: str) -> None:
    result = run("-c", write(tmp_path, demo()), "--admin", url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "scoring-gateway: --admin: expected a URL such as http://127.0.0.1:9090\n"
    )


def test_a_broken_file_is_reported_whichever_it_is(tmp_path: Path) -> None:
    good, bad = write(tmp_path, demo()), write(tmp_path, demo(more="timeout: 5"), "bad.yaml")
    found = "endpoints.demo.timeout: found 5, expected a duration such as 500ms, 60s, 5m or 1h"
    for arguments in (["-c", good, "--against", bad], ["-c", bad, "--against", good]):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"{bad}:6: {found}\n1 mistake\n"


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    old = write(tmp_path, demo(), "old.yaml")
    new = write(tmp_path, demo(auth="{keys: {primary: {env: OTHER}}}"))
    output = run("-c", new, "--against", old).output
    assert not any(secret in output for secret in SECRETS.values())
