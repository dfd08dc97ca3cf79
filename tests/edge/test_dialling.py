"""Connections to containers: plain, encrypted, and refused when the other side proves nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable

import pytest

from gateway.core.backends import Backend
from gateway.edge.contexts import ClientRules, client_context
from gateway.edge.dialling import dial
from gateway.engine.pools import Encryption, Pool, Pooled, Untrusted
from tests.support.certificates import HOST
from tests.support.tls import ROOT, serving

TRUSTING = client_context(ClientRules(ROOT.pem))


async def reach(port: int, encryption: Encryption | None, secure: bool = True) -> Pooled:
    async def unused(_: Pool) -> Pooled:
        raise AssertionError

    pool = Pool(
        Backend("127.0.0.1", port, secure=secure),
        unused,
        limit=1,
        idle_timeout=1.0,
        connect_timeout=1.0,
        encryption=encryption,
    )
    async with asyncio.timeout(5):
        return await dial(pool, time.monotonic)


def against(
    context: ssl.SSLContext | None, act: Callable[[int], Awaitable[None]], port: int | None = None
) -> None:
    """Run ``act`` with the port of a server that says nothing."""

    async def run() -> None:
        async def silence(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(silence, "127.0.0.1", 0, ssl=context)
        try:
            await act(server.sockets[0].getsockname()[1])
        finally:
            server.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("context", "encryption", "secure"),
    [(None, None, False), (serving(highest="1.3"), Encryption(TRUSTING, HOST), True)],
    ids=["plain", "encrypted"],
)
def test_a_connection_is_opened(
    context: ssl.SSLContext | None, encryption: Encryption | None, secure: bool
) -> None:
    async def act(port: int) -> None:
        connection = await reach(port, encryption, secure)
        assert connection.usable
        connection.close()

    against(context, act)


@pytest.mark.parametrize(
    ("context", "encryption", "why"),
    [
        (serving(), Encryption(TRUSTING, "other.test"), "certificate is not good: Hostname mis"),
        (
            serving(),
            Encryption(client_context(ClientRules()), HOST),
            "its certificate is not good: unable to get local issuer certificate",
        ),
        (serving(), None, "no encryption is configured"),
    ],
)
def test_what_proves_nothing_is_not_trusted(
    context: ssl.SSLContext, encryption: Encryption | None, why: str
) -> None:
    async def act(port: int) -> None:
        with pytest.raises(Untrusted, match=why):
            await reach(port, encryption)

    against(context, act)


def test_a_backend_that_does_not_speak_tls() -> None:
    async def run() -> None:
        async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            with pytest.raises(Untrusted, match="the TLS handshake failed: wrong version number"):
                await reach(port, Encryption(TRUSTING, HOST))
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(0)  # let the transports close

    asyncio.run(run())


def test_nobody_there_is_no_question_of_trust() -> None:
    async def run() -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError):
                await reach(bound.getsockname()[1], Encryption(TRUSTING, HOST))

    asyncio.run(run())
