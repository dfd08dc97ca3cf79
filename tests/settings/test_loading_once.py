"""A mistake is reported once, hides no other and makes up none, although something else stands in
for what is wrong while the rest is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checking import DEPLOYMENTS, check, demo, refused

NAME = (
    "expected a name: 2 to 32 letters, digits and hyphens, beginning with a letter and not ending "
    "with a hyphen"
)
INLINE = "a secret must not stand in the configuration: say {file: PATH} or {env: NAME}"

NESTED: dict[str, tuple[str, list[str]]] = {
    "listen-misspelt-inside": (
        demo(top="listen: {adress: h:1}"),
        ["1: listen.address: is required",
         "1: listen.adress: unknown key; did you mean 'address'?"],
    ),
    "endpoints-empty": ("listen: h:1\nendpoints: {}\n", ["2: endpoints: must not be empty"]),
    "endpoints-list": ("listen: h:1\nendpoints: []\n",
                       ["2: endpoints: found [], expected a mapping"]),
    "endpoint-number": ("listen: h:1\nendpoints:\n  demo: 5\n",
                        ["3: endpoints.demo: found 5, expected a mapping"]),
    "endpoint-name": (
        f"listen: h:1\nendpoints:\n  x_y: {{auth: none, deployments: {DEPLOYMENTS}}}\n",
        [f"3: endpoints.x_y: found 'x_y', {NAME}"],
    ),
    "no-auth": (
        f"listen: h:1\nendpoints:\n  demo:\n    deployments: {DEPLOYMENTS}\n",
        ["3: endpoints.demo.auth: is required"],
    ),
    "no-deployments": (
        "listen: h:1\nendpoints:\n  demo:\n    auth: none\n",
        ["3: endpoints.demo.deployments: is required"],
    ),
    "auth-says-nothing": (
        demo(auth="{}"),
        [("4: endpoints.demo.auth: say keys, tokens or certificates; to let everybody in say "
          "`auth: none`")],
    ),
    "inline-key": (demo(auth="{keys: {primary: abcdefghijklmnop}}"),
                   [f"4: endpoints.demo.auth.keys.primary: {INLINE}"]),
    "two-sources-of-a-key": (
        demo(auth="{keys: {primary: {env: KEY, file: key}}}"),
        ["4: endpoints.demo.auth.keys.primary: say either {file: PATH} or {env: NAME}"],
    ),
    "only-a-secondary-key": (demo(auth="{keys: {secondary: {env: KEY}}}"),
                             ["4: endpoints.demo.auth.keys.primary: is required"]),
    "no-algorithms": (
        demo(auth="{tokens: {algorithms: [], jwks: http://localhost/}}"),
        ["4: endpoints.demo.auth.tokens.algorithms: must not be empty"],
    ),
    "algorithm-none": (
        demo(auth="{tokens: {algorithms: [none], jwks: http://localhost/}}"),
        [("4: endpoints.demo.auth.tokens.algorithms[0]: found 'none', expected 'RS256', 'RS384', "
         "'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'HS256', 'HS384' "
         "or 'HS512'")],
    ),
    "no-deployment": (demo(deployments="{}"), ["5: endpoints.demo.deployments: must not be empty"]),
    "deployment-name": (demo(deployments="{b: {backends: [http://h]}}"),
                        [f"5: endpoints.demo.deployments.b: found 'b', {NAME}"]),
    "no-backends": (demo(deployments="{blue: {backends: []}}"),
                    ["5: endpoints.demo.deployments.blue.backends: must not be empty"]),
    "backends-misspelt": (
        demo(deployments="{blue: {backend: [http://h]}}"),
        ["5: endpoints.demo.deployments.blue.backends: is required",
         "5: endpoints.demo.deployments.blue.backend: unknown key; did you mean 'backends'?"],
    ),
    "one-backend": (
        demo(deployments="{blue: {backends: http://h}}"),
        ["5: endpoints.demo.deployments.blue.backends: found 'http://h', expected a list"],
    ),
    "backend-number": (
        demo(deployments="{blue: {backends: [5]}}"),
        ["5: endpoints.demo.deployments.blue.backends[0]: found 5, expected text"],
    ),
    "no-origins": (demo(more="cors: {origins: []}"),
                   ["6: endpoints.demo.cors.origins: must not be empty"]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "report"), NESTED.values(), ids=NESTED)
def test_a_wrong_value_that_is_required_is_reported_once(
    tmp_path: Path, text: str, report: list[str]
) -> None:
    assert check(tmp_path, text) == refused(*report)


def test_one_mistake_does_not_hide_another(tmp_path: Path) -> None:
    text = demo(auth="{keys: {primary: inline-secret}}", more="hosts: ['a b']\ntimeout: 10m")
    assert (
        check(tmp_path, text).report[:-1]
        == refused(
            f"4: endpoints.demo.auth.keys.primary: {INLINE}",
            "6: endpoints.demo.hosts[0]: 'a b' is not a host name: leave out scheme, port, path",
            "7: endpoints.demo.timeout: must lie between 1ms and 300s",
        ).report[:-1]
    )


FOLLOWERS = {
    "token-of-the-admin-port": (
        demo(end="admin: {address: 0.0.0.0:1, token: inline-secret}"), [f"6: admin.token: {INLINE}"]
    ),
    "secret-of-tokens": (
        demo(auth="{tokens: {algorithms: [HS256], secret: inline-secret}}"),
        [f"4: endpoints.demo.auth.tokens.secret: {INLINE}"],
    ),
    "traffic-to-a-broken-deployment": (
        demo(deployments="{blue: {backends: [http://h]}, green: {backends: 5}}",
             more="traffic: {green: 10}\ndefault: green"),
        ["5: endpoints.demo.deployments.green.backends: found 5, expected a list"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "report"), FOLLOWERS.values(), ids=FOLLOWERS)
def test_no_mistake_is_made_up_by_cutting_another_out(
    tmp_path: Path, text: str, report: list[str]
) -> None:
    assert check(tmp_path, text) == refused(*report)
