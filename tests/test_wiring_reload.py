"""Any sequence of configurations, with requests on their way all the time.

After each reload the gateway is what a fresh one would be, what has not changed is the same object,
nothing that is counted has become less, and in the end every request has had its own answer, and no
connection is left to what is no longer configured.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.engine.endpoints import Deployment
from gateway.wired import Wired
from gateway.wiring import wire
from tests.support.backends import Seen
from tests.support.plants import KEY, OTHER_KEY, Plant, settled
from tests.support.raw import request
from tests.support.script import ClientSide, ContainerSide

HOSTS = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
STEPS = 120


@dataclass(frozen=True)
class Model:
    """A deployment, as far as it is varied."""

    hosts: tuple[str, ...] = ("10.0.0.1",)
    concurrency: int = 1
    batching: str = "off"
    max_length: int = 1000
    connections: int = 9

    def text(self) -> str:
        backends = ", ".join(f'"http://{host}"' for host in self.hosts)
        return (
            f"{{backends: [{backends}], concurrency: {self.concurrency}, "
            f"batching: {self.batching}, connections: {{max: {self.connections}}}, "
            f"queue: {{max_wait: 50s, max_length: {self.max_length}}}}}"
        )


@dataclass(frozen=True)
class Service:
    """An endpoint, as far as it is varied. ``key`` is the variable that opens it."""

    deployments: dict[str, Model] = field(default_factory=lambda: {"blue": Model()})
    weight: int = 100
    timeout: int = 100
    key: str = "KEY"
    cors: bool = False

    def text(self) -> str:
        cors = "    cors: {origins: ['*']}\n" if self.cors else ""
        first = next(iter(self.deployments))
        deployments = "".join(f"      {n}: {d.text()}\n" for n, d in self.deployments.items())
        return (
            f"    auth: {{keys: {{primary: {{env: {self.key}}}}}}}\n{cors}"
            f"    timeout: {self.timeout}s\n    traffic: {{{first}: {self.weight}}}\n"
            f"    deployments:\n{deployments}"
        )


World = dict[str, Service]


def text_of(world: World) -> str:
    endpoints = "".join(f"  {name}:\n{service.text()}" for name, service in world.items())
    return f"listen: 127.0.0.1:0\nendpoints:\n{endpoints}"


def vary_model(dice: random.Random, model: Model) -> Model:
    match dice.randrange(5):
        case 0:
            return replace(model, hosts=tuple(dice.sample(HOSTS, dice.randint(1, 3))))
        case 1:
            return replace(model, concurrency=dice.randint(1, 3))
        case 2:
            return replace(model, max_length=dice.choice((500, 1000)))
        case 3:
            return replace(model, connections=dice.randint(3, 9))
    kinds = ("on", "off", "shadow", "{isolate_principals: true}", "{max_queue_delay: 20ms}")
    return replace(model, batching=dice.choice(kinds))


def vary_service(dice: random.Random, service: Service) -> Service:
    deployments = dict(service.deployments)
    match dice.randrange(7):
        case 0:
            return replace(service, weight=dice.choice((0, 50, 100)))
        case 1:
            return replace(service, timeout=dice.choice((90, 100)))
        case 2:
            return replace(service, key=dice.choice(("KEY", "OTHER_KEY")))
        case 3:
            return replace(service, cors=not service.cors)
        case 4:
            name = dice.choice(("blue", "green"))
            if deployments.pop(name, None) is None or not deployments:
                deployments[name] = vary_model(dice, Model())
        case _:
            name = dice.choice(list(deployments))
            deployments[name] = vary_model(dice, deployments[name])
    return replace(service, deployments=deployments)


def vary(dice: random.Random, world: World) -> World:
    changed = dict(world)
    if dice.random() < 0.2:
        name = dice.choice(("one", "two"))
        if changed.pop(name, None) is None or not changed:
            changed[name] = Service()
        return changed
    name = dice.choice(list(changed))
    return {**changed, name: vary_service(dice, changed[name])}


def picture(wired: Wired) -> Any:
    """What a configuration has been made into, as far as requests can tell."""
    return {
        endpoint.name: (
            endpoint.timeout,
            endpoint.cors is not None,
            endpoint.gate.keys,
            endpoint.traffic._bounds,
            [deployment.name for deployment in endpoint.traffic._order],
            [_picture(deployment) for deployment in endpoint.deployments],
        )
        for endpoint in wired.endpoints.values()
    } | {"shortest": wired.plane.shortest}


def _picture(deployment: Deployment) -> Any:
    slots, batcher = deployment.slots, deployment.batcher
    pools = [(p.backend, p.limit, p.idle_timeout, p.connect_timeout) for p in deployment.pools]
    rules = None if batcher is None else batcher.rules
    places = (slots.concurrency, slots.room, slots.max_wait, slots.max_length, slots.scatters)
    return deployment.name, deployment.mode, pools, rules, places


class Game:
    """A plant whose configuration, clients and containers do what the dice say."""

    def __init__(self, seed: int, plant: Plant, world: World) -> None:
        self.dice = random.Random(seed)
        self.plant = plant
        self.world = world
        self.clients: dict[int, ClientSide] = {}
        self.calls: list[tuple[ContainerSide, Seen]] = []
        self.counts: Counter[str] = Counter()
        self.answered: Counter[int] = Counter()
        self._read = 0

    def step(self) -> None:
        match self.dice.randrange(10):
            case 0 | 1:
                self.reload()
            case 2 | 3 | 4:
                self.ask()
            case 5:
                self.plant.wait(self.dice.choice((0.01, 0.3, 2.0)))
            case 6 if self.clients:
                number = self.dice.choice(list(self.clients))
                self.clients.pop(number).breaks()
            case _:
                self.answer()

    def reload(self) -> None:
        before, old = self.plant.wired, self.world
        self.world = vary(self.dice, old)
        self.plant.reload(text_of(self.world))
        fresh, _ = wire(*settled(text_of(self.world)), self.plant.tools())
        assert picture(self.plant.wired) == picture(fresh)
        for name, service in self.world.items():
            for own, model in service.deployments.items():
                same = name in old and old[name].deployments.get(own) == model
                if same:
                    assert self.plant.wired.made[name, own] is before.made[name, own]
        counts = self.plant.counted("code") + self.plant.counted("deployment")
        assert all(counts[name] >= count for name, count in self.counts.items())
        self.counts = counts

    def ask(self) -> None:
        name = self.dice.choice(list(self.world))
        number = len(self.plant.clients)
        key = {"KEY": KEY, "OTHER_KEY": OTHER_KEY}[self.world[name].key]
        client = self.clients[number] = self.plant.client()
        body = b'{"data": [[%d]]}' % number
        client.says(request(f"/api/v1/service/{name}/score", body, key=key))

    def listen(self) -> None:
        """Read what containers have been asked."""
        for container in self.plant.containers:
            if len(container.transport.sent) > container._tape._read:
                self.calls.append((container, container.hears()))

    def answer(self) -> bool:
        """A container answers, if one was asked."""
        self.listen()
        if not self.calls:
            return False
        container, seen = self.calls.pop(self.dice.randrange(len(self.calls)))
        if container.fate == "open":
            rows = json.loads(seen.body)["data"]
            container.answers(json.dumps([row[0] for row in rows]).encode())
        return True

    def finish(self) -> None:
        for _ in range(400):
            if not self.answer() and not any(d.slots.waiting for d in self.plant.known):
                break
            self.plant.wait(0.02)
        for number, client in self.clients.items():
            answer = client.hears()
            assert (answer.status, answer.text) == (200, f"[{number}]")
        for deployment in self.plant.known:
            assert deployment.slots.busy == 0
        self.plant.wait(120.0)
        self.plant.sweep()
        assert self.plant.open == [], "what is idle has been closed"


@pytest.mark.parametrize("seed", range(60))
def test_any_sequence_of_configurations(seed: int) -> None:
    world: World = {"one": Service(), "two": Service()}
    with Plant(text_of(world)) as plant:
        dice = random.Random(-seed)
        plant.draws = iter(dice.random, None)
        game = Game(seed, plant, world)
        for _ in range(STEPS):
            game.step()
        game.finish()
