# mypy: ignore-errors
"""The same Ridge model behind BentoML with its batching on: ``bentoml_server.py PORT``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bentoml
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Diabetes:
    def __init__(self) -> None:
        data = load_diabetes()
        self.model = Ridge().fit(data.data, data.target)

    @bentoml.api(
        batchable=True, batch_dim=0, max_batch_size=1024, max_latency_ms=60000, route="/predict"
    )
    def predict(self, data: np.ndarray) -> np.ndarray:
        return self.model.predict(data)


if __name__ == "__main__":
    here = Path(__file__).resolve()
    program = str(Path(sys.executable).parent / "bentoml")
    service = f"{here.stem}:{Diabetes.name}"
    os.environ |= {"BENTOML_HOME": os.getcwd(), "BENTOML_DO_NOT_TRACK": "True"}
    command = [program, "serve", service, "--host", "127.0.0.1", "--port", sys.argv[1]]
    os.execv(program, [*command, "--working-dir", str(here.parent)])
