"""``scoring-gateway reload``: the running gateway is asked, and the status says what became of it.

0 is that the configuration is in effect, 1 that it is not, 2 that nobody can be asked.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.support.checking import FILE, SECRETS, demo
from tests.support.containers import free_port
from tests.support.gateways import GatewayProcess

ADMIN = "token-of-the-admin-port-0123456789"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(
        main,
        ["reload", *arguments],
        prog_name="scoring-gateway",
        env={**SECRETS, "ADMIN": ADMIN},
        catch_exceptions=False,
    )


def text(
    admin: int, *, host: str = "127.0.0.1", token: str = "ADMIN", more: str = "", top: str = ""
) -> str:
    """A configuration that is not reloaded by itself."""
    end = f"admin: {{address: '{host}:{admin}', token: {{env: {token}}}}}\nwatch: false\n{top}"
    return demo(top="listen: 127.0.0.1:0", more=more, end=end)


def started(folder: Path, configuration: str) -> GatewayProcess:
    return GatewayProcess(configuration, folder, environment={**SECRETS, "ADMIN": ADMIN})


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::]"])
def test_the_running_gateway_takes_the_file_over_or_says_why_not(tmp_path: Path, host: str) -> None:
    port = free_port()
    with started(tmp_path, text(port, host=host)) as gateway:
        path = str(gateway.config)
        gateway.config.write_text(text(port, host=host, more="timeout: 7s"))
        result = run("-c", path)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == "reloaded: generation 2 serves\n"

        gateway.config.write_text(text(port, host=host, more="timeout: 7\nhosts: [a b]"))
        result = run("-c", path)
        assert (result.exit_code, result.stdout) == (1, "")
        duration = "expected a duration such as 500ms, 60s, 5m or 1h"
        leave = "leave out scheme, port, path"
        assert result.stderr.splitlines() == [
            f"{path}:6: endpoints.demo.timeout: found 7, {duration}",
            f"{path}:7: endpoints.demo.hosts[0]: 'a b' is not a host name: {leave}",
            "nothing has changed, generation 2 serves on",
        ]
        configuration = gateway.admin_get("/config", {"Authorization": f"Bearer {ADMIN}"})[1]
        assert '"timeout": "7s"' in configuration


def test_an_admin_port_that_moves_answers_from_where_it_was(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    with started(tmp_path, text(port)) as gateway:
        gateway.config.write_text(text(other))
        result = run("-c", str(gateway.config), "--admin", f"http://127.0.0.1:{port}/")
        assert (result.exit_code, result.stdout) == (0, "reloaded: generation 2 serves\n")
        result = run("-c", str(gateway.config))
        assert (result.exit_code, result.stdout) == (0, "reloaded: generation 3 serves\n")


def test_a_token_that_changes_counts_from_the_next_question_on(tmp_path: Path) -> None:
    port = free_port()
    with started(tmp_path, text(port)) as gateway:
        # Who asks has to know the token of the gateway as it is.
        before = tmp_path / "before.yaml"
        before.write_text(text(port))
        gateway.config.write_text(text(port, token="KEY"))
        assert run("-c", str(before)).exit_code == 0
        result = run("-c", str(before))
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            f"scoring-gateway: the admin port at 127.0.0.1:{port} refuses the token of the file"
            " (admin.token)\n"
        )
        assert run("-c", str(gateway.config)).exit_code == 0


def test_where_no_gateway_runs_nothing_was_reloaded(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text(1))
    result = run("-c", str(tmp_path / FILE))
    assert (result.exit_code, result.stdout) == (1, "")
    why = "no gateway can be asked at 127.0.0.1:1: Connection refused"
    assert result.stderr == f"scoring-gateway: {why}\n"


TELL = [
    ("no: [yaml", "is not YAML", ""),
    (text(1).replace(":1'", ":x'"), "admin.address: found '127.0.0.1:x'", ""),
    (text(1, token="NOWHERE"), "the environment variable NOWHERE is not set", ""),
    (text(1), "--admin: expected a URL such as http://127.0.0.1:9090", "https://127.0.0.1:1"),
]


@pytest.mark.parametrize(("configuration", "said", "url"), TELL)
def test_who_cannot_tell_where_to_ask_asks_nobody(
    tmp_path: Path, configuration: str, said: str, url: str
) -> None:
    (tmp_path / FILE).write_text(configuration)
    result = run("-c", str(tmp_path / FILE), *(["--admin", url] if url else []))
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_reload_by_the_program_itself(tmp_path: Path) -> None:
    port = free_port()
    with started(tmp_path, text(port)) as gateway:
        command = [sys.executable, "-m", "gateway", "reload", "-c", str(gateway.config)]
        ended = subprocess.run(
            command, env={**SECRETS, "ADMIN": ADMIN}, capture_output=True, timeout=30, check=False
        )
        assert (ended.returncode, ended.stdout) == (0, b"reloaded: generation 2 serves\n")
