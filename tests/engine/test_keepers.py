"""Keys are kept fresh behind the requests' backs, and an issuer's outage does not become ours.

The first half asks the keeper itself; the second plays whole requests whose tokens name a key that
is not known yet (reliability.md T37).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from itertools import pairwise
from typing import Any, cast

import pytest

from gateway.core.faults import Fault
from gateway.core.gates import Gate, KeySource
from gateway.core.keys import KeyRing
from gateway.core.tokens import TokenRules
from gateway.engine.exchange import Exchange
from gateway.engine.keepers import MAX_RETRY, REFETCH_INTERVAL, KeyKeeper
from gateway.engine.walking import interrupt, park, start
from tests.support.fakes import FakeClock, FakeLoop
from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import WALL, Script, Setup
from tests.support.tokens import AUDIENCE, ISSUER, Issuer, claims, key_set

URL = "https://login.test/keys"
ONE, TWO = Issuer("ES256", kid="one"), Issuer("ES256", kid="two")
INTERVAL = 3600.0


class Publisher:
    """The issuer's side: what is published, and how long it takes to get."""

    def __init__(self) -> None:
        self.document: bytes | Exception = key_set(ONE)
        self.fetches: list[float] = []
        self.slow = False
        self.pending: list[asyncio.Future[None]] = []
        self.clock: FakeClock

    async def __call__(self, url: str) -> bytes:
        assert url == URL
        self.fetches.append(self.clock())
        if self.slow:
            self.pending.append(asyncio.get_running_loop().create_future())
            await self.pending[-1]
        if isinstance(self.document, Exception):
            raise self.document
        return self.document

    def deliver(self) -> None:
        self.pending.pop(0).set_result(None)


class Guest:
    """A walk that asks for newer keys."""

    def __init__(self) -> None:
        self.request_id = b"of-a-guest"
        self.custody: object = None
        self.walk: Coroutine[None, Any, None] | None = None
        self.waits = False
        self.answered = False

    async def _ask(self, keeper: KeyKeeper) -> None:
        self.waits = keeper.wait(cast(Exchange, self))
        if self.waits:
            await park()
            self.answered = True

    def ask(self, keeper: KeyKeeper) -> None:
        start(self, self._ask(keeper))


