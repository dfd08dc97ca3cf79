"""The same job as a plain aiohttp application, the way most people would write it."""

from __future__ import annotations

import asyncio
import hmac
import os
import sys
import uuid

import uvloop
from aiohttp import ClientSession, TCPConnector, web

_DROPPED = frozenset(
    ("host", "connection", "keep-alive", "transfer-encoding", "content-length", "authorization")
)


async def main(port: int, backend: int) -> None:
    keys = [f"Bearer {os.environ[name]}" for name in ("BENCH_KEY", "BENCH_SECOND_KEY")]
    session = ClientSession(connector=TCPConnector(limit=0, keepalive_timeout=15))

    async def score(request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        if not any(hmac.compare_digest(given, key) for key in keys):
            return web.Response(status=401, text="Unauthorized")
        identifier = str(uuid.uuid4())
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _DROPPED}
        headers["x-request-id"] = identifier
        body = await request.read()
        target = f"http://127.0.0.1:{backend}/score"
        async with session.post(target, data=body, headers=headers) as answer:
            text = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _DROPPED}
        kept |= {"x-ms-request-id": identifier, "azureml-model-deployment": "blue"}
        return web.Response(status=answer.status, body=text, headers=kept)

    application = web.Application(client_max_size=100 << 20)
    application.router.add_post("/api/v1/service/diabetes/score", score)
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=75)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
