"""Requests that wait for a container travel together, and no client can tell."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.confidence import State
from gateway.core.cors import Cors, CorsRules
from gateway.core.dialects import MANAGED
from gateway.core.faults import Fault
from gateway.engine.batching import BatchRules
from gateway.engine.exchange import Exchange
from tests.support.batches import BOTH, GOOD, PATH, Asker, Call, Story, merging
from tests.support.gateways import KEY, SECOND_KEY
from tests.support.raw import request
from tests.support.script import Setup

JSON = "application/json"


def bodies(story: Story) -> list[bytes]:
    """What the container is asked, until nothing more is; every row is answered by its sum."""
    asked = []
    while (call := story.next_call()) is not None:
        asked.append(call.body)
        call.scores()
    return asked


# When.


def test_a_free_place_is_used_at_once_by_the_original_bytes() -> None:
    with Story() as story:
        asker = story.say(b' {"data": [[1.50, 2e0]] } ')
        call = story.call()
        assert call.body == b' {"data": [[1.50, 2e0]] } '
        assert "batch" not in (call.seen.header("x-request-id") or "")
        call.answers([3])
        assert asker.hears() == "[3]"


def test_one_that_waits_alone_goes_by_its_original_bytes() -> None:
    with Story() as story:
        story.occupy()
        asker = story.say(b' {"data":[[1.50, 2e0]]}')
        story.release()
        assert bodies(story) == [b' {"data":[[1.50, 2e0]]}']
        assert asker.hears() == "[3.5]"


def at_once(story: Story, *sent: bytes) -> list[Asker]:
    """Clients whose requests can all be read in one turn of the loop."""
    askers = [Asker(story.client()) for _ in sent]

    def deliver() -> None:
        for asker, data in zip(askers, sent, strict=True):
            asker.side.transport.deliver(data)

    story.loop.perform(deliver)
    return askers


def asking(row: int) -> bytes:
    return request(PATH, b'{"data": [[%d]]}' % row, key=KEY)


def test_those_who_come_in_one_turn_of_the_loop_go_together() -> None:
    with Story() as story:
        askers = at_once(story, *map(asking, (1, 2, 3)))
        assert story.play() == [[[1], [2], [3]]]
        assert [asker.hears() for asker in askers] == ["[1]", "[2]", "[3]"]


def test_nobody_overtakes_in_the_turn_of_the_loop() -> None:
    other = request(PATH, b"x", key=KEY, headers={"Content-Type": "text/plain"})
    with Story() as story:
        one, two = at_once(story, asking(1), other)
        call = story.call()
        assert call.body == b'{"data": [[1]]}'
        call.scores()
        story.call().answers("x")
        assert (one.hears(), two.hears()) == ("[1]", '"x"')


def test_a_short_queue_is_emptied_within_the_turn_of_the_loop() -> None:
    setup = Setup(concurrency=1, max_wait=20, max_length=2, batching=BatchRules())
    with Story(setup) as story:
        askers = at_once(story, *map(asking, range(5)))
        assert story.play() == [[[0], [1]], [[2], [3]]]
        assert [asker.hears() for asker in askers[:4]] == ["[0]", "[1]", "[2]", "[3]"]
        assert askers[4].answer().status == 503


def test_those_who_wait_go_together() -> None:
    with Story() as story:
        askers, call = story.together(1, 2, 3)
        assert call.rows == [[1], [2], [3]]
        call.answers([10, 20, 30])
        assert [asker.hears() for asker in askers] == ["[10]", "[20]", "[30]"]
        assert story.next_call() is None


def test_numbers_and_texts_are_passed_on_byte_by_byte() -> None:
    rows = [b'[1.0, "\\u00e9"]', '[1e400, "é"]'.encode(), b'[0.10000000000000001, ""]']
    with Story() as story:
        story.occupy()
        askers = [story.say(b'{"data":  [%b ]}' % row) for row in rows]
        story.release()
        call = story.call()
        assert call.body.count(b"[[") == 1
        for row in rows:
            assert row in call.body
        call.answers([1, 2, 3])
        assert [asker.hears() for asker in askers] == ["[1]", "[2]", "[3]"]


def test_who_comes_while_a_batch_is_on_its_way_goes_with_the_next() -> None:
    with Story() as story:
        early, call = story.together(1, 2)
        late = [story.ask(row) for row in (3, 4)]
        assert story.next_call() is None
        call.scores()
        call = story.call()
        assert call.rows == [[3], [4]]
        call.scores()
        assert [asker.hears() for asker in (*early, *late)] == ["[1]", "[2]", "[3]", "[4]"]


@pytest.mark.parametrize("backends", [BOTH[:1], BOTH], ids=["one backend", "two"])
def test_several_batches_may_be_on_their_way(backends: Any) -> None:
    setup = Setup(concurrency=2, max_wait=20, backends=backends, batching=BatchRules(max_rows=2))
    with Story(setup) as story:
        places = story.deployment.slots.room
        story.occupy()
        askers = [story.ask(row) for row in range(2 * places)]
        for _ in range(places):
            story.release()
        calls = [story.call() for _ in range(places)]
        assert sorted(call.rows for call in calls) == [
            [[2 * n], [2 * n + 1]] for n in range(places)
        ]
        assert story.deployment.slots.busy == places
        for call in reversed(calls):
            call.scores()
        assert [asker.hears() for asker in askers] == [f"[{row}]" for row in range(2 * places)]


def test_with_batching_off_everybody_goes_alone() -> None:
    with Story(Setup(concurrency=1, max_wait=20), proved=False) as story:
        story.occupy()
        askers = [story.ask(row) for row in (1, 2)]
        story.release()
        assert bodies(story) == [b'{"data": [[1]]}', b'{"data": [[2]]}']
        assert [asker.hears() for asker in askers] == ["[1]", "[2]"]


# Who with whom.

PLAIN = b'{"data": [[1]]}'
LONG = {"x-ms-client-request-id": "i" * 101}
MODEL = {"Cookie": "a=1"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"headers": {"Content-Type": f"{JSON}; charset=utf-8"}}),
        ({}, {"headers": {"Accept": "text/plain"}}),
        ({}, {"headers": MODEL}),
        ({"headers": {"Cookie": "a=1"}}, {"headers": {"Cookie": "a=2"}}),
        ({}, {"headers": {"x-anything": "else"}}),
        ({}, {"headers": {"Accept-Encoding": "gzip"}}),
        ({}, {"headers": {"If-None-Match": '"x"'}}),
        ({}, {"path": f"{PATH}?a=1"}),
        ({"path": f"{PATH}?a=1&b=2"}, {"path": f"{PATH}?b=2&a=1"}),
        ({}, {"path": "/api/v1/service/diabetes/other"}),
        ({}, {"body": b'{"data": [[1]], "GlobalParameters": {"a": 1}}'}),
        ({}, {"body": b'{"data": [[1, 2]]}'}),
        ({}, {"body": b'{"data": [[1.0]]}'}),
        ({}, {"body": b'{"data": [["1"]]}'}),
        ({}, {"body": b'{"data": [[null]]}'}),
        ({}, {"body": b'{"data": [[true]]}'}),
        ({}, {"body": b'{"data": [{"a": 1}]}'}),
        ({}, {"body": b'{"data": [1]}'}),
        ({}, {"body": b'{"data": [[9223372036854775808]]}'}),
        ({}, {"body": b'{"data": []}'}),
        ({}, {"body": b'{"data": [[1]], "data": [[2]]}'}),
        ({}, {"headers": {"Content-Type": "text/plain"}}),
        ({}, {"headers": {"Content-Encoding": "gzip"}}),
        ({"headers": LONG}, {"headers": LONG}),
        ({}, {"headers": {"x-request-id": "i" * 101}}),
        (
            {"body": b'{"data": [[1]], "GlobalParameters": {"a": 1}}'},
            {"body": b'{"data": [[1]], "GlobalParameters": {"a": 2}}'},
        ),
        (
            {"body": b'{"data": [{"a": 1, "b": 2}]}'},
            {"body": b'{"data": [{"b": 1, "a": 2}]}'},
        ),
    ],
    ids=str,
)
def test_who_can_be_told_apart_never_shares_a_call(one: Any, other: Any) -> None:
    with Story(proved=False) as story:
        for _ in "12":  # at the proof, and after it
            story.occupy()
            askers = [story.say(**{"body": PLAIN, **kind}) for kind in (one, other)]
            story.release()
            asked = []
            while (call := story.next_call()) is not None:
                asked.append(call.body)
                call.answers([0] * max(1, call.body.count(b"[") - 1))
            assert asked == [kind.get("body", PLAIN) for kind in (one, other)]
            assert all(asker.answer().status in (200, 400) for asker in askers)
        assert story.batcher.tally.requests.total == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"User-Agent": "a/1"}, {"User-Agent": "b/2"}),
        ({"User-Agent": "a/1"}, {}),
        ({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, {"tracestate": "x=1"}),
        ({"x-request-id": "one"}, {"x-request-id": "two"}),
        ({"x-ms-client-request-id": "one"}, {"x-ms-request-id": "two"}),
        ({"x-correlation-id": "one"}, {"Referer": "https://app.test/"}),
        ({"Sec-Fetch-Mode": "cors"}, {"Sec-Fetch-Site": "cross-site"}),
        ({"Origin": "https://app.test"}, {"Origin": "https://app.test", "DNT": "1"}),
        ({"Connection": "close"}, {"Connection": "keep-alive"}),
        ({"ACCEPT": "a", "x-b": "c"}, {"X-B": "c", "accept": " a "}),
        ({"Authorization": f"Bearer {KEY}"}, {"Authorization": f"Bearer {SECOND_KEY}"}),
        ({"X-Forwarded-For": "1.2.3.4"}, {"X-Forwarded-For": "5.6.7.8"}),
    ],
    ids=str,
)
def test_who_asks_and_by_what_name_makes_no_difference(one: Any, other: Any) -> None:
    with Story(proved=False) as story:
        for expected in (3, 1):
            story.occupy()
            askers = [story.say(PLAIN, headers=each) for each in (one, other)]
            story.release()
            asked = bodies(story)
            assert (len(asked), asked[0]) == (expected, b'{"data": [[1],[1]]}')
            assert [asker.hears() for asker in askers] == ["[1]", "[1]"]


def test_pages_are_kept_apart_where_the_container_tells_them_apart() -> None:
    """Without rules of the gateway's own, the container says which page may read its answer."""
    origins = ["https://one.test", "https://one.test", "https://two.test"]
    with Story(proved=False) as story:
        for _ in "12":  # at the proof, and after it
            story.occupy()
            askers = [story.ask(n, headers={"Origin": page}) for n, page in enumerate(origins)]
            story.release()
            while (call := story.next_call()) is not None:
                page = call.seen.header("origin")
                allowed = f"Access-Control-Allow-Origin: {page}\r\n"
                call.answers([sum(row) for row in call.rows], GOOD + allowed)
            heard = [asker.answer().header("access-control-allow-origin") for asker in askers]
            assert heard == origins
        assert story.batcher.tally.requests.total == 4


