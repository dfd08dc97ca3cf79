"""Rows of requests are found, merged and cut without changing what a JSON parser sees in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.rows import MAX_FRAME, RowReader, Rows, cut, merge

CORPUS = Path(__file__).resolve().parents[1] / "corpora" / "jsontestsuite" / "test_parsing"
ROW = b"[0.038, 0.0506, -0.0442]"


def reader(*field: str, max_bytes: int = 1 << 20) -> RowReader:
    return RowReader(field or ("data",), max_bytes=max_bytes)


def taken(body: bytes, *field: str) -> Rows:
    rows = reader(*field).read(body)
    assert rows is not None
    return rows


def at(document: Any, field: tuple[str, ...]) -> Any:
    for name in field:
        document = document[name]
    return document


@pytest.mark.parametrize(
    ("body", "inner", "count"),
    [
        pytest.param(b'{"data": [[1.0, 2.0]]}', b"[1.0, 2.0]", 1, id="one row"),
        pytest.param(b'{"data":[[1],[2]]}', b"[1],[2]", 2, id="compact"),
        pytest.param(b'{"data": [ [1] ,\n[2]\t]}', b" [1] ,\n[2]\t", 2, id="white space stays"),
        pytest.param(b' { "data"\t:\r\n[[1]] } \n', b"[1]", 1, id="white space outside"),
        pytest.param(b'{"data": ["a", "]}"]}', b'"a", "]}"', 2, id="strings"),
        pytest.param(b'{"data": [{"a": 1}]}', b'{"a": 1}', 1, id="objects"),
        pytest.param(b'{"data": [{}]}', b"{}", 1, id="an object with nothing in it"),
        pytest.param(b'{"data": [[]]}', b"[]", 1, id="a row with nothing in it"),
        pytest.param(b'{"data": [[[[1], [2]]]]}', b"[[[1], [2]]]", 1, id="tensor"),
        pytest.param(b'{"data": [[1e5, 1E+5, -0, 0.10]]}', b"[1e5, 1E+5, -0, 0.10]", 1, id="spelt"),
        pytest.param(b'{"data": [[NaN, -Infinity]]}', b"[NaN, -Infinity]", 1, id="Python's JSON"),
        pytest.param(b'{"data": [[1e999]]}', b"[1e999]", 1, id="infinite"),
        pytest.param(b'{"data": ["\\ud800"]}', b'"\\ud800"', 1, id="half a pair"),
        pytest.param('{"data": ["é", "漢"]}'.encode(), '"é", "漢"'.encode(), 2, id="not ASCII"),
        pytest.param(
            '{"é": "é", "data": [["é", NaN]], "x": "é"}'.encode(),
            '["é", NaN]'.encode(),
            1,
            id="not ASCII anywhere, nor JSON",
        ),
        pytest.param(b'{"data": [["]], [["]]}', b'["]], [["]', 1, id="brackets in a string"),
        pytest.param(b'{"data": [[1]], "more": [2, 3]}', b"[1]", 1, id="brackets follow"),
        pytest.param(b'{"more": [2, 3], "data": [[1]]}', b"[1]", 1, id="brackets before"),
        pytest.param(b'{"x": "\\"data\\": [", "data": [[1]]}', b"[1]", 1, id="name in a string"),
        pytest.param(
            b'{"x": {"data": [[8, 8], [9, 9]]}, "data": [[1]]}', b"[1]", 1, id="name below"
        ),
        pytest.param(b'{"data": [{"data": [[1]]}]}', b'{"data": [[1]]}', 1, id="name inside"),
        pytest.param(b'{"data": [{"a": 1, "a": 2}]}', b'{"a": 1, "a": 2}', 1, id="twice in a row"),
        pytest.param(
            b'{"data": [[9223372036854774784, -9199999999999999999]]}',
            None,
            0,
            id="close to 64 bits",
        ),
        pytest.param(
            b'{"data": [[6000000000000000000, -6000000000000000000]]}',
            b"[6000000000000000000, -6000000000000000000]",
            1,
            id="large",
        ),
        pytest.param(b'{"data": [[18446744073709551616]]}', None, 0, id="rounded to a float"),
        pytest.param(b'{"data": [[-9223372036854775809, 1]]}', None, 0, id="below 64 bits"),
        pytest.param(b'{"data": [[18446744073709551616, NaN]]}', None, 0, id="large beside NaN"),
        pytest.param(b'{"data": [["a", 9223372036854775808]]}', None, 0, id="large in a mixture"),
        pytest.param(b'{"data": [{"a": {"b": [1e19]}}]}', None, 0, id="large and deep"),
        pytest.param(b'{"data": [[' + b"1" * 5000 + b"]]}", None, 0, id="5000 digits"),
        pytest.param(b'{"data": [1, 2, 3]}', None, 0, id="numbers"),
        pytest.param(b'{"data": [true]}', None, 0, id="true"),
        pytest.param(b'{"data": [null]}', None, 0, id="null"),
        pytest.param(b'{"data": [[1], "a"]}', None, 0, id="mixed"),
        pytest.param(b'{"data": [[1], [1, 2]]}', None, 0, id="ragged"),
        pytest.param(b'{"data": [[[1], [1, 2]]]}', None, 0, id="ragged within"),
        pytest.param(b'{"data": [[1, [2]]]}', None, 0, id="ragged in depth"),
        pytest.param(b'{"data": [[{"a": 1}]]}', None, 0, id="objects in lists"),
        pytest.param(b'{"data": [{"a": 1}, {"b": 1}]}', None, 0, id="other names"),
        pytest.param(b'{"data": [{"a": 1, "b": 2}, {"b": 1, "a": 2}]}', None, 0, id="other order"),
        pytest.param(b'{"data": [{"created_At": "2024"}]}', None, 0, id="read as dates"),
        pytest.param(b'{"data": []}', None, 0, id="no rows"),
        pytest.param(b'{"data": [ ]}', None, 0, id="no rows but a space"),
        pytest.param(b'{"data": {}}', None, 0, id="an object"),
        pytest.param(b'{"data": null}', None, 0, id="nothing"),
        pytest.param(b"", None, 0, id="empty"),
        pytest.param(b"{}", None, 0, id="empty object"),
        pytest.param(b"[[1]]", None, 0, id="a list"),
        pytest.param(b'[{"data": [[1]]}]', None, 0, id="in a list"),
        pytest.param(b'{"x": {"data": [[1]]}}', None, 0, id="only below"),
        pytest.param(b'{"Data": [[1]]}', None, 0, id="other case"),
        pytest.param(b'{"d\\u0061ta": [[1]]}', None, 0, id="escaped name"),
        pytest.param(b'{"data": [[1]], "d\\u0061ta": [[2]]}', None, 0, id="twice, once escaped"),
        pytest.param(b'{"data": [[1]], "data": [[2]]}', None, 0, id="twice"),
        pytest.param(b'{"data": [[1]], "x": {"a": 1, "a": 1}}', None, 0, id="twice beside"),
        pytest.param(b'{"data": [[1]], "x": NaN}', None, 0, id="NaN beside"),
        pytest.param(b'{"data": [[1]], "index": [7]}', None, 0, id="as long as the rows"),
        pytest.param(b'{"data": [[1], [2]], "index": [7]}', b"[1], [2]", 2, id="another length"),
        pytest.param(b'{"data": [[1]], "columns": ["a", "date"]}', None, 0, id="dates beside"),
        pytest.param(b'{"data": [[1]]}}', None, 0, id="closed twice"),
        pytest.param(b'{"data": [[1]]]}', None, 0, id="rows closed twice"),
        pytest.param(b'{"data": [[1]]', None, 0, id="not closed"),
        pytest.param(b'{"data": [[1],]}', None, 0, id="comma at the end"),
        pytest.param(b'{"data": [,[1]]}', None, 0, id="comma at the beginning"),
        pytest.param(b'{"data": [[1]]} x', None, 0, id="more after the end"),
        pytest.param(b'{"data": [[1]]}{"data": [[1]]}', None, 0, id="two objects"),
        pytest.param(b'\xef\xbb\xbf{"data": [[1]]}', None, 0, id="byte order mark"),
        pytest.param(b'{"data": [["\xff"]]}', None, 0, id="not UTF-8"),
        pytest.param(b'{"x": "\xff", "data": [[1]]}', None, 0, id="not UTF-8 beside"),
        pytest.param('{"data": [[1]]}'.encode("utf-16"), None, 0, id="UTF-16"),
        pytest.param(b'{"data": [\x00[1]]}', None, 0, id="NUL"),
        pytest.param(b'{"data": [["\n"]]}', None, 0, id="newline in a string"),
        pytest.param(b'{"data": ' + b"[" * 5000 + b"]" * 5000 + b"}", None, 0, id="deep"),
        pytest.param(
            b'{"x": ' + b"[" * 1500 + b"]" * 1500 + b', "data": [[1]]}', None, 0, id="deep beside"
        ),
        pytest.param(
            b'{"x": "' + b"x" * MAX_FRAME + b'", "data": [[1]]}', None, 0, id="much before"
        ),
        pytest.param(
            b'{"data": [[1]], "x": "' + b"x" * MAX_FRAME + b'"}', None, 0, id="much after"
        ),
    ],
)
def test_what_is_read(body: bytes, inner: bytes | None, count: int) -> None:
    known = reader()
    known.read(b'{"data": [[1.5]]}')
    for each in (reader(), known):
        for _ in range(2):  # the second time, more is known
            rows = each.read(body)
            if inner is None:
                assert rows is None
            else:
                assert rows is not None
                assert (rows.inner, rows.count) == (inner, count)


def test_a_body_is_not_longer_than_allowed() -> None:
    body = b'{"data": [[1]]}'
    assert reader(max_bytes=len(body)).read(body) is not None
    assert reader(max_bytes=len(body) - 1).read(body) is None


def test_rows_may_lie_deeper() -> None:
    body = b'{"Inputs": {"in": [{"a": 1}]}, "GlobalParameters": {"k": [1, 2]}}'
    rows = taken(body, "Inputs", "in")
    assert rows.inner == b'{"a": 1}'
    assert merge([rows, rows]) == body.replace(b'{"a": 1}', b'{"a": 1},{"a": 1}')
    assert reader("Inputs", "out").read(body) is None
    assert reader("in").read(body) is None


def test_rows_have_a_path() -> None:
    with pytest.raises(ValueError, match="name"):
        RowReader((), max_bytes=1)


def test_a_name_is_no_pattern() -> None:
    assert reader("d.ta").read(b'{"data": [[1]]}') is None
    assert taken('{"d.\\"ä": [[1]]}'.encode(), 'd."ä').count == 1


@pytest.mark.parametrize(
    "other",
    [b'{"data":[[2.5]]}', b'{"data": [[2.5]]}\n', b'\n{ "data" :\t[[2.5]] }'],
    ids=repr,
)
def test_white_space_around_the_rows_separates_nobody(other: bytes) -> None:
    both = reader()
    one, two = both.read(b'{"data": [[1.5]]}'), both.read(other)
    assert one is not None
    assert two is not None
    assert one.frame is two.frame
    assert one.kind is two.kind
    assert merge([one, two]) == b'{"data": [[1.5],[2.5]]}'


def test_other_members_separate_unless_their_bytes_are_the_same() -> None:
    each = reader()
    bodies = [
        b'{"data": [[1.5]], "method": "predict"}',
        b'{"data": [[1.5]], "method": "predict_proba"}',
        b'{"data": [[1.5]], "method":"predict"}',
        b'{"method": "predict", "data": [[1.5]]}',
        b'{"data": [[1.5]]}',
    ]
    frames = [rows.frame for body in bodies * 2 if (rows := each.read(body))]
    assert frames[:5] == frames[5:]
    assert len(set(frames)) == 5


def test_a_suffix_which_ends_another_is_not_mistaken_for_it() -> None:
    each = reader()
    long = b'{"data": [[1.5]], "b": [[2.5, 3], 4], "a": [1, 2]}'
    short = b'{"data": [[1.5]], "a": [1, 2]}'
    for body in (short, long, short, b'{"data": [[1.5]]}', long, short):
        rows = each.read(body)
        assert rows is not None
        assert rows.inner == b"[1.5]"
        assert merge([rows]) == body


def test_ends_that_overlap_enclose_no_rows() -> None:
    each = reader()
    assert each.read(b'{"a": [1, 2], "data": [["x"]], "data2": [1, 2]}') is not None
    # Begins and ends as the one before.
    assert each.read(b'{"a": [1, 2], "data": [1, 2]}') is None
    assert each.read(b'{"a": [1, 2], "data": [], "data2": [1, 2]}') is None


def test_more_suffixes_than_are_expected_have_a_frame_each() -> None:
    """Or nothing could be merged: what a frame allows is known of the object."""
    each = reader()
    frames: list[object] = []
    for number in [*range(40)] * 3:
        rows = each.read(b'{"data": [[1.5]], "x": {"y": %d}}' % number)
        assert rows is not None
        frames.append(rows.frame)
    assert frames[:40] == frames[40:80] == frames[80:]
    assert len(set(frames)) == 40


def test_what_is_remembered_is_bounded() -> None:
    each = reader()
    for number in range(1000):
        rows = each.read(b'{"x": %d, "data": [{"n%d": 1}]}' % (number, number))
        assert rows is not None
        rows = each.read(b'{"data": [[1]], "x": %d}' % number)
        assert rows is not None
    assert len(each._prefixes) <= 128
    assert max(len(known) for known in each._prefixes._young.values()) <= 8
    assert len(each._frames) <= 512
    assert len(each._outlines) <= 128


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
FLAT = st.lists(LEAVES, max_size=4)
NAMES = st.text(max_size=4)
CELLS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
TABLES = (
    st.integers(0, 3).flatmap(
        lambda width: st.lists(
            st.lists(st.floats(), min_size=width, max_size=width), min_size=1, max_size=4
        )
    )
    | st.lists(st.text('a{}[]"', max_size=3) | st.text(max_size=5), min_size=1, max_size=4)
    | st.lists(st.sampled_from(["{}", "[]", "}{", "][", '"']), min_size=2, max_size=3)
    | st.lists(FLAT, min_size=1, max_size=2)
    | st.lists(st.dictionaries(NAMES, CELLS, max_size=3), min_size=1, max_size=2)
    | st.lists(st.fixed_dictionaries({"a": st.floats(), "[": st.text()}), min_size=1, max_size=4)
    | st.lists(CELLS, max_size=3)
)
BESIDE: list[dict[str, Any]] = [{}, {}, {"p": {"data": [[1]]}}, {"]": "]}"}, {"x": [1] * 9}]
SPACE = st.text(" \n\t\r", max_size=2)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Bodies of all styles, with members before and after the rows."""
    style = draw(st.sampled_from([(", ", ": "), (",", ":"), (" ,\n", " : ")]))
    ascii_only = draw(st.booleans())

    def dumps(value: object) -> str:
        return json.dumps(value, separators=style, ensure_ascii=ascii_only)

    beside = draw(st.sampled_from(BESIDE))
    members = [f"{dumps(name)}{style[1]}{dumps(value)}" for name, value in beside.items()]
    rows = f'"data"{draw(SPACE)}:{draw(SPACE)}{draw(SPACE).join(dumps(draw(TABLES)))}'
    members.insert(draw(st.integers(0, len(members))), rows)
    return f"{draw(SPACE)}{{{style[0].join(members)}}}{draw(SPACE)}".encode(errors="replace")


