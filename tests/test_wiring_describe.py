"""What ``/config`` shows is the configuration in effect, and a configuration itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from gateway.app import load, read_plan
from gateway.core.cors import EXPOSED
from gateway.wiring import describe
from tests.support.checking import FILE, check, demo, good

TWO = "{blue: {backends: [http://h]}, green: {backends: [http://i]}}"
TOKENS = "{tokens: {algorithms: [HS256], secret: {env: KEY}, audience: x, max_lifetime: 1h}}"
EVERYTHING = """
listen:
  address: "[::1]:8080"
  trusted_proxies: [10.0.0.0/8]
  limits: {connections: 5, headers: 2KiB, json_buffer: 1500B}
  timeouts: {idle: 1500ms, linger: 0s, drain: 1d}
admin: {address: 0.0.0.0:1, token: {env: OTHER}}
"""


def described(folder: Path, text: str) -> dict[str, Any]:
    (folder / FILE).write_text(text)
    found = describe(load(folder / FILE)[0])
    shown: dict[str, Any] = orjson.loads(orjson.dumps(found))
    return shown


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "first-key-of-the-tests-0123456789")
    monkeypatch.setenv("OTHER", "other-key-of-the-tests-9876543210")


ROUND: dict[str, tuple[str, int]] = {
    "smallest": (demo(), 1),
    "open": (demo(auth="none"), 1),
    "two-keys": (demo(auth="{keys: {primary: {env: KEY}, secondary: {env: OTHER}}}"), 1),
    "tokens": (demo(auth=TOKENS), 1),
    "everything-about-listeners": (demo(top=EVERYTHING.strip()), 1),
    "log-off": (demo(end="access_log: off"), 1),
    "log-file": (demo(end="access_log: ./off"), 1),
    "cors": (demo(more="cors: {origins: ['*'], max_age: 90s}"), 1),
    "cors-exposes-nothing": (demo(more="cors: {origins: ['*'], expose: []}"), 1),
    "traffic": (demo(deployments=TWO, more="traffic: {green: 10}\ntimeout: 500ms"), 2),
    "managed": (demo(deployments=TWO, more="dialect: managed\ntraffic: {blue: 100}"), 2),
    "managed-without-traffic": (demo(deployments=TWO, more="dialect: managed"), 2),
    "hosts": (demo(more="hosts: [demo.example]\nlimits: {body: 0B}"), 1),
}


@pytest.mark.parametrize(("text", "backends"), ROUND.values(), ids=ROUND)
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_what_is_shown_can_be_served(tmp_path: Path, form: str, text: str, backends: int) -> None:
    shown = described(tmp_path, text)
    again = orjson.dumps(shown).decode() if form == "json" else yaml.safe_dump(shown)
    assert check(tmp_path, again) == good(1, backends)
    assert described(tmp_path, again) == shown


def test_an_open_endpoint_is_shown_as_one(tmp_path: Path) -> None:
    assert described(tmp_path, demo(auth="none"))["endpoints"]["demo"]["auth"] == "none"


def test_a_closed_endpoint_shows_where_its_keys_come_from(tmp_path: Path) -> None:
    assert described(tmp_path, demo())["endpoints"]["demo"]["auth"] == {
        "keys": {"primary": {"env": "KEY"}},
        "forward_credentials": False,
    }


@pytest.mark.parametrize(
    ("more", "default"),
    [
        ("", "blue"),
        ("default: green", "green"),
        ("traffic: {green: 10}", "blue"),
        ("traffic: {green: 10}\ndefault: green", "green"),
        ("dialect: managed", "blue"),
        ("dialect: managed\ndefault: green", "green"),
        ("dialect: managed\ntraffic: {green: 100}", None),
    ],
)
def test_the_default_is_the_one_in_effect(tmp_path: Path, more: str, default: str | None) -> None:
    shown = described(tmp_path, demo(deployments=TWO, more=more))
    assert shown["endpoints"]["demo"].get("default") == default


@pytest.mark.parametrize(
    ("rules", "expose"),
    [
        ("{origins: ['*']}", list(EXPOSED)),
        ("{origins: ['*'], expose: []}", []),
        ("{origins: ['*'], expose: [x-mine]}", ["x-mine"]),
    ],
)
def test_exposed_headers_are_those_in_effect(tmp_path: Path, rules: str, expose: list[str]) -> None:
    shown = described(tmp_path, demo(more=f"cors: {rules}"))
    assert shown["endpoints"]["demo"]["cors"]["expose"] == expose


def test_without_rules_there_are_none_to_show(tmp_path: Path) -> None:
    assert "cors" not in described(tmp_path, demo())["endpoints"]["demo"]


def test_the_admin_port_shows_it(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(demo(auth="none"))
    settings, _ = load(tmp_path / FILE)
    assert read_plan(tmp_path / FILE).description == describe(settings)
