"""Which endpoint, deployment and backend a request goes to.

Contract.md 1.1, 1.7 and 5.2. The promise: the path or the host decides the endpoint, a pin or the
weights the deployment, and every backend of it takes its turn; the answer names the deployment.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.backends import FakeBackend, answering
from tests.support.gateways import GatewayProcess
from tests.support.raw import Answer, request

NO_DEPLOYMENT = (
    "No valid deployments to route to. Please check that the endpoint has at least one deployment "
    "with positive weight values or use a deployment specific header to route."
)
NO_SERVICE = "There is no such service here"
NAMES = ("red", "green", "blue", "one", "two", "three")


@pytest.fixture(scope="module")
def backends() -> Iterator[dict[str, FakeBackend]]:
    """Backends that answer with their own name."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(FakeBackend(answering(name.encode()))) for name in NAMES}


@pytest.fixture(scope="module")
def gateway(
    backends: dict[str, FakeBackend], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    def colours(*names: str) -> str:
        each = (f"{name}: {{backends: [{backends[name].url}]}}" for name in names)
        return f"auth: none, deployments: {{{', '.join(each)}}}"

    three = ", ".join(backends[name].url for name in ("one", "two", "three"))
    one = backends["one"].url
    text = f"""
listen: 127.0.0.1:0
admin: 127.0.0.1:0
endpoints:
  sole: {{{colours("red")}}}
  first: {{{colours("red", "green")}}}
  named: {{{colours("red", "green")}, default: green}}
  weighed: {{{colours("red", "green", "blue")}, traffic: {{red: 70, green: 20}}, default: blue}}
  kept: {{{colours("red", "green")}, traffic: {{red: 0}}, default: green}}
  whole: {{{colours("red", "green")}, traffic: {{red: 90, green: 10}}, dialect: managed}}
  closed: {{{colours("red", "green")}, traffic: {{red: 0, green: 0}}, dialect: managed}}
  turns: {{auth: none, deployments: {{blue: {{backends: [{three}]}}}}}}
  prefixed: {{auth: none, deployments: {{blue: {{backends: [{one}/models/a/]}}}}}}
  hosted: {{{colours("green")}, hosts: [green.test, green.example.com]}}
"""
    with GatewayProcess(text, tmp_path_factory.mktemp("routing")) as running:
        yield running
        assert running.complaints() == []


def score(gateway: GatewayProcess, endpoint: str, pin: str | None = None) -> Answer:
    headers = {} if pin is None else {"azureml-model-deployment": pin}
    return gateway.ask(request(f"/api/v1/service/{endpoint}/score", headers=headers))


def sample(gateway: GatewayProcess, endpoint: str, count: int) -> collections.Counter[str]:
    """Who answered ``count`` requests; each answer must name who did."""
    found: collections.Counter[str] = collections.Counter()
    with gateway.client() as client:
        for _ in range(count):
            client.send(request(f"/api/v1/service/{endpoint}/score"))
            answer = client.answer()
            assert answer.status == 200
            assert answer.header("azureml-model-deployment") == answer.text
            found[answer.text] += 1
    return found


@pytest.mark.parametrize(
    ("endpoint", "who"),
    [("sole", "red"), ("first", "red"), ("named", "green"), ("kept", "green"), ("hosted", "green")],
)
def test_without_weights_the_default_deployment_serves(
    gateway: GatewayProcess, endpoint: str, who: str
) -> None:
    assert sample(gateway, endpoint, 30) == {who: 30}


@pytest.mark.parametrize(
    ("endpoint", "shares"),
    [
        ("weighed", {"red": 0.7, "green": 0.2, "blue": 0.1}),
        ("whole", {"red": 0.9, "green": 0.1}),
    ],
)
def test_traffic_is_split_by_weight_and_the_rest_goes_to_the_default(
    gateway: GatewayProcess, endpoint: str, shares: dict[str, float]
) -> None:
    count = 3000
    found = sample(gateway, endpoint, count)
    assert set(found) == set(shares)
    for name, share in shares.items():
        # Six standard deviations: a sound gateway fails this once in 500 million runs.
        bound = 6 * math.sqrt(count * share * (1 - share))
        assert abs(found[name] - count * share) < bound, (name, found)


def test_a_split_does_not_follow_the_connection(gateway: GatewayProcess) -> None:
    """Whoever keeps a connection still gets the whole mixture, and so does whoever does not."""
    assert len(sample(gateway, "weighed", 200)) == 3
    assert {score(gateway, "weighed").text for _ in range(200)} == {"red", "green", "blue"}


@pytest.mark.parametrize("endpoint", ["weighed", "kept", "whole", "closed", "first"])
@pytest.mark.parametrize("pin", ["red", "green"])
def test_a_pin_bypasses_the_split(gateway: GatewayProcess, endpoint: str, pin: str) -> None:
    for _ in range(10):
        answer = score(gateway, endpoint, pin)
        assert (answer.status, answer.text) == (200, pin)
        assert answer.header("azureml-model-deployment") == pin


@pytest.mark.parametrize(
    "pin", ["grey", "", "RED", "red,green", "http://127.0.0.1:1", "../red", "\xe9"]
)
def test_an_unknown_pin_is_the_documented_404(
    gateway: GatewayProcess, backends: dict[str, FakeBackend], pin: str
) -> None:
    before = sum(len(backend.seen) for backend in backends.values())
    for endpoint in ("weighed", "whole"):
        answer = score(gateway, endpoint, pin)
        assert (answer.status, answer.text) == (404, NO_DEPLOYMENT)
        assert answer.header("content-type") == "text/plain; charset=utf-8"
        assert answer.header("azureml-model-deployment") is None
    assert sum(len(backend.seen) for backend in backends.values()) == before


def test_a_pin_does_not_reach_the_container(
    gateway: GatewayProcess, backends: dict[str, FakeBackend]
) -> None:
    assert score(gateway, "weighed", "blue").status == 200
    assert backends["blue"].seen[-1].header("azureml-model-deployment") is None


def test_managed_without_any_weight_is_the_documented_404(gateway: GatewayProcess) -> None:
    for _ in range(10):
        answer = score(gateway, "closed")
        assert (answer.status, answer.text) == (404, NO_DEPLOYMENT)


def test_every_backend_takes_its_turn(
    gateway: GatewayProcess, backends: dict[str, FakeBackend]
) -> None:
    answers = [score(gateway, "turns") for _ in range(30)]
    order = [answer.text for answer in answers]
    assert set(order) == {"one", "two", "three"}
    assert all(order[at] == order[at % 3] for at in range(30))
    assert {answer.header("azureml-model-deployment") for answer in answers} == {"blue"}


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/v1/service/prefixed/score", "/models/a/score"),
        ("/api/v1/service/prefixed/score?a=b&c=%2F", "/models/a/score?a=b&c=%2F"),
        ("/api/v1/service/prefixed/", "/models/a/"),
        ("/api/v1/service/prefixed", "/models/a/"),
        ("/api/v1/service/prefixed//v2//x", "/models/a/v2/x"),
        ("/api/v1/service/turns/api/v1/service/sole/score", "/api/v1/service/sole/score"),
        ("/%61pi/v1/service/sole/s%63ore", "/score"),
        ("/api/v1/service/sole/a%20b%2b?q=%41", "/a%20b%2B?q=%41"),
    ],
)
def test_the_container_gets_the_path_below_its_name(
    gateway: GatewayProcess, backends: dict[str, FakeBackend], path: str, target: str
) -> None:
    for backend in backends.values():
        backend.seen.clear()
    assert gateway.ask(request(path)).status == 200
    lines = [seen.line for backend in backends.values() for seen in backend.seen]
    assert lines == [f"POST {target} HTTP/1.1"]


