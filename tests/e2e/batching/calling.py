"""Many raw HTTP clients in one thread, as strict as the one of `tests.support.raw`."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter

from tests.support.raw import Answer, Closed

Address = tuple[str, int]


class Caller:
    """One connection at a time, opened when it is needed."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._streams: tuple[StreamReader, StreamWriter] | None = None

    async def connect(self) -> StreamWriter:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        return self._streams[1]

    async def send(self, request: bytes) -> None:
        writer = await self.connect()
        writer.write(request)
        await writer.drain()

    async def answer(self) -> Answer:
        """The answer to what was sent.

        :raises Closed: the connection ended before it was complete.
        :raises AssertionError: it is not strict HTTP/1.1.
        """
        assert self._streams is not None
        try:
            answer = await read_answer(self._streams[0])
        except Closed:
            await self.leave()
            raise
        if answer.header("connection") == "close":
            await self.leave()
        return answer

    async def ask(self, request: bytes) -> Answer:
        await self.send(request)
        return await self.answer()

    async def leave(self) -> None:
        """Close the connection now, whatever is on its way."""
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            await hang_up(writer)

    async def end(self) -> bytes:
        """Say that no more will be asked, and return what comes all the same."""
        if self._streams is None:
            return b""
        reader, writer = self._streams
        writer.write_eof()
        rest = await reader.read()
        await self.leave()
        return rest


async def hang_up(writer: StreamWriter) -> None:
    """Close a connection at once."""
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def read_answer(reader: StreamReader) -> Answer:
    """One final answer.

    :raises Closed: the connection ended before it was complete.
    """
    came = b""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        came = head
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        version, code, reason = first.split(" ", 2)
        assert version == "HTTP/1.1", first
        headers: list[tuple[str, str]] = []
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon, line
            headers.append((name.lower(), value.strip()))
        fields = dict(headers)
        if code == "204":
            body = b""
        elif "transfer-encoding" in fields:
            body = await _chunks(reader)
        else:
            body = await reader.readexactly(int(fields["content-length"]))
    except asyncio.IncompleteReadError as error:
        raise Closed(came + error.partial, False) from None
    except ConnectionResetError:
        raise Closed(came, True) from None
    return Answer(int(code), reason, headers, body)


async def _chunks(reader: StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    assert await reader.readexactly(2) == b"\r\n"
    return body
