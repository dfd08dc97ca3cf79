"""What the admin port shows of deployments: the state as it is, in words and numbers, and nothing
that a client sent or a model answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.control.overview import describe_deployments, endpoint_statistics
from gateway.core.backends import Backend
from gateway.core.confidence import DEPENDENT, NOT_SPLITTABLE, PROVED
from gateway.core.dialects import V1
from gateway.core.gates import OUTCOMES, Gate
from gateway.core.rows import Frame
from gateway.core.statistics import ShadowTally
from gateway.core.traffic import Traffic
from gateway.engine.batching import Batcher, BatchRules, Family
from gateway.engine.endpoints import Deployment, Endpoint
from gateway.engine.keepers import KeyKeeper
from gateway.engine.pools import Pool
from gateway.engine.shadowing import Shadow
from gateway.engine.slots import Slots
from tests.support.batches import FAILED, Story
from tests.support.script import Setup

NOW = 1000.0


def dial(pool: Pool) -> Any:
    raise AssertionError("nothing is connected here")


def deployment(
    mode: str = "off", rules: BatchRules | None = None, name: str = "blue"
) -> Deployment:
    pools = [
        Pool(Backend("10.0.0.5", port), dial, limit=4, idle_timeout=1.0, connect_timeout=1.0)
        for port in (5001, 5002)
    ]
    batcher = None
    if mode != "off":
        batcher = Batcher(name, rules or BatchRules(), clock=lambda: NOW, ids=iter(()))
    slots = Slots(
        pools,
        concurrency=3,
        max_wait=0.5,
        max_length=10,
        clock=lambda: NOW,
        batcher=batcher if mode == "on" else None,
    )
    shadow = None
    if batcher is not None and mode == "shadow":
        shadow = Shadow(batcher, slots, lambda: 0.0)
    return Deployment(name, slots, shadow)


def endpoint(*deployments: Deployment, keeper: KeyKeeper | None = None) -> Endpoint:
    named = {each.name: each for each in deployments}
    return Endpoint(
        "diabetes",
        dialect=V1,
        gate=Gate(None, None),
        keeper=keeper,
        cors=None,
        traffic=Traffic(named, {}, deployments[0].name),
        deployments=deployments,
        timeout=5.0,
        body_limit=100,
        forward_credentials=False,
    )


def family(batcher: Batcher, target: bytes = b"/score") -> Family:
    """A kind of requests, as if one had been seen."""
    kind = Family(b"POST " + target + b" HTTP/1.1\r\n", b"", Frame(b'{"data": [', b"]}"))
    batcher._families.put((kind.line, kind.fields, kind.frame), kind)
    return kind


def prove(kind: Family, only: bytes | None = None) -> None:
    kind.confidence.begin_proof()
    kind.confidence.proved(NOW)
    kind.only = only


def page(*deployments: Deployment, now: float = NOW) -> Any:
    """The deployments of the only endpoint, as the page shows them."""
    shown = describe_deployments([endpoint(*deployments)], now)
    return json.loads(json.dumps(shown))["diabetes"]


# Statistics.


def test_every_number_is_taken_from_where_it_is_counted() -> None:
    blue, green, red = (
        deployment(mode, name=name)
        for mode, name in (("on", "blue"), ("off", "green"), ("shadow", "red"))
    )
    assert None not in (green.slots.take(()), green.slots.take(()))
    for each in (blue, red):
        assert each.batcher is not None
        prove(family(each.batcher))
        family(each.batcher, b"/other")
        family(each.batcher, b"/third").confidence.disproved(NOW, DEPENDENT)
    own = endpoint(blue, green, red)
    (found,) = endpoint_statistics([own])
    assert (found.name, found.tally, found.keeper) == ("diabetes", own.tally, None)
    assert found.authentications == dict.fromkeys(OUTCOMES, 0)
    assert list(found.deployments) == ["blue", "green", "red"]
    first = found.deployments["blue"]
    assert (first.tally, first.queue) == (blue.tally, blue.slots.tally)
    assert (first.places, first.waiting) == ((0, 6), 0)
    assert found.deployments["green"].places == (2, 6)
    assert first.backends == {pool.name: (0, pool.tally) for pool in blue.pools}
    assert first.batching is not None
    assert blue.batcher is not None
    assert (first.batching.tally, first.batching.cap) == (blue.batcher.tally, blue.batcher.cap)
    assert first.batching.families == {"proving": 1, "on": 1, "off": 1}
    assert first.batching.shadow is None
    assert found.deployments["green"].batching is None
    last = found.deployments["red"].batching
    assert last is not None
    assert red.shadow is not None
    assert last.shadow is red.shadow.tally
    assert last.families == {"proving": 1, "on": 1, "off": 1}


def test_whoever_fetches_keys_is_asked_himself_how_it_went() -> None:
    class Keeper:
        fetches, failures = 7, 2

    own = endpoint(deployment(), keeper=Keeper())  # type: ignore[arg-type]
    (found,) = endpoint_statistics([own])
    assert found.keeper is own.keeper


# The page.


def test_a_deployment_without_batching_shows_its_places() -> None:
    blue = deployment()
    blue.pools[0].busy = 3
    assert page(blue) == {
        "blue": {
            "backends": [
                {"name": "10.0.0.5:5001", "places_taken": 3, "connections": 0},
                {"name": "10.0.0.5:5002", "places_taken": 0, "connections": 0},
            ],
            "places": 6,
            "waiting": 0,
            "batching": {"mode": "off"},
        }
    }


def test_batching_shows_its_limit_and_what_it_knows() -> None:
    blue = deployment("on", BatchRules(max_rows=500, latency_target=0.2))
    batcher = blue.batcher
    assert batcher is not None
    prove(family(batcher, b"/score?code=secret"))
    family(batcher, b"/wrong").confidence.disproved(NOW, DEPENDENT)
    for rows in (10, 30, 20, 32, 5, 25):
        batcher.limit.observe(rows, 0.01 + 0.001 * rows, False, NOW)
    shown = page(blue, now=NOW + 4)["blue"]["batching"]
    fit = shown.pop("latency_fit")
    assert fit["per_row_seconds"] == pytest.approx(0.001, rel=0.2)
    assert fit["fixed_seconds"] == pytest.approx(0.01, rel=0.5)
    assert shown == {
        "mode": "on",
        "state": "on",
        "row_cap": batcher.cap,
        "max_rows": 500,
        "latency_target_seconds": 0.2,
        "kinds_of_requests": [
            {
                "path": "/wrong",
                "state": "off",
                "reason": DEPENDENT,
                "proved_again_in_seconds": 6.0,
                "unexplained_failures": 0,
                "fallbacks": 1,
            },
            {
                "path": "/score",
                "state": "on",
                "reason": PROVED,
                "proved_again_in_seconds": None,
                "unexplained_failures": 0,
                "fallbacks": 0,
            },
        ],
        "kinds_not_shown": 0,
    }


@pytest.mark.parametrize(
    ("states", "overall"),
    [
        ("", "proving"),
        ("proving", "proving"),
        ("proving off", "off"),
        ("off on proving", "on"),
    ],
)
def test_the_state_of_all_kinds_is_the_best_of_any(states: str, overall: str) -> None:
    blue = deployment("on")
    assert blue.batcher is not None
    for number, state in enumerate(states.split()):
        kind = family(blue.batcher, b"/%d" % number)
        if state == "on":
            prove(kind)
        elif state == "off":
            kind.confidence.disproved(NOW, NOT_SPLITTABLE)
    assert page(blue)["blue"]["batching"]["state"] == overall


def test_the_page_stays_short_whatever_clients_send() -> None:
    blue = deployment("on")
    assert blue.batcher is not None
    for number in range(100):
        family(blue.batcher, b"/%03d" % number + b"x" * 8000)
    shown = page(blue)["blue"]["batching"]
    assert shown["kinds_not_shown"] == 68
    paths = [kind["path"] for kind in shown["kinds_of_requests"]]
    assert [path[1:4] for path in paths] == [f"{n:03d}" for n in range(99, 67, -1)]
    assert {len(path) for path in paths} == {200}


# Shadow.


def compared(
    shadow: ShadowTally, *, agree: int = 0, differ: int = 0, incomparable: int = 0
) -> None:
    shadow.results.update(agree=agree, differ=differ, incomparable=incomparable)


def verdict(each: Deployment) -> str:
    found = page(each)["blue"]["batching"]["shadow"]["verdict"]
    assert isinstance(found, str)
    return found


def test_shadow_says_in_words_what_was_found() -> None:
    blue = deployment("shadow", BatchRules(sample=2.5))
    shadow, batcher = blue.shadow, blue.batcher
    assert shadow is not None
    assert batcher is not None
    assert verdict(blue) == "nothing is known so far: no request was compared"
    kind = family(batcher)
    compared(shadow.tally, incomparable=3)
    assert verdict(blue) == "nothing is known so far: no request was compared"
    kind.confidence.disproved(NOW, NOT_SPLITTABLE)
    assert verdict(blue) == "of no use so far: answers cannot be split"
    compared(shadow.tally, agree=312)
    assert verdict(blue) == "safe so far: 312 requests compared"
    same = family(batcher, b"/other")
    prove(same, only=b"[1]")
    assert verdict(blue) == "safe so far: 312 requests compared, but the rows were all the same"
    prove(family(batcher, b"/third"))
    assert verdict(blue) == "safe so far: 312 requests compared"
    compared(shadow.tally, agree=312, differ=2)
    assert verdict(blue) == (
        "unsafe: answers depend on the other rows: 2 of 314 requests compared differ"
    )


def test_shadow_shows_what_it_counted_beside_what_batching_shows() -> None:
    blue = deployment("shadow", BatchRules(sample=2.5))
    assert blue.shadow is not None
    blue.shadow.tally.calls = 4
    compared(blue.shadow.tally, agree=5)
    shown = page(blue)["blue"]["batching"]
    assert (shown["mode"], shown["state"]) == ("shadow", "proving")
    assert shown["shadow"] == {
        "verdict": "safe so far: 5 requests compared",
        "sample_percent": 2.5,
        "requests": {
            "agree": 5, "differ": 0, "incomparable": 0, "ineligible": 0, "dropped": 0,
        },
        "calls": 4,
        "first_difference": None,
    }  # fmt: skip


class Compared(Story):
    """A story with shadow in the place of batching."""

    def __init__(self) -> None:
        super().__init__(Setup(concurrency=1, batching=BatchRules(sample=100.0)), proved=False)
        slots = self.deployment.slots
        batcher, slots.batcher = slots.batcher, None
        assert batcher is not None
        self.deployment.shadow = Shadow(batcher, slots, lambda: 0.0)

    def show(self) -> str:
        return json.dumps(describe_deployments([self.endpoint], self.clock()))


CANARY = "canary-3f9d1c"


@pytest.mark.parametrize(
    ("alone", "merged"),
    [
        ([CANARY], [CANARY + "x", CANARY]),
        ([{CANARY: 1}], [{CANARY: 2}, {CANARY: 1}]),
        ([{CANARY: 1}], [{CANARY + "x": 1}, {CANARY: 1}]),
        (CANARY, CANARY),
        ([f'[{{"{CANARY}": 1}}]'], [f'[{{"{CANARY}": 2}}]', ""]),
    ],
)
def test_t44_nothing_that_was_sent_or_answered_is_shown(alone: Any, merged: Any) -> None:
    with Compared() as story:
        for number in range(2):
            body = {"data": [[number, CANARY]], CANARY: CANARY}
            asker = story.say(json.dumps(body).encode(), headers={"X-Secret": CANARY})
            story.call().answers(alone)
            assert asker.answer().status == 200
        story.wait(3)
        story.call().answers(merged)
        assert json.loads(story.show())["diabetes"]["blue"]["batching"]["shadow"]["calls"] == 1
        assert CANARY not in story.show()


def test_t44_failures_are_not_shown_either() -> None:
    with Compared() as story:
        for number in range(2):
            asker = story.ask(number)
            story.call().answers([number])
            assert asker.answer().status == 200
        story.wait(3)
        story.call().answers({"message": CANARY}, FAILED)
        assert "isolation finds nobody guilty" in story.show()
        assert CANARY not in story.show()