@pytest.mark.parametrize("host", ["green.test", "GREEN.test", "green.example.com:443"])
def test_a_host_names_an_endpoint(
    gateway: GatewayProcess, backends: dict[str, FakeBackend], host: str
) -> None:
    answer = gateway.ask(request("/score", host=host))
    assert (answer.status, answer.text) == (200, "green")
    # The v1 path works on any host, and wins.
    assert gateway.ask(request("/api/v1/service/sole/score", host=host)).text == "red"


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/score", "other.test"),
        ("/score", "green.test.evil.com"),
        ("/score", "notgreen.test"),
        ("/", "127.0.0.1"),
        ("/api/v1/service/nowhere/score", "green.test"),
        ("/api/v1/service/Sole/score", "gateway.test"),
        ("/api/v1/service/", "gateway.test"),
        ("/api/v1/service", "gateway.test"),
        ("/api/v2/service/sole/score", "gateway.test"),
        ("/API/v1/service/sole/score", "gateway.test"),
    ],
)
def test_what_belongs_to_no_endpoint_is_404(
    gateway: GatewayProcess, backends: dict[str, FakeBackend], path: str, host: str
) -> None:
    before = sum(len(backend.seen) for backend in backends.values())
    answer = gateway.ask(request(path, host=host))
    assert (answer.status, answer.text) == (404, NO_SERVICE)
    assert sum(len(backend.seen) for backend in backends.values()) == before
