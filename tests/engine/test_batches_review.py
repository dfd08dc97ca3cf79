"""What was found by looking for a way to break batching from outside."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.cors import Cors, CorsRules
from gateway.engine.batching import BatchRules
from tests.support.batches import GOOD, PATH, Story, merging
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import Setup

PAGE = "https://app.test"
OTHER = "https://other.test"


def _asked(story: Story, *origins: str | None) -> list[tuple[list[list[int]], str | None]]:
    """Rows and origin of the calls made for requests from pages of these origins."""
    story.occupy()
    askers = [
        story.ask(row, headers={"Origin": origin} if origin else {})
        for row, origin in enumerate(origins)
    ]
    story.release()
    calls = []
    while (call := story.next_call()) is not None:
        origin = call.seen.header("origin")
        calls.append((call.rows, origin))
        allowed = f"Access-Control-Allow-Origin: {origin}\r\n" if origin else ""
        call.answers([0] * len(call.rows), GOOD + allowed)
    for asker, origin in zip(askers, origins, strict=True):
        allowed_by_us = story.endpoint.cors is not None
        expected = origin if not allowed_by_us or origin == PAGE else None
        assert asker.answer().header("access-control-allow-origin") == expected
    return calls


def test_a_container_that_answers_pages_itself_sees_their_origin() -> None:
    """Or a browser would keep a merged answer from the page that asked."""
    with Story(proved=False) as story:
        for _ in "12":
            _asked(story, PAGE, PAGE)  # the proof, and after it
        assert _asked(story, PAGE, OTHER, PAGE, None, None) == [
            ([[0], [2]], PAGE),
            ([[1]], OTHER),
            ([[3], [4]], None),
            ([[3]], None),
            ([[4]], None),
        ]


def test_where_the_gateway_answers_pages_the_container_need_not() -> None:
    setup = Setup(concurrency=1, max_wait=20, cors=Cors(CorsRules([PAGE])), batching=BatchRules())
    with Story(setup) as story:
        assert _asked(story, PAGE, OTHER, None) == [([[0], [1], [2]], None)]


def test_a_timer_that_is_due_at_once_need_not_know_when(monkeypatch: pytest.MonkeyPatch) -> None:
    """What uvloop returns for less than half a millisecond is no ``TimerHandle``."""
    with Story(merging(max_queue_delay=0.02, max_rows=2)) as story:
        call_later = story.loop.call_later

        def plain(delay: float, callback: Any, *args: Any) -> asyncio.Handle:
            if delay >= 0.0005:
                return call_later(delay, callback, *args)
            return story.loop.call_soon(callback, *args)

        monkeypatch.setattr(story.loop, "call_later", plain)
        clients = [story.client() for _ in range(3)]

        def come() -> None:
            for number, client in enumerate(clients):
                body = b'{"data": [[%d], [1]]}' % number
                client.transport.deliver(request(PATH, body, key=KEY))

        story.loop.perform(come)
        story.wait(0.02)
        assert story.play() == [[[0], [1]], [[1], [1]], [[2], [1]]]
        assert [client.hears().text for client in clients] == ["[0, 1]", "[1, 1]", "[2, 1]"]


def test_a_request_that_went_in_parts_first_keeps_its_location() -> None:
    """The whole is answered as it is alone, where it was made, too."""
    setup = Setup(concurrency=1, max_wait=20, batching=BatchRules(max_rows=2, scatter=True))
    with Story(setup, proved=False) as story:
        asker = story.say(b'{"data": [[1], [2], [3]]}')
        calls = []
        while (call := story.next_call()) is not None:
            calls.append(call.rows)
            call.answers([0], "HTTP/1.1 201 Created\r\nLocation: /result/7\r\n")
        assert calls == [[[1], [2]], [[3]], [[1], [2], [3]]]
        answer = asker.answer()
        assert (answer.status, answer.header("location")) == (
            201,
            "/api/v1/service/diabetes/result/7",
        )
