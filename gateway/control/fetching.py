"""Fetches small documents from configured URLs, such as JWK Sets."""

from __future__ import annotations

import asyncio

import aiohttp

MAX_SIZE = 1 << 20
TIMEOUT = 5.0


class Fetcher:
    """One HTTP client for the control plane.

    No redirects: a document must come from where the configuration says (PyJWT CVE-2026-102267).
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, url: str) -> bytes:
        """The document at ``url``.

        :raises OSError: it cannot be had, in time and in size; the message says why.
        """
        if self._session is None:
            # trust_env stays off: no proxy variable may redirect where keys come from.
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT), auto_decompress=False
            )
        try:
            async with self._session.get(
                url, allow_redirects=False, headers={"Accept-Encoding": "identity"}
            ) as answer:
                if answer.status != 200:
                    raise OSError(f"status {answer.status}")
                text = await answer.content.read(MAX_SIZE + 1)
                while len(text) <= MAX_SIZE and (more := await answer.content.read(MAX_SIZE)):
                    text += more
        except TimeoutError:
            raise OSError(f"no answer within {TIMEOUT:g}s") from None
        except aiohttp.ClientConnectorError as error:
            raise OSError(f"cannot connect: {error.os_error.strerror or error.os_error}") from None
        except aiohttp.ClientError as error:
            raise OSError(str(error) or type(error).__name__) from None
        except UnicodeError as error:  # labels of more than 63 bytes, or of none
            raise OSError(f"its host is not a name that can be looked up: {error}") from None
        if len(text) > MAX_SIZE:
            raise OSError(f"more than {MAX_SIZE} bytes")
        return text

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # let the transports close
            self._session = None
