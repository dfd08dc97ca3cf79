"""From settings to what a worker listens with and writes its access log with."""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path

from gateway.core.heads import HeadLimits
from gateway.core.identity import request_ids
from gateway.edge.access_log import Writer
from gateway.edge.listener import Listener
from gateway.edge.phases import Patience
from gateway.settings.schema import AccessLog, Settings
from gateway.wired import Wired


def open_writer(settings: AccessLog, base: Path) -> Writer | None:
    """Who writes the access log, at work already; None if there is to be none.

    :raises OSError: it cannot be written; the message is for the operator.
    """
    if not settings.enabled:
        return None
    writer = Writer(base / settings.path if settings.path else None)
    try:
        writer.start()
    except OSError as error:
        why = f"cannot write the access log {settings.path}: {error.strerror}"
        raise OSError(why) from None
    return writer


def make_listener(name: str, settings: Settings, wired: Wired) -> Listener:
    """:param name: what the address is for: ``listen`` or ``plain``."""
    limits = settings.listen.limits
    return Listener(
        wired.plane,
        ids=request_ids(os.urandom),
        limits=_head_limits(settings),
        patience=_patience(settings),
        connections=limits.connections,
        requests_per_connection=limits.requests_per_connection,
        clock=time.monotonic,
        wall=time.time,
        tls=_tls(name, settings, wired),
    )


def adjust(listener: Listener, name: str, settings: Settings, wired: Wired) -> None:
    """Have a listener do what a new configuration says, from the next request on; certificates are
    for new connections.

    :param name: what its address is for.
    """
    limits = settings.listen.limits
    listener.plane = wired.plane
    listener.tls = _tls(name, settings, wired)
    listener.limits = _head_limits(settings)
    listener.patience = _patience(settings)
    listener.requests_per_connection = limits.requests_per_connection
    listener.tally.limit = limits.connections


def _tls(name: str, settings: Settings, wired: Wired) -> ssl.SSLContext | None:
    """How clients are met; None for plain HTTP, which nobody gets who has asked for TLS."""
    if name == "plain" or settings.listen.tls is None:
        return None
    if wired.tls is None:
        raise RuntimeError("listen.tls is configured, and there is nothing to encrypt with")
    return wired.tls


def _head_limits(settings: Settings) -> HeadLimits:
    limits = settings.listen.limits
    return HeadLimits(limits.request_line, limits.headers, limits.header_count)


def _patience(settings: Settings) -> Patience:
    times = settings.listen.timeouts
    return Patience(
        head=times.headers,
        body=times.body,
        idle=times.idle,
        write=times.write,
        linger=times.linger,
        body_rate=times.body_rate,
        handshake=times.handshake,
    )
