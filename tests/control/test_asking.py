"""Questions to the admin port: an answer, or one sentence for the operator, without the token."""

from __future__ import annotations

import socket

import pytest

from gateway.control.asking import NotAnswered, ask, reachable
from tests.support.backends import FakeBackend, answering, saying

TOKEN = "token-of-these-tests-0123456789"


def test_an_answer_is_its_status_and_its_data() -> None:
    with FakeBackend(answering(b'{"a": [1]}')) as port:
        assert ask(("127.0.0.1", port.port), "/config", token=TOKEN) == (200, {"a": [1]})
        (seen,) = port.seen
        assert seen.line == "GET /config HTTP/1.1"
        assert seen.header("authorization") == f"Bearer {TOKEN}"
        assert seen.header("host") == f"127.0.0.1:{port.port}"


def test_other_methods_and_statuses_are_possible() -> None:
    with FakeBackend(answering(b"{}", status="422 Unprocessable")) as port:
        address = ("127.0.0.1", port.port)
        assert ask(address, "/reload", method="POST", accepted=(200, 422)) == (422, {})
        (seen,) = port.seen
        assert seen.line == "POST /reload HTTP/1.1"
        assert seen.header("authorization") is None


REFUSALS = [
    ("401 Unauthorized", None, "asks for a token (admin.token)"),
    ("401 Unauthorized", TOKEN, "refuses the token of the file (admin.token)"),
    ("404 Not Found", TOKEN, "answers /config with status 404"),
]


@pytest.mark.parametrize(("status", "token", "said"), REFUSALS)
def test_a_refusal_is_explained(status: str, token: str | None, said: str) -> None:
    with FakeBackend(answering(b"", status=status)) as port:
        with pytest.raises(NotAnswered) as why:
            ask(("127.0.0.1", port.port), "/config", token=token)
        assert str(why.value) == f"the admin port at 127.0.0.1:{port.port} {said}"


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html", b"\0" * 99],
)
def test_other_programs_are_not_taken_for_a_gateway(answer: bytes) -> None:
    with FakeBackend(saying(answer)) as port:
        with pytest.raises(NotAnswered) as why:
            ask(("127.0.0.1", port.port), "/config")
        said = f"what answers at 127.0.0.1:{port.port} is no gateway's admin port"
        assert str(why.value) == said


def test_where_nobody_listens_that_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(NotAnswered) as why:
        ask(address, "/config")
    assert (
        str(why.value) == f"no gateway can be asked at 127.0.0.1:{address[1]}: Connection refused"
    )


def test_a_name_that_nobody_has_is_said() -> None:
    with pytest.raises(NotAnswered, match=r"^no gateway can be asked at nobody\.invalid:1: "):
        ask(("nobody.invalid", 1), "/config")


def test_silence_has_an_end() -> None:
    with FakeBackend(saying(b"", then="wait")) as port:
        with pytest.raises(NotAnswered) as why:
            ask(("127.0.0.1", port.port), "/config", timeout=0.2)
        assert str(why.value) == f"127.0.0.1:{port.port} does not answer within 0.2 s"


@pytest.mark.parametrize(
    ("listens", "found"),
    [
        (("0.0.0.0", 1), ("127.0.0.1", 1)),
        (("::", 2), ("::1", 2)),
        (("10.0.0.1", 3), ("10.0.0.1", 3)),
    ],
)
def test_what_listens_everywhere_is_found_here(
    listens: tuple[str, int], found: tuple[str, int]
) -> None:
    assert reachable(listens) == found
