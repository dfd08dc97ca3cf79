"""The real gateway as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import yaml

from tests.support.certificates import HOST
from tests.support.raw import Answer, RawClient, request
from tests.support.raw_tls import TlsClient
from tests.support.usage import (
    descriptors,
    family,
    loop_seconds,
    own_memory,
    peak_memory,
    proportional_memory,
)

# More than any test needs, where places at the container are not what is tested.
MANY = "concurrency: 1000, connections: {max: 1000}"
KEY = "primary-key-of-the-tests-0123456789"
SECOND_KEY = "secondary-key-of-the-tests-98765432"
_ADDRESS = r"(\[[0-9a-f:]+\]|[0-9.]+):(\d+)"
_LISTENING = re.compile(f"on https?://{_ADDRESS}, admin on http://{_ADDRESS}")


def minimal(backend: str, more: str = "", top: str = "") -> str:
    """A configuration with one endpoint, ``diabetes``, that both keys open.

    :param more: further lines of the endpoint, indented by four spaces.
    :param top: further lines at the top level; if they begin with ``listen:`` they replace the
        usual one.
    """
    listen = "" if top.lstrip().startswith("listen:") else "listen: 127.0.0.1:0\n"
    return (
        f"{listen}{top}\n"
        "admin: 127.0.0.1:0\n"
        "endpoints:\n"
        "  diabetes:\n"
        "    auth: {keys: {primary: {env: TEST_KEY}, secondary: {env: TEST_SECOND_KEY}}}\n"
        f"{more}\n"
        f"    deployments: {{blue: {{backends: [{backend}], {MANY}}}}}\n"
    )


@dataclass(frozen=True, slots=True)
class OverTls:
    """A certificate for the gateway, written to files, and the settings of a client."""

    certificate: Path
    key: Path
    client: ssl.SSLContext

    def put_in(self, configuration: str) -> str:
        """The configuration with ``listen.tls``."""
        data = yaml.safe_load(configuration)
        listen = data["listen"]
        if not isinstance(listen, dict):
            listen = data["listen"] = {"address": listen}
        listen["tls"] = {"certificate": str(self.certificate), "key": str(self.key)}
        return yaml.safe_dump(data, sort_keys=False)


class GatewayProcess:
    """``python -m gateway serve`` on a configuration text. Use as a context manager.

    Ports given as 0 are chosen by the system and found in the start-up line of the log.
    """

    #: Set where tests that know nothing of TLS are to be run over it.
    over_tls: ClassVar[OverTls | None] = None

    def __init__(
        self,
        configuration: str,
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        inherited: tuple[int, ...] = (),
    ) -> None:
        """
        :param prefix: a command that the gateway is started by, such as ``prlimit``.
        :param inherited: descriptors that this command gets.
        """
        self.folder = folder
        self.config = folder / "gateway.yaml"
        if self.over_tls is not None:
            configuration = self.over_tls.put_in(configuration)
        self.config.write_text(configuration)
        self.log_path = folder / "gateway.log"
        self.address = ("", 0)
        self.admin = ("", 0)
        self._environment = {"TEST_KEY": KEY, "TEST_SECOND_KEY": SECOND_KEY, **(environment or {})}
        self._prefix = prefix
        self._inherited = inherited
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> GatewayProcess:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        command = [*self._prefix, sys.executable, "-m", "gateway", "serve", "-c", str(self.config)]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                pass_fds=self._inherited,
            )
        give_up = time.monotonic() + 15
        while (match := _LISTENING.search(self.log())) is None:
            if self.process.poll() is not None or time.monotonic() > give_up:
                self.process.kill()
                raise AssertionError(f"the gateway did not start:\n{self.log()}")
            time.sleep(0.02)
        self.address = (match[1].strip("[]"), int(match[2]))
        self.admin = (match[3].strip("[]"), int(match[4]))

    def stop(self, timeout: float = 15.0) -> int:
        """SIGTERM, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def configure(self, text: str) -> None:
        """Replace the configuration file in one step, as editors and deployment tools do."""
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.replace(self.config)

    def reload(self) -> tuple[bool, dict[str, Any]]:
        """Ask the admin port to read the configuration anew; whether it is in effect, and what the
        answer says."""
        host, port = self.admin
        url = f"http://{host}:{port}/reload"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, method="POST"), timeout=20
            ) as answer:
                return True, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return False, json.load(refusal)

    def generation(self) -> int:
        """Of the configuration that is in effect."""
        return int(json.loads(self.admin_get("/readyz")[1])["generation"])

    def log(self) -> str:
        """Standard output and standard error so far."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    def log_entries(self) -> list[dict[str, object]]:
        """The lines of the log that are JSON, access log included; all but one that is just being
        written."""
        whole = self.log().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def complaints(self) -> list[dict[str, object]]:
        """What the gateway logged as errors of its own, tracebacks among them."""
        return [entry for entry in self.log_entries() if entry.get("level") == "error"]

    def client(self, timeout: float = 10.0) -> RawClient:
        if self.over_tls is not None:
            return TlsClient(self.address, timeout, self.over_tls.client)
        return RawClient(self.address, timeout)

    def ask(self, data: bytes | None = None, *, head_only: bool = False) -> Answer:
        """Send a request (a good one if none is given) on a new connection."""
        with self.client() as client:
            client.send(request(key=KEY) if data is None else data)
            return client.answer(head_only)

    def ask_over(self, context: ssl.SSLContext, host: str | None = HOST) -> Answer:
        """Send a good request on a new connection with TLS."""
        with TlsClient(self.address, 10.0, context, host) as client:
            client.send(request(key=KEY))
            return client.answer()

    def admin_get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Status and body of a page of the admin port."""
        host = f"[{self.admin[0]}]" if ":" in self.admin[0] else self.admin[0]
        url = f"http://{host}:{self.admin[1]}{path}"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, headers=dict(headers or {})), timeout=10
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of a metric that carry all the given labels."""
        total = 0.0
        for line in self.admin_get("/metrics")[1].splitlines():
            if not line.startswith((name + "{", name + " ")):
                continue
            if all(f'{key}="{value}"' in line for key, value in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def workers(self) -> list[int]:
        """The processes that serve clients, in the order in which they were started. Where one
        process does everything it is that."""
        own, *below = family(self.process.pid)
        return below or [own]

    def worker(self) -> int:
        """The only process that serves clients."""
        (worker,) = self.workers()
        return worker

    def memory(self) -> int:
        """Proportional set size of all its processes in bytes."""
        return proportional_memory(self.process.pid)

    def own_memory(self) -> int:
        """Resident memory of all its processes in bytes, without what they share with others."""
        return own_memory(self.process.pid)

    def peak_memory(self) -> int:
        """The most resident memory in bytes since this was last asked, of all its processes."""
        return peak_memory(self.process.pid)

    def descriptors(self) -> int:
        """Open file descriptors of all its processes."""
        return descriptors(self.process.pid)

    def loop_seconds(self) -> float:
        """CPU time of the event loops that serve clients."""
        return sum(map(loop_seconds, self.workers()))


def wait_until(condition: object, timeout: float = 5.0, what: str = "it") -> None:
    """Poll ``condition`` (a callable without arguments) until it is true.

    :raises AssertionError: it did not become true in time.
    """
    assert callable(condition)
    give_up = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < give_up, f"{what} did not happen within {timeout} s"
        time.sleep(0.02)
