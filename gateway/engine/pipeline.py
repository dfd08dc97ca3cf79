"""The walk of a request. Its order is written here, once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from gateway.core.cors import is_preflight
from gateway.core.faults import Fault, Refusal
from gateway.core.gates import WRONG_TOKEN
from gateway.core.heads import ALLOW
from gateway.core.json_bodies import check_json_text
from gateway.core.replies import Reply
from gateway.core.statistics import Tally
from gateway.core.tokens import UnknownKey
from gateway.engine.endpoints import Endpoint
from gateway.engine.exchange import Connection, Exchange
from gateway.engine.framing import lone_head, relocate
from gateway.engine.pools import Pool, Pooled
from gateway.engine.scattering import scatter
from gateway.engine.slots import Slots
from gateway.engine.walking import park

_log = logging.getLogger("gateway")


class ClientGone(Exception):
    """Thrown into a walk whose client has left: there is nobody to answer."""


class Recorder(Protocol):
    """Takes notes of ended requests. Must not fail and must not wait."""

    def record(self, exchange: Exchange) -> None: ...


class Pipeline:
    """Takes requests from the server to a container and back.

    Time and chance are arguments: ``clock`` is monotonic and ``wall`` unix time, both in seconds,
    ``draw`` a random number in [0, 1).
    """

    __slots__ = ("_buffer", "_clock", "_draw", "_recorder", "_tally", "_wall")

    def __init__(
        self,
        *,
        recorder: Recorder,
        tally: Tally,
        buffer: int,
        clock: Callable[[], float],
        wall: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        """
        :param tally: for requests that belong to no endpoint.
        :param buffer: JSON bodies up to this many bytes are collected, larger ones streamed.
        """
        self._recorder = recorder
        self._tally = tally
        self._buffer = buffer
        self._clock = clock
        self._wall = wall
        self._draw = draw

    async def walk(self, x: Exchange) -> None:
        """Answer one request, exactly once, or break its connection."""
        try:
            # 1 route. First: every later limit, key and label is per endpoint.
            routed = x.routed
            endpoint = x.endpoint = routed.endpoint
            if endpoint is None:
                raise (routed.refusal or Refusal(Fault.NO_ROUTE)).anew()
            endpoint.tally.in_flight += 1
            if routed.refusal is not None:
                raise routed.refusal.anew()
            # Preflights come without credentials by design, and never reach a container.
            if routed.head.method == b"OPTIONS":
                x.client.send_local(x, 204, _options(x, endpoint))
                return
            # 2 authenticate. Before anything that costs memory or a container's time.
            try:
                x.principal = endpoint.gate.check(routed.head, self._wall, x.client.certificate)
            except UnknownKey:
                x.principal = await self._check_with_newer_keys(x, endpoint)
            # 3 admit. What declares itself too large is refused before it is read.
            if x.length > endpoint.body_limit:
                raise Refusal(Fault.BODY_TOO_LARGE, f"at most {endpoint.body_limit} bytes")
            if x.upload is not None:
                await self._collect(x)
            if routed.is_json and x.body and (wrong := check_json_text(x.body)) is not None:
                raise Refusal(Fault.BAD_REQUEST, wrong)
            # 7 balance: a deployment, then a place at one of its backends.
            deployment = x.deployment = endpoint.traffic.choose(routed.head.pin, self._draw)
            deployment.tally.in_flight += 1
            slots = deployment.slots
            joined = await scatter(x, slots) if slots.scatters and x.body else None
            # Whoever waits for a place may be resumed with an answer: it was merged with others.
            place = joined or slots.take(()) or slots.wait(x, ()) or await park()
            # 8 upstream. The one long wait.
            reply, connection = (
                (place, None) if isinstance(place, Reply) else await self._forward(x, slots, place)
            )
            # 10 respond.
            if connection is None or reply.body is not None:
                x.client.send_reply(x, reply)
                if deployment.shadow is not None:
                    deployment.shadow.see(x, reply)
            else:
                await self._stream(x, reply, connection)
        except Refusal as refusal:
            self._refuse(x, refusal)
        except ClientGone:
            x.fault, x.status = Fault.CLIENT_GONE, 499
            self._let_go(x)
        except Exception:  # noqa: BLE001  whatever it is, the client gets an answer
            _log.exception("request %s failed inside the gateway", x.request_id.decode())
            self._refuse(x, Refusal(Fault.INTERNAL))
        finally:
            if x.slot is not None and x.deployment is not None:
                x.deployment.slots.give_back(x.slot)
            # 11 record. Outside everything, so that refusals count.
            self._record(x)
            x.client.finish(x)

    async def _check_with_newer_keys(self, x: Exchange, endpoint: Endpoint) -> str:
        """The token names a key we do not have: wait for one refetch, if one is due."""
        keeper = endpoint.keeper
        if keeper is not None and keeper.wait(x):
            await park()
            x.custody = None
            try:
                return endpoint.gate.check(x.routed.head, self._wall, x.client.certificate)
            except UnknownKey:
                pass
        if endpoint.gate.has_no_keys:
            raise Refusal(Fault.NO_KEYS, "no keys were fetched so far")
        raise endpoint.gate.refuse(WRONG_TOKEN, "its key is not known")

    async def _collect(self, x: Exchange) -> None:
        """Get the whole body if it is JSON of a size worth holding; else it will be streamed."""
        upload = x.upload
        if upload is None:
            return
        if upload.refusal is not None:
            raise upload.refusal
        x.client.proceed()
        if not x.routed.is_json or x.length > self._buffer:
            return
        if upload.complete:  # it came while the keys were fetched
            x.body = upload.take()
            return
        x.custody = upload
        upload.collect(x, self._buffer)
        x.body = await park()
        x.custody = None

    async def _forward(
        self, x: Exchange, slots: Slots, place: Pool | Reply | None
    ) -> tuple[Reply, Connection | None]:
        """Send the request to one of the backends and wait for the head of its answer. There is no
        connection where the request was answered together with others.

        Another try is made only when no container can have started on the request: the connection
        could not be opened, or a kept one was closed before any byte of the answer and the method
        is one that may be repeated (RFC 9110 section 9.2.2, design.md section 7).

        :param place: the backend to begin with, at which the request has a place.
        """
        tried: list[Pool] = []
        stale = 0
        while True:
            place = place or slots.take(tried) or slots.wait(x, tried) or await park()
            if isinstance(place, Reply):
                return place, None  # it was merged with others
            pool = x.slot = place
            if x.custody is not None:
                self._end_wait(x)
            now = self._clock()
            connection = pool.take(now)
            x.attempts += 1
            try:
                if connection is None:
                    pool.wait(x)
                    connection = await park()
                    now = self._clock()
                x.custody = connection
                x.upstream_name = pool.name
                if connection.reused:
                    pool.tally.reused += 1
                connection.send(x, lone_head(x, pool, x.body), x.body, now)
                if x.body is None and x.upload is not None:
                    x.upload.pour(connection)
                reply: Reply = await park()
            except Refusal as refusal:
                if refusal.fault is Fault.NO_BACKEND:
                    x.custody = x.slot = place = None
                    tried.append(pool)
                    slots.give_back(pool)
                elif _may_repeat(x, refusal, connection, stale):
                    stale += 1
                    pool.tally.stale += 1
                else:
                    raise
            else:
                if reply.body is not None:
                    # At once: the container is idle, and formatting the answer can wait.
                    x.slot = None
                    slots.give_back(pool)
                if reply.locations:
                    relocate(reply, pool, x.routed.cut)
                return reply, connection

    def _end_wait(self, x: Exchange) -> None:
        """It has its place now."""
        x.custody = None
        # The sweep may have ended who had the place, and be about to end this one.
        if self._clock() >= x.deadline:
            raise Refusal(Fault.DEADLINE, "no answer within the timeout")

    async def _stream(self, x: Exchange, reply: Reply, connection: Connection) -> None:
        """Pass on an answer whose body is still coming."""
        x.client.begin_reply(x, reply)
        connection.pour(x.client)
        await park()
        x.client.end_reply()

    def _refuse(self, x: Exchange, refusal: Refusal) -> None:
        self._let_go(x)
        x.fault, x.detail = refusal.fault, refusal.detail
        if x.begun:
            x.client.abort()
        else:
            x.client.send_refusal(x, refusal)

    def _let_go(self, x: Exchange) -> None:
        custody, x.custody = x.custody, None
        if custody is not None:
            custody.abandon(x)

    def _record(self, x: Exchange) -> None:
        x.ended = self._clock()
        endpoint, deployment = x.endpoint, x.deployment
        if endpoint is not None:
            endpoint.tally.in_flight -= 1
        if deployment is not None:
            deployment.tally.in_flight -= 1
            tally = deployment.tally
        else:
            tally = endpoint.tally if endpoint is not None else self._tally
        tally.codes[x.status] = tally.codes.get(x.status, 0) + 1
        tally.duration.observe(x.ended - x.started)
        if x.upstream_seconds:
            tally.upstream.observe(x.upstream_seconds)
        if x.fault is not None:
            tally.faults[x.fault.slug] = tally.faults.get(x.fault.slug, 0) + 1
        self._recorder.record(x)


def _options(x: Exchange, endpoint: Endpoint) -> bytes:
    """OPTIONS is answered here (contract.md 1.1): a preflight by the CORS rules, else what is
    allowed at all."""
    head = x.routed.head
    if endpoint.cors is None or not is_preflight(head.method, head.origin, head.asked_method):
        return ALLOW
    return endpoint.cors.preflight(
        head.origin, head.asked_method or b"", head.asked_headers, head.asked_network
    )


def _may_repeat(x: Exchange, refusal: Refusal, connection: Pooled | None, stale: int) -> bool:
    return (
        refusal.fault is Fault.UPSTREAM_CLOSED
        and connection is not None
        and connection.reused
        and not connection.answered
        and x.routed.head.method != b"POST"
        and x.upload is None
        and stale == 0
    )
