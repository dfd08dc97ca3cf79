"""Malformed requests that others have collected: each is refused, and no container hears of it.

The corpus is gunicorn's, of requests that it must refuse. The endpoint asks for no credentials and
takes any path, so that nothing but the malformation can be the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import FakeBackend, answering
from tests.support.gateways import GatewayProcess, wait_until
from tests.support.raw import RawClient, request

# About limits that are gunicorn's own; ours are higher, so what is sound is served here.
# Sound up to an end that never comes. A body that is not JSON is passed on as it arrives, so what
# was sound has reached the container by then; the message is never completed.
CUT_SHORT = "rfc9112_chunked_missing_final_crlf_01.http"
OTHER_LIMITS = re.compile(r"(006|008|009|011|012|limit_header_.*)\.http")
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))")
_LETTERS = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}
CONFIGURATION = """
listen:
  address: 127.0.0.1:0
  timeouts: {{headers: 300ms, body: 300ms, idle: 300ms, linger: 200ms}}
admin: 127.0.0.1:0
endpoints:
  diabetes:
    auth: none
    deployments: {{blue: {{backends: [{backend}]}}}}
"""


def names() -> list[str]:
    folder = Path(__file__).resolve().parents[1] / "corpora" / "http11"
    return sorted(path.name for path in folder.glob("*.http"))


def message(text: bytes) -> bytes:
    """The bytes that a file of the corpus stands for: line ends and others are written as escapes,
    real line ends are there for the reader."""
    joined = text.replace(b"\r", b"").replace(b"\n", b"")
    return _ESCAPE.sub(lambda m: bytes.fromhex(m[1].decode()) if m[1] else _LETTERS[m[2]], joined)


@pytest.fixture(scope="module")
def backend() -> Iterator[FakeBackend]:
    with FakeBackend(answering()) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    backend: FakeBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    text = CONFIGURATION.format(backend=backend.url)
    with GatewayProcess(text, tmp_path_factory.mktemp("gateway")) as running:
        yield running
        assert running.complaints() == []


def is_served(client: RawClient) -> bool:
    client.send(request(key=None))
    return client.answer().body == b"[1.0]"


def test_the_corpus_is_there(corpora: Path) -> None:
    assert sorted(path.name for path in (corpora / "http11").glob("*.http")) == names()
    assert len(names()) == 37


@pytest.mark.parametrize("name", [name for name in names() if not OTHER_LIMITS.fullmatch(name)])
def test_it_is_refused_and_nothing_reaches_the_container(
    gateway: GatewayProcess, backend: FakeBackend, corpora: Path, name: str
) -> None:
    bytes_before, before = len(backend.raw), len(backend.seen)
    with gateway.client() as client:
        client.send(message((corpora / "http11" / name).read_bytes()))
        answer = client.answer()
        assert 400 <= answer.status <= 499
        assert answer.header("connection") == "close"
        assert client.is_closed()
    if name == CUT_SHORT:
        wait_until(lambda: backend.connections in backend.dropped, what="the break upstream")
    else:
        assert len(backend.raw) == bytes_before
    assert len(backend.seen) == before
    with gateway.client() as client:
        assert is_served(client)


@pytest.mark.parametrize("name", [name for name in names() if OTHER_LIMITS.fullmatch(name)])
def test_what_is_only_large_is_answered(gateway: GatewayProcess, corpora: Path, name: str) -> None:
    with gateway.client() as client:
        client.send(message((corpora / "http11" / name).read_bytes()))
        assert client.answer().status in (200, 400, 405, 408, 431)
    with gateway.client() as client:
        assert is_served(client)


def test_the_files_are_read_as_their_readme_says() -> None:
    assert message(rb"GET\t/\0 \x7F\r\n" + b"\n" + rb"a\\b") == b"GET\t/\0 \x7f\r\na\\b"
