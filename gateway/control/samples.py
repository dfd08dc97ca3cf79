"""Sample requests from a file: one request body a line, or one document whose rows become one
request each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.rows import RowReader, Rows, cut, merge

# More are not used: a verification should take seconds, and what some hundreds of requests do not
# show thousands will not.
MOST = 500
# Of the lines that are wrong, so many are told.
_TOLD = 5
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BadSample(Exception):
    """The file is no sample; the message says why, a line for each thing that is wrong."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. ``rows`` is None if it would never be merged; ``why`` says why."""

    name: str
    body: bytes
    rows: Rows | None
    why: str = ""


def read_samples(text: bytes, field: Sequence[str], max_rows: int, max_bytes: int) -> list[Sample]:
    """The requests of a file, judged as the gateway judges them.

    :param field: names of the members that lead to the rows.
    :param max_rows: of a request that may be merged.
    :param max_bytes: of its body.
    :raises BadSample: there are none, or something else is in the file.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    if not text.strip():
        raise BadSample("is empty")
    named = _rows_of(text.strip(), field) if _is_json(text) else _requests_of(text)
    reader = RowReader(field, max_bytes=max_bytes)
    samples = []
    for name, body in named[:MOST]:
        rows = reader.read(body)
        why = _why_alone(body, rows, field, max_rows, max_bytes)
        samples.append(Sample(name, body, None if why else rows, why))
    return samples


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _rows_of(text: bytes, field: Sequence[str]) -> list[tuple[str, bytes]]:
    """The rows of a document, each as a request of its own with the document's bytes around it."""
    member = ".".join(field)
    rows = RowReader(field, max_bytes=len(text)).read(text)
    if rows is None:
        why = _why_not_read(text, field)
        raise BadSample(f"is one JSON document whose rows cannot be told apart: {why}")
    if rows.count == 1:
        raise BadSample(
            f"holds one row: at least two are needed, in {member} of one document or in requests "
            "on lines of their own"
        )
    pieces = cut(rows, 1)
    if len(pieces) < rows.count:
        raise BadSample(
            "is one JSON document whose rows differ in type (such as 1 in one and 1.5 in another): "
            "write the requests on lines of their own, as clients send them"
        )
    return [(f"row {number}", merge([piece])) for number, piece in enumerate(pieces, 1)]


def _requests_of(text: bytes) -> list[tuple[str, bytes]]:
    requests, wrong = [], []
    for number, line in enumerate(text.splitlines(), 1):
        body = line.strip()
        if not body:
            continue
        try:
            value = json.loads(body.decode())
        except UnicodeDecodeError:
            wrong.append(f"line {number}: is not UTF-8")
        except json.JSONDecodeError as error:
            wrong.append(f"line {number}: is not JSON: {error.msg} at character {error.pos + 1}")
        except (ValueError, RecursionError):
            wrong.append(f"line {number}: is not JSON that can be read")
        else:
            if isinstance(value, dict):
                requests.append((f"line {number}", body))
            else:
                wrong.append(f"line {number}: {_kind(value)} is no request; an object is expected")
    if wrong:
        more = [f"and {len(wrong) - _TOLD} lines more"] if len(wrong) > _TOLD else []
        hint = "expected one JSON document, or one request a line"
        raise BadSample("\n".join([*wrong[:_TOLD], *more, hint]))
    return requests


def _why_alone(
    body: bytes, rows: Rows | None, field: Sequence[str], max_rows: int, max_bytes: int
) -> str:
    """Why a request would never be merged; empty if it could be."""
    if rows is not None:
        many = rows.count > max_rows
        return f"it has {rows.count} rows, more than the {max_rows} of a call" if many else ""
    if len(body) > max_bytes:
        return f"it has {len(body)} bytes; requests of at most {max_bytes} are merged"
    return _why_not_read(body, field)


def _why_not_read(body: bytes, field: Sequence[str]) -> str:
    """A guess why there are no rows that could be told from the rest of a body."""
    value = json.loads(body.decode())
    path = ".".join(field)
    beside: list[Any] = []
    for name in field:
        if not isinstance(value, dict) or name not in value:
            return f"there is no member {path}"
        beside += [other for key, other in value.items() if key != name]
        value = value[name]
    if not isinstance(value, list):
        return f"{path} is {_kind(value)}, not a list of rows"
    if not value:
        return f"{path} is empty"
    kinds = sorted({_kind(row) for row in value})
    if len(kinds) > 1:
        return f"the rows in {path} are not alike: {', '.join(kinds)}"
    if not isinstance(value[0], list | dict | str):
        return f"{path} lists {kinds[0]}, but rows are lists, objects or texts"
    if any(isinstance(other, list) and len(other) == len(value) for other in beside):
        return f"a list beside {path} has as many elements as there are rows and may belong to them"
    return (
        f"the rows in {path} differ in width, names or types; or a name occurs twice in an object, "
        "an integer has more than 64 bits, or a name such as created_at may stand for dates"
    )


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value"}
    return "null" if value is None else names.get(type(value), "a number")
