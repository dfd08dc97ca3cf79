"""The page reads as it was meant: the official parser finds the numbers that were put in."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.control.exposition import CONTENT_TYPE, Page, heading, number, start, written
from gateway.control.families import FAMILIES, LAYOUTS
from gateway.core.blocks import MILLION, Key, pack
from gateway.core.series import Report
from gateway.core.totals import Totals

KINDS = sorted(set(LAYOUTS) - {"worst", "cpu"})
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)


def samples(page: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def expected(key: Key, values: list[int]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The samples of a block, made one by one."""
    names, columns = LAYOUTS[key[0]]
    labels = dict(zip(names, key[1:], strict=True))
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    rest = list(values)

    def put(name: str, value: float, **more: str) -> None:
        found[name, frozenset((labels | more).items())] = value

    for column in columns:
        if column.bounds:
            count = 0
            for bound in (*column.bounds, math.inf):
                count += rest.pop(0)
                put(
                    f"{column.family}_bucket", count, le="+Inf" if bound == math.inf else str(bound)
                )
            put(f"{column.family}_count", count)
            put(f"{column.family}_sum", rest.pop(0) / MILLION)
        else:
            for choice in column.choices or ("",):
                more = {column.label: choice} if column.choices else {}
                put(column.family, rest.pop(0), **more)
    assert not rest
    return found


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Key, list[int]]:
    kind = draw(st.sampled_from(KINDS))
    names, columns = LAYOUTS[kind]
    width = sum(column.width for column in columns)
    key = (kind, *(draw(TEXTS) for _ in names))
    values = st.integers(0, 9) | st.integers(0, 2**60)
    first = draw(st.lists(values, min_size=min(width, 8), max_size=min(width, 8)))
    return key, (first * width)[:width]


@settings(max_examples=50, deadline=None)
@given(st.lists(blocks(), max_size=4, unique_by=lambda block: block[0]))
def test_the_parser_reads_what_was_put_in(found: list[tuple[Key, list[int]]]) -> None:
    # These two share a family, but never labels: an endpoint's own have no name of a deployment.
    shared = {key[1:] for key, _ in found if key[0] == "endpoint"}
    found = [(k, v) for k, v in found if k[0] != "deployment" or k[1:] not in shared]
    totals = Totals()
    page = Page(totals)
    totals.apply(0, Report([key for key, _ in found], dict(enumerate(pack(v) for _, v in found))))
    wanted: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for key, values in found:
        wanted |= expected(key, values)
    assert samples(page.render({})) == wanted


def test_every_family_has_its_heading_even_when_empty() -> None:
    lines = Page(Totals()).render({}).decode().splitlines()
    assert lines == [
        line for name, kind, text in FAMILIES for line in heading(name, kind, text).splitlines()
    ]
    assert lines[:2] == [
        "# HELP gateway_build_info The running gateway.",
        "# TYPE gateway_build_info gauge",
    ]


def test_lines_are_as_the_format_has_them() -> None:
    totals = Totals()
    page = Page(totals)
    counts = [0] * 14 + [1]
    lag, cpu = pack([*counts, 12_500_000]), pack([1_500])
    totals.apply(0, Report([("lag",), ("cpu",)], {0: lag, 1: cpu}))
    text = page.render({"gateway_workers": [((), 2)]}).decode()
    for line in (
        "gateway_workers 2",
        'gateway_event_loop_lag_seconds_bucket{le="0.0005"} 0',
        'gateway_event_loop_lag_seconds_bucket{le="10.0"} 0',
        'gateway_event_loop_lag_seconds_bucket{le="+Inf"} 1',
        "gateway_event_loop_lag_seconds_sum 12.5",
        "gateway_event_loop_lag_seconds_count 1",
        'gateway_worker_cpu_seconds_total{worker="0"} 0.0015',
    ):
        assert f"\n{line}\n" in text


def test_lines_come_and_go_and_only_what_changed_is_written_anew() -> None:
    totals = Totals()
    page = Page(totals)
    totals.apply(0, Report([("places", "a", "b"), ("connections",)], {0: 4, 1: 7}))
    places = b'gateway_places{endpoint="a",deployment="b"} '
    assert places + b"4\n" in page.render({})
    totals.apply(0, Report([], {0: 5}))
    after = page.render({})
    assert places + b"5\n" in after
    assert b"gateway_connections 7\n" in after
    totals.apply(0, Report([], {0: None}))
    assert places not in page.render({})
    totals.apply(0, Report([], {0: 6}))
    assert page.render({}).count(places) == 1


def test_text_is_escaped_where_the_format_asks_for_it() -> None:
    assert start("a", written((("b", 'x"\\\n%s{}'),))) == 'a{b="x\\"\\\\\\n%s{}"} '
    assert heading("a", "gauge", 'x"\\\n.') == '# HELP a x"\\\\\\n.\n# TYPE a gauge\n'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (2**63, "9223372036854775808"),
        (0.1, "0.1"),
        (1e-07, "1e-07"),
        (1e22, "1e+22"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_exact(value: float, text: str) -> None:
    assert number(value) == text


def test_the_content_type_is_that_of_the_text_format() -> None:
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
