"""A file of sample requests: what is one, what is not, and what is said of it."""

from __future__ import annotations

import json

import pytest

from gateway.control.samples import MOST, BadSample, Sample, read_samples

DATA = ("data",)


def read(
    text: str | bytes,
    field: tuple[str, ...] = DATA,
    max_rows: int = 1024,
    max_bytes: int = 1 << 20,
) -> list[Sample]:
    content = text.encode() if isinstance(text, str) else text
    return read_samples(content, field, max_rows, max_bytes)


def refusal(text: str | bytes, field: tuple[str, ...] = DATA) -> list[str]:
    with pytest.raises(BadSample) as caught:
        read(text, field)
    return str(caught.value).splitlines()


def test_lines_are_requests_and_keep_their_bytes_and_numbers() -> None:
    text = '{"data": [[1.0, 2]]}\n\n  {"data":[[17.10]]}\r\n{"data": [["é"]]}'
    samples = read(text)
    assert [(sample.name, sample.body.decode()) for sample in samples] == [
        ("line 1", '{"data": [[1.0, 2]]}'),
        ("line 3", '{"data":[[17.10]]}'),
        ("line 4", '{"data": [["é"]]}'),
    ]
    assert all(sample.rows is not None and sample.why == "" for sample in samples)


def test_requests_that_the_gateway_would_merge_have_frame_and_kind_in_common() -> None:
    one, two, three = (s.rows for s in read('{"data": [[1]]}\n{"data": [[2]]}\n{"data": [[2.5]]}'))
    assert one is not None
    assert two is not None
    assert three is not None
    assert (one.frame, one.kind) == (two.frame, two.kind)
    assert one.kind != three.kind


def test_the_rows_of_one_document_become_requests_with_its_bytes_around_them() -> None:
    text = '{\n  "data": [\n    [1.50, 2],\n    [3.25, 4]\n  ],\n  "method": "predict"\n}\n'
    samples = read(text)
    assert [sample.name for sample in samples] == ["row 1", "row 2"]
    for sample, row in zip(samples, ("[1.50, 2]", "[3.25, 4]"), strict=True):
        assert row.encode() in sample.body
        assert json.loads(sample.body) == {"data": [json.loads(row)], "method": "predict"}
    assert samples[0].rows is not None


def test_rows_deeper_in_a_document_are_found() -> None:
    samples = read('{"Inputs": {"rows": [{"a": 1}, {"a": 2}]}, "G": 1.0}', ("Inputs", "rows"))
    assert [json.loads(sample.body)["Inputs"]["rows"] for sample in samples] == [
        [{"a": 1}],
        [{"a": 2}],
    ]


def test_a_byte_order_mark_is_the_files_and_not_the_requests() -> None:
    assert read(b'\xef\xbb\xbf{"data": [[1], [2]]}')[0].body == b'{"data": [[1]]}'


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("", ["is empty"]),
        (" \n\t\n", ["is empty"]),
        ('{"data": [[1]]}', [("holds one row: at least two are needed, in data of one document or "
                             "in requests on lines of their own")]),
        ('[{"data": [[1]]}]', [("is one JSON document whose rows cannot be told apart: there is no "
                               "member data")]),
        ('{"data": 5}', [("is one JSON document whose rows cannot be told apart: data is a number, "
                         "not a list of rows")]),
        ('{"data": [[1], [2.5]]}', [("is one JSON document whose rows differ in type (such as 1 in "
                                    "one and 1.5 in another): write the requests on lines of their "
                                    "own, as clients send them")]),
        ("{}\n[1]\n5\nnull\ntrue", [
            "line 2: a list is no request; an object is expected",
            "line 3: a number is no request; an object is expected",
            "line 4: null is no request; an object is expected",
            "line 5: a truth value is no request; an object is expected",
            "expected one JSON document, or one request a line",
        ]),
        ('{"data": [[1]]}\n{"data": [[1}', [
            "line 2: is not JSON: Expecting ',' delimiter at character 13",
            "expected one JSON document, or one request a line",
        ]),
        (b'{"data": [["\xff"]]}\n', [
            "line 1: is not UTF-8", "expected one JSON document, or one request a line",
        ]),
        ("[" * 100_000, [
            "line 1: is not JSON that can be read",
            "expected one JSON document, or one request a line",
        ]),
        ("a\n" * 8, [
            *[f"line {n}: is not JSON: Expecting value at character 1" for n in range(1, 6)],
            "and 3 lines more",
            "expected one JSON document, or one request a line",
        ]),
    ],
)  # fmt: skip
def test_what_is_no_sample_is_refused_with_the_lines(text: str | bytes, report: list[str]) -> None:
    assert refusal(text) == report


@pytest.mark.parametrize(
    ("body", "field", "why"),
    [
        ('{"rows": [[1]]}', DATA, "there is no member data"),
        ('{"a": {"x": 1}}', ("a", "b"), "there is no member a.b"),
        ('{"data": {"a": 1}}', DATA, "data is an object, not a list of rows"),
        ('{"data": []}', DATA, "data is empty"),
        ('{"data": [[1], {"a": 1}]}', DATA, "the rows in data are not alike: a list, an object"),
        ('{"data": [1, 2]}', DATA, "data lists a number, but rows are lists, objects or texts"),
        ('{"data": [[1], [2]], "index": [0, 1]}', DATA,
         "a list beside data has as many elements as there are rows and may belong to them"),
        ('{"data": [[1], [2, 3]]}', DATA,
         ("the rows in data differ in width, names or types; or a name occurs twice in an object, "
         "an integer has more than 64 bits, or a name such as created_at may stand for dates")),
        ('{"data": [[1], [2], [3], [4]]}', DATA, "it has 4 rows, more than the 3 of a call"),
        ('{"data": [["' + 50 * "x" + '"]]}', DATA,
         "it has 66 bytes; requests of at most 60 are merged"),
    ],
)  # fmt: skip
def test_requests_that_are_never_merged_say_why(
    body: str, field: tuple[str, ...], why: str
) -> None:
    good = '{"data": [[1]]}'
    sample = read(f"{good}\n{body}", field, max_rows=3, max_bytes=60)[1]
    assert (sample.rows, sample.why) == (None, why)


def test_more_requests_than_are_useful_are_not_used() -> None:
    samples = read("".join(f'{{"data": [[{n}]]}}\n' for n in range(MOST + 5)))
    assert (len(samples), samples[-1].name) == (MOST, f"line {MOST}")
