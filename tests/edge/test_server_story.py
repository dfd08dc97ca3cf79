"""Whatever clients, containers and time do, every client gets its own answers, in order, or none.

Random stories of several clients and unreliable containers. The container echoes, so an answer
tells whose it is: an answer with status 200 must be the echo of the very request it answers. What
``Script`` checks of every story is checked of these too.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest

from gateway.core.chunks import encode_chunk
from tests.support.backends import Seen
from tests.support.gateways import KEY
from tests.support.raw import Answer, Closed, request
from tests.support.script import ClientSide, ContainerSide, Script, Setup

OK = b"HTTP/1.1 200 OK\r\n"
STORIES, STEPS = 150, 60


class Story:
    """One story: clients ask, containers answer or fail, time passes."""

    def __init__(self, script: Script, seed: int) -> None:
        self.script = script
        self.chance = random.Random(seed)
        #: What each client has asked, in order, and the rest of a request it has begun.
        self.asked: dict[ClientSide, list[bytes]] = {}
        self.begun: dict[ClientSide, bytes] = {}
        self.number = 0
        #: What each container was asked and has not answered, and half of a request.
        self.open: dict[ContainerSide, list[Seen]] = {}
        self.half: dict[ContainerSide, bytes] = {}

    def play(self) -> None:
        acts: dict[Callable[[], None], int] = {
            self.client_comes: 4,
            self.client_asks: 12,
            self.client_says_the_rest: 6,
            self.client_takes: 4,
            self.client_leaves: 2,
            self.container_answers: 14,
            self.container_fails: 3,
            self.time_passes: 4,
        }
        for act in self.chance.choices(list(acts), list(acts.values()), k=STEPS):
            act()

    def check(self) -> int:
        """How many good answers there were, each to its own request."""
        good = 0
        for client, bodies in self.asked.items():
            client.takes(None)
            answers: list[Answer] = []
            with contextlib.suppress(Closed):
                while True:
                    answers.append(client.hears())
            assert len(answers) <= len(bodies)
            for answer, body in zip(answers, bodies, strict=False):
                if answer.status == 200:
                    assert answer.body.strip(b"x") == body
                    good += 1
                else:
                    assert answer.status in (400, 408, 502, 503, 504)
        return good

    def client_comes(self) -> None:
        if len(self.asked) < 5:
            room = self.chance.choice([None, None, 300, 100_000])
            self.asked[self.script.client(room=room)] = []

    def client_asks(self) -> None:
        for client in self._some_client(lambda client: not self.begun.get(client)):
            sent = b""
            for _ in range(self.chance.choice([1, 1, 1, 2, 3])):
                self.number += 1
                body = b"[%d]" % self.number
                self.asked[client].append(body)
                media_type = self.chance.choice(["application/json", "text/csv"])
                sent += request(body=body, key=KEY, headers={"Content-Type": media_type})
            at = len(sent) - self.chance.choice([0, 0, 0, 1, 2, 50])
            client.says(sent[:at])
            self.begun[client] = sent[at:]

    def client_says_the_rest(self) -> None:
        for client in self._some_client(lambda client: bool(self.begun.get(client))):
            client.says(self.begun.pop(client))

    def client_takes(self) -> None:
        for client in self._some_client(lambda client: True):
            client.takes(self.chance.choice([1, 70_000, None]))

    def client_leaves(self) -> None:
        for client in self._some_client(lambda client: True):
            self.chance.choice([client.ends, client.breaks])()

    def container_answers(self) -> None:
        for container, seen in self._some_container():
            body = seen.body + b"x" * self.chance.choice([0, 0, 0, 50_000, 200_000])
            framed = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body
            match self.chance.randrange(6):
                case 0:
                    container.says(OK + b"Transfer-Encoding: chunked\r\n\r\n")
                    container.says(encode_chunk(body) + b"0\r\n\r\n")
                case 1:
                    container.says(OK + b"\r\n" + body)
                    container.ends()
                case 2:
                    at = self.chance.randrange(1, len(framed))
                    container.says(framed[:at], framed[at:])
                case _:
                    container.says(framed)

    def container_fails(self) -> None:
        for container, seen in self._some_container():
            half = OK + b"Content-Length: 90000\r\n\r\n" + seen.body
            container.says(self.chance.choice([b"H", OK, half, b"rubbish\r\n\r\n"]))
            how = self.chance.randrange(3)
            if how == 0:
                container.ends()
            elif how == 1:
                container.breaks()

    def time_passes(self) -> None:
        self.script.wait(self.chance.choice([0.1, 1.0, 6.0, 21.0]))
        pool, now = self.script.pool, self.script.clock()
        self.script.loop.perform(lambda: pool.expire(now))

    def _some_client(self, fits: Callable[[ClientSide], bool]) -> list[ClientSide]:
        fitting = [client for client in self.asked if client.fate == "open" and fits(client)]
        return [self.chance.choice(fitting)] if fitting else []

    def _some_container(self) -> list[tuple[ContainerSide, Seen]]:
        """A container with a complete request, and that request, which it has now dealt with."""
        for container in self.script.containers:
            said = self.half.get(container, b"") + container.heard()
            while (end := said.find(b"\r\n\r\n") + 4) > 3:
                seen = Seen(said[:end], b"", container.number)
                size = int(seen.header("content-length") or 0)
                if len(said) < end + size:
                    break
                seen.body = said[end : end + size]
                self.open.setdefault(container, []).append(seen)
                said = said[end + size :]
            self.half[container] = said
        # One that was given up by the gateway answers all the same: it does not know yet.
        ready = [container for container, seen in self.open.items() if seen]
        if not ready:
            return []
        container = self.chance.choice(ready)
        return [(container, self.open[container].pop(0))]


@pytest.mark.parametrize("part", range(5))
def test_every_client_gets_its_own_answers_in_any_story(part: int) -> None:
    good = 0
    for seed in range(part * STORIES // 5, (part + 1) * STORIES // 5):
        with Script(Setup(limit=2, timeout=20.0)) as script:
            story = Story(script, seed)
            story.play()
            good += story.check()
    assert good > 3 * STORIES / 5, "the stories are too sad to tell anything"
