"""The other end of a TLS connection: OpenSSL in memory, on a fake transport."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Self

from gateway.edge.contexts import Identity, ServerRules, load_identity, server_context
from gateway.edge.sides import ClientSide, ServerSide
from gateway.edge.tls import Secured
from tests.support.certificates import HOST, Issued, authority, issue
from tests.support.fakes import FakeClock, FakeLoop, FakeTransport

ROOT = authority()
GATEWAY = issue(HOST, "127.0.0.1", by=ROOT)


def identity(issued: Issued, *names: str) -> Identity:
    return Identity(issued.pem, issued.key_pem, names)


def serving(**more: object) -> ssl.SSLContext:
    """The gateway's settings towards clients; ``more`` are fields of ``ServerRules``."""
    return server_context(ServerRules((identity(GATEWAY),), **more))  # type: ignore[arg-type]


def asking(by: Issued = ROOT, certificate: Issued | None = None) -> ssl.SSLContext:
    """A client's settings: it trusts one authority, and may have a certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=Issued(by.certificate, by.key).pem.decode())
    context.set_alpn_protocols(["h2", "http/1.1"])
    if certificate is not None:
        load_identity(context, identity(certificate))
    return context


SERVING = serving()
ASKING = asking()


class FarEnd:
    """Speaks TLS with whatever protocol is at ``transport``."""

    def __init__(
        self,
        loop: FakeLoop,
        transport: FakeTransport,
        context: ssl.SSLContext,
        *,
        host: str | None = HOST,
        session: ssl.SSLSession | None = None,
        server_side: bool = False,
    ) -> None:
        self.transport = transport
        self._loop = loop
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=None if server_side else host,
            session=session,
        )
        self._read = 0

    def shakes_hands(self) -> None:
        """The whole handshake.

        :raises ssl.SSLError: this side did not like it, or was told that the other did not.
        """
        for _ in range(6):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.exchange()
            else:
                self.exchange()
                return
        raise AssertionError("the handshake does not end")

    def says(self, data: bytes, size: int = 0) -> None:
        """Send data, and deliver it so many bytes at a time."""
        self.tls.write(data)
        self.exchange(size)

    def says_goodbye(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.exchange()

    def heard(self) -> bytes:
        """What has come and was not heard yet."""
        self._pull()
        data = b""
        try:
            while piece := self.tls.read(65536):
                data += piece
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return data

    @property
    def was_told(self) -> bool:
        """The other side has said goodbye. Everything must have been heard before."""
        self._pull()
        try:
            return self.tls.read(1) == b""
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLWantReadError:
            return False

    def exchange(self, size: int = 0) -> None:
        """Send what is to be sent, and take in what has come."""
        data = self._outgoing.read()
        size = size or max(len(data), 1)
        for at in range(0, len(data), size):
            self._loop.perform(lambda at=at: self.transport.deliver(data[at : at + size]))  # type: ignore[misc]
        self._pull()

    def _pull(self) -> None:
        sent = self.transport.sent
        self._incoming.write(bytes(sent[self._read :]))
        self._read = len(sent)


class Listening(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.transport: asyncio.Transport
        self.keeps = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Secured)
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self.keeps

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


class Stage:
    """One secured connection between a listening protocol and a far end."""

    def __init__(self, server: ssl.SSLContext = SERVING, asks: ssl.SSLContext = ASKING) -> None:
        self.loop = FakeLoop(FakeClock())
        self.inner = Listening()
        self.results: list[str] = []
        self.secured = ServerSide(server, self, lambda: self.inner, 1e9)
        self.transport = FakeTransport(self.loop, self.secured)
        self.loop.perform(lambda: self.secured.connection_made(self.transport))
        self.far = FarEnd(self.loop, self.transport, asks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.perform(self.transport.abort)
        mishaps, misuse = self.loop.mishaps, self.transport.misuse
        self.loop.shut()
        assert (mishaps, misuse) == ([], [])

    def open(self) -> Self:
        self.far.shakes_hands()
        assert self.results in (["full"], ["resumed"])
        assert self.inner.told.pop(0) == "made"
        return self

    def is_refused(self) -> None:
        """The far end is told that it is not what it should be."""
        try:
            self.far.shakes_hands()
            self.far.exchange()
            self.far.heard()
        except ssl.SSLError:
            return
        raise AssertionError("nothing was refused")

    # As the one who looks after handshakes.

    def arrived(self, who: Secured) -> None:
        self.results.clear()

    def knocked(self, who: Secured) -> None:
        self.loop.call_soon(who.step)

    def ended(self, who: Secured, result: str) -> None:
        self.results.append(result)

    def gone(self, who: Secured) -> None:
        self.results.append("gone")


class Upstream(Stage):
    """The same the other way round: the gateway is the client."""

    def __init__(self, asks: ssl.SSLContext = ASKING, name: str = HOST) -> None:
        self.loop = FakeLoop(FakeClock())
        self.inner = Listening()
        self.results = []
        self.client = ClientSide(asks, name, self.inner, self.loop)
        self.transport = FakeTransport(self.loop, self.client)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load_identity(context, identity(GATEWAY))
        self.far = FarEnd(self.loop, self.transport, context, server_side=True)
        self.loop.perform(lambda: self.client.connection_made(self.transport))

    def open(self) -> Self:
        self.far.exchange()
        self.far.shakes_hands()
        assert self.client.ready.result() is None
        assert self.inner.told.pop(0) == "made"
        return self
