"""The gateway's own log: one JSON line per event on standard error."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import orjson

# The same event may be logged this often in a second; what comes above it is counted and said once.
BURST = 10


class JsonFormatter(logging.Formatter):
    """An event as one line, tracebacks included."""

    def __init__(self, worker: int | None = None) -> None:
        """:param worker: number of the worker that this process is, None if it is none."""
        super().__init__()
        self._process = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._process,
            "message": _encodable(record.getMessage()),
        }
        if record.exc_info:
            entry["exception"] = _encodable(self.formatException(record.exc_info))
        return orjson.dumps(entry).decode()


def _encodable(text: str) -> str:
    """Half a character, as names of files may contain, is written as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


class FloodGate(logging.Filter):
    """Lets ``BURST`` events a second pass from each place in the code (reliability.md T43).

    What was held back is told with the next event of the same place, or of any other.
    """

    def __init__(self) -> None:
        super().__init__()
        # By place: the second of its last event, and how many it had in that second.
        self._seen: dict[tuple[str, int], tuple[int, int]] = {}
        # Places that have more to tell than they were allowed to.
        self._flooding: set[tuple[str, int]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        place, second = (record.pathname, record.lineno), int(record.created)
        last, count = self._seen.get(place, (second, 0))
        told = self._told(place, second)
        count = count if last == second else 0
        self._seen[place] = (second, count + 1)
        if count >= BURST:
            self._flooding.add(place)
            return False
        if told:
            record.msg, record.args = record.getMessage() + told, ()
        return True

    def _told(self, place: tuple[str, int], second: int) -> str:
        """What is to be said of the seconds that are over."""
        text = ""
        for other in sorted(self._flooding):
            last, count = self._seen[other]
            if last == second:
                continue
            self._flooding.discard(other)
            self._seen[other] = (last, 0)
            like = (
                "like the previous" if other == place else f"from {Path(other[0]).name}:{other[1]}"
            )
            text += f" (and {count - BURST} more {like})"
        return text


def configure_logging(level: int = logging.INFO, worker: int | None = None) -> None:
    """Send everything to standard error as JSON lines.

    :param worker: see ``JsonFormatter``.
    """
    sys.unraisablehook = _log_unraisable
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(worker))
    handler.addFilter(FloodGate())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gateway").setLevel(level)


def _log_unraisable(event: sys.UnraisableHookArgs) -> None:
    """What went wrong where nobody could be told, as one event like all others.

    A client may ask for a server name that is no text. It is refused and counted as a failed
    handshake; that Python has no way to pass the exception on is no event (reliability.md T17).
    """
    error = event.exc_value
    if isinstance(error, UnicodeDecodeError) and isinstance(event.object, bytes):
        return
    trace = (type(error), error, event.exc_traceback) if error is not None else None
    logging.getLogger("gateway").error("ignored in %r", event.object, exc_info=trace)