def test_named_headers_are_the_only_ones_that_count() -> None:
    with Story(merging(significant_headers=("X-Model",)), proved=False) as story:
        story.prove(headers={"X-Model": "a"})
        for others, calls in (
            ([{"X-Model": "a", "Accept": "x"}, {"X-Model": "a"}], 1),
            ([{"X-Model": "a"}, {"X-Model": "b"}], 2),
            ([{"X-Model": "a"}, {"X-Model": "a", "Content-Type": f"{JSON};a=b"}], 2),
        ):
            story.occupy()
            for headers in others:
                story.say(PLAIN, headers=headers)
            story.release()
            assert len(bodies(story)) == calls


def test_the_merged_call_says_what_all_of_them_say() -> None:
    with Story(proved=False) as story:
        headers = {"Accept": "a/b", "X-Own": "c", "Cookie": "d=e"}
        path = f"{PATH}?verbose=true"
        story.prove(headers=headers, path=path)
        story.occupy()
        for name in "xy":
            story.say(PLAIN, headers={**headers, "User-Agent": name}, path=path)
        story.release()
        seen = story.call().seen
        assert seen.line == "POST /score?verbose=true HTTP/1.1"
        assert seen.header("host") == "10.0.0.5:5001"
        assert seen.header("accept") == "a/b"
        assert seen.header("x-own") == "c"
        assert seen.header("cookie") == "d=e"
        assert seen.header("content-type") == JSON
        assert seen.header("user-agent") is None
        assert seen.header("authorization") is None
        assert (seen.header("x-request-id") or "").startswith("batch-")
        assert seen.header("content-length") == str(len(seen.body))


