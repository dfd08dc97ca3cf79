"""Heads of requests to a container, and where its redirects lead."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.backends import Backend
from gateway.core.replies import Reply
from gateway.engine.framing import merged_head, relocate
from gateway.engine.pools import Pool, Pooled
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import Script, Setup


async def never(pool: Pool) -> Pooled:
    await asyncio.Event().wait()
    raise AssertionError


def pool(prefix: bytes = b"") -> Pool:
    backend = Backend("10.0.0.5", 5001, prefix)
    return Pool(backend, never, limit=1, idle_timeout=1, connect_timeout=1)


@pytest.mark.parametrize(
    ("prefix", "line"),
    [(b"", b"POST /score?a=b HTTP/1.1"), (b"/model", b"POST /model/score?a=b HTTP/1.1")],
)
def test_the_head_of_a_merged_call(prefix: bytes, line: bytes) -> None:
    head = merged_head(
        b"POST /score?a=b HTTP/1.1\r\n", b"accept: a/b\r\n", pool(prefix), "name", 17
    )
    assert head.split(b"\r\n") == [
        line,
        b"Host: 10.0.0.5:5001",
        b"accept: a/b",
        b"x-request-id: name",
        b"Content-Length: 17",
        b"",
        b"",
    ]


@pytest.mark.parametrize(
    ("sent", "framing"),
    [
        (request(key=KEY), b"Content-Length: 18\r\n\r\n"),
        (request(key=KEY, body=b""), b"Content-Length: 0\r\n\r\n"),
        (request(key=KEY, body=None, method="GET"), b"\r\n"),
        (
            request(key=KEY, body=None, headers={"Content-Length": "3", "Content-Type": "a/b"}),
            b"Content-Length: 3\r\n\r\n",
        ),
        (
            request(
                key=KEY,
                body=None,
                headers={"Transfer-Encoding": "chunked", "Content-Type": "a/b"},
            ),
            b"Transfer-Encoding: chunked\r\n\r\n",
        ),
    ],
)
def test_a_single_request_is_framed_anew(sent: bytes, framing: bytes) -> None:
    with Script(Setup(backends=(Backend("10.0.0.5", 5001, b"/model"),))) as script:
        script.client().says(sent)
        head = bytes(script.container().transport.sent).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        method = sent.partition(b" ")[0]
        assert head.startswith(method + b" /model/score HTTP/1.1\r\nHost: 10.0.0.5:5001\r\n")
        assert head.endswith(b"\r\n" + framing)
        assert head.lower().count(b"content-length") == framing.lower().count(b"content-length")
        assert b"x-request-id: 00000000-0000-4000-8000-000000000001\r\n" in head
        assert b"X-Forwarded-For: " in head


@pytest.mark.parametrize(
    ("prefix", "value", "expected"),
    [
        (b"", b"http://10.0.0.5:5001/x", b"/api/x"),
        (b"", b"http://10.0.0.5:5001", b"/api/"),
        (b"", b"/x?y=z", b"/api/x?y=z"),
        (b"", b" /x ", b"/api/x"),
        (b"", b"//elsewhere/x", b"//elsewhere/x"),
        (b"", b"http://10.0.0.5:50011/x", b"http://10.0.0.5:50011/x"),
        (b"", b"https://elsewhere/x", b"https://elsewhere/x"),
        (b"", b"x", b"x"),
        (b"/model", b"/model/x", b"/api/x"),
        (b"/model", b"/model", b"/api/"),
        (b"/model", b"/model?a", b"/api/?a"),
        (b"/model", b"/models/x", b"/api/models/x"),
        (b"/model", b"http://10.0.0.5:5001/model/x", b"/api/x"),
        (b"/model", b"/other", b"/api/other"),
    ],
)
def test_redirects_to_the_container_lead_to_the_gateway(
    prefix: bytes, value: bytes, expected: bytes
) -> None:
    reply = Reply(302)
    reply.locations = (b"Location: " + value + b"\r\n",)
    relocate(reply, pool(prefix), b"/api")
    assert reply.lines == [b"Location: " + expected + b"\r\n"]
