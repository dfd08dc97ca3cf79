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
from collections.abc import Callable, Collection
from typing import Any

from gateway.core.backends import Backend
from gateway.core.confidence import State
from gateway.engine.batching import Batcher, BatchRules, Family
from tests.support.backends import Seen
from tests.support.gateways import KEY
from tests.support.raw import Answer, request
from tests.support.script import ClientSide, ContainerSide, Script, Setup

FAILED = "HTTP/1.1 500 Internal Server Error\r\nx-ms-run-function-failed: True\r\n"
GOOD = "HTTP/1.1 200 OK\r\nx-ms-run-function-failed: False\r\nContent-Type: application/json\r\n"
BAD_INPUT = "HTTP/1.1 400 Bad Request\r\nx-ms-run-function-failed: False\r\n"
BUSY = "HTTP/1.1 503 Service Unavailable\r\n"

PATH = "/api/v1/service/diabetes/score"
BOTH = (Backend("10.0.0.5", 5001), Backend("10.0.0.6", 5002))
_OCCUPIED = b'{"data": "occupied"}'

Score = Callable[[Any], Any]


def merging(max_wait: float = 20.0, **rules: Any) -> Setup:
    """One place, and batching by these rules."""
    return Setup(concurrency=1, max_wait=max_wait, batching=BatchRules(**rules))


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
    def body(self) -> bytes:
        return self.seen.body

    @property
    def rows(self) -> Any:
        return json.loads(self.seen.body)["data"]

    @property
    def is_dropped(self) -> bool:
        """Whether the gateway has broken the connection."""
        return self.container.fate == "aborted"

    def answers(self, value: Any, head: str = GOOD) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.container.answers(body, head)

    def scores(self, score: Score = sum) -> None:
        """Answer with what ``score`` makes of each row."""
        self.answers([score(row) for row in self.rows])

    def fails(self, message: str = "failed") -> None:
        """Say what a container says when ``run`` has raised."""
        self.answers({"message": message}, FAILED)

    def breaks(self) -> None:
        """The container resets the connection."""
        self.container.breaks()


class Story(Script):
    """One container with one place, unless the setup says otherwise."""

    def __init__(self, setup: Setup | None = None, *, proved: bool = True) -> None:
        """:param proved: whether such requests are known to be sound to merge."""
        super().__init__(setup or merging())
        self._occupants: list[tuple[Asker, Call]] = []
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

    @property
    def state(self) -> State:
        return self.family.confidence.state

    # Those who ask.

    def ask(self, *row: Any, **options: Any) -> Asker:
        """A new client asks for one row."""
        return self.say(json.dumps({"data": [list(row)]}).encode(), **options)

    def say(
        self,
        body: bytes,
        *,
        key: str = KEY,
        path: str = PATH,
        headers: dict[str, str] | None = None,
        version: str = "HTTP/1.1",
    ) -> Asker:
        """A new client sends a body."""
        side = self.client()
        side.says(request(path, body, key=key, headers=headers or {}, version=version))
        return Asker(side)

    # The containers.

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

    def play(self, score: Score = sum, guilty: Collection[Any] = ()) -> list[Any]:
        """Be the container until nothing more is asked. A call with a guilty row fails as a whole.
        Returns the rows of each call."""
        calls = []
        while (call := self.next_call()) is not None:
            calls.append(call.rows)
            if any(row in guilty for row in call.rows):
                call.fails(f"of {len(call.rows)}")
            else:
                call.scores(score)
        return calls

    # Places.

    def occupy(self) -> None:
        """Others take every place that is free."""
        slots = self.deployment.slots
        while slots.busy < slots.room:
            asker = self.say(_OCCUPIED)
            call = self.call()
            assert call.body == _OCCUPIED
            self._occupants.append((asker, call))

    def release(self, head: str = GOOD) -> None:
        """The first of these others gives its place back."""
        asker, call = self._occupants.pop(0)
        call.answers("free", head)
        assert asker.hears() == '"free"'

    def together(self, *rows: Any) -> tuple[list[Asker], Call]:
        """Requests of one row each that wait at the same time, and the call that is made then."""
        self.occupy()
        askers = [self.ask(row) for row in rows]
        self.release()
        return askers, self.call()

    def prove(self, *bodies: bytes, **options: Any) -> None:
        """Have requests proved that are made like these, by default the plainest ones. Their rows
        add up to their answers."""
        self.occupy()
        texts = bodies or (b'{"data": [[1]]}', b'{"data": [[2]]}')
        askers = [self.say(body, **options) for body in texts]
        self.wait(self.batcher.delay)
        self.release()
        assert len(self.play()) == 1 + len(texts)
        assert [json.loads(a.hears()) for a in askers] == [
            [sum(row) for row in json.loads(body)["data"]] for body in texts
        ]
        assert self.batcher.families[0].confidence.state is State.ON
        while self._occupants:
            self.release()
