"""Taking over: requests in flight finish where they are, the next one meets the new configuration,
and nothing is left of what is no longer configured."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

import pytest

from gateway.core.confidence import State
from gateway.core.faults import Fault
from gateway.wiring import wire
from tests.support.plants import KEY, OTHER_KEY, Plant, blue, settled
from tests.support.raw import request

ONE = 'backends: ["http://10.0.0.1"]'
OTHER = 'backends: ["http://10.0.0.2"]'
BOTH = 'backends: ["http://10.0.0.1", "http://10.0.0.2"]'
SCORE = "/api/v1/service/diabetes/score"


def keyed(variable: str, settings: str = ONE) -> str:
    return blue(settings, f"    auth: {{keys: {{primary: {{env: {variable}}}}}}}")


def test_a_request_in_flight_finishes_at_a_backend_that_is_gone() -> None:
    with Plant(blue(ONE)) as plant:
        client = plant.ask()
        container = plant.container()
        plant.reload(blue(OTHER))
        container.answers(b"[1]")
        assert client.hears().text == "[1]"
        assert plant.dialled == ["10.0.0.1:80"]
        plant.sweep()
        assert plant.open == []
        client.says(request(SCORE, b"[0]"))
        plant.container().answers(b"[2]")
        assert client.hears().text == "[2]"
        assert plant.dialled == ["10.0.0.1:80", "10.0.0.2:80"]


def test_idle_connections_to_a_backend_that_is_gone_are_closed_at_once() -> None:
    with Plant(blue(BOTH)) as plant:
        first, second = plant.ask(), plant.ask()
        for client in (first, second):
            plant.container().answers()
            assert client.hears().status == 200
        assert plant.open == ["10.0.0.1:80", "10.0.0.2:80"]
        plant.reload(blue(ONE))
        assert plant.open == ["10.0.0.1:80"]


def test_a_removed_deployment_serves_those_who_wait_there() -> None:
    with Plant(blue(ONE)) as plant:
        first, second = plant.ask(b"[1]"), plant.ask(b"[2]")
        container = plant.container()
        assert container.hears().body == b"[1]"
        plant.reload(blue(OTHER, name="green"))
        plant.sweep()
        container.answers(b"[10]")
        assert container.hears().body == b"[2]", "the connection was not kept for who waits"
        plant.sweep()
        container.answers(b"[20]")
        assert (first.hears().text, second.hears().text) == ("[10]", "[20]")
        plant.sweep()
        assert plant.open == []
        third = plant.ask(b"[3]")
        assert plant.container().hears().body == b"[3]"
        assert plant.dialled[-1] == "10.0.0.2:80"
        third.breaks()


def test_a_body_that_takes_its_time_finds_the_deployment_that_it_came_for() -> None:
    with Plant(blue(ONE)) as plant:
        client = plant.client()
        whole = request(SCORE, b'{"data": []}')
        client.says(whole[:-1])
        plant.reload(blue(OTHER, name="green"))
        plant.wait(1.0)
        assert plant.wired.departed == []
        client.says(whole[-1:])
        plant.container().answers(b"[1]")
        assert client.hears().text == "[1]"
        assert plant.dialled == ["10.0.0.1:80"]
        assert plant.open == [], "nobody would look after the connection"


def test_who_waits_at_a_changed_deployment_is_served_by_what_it_has_now() -> None:
    with Plant(blue(ONE)) as plant:
        clients = [plant.ask(b"[%d]" % number) for number in range(3)]
        plant.reload(blue(BOTH))
        assert plant.dialled == ["10.0.0.1:80", "10.0.0.2:80"]
        held, fresh = plant.container(), plant.container()
        assert fresh.hears().body == b"[1]"
        fresh.answers(b"[11]")
        fresh.answers(b"[12]")
        held.answers(b"[10]")
        assert [client.hears().text for client in clients] == ["[10]", "[11]", "[12]"]


def test_a_backend_that_stays_never_has_more_than_its_places() -> None:
    with Plant(blue(ONE + ", concurrency: 2")) as plant:
        clients = [plant.ask(b"[%d]" % number) for number in range(2)]
        one, two = plant.container(), plant.container()
        plant.reload(blue(ONE + ", concurrency: 1"))
        clients.append(plant.ask(b"[2]"))
        one.answers()
        assert plant.deployment().slots.waiting == 1, "the other request is there still"
        two.answers()
        assert plant.deployment().slots.waiting == 0
        assert two.hears().body == b"[1]"
        two.answers()
        assert [client.hears().status for client in clients] == [200] * 3


def test_a_removed_key_is_refused_from_the_next_request_on_a_connection_that_is_kept() -> None:
    with Plant(keyed("KEY")) as plant:
        client = plant.ask(key=KEY)
        container = plant.container()
        container.answers()
        assert client.hears().status == 200
        plant.reload(keyed("OTHER_KEY"))
        client.says(request(SCORE, b"[0]", key=KEY))
        assert client.hears().status == 401
        client.says(request(SCORE, b"[0]", key=OTHER_KEY))
        container.answers()
        assert client.hears().status == 200


def test_a_key_file_with_another_content_is_a_change() -> None:
    with Plant(keyed("KEY")) as plant:
        gate = plant.endpoint().gate
        plant.reload(keyed("KEY"))
        assert plant.endpoint().gate is gate
        plant.environment["KEY"] = OTHER_KEY
        plant.reload(keyed("KEY"))
        assert plant.ask(key=KEY).hears().status == 401
        assert plant.endpoint().gate.outcomes is gate.outcomes, "counters go on"


def test_a_removed_endpoint_is_not_found_from_the_next_request() -> None:
    with Plant(blue(ONE)) as plant:
        client = plant.ask()
        plant.container().answers()
        client.hears()
        plant.reload(
            "listen: 127.0.0.1:0\nendpoints:\n"
            "  first: {auth: none, deployments: {blue: {backends: [http://h]}}}\n"
            "  second: {auth: none, deployments: {blue: {backends: [http://h]}}}\n"
        )
        client.says(request(SCORE, b"[0]"))
        assert client.hears().status == 404


def test_what_has_not_changed_is_the_same_object() -> None:
    text = blue(ONE, "    auth: none\n    traffic: {blue: 100}")
    with Plant(text) as plant:
        before = plant.deployment()
        plant.reload(blue(ONE, "    auth: none\n    timeout: 5s"))
        assert plant.deployment() is before
        assert plant.endpoint().timeout == 5.0
        plant.reload(blue(BOTH))
        after = plant.deployment()
        assert after is not before
        assert after.slots is before.slots
        assert after.tally is before.tally


def test_trusted_proxies_are_believed_on_connections_that_are_kept() -> None:
    text = blue(ONE)
    trusting = text.replace(
        "listen: 127.0.0.1:0", "listen: {address: 127.0.0.1:0, trusted_proxies: [192.0.2.0/24]}"
    )
    with Plant(text) as plant:
        client = plant.client()
        ask = request(SCORE, b"[0]", headers={"X-Forwarded-For": "203.0.113.9"})
        addresses = []
        for version in (text, trusting, trusting, text):
            plant.reload(version)
            client.says(ask)
            plant.containers[0].answers()
            client.hears()
            addresses.append(plant.records[-1].client)
        assert addresses == ["192.0.2.7", "203.0.113.9", "203.0.113.9", "192.0.2.7"]


def test_counters_go_on_where_a_name_comes_back() -> None:
    with Plant(blue(ONE)) as plant:
        counted: list[Counter[str]] = []
        for text in (blue(ONE), blue(BOTH), blue(OTHER, name="green"), blue(ONE), blue(BOTH)):
            plant.reload(text)
            client = plant.ask()
            plant.containers[-1].answers()
            assert client.hears().status == 200
            plant.sweep()
            counted.append(plant.counted("code"))
        assert [sum(counts.values()) for counts in counted] == [1, 2, 3, 4, 5]
        assert counted[-1] == {"diabetes blue 200": 4, "diabetes green 200": 1}


def test_a_name_that_stays_is_counted_in_one_place() -> None:
    """Whatever changes below it. Else reports would have to look after all that ever was."""
    with Plant(keyed("KEY", ONE + ", batching: on")) as plant:
        old = plant.endpoint()
        deployment = old.deployments[0]
        batcher = deployment.batcher
        assert batcher is not None
        plant.reload(keyed("OTHER_KEY", BOTH + ", batching: {max_rows: 7}"))
        new = plant.endpoint()
        changed = new.deployments[0]
        assert changed.batcher is not None
        assert changed.batcher is not batcher
        assert new.tally is old.tally
        assert new.gate.outcomes is old.gate.outcomes
        assert changed.tally is deployment.tally
        assert changed.slots.tally is deployment.slots.tally
        assert changed.batcher.tally is batcher.tally
        assert plant.wired.tally is plant.wired.plane.pipeline._tally


BATCHING = ONE + ", queue: {max_wait: 5s}, batching: "


def test_what_is_known_of_merging_survives_where_its_rules_do() -> None:
    with Plant(blue(BATCHING + "on")) as plant:
        batcher = plant.deployment().batcher
        assert batcher is not None
        plant.reload(blue(BATCHING + "on, concurrency: 2"))
        assert plant.deployment().batcher is batcher
        plant.reload(blue(BATCHING + "{max_rows: 7}"))
        other = plant.deployment().batcher
        assert other is not None
        assert other is not batcher
        assert other.tally is batcher.tally
        plant.reload(blue(BATCHING + "off"))
        assert plant.deployment().batcher is None


def test_what_shadow_has_found_out_holds_when_merging_begins() -> None:
    with Plant(blue(BATCHING + "shadow")) as plant:
        before = plant.deployment()
        plant.reload(blue(BATCHING + "on"))
        after = plant.deployment()
        assert (before.mode, after.mode) == ("shadow", "on")
        assert after.batcher is before.batcher


def test_a_new_backend_has_to_prove_itself() -> None:
    with Plant(blue(BATCHING + "on")) as plant:
        client = plant.ask(b'{"data": [[1]]}')
        plant.container().answers()
        assert client.hears().status == 200
        batcher = plant.deployment().batcher
        assert batcher is not None
        (family,) = batcher.families

        def state() -> State:
            return family.confidence.state

        family.confidence.begin_proof()
        family.confidence.proved(plant.clock())
        plant.reload(blue(BATCHING + "on, concurrency: 2"))
        assert state() is State.ON
        plant.reload(blue(BATCHING.replace(ONE, BOTH) + "on"))
        assert plant.deployment().batcher is batcher
        assert state() is State.PROVING
        plant.reload(blue(BATCHING.replace(ONE, 'backends: ["http://10.0.0.3"]') + "on"))
        assert plant.deployment().batcher is not batcher, "nothing is left that was known"


def prove(plant: Plant) -> None:
    """Requests with one row are known to be sound to merge."""
    client = plant.ask(b'{"data": [[0]]}', key=KEY)
    plant.containers[-1].answers()
    assert client.hears().status == 200
    plant.containers[-1].heard()
    batcher = plant.deployment().batcher
    assert batcher is not None
    for family in batcher.families:
        family.confidence.begin_proof()
        family.confidence.proved(plant.clock())


BOTH_KEYS = "    auth: {keys: {primary: {env: KEY}, secondary: {env: OTHER_KEY}}}"
SORTED_ANEW = [
    ("on", [b'{"data": [[1],[2]]}']),
    ("{mode: on, isolate_principals: true}", [b'{"data": [[1]]}', b'{"data": [[2]]}']),
    ("off", [b'{"data": [[1]]}', b'{"data": [[2]]}']),
]


@pytest.mark.parametrize(("mode", "calls"), SORTED_ANEW)
def test_who_waits_is_merged_by_the_new_rules(mode: str, calls: list[bytes]) -> None:
    with Plant(blue(BATCHING + "on", BOTH_KEYS)) as plant:
        prove(plant)
        occupant = plant.ask(b"{}", key=KEY)
        clients = [plant.ask(b'{"data": [[1]]}', key=KEY)]
        clients += [plant.ask(b'{"data": [[2]]}', key=OTHER_KEY)]
        plant.reload(blue(BATCHING + mode + ", concurrency: 2, connections: {max: 9}", BOTH_KEYS))
        plant.reload(blue(BATCHING + mode, BOTH_KEYS))
        heard = [container.heard() for container in plant.containers]
        bodies = [each.partition(b"\r\n\r\n")[2] for each in b"".join(heard).split(b"POST ")]
        for client in (occupant, *clients):
            client.breaks()
        assert [body for body in bodies if b"[[" in body] == calls[:1]


@pytest.mark.parametrize("mode", ["on", "{isolate_principals: true}"])
def test_a_merged_call_that_cannot_leave_goes_to_the_backends_that_there_are(mode: str) -> None:
    """And where the rules have changed meanwhile, its requests go one by one."""
    with Plant(blue(BATCHING + "on")) as plant:
        prove(plant)
        (gone,) = plant.deployment().pools
        plant.loop.perform(gone.close)
        up = plant.slow[gone.name] = plant.loop.create_future()
        clients = [plant.client() for _ in range(2)]
        asks = [request(SCORE, b'{"data": [[%d]]}' % number) for number in (1, 2)]

        def together() -> None:
            for client, ask in zip(clients, asks, strict=True):
                client.transport.deliver(ask)

        plant.loop.perform(together)
        assert repr(gone).endswith("1 waiting>"), "it is one call"
        plant.reload(blue(BATCHING.replace(ONE, OTHER) + mode))
        plant.loop.perform(lambda: up.set_result(False))
        answered = []
        for _ in clients:
            container = plant.containers[-1]
            if data := container.heard():
                rows = data.partition(b"\r\n\r\n")[2].count(b"[[")
                answered.append(rows)
                container.answers(b"[7]")
        assert answered == [1, 1]
        assert [client.hears().text for client in clients] == ["[7]", "[7]"]


def test_whether_the_origin_counts_is_the_endpoints_to_say_at_any_time() -> None:
    with Plant(blue(BATCHING + "on")) as plant:
        batcher = plant.deployment().batcher
        assert batcher is not None
        ask = request(SCORE, b'{"data": [[1]]}', headers={"Origin": "https://app.example"})
        client = plant.client()
        seen = []
        for more in ("", "\n    cors: {origins: ['*']}", ""):
            plant.reload(blue(BATCHING + "on", "    auth: none" + more))
            client.says(ask)
            plant.containers[0].answers()
            assert client.hears().status == 200
            seen.append([b"origin" in family.fields.lower() for family in batcher.families])
        assert plant.deployment().batcher is batcher
        assert seen == [[True], [False, True], [False, True]]


@pytest.mark.parametrize("mode", ["off", "{isolate_principals: true}", "{max_queue_delay: 1s}"])
def test_who_waits_while_the_rules_of_merging_change_is_answered(mode: str) -> None:
    with Plant(blue(BATCHING + "on")) as plant:
        occupant = plant.ask(b"{}")
        container = plant.container()
        clients = [plant.ask(b'{"data": [[%d]]}' % number) for number in range(4)]
        plant.reload(blue(BATCHING + mode))
        container.answers()
        assert occupant.hears().status == 200
        for _ in range(12):
            plant.wait(0.5)
            if plant.deployment().slots.busy:
                container.answers(b"[1]")
        plant.wait(1.0)
        assert plant.deployment().slots.waiting == 0
        assert [client.hears().status for client in clients] == [200] * 4


def test_where_no_untried_backend_is_left_the_wait_is_over() -> None:
    with Plant(blue(BOTH)) as plant:
        plant.down.add("10.0.0.1:80")
        clients = [plant.ask(b"[%d]" % number) for number in range(2)]
        # One is at the second backend, the other has tried the first and waits for the second.
        assert plant.dialled == ["10.0.0.2:80"]
        assert plant.deployment().slots.waiting == 1
        plant.reload(blue(ONE))
        plant.container().answers()
        assert sorted(client.hears().status for client in clients) == [200, 503]
        assert {record.fault for record in plant.records} == {None, Fault.NO_BACKEND}


def test_times_and_bounds_change_at_once() -> None:
    bounds = ", connections: {max: %d, idle_timeout: %ds, connect_timeout: %ds}"
    with Plant(blue(ONE + bounds % (2, 3, 4))) as plant:
        (pool,) = plant.deployment().pools
        plant.reload(blue(ONE + bounds % (5, 6, 7)))
        assert plant.deployment().pools == (pool,)
        assert (pool.limit, pool.idle_timeout, pool.connect_timeout) == (5, 6.0, 7.0)


TOKENS = (
    "    auth: {tokens: {algorithms: [RS256], jwks: 'http://127.0.0.1:1/keys', refresh: %s, "
    "audience: %s}}"
)


def test_who_fetches_keys_goes_on_where_they_come_from_the_same_place() -> None:
    with Plant(blue(ONE, TOKENS % ("10m", "one"))) as plant:
        keeper, gate = plant.endpoint().keeper, plant.endpoint().gate
        assert keeper is not None
        plant.reload(blue(BOTH, TOKENS % ("10m", "one")))
        assert (plant.endpoint().keeper, plant.endpoint().gate) == (keeper, gate)
        plant.reload(blue(BOTH, TOKENS % ("10m", "two")))
        assert plant.endpoint().keeper is keeper
        assert plant.endpoint().gate is not gate
        assert plant.endpoint().gate.source is keeper.source
        assert len(plant.fetched) == 1
        plant.reload(blue(BOTH, TOKENS % ("20m", "two")))
        assert plant.endpoint().keeper is not keeper
        assert len(plant.fetched) == 2
        plant.reload(blue(BOTH))
        plant.wait(3600.0)
        assert len(plant.fetched) == 2, "the old one still fetches"


def test_a_configuration_with_mistakes_changes_nothing() -> None:
    with Plant(blue(ONE)) as plant:
        client = plant.ask()
        before = plant.deployment()
        bad = blue(
            'backends: ["http://10.0.0.1", "http://10.0.0.9", "http://10.0.0.9"], concurrency: 7'
        )
        assert [mistake.path[-2:] for mistake in plant.judge(bad)] == [("backends", 2)]
        assert plant.deployment() is before
        assert before.slots.room == 1
        assert [pool.name for pool in before.pools] == ["10.0.0.1:80"]
        plant.container().answers()
        assert client.hears().status == 200
        plant.reload(blue(ONE))
        assert plant.deployment() is before


def test_of_two_successors_only_one_takes_over() -> None:
    with Plant(blue(ONE)) as plant:
        late, _ = wire(*settled(blue(BOTH)), plant.tools(), plant.wired)
        plant.reload(blue(OTHER))
        with pytest.raises(RuntimeError, match="replaced already"):
            late.adopt()


KINDS = ("Wired", "HeadReader", "Pipeline", "Endpoint", "Deployment", "Pool", "Slots", "Gate")


def test_nothing_of_old_configurations_is_kept_alive() -> None:
    """Not even until the garbage collector finds it: it hardly ever looks at what is old."""
    with Plant(blue(ONE)) as plant:
        client = plant.client()

        def turn(number: int) -> Counter[str]:
            name = f"blue-{number}"
            more = f"    auth: none\n    timeout: {number + 1}s"
            plant.reload(blue(BOTH if number % 2 else ONE, more, name))
            plant.known.clear()
            client.says(request(SCORE, b"[0]"))
            plant.containers[-1].answers()
            assert client.hears().status == 200
            plant.sweep()
            plant.sweep()
            for container in plant.containers[:-1]:
                container.transport.protocol = asyncio.Protocol()  # as a real one lets go of it
            del plant.containers[:-1], plant.dialled[:-1]
            found = Counter(type(each).__name__ for each in gc.get_objects())
            return Counter({kind: found[kind] for kind in KINDS})

        gc.collect()
        gc.disable()
        try:
            counts = [turn(number) for number in range(12)]
        finally:
            gc.enable()
        assert counts[2:] == counts[:2] * 5


def test_closing_ends_everything() -> None:
    with Plant(blue(ONE, TOKENS % ("10m", "one"))) as plant:
        plant.reload(blue(ONE))
        client = plant.ask()
        plant.container().answers()
        client.hears()
        plant.loop.perform(plant.wired.close)
        assert plant.open == []
