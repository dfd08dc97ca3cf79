"""Which status each generation of clients sees for what the container answered (contract 1.3)."""

from __future__ import annotations

import pytest

from gateway.core.dialects import MANAGED, NAMES, V1, Dialect, error_headers
from gateway.core.faults import Answer, Fault


def test_v1_passes_every_status_through_except_500() -> None:
    changed = {code: seen for code, seen in V1.statuses.items() if code != seen}
    assert changed == {500: 502}


def test_managed_wraps_every_status_but_200_into_424() -> None:
    assert MANAGED.statuses[200] == 200
    assert {seen for code, seen in MANAGED.statuses.items() if code != 200} == {424}


@pytest.mark.parametrize("dialect", [V1, MANAGED], ids=repr)
def test_each_status_a_container_may_send_is_known(dialect: Dialect) -> None:
    assert list(dialect.statuses) == list(range(200, 600))


def told(status: int) -> bytes:
    return (
        b"ms-azureml-model-error-statuscode: %d\r\n"
        b"ms-azureml-model-error-reason: model_error\r\n" % status
    )


@pytest.mark.parametrize(
    ("dialect", "status", "lines"),
    [
        (V1, 200, b""),
        (V1, 500, b""),
        (MANAGED, 200, b""),
        (MANAGED, 201, told(201)),
        (MANAGED, 400, told(400)),
        (MANAGED, 500, told(500)),
    ],
)
def test_only_managed_tells_the_status_of_the_model(
    dialect: Dialect, status: int, lines: bytes
) -> None:
    assert dialect.model_error_headers(status) == lines


@pytest.mark.parametrize(
    ("dialect", "answer"),
    [
        (V1, Answer(401, "Unauthorized, no Authorization header")),
        (MANAGED, Answer(401, "key_auth_bad_header_forbidden")),
    ],
    ids=repr,
)
def test_a_fault_is_answered_in_the_words_of_the_dialect(dialect: Dialect, answer: Answer) -> None:
    assert dialect.answer(Fault.NO_CREDENTIALS) == answer


def test_error_headers_are_left_out_where_there_is_no_reason() -> None:
    assert error_headers(0, "") == b""
    assert error_headers(503, "model_not_ready") == (
        b"ms-azureml-model-error-statuscode: 503\r\n"
        b"ms-azureml-model-error-reason: model_not_ready\r\n"
    )


def test_an_unknown_dialect_is_refused_with_the_known_ones() -> None:
    assert NAMES == ("v1", "managed")
    with pytest.raises(ValueError, match=r"^no dialect 'v2'; have v1, managed$"):
        Dialect("v2")


def test_a_dialect_shows_its_name() -> None:
    assert repr(MANAGED) == "<Dialect managed>"
