"""Which certificate a client gets, by the name that it asks for (RFC 6066 section 3)."""

from __future__ import annotations

from collections.abc import Collection, Sequence


class ServerNames:
    """The names of several certificates.

    A name as it is written wins over a wildcard; among equals, the certificate that comes first.
    """

    __slots__ = ("_exact", "_wild")

    def __init__(self, certificates: Sequence[Collection[str]]) -> None:
        """:param certificates: for each, its DNS names, such as ``*.example.com``."""
        self._exact: dict[str, int] = {}
        self._wild: dict[str, int] = {}
        for number, names in enumerate(certificates):
            for name in names:
                name = name.lower()
                if name.startswith("*."):
                    self._wild.setdefault(name[2:], number)
                else:
                    self._exact.setdefault(name, number)

    def choose(self, name: str | None) -> int:
        """Position of the certificate for a server name; the first one if none fits.

        :param name: what the client asks for, None if it does not say.
        """
        if name is None:
            return 0
        name = name.lower()
        found = self._exact.get(name)
        if found is None:
            # A wildcard stands for one label, the leftmost (RFC 9525 section 6.3).
            label, _, parent = name.partition(".")
            found = self._wild.get(parent) if label else None
        return found or 0
