"""The raw client over TLS: the same calls, with nothing between them and OpenSSL."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any, cast

from tests.support.certificates import HOST
from tests.support.raw import RawClient


class TlsSocket:
    """A socket's calls, over TLS. Unlike ``ssl.SSLSocket`` it can end one half alone."""

    def __init__(
        self,
        plain: socket.socket,
        context: ssl.SSLContext,
        host: str | None = HOST,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """:raises ssl.SSLError: the handshake failed.
        :raises ConnectionResetError: the other side has closed during it.
        """
        self.plain = plain
        self._unsent = b""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=host, session=session
        )
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self._pull():
                    raise ConnectionResetError("closed during the handshake") from None
            except ssl.SSLError:
                with suppress(OSError):
                    self._flush()
                raise
            else:
                self._flush()
                return

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)

    def sendall(self, data: bytes) -> None:
        for at in range(0, len(data), 65536):
            self.tls.write(data[at : at + 65536])
            self._flush()

    def send(self, data: bytes) -> int:
        """Send what the kernel takes, a record at a time; what it does not take of one goes first
        next time."""
        sent = 0
        while not self._unsent and sent < len(data):
            piece = data[sent : sent + 16384]
            self.tls.write(piece)
            self._unsent = self._outgoing.read()
            sent += len(piece)
            self._push(bool(sent))
        if not sent:
            self._push(False)
            return self.send(data)
        return sent

    def _push(self, may_wait: bool) -> None:
        """:param may_wait: that nothing is taken is no error."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.plain.send(self._unsent) :]
        except (TimeoutError, BlockingIOError):
            if not may_wait:
                raise

    def recv(self, size: int) -> bytes:
        """What has come, as much of it as there is room for."""
        data = b""
        while len(data) < size:
            try:
                piece = self.tls.read(size - len(data))
            except ssl.SSLWantReadError:
                if data or not self._pull():
                    return data
                continue
            except ssl.SSLZeroReturnError:
                return data
            if not piece:
                return data
            data += piece
        return data

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR
        with suppress(ssl.SSLError):
            self.tls.unwrap()
        self._flush()
        self.plain.shutdown(how)

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self.plain.sendall(data)

    def _pull(self) -> bool:
        data = self.plain.recv(65536)
        self._incoming.write(data)
        return bool(data)


class TlsClient(RawClient):
    """One connection over TLS. Use as a context manager."""

    def __init__(
        self,
        address: tuple[str, int],
        timeout: float,
        context: ssl.SSLContext,
        host: str | None = HOST,
        session: ssl.SSLSession | None = None,
    ) -> None:
        super().__init__(address, timeout)
        try:
            self.socket = cast(socket.socket, TlsSocket(self.socket, context, host, session))
        except BaseException:
            self.socket.close()
            raise

    @property
    def tls(self) -> ssl.SSLObject:
        return cast(TlsSocket, self.socket).tls
