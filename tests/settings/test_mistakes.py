"""Messages are one line, say what was found, and repeat nothing that may be a secret."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings.mistakes import Keys, Mistake, explain, show, twice
from gateway.settings.schema import Settings
from tests.settings.test_schema import KEYS, read

AT = ("endpoints", "demo")
CANARY = "Zx81k-canary-of-the-tests"


@pytest.mark.parametrize(
    ("path", "message", "line"),
    [
        ((), "is empty", "f:5: is empty"),
        (("a", 0, "b"), "is wrong", "f:5: a[0].b: is wrong"),
        (("a\nb",), "x\ty", r"f:5: a\nb: x\ty"),
        (("é",), "\x1b[31m\u2028\x85", r"f:5: é: \x1b[31m\u2028\x85"),
        (("a",), "\ud800", r"f:5: a: \ud800"),
        (("a",), "'http://me:pass/w@rd@h:1' is bad", "f:5: a: 'http://***@h:1' is bad"),
    ],
)
def test_a_mistake_is_one_printable_line(path: Keys, message: str, line: str) -> None:
    assert Mistake(path, message).render("f:5") == line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (5, "5"),
        (0, "0"),
        (1.5, "1.5"),
        ("word", "'word'"),
        ("x" * 100, f"'{'x' * 56}..."),
        ([], "[]"),
        ({}, "{}"),
        ([CANARY], "a list"),
        ({"a": CANARY}, "a mapping"),
        (f"http://me:{CANARY}@h", "'***@h'"),
        (f"me:{CANARY}{'x' * 100}@h", "'***@h'"),
    ],
)
def test_a_value_is_shown_as_far_as_it_is_short_and_public(value: object, text: str) -> None:
    assert show(value) == text


def report(path: Keys, value: Any) -> list[Mistake]:
    """What is said of a good file with another value at one place."""
    data = read(KEYS)
    around = data
    for key in path[:-1]:
        around = around[key]
    around[path[-1]] = value
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(data)
    return [explain(detail) for detail in caught.value.errors()]


@pytest.mark.parametrize(
    ("path", "value", "mistake"),
    [
        (("listen", "limits", "headers"), "0B", "must be more than 0"),
        (("listen", "backlog"), "5", "found '5', expected a whole number"),
        (("listen", "backlog"), 0, "found 0, expected at least 1"),
        (("listen", "backlog"), 65536, "found 65536, expected at most 65535"),
        (("listen", "trusted_proxies"), "h", "found 'h', expected a list"),
        (("listen", "trusted_proxies", 0), 5, "found 5, expected text"),
        (("access_log", "enabled"), "yes", "found 'yes', expected true or false"),
        (("listen", "timeouts", "idle"), None,
         "found null, expected a duration such as 500ms, 60s, 5m or 1h"),
        ((*AT, "limits"), [1], "found a list, expected a mapping"),
        ((*AT, "auth"), ["x"], "expected a mapping or the word none"),
        ((*AT, "auth", "tokens"), CANARY, "expected a mapping"),
        ((*AT, "auth", "tokens", "audience"), 5,
         "found 5, expected a text or a list of texts"),
        ((*AT, "auth", "tokens", "audience"), [], "must not be empty"),
        (("admin",), 5,
         "found 5, expected a mapping or an address such as 127.0.0.1:8080 or [::1]:8080"),
    ],
)  # fmt: skip
def test_a_message_says_what_is_accepted(path: Keys, value: object, mistake: str) -> None:
    assert report(path, value) == [Mistake(path, mistake)]


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ((*AT, "auth"), "keys, tokens, certificates, forward_credentials"),
        ((*AT, "auth", "keys"), "primary, secondary"),
        ((*AT, "auth", "keys", "primary"), "file, env"),
        (("admin", "token"), "file, env"),
    ],
)
def test_t44_a_secret_that_became_a_key_is_not_repeated(path: Keys, known: str) -> None:
    found = report((*path, CANARY), None)
    assert Mistake(path, f"has an unknown key; known are {known}") in found
    assert CANARY not in str(found)
    assert twice((*path, CANARY)) == Mistake(path, "has a key twice")


def test_a_key_of_ours_that_is_there_twice_is_named() -> None:
    for path in [("a",), (*AT, "auth", "keys", "primary"), ("admin", "token", "file")]:
        assert twice(path) == Mistake(path, "is there twice")
