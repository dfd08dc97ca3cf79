"""Clients that never stop asking, and know what has become of every one of their requests.

A client with a connection that is kept asks again and again on it; another opens one for every
request. A connection that the server has closed before anything was sent on it is no mishap: a
client looks first, and opens another. Everything else that is not the right answer is one.
"""

from __future__ import annotations

import asyncio
import math
import random
import ssl
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import uvloop

from tests.support.gateways import wait_until
from tests.support.lines import GOODBYE, Address, Line, open_line
from tests.support.questions import Question
from tests.support.raw import Answer, Closed

RIGHT = "right"
#: A success that is not the answer to this request, or bytes that are no HTTP.
WRONG = "wrong"
#: No connection could be had, or none that lasted until the request could be sent.
UNCONNECTED = "unconnected"
#: The request was sent on a connection that ended without a byte of an answer: the server had
#: closed it, was closing it, or died.
UNANSWERED = "unanswered"
#: The connection ended within the answer.
BROKEN = "broken"
#: Nothing came for too long.
SILENT = "silent"
_KEPT_MISHAPS = 2000
# Seconds, on average, before a client whose connection is gone comes back.
_BACK_OFF = 0.05


@dataclass(frozen=True, slots=True)
class Mishap:
    """What became of a request that did not get the right answer."""

    fate: str
    identifier: str
    #: Seconds, on the monotonic clock, and since the request was begun.
    when: float
    after: float
    #: The client's own port; 0 if there was no connection.
    port: int
    #: Whether other requests had been answered on this connection.
    reused: bool
    detail: str


@dataclass(slots=True)
class Account:
    """What became of all requests."""

    #: How many requests have met which fate. An answer that is no success is ``status 503``, say.
    fates: Counter[str] = field(default_factory=Counter)
    #: Answers by endpoint, deployment (empty if none is named) and status.
    answers: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    #: The first of those that went wrong.
    mishaps: list[Mishap] = field(default_factory=list)
    #: When right answers had come, and after how many seconds each.
    whens: array[float] = field(default_factory=lambda: array("d"))
    takens: array[float] = field(default_factory=lambda: array("d"))
    connections: int = 0
    #: Connections found closed before anything was sent on them.
    found_closed: int = 0

    def __str__(self) -> str:
        lines = [f"{dict(self.fates)}, {self.connections} connections"]
        lines += [str(mishap) for mishap in self.mishaps[:5]]
        return "\n".join(lines)

    @property
    def right(self) -> int:
        return self.fates[RIGHT]

    @property
    def lost(self) -> int:
        """Requests that have got no answer of any kind."""
        return sum(self.fates[fate] for fate in (UNCONNECTED, UNANSWERED, BROKEN, SILENT))

    def check(self, at_least: int = 1) -> None:
        """Every request got its right answer, and there were so many.

        :raises AssertionError: with the first of those that did not.
        """
        assert self.fates.total() == self.right, str(self)
        assert self.right >= at_least, str(self)

    def slowest(self, share: float = 1.0, since: float = 0.0, until: float = math.inf) -> float:
        """Seconds within which this share of right answers came, of those that came between.

        :raises ValueError: there was none.
        """
        found = sorted(
            taken
            for when, taken in zip(self.whens, self.takens, strict=True)
            if since <= when < until
        )
        if not found:
            raise ValueError("there was no answer then")
        return found[min(len(found) - 1, int(share * len(found)))]


