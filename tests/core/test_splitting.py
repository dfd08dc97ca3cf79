"""An answer is cut into exactly what the container would have written for each part, or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.splitting import join_answers, split_answer

CORPUS = Path(__file__).resolve().parents[1] / "corpora" / "jsontestsuite" / "test_parsing"


@pytest.mark.parametrize(
    ("body", "counts", "parts"),
    [
        pytest.param(b"[0.1, 0.2]", [1, 1], [b"[0.1]", b"[0.2]"], id="numbers"),
        pytest.param(b"[0.1,0.2]", [1, 1], [b"[0.1]", b"[0.2]"], id="compact"),
        pytest.param(b"[1, 2, 3]", [2, 1], [b"[1, 2]", b"[3]"], id="more than one row"),
        pytest.param(b"[1,2,3]", [1, 2], [b"[1]", b"[2,3]"], id="more than one row, compact"),
        pytest.param(b"[1, 2]\n", [1, 1], [b"[1]\n", b"[2]\n"], id="newline at the end"),
        pytest.param(b"[1, 2]", [2], [b"[1, 2]"], id="one request"),
        pytest.param(b"[1]", [1], [b"[1]"], id="one row"),
        pytest.param(
            b"[NaN, -Infinity, Infinity]",
            [1, 1, 1],
            [b"[NaN]", b"[-Infinity]", b"[Infinity]"],
            id="not in the standard",
        ),
        pytest.param(
            b"[1.0, 1e-07, 18446744073709551617, -0, 1E400]",
            [1, 2, 2],
            [b"[1.0]", b"[1e-07, 18446744073709551617]", b"[-0, 1E400]"],
            id="nothing is written anew",
        ),
        pytest.param(b"[true, null]", [1, 1], [b"[true]", b"[null]"], id="words"),
        pytest.param(b"[[1, 2], [3, 4]]", [1, 1], [b"[[1, 2]]", b"[[3, 4]]"], id="rows"),
        pytest.param(b"[[1,2],[3,4]]", [1, 1], [b"[[1,2]]", b"[[3,4]]"], id="compact rows"),
        pytest.param(b"[[1, NaN], [3, 4]]", [1, 1], [b"[[1, NaN]]", b"[[3, 4]]"], id="NaN in rows"),
        pytest.param(b"[[], []]", [1, 1], [b"[[]]", b"[[]]"], id="empty rows"),
        pytest.param(b"[[[1]], [[2]]]", [1, 1], [b"[[[1]]]", b"[[[2]]]"], id="deep rows"),
        pytest.param(b'["a", ""]', [1, 1], [b'["a"]', b'[""]'], id="strings"),
        pytest.param(b'[", ", ", "]', [1, 1], [b'[", "]', b'[", "]'], id="separators in strings"),
        pytest.param(
            b'["a\\", \\"b", "c"]', [1, 1], [b'["a\\", \\"b"]', b'["c"]'], id="escaped quotes"
        ),
        pytest.param(b'["\\\\", "\\\\"]', [1, 1], [b'["\\\\"]', b'["\\\\"]'], id="backslashes"),
        pytest.param(b'["\\ud800", "a"]', [1, 1], [b'["\\ud800"]', b'["a"]'], id="half a pair"),
        pytest.param(
            b'[["], ["], ["], ["]]',
            [1, 1],
            [b'[["], ["]]', b'[["], ["]]'],
            id="brackets in strings",
        ),
        pytest.param(b'[["]"], ["["]]', [1, 1], [b'[["]"]]', b'[["["]]'], id="as many brackets"),
        pytest.param(
            b'[{"a": 1}, {"a": "}"}]', [1, 1], [b'[{"a": 1}]', b'[{"a": "}"}]'], id="objects"
        ),
        pytest.param(b'[{"a":1},{"a":2}]', [1, 1], [b'[{"a":1}]', b'[{"a":2}]'], id="records"),
        pytest.param(b'[1, "a", [2], {}]', [3, 1], [b'[1, "a", [2]]', b"[{}]"], id="mixture"),
        pytest.param(
            '["é", "漢"]'.encode(), [1, 1], ['["é"]'.encode(), '["漢"]'.encode()], id="not ASCII"
        ),
        pytest.param(
            '[["é", NaN, [1]], ["漢", 1, [2]]]'.encode(),
            [1, 1],
            ['[["é", NaN, [1]]]'.encode(), '[["漢", 1, [2]]]'.encode()],
            id="not ASCII, nor JSON",
        ),
        pytest.param(
            b'{"result": [1, 2]}', [1, 1], [b'{"result": [1]}', b'{"result": [2]}'], id="object"
        ),
        pytest.param(
            b'{"Results":{"Output0":[1,2]}}\n',
            [1, 1],
            [b'{"Results":{"Output0":[1]}}\n', b'{"Results":{"Output0":[2]}}\n'],
            id="objects around",
        ),
        pytest.param(
            b'{"a": {"b": {"c": {"d": [1, 2]}}}}',
            [1, 1],
            [b'{"a": {"b": {"c": {"d": [1]}}}}', b'{"a": {"b": {"c": {"d": [2]}}}}'],
            id="four objects",
        ),
        pytest.param(b'{"a": {"b": {"c": {"d": {"e": [1, 2]}}}}}', [1, 1], None, id="five objects"),
        pytest.param(
            b'{"[\\"]}{\\u00e9": [1, 2]}',
            [1, 1],
            [b'{"[\\"]}{\\u00e9": [1]}', b'{"[\\"]}{\\u00e9": [2]}'],
            id="strange name",
        ),
        pytest.param(b'"[1, 2]"', [1, 1], [b'"[1]"', b'"[2]"'], id="string"),
        pytest.param(
            b'"{\\"result\\": [1, 2]}"',
            [1, 1],
            [b'"{\\"result\\": [1]}"', b'"{\\"result\\": [2]}"'],
            id="object in a string",
        ),
        pytest.param(
            b'"[\\"\\u00e9\\", \\"\\\\\\"\\"]"',
            [1, 1],
            [b'"[\\"\\u00e9\\"]"', b'"[\\"\\\\\\"\\"]"'],
            id="strings in a string",
        ),
        pytest.param(
            '"[\\"é\\", \\"a\\"]"'.encode(),
            [1, 1],
            ['"[\\"é\\"]"'.encode(), b'"[\\"a\\"]"'],
            id="not ASCII in a string",
        ),
        pytest.param(b'"[1\\u002c 2]"', [1, 1], None, id="escaped needlessly"),
        pytest.param(b'"\\/[1, 2]"', [1, 1], None, id="escaped slash"),
        pytest.param(
            '"[\\"é\\", \\"\\u00e9\\"]"'.encode(), [1, 1], None, id="escaped now and then"
        ),
        pytest.param(b'"\\"[1, 2]\\""', [1, 1], None, id="string in a string"),
        pytest.param(b'{"a": "[1, 2]"}', [1, 1], None, id="string in an object"),
        pytest.param(b'"[\\"\\ud800\\", 1]"', [1, 1], None, id="half a pair in a string"),
        pytest.param(b'"list index out of range"', [1, 1], None, id="what went wrong"),
        pytest.param(b"[1, 2, 3]", [1, 1], None, id="too many"),
        pytest.param(b"[1]", [1, 1], None, id="too few"),
        pytest.param(b"[]", [1], None, id="none"),
        pytest.param(b"[[1, 2]]", [1, 1], None, id="right number, one deeper"),
        pytest.param(b"[[1], [2, [3], [4]]]", [1, 1, 1, 1], None, id="right number of pieces"),
        pytest.param(b'["a, b"]', [1, 1], None, id="right number of commas"),
        pytest.param(b'["a", "b]', [1, 1], None, id="string not closed"),
        pytest.param(b'[["a], [b"]]', [1, 1], None, id="boundary in a string"),
        pytest.param(b'{"a": [1, 2], "b": 3}', [1, 1], None, id="another member"),
        pytest.param(b'{"b": 3, "a": [1, 2]}', [1, 1], None, id="another member before"),
        pytest.param(b'{"a": [1, 2], "a": [3, 4]}', [1, 1], None, id="twice"),
        pytest.param(b'{"a": [1], "b": [2]}', [1, 1], None, id="two lists"),
        pytest.param(b'{"a": 1, "b": 2}', [1, 1], None, id="two members"),
        pytest.param(b'{"0": 1}', [1], None, id="no list"),
        pytest.param(b"[1,2, 3]", [1, 1, 1], None, id="two styles"),
        pytest.param(b"[1, 2,3]", [1, 1, 1], None, id="two styles, the other first"),
        pytest.param(b'["a", "b","c"]', [1, 1, 1], None, id="two styles, strings"),
        pytest.param(
            b'["a",", ","c"]', [1, 1, 1], [b'["a"]', b'[", "]', b'["c"]'], id="misleading"
        ),
        pytest.param(b"[[1],[2], [3]]", [1, 1, 1], None, id="two styles, rows"),
        pytest.param(b'[{},1, "a"]', [1, 1, 1], None, id="two styles, mixture"),
        pytest.param(b"[1,  2]", [1, 1], None, id="two spaces"),
        pytest.param(b"[1 , 2]", [1, 1], None, id="space before the comma"),
        pytest.param(b"[ 1, 2]", [1, 1], None, id="space at the beginning"),
        pytest.param(b"[1, 2 ]", [1, 1], None, id="space at the end"),
        pytest.param(b"[1 ]", [1], None, id="space at the end of one"),
        pytest.param(b'[ "a", "b"]', [1, 1], None, id="space before a string"),
        pytest.param(b'["a", {} ]', [1, 1], None, id="space after an object"),
        pytest.param(b'[{}, "a" , 1]', [1, 1, 1], None, id="space before a comma, mixture"),
        pytest.param(b"[[ 1], [2]]", [1, 1], None, id="space in a row"),
        pytest.param(b"[1,\n2]", [1, 1], None, id="lines"),
        pytest.param(b"[\n  1,\n  2\n]", [1, 1], None, id="indented"),
        pytest.param(b"[1,\t2]", [1, 1], None, id="tabs"),
        pytest.param(b"[1, 2] ", [1, 1], None, id="space after the list"),
        pytest.param(b" [1, 2]", [1, 1], None, id="space before the list"),
        pytest.param(b"[1, 2]\n\n", [1, 1], None, id="two lines at the end"),
        pytest.param(b'{"a": [1, 2] }', [1, 1], None, id="space after the list inside"),
        pytest.param(b'{ "a": [1, 2]}', [1, 1], None, id="space before the name"),
        pytest.param(b'{"a" : [1, 2]}', [1, 1], None, id="space after the name"),
        pytest.param(b'{"a":  [1, 2]}', [1, 1], None, id="two spaces after the colon"),
        pytest.param(b'{"a": [1, 2]', [1, 1], None, id="object not closed"),
        pytest.param(b'{"a": [1, 2]}}', [1, 1], None, id="object closed twice"),
        pytest.param(b'{"\xff": [1, 2]}', [1, 1], None, id="name not UTF-8"),
        pytest.param(b'{"\\u00g0": [1, 2]}', [1, 1], None, id="name not JSON"),
        pytest.param(b"[1, 2", [1, 1], None, id="not closed"),
        pytest.param(b"[1, 2]]", [1, 1], None, id="closed twice"),
        pytest.param(b"[1, 2] x]", [1, 1], None, id="more after the end"),
        pytest.param(b"[1, ]", [1, 1], None, id="comma at the end"),
        pytest.param(b"[1, 02]", [1, 1], None, id="not a number"),
        pytest.param(b"[1, nan]", [1, 1], None, id="not a number, though it says so"),
        pytest.param(b"[1NaN, 2]", [1, 1], None, id="not a number either"),
        pytest.param(b"[[1, 2], [3, 4}]", [1, 1], None, id="wrong bracket"),
        pytest.param(b'["\xff", "a"]', [1, 1], None, id="not UTF-8"),
        pytest.param(b"", [1], None, id="empty"),
        pytest.param(b"\n", [1], None, id="empty line"),
        pytest.param(b'"', [1], None, id="quote"),
        pytest.param(b"[", [1], None, id="bracket"),
        pytest.param(b"]", [1], None, id="closing bracket"),
        pytest.param(b"1", [1], None, id="number"),
        pytest.param(b"null", [1], None, id="null"),
        pytest.param(b"<html>", [1], None, id="no JSON"),
        pytest.param(b"[" * 9000 + b"]" * 9000, [1], None, id="deep"),
        pytest.param(b'{"a": ' * 9000 + b"[]" + b"}" * 9000, [1], None, id="deep objects"),
        pytest.param(b"[1, 2]", [], None, id="no request"),
        pytest.param(b"[1, 2]", [2, 0], None, id="request without rows"),
        pytest.param(b"[1, 2]", [3, -1], None, id="request with less"),
    ],
)
def test_where_an_answer_is_cut(body: bytes, counts: list[int], parts: list[bytes] | None) -> None:
    assert split_answer(body, counts) == parts


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text('a"\\[]{}, :\u00e9\ud83d\U0001f600', max_size=6)
    | st.text(max_size=4)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
STRINGS = st.text('a"\\[]{}, \u00e9', max_size=6)
ELEMENTS = (
    st.lists(st.floats() | st.integers(), min_size=1, max_size=8)
    | st.lists(STRINGS, min_size=1, max_size=8)
    | st.lists(st.lists(st.floats() | STRINGS, max_size=3), min_size=1, max_size=8)
    | st.lists(st.dictionaries(STRINGS, st.floats() | STRINGS, max_size=3), min_size=1, max_size=8)
    | st.lists(VALUES, min_size=1, max_size=8)
)
STYLES = st.sampled_from([(", ", ": "), (",", ":")])
Writer = Callable[[list[Any]], bytes]


@st.composite
def writers(draw: st.DrawFn) -> Writer:
    """What a container does with the list of predictions: wrap it and write it."""
    names = draw(st.lists(st.text(max_size=3), max_size=4))
    separators, ascii_only = draw(STYLES), draw(st.booleans())
    coat = draw(st.none() | st.booleans())
    end = draw(st.sampled_from(["", "\n"]))

    def write(elements: list[Any]) -> bytes:
        value: Any = elements
        for name in names:
            value = {name: value}
        text = json.dumps(value, separators=separators, ensure_ascii=ascii_only)
        if coat is not None:
            text = json.dumps(text, ensure_ascii=coat)
        return (text + end).encode(errors="surrogatepass")

    return write


@st.composite
def partitions(draw: st.DrawFn) -> list[list[Any]]:
    """Elements, cut into parts of at least one."""
    elements = draw(ELEMENTS)
    if draw(st.booleans()):
        return [[element] for element in elements]
    cuts = sorted(draw(st.sets(st.integers(1, len(elements)))) | {0, len(elements)})
    return [elements[a:b] for a, b in pairwise(cuts)]


def has_surrogates(*bodies: bytes) -> bool:
    """Whether there is half of a pair in them, as such or escaped."""
    text = b"".join(bodies)
    try:
        text.decode()
    except UnicodeDecodeError:
        return True
    return b"\\ud" in text


@given(partitions(), writers())
def test_each_receives_what_would_have_been_written_for_it(
    parts: list[list[Any]], write: Writer
) -> None:
    body = write([element for part in parts for element in part])
    found = split_answer(body, [len(part) for part in parts])
    if found is None:
        assert has_surrogates(body)
    else:
        assert found == [write(part) for part in parts]


@given(partitions(), writers())
def test_joining_is_the_reverse_of_cutting(parts: list[list[Any]], write: Writer) -> None:
    bodies = [write(part) for part in parts]
    counts = [len(part) for part in parts]
    whole = join_answers(bodies, counts)
    if whole is None:
        nobody_shows_the_style = len(bodies) > 1 and max(counts) == 1
        assert nobody_shows_the_style or has_surrogates(*bodies)
    else:
        assert whole == write([element for part in parts for element in part])


@given(
    partitions(),
    writers(),
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from(b'[]{},:" \\0e-N\n')), min_size=1, max_size=3
    ),
)
def test_a_damaged_answer_is_not_cut_into_something_else(
    parts: list[list[Any]], write: Writer, damage: list[tuple[float, int]]
) -> None:
    text = bytearray(write([element for part in parts for element in part]))
    for where, byte in damage:
        place = int(where * len(text))
        text[place : place + byte % 2] = bytes([byte])
    check(bytes(text), [len(part) for part in parts])


def unwrapped(body: bytes) -> list[Any]:
    value = json.loads(body)
    if isinstance(value, str):
        value = json.loads(value)
    while isinstance(value, dict):
        (value,) = value.values()
    assert isinstance(value, list)
    return value


def check(body: bytes, counts: list[int]) -> bool:
    """That the parts, if there are any, hold the elements in their order."""
    parts = split_answer(body, counts)
    if parts is None:
        return False
    lists = [unwrapped(part) for part in parts]
    assert [len(each) for each in lists] == counts
    assert repr([element for each in lists for element in each]) == repr(unwrapped(body))
    assert split_answer(body, [sum(counts)]) == [body]
    return True


CORPUS_FILES = sorted(CORPUS.glob("*.json"))


@pytest.mark.parametrize("path", CORPUS_FILES, ids=lambda path: path.stem)
def test_the_corpus_is_cut_as_a_parser_reads_it(path: Path) -> None:
    text = path.read_bytes()
    for count in (1, 2, 3):
        check(text, [1] * count)
    check(b"[%b, %b]" % (text, text), [1, 1])
    check(b'[[%b],["a"],[%b]]' % (text, text), [1, 2])
    check(b'{"a": [%b, 1]}' % text, [1, 1])
    check(json.dumps(text.decode(errors="replace")).encode(), [1])


def test_most_valid_texts_of_the_corpus_can_be_cut() -> None:
    valid = [path.read_bytes() for path in CORPUS_FILES if path.name.startswith("y_")]
    assert len(valid) > 90
    cut = [text for text in valid if check(b"[%b, [2]]" % text, [1, 1])]
    # All but those with white space where json.dumps() writes none.
    spaced = [text for text in valid if text.strip() != text or b"\n" in text or b" " in text]
    assert len(cut) >= len(valid) - len(spaced)


@pytest.mark.parametrize(
    ("bodies", "counts", "whole"),
    [
        pytest.param([b"[1, 2]", b"[3]"], [2, 1], b"[1, 2, 3]", id="one shows the style"),
        pytest.param([b"[1]", b"[2,3]"], [1, 2], b"[1,2,3]", id="the second, compact"),
        pytest.param([b"[1]"], [1], b"[1]", id="one part"),
        pytest.param([b"[1]", b"[2]"], [1, 1], None, id="none shows the style"),
        pytest.param([b"[1, 2]", b"[3,4]"], [2, 2], None, id="two styles"),
        pytest.param([b"[1, 2]", b"[3, 4]"], [2, 1], None, id="not what was expected"),
        pytest.param([b"[1, 2]", b'"Error"'], [2, 1], None, id="an error"),
        pytest.param([b'{"a": [1, 2]}', b'{"b": [3]}'], [2, 1], None, id="other names"),
        pytest.param([b'{"a": [1, 2]}', b"[3]"], [2, 1], None, id="object and list"),
        pytest.param([b'"[1, 2]"', b"[3]"], [2, 1], None, id="string and list"),
        pytest.param([b"[1, 2]\n", b"[3]"], [2, 1], None, id="with and without newline"),
        pytest.param(
            [b'["a", "b"]', b'["\\""]'], [2, 1], b'["a", "b", "\\""]', id="cut in different ways"
        ),
        pytest.param(
            ['"[\\"é\\", 1]"'.encode(), b'"[\\"\\u00e9\\"]"'], [2, 1], None, id="two ways to escape"
        ),
        pytest.param([], [], None, id="no part"),
        pytest.param([b"[1]"], [1, 1], None, id="fewer parts than counts"),
        pytest.param([b"[1, 2]", b"[]"], [2, 0], None, id="part without rows"),
    ],
)
def test_how_answers_are_joined(
    bodies: list[bytes], counts: list[int], whole: bytes | None
) -> None:
    assert join_answers(bodies, counts) == whole