READER = reader()  # one for all examples, so that what it remembers is tried too


@given(st.lists(bodies(), min_size=1, max_size=5), st.data())
def test_a_merged_body_has_the_rows_of_all(sent: list[bytes], data: st.DataObject) -> None:
    # Each is sent twice, so that something can be merged whatever was drawn.
    groups: dict[tuple[object, object], list[tuple[Rows, Any]]] = {}
    for body in data.draw(st.permutations(sent * 2)):
        rows = READER.read(body)
        if rows is not None:
            groups.setdefault((rows.frame, rows.kind), []).append((rows, json.loads(body)))
    for group in groups.values():
        merged = json.loads(merge([rows for rows, _ in group]))
        expected = [row for _, document in group for row in document["data"]]
        assert repr(merged.pop("data")) == repr(expected)
        for rows, document in group:
            assert rows.count == len(document.pop("data"))
            assert repr(document) == repr(merged)


def check(body: bytes) -> bool:
    """That whatever is read of a body is what Python's parser sees in it."""
    rows = READER.read(body)
    if rows is None:
        return False
    document = json.loads(body)
    assert repr(json.loads(b"[%b]" % rows.inner)) == repr(document["data"])
    assert repr(json.loads(merge([rows]))) == repr(document)
    assert len(document["data"]) == rows.count
    return True


