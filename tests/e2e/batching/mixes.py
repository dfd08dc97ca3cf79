"""Requests that come at the same time, as a property test draws them."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field

from hypothesis import strategies as st

from tests.support.gateways import KEY, SECOND_KEY
from tests.support.raw import request

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, and what its client does."""

    body: bytes
    kind: str = JSON
    #: Further header fields.
    more: tuple[tuple[str, str], ...] = ()
    query: str = ""
    key: str = KEY
    method: str = "POST"
    #: After so many seconds the client leaves; None if it waits for its answer.
    leaves: float | None = None
    #: How much of the request a client sends that leaves.
    share: float = field(default=1.0, compare=False)

    def request(self, service: str) -> bytes:
        path = f"/api/v1/service/{service}/score{self.query}"
        headers = {"Content-Type": self.kind, **dict(self.more)}
        body = None if self.method == "GET" else self.body
        if body is None:
            del headers["Content-Type"]
        return request(path, body, method=self.method, key=self.key, headers=headers)


_FLOATS = st.sampled_from(
    ["1.0", "-0.0", "0.1", "2.50", "1e3", "1E-7", "0.30000000000000004", "3.141592653589793",
     "123456789.12345679", "1.7976931348623157e308", "5e-324", "0.10000000000000000555111512",
     "666.0"]
)  # fmt: skip
_INTEGERS = st.sampled_from(
    ["1", "0", "-7", "12345", "9007199254740993", "-9223372036854775807", "666"]
)  # fmt: skip
_HUGE = st.sampled_from(
    ["9223372036854775808", "18446744073709551616", "-123456789012345678901234567890", "1e400"]
)
# A huge integer is no float, but a parser may make one of it.
_NUMBERS = st.one_of(_FLOATS, _FLOATS, _FLOATS, _HUGE)
_TEXTS = st.sampled_from(
    [
        r'"a"',
        r'"é"',
        r'"\u00e9"',
        r'"\ud83d\ude00"',
        '"],["',
        r'"\"}"',
        '"3"',
        '"666"',
        '"日本"',
        '""',
    ]
)
_CELLS = st.one_of(
    _FLOATS,
    _INTEGERS,
    _HUGE,
    _TEXTS,
    st.sampled_from(["null", "true", "NaN", "-Infinity", "[1]", '{"data":[[1,2]]}', "[]"]),
)
_GAPS = st.sampled_from(["", "", "", " ", "\n  ", "\t", "\r\n"])


