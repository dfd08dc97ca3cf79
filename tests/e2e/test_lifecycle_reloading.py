"""Fifty configurations in a row, under load: nobody is lost, and every answer is of one of them.

Each configuration has a number, which shows in everything that it decides: a deployment of its
own, a key of its own, a response field that it exposes, limits, weights. An answer that mixes two
of them would show it.
"""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.containers import free_port
from tests.support.gateways import GatewayProcess, wait_until
from tests.support.hashing import HashingBackend
from tests.support.questions import Question, Scoring
from tests.support.raw import Answer, request
from tests.support.scrapes import Scraper
from tests.support.traffic import Traffic

RELOADS = 50
WORKERS = 2
_ORIGIN = "https://app.example"


def key(number: int) -> str:
    return f"the-key-of-configuration-{number:04}"


def configuration(backend: HashingBackend, number: int, more: str = "watch: false") -> str:
    """The configuration of that number. It opens to its own key and to the one before."""
    return f"""
listen:
  address: 127.0.0.1:0
  limits: {{connections: {1000 + number}, headers: {32 + number % 7}KiB}}
  timeouts: {{idle: {60 + number}s}}
admin: 127.0.0.1:0
access_log: off
workers: {WORKERS}
{more}
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{file: key-{number}}}, secondary: {{file: key-{number - 1}}}}}}}
    cors: {{origins: ["{_ORIGIN}"], expose: [x-number-{number}]}}
    timeout: {30 + number % 5}s
    limits: {{body: {1 + number % 3}MiB}}
    traffic: {{of-{number}: {20 + number % 60}}}
    default: always
    deployments:
      always: {{backends: ["{backend.url}/always"], concurrency: 64}}
      changing: {{backends: ["{backend.url}/changing"], concurrency: {number}}}
      of-{number}: {{backends: ["{backend.url}/of-{number}"], concurrency: 64}}
"""


@dataclass(slots=True)
class Rotation:
    """Asks with the key of the configuration that is in effect, as far as the clients know."""

    number: int = 1

    def __call__(self, count: int) -> Question:
        since = self.number

        def judge(answer: Answer) -> str:
            exposed = answer.header("access-control-expose-headers") or ""
            of = re.fullmatch(r"x-number-(\d+)", exposed)
            if of is None or not since <= int(of[1]) <= since + 1:
                return f"asked during {since}, answered by {exposed}"
            if answer.header("azureml-model-deployment") not in ("always", f"of-{of[1]}"):
                return f"not a deployment of {exposed}"
            return ""

        return Scoring("rotating", key=key(since), headers={"Origin": _ORIGIN}, also=judge)(count)


@dataclass(slots=True)
class World:
    """A gateway with configurations by number, and clients."""

    backend: HashingBackend
    gateway: GatewayProcess
    rotation: Rotation
    traffic: Traffic

    def write(self, number: int, change: Callable[[str], str] = str, more: str = "") -> None:
        """Put the configuration of a number, or something that is made of it, in place."""
        (self.gateway.folder / f"key-{number}").write_text(key(number))
        text = configuration(self.backend, number, more or "watch: false")
        self.gateway.configure(change(text))

    def is_in_effect(self, number: int) -> None:
        """From here on clients use its key, and expect nothing of the one before."""
        self.rotation.number = number
        self.traffic.settle()
        pinned = [self.status(number, f"of-{n}") for n in (number - 1, number)]
        assert pinned == [404, 200]

    def status(self, number: int, deployment: str) -> int:
        fields = {"azureml-model-deployment": deployment}
        return self.gateway.ask(request(key=key(number), headers=fields)).status


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    for number in (0, 1):
        (tmp_path / f"key-{number}").write_text(key(number))
    rotation = Rotation()
    with (
        HashingBackend() as backend,
        GatewayProcess(configuration(backend, 1), tmp_path) as gateway,
    ):
        clients = Traffic(gateway.address, rotation, kept=16, fresh=2, pause=0.01)
        with Scraper(gateway) as scraper, clients as traffic:
            traffic.more(50)
            yield World(backend, gateway, rotation, traffic)
        scraper.check()
        assert "Traceback" not in gateway.log()
        traffic.account.check(500)


def test_fifty_reloads_in_a_row_lose_nobody(world: World) -> None:
    gateway, traffic = world.gateway, world.traffic
    for number in range(2, RELOADS + 2):
        world.write(number)
        if number % 2:
            gateway.process.send_signal(signal.SIGHUP)
            wait_until(lambda number=number: gateway.generation() == number, 10, "the reload")
        else:
            good, said = gateway.reload()
            assert (good, said["generation"]) == (True, number), said
        world.is_in_effect(number)
    account = traffic.stop()
    asked_directly = 2 * RELOADS
    assert gateway.metric("gateway_requests_total") == account.right + asked_directly
    for deployment in ("always", f"of-{RELOADS + 1}"):
        counted = gateway.metric("gateway_requests_total", deployment=deployment, code="200")
        mine = account.answers["diabetes", deployment, 200]
        assert counted == mine + (deployment != "always")
    # The one deployment that never changed has kept its connections all the while.
    connects = gateway.metric("gateway_upstream_connects_total", deployment="always")
    assert connects < account.answers["diabetes", "always", 200] / 10
    assert gateway.metric("gateway_reloads_total", result="success") == RELOADS
    assert gateway.metric("gateway_config_generation") == RELOADS + 1


