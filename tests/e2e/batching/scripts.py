"""Entry scripts whose answers can be compared byte for byte.

What they compute of a row is exactly reproducible, however many rows come with it: Python's own
arithmetic on one row, or numpy's products and sums of single elements. No matrix products: the
order in which those add up depends on their size, and so do the last bits.

All of them know bad rows when they see them: of the wrong width, say, which the gateway sees too,
or with 666 in them, which is a number like any other to everybody else.

They take a few milliseconds, as models do, so that requests that come together do wait.
"""

from __future__ import annotations

from pathlib import Path

_COMMON = """
import json
import os
import time

from azureml.contrib.services.aml_response import AMLResponse

SHIFT = int(os.environ.get("SHIFT", "0"))


def init():
    pass

"""

# One container serves all scripts without a schema: a header says which one is meant. Their run()
# is given the text of the request, as every undecorated run() is.
_PLAIN = """
class Unlucky(Exception):
    pass


def one(row):
    a, b = row
    if a in (666, "666"):
        raise Unlucky(f"there is something about {row}")
    return a * 3 + b + SHIFT if type(a) is not str else a + "|" + b


def careful(rows):
    try:
        return [one(row) for row in rows]
    except Exception as error:
        return str(error)


def judging(rows):
    for number, row in enumerate(rows):
        if len(row) != 2 or row[0] in (666, "666"):
            headers = {"X-Model": "strict", "Retry-After": "7"}
            return AMLResponse({"bad row": number, "is": row}, 422, headers, json_str=True)
    return [one(row) for row in rows]


def odd(rows):
    nan, endless = float("nan"), float("inf")
    return [[nan, endless, -endless, one(row)][min(len(str(row)) % 5, 3)] for row in rows]


def centred(rows):
    numbers = [one(row) for row in rows]
    return [number - sum(numbers) / len(numbers) for number in numbers]


def with_parameters(text):
    sent = json.loads(text)
    factor = (sent.get("GlobalParameters") or {}).get("factor", 1)
    return [one(row) * factor for row in sent["data"]]


SCRIPTS = {
    "list": lambda rows: [one(row) for row in rows],
    "object": lambda rows: {"result": [one(row) for row in rows]},
    "text of a list": lambda rows: json.dumps([one(row) for row in rows]),
    "text of an object": lambda rows: json.dumps({"result": [one(row) for row in rows]}),
    "careful": careful,
    "judging": judging,
    "total": lambda rows: [sum(one(row) for row in rows)],
    "centred": centred,
    "odd numbers": odd,
    "objects": lambda rows: [{"row": row, "score": one(row), "ключ": "é"} for row in rows],
}


def run(raw, request_headers):
    time.sleep(0.003)
    script = request_headers.get("X-Script", "list")
    if script == "parameters":
        return with_parameters(raw)
    return SCRIPTS[script](json.loads(raw)["data"])
"""

# The form of the guides. What numpy makes of the rows depends on all of them.
_ARRAY = """
import numpy as np
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.schema_decorators import input_schema, output_schema


@input_schema("data", NumpyParameterType(np.array([[1.5, 2.5]]){options}))
@output_schema(NumpyParameterType(np.array([4.0])))
def run(data):
    time.sleep(0.003)
    try:
        if (data[:, 0] == 666).any():
            raise ValueError(f"rows {np.flatnonzero(data[:, 0] == 666)} of {len(data)}")
        scores = (data[:, 0] * 3 + data[:, 1]).tolist()
        return {answer}
    except Exception as error:
        return str(error)
"""

_TABLE = """
import numpy as np
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.schema_decorators import input_schema

SAMPLE = np.array([(1.5, 2)], dtype=[("a", "f8"), ("b", "i8")])


@input_schema("data", NumpyParameterType(SAMPLE, enforce_shape=False))
def run(data):
    time.sleep(0.003)
    assert not (data["a"] == 666).any()
    return {"predictions": (data["a"] * 3 + data["b"]).tolist()}
"""

#: By container.
TEXTS = {
    "plain": _COMMON + _PLAIN,
    "other": _COMMON + _PLAIN,
    "array": _COMMON + _ARRAY.replace("{options}", "").replace("{answer}", "scores"),
    "loose": _COMMON
    + _ARRAY.replace("{options}", ", enforce_column_type=False, enforce_shape=False").replace(
        "{answer}", "[[data.dtype.kind, score] for score in scores]"
    ),
    "table": _COMMON + _TABLE,
}
#: What is different about a container.
ENVIRONMENTS = {"other": {"SHIFT": "1000000"}}

#: Keyed hashes of rows, for whoever knows the key.
ORACLE = """
import hashlib
import json
import os
import random
import time

KEY = os.environ["ORACLE_KEY"].encode()


def init():
    pass


def run(raw):
    rows = json.loads(raw)["data"]
    time.sleep(0.05 if random.random() < 0.02 else 0.002)
    return [
        hashlib.blake2b(repr(row).encode(), key=KEY, digest_size=16).hexdigest() for row in rows
    ]
"""


def write(folder: Path, text: str) -> Path:
    """An entry script in a folder of its own."""
    folder.mkdir(parents=True)
    script = folder / "score.py"
    script.write_text(text)
    return script
