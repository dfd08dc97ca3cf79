"""What is known about a place of the file, and something of the right shape for it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import outline
from gateway.settings.outline import STAND_IN
from gateway.settings.schema import Settings
from tests.settings.test_schema import KEYS, read

AT = ("endpoints", "demo")
TOP = [
    "listen", "admin", "access_log", "workers", "worker_timeout", "watch", "takeover", "endpoints",
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ((), TOP),
        (("admin",), ["address", "token"]),
        (("access_log",), ["path", "enabled"]),
        (("admin", "token"), ["file", "env"]),
        ((*AT, "auth"), ["keys", "tokens", "certificates", "forward_credentials"]),
        ((*AT, "auth", "keys"), ["primary", "secondary"]),
        (
            (*AT, "deployments", "auth"),
            ["backends", "tls", "concurrency", "queue", "batching", "connections"],
        ),
        (("endpoints",), []),
        ((*AT, "traffic"), []),
        ((*AT, "hosts", 0), []),
        (("nowhere", "at", 5, "all"), []),
    ],
)
def test_the_keys_of_a_section_are_known(path: tuple[str | int, ...], keys: list[str]) -> None:
    assert outline.known_keys(path) == keys


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("listen", "address"), "127.0.0.1:8080"),
        (("listen", "limits", "headers"), "64KiB"),
        (("listen", "limits", "connections"), 1),
        (("listen", "timeouts", "idle"), "60s"),
        (("listen", "trusted_proxies"), [STAND_IN]),
        (("admin", "token"), {"env": "NAME"}),
        (("access_log",), "stdout"),
        ((*AT, "auth"), "none"),
        ((*AT, "auth", "keys"), {"primary": {"env": "NAME"}}),
        ((*AT, "auth", "tokens", "audience", 1), STAND_IN),
        ((*AT, "cors", "methods", 0), "GET"),
        ((*AT, "traffic"), {STAND_IN: 0}),
        ((*AT, "deployments", "blue", "batching", "tolerance"), 0),
        ((*AT, "deployments", "blue", "batching", "sample"), 0.001),
        ((*AT, "deployments"), {STAND_IN: {"backends": [STAND_IN]}}),
    ],
)
def test_a_stand_in_has_the_right_shape(path: tuple[str | int, ...], value: object) -> None:
    assert outline.stand_in(path) == value


def _paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    return [
        found
        for key, value in inner
        for found in [
            (*path, key),
            *(_paths(value, (*path, key)) if isinstance(value, dict | list) else ()),
        ]
    ]


@pytest.mark.parametrize("path", _paths(read(KEYS)), ids=lambda path: ".".join(map(str, path)))
def test_a_stand_in_is_accepted_at_every_place_of_the_file(path: tuple[Any, ...]) -> None:
    data = read(KEYS)
    around = data
    for key in path[:-1]:
        around = around[key]
    around[path[-1]] = outline.stand_in(path)
    try:
        Settings.model_validate(data)
    except ValidationError as error:
        pytest.fail(str(error))
