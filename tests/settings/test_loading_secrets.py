"""A secret that somebody wrote into the configuration is refused, and repeated nowhere: reports end
up in terminals, tickets and the logs of pipelines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checking import SECRETS, check, demo, good, refused

CANARY = "Zx81k-canary-of-the-tests"
INLINE = "a secret must not stand in the configuration: say {file: PATH} or {env: NAME}"
JWKS = "{tokens: {algorithms: [RS256], jwks: '%s'}}"

REFUSED = {
    "primary": demo(auth=f"{{keys: {{primary: {CANARY}}}}}"),
    "secondary": demo(auth=f"{{keys: {{primary: {{env: KEY}}, secondary: {CANARY}}}}}"),
    "as-a-list": demo(auth=f"{{keys: {{primary: [{CANARY}]}}}}"),
    "as-a-value": demo(auth=f"{{keys: {{primary: {{value: {CANARY}}}}}}}"),
    "as-a-list-of-files": demo(auth=f"{{keys: {{primary: {{file: [{CANARY}]}}}}}}"),
    "beside-a-source": demo(auth=f"{{keys: {{primary: {{env: KEY, value: {CANARY}}}}}}}"),
    "third-key": demo(auth=f"{{keys: {{primary: {{env: KEY}}, tertiary: {CANARY}}}}}"),
    "misspelt": demo(auth=f"{{key: {CANARY}}}"),
    "secret-of-tokens": demo(auth=f"{{tokens: {{algorithms: [HS256], secret: {CANARY}}}}}"),
    "token-of-admin": demo(end=f"admin: {{address: h:1, token: {CANARY}}}"),
    "token-in-a-list": demo(end=f"admin: {{address: h:1, token: [{CANARY}]}}"),
    "twice": demo(auth=f"{{keys: {{primary: {CANARY}, primary: {CANARY}}}}}"),
    "open-quote": demo(auth=f"{{keys: {{primary: '{CANARY}}}}}"),
    "after-a-colon": demo(auth=f"{{keys: {{primary: {CANARY}}}}}: {CANARY}"),
    "user-of-a-backend": demo(deployments=f"{{blue: {{backends: ['http://me:{CANARY}@h:1']}}}}"),
    "user-of-an-issuer": demo(auth=JWKS % f"https://me:{CANARY}@h/"),
}
ECHOED = {
    "keys-as-text": demo(auth=f"{{keys: {CANARY}}}"),
    "keys-as-list": demo(auth=f"{{keys: [{CANARY}]}}"),
    "auth-as-text": demo(auth=CANARY),
    "tokens-as-text": demo(auth=f"{{tokens: {CANARY}}}"),
    "user-of-a-backend-with-tls": demo(
        deployments=f"{{blue: {{backends: ['https://me:{CANARY}@h:1']}}}}"
    ),
    "user-of-a-backend-with-a-slash": demo(
        deployments=f"{{blue: {{backends: ['http://me:{CANARY}/x@h:1']}}}}"
    ),
    "user-of-an-issuer-without-tls": demo(auth=JWKS % f"http://me:{CANARY}@h/"),
    "yaml-alias": demo(auth=f"{{keys: {{primary: *{CANARY}}}}}"),
    "yaml-tag": demo(auth=f"{{keys: {{primary: !{CANARY} x}}}}"),
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_t44_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    assert CANARY in text
    verdict = check(tmp_path, text)
    assert verdict.status == 2
    assert CANARY not in "\n".join([verdict.output, *verdict.report])


@pytest.mark.parametrize("text", ECHOED.values(), ids=ECHOED)
def test_t44_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path, text: str) -> None:
    verdict = check(tmp_path, text)
    assert verdict.status == 2
    assert CANARY not in "\n".join([verdict.output, *verdict.report])


def test_t44_a_password_without_a_user_in_a_url_is_refused(tmp_path: Path) -> None:
    assert check(tmp_path, demo(auth=JWKS % f"https://:{CANARY}@h/")).status == 2


def test_t44_the_report_says_where_the_secret_stands_and_what_to_do(tmp_path: Path) -> None:
    text = demo(auth=f"{{keys: {{primary: {{env: KEY}}, secondary: {CANARY}}}}}")
    assert check(tmp_path, text) == refused(f"4: endpoints.demo.auth.keys.secondary: {INLINE}")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "the environment variable KEY is not set"),
        ({"KEY": ""}, "the environment variable KEY is empty"),
        ({"KEY": "fifteen-letters"},
         "a key needs at least 16 printable ASCII characters without spaces"),
        ({"KEY": f"{CANARY} "}, None),
        ({"KEY": f"{CANARY} {CANARY}"},
         "a key needs at least 16 printable ASCII characters without spaces"),
        ({"KEY": f"{CANARY}\x7f"},
         "a key needs at least 16 printable ASCII characters without spaces"),
        ({"KEY": f"{CANARY}é"},
         "a key needs at least 16 printable ASCII characters without spaces"),
    ],
    ids=["unset", "empty", "short", "spaces-around", "space", "control", "accent"],
)  # fmt: skip
def test_t44_a_key_that_is_no_good_is_described_and_not_shown(
    tmp_path: Path,
    environment: dict[str, str],
    message: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KEY", raising=False)
    wanted = (
        good() if message is None else refused(f"4: endpoints.demo.auth.keys.primary: {message}")
    )
    assert check(tmp_path, demo(), environment) == wanted


def test_t44_two_equal_keys_are_one_mistake_too_many(tmp_path: Path) -> None:
    text = demo(auth="{keys: {primary: {env: KEY}, secondary: {file: second}}}")
    (tmp_path / "second").write_text(SECRETS["KEY"] + "\n")
    assert check(tmp_path, text) == refused(
        "4: endpoints.demo.auth.keys.secondary: is the same key as the primary one"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read {path}: No such file or directory"),
        (b" \n", "{path} is empty"),
        (b"\x00\xff\xfe\x80", "{path} is not text"),
    ],
    ids=["missing", "empty", "binary"],
)
@pytest.mark.parametrize(
    ("text", "place"),
    [
        (demo(auth="{keys: {primary: {file: secret}}}"), "4: endpoints.demo.auth.keys.primary"),
        (
            demo(auth="{tokens: {algorithms: [HS256], secret: {file: secret}}}"),
            "4: endpoints.demo.auth.tokens.secret",
        ),
        (demo(end="admin: {address: 0.0.0.0:1, token: {file: secret}}"), "6: admin.token"),
    ],
    ids=["key", "tokens", "admin"],
)
def test_a_file_without_a_secret_is_named_wherever_one_is_needed(
    tmp_path: Path, text: str, place: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    assert check(tmp_path, text) == refused(f"{place}: {message.format(path=path)}")


def test_a_variable_that_is_not_set_is_named_wherever_one_is_needed(tmp_path: Path) -> None:
    text = demo(
        auth="{keys: {primary: {env: NOT_SET}, secondary: {env: BLANK}}, "
        "tokens: {algorithms: [HS256], secret: {env: NOT_SET}}}",
        end="admin: {address: 0.0.0.0:1, token: {env: NOT_SET}}",
    )
    assert check(tmp_path, text) == refused(
        "4: endpoints.demo.auth.keys.primary: the environment variable NOT_SET is not set",
        "4: endpoints.demo.auth.keys.secondary: the environment variable BLANK is empty",
        "4: endpoints.demo.auth.tokens.secret: the environment variable NOT_SET is not set",
        "6: admin.token: the environment variable NOT_SET is not set",
    )


@pytest.mark.parametrize(
    "text",
    [
        demo(auth='{keys: {primary: {file: "a\\0b"}}}'),
        demo(auth='{tokens: {algorithms: [RS256], public_key: "a\\0b"}}'),
        demo(auth='{tokens: {algorithms: [RS256], jwks_file: "a\\0b"}}'),
    ],
    ids=["key", "public_key", "jwks_file"],
)
def test_a_path_that_no_file_can_have_is_reported(tmp_path: Path, text: str) -> None:
    assert check(tmp_path, text).status == 2
