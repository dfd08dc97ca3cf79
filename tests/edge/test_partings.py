"""What only the kernel knows about the end of a connection, asked of real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
import uvloop

from gateway.edge.partings import cut, has_left

Act = Callable[[asyncio.Transport, socket.socket], Awaitable[None]]


def with_connection(act: Act) -> None:
    """Run ``act`` with our side of a connection, as a transport, and the other side's socket."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: asyncio.Future[asyncio.Transport] = loop.create_future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.set_result(cast(asyncio.Transport, transport))

            def eof_received(self) -> bool:
                return True

        server = await loop.create_server(Protocol, "127.0.0.1", 0)
        other = socket.create_connection(server.sockets[0].getsockname(), timeout=5)
        ours = await made
        try:
            async with asyncio.timeout(10):
                await act(ours, other)
        finally:
            ours.abort()
            other.close()
            server.close()
            await asyncio.sleep(0.05)

    uvloop.run(main())


def read_all(other: socket.socket) -> None:
    while other.recv(100):
        pass


def reset(other: socket.socket) -> None:
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()


def test_who_only_stops_sending_has_not_left() -> None:
    async def act(transport: asyncio.Transport, other: socket.socket) -> None:
        other.shutdown(socket.SHUT_WR)
        transport.write(b"are you there?")
        await asyncio.sleep(0.05)
        assert not has_left(transport)
        assert other.recv(100) == b"are you there?"

    with_connection(act)


def test_who_answers_with_a_reset_has_left() -> None:
    async def act(transport: asyncio.Transport, other: socket.socket) -> None:
        # Half-closed first, so that the transport has stopped reading and is not told of the reset.
        other.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.05)
        assert not has_left(transport)
        reset(other)
        await asyncio.sleep(0.05)
        assert has_left(transport)

    with_connection(act)


def test_what_is_cut_does_not_look_complete() -> None:
    async def act(transport: asyncio.Transport, other: socket.socket) -> None:
        transport.write(b"half an answ")
        cut(transport)
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionResetError):
            read_all(other)

    with_connection(act)


def test_a_connection_is_cut_once() -> None:
    async def act(transport: asyncio.Transport, other: socket.socket) -> None:
        cut(transport)
        cut(transport)
        await asyncio.sleep(0.05)
        cut(transport)
        with pytest.raises(ConnectionResetError):
            other.recv(100)

    with_connection(act)
