"""Calling a container: what it is sent, and that whatever goes wrong has one name."""

from __future__ import annotations

import asyncio

import pytest

from gateway.control import calling
from gateway.control.calling import Answer, Caller, NoAnswer
from gateway.core.backends import Backend, parse_backend
from tests.support.backends import FakeBackend, answering, saying
from tests.support.containers import free_port

pytestmark = pytest.mark.timeout(20)


def call(backend: Backend, *bodies: bytes, timeout: float = 5.0) -> list[Answer]:
    async def calls() -> list[Answer]:
        async with Caller(backend, timeout) as caller:
            return [await caller(body) for body in bodies]

    return asyncio.run(calls())


def test_a_request_is_posted_below_the_prefix_with_nothing_secret() -> None:
    with FakeBackend(answering(b"[1]", headers="X-Model: a\r\n")) as backend:
        (answer,) = call(parse_backend(f"{backend.url}/models/a,b"), b'{"data": [[1]]}')
    (seen,) = backend.seen
    assert seen.line == "POST /models/a,b/score HTTP/1.1"
    assert seen.body == b'{"data": [[1]]}'
    assert seen.header("content-type") == "application/json"
    assert seen.header("accept-encoding") == "identity"
    names = {line.partition(b":")[0].lower() for line in seen.head.split(b"\r\n")[1:-2]}
    assert names <= {b"host", b"content-type", b"content-length", b"accept", b"accept-encoding",
                     b"user-agent", b"connection"}  # fmt: skip
    assert (answer.status, answer.body) == (200, b"[1]")
    assert b"X-Model: a\r\n" in answer.lines


def test_every_call_has_its_own_connection() -> None:
    with FakeBackend(answering(b"[1]")) as backend:
        call(parse_backend(backend.url), b"{}", b"{}", b"{}")
    assert backend.connections == 3


def test_an_error_status_is_an_answer_and_a_redirect_is_not_followed() -> None:
    with FakeBackend(answering(b"no", status="302 Found", headers="Location: /x\r\n")) as backend:
        (answer,) = call(parse_backend(backend.url), b"{}")
    assert (answer.status, answer.body, len(backend.seen)) == (302, b"no", 1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "disconnected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1]", ""),
        (b"not http at all\r\n\r\n", ""),
    ],
)
def test_a_container_that_breaks_off_gave_no_answer(data: bytes, why: str) -> None:
    with FakeBackend(saying(data)) as backend, pytest.raises(NoAnswer) as caught:
        call(parse_backend(backend.url), b"{}")
    assert str(caught.value)
    assert why in str(caught.value)


def test_a_container_that_is_not_there() -> None:
    with pytest.raises(NoAnswer, match=r"^cannot connect: Connection refused$"):
        call(Backend("127.0.0.1", free_port()), b"{}")


def test_a_container_that_does_not_answer_in_time() -> None:
    with (
        FakeBackend(saying(b"", then="wait")) as backend,
        pytest.raises(NoAnswer, match=r"^none within 0\.2 s$"),
    ):
        call(parse_backend(backend.url), b"{}", timeout=0.2)


def test_an_answer_that_is_too_large_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "LARGEST", 10)
    with FakeBackend(answering(b"x" * 11)) as backend, pytest.raises(NoAnswer, match="10 bytes"):
        call(parse_backend(backend.url), b"{}")


def test_fields_that_tell_nothing_of_rows_are_left_out() -> None:
    lines = (
        b"Date: now\r\nX-Model: a\r\nx-ms-run-fn-exec-ms: 1.2\r\nX-Request-Id: 1\r\n"
        b"x-envoy-upstream-service-time: 3\r\nServer-Timing: x\r\nX-Score: .7\r\nX-Timetable: 1\r\n"
    )
    assert Answer(200, lines, b"").telling == {
        b"x-model": b"a",
        b"x-score": b".7",
        b"x-timetable": b"1",
    }
