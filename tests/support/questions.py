"""Requests of which no two are equal, each with the one answer that is right."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.support.gateways import KEY
from tests.support.hashing import Row, hash_of
from tests.support.raw import Answer, request

#: What is wrong with an answer; empty if nothing is.
Judge = Callable[[Answer], str]


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and how its answer is judged."""

    identifier: str
    endpoint: str
    data: bytes
    judge: Judge


@dataclass(frozen=True, slots=True)
class Scoring:
    """Asks an endpoint whose deployments are ``HashingBackend``s, each with its own name for a
    path: ``backends: [http://127.0.0.1:1234/blue]`` of the deployment ``blue``.

    An answer is right if it has the caller's identifier, is the hash of the caller's rows by the
    model of the deployment that the gateway names, and ``also`` finds nothing wrong with it.
    """

    name: str = ""
    endpoint: str = "diabetes"
    key: str | None = KEY
    headers: Mapping[str, str] | None = None
    also: Judge | None = None

    def __call__(self, number: int) -> Question:
        identifier = f"{self.name}-{number}"
        draw = random.Random(identifier)
        rows = [[number, draw.getrandbits(40)] for _ in range(draw.randint(1, 4))]
        fields = {"X-Ms-Client-Request-Id": identifier, **(self.headers or {})}
        path = f"/api/v1/service/{self.endpoint}/score"
        data = request(path, json.dumps({"data": rows}).encode(), key=self.key, headers=fields)
        return Question(identifier, self.endpoint, data, lambda answer: self._judge(answer, rows))

    def _judge(self, answer: Answer, rows: list[Row]) -> str:
        model = answer.header("x-model")
        if model is None or model != answer.header("azureml-model-deployment"):
            return f"computed by {model}, said to be by another deployment"
        if json.loads(answer.body) != [hash_of(row, model) for row in rows]:
            return "not the hashes of these rows"
        return self.also(answer) if self.also else ""
