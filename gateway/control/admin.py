"""The admin port: health, readiness, metrics, configuration. Never on the public address."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hmac import compare_digest
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from gateway import __version__
from gateway.control.exposition import CONTENT_TYPE

_log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_PUBLIC = frozenset(("/healthz", "/readyz"))
# Seconds that clients may take to read their answers when the port is closed. Who stops the gateway
# waits for that, and so does another one that takes over.
_LAST_ANSWERS = 2.0
# On every answer. aiohttp would name itself and Python, with their versions.
_COMMON = {"Server": "scoring-gateway", "Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class AdminSources:
    """What the admin port shows."""

    #: Why the gateway should get no traffic now; empty when it should.
    unready: Callable[[], list[str]]
    #: What else is to be known of its state.
    status: Callable[[], dict[str, Any]]
    metrics: Callable[[], Awaitable[bytes]]
    #: The running configuration without secrets.
    configuration: Callable[[], Any]
    #: The state of every deployment.
    deployments: Callable[[], Awaitable[Any]]
    #: Reads the configuration anew; whether it is in effect, and what there is to say about it.
    reload: Callable[[], Awaitable[tuple[bool, dict[str, Any]]]]


class AdminRunner(web.AppRunner):
    """Serves the admin application, and words every refusal itself.

    aiohttp's own repeat what they refuse, to the client and in the log, and what is refused may be
    a token with a slip of the pen in it.
    """

    def __init__(self, sources: AdminSources, token: str | None) -> None:
        """:param token: see ``admin_application``."""
        super().__init__(
            admin_application(sources, token), handle_signals=False, shutdown_timeout=_LAST_ANSWERS
        )

    async def _make_server(self) -> web.Server:
        served = await super()._make_server()
        answer = served.request_handler

        async def guarded(request: web.BaseRequest) -> web.StreamResponse:
            try:
                response = await answer(request)
            except web.HTTPException as refusal:
                # Not only ours: an unknown page, method or `Expect` is refused by aiohttp.
                return _refusal(refusal.status, refusal.headers)
            response.headers.update(_COMMON)
            return response

        return _Server(guarded, request_factory=served.request_factory, access_log=None)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """What cannot be read is the client's mistake: nothing of it is repeated or logged."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("a page of the admin port failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun: it cannot become another one")
        response = _refusal(status, {})
        response.force_close()
        return response


def admin_application(sources: AdminSources, token: str | None) -> web.Application:
    """The admin application.

    :param token: what all but ``/healthz`` and ``/readyz`` ask for as a bearer token, None to ask
        nothing.
    """
    digest = hashlib.sha256(token.encode()).digest() if token else None

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in _PUBLIC and not _knows_token(request, digest):
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        reasons = sources.unready()
        # What is wrong with a file names paths and settings: not for everybody who may ask.
        status = sources.status() if _knows_token(request, digest) else {}
        body = {"ready": not reasons, "reasons": reasons, **status}
        return _json(body, 503 if reasons else 200)

    async def metrics(request: web.Request) -> web.Response:
        response = web.Response(body=await sources.metrics())
        response.headers["Content-Type"] = CONTENT_TYPE
        return response

    async def config(request: web.Request) -> web.Response:
        return _json(sources.configuration())

    async def deployments(request: web.Request) -> web.Response:
        return _json(await sources.deployments())

    async def reload(request: web.Request) -> web.Response:
        if "Origin" in request.headers:
            # A page in the browser of somebody on this machine can send this, too.
            raise web.HTTPForbidden
        good, result = await sources.reload()
        return _json(result, 200 if good else 422)

    async def index(request: web.Request) -> web.Response:
        paths = ["/healthz", "/readyz", "/metrics", "/config", "/deployments", "/reload"]
        return _json({"gateway": __version__, "paths": paths})

    application = web.Application(middlewares=[guard])
    application.add_routes(
        [
            web.get("/", index),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics),
            web.get("/config", config),
            web.get("/deployments", deployments),
            web.post("/reload", reload),
        ]
    )
    return application


def _knows_token(request: web.Request, digest: bytes | None) -> bool:
    """Whether who asks has the token with this digest; everybody has where none is wanted."""
    if digest is None:
        return True
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    found = hashlib.sha256(given.strip().encode("utf-8", "surrogateescape")).digest()
    return scheme.lower() == "bearer" and compare_digest(found, digest)


def _refusal(status: int, headers: Mapping[str, str]) -> web.Response:
    """An error in our words, with those of aiohttp's headers that a client needs."""
    kept = {name: headers[name] for name in ("Allow", "WWW-Authenticate") if name in headers}
    text = f"{HTTPStatus(status).phrase}\n"
    return web.Response(status=status, text=text, headers=kept | _COMMON)


def _json(body: Any, status: int = 200) -> web.Response:
    text = orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=text, status=status, content_type="application/json")