@pytest.mark.parametrize("isolate", [False, True])
def test_principals_share_calls_unless_that_is_forbidden(isolate: bool) -> None:
    with Story(merging(isolate_principals=isolate)) as story:
        story.occupy()
        keys = [KEY, SECOND_KEY, KEY, SECOND_KEY]
        askers = [story.ask(row, key=key) for row, key in enumerate(keys)]
        story.release()
        if isolate:
            assert story.play() == [[[0], [2]], [[1], [3]]]
        else:
            assert story.play() == [[[0], [1], [2], [3]]]
        assert [asker.hears() for asker in askers] == ["[0]", "[1]", "[2]", "[3]"]


def test_credentials_that_are_passed_on_keep_callers_apart() -> None:
    """The script may look at them."""
    setup = Setup(concurrency=1, max_wait=20, forward_credentials=True, batching=BatchRules())
    with Story(setup, proved=False) as story:
        story.prove()
        story.occupy()
        keys = [KEY, SECOND_KEY, KEY]
        askers = [story.ask(row, key=key) for row, key in enumerate(keys)]
        story.release()
        call = story.call()
        assert call.rows == [[0], [2]]
        assert call.seen.header("authorization") == f"Bearer {KEY}"
        call.scores()
        call = story.call()
        assert call.rows == [[1]]
        assert call.seen.header("authorization") == f"Bearer {SECOND_KEY}"
        call.scores()
        assert [asker.hears() for asker in askers] == ["[0]", "[1]", "[2]"]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (("instances",), '{"instances": [[%d]]}'),
        (("Inputs", "input1"), '{"Inputs": {"input1": [[%d]]}, "GlobalParameters": 1.0}'),
        (("inputs",), '{"method": "predict", "inputs": [[%d]]}'),
    ],
)
def test_rows_are_where_the_configuration_says(field: tuple[str, ...], text: str) -> None:
    with Story(merging(field=field), proved=False) as story:
        story.occupy()
        askers = [story.say((text % row).encode()) for row in (1, 2)]
        story.release()
        call = story.call()
        assert call.body == text.replace("[%d]", "[1],[2]").encode()
        call.answers({"Results": [10, 20]})
        for row in (1, 2):
            call = story.call()
            assert call.body == (text % row).encode()
            call.answers({"Results": [10 * row]})
        assert [asker.hears() for asker in askers] == ['{"Results": [10]}', '{"Results": [20]}']
        assert story.state is State.ON


