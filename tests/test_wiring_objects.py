"""The live objects are what the configuration says: no value is lost or swapped on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.core.dialects import MANAGED, V1
from gateway.core.faults import Refusal
from gateway.core.statistics import Tally
from gateway.engine.exchange import Exchange
from gateway.settings.loading import Source, parse_source, validate
from gateway.wired import Wired
from gateway.wiring import Tools, wire

TEXT = """
listen:
  address: 127.0.0.1:0
  trusted_proxies: [10.0.0.0/8]
endpoints:
  first:
    auth: none
    hosts: [first.example]
    dialect: managed
    timeout: 5s
    limits: {body: 1MiB}
    traffic: {blue: 40, green: 60}
    deployments:
      blue:
        backends: [http://10.0.0.1:5001/v1, http://10.0.0.2]
        concurrency: 2
        queue: {max_wait: 3s, max_length: 9}
        connections: {max: 7, idle_timeout: 3s, connect_timeout: 4s}
      green: {backends: ["http://[::1]:5001"]}
  second:
    auth:
      keys: {primary: {env: KEY}}
      tokens:
        algorithms: [RS256]
        jwks: "https://idp.example/keys"
        issuer: https://idp.example/
        audience: scoring
      forward_credentials: true
    timeout: 2s
    traffic: {blue: 25}
    default: green
    deployments:
      blue: {backends: [http://h]}
      green: {backends: [http://i]}
"""


class Nobody:
    def record(self, exchange: Exchange) -> None:
        raise AssertionError("nothing happens here")


async def never(_: object) -> Any:
    raise AssertionError("nothing is connected here")


@pytest.fixture(scope="module")
def wired() -> Wired:
    source = parse_source(TEXT, Source("gateway.yaml", Path("/")))
    settings, mistakes = validate(source)
    assert settings is not None
    tools = Tools(
        dial=never,
        fetch=never,
        recorder=Nobody(),
        clock=lambda: 0.0,
        wall=lambda: 0.0,
        draw=lambda: 0.0,
        ids=iter(()),
        environment={"KEY": "a-key-of-the-tests"},
    )
    found, more = wire(settings, source, tools)
    assert mistakes + more == []
    return found


def test_endpoints_keep_the_order_and_the_values_of_the_file(wired: Wired) -> None:
    assert list(wired.endpoints) == ["first", "second"]
    first, second = wired.endpoints.values()
    assert (first.dialect, second.dialect) == (MANAGED, V1)
    assert (first.timeout, second.timeout) == (5.0, 2.0)
    assert (first.body_limit, second.body_limit) == (1 << 20, 100 << 20)
    assert (first.forward_credentials, second.forward_credentials) == (False, True)
    assert (first.gate.is_open, second.gate.is_open) == (True, False)
    assert (first.cors, second.cors) == (None, None)


def test_the_sweep_knows_the_shortest_timeout(wired: Wired) -> None:
    assert wired.plane.shortest == 2.0


def test_backends_keep_their_order_and_connections_their_bounds(wired: Wired) -> None:
    blue, green = wired.endpoints["first"].deployments
    assert [pool.name for pool in blue.pools] == ["10.0.0.1:5001", "10.0.0.2:80"]
    assert [pool.prefix for pool in blue.pools] == [b"/v1", b""]
    assert [pool.name for pool in green.pools] == ["[::1]:5001"]
    assert {(p.limit, p.idle_timeout, p.connect_timeout) for p in blue.pools} == {(7, 3.0, 4.0)}
    assert {(p.limit, p.idle_timeout, p.connect_timeout) for p in green.pools} == {(256, 1.5, 1.0)}
    assert blue.name_line == b"azureml-model-deployment: blue\r\n"


def test_places_and_queues_are_as_written(wired: Wired) -> None:
    blue, green = (d.slots for d in wired.endpoints["first"].deployments)
    assert (blue.concurrency, blue.room, blue.max_wait, blue.max_length) == (2, 4, 3.0, 9)
    # The front end's own, contract.md 1.5.
    assert (green.concurrency, green.room, green.max_wait, green.max_length) == (1, 1, 0.5, 1000)


def test_only_keys_from_a_url_need_a_keeper(wired: Wired) -> None:
    assert [keeper.url for keeper in wired.keepers] == ["https://idp.example/keys"]
    assert wired.endpoints["first"].keeper is None
    assert wired.endpoints["second"].keeper is wired.keepers[0]


@pytest.mark.parametrize(
    ("endpoint", "draw", "deployment"),
    [
        ("first", 0.0, "blue"),
        ("first", 0.399, "blue"),
        ("first", 0.4, "green"),
        ("first", 0.999, "green"),
        ("second", 0.0, "blue"),
        ("second", 0.249, "blue"),
        ("second", 0.25, "green"),
        ("second", 0.999, "green"),
    ],
)
def test_traffic_is_split_as_written_and_the_default_gets_the_rest(
    wired: Wired, endpoint: str, draw: float, deployment: str
) -> None:
    assert wired.endpoints[endpoint].traffic.choose(None, lambda: draw).name == deployment


def test_a_managed_endpoint_without_weights_refuses_what_is_not_pinned() -> None:
    text = TEXT.replace("{blue: 40, green: 60}", "{blue: 0}")
    source = parse_source(text, Source("gateway.yaml", Path("/")))
    settings, _ = validate(source)
    assert settings is not None
    tools = Tools(
        never, never, Nobody(), lambda: 0.0, lambda: 0.0, lambda: 0.0, iter(()), {"KEY": "k" * 16}
    )
    traffic = wire(settings, source, tools)[0].endpoints["first"].traffic
    assert traffic.choose(b"green", lambda: 0.0).name == "green"
    with pytest.raises(Refusal):
        traffic.choose(None, lambda: 0.0)


def test_every_endpoint_and_deployment_counts_for_itself(wired: Wired) -> None:
    tallies: list[Tally] = [wired.tally]
    for endpoint in wired.endpoints.values():
        tallies += [endpoint.tally, *(deployment.tally for deployment in endpoint.deployments)]
    assert len({id(tally) for tally in tallies}) == 7
