"""The other end of a client connection, and what containers are told about it."""

from __future__ import annotations

from gateway.core.forwarding import Forwarding
from gateway.engine.routed import Routed


class Peer:
    """One client's address. It does not change while the connection lives, so what follows from it
    is worked out once for each configuration."""

    __slots__ = ("_host", "_peer", "_scheme", "address", "forwarding", "lines", "trusted")

    def __init__(self, forwarding: Forwarding, peer: str, scheme: str) -> None:
        """
        :param peer: address of the other end.
        :param scheme: ``http`` or ``https``, by the socket.
        """
        self.forwarding = forwarding
        self._peer = peer
        self._scheme = scheme
        self._host: bytes | None = None
        self.trusted = forwarding.trusts(peer)
        #: Address of the client: the peer's, or what a trusted proxy says of the request in hand.
        self.address = peer
        #: Forwarding headers for the container.
        self.lines = b""

    def under(self, forwarding: Forwarding) -> Peer:
        """The same other end, with what another configuration says of it."""
        return Peer(forwarding, self._peer, self._scheme)

    def look_at(self, routed: Routed) -> None:
        """Work out ``address`` and ``lines`` for a request."""
        head = routed.head
        host = head.host or b""
        if self.trusted:
            self.address, self.lines = self.forwarding.describe(
                self._peer, self._scheme, host, head.forwarded, True
            )
        elif host != self._host:
            self._host = host
            _, self.lines = self.forwarding.describe(self._peer, self._scheme, host, (), False)
