# mypy: ignore-errors
"""The same Ridge model behind MLServer with its batching on: ``mlserver_server.py PORT``."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main(port: int) -> None:
    data = load_diabetes()
    joblib.dump(Ridge().fit(data.data, data.target), "model.joblib")
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "debug": False,
        "gzip_enabled": False,
        # The model runs in the HTTP process: handing a row to a worker process costs more than
        # a Ridge model does.
        "parallel_workers": 0,
    }
    model = {
        "name": "diabetes",
        "implementation": "mlserver_sklearn.SKLearnModel",
        # A batch waits max_batch_time to be full, however idle the server is. Of what was tried
        # (16, 64, 256 rows; 1, 2, 5, 10 ms) this did best over 8, 64 and 256 connections.
        "max_batch_size": 64,
        "max_batch_time": 0.001,
        "parameters": {"uri": "./model.joblib"},
    }
    Path("settings.json").write_text(json.dumps(settings))
    Path("model-settings.json").write_text(json.dumps(model))
    program = str(Path(sys.executable).parent / "mlserver")
    os.execv(program, [program, "start", "."])


if __name__ == "__main__":
    main(int(sys.argv[1]))
