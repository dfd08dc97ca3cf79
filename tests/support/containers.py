"""The real scoring container: azureml-inference-server-http under gunicorn, on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from gateway.control.demo import container_command, container_environment, train

SCORE = Path(__file__).resolve().parents[2] / "config" / "demo" / "score.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Container:
    """A real container with an entry script. Use as a context manager.

    The model of the demo lies in its model folder.
    """

    def __init__(
        self,
        folder: Path,
        script: Path = SCORE,
        *,
        name: str = "diabetes",
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._script = script
        self._name = name
        self._environment = environment or {}
        self.log_path = folder / f"container-{self.port}.log"
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Container:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        if not (self._folder / "sklearn_regression_model.pkl").exists():
            train(self._folder)
        environment = container_environment(self._folder, self._script, self._name)
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                container_command(("127.0.0.1", self.port)),
                cwd=self._script.parent,
                env={**os.environ, **environment, **self._environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        give_up = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/", timeout=2) as answer:
                    if answer.read() == b"Healthy":
                        return
            except (OSError, urllib.error.URLError):
                pass
            dead = self.process.poll() is not None
            if dead or time.monotonic() > give_up:
                raise AssertionError(f"the container did not start:\n{self.log_path.read_text()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL to the server and its worker at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
