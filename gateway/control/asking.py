"""Asks the admin port of a running gateway."""

from __future__ import annotations

import json
import os
import socket
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any

# Seconds that the gateway may take to answer, unless something else is said.
TIMEOUT = 30.0
_MOST = 64 << 20


class NotAnswered(Exception):
    """There is no answer to make use of; the message says why, in words for the operator."""


def ask(
    address: tuple[str, int],
    path: str,
    *,
    method: str = "GET",
    token: str | None = None,
    accepted: tuple[int, ...] = (200,),
    timeout: float = TIMEOUT,
) -> tuple[int, Any]:
    """Send one request, and return the status and the JSON of the answer.

    :param address: of the admin port.
    :param token: what it asks for, None if it asks for nothing.
    :param accepted: statuses of answers to make use of.
    :param timeout: seconds that the gateway may take to answer.
    :raises NotAnswered: there is none.
    """
    headers = {"Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    host, port = address
    where = f"{f'[{host}]' if ':' in host else host}:{port}"
    connection = HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        status, body = answer.status, answer.read(_MOST)
    except TimeoutError:
        raise NotAnswered(f"{where} does not answer within {timeout:g} s") from None
    except (OSError, socket.gaierror) as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise NotAnswered(f"no gateway can be asked at {where}: {why}") from None
    except (HTTPException, ValueError):
        raise NotAnswered(f"what answers at {where} is no gateway's admin port") from None
    finally:
        connection.close()
    if status == HTTPStatus.UNAUTHORIZED:
        why = "refuses the token of the file" if token is not None else "asks for a token"
        raise NotAnswered(f"the admin port at {where} {why} (admin.token)")
    if status not in accepted:
        raise NotAnswered(f"the admin port at {where} answers {path} with status {status}")
    try:
        return status, json.loads(body)
    except ValueError:
        raise NotAnswered(f"what answers at {where} is no gateway's admin port") from None


def reachable(address: tuple[str, int]) -> tuple[str, int]:
    """Where to find what listens on ``address``, from the same machine."""
    host, port = address
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104  not bound
