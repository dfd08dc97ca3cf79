"""A rush counts what it is told truthfully: good answers, their times, and every failure."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from gateway.control import rush
from gateway.control.rush import Questions, Results, Rush
from tests.support.backends import Behaviour, FakeBackend, Link, saying
from tests.support.containers import free_port

WEIGHTS = [3.0, -2.0, 5.5, 0.25, 1.0, -7.0, 0.5, 4.0, 2.0, -1.5]
HEAD = b"POST /score HTTP/1.1\r\nHost: h\r\n"

Reply = Callable[[float], tuple[str, str]]


def predict(rows: list[list[float]]) -> list[float]:
    return [sum(w * x for w, x in zip(WEIGHTS, row, strict=True)) + 10 for row in rows]


def scoring(reply: Reply) -> Behaviour:
    """Answers with what ``reply`` makes of the prediction: status and body."""

    def behave(link: Link) -> None:
        while (seen := link.read_request()) is not None:
            (prediction,) = predict(json.loads(seen.body)["data"])
            status, body = reply(prediction)
            link.send(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    return behave


def run(
    port: int, connections: int = 3, seconds: float = 0.3
) -> tuple[Results, list[tuple[float, int]]]:
    """The results, and what was watched: seconds and good answers of each look."""
    looks: list[tuple[float, int]] = []
    rushing = Rush(("127.0.0.1", port), HEAD, Questions(predict))
    results = asyncio.run(
        rushing.run(
            connections, seconds, lambda recent: looks.append((recent.seconds, len(recent.times)))
        )
    )
    return results, looks


def test_no_two_questions_are_alike_and_the_answers_are_known() -> None:
    ask = Questions(predict)
    seen = set()
    for _ in range(2000):
        body, expected = ask()
        seen.add(body)
        rows = json.loads(body)["data"]
        assert [len(row) for row in rows] == [10]
        assert all(type(value) is float for value in rows[0])
        assert predict(rows) == pytest.approx([expected], abs=1e-9)
    assert len(seen) == 2000


def test_questions_that_share_numbers_have_answers_that_can_be_told_apart() -> None:
    ask = Questions(predict)
    answers = sorted(ask()[1] for _ in range(2000))
    gaps = [b - a for a, b in pairwise(answers)]
    assert sum(gap < 2e-6 for gap in gaps) < 20


def test_good_answers_are_counted_and_timed() -> None:
    with FakeBackend(scoring(lambda value: ("200 OK", f"[{value!r}]"))) as backend:
        results, looks = run(backend.port)
        assert backend.connections == 3
        asked = len(backend.seen)
    assert results.failures == Counter()
    assert 0.29 <= results.seconds < 2
    assert len(looks) < 5
    # Answers that came when the time was over are not counted.
    assert asked - 3 <= len(results.times) <= asked
    assert results.rate == len(results.times) / results.seconds
    assert 0 < results.percentile(0.5) <= results.percentile(0.99) <= max(results.times)
    assert sum(count for _, count in looks) <= len(results.times)
    assert sum(seconds for seconds, _ in looks) == pytest.approx(results.seconds)


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (lambda value: ("503 Service Unavailable", "busy"), "status 503"),
        (lambda value: ("201 Created", f"[{value!r}]"), "status 201"),
        (lambda value: ("200 OK", '"shapes do not fit"'), "an answer that is no prediction"),
        (lambda value: ("200 OK", ""), "an answer that is no prediction"),
        (lambda value: ("200 OK", f"[{value + 1e-5!r}]"), "a wrong prediction"),
        (lambda value: ("200 OK", "[NaN]"), "a wrong prediction"),
    ],
)
def test_every_other_answer_is_a_failure(reply: Reply, failure: str) -> None:
    with FakeBackend(scoring(reply)) as backend:
        results, _ = run(backend.port)
        asked = len(backend.seen)
    assert results.times == []
    assert (results.rate, results.percentile(0.5)) == (0.0, 0.0)
    assert results.failures == Counter({failure: asked})


@pytest.mark.parametrize(
    ("behaviour", "failure"),
    [
        (saying(b""), "no answer"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[1"), "no answer"),
        (saying(b"what?\r\n\r\n"), "an answer that is not HTTP"),
    ],
)
def test_connections_that_break_are_failures_and_are_opened_again(
    behaviour: Behaviour, failure: str
) -> None:
    with FakeBackend(behaviour) as backend:
        results, _ = run(backend.port)
        assert backend.connections > 3
        asked = len(backend.seen)
    assert results.times == []
    assert set(results.failures) == {failure}
    assert results.failures.total() >= asked


def test_a_connection_that_is_closed_after_its_answer_is_no_failure() -> None:
    def behave(link: Link) -> None:
        seen = link.read_request()
        assert seen is not None
        (value,) = predict(json.loads(seen.body)["data"])
        body = f"[{value!r}]"
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        link.send(f"{head}{body}".encode())

    with FakeBackend(behave) as backend:
        results, _ = run(backend.port)
        assert backend.connections >= len(results.times) > 3
    assert results.failures == Counter()


def test_nobody_there_is_a_failure_and_not_the_end() -> None:
    results, looks = run(free_port())
    assert looks
    assert results.times == []
    ((failure, count),) = results.failures.items()
    assert re.match("cannot connect: ", failure)
    assert 3 <= count <= 20


def test_answers_that_never_come_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rush, "GRACE", 0.2)
    with FakeBackend(saying(b"", then="wait")) as backend:
        results, _ = run(backend.port)
    assert results.failures == Counter({"no answer": 3})


@pytest.mark.parametrize(
    ("times", "share", "expected"),
    [([], 0.5, 0.0), ([3.0], 0.99, 3.0), ([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0, 2.0], 1.0, 2.0)],
)
def test_percentiles(times: list[float], share: float, expected: float) -> None:
    assert Results(1.0, times).percentile(share) == expected
