"""Metrics, read again and again while something happens, and what must be true of all of them."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Mapping
from types import TracebackType

from tests.support.gateways import GatewayProcess

_SAMPLE = re.compile(r"([a-zA-Z_:]\w*)(\{.*\})? (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
#: A sample by its name and labels, such as ``gateway_requests_total{code="200",endpoint="a"}``.
Samples = dict[str, float]


def parse(text: str) -> tuple[Samples, set[str]]:
    """Every sample of an exposition, and the names of those that may only grow."""
    found: Samples = {}
    growing: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if kind == "counter":
                growing.add(name)
            elif kind == "histogram":
                growing |= {f"{name}_{end}" for end in ("bucket", "count", "sum")}
        elif match := _SAMPLE.fullmatch(line):
            labels = sorted(_LABEL.findall(match[2] or ""))
            inside = ",".join(f'{name}="{value}"' for name, value in labels)
            key = f"{match[1]}{{{inside}}}"
            assert key not in found, f"{key} is there twice"
            found[key] = float(match[3])
    return found, growing


def total(samples: Mapping[str, float], name: str, **labels: str) -> float:
    """Sum of a metric's samples that have these labels."""
    return sum(
        value
        for key, value in samples.items()
        if key.startswith(name + "{")
        and all(f'{label}="{wanted}"' in key for label, wanted in labels.items())
    )


class Scraper:
    """Reads ``/metrics`` all the time. Use as a context manager.

    ``complaints`` are counters that went backwards, and scrapes that failed. A counter that is gone
    (its deployment is) may come back, but not with less than it had.
    """

    def __init__(self, gateway: GatewayProcess, pause: float = 0.05) -> None:
        self.complaints: list[str] = []
        self.scrapes = 0
        #: Seconds that the slowest took.
        self.slowest = 0.0
        self.latest: Samples = {}
        self._gateway = gateway
        self._pause = pause
        self._highest: Samples = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def check(self, at_least: int = 1) -> None:
        """
        :raises AssertionError: something was not as it should be, or too little was looked at.
        """
        assert self.complaints == [], self.complaints[:5]
        assert self.scrapes >= at_least

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            begun = time.monotonic()
            try:
                text = _get(self._gateway.admin)
                self.slowest = max(self.slowest, time.monotonic() - begun)
                self._look(*parse(text))
                self.scrapes += 1
            except Exception as failure:  # noqa: BLE001 - every one of them is a complaint
                self.complaints.append(f"scrape {self.scrapes}: {failure!r}")

    def _look(self, samples: Samples, growing: set[str]) -> None:
        for key, value in samples.items():
            # The process's own begin again with another process; a sum of floats may shrink by a
            # rounding error.
            if key.partition("{")[0] not in growing or key.startswith(("process_", "python_")):
                continue
            before = self._highest.get(key, 0.0)
            if value < before - 1e-6 * abs(before):
                self.complaints.append(f"scrape {self.scrapes}: {key} from {before} to {value}")
            self._highest[key] = max(before, value)
        self.latest = samples


def _get(address: tuple[str, int]) -> str:
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, text
        return text
    finally:
        connection.close()
