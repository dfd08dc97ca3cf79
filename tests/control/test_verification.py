"""The verdict on a model: each awkward sort of it, and the real container."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.control.calling import Answer, NoAnswer
from gateway.control.samples import BadSample, read_samples
from gateway.control.verification import (
    Outcome,
    VerificationPlan,
    largest_gap,
    run_verification,
    verify,
)
from gateway.core.backends import Backend, parse_backend
from tests.support.containers import Container

Rows = list[list[float]]
HEADERS = b"Content-Type: application/json\r\n"

PLAN = VerificationPlan(
    deployment="demo/blue",
    mode="on",
    backends=[Backend("127.0.0.1", 1)],
    field=("data",),
    max_rows=64,
    max_bytes=1 << 20,
    largest=1 << 20,
    tolerance=1e-6,
    timeout=5.0,
)
SAMPLE = "\n".join(f'{{"data": [[{n}.5, {7 * n % 5}.25]]}}' for n in range(1, 8))


class Model:
    """A container whose model is a function from rows to what is answered as JSON."""

    def __init__(self, predict: Callable[[Rows], Any], headers: bytes = HEADERS) -> None:
        self.predict = predict
        self.headers = headers
        self.calls: list[Rows] = []

    async def __call__(self, body: bytes) -> Answer:
        rows = json.loads(body)["data"]
        self.calls.append(rows)
        found = self.predict(rows)
        if isinstance(found, Answer):
            return found
        return Answer(200, self.headers, json.dumps(found).encode())


def said(
    model: Model | Callable[[Rows], Any], sample: str = SAMPLE, plan: VerificationPlan = PLAN
) -> tuple[Outcome, list[str]]:
    """The outcome, and everything that was said."""
    lines: list[str] = []
    score = model if isinstance(model, Model) else Model(model)
    samples = read_samples(sample.encode(), plan.field, plan.max_rows, plan.largest)
    outcome = asyncio.run(verify(plan, samples, score, lines.append))
    return outcome, lines


def sums(rows: Rows) -> list[float]:
    return [sum(row) for row in rows]


def test_a_model_that_looks_at_rows_one_by_one_is_safe() -> None:
    model = Model(sums)
    outcome, lines = said(model)
    assert outcome is Outcome.SAFE
    merged = model.calls[14:]
    assert all(len(rows) > 1 for rows in merged)
    assert max(map(len, merged)) == PLAN.max_rows
    answers = sum(map(len, merged))
    assert lines[-1] == (
        f"safe: {answers} answers of {len(merged)} merged calls are byte for byte those given alone"
    )
    assert lines[0] == "  alone, twice            14 calls   the same"
    assert lines[1] == "  pairs                    4 calls   the same"


@pytest.mark.parametrize(
    "predict",
    [
        pytest.param(lambda rows: {"result": sums(rows)}, id="object"),
        pytest.param(lambda rows: json.dumps({"result": sums(rows)}), id="text"),
        pytest.param(lambda rows: [{"sum": each} for each in sums(rows)], id="objects"),
        pytest.param(lambda rows: [float("nan") for _ in rows], id="nan"),
    ],
)
def test_whatever_can_be_split_is_safe(predict: Callable[[Rows], Any]) -> None:
    assert said(predict)[0] is Outcome.SAFE


def test_answers_within_the_tolerance_have_a_verdict_of_their_own() -> None:
    def predict(rows: Rows) -> list[float]:
        return [each * (1 + 1e-9 * (len(rows) - 1)) for each in sums(rows)]

    outcome, lines = said(predict)
    assert outcome is Outcome.SAFE
    assert lines[1] == "  pairs                    4 calls   the same within the tolerance"
    assert lines[-1].startswith("safe within the tolerance, not byte for byte: ")
    assert " differ from those given alone, at most by 6.3e-08 of a value (line " in lines[-1]
    assert lines[-1].endswith(", groups of 64)")


def test_a_model_that_normalises_by_its_neighbours_is_unsafe() -> None:
    def predict(rows: Rows) -> list[float]:
        mean = sum(sums(rows)) / len(rows)
        return [each - mean for each in sums(rows)]

    outcome, lines = said(predict)
    assert outcome is Outcome.UNSAFE
    where, alone, merged, differ, verdict = lines[-5:]
    assert where == "    pairs: line 1, place 1, merged with line 2"
    assert alone == "    alone   [0.0]"
    assert merged == "    merged  [-1.5]"
    assert differ.startswith("    differ  ")
    assert verdict == "unsafe: an answer depends on the rows that are merged with it"


def test_order_is_looked_at() -> None:
    def predict(rows: Rows) -> list[float]:
        return sums(rows) if rows == sorted(rows) else sums(rows)[::-1]

    outcome, lines = said(predict)
    assert outcome is Outcome.UNSAFE
    assert "merged with" in lines[-5]


def test_a_model_that_only_large_calls_confuse_is_unsafe() -> None:
    outcome, lines = said(lambda rows: sums(rows) if len(rows) < 50 else [0.0] * len(rows))
    assert outcome is Outcome.UNSAFE
    assert lines[-5].startswith("    groups of 64: line ")


@pytest.mark.parametrize(
    ("predict", "merged"),
    [
        pytest.param(lambda rows: [sum(sums(rows))], "[", id="aggregates"),
        pytest.param(lambda rows: sums(rows) + [0.0] * (len(rows) - 1), "[", id="too-long"),
        pytest.param(
            lambda rows: sums(rows) if len(rows) == 1 else "shapes do not fit",
            '"shapes do not fit"',
            id="text-of-an-error",
        ),
    ],
)
def test_answers_of_another_length_are_unsafe(predict: Callable[[Rows], Any], merged: str) -> None:
    outcome, lines = said(predict)
    assert outcome is Outcome.UNSAFE
    where, alone, shown, verdict = lines[-4:]
    assert where == "    pairs: line 1, line 2 (2 rows)"
    assert alone == "    alone   [2.5]" or alone.startswith("    alone   [")
    assert shown.startswith(f"    merged  status 200, {merged}")
    assert verdict == ("unsafe: the answer to 2 merged rows cannot be split into those given alone")


def test_a_model_that_never_answers_with_a_list_is_unsafe() -> None:
    outcome, lines = said(lambda rows: {"sum": 1.0, "mean": 2.0})
    assert outcome is Outcome.UNSAFE
    assert lines[0] == (
        '  line 1 is left out: its answer is not one that can be split, {"sum": 1.0, "mean": 2.0}'
    )
    assert lines[-1] == "unsafe: answers cannot be split, so nothing is gained by merging"


def failing(status: int, text: str, headers: bytes = b"") -> Callable[[Rows], Any]:
    """A model whose merged calls end so."""
    answer = Answer(status, HEADERS + headers, text.encode())
    return lambda rows: answer if len(rows) > 1 else sums(rows)


def test_merged_calls_that_fail_by_themselves_are_unsafe() -> None:
    outcome, lines = said(failing(500, "one row, please", b"x-ms-run-function-failed: True\r\n"))
    assert outcome is Outcome.UNSAFE
    assert lines[-2] == "    merged  status 500, one row, please"
    assert lines[-1] == "unsafe: a merged call fails though none of its requests does"


def test_a_container_without_capacity_says_nothing() -> None:
    outcome, lines = said(failing(503, "busy"))
    assert outcome is Outcome.UNCLEAR
    assert lines[-1] == "unclear: the container answers 503, which says nothing of any row"


def test_calls_that_are_too_large_are_not_made_again() -> None:
    timeout = Answer(
        500,
        b"x-ms-run-function-failed: True\r\n",
        b'{"message": "Scoring timeout after 60000 ms"}',
    )
    model = Model(lambda rows: timeout if len(rows) > 6 else sums(rows))
    outcome, lines = said(model)
    assert outcome is Outcome.SAFE
    assert '  7 rows are too many at once: {"message": "Scoring timeout after 60000 ms"}' in lines
    assert len([rows for rows in model.calls if len(rows) > 6]) == 1
    assert "  groups of 16             0 calls   would never be made" in lines


def test_not_even_two_rows_at_once_is_unsafe() -> None:
    outcome, lines = said(failing(413, "too large"))
    assert (outcome, lines[-1]) == (
        Outcome.UNSAFE,
        "unsafe: a merged call fails though none of its requests does",
    )


def test_a_model_that_is_not_deterministic_is_found_before_anything_is_merged() -> None:
    calls: list[int] = []

    def predict(rows: Rows) -> list[float]:
        calls.append(len(rows))
        return [each + len(calls) for each in sums(rows)]

    outcome, lines = said(predict)
    assert outcome is Outcome.UNCLEAR
    assert set(calls) == {1}
    assert lines[0] == "    line 1, sent alone twice"
    assert lines[1] == "    first   [4.75]"
    assert lines[2] == "    second  [11.75]"
    assert lines[3].startswith("    differ  ")
    assert lines[4].startswith("unclear: the model is not deterministic: ")


def test_a_model_that_wavers_within_the_tolerance_is_deterministic_enough() -> None:
    calls: list[int] = []

    def predict(rows: Rows) -> list[float]:
        calls.append(len(rows))
        return [each + 1e-9 * len(calls) for each in sums(rows)]

    outcome, lines = said(predict)
    assert outcome is Outcome.SAFE
    assert "not byte for byte the same, but within the tolerance" in lines[0]
    assert lines[-1].startswith("safe within the tolerance")


def test_a_status_that_changes_is_not_deterministic_either() -> None:
    calls: list[int] = []

    def predict(rows: Rows) -> Any:
        calls.append(1)
        return sums(rows) if len(calls) <= 7 else Answer(503, HEADERS, b"busy")

    outcome, lines = said(predict)
    assert outcome is Outcome.UNCLEAR
    assert "    differ  status 200 and 503" in lines


@pytest.mark.parametrize(
    ("alive", "what"), [(3, "line 4"), (9, "line 3"), (14, "2 rows merged (pairs)")]
)
def test_a_container_that_dies_says_nothing(alive: int, what: str) -> None:
    model = Model(sums)

    async def score(body: bytes) -> Answer:
        if len(model.calls) == alive:
            raise NoAnswer("Server disconnected")
        return await model(body)

    lines: list[str] = []
    samples = read_samples(SAMPLE.encode(), ("data",), 64, 1 << 20)
    assert asyncio.run(verify(PLAN, samples, score, lines.append)) is Outcome.UNCLEAR
    assert lines[-1] == f"unclear: no answer from the container to {what}: Server disconnected"


def test_requests_that_fail_alone_are_left_out() -> None:
    def predict(rows: Rows) -> Any:
        if any(row[0] == 2.5 for row in rows):
            return Answer(400, HEADERS, b"no")
        return sums(rows)

    outcome, lines = said(predict)
    assert outcome is Outcome.SAFE
    assert lines[0] == "  line 2 is left out: it is answered 400 even alone"


def test_when_all_fail_alone_nothing_is_known() -> None:
    outcome, lines = said(lambda rows: Answer(404, HEADERS, b"no such path"))
    assert outcome is Outcome.UNCLEAR
    assert lines[-1] == "unclear: no two different samples of a kind were answered"


def test_kinds_of_requests_are_merged_each_for_itself() -> None:
    sample = (
        '{"data": [[1]]}\n{"data": [["a"]]}\n{"data": [[2]]}\n{"data": [["b"]]}\n{"data": [[1, 2]]}'
    )
    model = Model(lambda rows: [str(row) for row in rows])
    outcome, lines = said(model, sample)
    assert outcome is Outcome.SAFE
    assert all(len({(len(row), type(row[0])) for row in rows}) == 1 for rows in model.calls)
    assert lines[1] == ("  line 5: no other rows of that kind, so nothing is known about them")
    assert [line for line in lines if line.startswith("  kind")] == [
        "  kind 1: line 1, line 3",
        "  kind 2: line 2, line 4",
    ]


def test_as_many_rows_as_a_list_beside_them_has_are_not_sent_together() -> None:
    sample = SAMPLE.replace("}", ', "columns": ["a", "b"]}')
    model = Model(sums)
    outcome, lines = said(model, sample)
    assert outcome is Outcome.SAFE
    assert {len(rows) for rows in model.calls} >= {1, 3, 4, 7, 16, 64}
    assert 2 not in {len(rows) for rows in model.calls}
    assert "  pairs                    0 calls   would never be made" in lines


def test_a_header_that_is_about_the_rows_is_unsafe() -> None:
    def predict(rows: Rows) -> Answer:
        highest = b"X-Highest: %.1f\r\nDate: today\r\n" % max(sums(rows))
        return Answer(200, HEADERS + highest, json.dumps(sums(rows)).encode())

    outcome, lines = said(predict)
    assert outcome is Outcome.UNSAFE
    assert lines[-4:] == [
        "    pairs: line 1, place 1, merged with line 2",
        "    alone   x-highest: 3.8",
        "    merged  x-highest: 6.8",
        "unsafe: a header of the answer depends on the rows",
    ]


def test_headers_that_change_by_themselves_do_not_matter() -> None:
    numbers = iter(range(10_000))

    def predict(rows: Rows) -> Answer:
        headers = HEADERS + b"X-Call: %d\r\n" % next(numbers)
        return Answer(200, headers, json.dumps(sums(rows)).encode())

    assert said(predict)[0] is Outcome.SAFE


def test_a_long_answer_is_cut_and_cannot_change_the_terminal() -> None:
    _, lines = said(failing(500, "\x1b[2J" + "x" * 300))
    assert lines[-2] == "    merged  status 500, \\x1b[2J" + "x" * 193 + "... (304 bytes)"


@pytest.mark.parametrize(
    ("one", "other", "gap"),
    [
        (1.0, 1.0, 0.0),
        ([1.0, 2.0], [1.0, 2.5], 0.2),
        ({"a": [4, 1]}, {"a": [4, 2]}, 0.5),
        ("[1.0]", "[2.0]", 0.5),
        ("a", "a", 0.0),
        ([float("nan")], [float("nan")], 0.0),
        (0, 0.0, 0.0),
        (-1.0, 1.0, 2.0),
        ([1e-9], [2e-9], 1e-6),
        (None, None, 0.0),
        ([], [], 0.0),
    ],
)
def test_the_largest_gap_is_found(one: Any, other: Any, gap: float) -> None:
    assert largest_gap(one, other) == pytest.approx(gap)


def ran(sample: str, plan: VerificationPlan = PLAN) -> tuple[bool, list[str]]:
    lines: list[str] = []
    return run_verification(plan, sample.encode(), lines.append), lines


@pytest.mark.parametrize(
    ("sample", "report"),
    [
        ('{"data": [[1]]}\n{"data": [[1]]}', []),
        ('{"data": [[1]]}\n{"data": [[1.5]]}', []),
        ('{"data": [[1]]}\n{"rows": [[2]]}', ["line 2: there is no member data"]),
    ],
)
def test_a_sample_without_company_is_refused_before_any_call(
    sample: str, report: Sequence[str]
) -> None:
    with pytest.raises(BadSample) as caught:
        ran(sample)
    assert str(caught.value).splitlines() == [
        "holds no two different requests that could be merged",
        *report,
    ]


def test_what_is_verified_is_said_first() -> None:
    safe, lines = ran('{"data": [[1]]}\n{"data": []}\n{"data": [[2]]}')
    assert not safe
    assert lines[:4] == [
        "demo/blue: rows in data, at most 64 rows and 1048576 bytes a call, tolerance 1e-06",
        "3 requests, 2 can be merged",
        "  line 2 is never merged: data is empty",
        "http://127.0.0.1:1/score",
    ]
    assert lines[-1].startswith("unclear: no answer from the container to line 1: cannot connect")


SCRIPT = """
import json
def init(): ...
def run(raw):
    rows = json.loads(raw)["data"]
    mean = sum(map(sum, rows)) / len(rows)
    return [sum(row) - (mean if SPOILED else 0) for row in rows]
"""


@pytest.mark.parametrize("spoiled", [False, True])
def test_against_a_real_container(tmp_path: Path, spoiled: bool) -> None:
    script = tmp_path / "score.py"
    script.write_text(f"SPOILED = {spoiled}\n{SCRIPT}")
    with Container(tmp_path, script) as container:
        plan = VerificationPlan(
            **{name: getattr(PLAN, name) for name in PLAN.__slots__}
            | {"backends": [parse_backend(container.url)], "mode": "off"}
        )
        safe, lines = ran('{"data": [[1.5], [2.5], [4.25], [8.5]]}', plan)
    assert safe is not spoiled, lines
    assert lines[0].endswith(" (batching is off)")
    assert lines[2] == f"{container.url}/score"
    if spoiled:
        assert lines[-5] == "    pairs: row 1, place 1, merged with row 2"
    else:
        assert lines[-1].startswith("safe: ")