# What each hears.


def test_everybody_gets_its_own_envelope() -> None:
    origins = ["https://one.test", "https://two.test"]
    with Story(Setup(concurrency=1, cors=Cors(CorsRules(origins)), batching=BatchRules())) as story:
        story.occupy()
        kinds: list[dict[str, Any]] = [
            {"headers": {"Origin": origins[0], "x-request-id": "mine"}},
            {"headers": {"Origin": origins[1], "x-ms-client-request-id": "other"}},
            {"headers": {"x-ms-request-id": "third", "Connection": "close"}},
            {"headers": {}, "version": "HTTP/1.0"},
            {"headers": {"Connection": "keep-alive"}, "version": "HTTP/1.0"},
        ]
        askers = [story.ask(row, **kind) for row, kind in enumerate(kinds)]
        story.release()
        call = story.call()
        assert len(call.rows) == 5
        call.answers([0, 11, 222, 3, 4], GOOD + "x-ms-run-fn-exec-ms: 1.5\r\nX-Model: m\r\n")
        answers = [asker.answer() for asker in askers]
        for answer in answers:
            assert answer.header("x-model") == "m"
            assert answer.header("x-ms-run-function-failed") == "False"
            assert answer.header("x-ms-run-fn-exec-ms") == "1.5"
            assert answer.header("content-type") == JSON
            assert answer.header("content-length") == str(len(answer.body))
            assert answer.header("x-gateway-batch") is None
        assert [answer.text for answer in answers] == ["[0]", "[11]", "[222]", "[3]", "[4]"]
        ids = [answer.header("x-ms-request-id") for answer in answers]
        assert len(set(ids)) == 5
        assert answers[0].header("x-request-id") == "mine"
        assert answers[1].header("x-ms-client-request-id") == "other"
        assert answers[2].header("x-ms-client-request-id") == "third"
        allowed = [answer.header("access-control-allow-origin") for answer in answers]
        assert allowed == [*origins, None, None, None]
        assert [asker.side.fate for asker in askers] == ["open", "open", "shut", "shut", "open"]
        assert answers[2].header("connection") == "close"
        assert answers[4].header("connection") == "keep-alive"


