"""Settings that look right but cannot be built are mistakes like all others: found all at once,
each on its line. What can be built is accepted.

Mistakes with backends and with tokens have modules of their own, test_wiring_*.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.app import load
from gateway.settings.loading import BadConfiguration
from tests.support.checking import DEPLOYMENTS, FILE, SECRETS, check, demo, good, refused

ROOT = Path(__file__).resolve().parents[1]
TWO = "{blue: {backends: [http://h]}, green: {backends: [http://i]}}"
BACKEND = "5: endpoints.demo.deployments.blue.backends"
WEIGHTS = "endpoints.demo.traffic: weights must lie between 0 and 100 and sum to at most 100"
ORIGINS = "endpoints.demo.cors.origins"
NULL = "'null' is the origin of any sandboxed frame or local file and cannot be allowed"
NOT_HOST = "is not a host name: leave out scheme, port, path"
NOT_ORIGIN = (
    "is not an origin: expected scheme://host[:port] in lower case, without a path, such as "
    "https://app.example.com or https://*.example.com, or *"
)
ADMIN = (
    "admin.address: only a loopback address is accepted without a token: the admin port shows the "
    "configuration; say admin: {address: ..., token: {file: PATH}}"
)


def backends(*urls: str) -> str:
    listed = ", ".join(f"'{url}'" for url in urls)
    return demo(deployments=f"{{blue: {{backends: [{listed}]}}}}")


def cors(rules: str) -> str:
    return demo(more=f"cors: {rules}")


BROKEN: dict[str, tuple[str, list[str]]] = {
    # The admin port.
    "admin-on-every-address": (demo(end="admin: 0.0.0.0:9090"), [f"6: {ADMIN}"]),
    "admin-on-every-address-6": (demo(end="admin: '[::]:9090'"), [f"6: {ADMIN}"]),
    "admin-on-a-name": (demo(end="admin: {address: 'gateway.internal:9090'}"), [f"6: {ADMIN}"]),
    # Proxies.
    "proxies": (
        demo(top="listen:\n  address: h:1\n  trusted_proxies:\n"
             "    - 10.0.0.0/8\n    - 10.0.0.0/99\n    - proxy.internal"),
        [("5: listen.trusted_proxies[1]: '10.0.0.0/99' is not an address or network such as "
         "10.0.0.0/8"),
         ("6: listen.trusted_proxies[2]: 'proxy.internal' is not an address or network such as "
         "10.0.0.0/8")],
    ),
    "proxies-that-are-not-what-they-seem": (
        demo(top="listen: {address: h:1, trusted_proxies: [10.0.0.1/8, '2001:db8::1/32', "
             "0.0.0.0/0, '::/0', 10.0.0.1/0]}"),
        [("1: listen.trusted_proxies[0]: '10.0.0.1/8' is not a network: say 10.0.0.0/8 or "
          "10.0.0.1"),
         ("1: listen.trusted_proxies[1]: '2001:db8::1/32' is not a network: say 2001:db8::/32 or "
          "2001:db8::1"),
         "1: listen.trusted_proxies[2]: '0.0.0.0/0' would trust everybody",
         "1: listen.trusted_proxies[3]: '::/0' would trust everybody",
         "1: listen.trusted_proxies[4]: '10.0.0.1/0' would trust everybody"],
    ),
    # Hosts.
    "hosts": (
        demo(more="hosts:\n  - h.example\n  - https://h\n  - h:80\n  - h/path\n  - ''\n  - a..b"),
        [f"8: endpoints.demo.hosts[1]: 'https://h' {NOT_HOST}",
         f"9: endpoints.demo.hosts[2]: 'h:80' {NOT_HOST}",
         f"10: endpoints.demo.hosts[3]: 'h/path' {NOT_HOST}",
         f"11: endpoints.demo.hosts[4]: '' {NOT_HOST}",
         f"12: endpoints.demo.hosts[5]: 'a..b' {NOT_HOST}"],
    ),
    "host-of-two-endpoints": (
        demo(more="hosts: [h.example]",
             end="  other:\n    auth: none\n    hosts: [i.example, H.Example]\n"
             f"    deployments: {DEPLOYMENTS}"),
        ["9: endpoints.other.hosts[1]: 'H.Example' belongs to endpoint 'demo' already"],
    ),
    # Time.
    "timeout-too-long": (demo(more="timeout: 5.01m"),
                         ["6: endpoints.demo.timeout: must lie between 1ms and 300s"]),
    "timeout-nothing": (demo(more="timeout: 0s"),
                        ["6: endpoints.demo.timeout: must lie between 1ms and 300s"]),
    # Traffic.
    "default-unknown": (
        demo(deployments=TWO, more="default: red"),
        ["6: endpoints.demo.default: there is no deployment 'red'; there are blue, green"],
    ),
    "traffic-unknown": (
        demo(deployments=TWO, more="traffic:\n  blue: 10\n  red: 20\n  pink: 30"),
        ["8: endpoints.demo.traffic.red: there is no deployment 'red'; there are blue, green",
         "9: endpoints.demo.traffic.pink: there is no deployment 'pink'; there are blue, green"],
    ),
    "traffic-v1-above-100": (
        demo(deployments=TWO, more="traffic: {blue: 60, green: 41}"),
        [f"6: {WEIGHTS}: 101"],
    ),
    "traffic-v1-negative": (
        demo(deployments=TWO, more="traffic: {blue: 60, green: -1}"),
        [f"6: {WEIGHTS}: 59"],
    ),
    "traffic-managed-99": (
        demo(deployments=TWO, more="dialect: managed\ntraffic: {blue: 50, green: 49}"),
        ["7: endpoints.demo.traffic: sums to 99; in the managed dialect it must be 100, or 0"],
    ),
    "traffic-managed-101": (
        demo(deployments=TWO, more="dialect: managed\ntraffic: {blue: 60, green: 41}"),
        ["7: endpoints.demo.traffic: sums to 101; in the managed dialect it must be 100, or 0"],
    ),
    "traffic-managed-negative": (
        demo(deployments=TWO, more="dialect: managed\ntraffic: {blue: 150, green: -50}"),
        [f"7: {WEIGHTS}: 100"],
    ),
    # Everything at once, in the order of the file.
    "several": (
        demo(auth="{keys: {primary: {env: SHORT}}}", deployments="{blue: {backends: [h]}}",
             more="traffic: {red: 5}\ncors: {origins: ['null']}\nhosts: ['-/-']\ntimeout: 6m",
             end="admin: 0.0.0.0:1"),
        [("4: endpoints.demo.auth.keys.primary: a key needs at least 16 printable ASCII characters "
         "without spaces"),
         f"{BACKEND}[0]: 'h' is not a URL such as http://10.0.0.5:5001",
         "6: endpoints.demo.traffic.red: there is no deployment 'red'; there are blue",
         f"7: {ORIGINS}: {NULL}",
         f"8: endpoints.demo.hosts[0]: '-/-' {NOT_HOST}",
         "9: endpoints.demo.timeout: must lie between 1ms and 300s",
         f"10: {ADMIN}"],
    ),
}  # fmt: skip
CORS: dict[str, tuple[str, list[str]]] = {
    "origin-null": (
        cors("{origins: ['null']}"),
        [f"6: {ORIGINS}: {NULL}"],
    ),
    "origin-star-with-credentials": (
        cors("{origins: ['*'], credentials: true}"),
        [f"6: {ORIGINS}: origin * cannot be combined with credentials: name the origins"],
    ),
    "origins-that-are-none": (
        cors("{origins: ['https://h/', 'https://H', 'h', '//h', 'https://*', 'https://a.*.b', "
             "'https://*h']}"),
        [f"6: {ORIGINS}: {origin!r} {NOT_ORIGIN}"
         for origin in ("https://h/", "https://H", "h", "//h", "https://*", "https://a.*.b",
                        "https://*h")],
    ),
    "origin-with-its-own-port": (
        cors("{origins: ['https://h:443', 'http://h:80']}"),
        [f"6: {ORIGINS}: 'https://h:443' would never match: browsers leave out port 443",
         f"6: {ORIGINS}: 'http://h:80' would never match: browsers leave out port 80"],
    ),
    "cors-headers": (
        cors('{origins: ["*"], headers: ["a b", "", "x:y"], expose: ["a\\r\\nb"]}'),
        ["6: endpoints.demo.cors.headers: 'a b' is not a header name",
         "6: endpoints.demo.cors.headers: '' is not a header name",
         "6: endpoints.demo.cors.headers: 'x:y' is not a header name",
         "6: endpoints.demo.cors.expose: 'a\\r\\nb' is not a header name"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "report"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_built_is_reported_whole(
    tmp_path: Path, text: str, report: list[str]
) -> None:
    assert check(tmp_path, text) == refused(*report)


@pytest.mark.parametrize(("text", "report"), CORS.values(), ids=CORS)
def test_t41_rules_that_no_browser_would_honour_are_refused(
    tmp_path: Path, text: str, report: list[str]
) -> None:
    assert check(tmp_path, text) == refused(*report)


# What would pass, were it built as it reads: (text, what would come of it).
USELESS = {
    "link-local-as-ipv4-in-ipv6": (
        backends("http://[::ffff:169.254.169.254]:80"), "T39: it is 169.254.169.254"
    ),
    "link-local-as-a-number": (backends("http://2852039166"), "T39: it is 169.254.169.254"),
    "link-local-as-hex": (backends("http://0xA9FEA9FE"), "T39: it is 169.254.169.254"),
    "backend-no-name": (
        backends("http://a..b"), "the look-up raises UnicodeError: requests wait out their timeout"
    ),
    "same-address-twice": (
        demo(top="listen: 127.0.0.1:8080", end="admin: 127.0.0.1:8080"),
        "one of the two ports is never served: see test_app.py",
    ),
    "one-backend-in-two-spellings": (backends("http://h", "http://H:80"), "it gets two shares"),
    "header-not-ascii": (cors("{origins: ['*'], headers: ['clé']}"), "str.isalnum is true of é"),
    "exposed-not-ascii": (cors("{origins: ['*'], expose: ['clé']}"), "str.isalnum is true of é"),
    "host-not-ascii": (demo(more="hosts: [clé.example]"), "it can never match a Host header"),
    "host-with-a-dot-at-the-end": (
        demo(more="hosts: [h.example]", end="  other:\n    auth: none\n    hosts: [h.example.]\n"
             f"    deployments: {DEPLOYMENTS}"),
        "the same host twice; the one with the dot can never match",
    ),
    "no-time-for-a-header": (demo(top="listen: {address: h:1, timeouts: {headers: 0s}}"),
                             "every request is refused"),
    "no-room-for-a-header": (demo(top="listen: {address: h:1, limits: {headers: 0B}}"),
                             "every request is refused"),
    "no-time-to-connect": (
        demo(deployments="{blue: {backends: [http://h], connections: {connect_timeout: 0s}}}"),
        "no backend can be reached",
    ),
    "log-that-no-file-can-be": (
        demo(end='access_log: "a\\0b"'), "serve ends with a traceback: embedded null byte"
    ),
    "short-token-of-the-admin-port": (
        demo(end="admin: {address: 0.0.0.0:1, token: {env: SHORT}}"), "keys need 16 characters"
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", [text for text, _ in USELESS.values()], ids=USELESS)
def test_what_can_never_work_is_refused(tmp_path: Path, text: str) -> None:
    assert check(tmp_path, text).status == 2


GOOD = {
    "smallest": demo(),
    "long-listen": demo(top="listen: {address: '127.0.0.1:8080'}"),
    "ipv6": demo(top="listen: '[::]:0'", end="admin: '[::1]:0'"),
    "admin-on-localhost": demo(end="admin: localhost:9090"),
    "admin-with-a-token": demo(end="admin: {address: 0.0.0.0:1, token: {env: OTHER}}"),
    "log-off": demo(end="access_log: off"),
    "log-on": demo(end="access_log: on"),
    "log-stdout": demo(end="access_log: stdout"),
    "log-file": demo(end="access_log: access.log"),
    "log-mapping": demo(end="access_log: {path: access.log, enabled: true}"),
    "open": demo(auth="none"),
    "shares-below-100": demo(more="traffic: {blue: 10}"),
    "shares-of-nothing": demo(more="dialect: managed\ntraffic: {blue: 0}"),
    "origins": cors("{origins: ['https://h', 'http://h:3000', 'https://*.h.example', "
                    "'chrome-extension://abc', 'http://[::1]:3000']}"),
    "backend-prefix": backends("http://h/v1/models"),
    "backend-ipv6": backends("http://[2001:db8::1]:5001"),
    "proxies": demo(top="listen: {address: h:1, trusted_proxies: [10.1.2.3, 10.0.0.0/8, '::1', "
                    "10.0.0.1/32]}"),
}  # fmt: skip


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_is_right_is_accepted(tmp_path: Path, text: str) -> None:
    assert check(tmp_path, text) == good()


def test_the_smallest_useful_file_of_the_design_is_accepted(tmp_path: Path) -> None:
    text = """
