"""``batching: shadow``: clients are served as if there were no batching, and the gateway finds out
whether it would be safe (docs/batching.md)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.backends import FakeBackend, Link
from tests.support.containers import Container
from tests.support.gateways import KEY, GatewayProcess, wait_until
from tests.support.raw import RawClient, request

CANARY = 8675309.25


def body(*numbers: float) -> bytes:
    """A request of one row."""
    return json.dumps({"data": [list(numbers)]}).encode()


def centred(link: Link) -> None:
    """A model that cannot be batched: it tells by how much a row is above the mean of all."""
    while (seen := link.read_request()) is not None:
        sums = [sum(row) for row in json.loads(seen.body)["data"]]
        answer = json.dumps([number - sum(sums) / len(sums) for number in sums]).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        link.send(head + b"Content-Length: %d\r\n\r\n%b" % (len(answer), answer))


def hanging(link: Link) -> None:
    """Never answers more than one row."""
    while (seen := link.read_request()) is not None:
        if len(json.loads(seen.body)["data"]) == 1:
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]")


def configuration(url: str, sample: float = 100.0) -> str:
    return f"""
listen: 127.0.0.1:0
admin: {{address: "127.0.0.1:0", token: {{env: ADMIN_TOKEN}}}}
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    deployments:
      blue:
        backends: [{url}]
        queue: {{max_wait: 20s}}
        batching: {{mode: shadow, sample: {sample}}}
"""


TOKEN = {"Authorization": "Bearer token-of-the-admin-port-0123456789"}


class Gateway(GatewayProcess):
    """A gateway whose admin port asks for a token, which is given."""

    def __init__(self, text: str, folder: Path) -> None:
        secret = TOKEN["Authorization"].partition(" ")[2]
        super().__init__(text, folder, environment={"ADMIN_TOKEN": secret})

    def __enter__(self) -> Self:
        self.start()
        return self

    def admin_get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        return super().admin_get(path, headers or TOKEN)

    def batching(self) -> Any:
        page = json.loads(self.admin_get("/deployments")[1])
        return page["diabetes"]["blue"]["batching"]

    def compared(self, result: str) -> float:
        return self.metric("gateway_shadow_comparisons_total", deployment="blue", result=result)


def send(gateway: GatewayProcess, bodies: Sequence[bytes], callers: int) -> list[bytes]:
    """The answers to all bodies, each of which must be good."""

    def call(share: Sequence[bytes]) -> list[bytes]:
        answers = []
        with gateway.client(30) as client:
            for each in share:
                client.send(request(body=each, key=KEY))
                answer = client.answer()
                assert answer.status == 200, answer
                answers.append(answer.body)
        return answers

    answers: list[bytes] = [b""] * len(bodies)
    with ThreadPoolExecutor(callers) as pool:
        shares = list(pool.map(call, [bodies[at::callers] for at in range(callers)]))
    for at, share in enumerate(shares):
        answers[at::callers] = share
    return answers


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with Container(tmp_path_factory.mktemp("container")) as running:
        yield running


def test_the_model_of_the_demo_is_found_safe_without_a_merged_request(
    container: Container, tmp_path: Path
) -> None:
    bodies = [body(*(number + column / 10 for column in range(10))) for number in range(64)]
    alone = []
    for each in bodies:
        with RawClient(("127.0.0.1", container.port), 30) as client:
            client.send(request("/score", each))
            alone.append(client.answer().body)
    with Gateway(configuration(container.url), tmp_path) as gateway:
        for _ in range(2):
            assert send(gateway, bodies, 8) == alone
            wait_until(lambda: gateway.compared("agree") > 0, 20, "a comparison")
        wait_until(lambda: gateway.compared("agree") >= 16, 20, "further comparisons")
        assert gateway.compared("differ") == gateway.compared("incomparable") == 0
        assert gateway.metric("gateway_shadow_calls_total") >= 2
        for name in ("batches_total", "batch_rows_count", "batch_proofs_total"):
            assert gateway.metric(f"gateway_{name}") == 0
        assert gateway.metric("gateway_requests_total", code="200") == 2 * len(bodies)
        shown = gateway.batching()
        assert (shown["mode"], shown["state"]) == ("shadow", "on")
        assert shown["shadow"]["verdict"].startswith("safe so far: ")
        assert shown["shadow"]["first_difference"] is None
        assert gateway.stop() == 0
        levels = [each["level"] for each in gateway.log_entries() if "request_id" not in each]
        assert set(levels) == {"info"}


def test_a_model_that_looks_at_other_rows_is_found_out(tmp_path: Path) -> None:
    bodies = [body(CANARY, number) for number in range(40)]
    with FakeBackend(centred) as backend, Gateway(configuration(backend.url), tmp_path) as gateway:
        assert send(gateway, bodies, 4) == [b"[0.0]"] * len(bodies)
        wait_until(lambda: gateway.compared("differ") > 0, 10, "a difference")
        assert send(gateway, bodies, 4) == [b"[0.0]"] * len(bodies)
        shown = gateway.batching()
        assert shown["state"] == "off"
        shadow = shown["shadow"]
        assert shadow["verdict"].startswith("unsafe: answers depend on the other rows: ")
        first = shadow["first_difference"]
        assert (first["where"], first["alone"]) == ("$[0]", "0.0")
        assert float(first["merged"]) != 0.0
        assert gateway.metric("gateway_batches_total") == 0
        # Each request came as it was sent, and nothing else came but the calls of the comparison.
        lone = [seen.body for seen in backend.seen if b"],[" not in seen.body]
        assert sorted(lone) == sorted(bodies * 2)
        assert len(backend.seen) - len(lone) == shadow["calls"] == 1
        said = [each for each in gateway.log_entries() if each.get("level") == "warning"]
        assert len(said) == 1
        assert "answers depend on the other rows" in str(said[0])
        # What clients sent is shown nowhere.
        told = gateway.log() + "".join(
            gateway.admin_get(page)[1] for page in ("/deployments", "/metrics", "/config")
        )
        assert str(CANARY) not in told
        assert gateway.admin_get("/deployments", {"Authorization": "Bearer wrong"})[0] == 401


def test_no_sample_no_call(tmp_path: Path) -> None:
    text = configuration("{url}", sample=0.001)
    with FakeBackend(centred) as backend:
        with Gateway(text.replace("{url}", backend.url), tmp_path) as gateway:
            send(gateway, [body(number) for number in range(100)], 4)
            verdict = gateway.batching()["shadow"]["verdict"]
        assert verdict == "nothing is known so far: no request was compared"
        assert len(backend.seen) == 100


def test_a_gateway_that_is_stopped_does_not_wait_for_a_comparison(tmp_path: Path) -> None:
    with FakeBackend(hanging) as backend, Gateway(configuration(backend.url), tmp_path) as gateway:
        send(gateway, [body(number) for number in range(8)], 1)
        wait_until(lambda: gateway.metric("gateway_shadow_calls_total") == 1, 10, "a call")
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 3
        assert gateway.complaints() == []