def test_a_merged_answer_looks_like_a_single_one() -> None:
    """But for identifiers and lengths, the heads are the same."""

    def head(asker: Asker) -> list[tuple[str, str]]:
        ours = ("x-ms-request-id", "x-request-id")
        return [field for field in asker.answer().headers if field[0] not in ours]

    lines = GOOD + "Date: now\r\nServer: gunicorn\r\nX-Own: a\r\nx-ms-run-fn-exec-ms: 1\r\n"
    for dialect in (Setup().dialect, MANAGED):
        setup = Setup(concurrency=1, dialect=dialect, batching=BatchRules())
        with Story(setup) as story:
            alone = story.ask(7)
            story.call().answers([7], lines)
            askers, call = story.together(7, 7)
            call.answers([7, 7], lines)
            assert head(askers[0]) == head(askers[1]) == head(alone)


def test_the_debug_header_names_the_batch() -> None:
    with Story(merging(debug_header=True)) as story:
        story.occupy()
        askers = [story.say(b'{"data": [[1], [2]]}'), story.ask(3)]
        story.release()
        call = story.call()
        name = call.seen.header("x-request-id")
        call.scores()
        for asker in askers:
            assert asker.answer().header("x-gateway-batch") == f"{name}; requests=2; rows=3"
        alone = story.ask(1)
        story.call().scores()
        assert alone.answer().header("x-gateway-batch") is None


def test_a_connection_is_kept_for_the_next_request() -> None:
    with Story() as story:
        askers, call = story.together(1, 2)
        call.scores()
        for asker in askers:
            assert asker.hears()
        story.occupy()
        for row, asker in enumerate(askers, 3):
            asker.side.says(request(PATH, b'{"data": [[%d]]}' % row, key=KEY))
        story.release()
        assert story.play() == [[[3], [4]]]
        assert [asker.hears() for asker in askers] == ["[3]", "[4]"]


def test_requests_that_were_sent_in_one_go_are_answered_in_turn() -> None:
    with Story() as story:
        story.occupy()
        data = [request(PATH, b'{"data": [[%d]]}' % row, key=KEY) for row in (1, 2, 3)]
        asker = story.client()
        asker.says(b"".join(data))
        other = story.ask(9)
        story.release()
        story.play()
        assert [asker.hears().text for _ in data] == ["[1]", "[2]", "[3]"]
        assert other.hears() == "[9]"


# The queue.


def test_a_full_queue_refuses_as_ever() -> None:
    setup = Setup(concurrency=1, max_wait=20, max_length=3, batching=BatchRules())
    with Story(setup) as story:
        story.occupy()
        askers = [story.ask(row) for row in range(5)]
        for asker in askers[3:]:
            answer = asker.answer()
            assert answer.status == 503
            assert answer.text == "Too many requests for service diabetes (overloaded)"
        story.release()
        assert story.play() == [[[0], [1], [2]]]
        assert [asker.hears() for asker in askers[:3]] == ["[0]", "[1]", "[2]"]


def test_who_waits_too_long_is_refused_as_ever() -> None:
    with Story(merging(1.0)) as story:
        story.occupy()
        early = story.ask(1)
        story.wait(0.5)
        late = story.ask(2)
        story.wait(0.6)
        answer = early.answer()
        assert (answer.status, story.records[-1].fault) == (503, Fault.OVERLOADED)
        story.release()
        assert story.play() == [[[2]]]
        assert late.hears() == "[2]"


def test_no_kind_of_requests_is_kept_waiting_by_others() -> None:
    """Fifty kinds in turn, again and again: whoever came first is served first."""
    setup = Setup(concurrency=1, max_wait=60, connections=300, batching=BatchRules())
    with Story(setup, proved=False) as story:
        story.occupy()
        askers = []
        for turn in range(4):
            for kind in range(50):
                askers.append(story.ask(turn, headers={"x-kind": str(kind)}))
                story.wait(0.001)
        story.release()
        firsts = []
        while (call := story.next_call()) is not None:
            firsts.append(call.seen.header("x-kind"))
            call.scores()
        order = list(dict.fromkeys(firsts))
        assert order == [str(kind) for kind in range(50)]
        assert all(asker.hears() for asker in askers)