@given(
    bodies(),
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from(b'[]{},:" \\0e-dN\n')), max_size=3),
)
@example(b'{"data": [[1]]}', [])
def test_damaged_bodies_are_read_as_a_parser_reads_them(
    body: bytes, damage: list[tuple[float, int]]
) -> None:
    text = bytearray(body)
    for where, byte in damage:
        place = int(where * len(text))
        text[place : place + byte % 2] = bytes([byte])
    check(bytes(text))


CORPUS_FILES = sorted(CORPUS.glob("*.json"))


@pytest.mark.parametrize("path", CORPUS_FILES, ids=lambda path: path.stem)
def test_the_corpus_is_read_as_a_parser_reads_it(path: Path) -> None:
    text = path.read_bytes()
    for body in (
        text,
        b'{"data": %b}' % text,
        b'{"data": [[%b]]}' % text,
        b'{"x": %b, "data": [[1]]}' % text,
    ):
        check(body)


def test_most_valid_texts_of_the_corpus_can_be_read() -> None:
    valid = [path.read_bytes() for path in CORPUS_FILES if path.name.startswith("y_")]
    assert len(valid) > 90
    # A row of one object with the text as its only member.
    read = [text for text in valid if check(b'{"data": [{"a": %b}]}' % text)]
    assert len(read) > 0.9 * len(valid)


