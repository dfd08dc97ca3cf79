"""Documents are fetched from where the configuration says and from nowhere else, within bounds of
time and size, and every failure is an ``OSError``: the keeper of keys knows no other."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable

import pytest

from gateway.control import fetching
from gateway.control.fetching import MAX_SIZE, Fetcher
from tests.support.backends import Behaviour, FakeBackend, Link, answering, saying


def fetch(*urls: str) -> list[bytes]:
    async def run() -> list[bytes]:
        fetcher = Fetcher()
        try:
            return [await fetcher(url) for url in urls]
        finally:
            await fetcher.close()

    return asyncio.run(run())


def failure(behaviour: Behaviour) -> str:
    """Fetch from a backend that must not be believed, and say why it was not."""
    with FakeBackend(behaviour) as backend, pytest.raises(OSError) as caught:  # noqa: PT011
        fetch(f"{backend.url}/keys")
    return str(caught.value)


def test_a_document_is_fetched_as_it_is() -> None:
    with FakeBackend(answering(b'{"keys": []}')) as backend:
        assert fetch(f"{backend.url}/path?query=1") == [b'{"keys": []}']
    (seen,) = backend.seen
    assert seen.line == "GET /path?query=1 HTTP/1.1"
    assert seen.header("accept-encoding") == "identity"
    assert seen.header("authorization") is None
    assert seen.header("cookie") is None


def test_fetches_share_a_connection_and_the_fetcher_can_be_used_after_close() -> None:
    async def run() -> None:
        fetcher = Fetcher()
        await fetcher.close()
        for _ in range(2):
            assert await fetcher(backend.url) == b"[1.0]"
        await fetcher.close()
        assert await fetcher(backend.url) == b"[1.0]"
        await fetcher.close()

    with FakeBackend(answering()) as backend:
        asyncio.run(run())
    assert [seen.connection for seen in backend.seen] == [1, 1, 2]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_t37_a_redirect_is_not_followed(status: str) -> None:
    with FakeBackend(answering(b'{"keys": []}')) as other:
        headers = f"Location: {other.url}/keys\r\n"
        said = failure(answering(b"", status=status, headers=headers))
    assert said == f"status {status[:3]}"
    assert other.seen == []


@pytest.mark.parametrize("status", ["201 Created", "204 No Content", "404 Not Found", "500 Oops"])
def test_t37_only_200_brings_a_document(status: str) -> None:
    assert failure(answering(b"", status=status, headers="")) == f"status {status[:3]}"


def test_t37_a_document_may_be_a_mebibyte_and_not_a_byte_more() -> None:
    for size, fits in ((MAX_SIZE, True), (MAX_SIZE + 1, False)):
        with FakeBackend(answering(b"x" * size)) as backend:
            if fits:
                assert fetch(backend.url) == [b"x" * size]
            else:
                with pytest.raises(OSError, match=f"more than {MAX_SIZE} bytes"):
                    fetch(backend.url)


def test_t37_an_endless_document_is_given_up_at_the_limit() -> None:
    sent = [0]

    def endless(link: Link) -> None:
        link.read_request()
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            link.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent[0] += 65536

    assert failure(endless) == f"more than {MAX_SIZE} bytes"
    # What the sockets' buffers hold on top of it is not ours.
    assert sent[0] < 16 * MAX_SIZE


def test_t37_a_compressed_document_is_not_unpacked() -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    with FakeBackend(answering(bomb, headers="Content-Encoding: gzip\r\n")) as backend:
        assert fetch(backend.url) == [bomb]


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_t37_who_does_not_answer_in_time_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 0.3)
    began = time.monotonic()
    assert failure(saying(part, then="wait")) == "no answer within 0.3s"
    assert time.monotonic() - began < 3


BROKEN: dict[str, Callable[[Link], None]] = {
    "closed": saying(b""),
    "reset": saying(b"", then="reset"),
    "cut-off": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
    "cut-off-chunk": saying(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", then="reset"
    ),
    "no-http": saying(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "two-lengths": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "endless-header": saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000),
}


@pytest.mark.parametrize("behaviour", BROKEN.values(), ids=BROKEN)
def test_t37_a_broken_answer_is_a_reason_and_no_document(behaviour: Behaviour) -> None:
    assert failure(behaviour) != ""


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/", "http://[::1]:1/", "ftp://127.0.0.1/", "file:///etc/passwd", "",
        "https://[::1/keys", "https://h:99999/keys", "https://no such host/keys",
    ],
)  # fmt: skip
def test_t37_what_cannot_be_reached_is_a_reason(url: str) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        fetch(url)
    assert str(caught.value) != ""


@pytest.mark.parametrize("url", ["https://a..b/keys", f"https://{'a' * 64}.example/keys"])
def test_t37_a_name_that_cannot_be_looked_up_is_a_reason(url: str) -> None:
    with pytest.raises(OSError, match="its host is not a name that can be looked up: "):
        fetch(url)


def test_t37_no_variable_of_the_environment_redirects_a_fetch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with FakeBackend(answering(b"forged")) as proxy, FakeBackend(answering(b"true")) as backend:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert fetch(backend.url) == [b"true"]
    assert proxy.seen == []