def test_one_of_a_rare_kind_overtakes_nobody_and_is_overtaken_by_riders_only() -> None:
    with Story(merging(max_rows=4)) as story:
        story.occupy()
        askers = []
        for row in range(6):
            askers.append(story.ask(row))
            story.wait(0.001)
        rare = story.ask("rare")
        story.wait(0.001)
        askers.extend(story.ask(row) for row in range(6, 9))
        story.release()
        calls: list[Any] = []
        while (found := story.next_call()) is not None:
            calls.append([row for (row,) in found.rows])
            found.answers([row for (row,) in found.rows])
        assert calls == [[0, 1, 2, 3], [4, 5, 6, 7], ["rare"], [8]]
        assert rare.hears() == '["rare"]'
        assert [asker.hears() for asker in askers] == [f"[{row}]" for row in range(9)]


# What is noted.


def test_merged_requests_are_recorded_like_others() -> None:
    seen: list[tuple[str, int, float, float]] = []

    def note(x: Exchange) -> None:
        seen.append((x.upstream_name, x.attempts, x.queue_seconds, x.upstream_seconds))

    with Story() as story:
        story.recorder.then = note
        story.occupy()
        story.ask(1)
        story.wait(0.25)
        story.ask(2)
        story.wait(0.25)
        story.release()
        call = story.call()
        story.wait(0.125)
        del seen[:]
        call.scores()
        expected = [("10.0.0.5:5001", 1, 0.5, 0.125), ("10.0.0.5:5001", 1, 0.25, 0.125)]
        assert seen == expected
        records = story.records[-2:]
        assert [record.principal for record in records] == ["primary", "primary"]
        assert [record.sent for record in records] == [3, 3]
        assert [record.status for record in records] == [200, 200]


def test_batches_are_counted() -> None:
    with Story(merging(max_rows=3)) as story:
        tally = story.batcher.tally
        before = (tally.rows.total, tally.requests.total)
        full = tally.flushes["full"]
        story.occupy()
        story.say(b'{"data": [[1], [2]]}')
        for row in (3, 4, 5):
            story.ask(row)
        story.release()
        assert [len(rows) for rows in story.play()] == [3, 2]
        assert tally.rows.total - before[0] == 5
        assert tally.requests.total - before[1] == 4
        assert tally.flushes["full"] - full == 1
        assert tally.isolations == 0
        assert story.deployment.tally.codes == {200: story.requests}


def test_waiting_is_measured_once_for_each() -> None:
    with Story() as story:
        wait = story.deployment.slots.tally.wait
        before = sum(wait.counts)
        _, call = story.together(1, 2, 3)
        call.scores()
        assert sum(wait.counts) - before == 3


def test_a_batch_describes_itself() -> None:
    with Story() as story:
        _, call = story.together(1, 2)
        protocol: Any = call.container.transport.protocol
        assert repr(protocol._caller).endswith(", 2 of 2 present>")
        assert repr(story.family) == "<Family b'POST /score HTTP/1.1\\r\\n', on>"
        assert repr(story.batcher) == "<Batcher of blue, 32 rows at most>"
        call.scores()


def test_something_wrong_inside_is_nobody_elses_trouble(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Story() as story:
        story.may_fail = True
        askers, call = story.together(1, 2)

        def fail(*_: object) -> None:
            raise RuntimeError("unforeseen")

        monkeypatch.setattr("gateway.engine.batches.split_answer", fail)
        call.scores()
        for asker in askers:
            answer = asker.answer()
            assert (answer.status, answer.text) == (
                500,
                "The gateway failed to handle this request",
            )
        assert "failed inside the gateway" in caplog.text
        monkeypatch.undo()
        askers, call = story.together(1, 2)
        call.scores()
        assert [asker.hears() for asker in askers] == ["[1]", "[2]"]


def test_what_fails_at_one_callers_end_is_not_the_others_trouble(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(call: Call) -> None:
        call.scores()

    for act in (answer, Call.breaks):
        with Story() as story:
            story.may_fail = True
            askers, call = story.together(1, 2, 3)

            def fail(_: Exchange) -> None:
                story.recorder.then = None
                raise RuntimeError("unforeseen")

            story.recorder.then = fail
            act(call)
            assert "failed at its end" in caplog.text
            for row, asker in enumerate(askers[1:], 2):
                heard = asker.answer()
                assert heard.status == 502 or heard.text == f"[{row}]"
            del askers[0]