def replacing(pattern: str, by: str) -> Callable[[str], str]:
    """Changes the first place that matches."""
    return lambda text: re.sub(pattern, by, text, count=1)


BREAKS: dict[str, Callable[[str], str]] = {
    "no YAML": lambda text: text + "\n  x: [",
    "unknown setting": lambda text: text.replace("access_log: off", "acess_log: off"),
    "missing key file": replacing(r"file: key-\d+", "file: nowhere"),
    "wrong backend": lambda text: text.replace("http://", "ftp://"),
    "too much traffic": replacing(r"(of-\d+): \d+\}", r"\1: 101}"),
    "empty": lambda text: "",
    "no endpoints": lambda text: text.partition("endpoints:")[0],
    "weak key": replacing(r"file: key-\d+", "file: weak"),
    "address of others": replacing("address: .*", "address: 198.51.100.1:8080"),
}


def test_broken_files_change_nothing(world: World) -> None:
    gateway = world.gateway
    (gateway.folder / "weak").write_text("abc")
    failures = 0
    for number in range(2, 20):
        what = list(BREAKS)[number % len(BREAKS)]
        world.write(number, BREAKS[what])
        failures += 1
        if number % 3:
            good, said = gateway.reload()
            assert (good, said["generation"]) == (False, number - 1), (what, said)
            assert said["problems"], what
        else:
            gateway.process.send_signal(signal.SIGHUP)
            wait_until(
                lambda wanted=failures: (
                    gateway.metric("gateway_reloads_total", result="failure") == wanted
                ),
                what="the refusal",
            )
        status, body = gateway.admin_get("/readyz")
        assert (status, f'"generation":{number - 1}' in body.replace(" ", "")) == (200, True), body
        assert world.status(number - 1, f"of-{number - 1}") == 200
        assert world.status(number, f"of-{number - 1}") == 401, "a key that never came to be"
        world.write(number)
        good, said = gateway.reload()
        assert good, said
        world.is_in_effect(number)
    assert gateway.metric("gateway_reloads_total", result="failure") == failures
    assert {entry["logger"] for entry in gateway.complaints()} == {"gateway"}
    assert all("was not reloaded" in str(entry["message"]) for entry in gateway.complaints())


def test_changed_files_are_noticed(world: World) -> None:
    gateway = world.gateway
    world.write(2, more="watch: true")
    assert gateway.reload()[0]
    world.is_in_effect(2)
    for number in range(3, 6):
        world.write(number, more="watch: true")
        wait_until(lambda number=number: gateway.generation() == number, 10, "the reload")
        world.is_in_effect(number)
    # A file that the configuration only names counts as much: both keys are the newer one now.
    (gateway.folder / "key-4").write_text(key(6))
    wait_until(lambda: world.status(6, "of-5") == 200, 10, "the new key")
    assert world.status(4, "of-5") == 401
    assert world.status(5, "of-5") == 200


def test_the_number_of_workers_changes(world: World) -> None:
    gateway = world.gateway
    for turn, workers in enumerate((3, 1, 2), 2):
        world.write(turn, replacing("workers: .*", f"workers: {workers}"))
        good, said = gateway.reload()
        assert good, said
        world.is_in_effect(turn)
        wait_until(lambda n=workers: len(gateway.workers()) == n, 10, f"{workers} workers")
        world.traffic.more(100)
    total = gateway.metric("gateway_requests_total")
    account = world.traffic.stop()
    assert total <= gateway.metric("gateway_requests_total") == account.right + 2 * 3


def test_the_address_changes(world: World) -> None:
    """Whoever is connected at the old one is answered there, and told to go; whoever comes there a
    moment too late is let in."""
    gateway, traffic = world.gateway, world.traffic
    for number in range(2, 6):
        old, new = gateway.address, ("127.0.0.1", free_port())
        world.write(number, replacing("address: .*", f"address: {new[0]}:{new[1]}"))
        good, said = gateway.reload()
        assert good, said
        gateway.address = traffic.address = new
        world.is_in_effect(number)
        wait_until(lambda old=old: not listens(old), what="the old port closed")
        world.traffic.more(100)


def listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 1).close()
    except ConnectionRefusedError:
        return False
    return True
