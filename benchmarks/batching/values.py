"""The slower pass: is every answer the model's answer to this very row?"""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections.abc import Iterator
from typing import cast

import aiohttp

from benchmarks.batching.world import Row, Target, rows

REQUESTS = 3000
CONNECTIONS = 256
# The last digits of a sum depend on its order, which depends on how many rows are scored at once.
TOLERANCE = 1e-9


def wrong_answers(target: Target, requests: int = REQUESTS) -> list[str]:
    """Score different rows over many connections at once and compare with the model.

    :returns: one sentence per kind of failure; empty if all is well.
    """
    asked = rows(requests, seed=zlib.crc32(target.name.encode()))
    expected = _predictions(asked)
    answers = asyncio.run(_ask_all(target, asked))
    status = [code for code, _ in answers if code != 200]
    wrong = [
        (found, right)
        for (code, found), right in zip(answers, expected, strict=True)
        if code == 200 and not math.isclose(found, right, rel_tol=TOLERANCE)
    ]
    notes = []
    if status:
        notes.append(f"FAILED: {target.name}: {len(status)} answers with status {set(status)}")
    if wrong:
        found, right = wrong[0]
        notes.append(
            f"FAILED: {target.name}: {len(wrong)} of {requests} answers are wrong, "
            f"the first is {found!r} instead of {right!r}"
        )
    return notes


def _predictions(asked: list[list[float]]) -> list[float]:
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    data = load_diabetes()
    model = Ridge().fit(data.data, data.target)
    return cast("list[float]", model.predict(asked).tolist())


async def _ask_all(target: Target, asked: list[list[float]]) -> list[tuple[int, float]]:
    """Status and prediction for each row, in order; NaN if there is no prediction."""
    answers: list[tuple[int, float]] = [(0, math.nan)] * len(asked)
    left = iter(enumerate(asked))

    async def client(session: aiohttp.ClientSession, left: Iterator[tuple[int, Row]]) -> None:
        for number, row in left:
            headers = {"Content-Type": "application/json", **target.headers}
            body = target.body(row)
            async with session.post(target.url, data=body, headers=headers) as answer:
                text = await answer.read()
            try:
                answers[number] = answer.status, target.prediction(json.loads(text))
            except (ValueError, TypeError, LookupError):
                answers[number] = answer.status, math.nan

    connector = aiohttp.TCPConnector(limit=0)
    session = aiohttp.ClientSession(connector=connector)
    async with session, asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(client(session, left))
    return answers