class Traffic:
    """Clients in a thread of their own. Use as a context manager.

    :param ask: makes the request of a number; no two are equal.
    :param kept: clients that keep their connection.
    :param fresh: clients that open one for every request.
    :param pause: seconds between an answer and the next request of a client, on average.
    :param tls: how clients speak TLS, if they do; ``name`` is the server they ask for then.
    :param patience: seconds to wait for an answer.
    """

    def __init__(
        self,
        address: Address,
        ask: Callable[[int], Question],
        *,
        kept: int = 16,
        fresh: int = 2,
        pause: float = 0.02,
        tls: ssl.SSLContext | None = None,
        name: str | None = None,
        patience: float = 15.0,
    ) -> None:
        #: Where new connections go; it may be changed at any time.
        self.address = address
        self.account = Account()
        self._ask = ask
        self._clients = [True] * kept + [False] * fresh
        self._pause = pause
        self._tls = (tls, name)
        self._patience = patience
        self._number = 0
        self._asked: set[int] = set()
        self._stopping = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> Account:
        """No more requests; those under way are waited for. The account is complete then."""
        self._stopping = True
        self._thread.join(self._patience + 10)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure
        return self.account

    def more(self, count: int, timeout: float = 20.0) -> None:
        """Wait until so many more right answers have come."""
        wanted = self.account.right + count
        wait_until(lambda: self.account.right >= wanted, timeout, f"{count} more right answers")

    def settle(self, timeout: float = 20.0) -> None:
        """Wait until everybody who has asked by now has been answered."""
        asked = set(self._asked)
        wait_until(lambda: not asked & self._asked, timeout, "an answer to everybody")

    def _run(self) -> None:
        try:
            uvloop.run(self._main())
        except BaseException as failure:  # noqa: BLE001 - it is raised where the thread is joined
            self._failure = failure

    async def _main(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number, kept in enumerate(self._clients):
                group.create_task(self._client(number, kept))
        await asyncio.sleep(GOODBYE + 0.1 if self._tls[0] else 0)

    async def _client(self, number: int, kept: bool) -> None:
        draw = random.Random(number)
        await asyncio.sleep(draw.uniform(0, self._pause))
        line: Line | None = None
        while not self._stopping:
            line = await self._one(line, kept)
            pause = self._pause
            if kept and line is None:
                pause = max(pause, _BACK_OFF)
            await asyncio.sleep(draw.uniform(0, 2 * pause))
        if line is not None:
            line.close()

    async def _one(self, line: Line | None, kept: bool) -> Line | None:
        """One request; the connection, if another can be sent on it."""
        self._number += 1
        number = self._number
        self._asked.add(number)
        try:
            return await self._settled(self._ask(number), line, kept)
        finally:
            self._asked.discard(number)

    async def _settled(self, question: Question, line: Line | None, kept: bool) -> Line | None:
        account, begun = self.account, time.monotonic()
        reused, port, detail, fate, answer = line is not None, 0, "", UNCONNECTED, None
        try:
            async with asyncio.timeout(self._patience):
                if line is not None and not await line.is_open():
                    account.found_closed += 1
                    line.close()
                    line, reused = None, False
                if line is None:
                    line = await open_line(self.address, *self._tls)
                    account.connections += 1
                port, fate = line.port, UNANSWERED
                line.send(question.data)
                answer = await line.answer()
                fate, detail = self._judge(question, answer)
        except Closed as end:
            fate = BROKEN if end.data else UNANSWERED
            detail = str(end)
        except TimeoutError:
            fate = SILENT
        except OSError as error:
            detail = str(error)
        except AssertionError as error:
            fate, detail = WRONG, str(error)
        now = time.monotonic()
        account.fates[fate] += 1
        if fate == RIGHT:
            account.whens.append(now)
            account.takens.append(now - begun)
        elif len(account.mishaps) < _KEPT_MISHAPS:
            account.mishaps.append(
                Mishap(fate, question.identifier, now, now - begun, port, reused, detail)
            )
        is_over = answer is None or not kept or answer.header("connection") == "close"
        if is_over and line is not None:
            line.close()
            line = None
        return line

    def _judge(self, question: Question, answer: Answer) -> tuple[str, str]:
        """The fate of a request that was answered, and what is to be said of it."""
        deployment = answer.header("azureml-model-deployment") or ""
        self.account.answers[question.endpoint, deployment, answer.status] += 1
        if answer.status // 100 != 2:
            return f"status {answer.status}", answer.text[:300]
        if (echo := answer.header("x-ms-client-request-id")) != question.identifier:
            return WRONG, f"the answer is of {echo}"
        complaint = question.judge(answer)
        return (WRONG, f"{complaint}: {answer.text[:300]}") if complaint else (RIGHT, "")
