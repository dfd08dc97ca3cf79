# mypy: ignore-errors
"""The same Ridge model behind LitServe with its batching on: ``litserve_server.py PORT``."""

from __future__ import annotations

import sys

import litserve
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge


class Diabetes(litserve.LitAPI):
    def setup(self, device):
        data = load_diabetes()
        self.model = Ridge().fit(data.data, data.target)

    def decode_request(self, request):
        return request["data"][0]

    def batch(self, inputs):
        return np.asarray(inputs)

    def predict(self, inputs):
        return self.model.predict(inputs)

    def unbatch(self, output):
        return output.tolist()

    def encode_response(self, output):
        return [output]


if __name__ == "__main__":
    # Two HTTP processes and a model process on two cores. A batch waits up to 2 ms for company.
    # Of what was tried (64, 256, 1024 rows; 0, 1, 2, 5 ms; one and two HTTP processes; with and
    # without the fast queue) this did best over 8, 64 and 256 connections.
    api = Diabetes(max_batch_size=256, batch_timeout=0.002, api_path="/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=2,
        generate_client_file=False,
        log_level="warning",
    )
