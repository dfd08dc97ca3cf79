"""Child processes that do not outlive what started them, whatever signal comes whenever."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

STOP_TIMEOUT = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Signals become one ``KeyboardInterrupt``, at places that can take it. A context manager.

    Ctrl-C, SIGTERM and SIGHUP are alike. Elsewhere, such as between the start of a process and the
    note of it, or while processes are stopped, a signal is only remembered.
    """

    def __init__(self) -> None:
        self._came = False
        self._may_raise = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        for number in _SIGNALS:
            # What is ignored stays ignored: `nohup` and `&` mean it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Where a signal may interrupt at any point, one that came before included.

        :raises KeyboardInterrupt: once. A second signal finds everything being stopped already.
        """
        self._may_raise = True
        try:
            if self._came:
                raise KeyboardInterrupt
            yield
        finally:
            self._may_raise = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        if self._may_raise:
            # Once: the second must not interrupt the way to where everything is stopped.
            self._may_raise = False
            raise KeyboardInterrupt


@dataclass(frozen=True, slots=True)
class Child:
    """A started process and the file its output goes to."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def output(self) -> str:
        """What it wrote so far, to standard output and standard error."""
        return self.log.read_text(errors="replace").strip()


class Children:
    """Starts processes, and stops them in the end. A context manager, inside an ``Interruption``.

    The last started is stopped first, so that a gateway can finish its requests while the
    containers still answer.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in reversed(self._children):
            _stop(child.process)

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
    ) -> Child:
        """Start a command in ``folder``, its output in ``log``, ``environment`` added to ours.

        :raises OSError: the command cannot be started.
        """
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  our own command lines
                command,
                cwd=folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the whole foreground group; the order of stopping is ours.
                start_new_session=True,
            )
        child = Child(process, log)
        self._children.append(child)
        return child


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT)
    # A server that was killed leaves workers behind: they share the group that it led.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
