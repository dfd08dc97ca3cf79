"""Every mistake in the shape of a configuration file is reported at once, in the order of the file:
line, path of keys, what was found, what is accepted.

The reports are compared whole, as ``scoring-gateway check`` prints them. Mistakes that show only
when objects are built are in tests/test_wiring.py, broken YAML in test_loading_yaml.py, and what a
mistake must not do to the rest of the report in test_loading_once.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checking import DEPLOYMENTS, check, demo, refused

DURATION = "expected a duration such as 500ms, 60s, 5m or 1h"
SIZE = "expected a size such as 512B, 64KiB or 100MiB"
ADDRESS = "expected an address such as 127.0.0.1:8080 or [::1]:8080"

KNOWN = "known are listen, admin, access_log, workers, worker_timeout, watch, takeover, endpoints"
# name: (text, the whole report)
BROKEN: dict[str, tuple[str, list[str]]] = {
    # Unknown keys: the nearest known one, or all of them.
    "unknown": (
        demo(end="logs: auto"),
        [f"6: logs: unknown key; {KNOWN}"],
    ),
    "misspelt": (demo(end="acces_log: off"),
                 ["6: acces_log: unknown key; did you mean 'access_log'?"]),
    "misspelt-in-listen": (
        demo(top="listen: {address: h:1, limits: {conections: 5}, timeouts: {idel: 5s}}"),
        [
            "1: listen.limits.conections: unknown key; did you mean 'connections'?",
            "1: listen.timeouts.idel: unknown key; did you mean 'idle'?",
        ],
    ),
    "http2-not-yet": (
        demo(top="listen: {address: h:1, h2: {}}"),
        [("1: listen.h2: unknown key; known are address, tls, plain, backlog, trusted_proxies, "
         "limits, timeouts")],
    ),
    "misspelt-in-endpoint": (demo(more="dialects: v1"),
                             ["6: endpoints.demo.dialects: unknown key; did you mean 'dialect'?"]),
    "misspelt-in-auth": (
        demo(auth="{keys: {primary: {env: KEY}}, forward_credential: true}"),
        [("4: endpoints.demo.auth.forward_credential: unknown key; did you mean "
         "'forward_credentials'?")],
    ),
    "misspelt-in-keys": (
        demo(auth="{keys: {primary: {env: KEY}, secundary: {env: OTHER}}}"),
        ["4: endpoints.demo.auth.keys.secundary: unknown key; did you mean 'secondary'?"],
    ),
    "misspelt-in-tokens": (
        demo(auth="{tokens: {algorithms: [RS256], jwks: http://localhost/, isuer: me}}"),
        ["4: endpoints.demo.auth.tokens.isuer: unknown key; did you mean 'issuer'?"],
    ),
    "misspelt-in-deployment": (
        demo(deployments="{blue: {backends: [http://h], conections: {}}}"),
        [("5: endpoints.demo.deployments.blue.conections: unknown key; did you mean "
         "'connections'?")],
    ),
    "endpoint-called-auth": (
        ("listen: h:1\n"
        "endpoints:\n"
        "  auth:\n"
        "    auth: none\n"
        "    corss: {}\n"
        f"    deployments: {DEPLOYMENTS}\n"),
        ["5: endpoints.auth.corss: unknown key; did you mean 'cors'?"],
    ),
    "endpoint-called-cors-with-a-deployment-called-endpoints": (
        ("listen: h:1\n"
        "endpoints:\n"
        "  cors:\n"
        "    auth: {keys: {primary: {env: KEY}}, token: {}}\n"
        "    deployments:\n"
        "      endpoints:\n"
        "        backends: [http://h]\n"
        "        connections:\n"
        "          maxi: 5\n"),
        [
            "4: endpoints.cors.auth.token: unknown key; did you mean 'tokens'?",
            ("9: endpoints.cors.deployments.endpoints.connections.maxi: unknown key; did you mean "
            "'max'?"),
        ],
    ),
    # Wrong types and units.
    "connections-zero": (
        demo(top="listen: {address: h:1, limits: {connections: 0}}"),
        ["1: listen.limits.connections: found 0, expected at least 1"],
    ),
    "connections-text": (
        demo(top="listen: {address: h:1, limits: {connections: many}}"),
        ["1: listen.limits.connections: found 'many', expected a whole number"],
    ),
    "connections-quoted": (
        demo(top="listen: {address: h:1, limits: {connections: '5'}}"),
        ["1: listen.limits.connections: found '5', expected a whole number"],
    ),
    "header-count-too-high": (
        demo(top="listen: {address: h:1, limits: {header_count: 10001}}"),
        ["1: listen.limits.header_count: found 10001, expected at most 10000"],
    ),
    "duration-without-unit": (demo(more="timeout: 60"),
                              [f"6: endpoints.demo.timeout: found 60, {DURATION}"]),
    "duration-in-words": (demo(more="timeout: 5 min"),
                          [f"6: endpoints.demo.timeout: found '5 min', {DURATION}"]),
    "clock-is-no-duration": (demo(more="timeout: 12:30"),
                             [f"6: endpoints.demo.timeout: found '12:30', {DURATION}"]),
    "size-without-unit": (demo(more="limits: {body: 100000}"),
                          [f"6: endpoints.demo.limits.body: found 100000, {SIZE}"]),
    "size-with-wrong-unit": (demo(more="limits: {body: 1Mb}"),
                             [f"6: endpoints.demo.limits.body: found '1Mb', {SIZE}"]),
    "boolean-in-words": (
        demo(auth="{keys: {primary: {env: KEY}}, forward_credentials: yes}"),
        ["4: endpoints.demo.auth.forward_credentials: found 'yes', expected true or false"],
    ),
    "weight-with-sign": (
        demo(more="traffic: {blue: 10%}"),
        ["6: endpoints.demo.traffic.blue: found '10%', expected a whole number"],
    ),
    "weight-with-fraction": (
        demo(more="traffic: {blue: 10.0}"),
        ["6: endpoints.demo.traffic.blue: found 10.0, expected a whole number"],
    ),
    "dialect": (demo(more="dialect: v2"),
                ["6: endpoints.demo.dialect: found 'v2', expected 'v1' or 'managed'"]),
    "cors-method": (
        demo(more="cors: {origins: ['*'], methods: [GET, PUT]}"),
        ["6: endpoints.demo.cors.methods[1]: found 'PUT', expected 'GET' or 'POST'"],
    ),
    "one-proxy": (
        demo(top="listen: {address: h:1, trusted_proxies: 10.0.0.0/8}"),
        ["1: listen.trusted_proxies: found '10.0.0.0/8', expected a list"],
    ),
    "cors-star": (demo(more="cors: '*'"),
                  ["6: endpoints.demo.cors: found '*', expected a mapping"]),
    "a-long-value-is-cut": (
        demo(more=f"dialect: {'x' * 100}"),
        [f"6: endpoints.demo.dialect: found '{'x' * 56}..., expected 'v1' or 'managed'"],
    ),
    # What must be there.
    "no-endpoints": ("listen: h:1\n", ["1: endpoints: is required"]),
    "listen-misspelt": (
        demo(top="lisen: h:1"),
        ["1: listen: is required", "1: lisen: unknown key; did you mean 'listen'?"],
    ),
    "no-listen": (demo(top="admin: 127.0.0.1:1"), ["1: listen: is required"]),
    "listen-address-only-host": (
        demo(top="listen: localhost"), [f"1: listen.address: found 'localhost', {ADDRESS}"]
    ),
    "listen-port-too-high": (
        demo(top="listen: h:65536"), [f"1: listen.address: found 'h:65536', {ADDRESS}"]
    ),
    "listen-host-is-a-number": (
        demo(top="listen: 1:3000", end="admin: {address: '1.2.3:1'}"),
        [f"1: listen.address: found '1:3000', {ADDRESS}",
         f"6: admin.address: found '1.2.3:1', {ADDRESS}"],
    ),
    # Several at once, in the order of the file and not in that of the schema.
    "several": (
        ("endpoints:\n"
        "  demo:\n"
        "    timeout: 1\n"
        f"    deployments: {DEPLOYMENTS}\n"
        "    dialect: v3\n"
        "    auth: none\n"
        "    limits: {body: 2, bodies: 3}\n"
        "admin: nowhere\n"
        "listen: {address: h:1, backlog: 0}\n"
        "logs: off\n"),
        [
            f"3: endpoints.demo.timeout: found 1, {DURATION}",
            "5: endpoints.demo.dialect: found 'v3', expected 'v1' or 'managed'",
            f"7: endpoints.demo.limits.body: found 2, {SIZE}",
            "7: endpoints.demo.limits.bodies: unknown key; did you mean 'body'?",
            f"8: admin.address: found 'nowhere', {ADDRESS}",
            "9: listen.backlog: found 0, expected at least 1",
            f"10: logs: unknown key; {KNOWN}",
        ],
    ),
    "shape-and-building-at-once": (
        demo(more="timeout: 10m\nhosts: [http://h]\nlimits: {body: 5}",
             deployments="{blue: {backends: [ftp://h]}}"),
        [
            ("5: endpoints.demo.deployments.blue.backends[0]: 'ftp://h': backends are reached by "
            "http:// or https://, not ftp://"),
            "6: endpoints.demo.timeout: must lie between 1ms and 300s",
            ("7: endpoints.demo.hosts[0]: 'http://h' is not a host name: leave out scheme, port, "
            "path"),
            f"8: endpoints.demo.limits.body: found 5, {SIZE}",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "report"), BROKEN.values(), ids=BROKEN)
def test_the_report_is_complete_and_exact(tmp_path: Path, text: str, report: list[str]) -> None:
    assert check(tmp_path, text) == refused(*report)


ACCEPTED = {
    "listen": (demo(top="listen: 8080"), "127.0.0.1:8080"),
    "admin": (demo(end="admin: 9090"), "127.0.0.1:8080"),
    "access_log": (demo(end="access_log: 5"), "stdout"),
    "auth": (demo(auth="open"), "none"),
}


@pytest.mark.parametrize(("text", "accepted"), ACCEPTED.values(), ids=ACCEPTED)
def test_the_report_names_the_short_form(tmp_path: Path, text: str, accepted: str) -> None:
    assert accepted in check(tmp_path, text).report[0]


def test_a_wrong_audience_is_one_mistake_and_hides_none(tmp_path: Path) -> None:
    text = demo(
        auth="{tokens: {algorithms: [RS256], jwks: http://localhost/, audience: 5}}",
        more="timeout: 10m",
    )
    verdict = check(tmp_path, text)
    assert verdict.status == 2
    assert len(verdict.report) == 3
    assert verdict.report[0].startswith("gateway.yaml:4: endpoints.demo.auth.tokens.audience: ")
    assert verdict.report[1].startswith("gateway.yaml:6: endpoints.demo.timeout: ")


@pytest.mark.parametrize(
    ("text", "report"),
    [
        (demo(end="12: 5"), f"6: 12: unknown key; {KNOWN}"),
        (
            demo(more="traffic: {12: 5}"),
            "6: endpoints.demo.traffic.12: there is no deployment '12'; there are blue",
        ),
    ],
    ids=["top", "inside"],
)
def test_a_key_that_is_a_number_is_named_as_written(tmp_path: Path, text: str, report: str) -> None:
    assert check(tmp_path, text) == refused(report)


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    verdict = check(tmp_path, demo(end='"two\\nlines": 5'))
    assert len(verdict.report) == 2
