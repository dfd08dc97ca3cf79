"""A test language for batches: who waits, what the container is asked, who hears what.

``Story`` is a ``Script`` with one place at one container and batching on. The container is played
by the test, call by call::

    with Story() as story:
        story.occupy()                    # the only place is taken
        a, b = story.ask(1), story.ask(2)
        story.release()                   # now both of them go
        call = story.call()
        assert call.rows == [[1], [2]]
        call.answers([10, 20])
        assert (a.hears(), b.hears()) == ("[10]", "[20]")
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from gateway.core.confidence import State
from gateway.engine.batching import Batcher, BatchRules, Family
from tests.support.backends import Seen
from tests.support.gateways import KEY
from tests.support.raw import Answer, request
from tests.support.script import ClientSide, ContainerSide, Script, Setup

FAILED = "HTTP/1.1 500 Internal Server Error\r\nx-ms-run-function-failed: True\r\n"
GOOD = "HTTP/1.1 200 OK\r\nx-ms-run-function-failed: False\r\nContent-Type: application/json\r\n"
BAD_INPUT = "HTTP/1.1 400 Bad Request\r\nx-ms-run-function-failed: False\r\n"


class Asker:
    """A client that has asked for something."""

    def __init__(self, side: ClientSide) -> None:
        self.side = side

    def answer(self) -> Answer:
        return self.side.hears()

    def hears(self) -> str:
        """The text of its answer, which must be good."""
        answer = self.answer()
        assert answer.status == 200, answer
        return answer.text

    def hears_nothing(self) -> bool:
        return self.side.hears_nothing()

    def leaves(self) -> None:
        self.side.breaks()


class Call:
    """One request that a container got."""

    def __init__(self, container: ContainerSide, seen: Seen) -> None:
        self.container = container
        self.seen = seen

    @property
    def rows(self) -> Any:
        return json.loads(self.seen.body)["data"]

    def answers(self, value: Any, head: str = GOOD) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.container.answers(body, head)

    def scores(self, score: Callable[[Any], Any]) -> None:
        """Answer with what ``score`` makes of each row."""
        self.answers([score(row) for row in self.rows])


class Story(Script):
    """One container with one place, unless the setup says otherwise."""

    def __init__(self, setup: Setup | None = None, *, proved: bool = True) -> None:
        """:param proved: whether such requests are known to be sound to merge."""
        setup = setup or Setup(concurrency=1, batching=BatchRules())
        super().__init__(setup)
        self._occupant: tuple[Asker, Call] | None = None
        self._calls: list[ContainerSide] = []
        if proved:
            self.prove()

    @property
    def batcher(self) -> Batcher:
        batcher = self.deployment.batcher
        assert batcher is not None
        return batcher

    @property
    def family(self) -> Family:
        """The only kind of requests that was seen."""
        (family,) = self.batcher.families
        return family

    def ask(self, *row: Any, **options: Any) -> Asker:
        """A new client asks for one row."""
        return self.say(json.dumps({"data": [list(row)]}).encode(), **options)

    def say(self, body: bytes, *, key: str = KEY, headers: dict[str, str] | None = None) -> Asker:
        """A new client sends a body."""
        side = self.client()
        side.says(request(body=body, key=key, headers=headers or {}))
        return Asker(side)

    def call(self) -> Call:
        """What a container is asked next. There must be something."""
        found = self.next_call()
        assert found is not None, "no container is asked anything"
        return found

    def next_call(self) -> Call | None:
        while self._claimed < len(self.containers):
            self._calls.append(self.container())
        for container in self._calls:
            if container.transport.sent[container._tape._read :]:
                return Call(container, container.hears())
        return None

    def occupy(self) -> None:
        """Somebody takes the only place."""
        assert self._occupant is None
        asker = self.say(b'{"data": "occupied"}')
        self._occupant = asker, self.call()

    def release(self) -> None:
        """And gives it back."""
        assert self._occupant is not None
        (asker, call), self._occupant = self._occupant, None
        call.answers("free")
        assert asker.hears() == '"free"'

    def together(self, *rows: Any) -> tuple[list[Asker], Call]:
        """Requests of one row each that wait at the same time, and the call that is made then."""
        self.occupy()
        askers = [self.ask(row) for row in rows]
        self.release()
        return askers, self.call()

    def prove(self) -> None:
        """Have requests of the plainest kind proved, by two whose rows add up to their answers."""
        askers, call = self.together(1, 2)
        call.scores(sum)
        for _ in askers:
            self.call().scores(sum)
        assert [asker.hears() for asker in askers] == ["[1]", "[2]"]
        assert self.family.confidence.state is State.ON
