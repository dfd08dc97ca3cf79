"""Calls a scoring container directly, as the gateway would."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import aiohttp
from yarl import URL

from gateway import __version__
from gateway.core.backends import Backend
from gateway.engine.pools import Encryption

PATH = "/score"
# Bytes of an answer.
LARGEST = 64 << 20
# Fields that differ from one answer to the next without a row having anything to do with it.
_INCIDENTAL = frozenset(
    (b"date", b"server", b"connection", b"keep-alive", b"content-length", b"transfer-encoding",
     b"x-ms-request-id", b"x-request-id", b"x-ms-client-request-id")
)  # fmt: skip
# And those that say how long something took.
_TIMES = re.compile(rb"(?:^|-)(?:ms|time|timing|duration|latency|elapsed)(?:-|$)")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a container answered. ``lines`` are header fields, each ended by CRLF."""

    status: int
    lines: bytes
    body: bytes

    @property
    def telling(self) -> dict[bytes, bytes]:
        """Header fields that could be about the rows: names in lower case, and values."""
        found: dict[bytes, bytes] = {}
        for line in self.lines.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name not in _INCIDENTAL and not _TIMES.search(name):
                found[name] = found.get(name, b"") + value.strip()
        return found


class NoAnswer(Exception):
    """A call got none; the message says why."""


class Caller:
    """Calls one container, as the gateway would, each time on a connection of its own: one that is
    kept may be closed just when it is used. A context manager."""

    def __init__(
        self, backend: Backend, timeout: float, encryption: Encryption | None = None
    ) -> None:
        """:param timeout: seconds for one call.
        :param encryption: how a backend that is ``secure`` is met.
        """
        self._url = URL(backend.url + PATH, encoded=True)
        self._encryption = encryption
        self._timeout = timeout
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Caller:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={
                "Content-Type": "application/json",
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                "User-Agent": f"scoring-gateway/{__version__} verify-batching",
            },
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def __call__(self, body: bytes) -> Answer:
        """
        :raises NoAnswer: whatever the reason.
        """
        tls = self._encryption
        try:
            async with self._session.post(
                self._url,
                data=body,
                allow_redirects=False,
                ssl=True if tls is None else tls.context,
                server_hostname=None if tls is None else tls.server_name,
            ) as answer:
                text = b""
                async for piece in answer.content.iter_chunked(1 << 20):
                    text += piece
                    if len(text) > LARGEST:
                        raise NoAnswer(f"it is larger than {LARGEST} bytes")
                lines = b"".join(b"%b: %b\r\n" % field for field in answer.raw_headers)
                return Answer(answer.status, lines, text)
        except TimeoutError:
            raise NoAnswer(f"none within {self._timeout:g} s") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise NoAnswer(f"its certificate is not good: {error.certificate_error}") from None
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno
            why = os.strerror(number) if number and number > 0 else str(error.os_error)
            raise NoAnswer(f"cannot connect: {why}") from None
        except aiohttp.ClientError as error:
            raise NoAnswer(str(error) or type(error).__name__) from None
        except OSError as error:
            raise NoAnswer(error.strerror or str(error)) from None
