"""The clients of ``tests.support.traffic`` notice what a server does to them.

Everything that the other lifecycle tests say is said by these clients, so here they meet servers
that do wrong, and have to say what exactly.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.backends import Behaviour, FakeBackend, Link, Seen
from tests.support.containers import free_port
from tests.support.gateways import GatewayProcess, wait_until
from tests.support.hashing import HashingBackend, answer_to
from tests.support.questions import Scoring
from tests.support.scrapes import Scraper, parse, total
from tests.support.traffic import (
    BROKEN,
    RIGHT,
    SILENT,
    UNANSWERED,
    UNCONNECTED,
    WRONG,
    Account,
    Traffic,
)


def right_answer(seen: Seen, more: str = "") -> bytes:
    """What a gateway with a deployment ``blue`` would answer."""
    head = (
        "HTTP/1.1 200 OK\r\nazureml-model-deployment: blue\r\n"
        f"x-ms-client-request-id: {seen.header('x-ms-client-request-id')}\r\n{more}"
    )
    return head.encode() + answer_to("/blue/score", seen.body)


def honest(link: Link) -> None:
    while (seen := link.read_request()) is not None:
        link.send(right_answer(seen))


def sometimes(wrong: Callable[[Link, Seen], bool]) -> Behaviour:
    """Honest, but every tenth request meets ``wrong``, which says whether to go on."""
    count = itertools.count(1)

    def behave(link: Link) -> None:
        while (seen := link.read_request()) is not None:
            if next(count) % 10:
                link.send(right_answer(seen))
            elif not wrong(link, seen):
                return

    return behave


def says(change: Callable[[Seen], bytes], goes_on: bool = True) -> Behaviour:
    def wrong(link: Link, seen: Seen) -> bool:
        link.send(change(seen))
        return goes_on

    return sometimes(wrong)


def foreign(seen: Seen) -> bytes:
    """The right answer to somebody else's rows, of the same length."""
    rows = [[row[0] + 1, row[1]] for row in json.loads(seen.body)["data"]]
    return right_answer(Seen(seen.head, json.dumps({"data": rows}).encode(), 0))


def renamed(seen: Seen) -> bytes:
    return re.sub(rb"request-id: (\S+)", rb"request-id: \1x", right_answer(seen))


def other_deployment(seen: Seen) -> bytes:
    return right_answer(seen).replace(b"deployment: blue", b"deployment: green")


def resets(link: Link, seen: Seen) -> bool:
    link.reset()
    return False


WRONGS = {
    "rows": (says(foreign), WRONG),
    "identifier": (says(renamed), WRONG),
    "deployment": (says(other_deployment), WRONG),
    "no-http": (says(lambda seen: b"HTTP/2 yes\r\n\r\n", goes_on=False), WRONG),
    "twice": (says(lambda seen: right_answer(seen) * 2), WRONG),
    "status": (
        says(lambda seen: b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"),
        "status 503",
    ),
    "cut": (says(lambda seen: right_answer(seen)[:-1], goes_on=False), BROKEN),
    "closed": (says(lambda seen: b"", goes_on=False), UNANSWERED),
    "reset": (sometimes(resets), UNANSWERED),
    "nothing": (says(lambda seen: b""), SILENT),
}


def ask(
    address: tuple[str, int], *, fresh: int = 1, pause: float = 0.002, patience: float = 10.0
) -> Account:
    clients = Traffic(address, Scoring(), kept=4, fresh=fresh, pause=pause, patience=patience)
    with clients as traffic:
        wait_until(lambda: traffic.account.fates.total() >= 200, 20, "200 requests")
    return traffic.account


@pytest.mark.parametrize("case", WRONGS)
def test_clients_notice_what_is_wrong(case: str) -> None:
    behaviour, fate = WRONGS[case]
    with FakeBackend(behaviour) as server:
        # An answer sent twice is noticed where another request is sent on that connection.
        fresh = 0 if case == "twice" else 1
        patience = 0.3 if fate == SILENT else 10
        account = ask(("127.0.0.1", server.port), fresh=fresh, patience=patience)
    assert set(account.fates) == {RIGHT, fate}, str(account)
    assert account.fates[fate] >= account.fates.total() // 20
    with pytest.raises(AssertionError, match=fate):
        account.check()


def test_a_connection_that_is_closed_before_anything_is_sent_is_no_mishap() -> None:
    def behave(link: Link) -> None:
        if (seen := link.read_request()) is not None:
            link.send(right_answer(seen))

    with FakeBackend(behave) as server:
        # Long enough for the server to close, which it does after the client has its answer.
        account = ask(("127.0.0.1", server.port), pause=0.03)
    assert account.found_closed > 100
    assert account.lost <= account.fates.total() // 20, "closed as it was sent is one, all the same"


def test_nobody_listens() -> None:
    account = ask(("127.0.0.1", free_port()))
    assert set(account.fates) == {UNCONNECTED}
    with pytest.raises(AssertionError, match="refused"):
        account.check()


def test_an_honest_server_is_believed() -> None:
    with FakeBackend(honest) as server:
        account = ask(("127.0.0.1", server.port))
        account.check(200)
        assert account.answers == {("diabetes", "blue", 200): len(server.seen)}
        assert account.connections == server.connections > 4


def test_the_scraper_notices_a_counter_that_goes_backwards() -> None:
    scraper = Scraper(None)  # type: ignore[arg-type]
    text = '# TYPE a_total counter\na_total{{x="1"}} {}\n# TYPE b gauge\nb {}\n'
    for first, second in ((5, 9), (6, 2)):
        scraper._look(*parse(text.format(first, second)))
    scraper._look(*parse("# TYPE a_total counter\n"))
    assert scraper.complaints == []
    scraper._look(*parse(text.format(5, 1)))
    assert len(scraper.complaints) == 1
    assert total(scraper.latest, "a_total", x="1") == 5


def test_metrics_are_the_clients_own_count(tmp_path: Path) -> None:
    text = """
listen: 127.0.0.1:0
admin: 127.0.0.1:0
access_log: off
endpoints:
  diabetes:
    auth: {{keys: {{primary: {{env: TEST_KEY}}}}}}
    traffic: {{green: 30}}
    deployments:
      blue: {{backends: ["{0}/blue"], concurrency: 64}}
      green: {{backends: ["{0}/green"], concurrency: 64}}
"""
    with (
        HashingBackend() as backend,
        GatewayProcess(text.format(backend.url), tmp_path) as gateway,
        Scraper(gateway) as scraper,
        Traffic(gateway.address, Scoring()) as traffic,
    ):
        traffic.more(500)
        account = traffic.stop()
        account.check()
        for deployment in ("blue", "green"):
            count = account.answers["diabetes", deployment, 200]
            metric = gateway.metric("gateway_requests_total", deployment=deployment, code="200")
            assert count == metric
        assert gateway.metric("gateway_requests_total") == account.right
    scraper.check()
