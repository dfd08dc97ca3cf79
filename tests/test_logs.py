"""The gateway's own log: one JSON line per event whatever is in it, and no flood from any place.

Time is that of the records, which the tests make up.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.logs import BURST, FloodGate, JsonFormatter, configure_logging


def record(
    message: object = "something happened",
    *args: object,
    line: int = 1,
    at: float = 1_700_000_000.25,
    level: int = logging.WARNING,
    file: str = "/gateway/engine/a.py",
    exc_info: Any = None,
) -> logging.LogRecord:
    made = logging.LogRecord("gateway", level, file, line, message, args, exc_info)
    made.created, made.msecs = at, at % 1 * 1000
    return made


def read(made: logging.LogRecord) -> dict[str, str]:
    text = JsonFormatter().format(made)
    assert "\n" not in text
    found: dict[str, str] = json.loads(text)
    return found


def test_an_event_is_one_object_with_these_members() -> None:
    assert read(record("keys of %s: now %d", "https://idp", 3, level=logging.INFO)) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "gateway",
        "message": "keys of https://idp: now 3",
    }


@pytest.mark.parametrize(
    ("at", "time"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.001, "2023-11-14T22:13:20.000Z"),
        (1_700_000_000.9999, "2023-11-14T22:13:20.999Z"),
    ],
)
def test_time_is_utc_in_milliseconds_and_never_rounds_into_the_next_second(
    at: float, time: str
) -> None:
    assert read(record(at=at))["time"] == time


@pytest.mark.parametrize(
    "message",
    [
        'a line\nand {"level": "forged"}',
        "carriage\rreturn",
        'quote " and backslash \\',
        "nul \0 and escape \x1b[31m",
        "separators \u2028 \u2029 and \x85",
        "schlüssel 键 🔑",
    ],
)
def test_t43_a_message_cannot_break_out_of_its_line(message: str) -> None:
    text = JsonFormatter().format(record(message))
    assert json.loads(text)["message"] == message
    assert not [c for c in text if ord(c) < 32]


def test_t43_percent_signs_in_a_message_without_arguments_are_left_alone() -> None:
    assert read(record("100% of %s"))["message"] == "100% of %s"


def test_t43_half_a_character_does_not_lose_the_event() -> None:
    assert "cannot write" in read(record("cannot write %s", "log-\udcff"))["message"]


def test_a_worker_says_which_one_it_is() -> None:
    found = json.loads(JsonFormatter(worker=0).format(record("ready")))
    assert (found["message"], found["worker"]) == ("ready", 0)


def test_a_traceback_stays_on_the_line() -> None:
    try:
        raise RuntimeError("inner\nfailure")
    except RuntimeError:
        found = read(record("request failed", exc_info=sys.exc_info()))
    assert found["message"] == "request failed"
    assert found["exception"].startswith("Traceback (most recent call last):\n")
    assert found["exception"].endswith("RuntimeError: inner\nfailure")


def passed(gate: FloodGate, records: list[logging.LogRecord]) -> list[str]:
    return [r.getMessage() for r in records if gate.filter(r)]


def test_t43_a_place_in_the_code_may_speak_ten_times_a_second() -> None:
    gate = FloodGate()
    assert len(passed(gate, [record() for _ in range(1000)])) == BURST == 10


def test_t43_what_was_held_back_is_counted_and_said_once() -> None:
    gate = FloodGate()
    passed(gate, [record("lost %d", n) for n in range(1000)])
    later = [record("lost %d", n, at=1_700_000_001.0) for n in (7, 8)]
    assert passed(gate, later) == ["lost 7 (and 990 more like the previous)", "lost 8"]


def test_t43_the_count_is_of_one_second_and_not_carried_on() -> None:
    gate = FloodGate()
    passed(gate, [record() for _ in range(1000)])
    passed(gate, [record(at=1_700_000_001.0) for _ in range(12)])
    (said,) = passed(gate, [record(at=1_700_000_002.0)])
    assert said == "something happened (and 2 more like the previous)"


@pytest.mark.parametrize("count", [1, 9, 10])
def test_t43_where_nothing_was_held_back_nothing_is_said(count: int) -> None:
    gate = FloodGate()
    assert len(passed(gate, [record() for _ in range(count)])) == count
    assert passed(gate, [record(at=1_700_000_001.0)]) == ["something happened"]


def test_t43_one_place_does_not_silence_another() -> None:
    gate = FloodGate()
    passed(gate, [record() for _ in range(1000)])
    others = [record(line=2), record(file="/gateway/engine/b.py")]
    assert len(passed(gate, others)) == 2


def test_t43_a_clock_that_is_set_back_silences_nobody() -> None:
    gate = FloodGate()
    passed(gate, [record() for _ in range(1000)])
    assert len(passed(gate, [record(at=1_600_000_000.0)])) == 1


def test_t43_what_was_held_back_is_said_even_if_nothing_follows() -> None:
    gate = FloodGate()
    flood = passed(gate, [record() for _ in range(1000)])
    other = passed(gate, [record("another", line=2, at=1_700_000_009.0)])
    assert any("990 more" in said for said in flood + other)


@pytest.fixture
def logging_restored() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("gateway")
    before = root.handlers[:], root.level, own.level
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    own.setLevel(before[2])


@pytest.mark.usefixtures("logging_restored")
def test_everything_goes_to_standard_error_and_only_warnings_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging()
    configure_logging()  # a second call replaces the first: no event is told twice
    logging.getLogger("gateway").debug("own debug")
    logging.getLogger("gateway").info("own info")
    logging.getLogger("aiohttp.server").info("other info")
    logging.getLogger("aiohttp.server").warning("other warning")
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(entry["logger"], entry["message"]) for entry in told] == [
        ("gateway", "own info"),
        ("aiohttp.server", "other warning"),
    ]


@pytest.mark.usefixtures("logging_restored")
def test_t43_a_flood_is_held_back_at_the_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging(logging.DEBUG)
    log = logging.getLogger("gateway")
    for _ in range(500):
        log.warning("again")
    lines = stream.getvalue().splitlines()
    # The loop may cross into another second or two on a slow machine.
    assert BURST <= len(lines) <= 4 * BURST


@pytest.mark.usefixtures("logging_restored")
def test_what_cannot_be_raised_is_an_event_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging()

    def tell(what: object, error: BaseException | None) -> None:
        sys.unraisablehook(
            SimpleNamespace(
                exc_type=type(error), exc_value=error, exc_traceback=None, err_msg=None, object=what
            )
        )

    # A server name that is no text: see test_a_name_that_is_none_is_no_event.
    tell(b"\xff", UnicodeDecodeError("ascii", b"\xff", 0, 1, "ordinal not in range(128)"))
    tell(test_what_cannot_be_raised_is_an_event_like_others, ValueError("why"))
    tell(None, None)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [entry["level"] for entry in told] == ["error", "error"]
    assert "ValueError: why" in told[0]["exception"]