@given(bodies(), st.integers(1, 5))
def test_pieces_have_the_rows_of_the_whole(body: bytes, size: int) -> None:
    rows = READER.read(body)
    if rows is None:
        return
    pieces = cut(rows, size)
    assert json.loads(merge(pieces)).__repr__() == json.loads(body).__repr__()
    assert sum(piece.count for piece in pieces) == rows.count
    for piece in pieces:
        assert piece.frame is rows.frame
        assert piece.kind is rows.kind
        assert len(json.loads(merge([piece]))["data"]) == piece.count
        assert piece.count <= size or pieces == [rows]


@pytest.mark.parametrize(
    ("rows", "size", "pieces"),
    [
        pytest.param(b"[1],[2],[3]", 2, [b"[1],[2]", b"[3]"], id="lists"),
        pytest.param(b"[1],[2],[3],[4]", 2, [b"[1],[2]", b"[3],[4]"], id="all full"),
        pytest.param(b" [1] , [2]\n,\t[3] ", 1, [b"[1]", b"[2]", b"[3]"], id="white space"),
        pytest.param(b'{"a":1}, {"a":2}', 1, [b'{"a":1}', b'{"a":2}'], id="objects"),
        pytest.param(b'{"a":"}"}, {"a":"{"}', 1, [b'{"a":"}"}', b'{"a":"{"}'], id="braces"),
        pytest.param(b'["],["],["x"]', 1, [b'["],["]', b'["x"]'], id="brackets"),
        pytest.param(b'["]"],["["]', 1, [b'["]"]', b'["["]'], id="as many brackets, elsewhere"),
        pytest.param(b"[[1],[2]],[[3],[4]]", 1, [b"[[1],[2]]", b"[[3],[4]]"], id="tensors"),
        pytest.param('"é", ",","\\""'.encode(), 2, ['"é", ","'.encode(), b'"\\""'], id="strings"),
        pytest.param(b'"{}","{}"', 1, [b'"{}"', b'"{}"'], id="braces in strings"),
        pytest.param(b'"[]","[]"', 1, [b'"[]"', b'"[]"'], id="brackets in strings"),
        pytest.param(b'"]["," }{"', 1, [b'"]["', b'" }{"'], id="brackets the wrong way round"),
        pytest.param(b"[NaN],[1.5]", 1, [b"[NaN]", b"[1.5]"], id="NaN"),
        pytest.param(b"[1],[2]", 2, [b"[1],[2]"], id="fits"),
        pytest.param(b"[1],[2.5]", 1, [b"[1],[2.5]"], id="one kind only together"),
    ],
)
def test_where_rows_are_cut(rows: bytes, size: int, pieces: list[bytes]) -> None:
    whole = taken(b'{"data": [%b]}' % rows)
    assert [piece.inner for piece in cut(whole, size)] == pieces


def test_rows_describe_themselves_without_their_values() -> None:
    rows = taken(b'{"data": [["secret"]], "x": "hidden"}')
    for text in (repr(rows), repr(rows.frame)):
        assert "secret" not in text
        assert "hidden" not in text
