"""What an answer to a merged call means (peers.md 2.6, the scoring server 1.5.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.verdicts import Verdict, judge, shared_lines

SPLIT, HALVE, SHRINK, SHARE = Verdict

# As azureml-inference-server-http 1.5.1 sends them.
RETURNED = b"x-ms-run-function-failed: False\r\nx-ms-run-fn-exec-ms: 0.035\r\n"
RETURNED_ERROR = b"x-ms-run-function-failed: True\r\nx-ms-run-fn-exec-ms: 0.078\r\n"
RAISED = b"x-ms-run-function-failed: True\r\n"
SERVER = b"x-ms-run-function-failed: False\r\n"
JSON = b"Content-Type: application/json\r\n"
TOO_LATE = b'{"message": "Scoring timeout after 500 ms"}'
UNHANDLED = b'{"message": "An unexpected internal error occurred. Check the logs for more info."}'
NOT_FOUND = b'{"message": "The requested URL was not found on the server."}'


@pytest.mark.parametrize(
    ("status", "lines", "body", "verdict"),
    [
        pytest.param(200, RETURNED, b"[1, 2]", SPLIT, id="an answer"),
        pytest.param(200, b"", b"", SPLIT, id="of another server"),
        pytest.param(200, RETURNED, b'"could not convert"', SPLIT, id="whether it can be split"),
        pytest.param(200, b"X-Ms-Run-Function-Failed: TRUE\r\n", b"[1]", HALVE, id="200, failed"),
        pytest.param(201, RETURNED, b"[1, 2]", HALVE, id="created"),
        pytest.param(204, RETURNED, b"", HALVE, id="nothing"),
        pytest.param(206, b"", b"[1, 2]", HALVE, id="a part"),
        pytest.param(302, b"", b"", HALVE, id="a redirection"),
        pytest.param(400, SERVER, b'{"message": "POST body"}', HALVE, id="bad input"),
        pytest.param(400, RETURNED, b"no", HALVE, id="run() says bad input"),
        pytest.param(400, b"", b"", HALVE, id="another server says bad input"),
        pytest.param(422, b"", b"", HALVE, id="another server cannot process"),
        pytest.param(500, b"", b"", HALVE, id="another server fails"),
        pytest.param(401, b"", b"", HALVE, id="a filter before the container"),
        pytest.param(403, b"", b"", HALVE, id="a filter before the container, too"),
        pytest.param(404, b"", b"", HALVE, id="another server finds no such customer"),
        pytest.param(404, RETURNED, b"no such customer", HALVE, id="run() finds no such customer"),
        pytest.param(404, SERVER, NOT_FOUND, SHARE, id="no such path"),
        pytest.param(424, b"", b"", HALVE, id="a managed front end's"),
        *(
            pytest.param(status, lines, b"", SHARE, id=f"{status}, {len(lines)}")
            for status in (405, 407, 408, 414, 415, 421, 429, 431, 502, 503, 504, 505)
            for lines in (b"", SERVER)
        ),
        *(
            pytest.param(status, RETURNED, b"", HALVE, id=f"{status} of run()")
            for status in (401, 404, 405, 408, 413, 415, 418, 429, 431)
        ),
        *(
            pytest.param(status, RETURNED_ERROR, b"", HALVE, id=f"{status} of run()")
            for status in (500, 502, 503, 504, 599)
        ),
        pytest.param(500, RAISED, b'{"message": "An unexpected error"}', HALVE, id="it raised"),
        pytest.param(502, RAISED, b'{"message": "An unexpected error"}', HALVE, id="front end"),
        pytest.param(500, SERVER, b'{"message": "x"}', SHARE, id="internal"),
        pytest.param(500, SERVER, UNHANDLED, HALVE, id="a result that is no JSON"),
        pytest.param(500, RAISED, TOO_LATE, SHRINK, id="too slow"),
        pytest.param(502, RAISED, TOO_LATE, SHRINK, id="too slow behind a front end"),
        pytest.param(500, RAISED, b"Scoring timeout after 60000 ms", SHRINK, id="before 0.8.0"),
        pytest.param(500, SERVER, TOO_LATE, SHARE, id="too slow, it did not say"),
        pytest.param(500, RETURNED_ERROR, TOO_LATE, HALVE, id="run() quotes it"),
        pytest.param(500, RAISED, b"row 3: Scoring timeout after 5 ms", HALVE, id="quoted"),
        pytest.param(500, RAISED, TOO_LATE + b" for row 3", HALVE, id="quoted at the beginning"),
        pytest.param(408, b"", b"upstream request timeout", SHRINK, id="too slow, managed"),
        pytest.param(413, b"", b"", SHRINK, id="too large together"),
        pytest.param(413, SERVER, b"", SHRINK, id="too large for the server"),
    ],
)
def test_what_an_answer_means(status: int, lines: bytes, body: bytes, verdict: Verdict) -> None:
    assert judge(status, JSON + lines, body) is verdict
    assert judge(status, lines + JSON, body) is verdict


OF_ONE = [
    b"Set-Cookie",
    b"Set-Cookie2",
    b"ETag",
    b"Content-MD5",
    b"Content-Digest",
    b"Content-Range",
    b"Content-Encoding",
    b"Content-Location",
    b"Digest",
    b"Repr-Digest",
    b"Location",
    b"Authentication-Info",
    b"Signature",
    b"Signature-Input",
]
OF_ALL = [
    b"Content-Type",
    b"Last-Modified",
    b"Cache-Control",
    b"X-ETag",
    b"ETag-Like",
    b"X-Location",
    b"Traceparent",
    b"x-ms-server-version",
]


@pytest.mark.parametrize("name", OF_ONE)
@pytest.mark.parametrize("space", [b":", b": ", b" : "])
def test_what_belongs_to_one_is_not_split(name: bytes, space: bytes) -> None:
    for spelling in (name, name.lower(), name.upper()):
        line = spelling + space + b"x\r\n"
        assert judge(200, RETURNED + line, b"[1]") is HALVE
        assert judge(200, line + RETURNED, b"[1]") is HALVE


@pytest.mark.parametrize("name", OF_ALL)
@pytest.mark.parametrize("value", [b"x", b"ETag: 1", b"etag:", b"set-cookie: a=b"])
def test_what_belongs_to_all_is_split(name: bytes, value: bytes) -> None:
    assert judge(200, RETURNED + name + b": " + value + b"\r\n" + JSON, b"[1]") is SPLIT


@pytest.mark.parametrize("value", [b"true", b"True", b"TRUE", b"\tTrue "])
def test_the_evidence_is_read_in_any_spelling(value: bytes) -> None:
    line = b"X-MS-Run-Function-Failed:" + value + b"\r\n"
    assert judge(503, line, b"") is HALVE
    assert judge(503, JSON + line, b"") is HALVE


@pytest.mark.parametrize("value", [b"truest", b"", b"untrue", b"1"])
def test_what_is_neither_true_nor_false_is_no_evidence(value: bytes) -> None:
    line = b"x-ms-run-function-failed: " + value + b"\r\n"
    assert judge(503, line, b"") is SHARE
    assert judge(500, line, b"") is HALVE
    assert judge(200, line, b"[1]") is SPLIT


def test_a_shared_answer_carries_no_credentials() -> None:
    lines = (
        b"Retry-After: 1\r\nSET-COOKIE: a=1\r\nset-cookie : b=2\r\nX-Set-Cookie: kept\r\n"
        b"Authentication-Info: nextnonce=1\r\nContent-Type: text/plain\r\nSet-Cookie:\r\n"
    )
    assert shared_lines(lines) == (
        b"Retry-After: 1\r\nX-Set-Cookie: kept\r\nContent-Type: text/plain\r\n"
    )


FIELDS = st.lists(
    st.tuples(
        st.sampled_from([*OF_ONE, *OF_ALL, b"X-Ms-Run-Fn-Exec-Ms", b"x-ms-run-function-failed"]),
        st.sampled_from([b"True", b"False", b"0.1", b"", b"set-cookie: a=b", b"Location:"]),
    ),
    max_size=6,
)


@given(status=st.integers(200, 599), fields=FIELDS, body=st.sampled_from([b"", TOO_LATE]))
def test_only_what_run_did_not_return_is_shared_and_only_a_plain_200_split(
    status: int, fields: list[tuple[bytes, bytes]], body: bytes
) -> None:
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    verdict = judge(status, lines, body)
    names = {name.lower() for name, _ in fields}
    if verdict is SPLIT:
        assert status == 200
        assert names.isdisjoint(name.lower() for name in OF_ONE)
        assert (b"x-ms-run-function-failed", b"True") not in fields
    elif verdict is SHARE:
        assert status >= 400
        assert b"x-ms-run-fn-exec-ms" not in names
    left = [line for line in lines.splitlines(True) if not line.lower().startswith(b"set-cookie")]
    left = [line for line in left if not line.startswith(b"Authentication-Info")]
    assert shared_lines(lines) == b"".join(left)