class Office:
    """A keeper on a fake loop."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.loop = FakeLoop(self.clock)
        self.publisher = Publisher()
        self.publisher.clock = self.clock
        self.source = KeySource()
        self.draw = 0.5
        self.keeper = KeyKeeper(
            URL,
            self.source,
            fetch=self.publisher,
            allowed=["ES256"],
            interval=INTERVAL,
            clock=self.clock,
            draw=lambda: self.draw,
        )

    @property
    def kids(self) -> list[str | None]:
        return [key.kid for key in self.source.keys.keys]

    def begin(self) -> None:
        self.loop.perform(self.keeper.start)

    def wait(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    def fetched(self) -> list[float]:
        """When the keys were fetched, since the beginning."""
        return [at - 1000.0 for at in self.publisher.fetches]

    def guest(self) -> Guest:
        guest = Guest()
        self.loop.perform(lambda: guest.ask(self.keeper))
        return guest


@pytest.fixture
def office() -> Iterator[Office]:
    office = Office()
    yield office
    office.loop.shut()
    assert office.loop.mishaps == []


# In the background.


def test_keys_are_fetched_at_the_start_and_then_regularly(office: Office) -> None:
    office.begin()
    assert office.kids == ["one"]
    office.publisher.document = key_set(ONE, TWO)
    office.wait(INTERVAL - 1)
    assert office.kids == ["one"]
    office.wait(2)
    assert office.kids == ["one", "two"]
    assert office.fetched() == [0, INTERVAL]
    assert repr(office.keeper) == "<KeyKeeper https://login.test/keys: 2 keys>"


@pytest.mark.parametrize(("draw", "share"), [(0.0, 0.9), (0.5, 1.0), (0.999, 1.1)])
def test_fetches_are_spread_by_a_tenth(office: Office, draw: float, share: float) -> None:
    office.draw = draw
    office.begin()
    office.wait(INTERVAL * 1.2)
    assert office.fetched()[1] == pytest.approx(INTERVAL * share, rel=0.001)


@pytest.mark.parametrize(
    "trouble",
    [OSError("no answer"), b"not JSON", b'{"keys": []}', b"{}", b"[]"],
    ids=["unreachable", "not JSON", "no keys", "no set", "a list"],
)
def test_a_failed_fetch_keeps_the_old_keys(
    office: Office, trouble: bytes | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    office.begin()
    before = office.source.keys
    office.publisher.document = trouble
    with caplog.at_level(logging.WARNING, "gateway"):
        office.wait(INTERVAL + 0.5)
    assert office.source.keys is before
    assert (office.keeper.fetches, office.keeper.failures) == (2, 1)
    assert "could not be fetched, the old ones stay" in caplog.text


def test_a_failed_fetch_is_tried_again_sooner_and_then_less_and_less_often(office: Office) -> None:
    def pauses() -> list[float]:
        return [b - a for a, b in pairwise(office.fetched())]

    office.publisher.document = OSError("down")
    office.begin()
    office.wait(1500)
    doubling: list[float] = [1, 2, 4, 8, 16, 32, 64, 128, 256, *[MAX_RETRY] * 3]
    assert pauses() == doubling
    office.publisher.document = key_set(ONE)
    office.wait(MAX_RETRY)
    assert office.kids == ["one"]
    # After a success, patience begins anew.
    office.publisher.document = OSError("down again")
    office.wait(INTERVAL)
    assert pauses()[:17] == [*doubling, MAX_RETRY, INTERVAL, 1, 2, 4]


def test_a_removed_key_is_forgotten_with_the_next_fetch(office: Office) -> None:
    office.publisher.document = key_set(ONE, TWO)
    office.begin()
    office.publisher.document = key_set(TWO)
    office.wait(INTERVAL + 1)
    assert office.kids == ["two"]


def test_keys_of_no_use_are_named_in_the_log(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.publisher.document = key_set(ONE, Issuer("RS256", kid="another"))
    with caplog.at_level(logging.WARNING, "gateway"):
        office.begin()
    assert office.kids == ["one"]
    assert "left out key 2: its kind fits none of the allowed algorithms" in caplog.text


def test_a_stopped_keeper_fetches_no_more(office: Office) -> None:
    office.begin()
    office.loop.perform(office.keeper.stop)
    office.wait(3 * INTERVAL)
    assert office.fetched() == [0]


def test_stopping_before_the_start_is_no_error(office: Office) -> None:
    office.keeper.stop()


def test_an_unforeseen_error_does_not_end_the_keeping(office: Office) -> None:
    office.publisher.document = RuntimeError("unforeseen")
    office.begin()
    office.publisher.document = key_set(ONE)
    office.wait(INTERVAL)
    assert office.kids == ["one"]


# Asked for newer keys.


def test_many_who_ask_share_one_fetch(office: Office) -> None:
    office.begin()
    office.wait(REFETCH_INTERVAL)
    office.publisher.slow = True
    guests = [office.guest() for _ in range(5)]
    assert all(guest.waits and not guest.answered for guest in guests)
    assert len(office.fetched()) == 2
    office.loop.perform(office.publisher.deliver)
    assert all(guest.answered for guest in guests)


def test_who_asks_during_a_regular_fetch_shares_it(office: Office) -> None:
    office.publisher.slow = True
    office.begin()
    guest = office.guest()
    assert guest.waits
    assert len(office.fetched()) == 1
    office.loop.perform(office.publisher.deliver)
    assert (guest.answered, office.kids) == (True, ["one"])


def test_who_asks_too_soon_after_a_fetch_is_not_kept_waiting(office: Office) -> None:
    office.begin()
    office.wait(REFETCH_INTERVAL - 1)
    assert not office.guest().waits
    office.wait(1)
    assert office.guest().waits
    assert office.fetched() == [0, REFETCH_INTERVAL]
    assert not office.guest().waits


def test_a_flood_of_unknown_keys_costs_two_fetches_a_minute(office: Office) -> None:
    office.begin()
    for _ in range(610):
        office.wait(0.1)
        office.guest()
    assert len(office.fetched()) == 1 + 2


def test_who_waits_is_told_of_a_failure_too(office: Office) -> None:
    office.begin()
    office.wait(REFETCH_INTERVAL)
    office.publisher.document = OSError("down")
    assert office.guest().answered
    assert office.kids == ["one"]


def test_who_leaves_is_not_called(office: Office) -> None:
    office.begin()
    office.wait(REFETCH_INTERVAL)
    office.publisher.slow = True
    guests = [office.guest() for _ in range(3)]
    gone = guests[1]
    assert gone.custody is office.keeper
    office.keeper.abandon(cast(Exchange, gone))
    with pytest.raises(KeyboardInterrupt):
        interrupt(gone, KeyboardInterrupt())
    office.loop.perform(office.publisher.deliver)
    assert [guest.answered for guest in guests] == [True, False, True]


def test_a_walk_that_fails_does_not_keep_the_others_waiting(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.begin()
    office.wait(REFETCH_INTERVAL)
    office.publisher.slow = True
    failing, other = office.guest(), office.guest()

    async def fail() -> None:
        await park()
        raise RuntimeError("unforeseen")

    assert failing.walk is not None
    failing.walk.close()
    start(failing, fail())
    office.loop.perform(office.publisher.deliver)
    assert other.answered
    assert "request of-a-guest failed at its end" in caplog.text


def test_a_walk_may_be_ended_by_one_that_goes_on_before_it(office: Office) -> None:
    office.begin()
    office.wait(REFETCH_INTERVAL)
    office.publisher.slow = True
    first, second = office.guest(), office.guest()

    async def end_the_other() -> None:
        await park()
        office.keeper.abandon(cast(Exchange, second))
        with pytest.raises(KeyboardInterrupt):
            interrupt(second, KeyboardInterrupt())

    assert first.walk is not None
    first.walk.close()
    start(first, end_the_other())
    office.loop.perform(office.publisher.deliver)
    assert not second.answered


# Another configuration has no use for it.


def test_a_retired_keeper_fetches_nothing_more(office: Office) -> None:
    office.begin()
    office.loop.perform(office.keeper.retire)
    office.wait(3 * INTERVAL)
    assert office.fetched() == [0.0]


@pytest.mark.parametrize("asked", [True, False], ids=["for an unknown key", "regularly"])
def test_what_is_being_fetched_is_still_for_those_who_wait(office: Office, asked: bool) -> None:
    office.begin()
    office.publisher.slow = True
    office.wait(REFETCH_INTERVAL if asked else INTERVAL)
    guest = office.guest()
    assert guest.waits
    office.publisher.document = key_set(ONE, TWO)
    office.loop.perform(office.keeper.retire)
    office.loop.perform(office.publisher.deliver)
    assert guest.answered
    assert office.kids == ["one", "two"]
    office.wait(3 * INTERVAL)
    assert len(office.fetched()) == 2


# Whole requests.


class Counter(Script):
    """A script whose endpoint takes keys and tokens."""

    def __init__(self) -> None:
        self.source = KeySource()
        self.publisher = Publisher()
        clock = self.publisher.clock = FakeClock()
        self.keeper = KeyKeeper(
            URL,
            self.source,
            fetch=self.publisher,
            allowed=["ES256"],
            interval=INTERVAL,
            clock=clock,
            draw=lambda: 0.5,
        )
        rules = TokenRules(frozenset(["ES256"]), ISSUER, frozenset([AUDIENCE]))
        gate = Gate(KeyRing({"primary": KEY}), rules, self.source)
        super().__init__(Setup(gate=gate, keeper=self.keeper), clock)
        self.loop.perform(self.keeper.start)
        self.wait(REFETCH_INTERVAL)
        self.publisher.slow = True

    def token(self, issuer: Issuer) -> str:
        now = int(WALL + self.clock.now)
        return issuer.token(claims(iat=now, exp=now + 300))


def test_a_known_key_waits_for_nobody() -> None:
    with Counter() as script:
        client = script.client()
        client.says(request(key=script.token(ONE)))
        script.container().answers()
        assert client.hears().status == 200
        assert script.records[0].principal == "client-1"
        assert script.keeper.fetches == 1


def test_a_new_key_is_fetched_while_its_first_request_waits() -> None:
    with Counter() as script:
        script.publisher.document = key_set(ONE, TWO)
        client, other = script.client(), script.client()
        client.says(request(key=script.token(TWO)))
        other.says(request(key=KEY))
        script.container().answers(b"meanwhile")
        assert other.hears().text == "meanwhile"
        assert client.hears_nothing()
        script.loop.perform(script.publisher.deliver)
        script.containers[0].answers(b"served")
        assert client.hears().text == "served"
        assert script.endpoint.gate.outcomes["token"] == 1


@pytest.mark.parametrize("document", [key_set(ONE), OSError("down")], ids=["unchanged", "down"])
def test_an_unknown_key_is_refused_when_it_stays_unknown(document: bytes | Exception) -> None:
    with Counter() as script:
        script.publisher.document = document
        client = script.client()
        client.says(request(key=script.token(TWO)))
        script.loop.perform(script.publisher.deliver)
        assert client.hears().status == 401
        client.says(request(key=script.token(TWO)))
        assert client.hears().status == 401  # at once: nothing can have changed
        assert [record.fault for record in script.records] == [Fault.BAD_CREDENTIALS] * 2
        assert script.endpoint.gate.outcomes["wrong_token"] == 2
        assert script.keeper.fetches == 2


@pytest.mark.parametrize("left", ["its client left", "its time is up"])
def test_a_request_that_waits_for_keys_can_end_before_they_come(left: str) -> None:
    with Counter() as script:
        client = script.client()
        client.says(request(key=script.token(TWO)))
        if left == "its client left":
            client.breaks()
        else:
            script.wait(61)
        expected = Fault.CLIENT_GONE if left == "its client left" else Fault.DEADLINE
        assert [record.fault for record in script.records] == [expected]
        script.loop.perform(script.publisher.deliver)
        assert len(script.records) == 1


def test_a_body_that_comes_while_the_keys_are_fetched_is_not_lost() -> None:
    with Counter() as script:
        script.publisher.document = key_set(ONE, TWO)
        client = script.client()
        sent = request(key=script.token(TWO))
        client.says(sent[:-5], sent[-5:])
        script.loop.perform(script.publisher.deliver)
        assert script.container().hears().body == b'{"data": [[1, 2]]}'


def test_a_body_whose_rest_comes_after_the_keys_is_not_lost_either() -> None:
    with Counter() as script:
        script.publisher.document = key_set(ONE, TWO)
        client = script.client()
        sent = request(key=script.token(TWO))
        client.says(sent[:-5], sent[-5:-1])
        script.loop.perform(script.publisher.deliver)
        client.says(sent[-1:])
        assert script.container().hears().body == b'{"data": [[1, 2]]}'
