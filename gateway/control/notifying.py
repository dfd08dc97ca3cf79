"""Telling systemd what state the gateway is in (sd_notify(3)), where systemd has asked."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping

_log = logging.getLogger("gateway")


class Notifier:
    """Sends lines to the socket that ``NOTIFY_SOCKET`` names; does nothing if there is none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")

    def __repr__(self) -> str:
        return f"<Notifier of {self._address or 'nobody'}>"

    def tell(self, *lines: str) -> None:
        """Such as ``READY=1``. It never fails: the service manager is not what we serve."""
        if self._address[:1] not in ("/", "@"):
            return
        # The name of an abstract socket begins with a zero byte.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            _log.warning("systemd could not be told %s: %s", lines[0], error.strerror)
