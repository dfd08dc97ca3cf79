"""``scoring-gateway schema`` describes the configuration file: an editor that goes by it accepts
what the gateway accepts, offers every key, and marks what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from gateway.cli import main
from gateway.settings import schema as module
from gateway.settings.loading import Source, parse_source
from gateway.settings.schema import Auth
from gateway.settings.secrets import SecretSource
from gateway.settings.sections import Section
from tests.support.checking import check, demo, refused
from tests.support.schemas import faults

CONFIG = Path(__file__).resolve().parents[2] / "config"
KEYS = """
listen:
  address: "[::1]:8080"
  backlog: 5
  trusted_proxies: [10.0.0.0/8]
  limits: {connections: 5, request_line: 1KiB, headers: 2KiB, header_count: 5,
           requests_per_connection: 5, json_buffer: 1MiB}
  timeouts: {headers: 1s, body: 1s, idle: 1s, write: 1s, linger: 1s, drain: 1s, body_rate: 1B}
admin: {address: 127.0.0.1:1, token: {file: token}}
access_log: {path: log, enabled: true}
endpoints:
  demo:
    auth:
      keys: {primary: {env: A}, secondary: {file: b}}
      tokens: {algorithms: [RS256], issuer: i, audience: [a], jwks: https://h/, refresh: 5m,
               leeway: 5s, max_lifetime: 1h, principal: oid}
      forward_credentials: true
    hosts: [demo.example.com]
    dialect: managed
    cors: {origins: ["*"], methods: [GET], headers: [a], expose: [b], max_age: 1m,
           credentials: false, private_network: true}
    default: blue
    traffic: {blue: 100}
    timeout: 5s
    limits: {body: 1MiB}
    deployments:
      blue: {backends: [http://h:1], connections: {max: 5, idle_timeout: 1s, connect_timeout: 1s}}
"""


def read(text: str) -> Any:
    return parse_source(text, Source("gateway.yaml", Path())).data


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    result = CliRunner().invoke(main, ["schema"], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_schema_names_its_own_standard(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "scoring-gateway configuration"
    assert schema["required"] == ["listen", "endpoints"]


def test_every_key_of_every_section_is_offered(schema: dict[str, Any]) -> None:
    sections: list[type[BaseModel]] = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Section) and kind is not Section
    ]
    assert len(sections) >= 14
    sections.append(SecretSource)
    for kind in sections:
        wanted = set(kind.model_fields) - ({"open"} if kind is Auth else set())
        entry = schema if kind.__name__ == "Settings" else schema["$defs"][kind.__name__]
        entry = next((branch for branch in entry.get("anyOf", ()) if "properties" in branch), entry)
        assert set(entry["properties"]) == wanted, kind.__name__
        assert entry["additionalProperties"] is False, kind.__name__


@pytest.mark.parametrize("path", sorted(CONFIG.glob("**/*.yaml")), ids=lambda path: path.name)
def test_every_configuration_that_we_ship_is_valid(schema: dict[str, Any], path: Path) -> None:
    assert faults(read(path.read_text()), schema) == []


@pytest.mark.parametrize("path", sorted(CONFIG.glob("**/*.yaml")), ids=lambda path: path.name)
def test_every_configuration_that_we_ship_is_valid_as_yaml_1_1(
    schema: dict[str, Any], path: Path
) -> None:
    # That is how many editors read it: `off` is false to them.
    assert faults(yaml.safe_load(path.read_text()), schema) == []


def test_the_schema_that_we_ship_is_what_the_command_prints() -> None:
    result = CliRunner().invoke(main, ["schema"], catch_exceptions=False)
    shipped = CONFIG / "scoring-gateway.schema.json"
    hint = "scoring-gateway schema > config/scoring-gateway.schema.json"
    assert shipped.read_text() == result.stdout, hint


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.name)
def test_the_schema_that_a_file_of_ours_refers_to_is_there(path: Path) -> None:
    (name,) = re.findall(r"(?m)^# yaml-language-server: \$schema=(.*)$", path.read_text())
    assert (CONFIG / name).is_file()


GOOD = {
    "smallest": demo(),
    "every-key": KEYS,
    "open": demo(auth="none"),
    "forms": demo(top="listen: {address: h:1}", end="admin: h:1\naccess_log: {enabled: false}"),
    "log-words": demo(end="access_log: stdout"),
    "log-off": demo(end="access_log: off"),
    "log-false": demo(end="access_log: false"),
    "one-audience": demo(auth="{tokens: {algorithms: [HS256], secret: {env: A}, audience: x}}"),
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_the_gateway_reads_is_valid(schema: dict[str, Any], text: str) -> None:
    assert faults(read(text), schema) == []


BROKEN = {
    "empty": ("{}", [": required"]),
    "no-endpoint": ("{listen: 'h:1', endpoints: {}}", ["endpoints: minProperties"]),
    "unknown": (demo(end="worker: 2"), ["worker: additionalProperties"]),
    "unknown-inside": (demo(more="time: 5s"), ["endpoints.demo.time: additionalProperties"]),
    "auth-missing": ("{listen: 'h:1', endpoints: {aa: {deployments: {bb: {backends: ['http://h']}}}}}",
                     ["endpoints.aa: required"]),
    "auth-word": (demo(auth="open"), ["endpoints.demo.auth: const"]),
    "auth-open": (demo(auth="{open: true}"), ["endpoints.demo.auth.open: additionalProperties"]),
    "inline-secret": (demo(auth="{keys: {primary: secret}}"),
                      ["endpoints.demo.auth.keys.primary: type"]),
    "algorithm": (demo(auth="{tokens: {algorithms: [none]}}"),
                  ["endpoints.demo.auth.tokens.algorithms[0]: enum"]),
    "number-for-duration": (demo(more="timeout: 60"), ["endpoints.demo.timeout: type"]),
    "number-for-size": (demo(more="limits: {body: 100}"), ["endpoints.demo.limits.body: type"]),
    "number-for-address": (demo(top="listen: 8080"), ["listen: type"]),
    "number-for-host": (demo(top="listen: 1:3000"), ["listen: pattern"]),
    "number-for-log": (demo(end="access_log: 5"), ["access_log: type"]),
    "one-backend": (demo(deployments="{blue: {backends: http://h}}"),
                    ["endpoints.demo.deployments.blue.backends: type"]),
    "no-backend": (demo(deployments="{blue: {backends: []}}"),
                   ["endpoints.demo.deployments.blue.backends: minItems"]),
    "dialect": (demo(more="dialect: v2"), ["endpoints.demo.dialect: enum"]),
    "weight": (demo(more="traffic: {blue: 10%}"), ["endpoints.demo.traffic.blue: type"]),
    "zero": (demo(top="listen: {address: h:1, limits: {connections: 0}}"),
             ["listen.limits.connections: minimum"]),
    "long-name": (f"{{listen: 'h:1', endpoints: {{{'a' * 33}: {{}}}}}}",
                  ["endpoints: propertyNames", f"endpoints.{'a' * 33}: required"]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "wrong"), BROKEN.values(), ids=BROKEN)
def test_what_the_gateway_refuses_is_marked(
    schema: dict[str, Any], text: str, wrong: list[str]
) -> None:
    assert faults(read(text), schema) == wrong


@pytest.mark.parametrize("name", ["x_y", "9x", "a-", "a.b"])
@pytest.mark.parametrize("what", ["endpoint", "deployment"])
def test_a_bad_name_is_marked(schema: dict[str, Any], what: str, name: str) -> None:
    data = read(demo())
    inner = data["endpoints"] if what == "endpoint" else data["endpoints"]["demo"]["deployments"]
    inner[name] = next(iter(inner.values()))
    assert faults(data, schema) != []


@pytest.mark.parametrize(
    "text",
    [
        demo(more="timeout: fast"),
        demo(more="limits: {body: 5MO}"),
        demo(top="listen: {address: nowhere}"),
    ],
    ids=["duration", "size", "address"],
)
def test_a_bad_unit_is_marked(schema: dict[str, Any], text: str) -> None:
    assert faults(read(text), schema) != []


def test_auth_cannot_be_opened_by_a_key(tmp_path: Path) -> None:
    assert check(tmp_path, demo(auth="{open: true}")) == refused(
        "4: endpoints.demo.auth: has an unknown key 'open'; to let everybody in say `auth: none`"
    )


def _with_default(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, section in [("", schema), *schema["$defs"].items()]:
        for branch in [section, *section.get("anyOf", ())]:
            for field, entry in branch.get("properties", {}).items():
                if "default" in entry:
                    yield f"{name}.{field}", entry


def test_every_default_is_itself_valid(schema: dict[str, Any]) -> None:
    entries = list(_with_default(schema))
    assert len(entries) > 30
    wrong = [place for place, entry in entries if faults(entry["default"], entry, schema)]
    assert wrong == []


def test_the_judge_of_these_tests_refuses_what_it_does_not_know() -> None:
    with pytest.raises(AssertionError, match="'multipleOf'"):
        faults(5, {"multipleOf": 2})
