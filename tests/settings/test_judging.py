"""What can be told from settings alone: the exact reports. More of them are in test_wiring.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checking import DEPLOYMENTS, check, demo, good, refused

TAKEN = "admin.address: is taken by listen already: the two need different ports"
ISSUER = (
    "issuer: is required with jwks: without it, whoever signs with one of these keys is believed"
)
AUDIENCE = (
    "audience: is required with jwks: without it, tokens made for other services are accepted"
)
NAME = (
    "expected a name: 2 to 32 letters, digits and hyphens, beginning with a letter and not ending "
    "with a hyphen"
)
JWKS = "{tokens: {algorithms: [RS256], jwks: https://h/}}"

REPORTS: dict[str, tuple[str, list[str]]] = {
    "one-address": (demo(end="admin: 127.0.0.1:8080"), [f"6: {TAKEN}"]),
    "one-address-by-name": (demo(end="admin: localhost:8080"), [f"6: {TAKEN}"]),
    "every-address": (demo(top="listen: 0.0.0.0:9090"), [f"1: {TAKEN}"]),
    "every-address-6": (demo(top="listen: '[::]:9090'", end="admin: '[::1]:9090'"),
                        [f"6: {TAKEN}"]),
    "weak-token": (
        demo(end="admin: {address: 0.0.0.0:1, token: {env: SHORT}}"),
        ["6: admin.token: a token needs at least 16 printable ASCII characters without spaces"],
    ),
    "log": (demo(end='access_log: "a\\0b"'),
            ["6: access_log.path: 'a\\x00b' is not the path of a file"]),
    "log-nowhere": (demo(end="access_log: /nope/dir/access.log"),
                    ["6: access_log.path: there is no directory /nope/dir"]),
    "log-is-a-directory": (demo(end="access_log:\n  path: /tmp"),
                           ["7: access_log.path: /tmp is a directory"]),
    "hosts-with-wildcards": (
        demo(more="hosts: ['*.x.com', '*']"),
        ["6: endpoints.demo.hosts[0]: '*.x.com': wildcards are not supported: name every host",
         "6: endpoints.demo.hosts[1]: '*': wildcards are not supported: name every host"],
    ),
    "names": (
        ("listen: h:1\nendpoints:\n  a:\n    auth: none\n    timeout: 0s\n"
         "    deployments: {x_y: {backends: [http://h]}}\n    default: x_y\n"),
        [f"3: endpoints.a: found 'a', {NAME}",
         "5: endpoints.a.timeout: must lie between 1ms and 300s",
         f"6: endpoints.a.deployments.x_y: found 'x_y', {NAME}"],
    ),
    "name-of-something-wrong": (
        demo(deployments="{blue: {backends: [http://h]}, x_y: 5}"),
        ["5: endpoints.demo.deployments.x_y: found 5, expected a mapping",
         f"5: endpoints.demo.deployments.x_y: found 'x_y', {NAME}"],
    ),
    "blank-claims": (
        demo(auth=JWKS.replace("https://h/", "https://h/, issuer: '', audience: ['']")),
        [f"4: endpoints.demo.auth.tokens.{ISSUER}",
         f"4: endpoints.demo.auth.tokens.{AUDIENCE}"],
    ),
    "part-of-a-secret": (
        demo(auth="{keys: {primary: {file: 5}}}"),
        ["4: endpoints.demo.auth.keys.primary.file: expected text"],
    ),
    "dot": (demo(more="hosts: [h.example.]"),
            ["6: endpoints.demo.hosts[0]: 'h.example.': leave out the dot at the end"]),
    "claims": (demo(auth=JWKS),
               [f"4: endpoints.demo.auth.tokens.{ISSUER}",
                f"4: endpoints.demo.auth.tokens.{AUDIENCE}"]),
    "two-hosts-of-two-endpoints-both-wrong": (
        demo(more="hosts: [5]",
             end=f"  other:\n    auth: none\n    hosts: [5]\n    deployments: {DEPLOYMENTS}"),
        ["6: endpoints.demo.hosts[0]: found 5, expected text",
         "9: endpoints.other.hosts[0]: found 5, expected text"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "report"), REPORTS.values(), ids=REPORTS)
def test_the_report_is_exact(tmp_path: Path, text: str, report: list[str]) -> None:
    assert check(tmp_path, text) == refused(*report)


@pytest.mark.parametrize(
    "text",
    [
        demo(top="listen: 127.0.0.1:0", end="admin: 127.0.0.1:0"),
        demo(top="listen: 10.0.0.1:8080", end="admin: 127.0.0.1:8080"),
        demo(end="access_log: {path: /nope/dir/access.log, enabled: false}"),
        demo(more="hosts: [a_b.example, H.example, h.example, x]"),
        demo(auth="{tokens: {algorithms: [RS256], jwks: https://h/, issuer: i, audience: a}}"),
    ],
)
def test_what_can_work_is_accepted(tmp_path: Path, text: str) -> None:
    assert check(tmp_path, text) == good()


def test_wrong_algorithms_hide_nothing_and_make_nothing_up(tmp_path: Path) -> None:
    auth = "{tokens: {algorithms: [none], secret: {env: NOT_SET}, leeway: 2m}}"
    lines = check(tmp_path, demo(auth=auth)).report
    assert [line.split(": ")[1].rpartition(".")[2] for line in lines[:-1]] == [
        "algorithms[0]",
        "leeway",
        "secret",
    ]
