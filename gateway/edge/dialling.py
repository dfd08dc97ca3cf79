"""Opening connections to containers, encrypted where their URLs say so."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from gateway.edge.sides import ClientSide
from gateway.edge.upstream import UpstreamConnection
from gateway.engine.pools import Encryption, Pool, Untrusted


async def dial(pool: Pool, clock: Callable[[], float]) -> UpstreamConnection:
    """A new connection to the backend of ``pool``.

    :raises OSError: it cannot be opened; ``Untrusted`` if the TLS handshake failed.
    """
    if pool.encryption is not None:
        return await _dial_securely(pool, pool.encryption, clock)
    backend = pool.backend
    if backend.secure:
        raise Untrusted("no encryption is configured")
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: UpstreamConnection(pool, clock), backend.host, backend.port
    )
    return connection


async def _dial_securely(
    pool: Pool, encryption: Encryption, clock: Callable[[], float]
) -> UpstreamConnection:
    loop = asyncio.get_running_loop()
    connection = UpstreamConnection(pool, clock)
    secured = ClientSide(encryption.context, encryption.server_name, connection, loop)
    await loop.create_connection(lambda: secured, pool.backend.host, pool.backend.port)
    try:
        await secured.ready
    except ssl.SSLCertVerificationError as error:
        raise Untrusted(f"its certificate is not good: {error.verify_message}") from None
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).lower().replace("_", " ")
        raise Untrusted(f"the TLS handshake failed: {reason}") from None
    finally:
        if not secured.is_established:
            secured.abort()
    return connection
