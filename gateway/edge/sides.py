"""The two sides of TLS: towards clients, who ask for connections, and towards containers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Protocol

from gateway.core.certificates import holder_names
from gateway.edge.tls import Secured

_NOT_PLAIN = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 31\r\nConnection: close\r\n\r\nThis port is for https:// only\n"
)


class Usher(Protocol):
    """Who looks after handshakes."""

    def arrived(self, who: ServerSide) -> None:
        """A connection was accepted."""

    def knocked(self, who: ServerSide) -> None:
        """The client has sent something: go on with its handshake when there is time."""

    def ended(self, who: ServerSide, result: str) -> None:
        """The handshake is over: ``full``, ``resumed`` or ``failed``; the connection is closing
        then."""

    def gone(self, who: ServerSide) -> None:
        """A connection is closed whose handshake has failed, or was never finished."""


class ServerSide(Secured):
    """A connection that a client has opened."""

    __slots__ = ("_context", "_factory", "_names", "_usher", "due")

    def __init__(
        self,
        context: ssl.SSLContext,
        usher: Usher,
        factory: Callable[[], asyncio.Protocol],
        due: float,
    ) -> None:
        """
        :param factory: makes who speaks with the client after the handshake.
        :param due: when the handshake has to be done, in monotonic seconds.
        """
        super().__init__()
        self._context = context
        self._usher = usher
        self._factory = factory
        self._names: frozenset[str] = frozenset()
        self.due = due

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._usher.arrived(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``certificate_names`` are those of the client's certificate."""
        return self._names if name == "certificate_names" else super().get_extra_info(name, default)

    def _wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self._context.wrap_bio(incoming, outgoing, server_side=True)

    def _knock(self) -> None:
        self._usher.knocked(self)

    def _established(self) -> asyncio.Protocol:
        certificate = self._tls.getpeercert(binary_form=True)
        if certificate is not None:
            self._names = holder_names(certificate)
        self._usher.ended(self, "resumed" if self._tls.session_reused else "full")
        return self._factory()

    def _last_words(self, error: ssl.SSLError | ValueError) -> bytes:
        # Whoever has mistaken the port sees why, not only that.
        plain = isinstance(error, ssl.SSLError) and error.reason == "HTTP_REQUEST"
        return _NOT_PLAIN if plain else b""

    def _failed(self, error: ssl.SSLError | ValueError) -> None:
        self._usher.ended(self, "failed")

    def _left(self) -> None:
        self._usher.gone(self)

    def _fell_silent(self, inner: asyncio.Protocol) -> None:
        # Requests say how long they are: nothing that was cut short passes for whole.
        self._part(inner)


class ClientSide(Secured):
    """A connection that the gateway opens to a container."""

    __slots__ = ("_context", "_protocol", "_server_name", "ready")

    def __init__(
        self,
        context: ssl.SSLContext,
        server_name: str,
        protocol: asyncio.Protocol,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """
        :param server_name: host name or address that the certificate must be for.
        """
        super().__init__()
        self._context = context
        self._server_name = server_name
        self._protocol = protocol
        #: Done when the handshake is, with what went wrong if it failed.
        self.ready: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._begin()
        self.step()

    def _wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self._context.wrap_bio(incoming, outgoing, server_hostname=self._server_name)

    def _knock(self) -> None:
        self.step()

    def _established(self) -> asyncio.Protocol:
        if not self.ready.done():
            self.ready.set_result(None)
        return self._protocol

    def _failed(self, error: ssl.SSLError | ValueError) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)

    def _left(self) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionResetError("closed during the handshake"))

    def _fell_silent(self, inner: asyncio.Protocol) -> None:
        # An answer that lasts until the connection ends would look whole, however much of it an
        # attacker has cut off (RFC 9112 section 9.8).
        self._raw.abort()