def _row(cells: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(cells, cells).map(lambda pair: f"[{pair[0]}, {pair[1]}]")


def _record(cells: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(cells, _INTEGERS).map(lambda pair: f'{{"a": {pair[0]}, "b": {pair[1]}}}')


#: Most rows of each are of one kind: requests that can be sent together.
PLAIN_KINDS = [_row(_FLOATS), _row(_INTEGERS), _row(_TEXTS), _row(_NUMBERS), _row(_CELLS)]
TABLE_KINDS = [_record(_FLOATS), _record(_INTEGERS), _record(_NUMBERS), _record(_CELLS)]
_ODD_ROWS = st.one_of(
    _row(_CELLS),
    _record(_CELLS),
    st.sampled_from(
        ["[]", "[1]", "[1, 2, 3]", "{}", "7", "null", '"row"', "[[1, 2], [3, 4]]",
         '{"b": 1, "a": 2}', '{"a": 1, "a": 2, "b": 3}',
         "[1, 2", "1]", "[1,,2]", "[01, 2]", "[1, 2],"]
    ),
)  # fmt: skip
_FRAMES = st.sampled_from(
    [
        '{"data": [%s]}',
        '{"data": [%s]}',
        '{"data":[%s]}',
        ' {\n "data" : [ %s ] }\n',
        '{"method": "predict", "data": [%s]}',
        '{"data": [%s], "GlobalParameters": {"factor": 2}}',
        '{"data": [%s], "GlobalParameters": {"factor": 3}}',
        '{"GlobalParameters": {"factor": 2}, "data": [%s]}',
        '{"data": [%s], "ids": ["x"]}',
        '{"ключ": "é", "data": [%s]}',
    ]
)
_ODD_FRAMES = st.sampled_from(
    [
        '{"data": [%s], "data": [[7, 7]]}',
        '{"data": [[7, 7]], "data": [%s]}',
        '{"d\\u0061ta": [%s]}',
        '{"Data": [%s]}',
        '{"data": %s}',
        '{"data": {"data": [%s]}}',
        "[%s]",
        "%s",
        '{"data": [%s]',
        '{"data": [%s]}}',
        '{"data": [%s]} {"data": []}',
        '\ufeff{"data": [%s]}',
        '{"text": "\\"data\\": [", "data": [%s]}',
        '{"data": [%s], "GlobalParameters": {"data": [[5, 5]]}}',
    ]
)
_KINDS = st.sampled_from(
    [JSON, "application/json; charset=utf-8", "Application/JSON", "text/plain", "text/json"]
)
_HEADERS: st.SearchStrategy[tuple[tuple[str, str], ...]] = st.sampled_from(
    [
        (("Accept", "text/html"),),
        (("X-Ms-Client-Request-Id", "of the client"),),
        (("X-Ms-Client-Request-Id", "x" * 101),),
        (("Azureml-Model-Deployment", "green"),),
        (("Azureml-Model-Deployment", "purple"),),
        (("Content-Encoding", "gzip"),),
        (("User-Agent", "curl/8"),),
        (("Traceid", "seen by the container"),),
        (("Expect", "the unexpected"),),
    ]
)


@st.composite
def _bodies(draw: st.DrawFn, rows: st.SearchStrategy[str], frames: st.SearchStrategy[str]) -> bytes:
    """Mostly one row, which is what a front end of a model is asked for."""
    count = draw(st.sampled_from([1, 1, 1, 1, 2, 3, 0, 9]))
    gap = draw(_GAPS)
    text = f"{gap},{gap}".join(draw(rows) for _ in range(count))
    return draw(frames).replace("%s", text).encode()


@st.composite
def mixes(draw: st.DrawFn, script: str, table: bool, most: int) -> list[Ask]:
    """Requests sent at the same time, of which most could go together.

    :param script: which one the container is to run, if it has several.
    :param most: requests.
    """
    rows = draw(st.sampled_from(TABLE_KINDS if table else PLAIN_KINDS))
    frame = draw(_FRAMES)
    # Half the time, nothing is known of the kind of requests yet.
    query = draw(st.sampled_from(["", f"?fresh={draw(st.integers(0, 10**9))}"]))
    common = (("X-Script", script),) if script else ()
    good = _bodies(rows, st.just(frame)).map(lambda body: Ask(body, more=common, query=query))
    odd = st.builds(
        Ask,
        body=st.one_of(
            _bodies(rows, st.just(frame)),
            _bodies(_ODD_ROWS, st.just(frame)),
            _bodies(rows, _FRAMES),
            _bodies(rows, _ODD_FRAMES),
            st.sampled_from([b"", b"{}", b"null", b'{"data": [[1, 2]], "x": "\xff"}']),
        ),
        kind=st.one_of(st.just(JSON), _KINDS),
        more=st.one_of(st.just(()), _HEADERS).map(lambda more: common + more),
        query=st.sampled_from([query, query, "?other=1"]),
        key=st.sampled_from([KEY, KEY, SECOND_KEY, "wrong"]),
        method=st.sampled_from(["POST"] * 20 + ["GET", "OPTIONS"]),
        leaves=st.sampled_from([None, None, None, 0.0, 0.002, 0.01, 0.02]),
        share=st.sampled_from([1.0, 1.0, 0.5]),
    )
    count = draw(st.integers(8, most))
    strange = draw(st.sampled_from([0, 1, 1, 2, count // 4, count // 2]))
    mix = [draw(odd) for _ in range(strange)]
    mix += [draw(good) for _ in range(count - strange)]
    return draw(st.permutations(mix))


def alike(script: str, table: bool, count: int, guilty: Collection[int] = ()) -> list[Ask]:
    """Requests that should go together, every one with rows of its own.

    :param guilty: which of them have a row that the script cannot abide.
    """
    common = (("X-Script", script),) if script else ()
    asks = []
    for number in range(count):
        rows = [[number + 0.5, at] for at in range(1 + number % 3)]
        if number in guilty:
            rows[-1][0] = 666.0
        data = [{"a": a, "b": b} for a, b in rows] if table else rows
        asks.append(Ask(json.dumps({"data": data}).encode(), more=common))
    return asks


#: Rows that are unlike those of ``alike``, each in another way.
STRANGERS = [
    "[18446744073709551616, 1]",
    "[9223372036854775808, 1]",
    "[1, 2]",
    "[1.5, 2.5]",
    '["1", "2"]',
    "[1.5]",
    "[1.5, 2, 3]",
    "[[1.5, 2]]",
    "[true, 1]",
    "[null, 1]",
    "[NaN, 1]",
    "[1e400, 1]",
    "[1, 2], [1.5, 2]",
    '{"a": 1.5, "b": 2}',
    '{"b": 1, "a": 2.5}',
    '{"a": 1.5, "b": 18446744073709551616}',
    '{"a": 1.5, "a": 2.5, "b": 3}',
    "1.5",
    "",
]


def with_a_stranger(script: str, table: bool, rows: str) -> list[Ask]:
    """Requests that should go together, and some in between that should perhaps not."""
    asks = alike(script, table, 12)
    for at in (4, 9):
        asks[at] = Ask(f'{{"data": [{rows}]}}'.encode(), more=asks[at].more)
    return asks