listen: 127.0.0.1:8080            # public data-plane address; `tls:` beside it turns HTTPS on
admin: 127.0.0.1:9090             # control-plane address
endpoints:
  diabetes:
    auth: {keys: {primary: {env: DIABETES_KEY}}}
    deployments:
      blue: {backends: [http://127.0.0.1:5001]}
"""
    assert check(tmp_path, text, {"DIABETES_KEY": SECRETS["KEY"]}) == good()


def test_the_demos_file_is_accepted_with_its_keys_and_only_with_them(tmp_path: Path) -> None:
    text = (ROOT / "config" / "demo.yaml").read_text()
    keys = {"DEMO_PRIMARY_KEY": SECRETS["KEY"], "DEMO_SECONDARY_KEY": SECRETS["OTHER"]}
    assert check(tmp_path, text, keys) == good(1, 2)
    line = next(n for n, line in enumerate(text.splitlines(), 1) if "SECONDARY" in line)
    del keys["DEMO_SECONDARY_KEY"]
    assert check(tmp_path, text, keys) == refused(
        f"{line}: endpoints.diabetes.auth.keys.secondary: the environment variable "
        "DEMO_SECONDARY_KEY is not set"
    )


@pytest.mark.parametrize(
    ("text", "part", "value"),
    [
        (demo(), "admin", {"address": "127.0.0.1:9090"}),
        (demo(end="admin: h:1"), "admin", None),
        (demo(end="admin: '[::1]:1'"), "admin", {"address": "[::1]:1"}),
        (demo(), "access_log", {"enabled": True}),
        (demo(end="access_log: on"), "access_log", {"enabled": True}),
        (demo(end="access_log: off"), "access_log", {"enabled": False}),
        (demo(end="access_log: true"), "access_log", {"enabled": True}),
        (demo(end="access_log: 'Yes'"), "access_log", {"enabled": True}),
        (demo(end="access_log: false"), "access_log", {"enabled": False}),
        (demo(end="access_log: OFF"), "access_log", {"enabled": False}),
        (demo(end="access_log: no"), "access_log", {"enabled": False}),
        (demo(end="access_log: ./off"), "access_log", {"path": "./off", "enabled": True}),
        (demo(end="access_log: {}"), "access_log", {"enabled": True}),
    ],
)
def test_short_and_long_forms_mean_the_same(
    tmp_path: Path, text: str, part: str, value: object
) -> None:
    (tmp_path / FILE).write_text(text)
    if value is None:
        with pytest.raises(BadConfiguration):
            load(tmp_path / FILE, SECRETS)
    else:
        found, _ = load(tmp_path / FILE, SECRETS)
        assert found.model_dump(mode="json", exclude_none=True)[part] == value


_PLACES: dict[str, st.SearchStrategy[Any]] = {
    "top": st.sampled_from(["listen: h:1", "listen: {address: h:1, trusted_proxies: ['::1', x]}"]),
    "auth": st.sampled_from(
        ["none", "{keys: {primary: {env: KEY}, secondary: {env: KEY}}}",
         "{keys: {primary: {env: X}}}", "{tokens: {algorithms: [RS256], jwks: ''}}",
         "{tokens: {algorithms: [HS256], secret: {env: KEY}}}"]
    ),
    "deployments": st.sampled_from([TWO, "{blue: {backends: [h, 'http://[::', 'http://h:99999']}}"]),
    "more": st.builds(
        lambda weights, host, origin, rest: (
            f"traffic: {weights}\nhosts: [{host!r}]\ncors: {{origins: [{origin!r}]}}\n{rest}"
        ).replace("\\", ""),
        st.dictionaries(st.sampled_from(["blue", "green", "red"]), st.integers(-1, 101), min_size=1)
        .map(lambda weights: str(weights).replace("'", "")),
        st.text("ab.:/-*[]@%", max_size=6),
        st.text("ab.:/-*[]@%", max_size=6),
        st.sampled_from(["dialect: managed", "default: green", "timeout: 0s", ""]),
    ),
}  # fmt: skip


@given(st.fixed_dictionaries(_PLACES))
@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_has_the_right_shape_is_built_or_reported(
    tmp_path: Path, parts: dict[str, str]
) -> None:
    (tmp_path / FILE).write_text(demo(**parts))
    try:
        found = load(tmp_path / FILE, SECRETS)[0].endpoints.keys()
    except BadConfiguration as report:
        found = report.lines  # type: ignore[assignment]
    assert len(found) > 0
