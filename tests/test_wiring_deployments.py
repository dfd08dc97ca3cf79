"""Which parts of a running deployment are used again, as a table."""

from __future__ import annotations

import pytest

from tests.support.plants import Plant, blue

ONE = 'backends: ["http://10.0.0.1"]'
SHADOW = ONE + ", batching: {mode: shadow, sample: 5}"

# Settings before, settings after, and what stays the same object.
CHANGES = [
    (ONE, ONE, {"deployment", "slots", "pool", "batcher", "shadow"}),
    (ONE, ONE + ", concurrency: 2", {"slots", "pool", "batcher", "shadow"}),
    (ONE, ONE + ", queue: {max_wait: 1s}", {"slots", "pool", "batcher", "shadow"}),
    (ONE, 'backends: ["http://10.0.0.1/v2"]', {"slots", "batcher", "shadow"}),
    (ONE, 'backends: ["http://10.0.0.2", "http://10.0.0.1"]', {"slots", "batcher", "shadow"}),
    (ONE, ONE + ", batching: on", {"slots", "pool", "shadow"}),
    (ONE + ", batching: on", ONE, {"slots", "pool", "shadow"}),
    (SHADOW, SHADOW, {"deployment", "slots", "pool", "batcher", "shadow"}),
    (SHADOW, SHADOW + ", concurrency: 2", {"slots", "pool", "batcher", "shadow"}),
    (SHADOW, SHADOW.replace("shadow", "on"), {"slots", "pool", "batcher"}),
    (SHADOW, SHADOW.replace("5", "6"), {"slots", "pool"}),
    (SHADOW, SHADOW.replace("10.0.0.1", "10.0.0.2"), {"slots"}),
]


@pytest.mark.parametrize(("before", "after", "same"), CHANGES)
def test_what_has_not_changed_is_used_again(before: str, after: str, same: set[str]) -> None:
    with Plant(blue(before)) as plant:
        old = plant.deployment()
        held = (old.slots, old.pools[0], old.batcher, old.shadow)
        plant.reload(blue(after))
        new = plant.deployment()
        found = {"deployment"} if new is old else set()
        names = ("slots", "pool", "batcher", "shadow")
        parts = (new.slots, new.pools[0], new.batcher, new.shadow)
        found |= {name for name, a, b in zip(names, held, parts, strict=True) if a is b}
        assert found == same
        assert new.tally is old.tally
        assert new.slots.batcher is (new.batcher if new.mode == "on" else None)


def test_pools_are_in_the_order_of_the_file() -> None:
    with Plant(blue('backends: ["http://a", "http://b"]')) as plant:
        plant.reload(blue('backends: ["http://c", "http://b", "http://a"]'))
        assert [pool.name for pool in plant.deployment().pools] == ["c:80", "b:80", "a:80"]


def test_an_unchanged_deployment_may_become_the_gateway_itself() -> None:
    text = blue('backends: ["http://10.0.0.1", "http://127.0.0.1:8080"]')
    with Plant(text) as plant:
        (mistake,) = plant.judge(text.replace("127.0.0.1:0", "127.0.0.1:8080"))
        assert mistake.path == ("endpoints", "diabetes", "deployments", "blue", "backends", 1)
        assert "is the gateway itself" in mistake.message


def test_deployments_of_the_same_name_have_nothing_to_do_with_each_other() -> None:
    with Plant(blue(ONE, endpoint="one")) as plant:
        before = plant.deployment(endpoint="one")
        plant.reload(blue(ONE, endpoint="two"))
        after = plant.deployment(endpoint="two")
        assert after.slots is not before.slots
        assert after.tally is not before.tally
