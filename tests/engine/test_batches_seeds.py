"""Whatever happens, in any order: nobody gets another's answer, and nobody is forgotten.

Clients of three kinds come and go, containers answer, fail, break and close, backends go away and
come back, time passes; all of it by chance. One kind is of a model that answers by all rows
together, so that merging it would be wrong. What a client hears is compared with what its rows
alone would have been told.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gateway.core.dialects import V1
from gateway.core.faults import Fault
from gateway.engine.batching import BatchRules
from gateway.engine.permits import Sharing
from gateway.engine.pools import Pool
from tests.support.batches import BAD_INPUT, BOTH, BUSY, FAILED, GOOD, PATH, Asker, Call, Story
from tests.support.script import Setup

KINDS = (PATH, f"{PATH}?kind=b", f"{PATH}?kind=mean")
OURS = {
    V1.answer(fault).text.format(service="diabetes")
    for fault in (Fault.NO_BACKEND, Fault.OVERLOADED, Fault.UPSTREAM_CLOSED, Fault.DEADLINE)
}
MESSAGES = {"busy", "Scoring timeout after 1 ms"}


def is_bad(row: list[int]) -> bool:
    return row[0] % 13 == 5


def score(call_line: str, rows: list[list[int]]) -> list[int]:
    own = [row[0] * 7 + 3 for row in rows]
    return [sum(own)] * len(own) if "mean" in call_line else own


class Chance:
    """One story by chance."""

    def __init__(
        self,
        seed: int,
        *,
        delay: float = 0.0,
        scatter: bool = False,
        permits: Sharing | None = None,
    ) -> None:
        self.draw = draw = random.Random(seed)
        rules = BatchRules(
            max_rows=draw.choice([1024, 7, 3]),
            max_bytes=draw.choice([1 << 20, 60]),
            max_queue_delay=delay,
            isolate_principals=draw.random() < 0.2,
            scatter=scatter,
        )
        self.story = Story(
            Setup(
                backends=BOTH[: draw.choice([1, 2])],
                concurrency=draw.choice([1, 2]),
                max_wait=draw.choice([0.5, 5.0]),
                max_length=draw.choice([1000, 8]),
                timeout=draw.choice([2.0, 60.0]),
                connections=1000,
                batching=rules,
                permits=permits,
            ),
            proved=False,
        )
        self.trouble = draw.choice([0.0, 0.05, 0.3])
        self.number = 0
        self.waiting: dict[Asker, tuple[str, list[list[int]]]] = {}
        self.calls: list[Call] = []
        self.good = 0

    def run(self, steps: int) -> None:
        with self.story as story:
            for _ in range(steps):
                self.step()
                self.look()
            story.down.clear()
            while self.calls or self.waiting:
                ended = len(story.records)
                while self.calls:
                    self.answer(self.calls.pop(0), trouble=0.0)
                    story.wait(0.05)
                    self.look()
                story.wait(2 * story.batcher.delay)
                self.look()
                assert self.calls or len(story.records) > ended or not self.waiting, "forgotten"
            assert not self.waiting, "everybody who stayed has an answer"
            assert story.deployment.slots.waiting == 0

    def step(self) -> None:
        draw, story = self.draw, self.story
        act = draw.random()
        if act < 0.5:
            for _ in range(draw.choice([1, 1, 2, 5])):
                self.come()
        elif act < 0.8 and self.calls:
            self.answer(self.calls.pop(draw.randrange(len(self.calls))), self.trouble)
        elif act < 0.87 and self.waiting:
            asker = draw.choice(list(self.waiting))
            del self.waiting[asker]
            asker.leaves()
        elif act < 0.9 and self.trouble:
            port = draw.choice([5001, 5002])
            story.down ^= {port}
        else:
            story.wait(draw.choice([0.0, 0.01, 0.1, 0.6]))

    def come(self) -> None:
        draw = self.draw
        kind = draw.choice(KINDS)
        rows = []
        for _ in range(draw.choice([1, 1, 1, 2, 4])):
            self.number += 1
            rows.append([self.number])
        body = json.dumps({"data": rows}).encode()
        self.waiting[self.story.say(body, path=kind)] = kind, rows

    def answer(self, call: Call, trouble: float) -> None:
        if call.container.fate != "open":
            return
        draw = self.draw
        closing = "Connection: close\r\n" if draw.random() < 0.3 else ""
        if draw.random() < trouble:
            self.misbehave(call)
        elif any(is_bad(row) for row in call.rows):
            call.answers({"message": "bad"}, draw.choice([FAILED, BAD_INPUT]) + closing)
        else:
            call.answers(score(call.seen.line, call.rows), GOOD + closing)

    def misbehave(self, call: Call) -> None:
        act = self.draw.randrange(5)
        if act == 0:
            call.breaks()
        elif act == 1:
            call.answers(b"busy", BUSY)
        elif act == 2:
            call.answers(b"Scoring timeout after 1 ms", FAILED)
        elif act == 3:
            call.container.says(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n[1")
            call.breaks()
        else:
            call.answers("not a list")

    def look(self) -> None:
        """Take note of what is new, and check what must always hold."""
        story = self.story
        while (call := story.next_call()) is not None:
            self.calls.append(call)
        self.calls = [call for call in self.calls if call.container.fate == "open"]
        for asker in list(self.waiting):
            if asker.side.transport.sent:
                self.check(*self.waiting.pop(asker), asker)
        slots = story.deployment.slots
        assert slots.busy <= slots.room
        assert slots.waiting == sum(map(len, slots._queues.values()))
        if not story.batcher.delay:
            for tried in slots._queues:
                useful = [pool for pool in slots.pools if pool not in tried]
                assert all(self.is_full(pool) for pool in useful), "nobody waits"

    def is_full(self, pool: Pool) -> bool:
        return pool.busy == self.story.deployment.slots.concurrency

    def check(self, kind: str, rows: list[list[int]], asker: Asker) -> None:
        answer = asker.answer()
        text = answer.text
        if answer.status == 200:
            expected: list[Any] = [json.dumps(score(kind, rows)), '"not a list"']
            assert text in expected, (kind, rows)
            assert not any(map(is_bad, rows)) or text == expected[1]
            self.good += 1
        elif text == '{"message": "bad"}':
            assert any(map(is_bad, rows)), "nobody pays for another's row"
        else:
            assert answer.status in (502, 503, 504)
            assert text in OURS | MESSAGES
        assert asker.hears_nothing(), "one answer"


@pytest.mark.parametrize("seed", range(240))
def test_nobody_gets_anothers_answer_and_nobody_is_forgotten(seed: int) -> None:
    Chance(seed).run(60)


@pytest.mark.parametrize("seed", range(60))
def test_nor_when_requests_are_held_back(seed: int) -> None:
    Chance(seed, delay=0.05).run(60)


def test_chance_is_kind_to_most() -> None:
    """The stories above are about something: without trouble many hear good news."""
    chance = Chance(2)
    chance.trouble = 0.0
    chance.run(200)
    assert chance.good > 60
    assert chance.story.batcher.tally.requests.total > 60
