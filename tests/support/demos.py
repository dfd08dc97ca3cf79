"""``scoring-gateway demo`` as a process, with real containers or with stand-ins that start fast."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.support.containers import free_port
from tests.support.gateways import wait_until
from tests.support.processes import marked

ROOT = Path(__file__).resolve().parents[2]

# A container for what the demo does around containers: healthy at once, answers every request
# alike, and takes its time to stop, as real ones do.
STAND_IN = """
import http.server, os, signal, sys, time

def stop(number, frame):
    time.sleep(0.5)
    os._exit(0)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body, status=200):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"Healthy", 503 if "STAND_IN_SICK" in os.environ else 200)
    def do_POST(self):
        self.answer(os.environ.get("STAND_IN_ANSWER", "[1.5, 2.5]").encode())

signal.signal(signal.SIGTERM, stop)
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""
_WITH_STAND_INS = """
import sys
from gateway.control import demo
from gateway.cli import main
from tests.support.demos import stand_in
demo.container_command = stand_in
demo.START_TIMEOUT = 5.0
demo.train = lambda folder: None
main(sys.argv[1:], prog_name="scoring-gateway")
"""


def stand_in(address: tuple[str, int]) -> list[str]:
    return [sys.executable, "-c", STAND_IN, address[0], str(address[1])]


def configuration(folder: Path, more: Mapping[str, str] | None = None) -> Path:
    """A copy of the demo's own configuration with free ports.

    :param more: texts to replace in it, and what with.
    """
    text = (ROOT / "config" / "demo.yaml").read_text()
    for old, new in (more or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    # All at once: the digits of one free port may contain a number that is to be replaced.
    free: set[int] = set()
    while len(free) < 4:
        free.add(free_port())
    text, count = re.subn(r":(?:8080|9090|5001|5002)\b", lambda _: f":{free.pop()}", text)
    assert count == 4
    path = folder / "demo.yaml"
    path.write_text(text)
    return path


class DemoProcess:
    """The demo in a session of its own. Use as a context manager; in the end nothing is left."""

    def __init__(
        self,
        config: Path,
        *arguments: str,
        stand_ins: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = config.parent / "tmp"
        self.folder.mkdir()
        self.log_path = config.parent / "demo.log"
        self._mark = f"DEMO_MARK={uuid.uuid4().hex}"
        program = ["-c", _WITH_STAND_INS] if stand_ins else ["-m", "gateway"]
        name, _, value = self._mark.partition("=")
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-u", *program, "demo", "-c", str(config), *arguments],
                cwd=ROOT,
                env={**os.environ, name: value, "TMPDIR": str(self.folder), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> DemoProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in marked(self._mark):
            os.kill(number, signal.SIGKILL)
        self.process.wait(10)

    def output(self) -> str:
        return self.log_path.read_text()

    def wait_for(self, words: str, timeout: float = 40.0) -> None:
        def there() -> bool:
            return words in self.output() or self.process.poll() is not None

        wait_until(there, timeout, f"{words!r} of the demo")
        assert words in self.output(), self.output()

    def signal(self, *numbers: signal.Signals, pause: float = 0.1) -> int:
        """Send signals, and wait for the exit status."""
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(pause)  # the second is to come while the first is at work
        return self.process.wait(30)

    def processes(self) -> list[int]:
        """The demo and everything it started that still runs."""
        return marked(self._mark)

    def left(self) -> list[str]:
        """What is left of it, after a moment in which the dying may die."""
        give_up = time.monotonic() + 3
        while (found := self.processes()) and time.monotonic() < give_up:
            time.sleep(0.05)
        commands = [Path(f"/proc/{number}/cmdline") for number in found]
        return [
            *(path.read_bytes().replace(b"\0", b" ").decode()[-80:] for path in commands),
            *(path.name for path in self.folder.glob("scoring-gateway-*")),
        ]
