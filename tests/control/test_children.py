"""Nothing that was started outlives the block it was started in, and a signal interrupts only
where that can do no harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.control import children as module
from gateway.control.children import Child, Children, Interruption
from tests.support.gateways import wait_until
from tests.support.processes import marked

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    with Interruption() as running:
        yield running


@pytest.mark.parametrize("number", SIGNALS)
def test_where_it_is_allowed_a_signal_interrupts(
    interruption: Interruption, number: signal.Signals
) -> None:
    with pytest.raises(KeyboardInterrupt), interruption.allowed():
        signal.raise_signal(number)


@pytest.mark.parametrize("number", SIGNALS)
def test_elsewhere_a_signal_is_remembered(
    interruption: Interruption, number: signal.Signals
) -> None:
    with interruption.allowed():
        pass
    signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt), interruption.allowed():
        raise AssertionError("entered all the same")


def test_a_second_signal_does_not_interrupt_the_way_out(interruption: Interruption) -> None:
    way_out: list[str] = []

    def work() -> None:
        with interruption.allowed():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)
                way_out.append("done")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert way_out == ["done"]


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_ignored_stays_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Interruption() as interruption, interruption.allowed():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_the_handlers_that_were_there_are_there_again() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with suppress(LookupError), Interruption():
        during = [signal.getsignal(number) for number in SIGNALS]
        raise LookupError
    assert all(a is not b for a, b in zip(during, before, strict=True))
    assert [signal.getsignal(number) for number in SIGNALS] == before


def start(children: Children, folder: Path, program: str, name: str = "child") -> Child:
    command = [sys.executable, "-u", "-c", program]
    return children.start(command, {"CHILD_MARK": str(folder)}, folder, folder / f"{name}.log")


def left(folder: Path) -> list[int]:
    return marked(f"CHILD_MARK={folder}")


def test_a_child_has_its_folder_its_environment_and_a_log(tmp_path: Path) -> None:
    program = (
        "import os, sys; print(os.getcwd(), os.environ['CHILD_MARK'], 'HOME' in os.environ);"
        "print('an error', file=sys.stderr); print(repr(sys.stdin.read()))"
    )
    with Children() as children:
        child = start(children, tmp_path, program)
        assert child.process.wait(10) == 0
        assert child.ended
        home = "HOME" in os.environ
        assert child.output() == f"{tmp_path} {tmp_path} {home}\nan error\n''"


def test_an_error_in_the_block_stops_everything_the_last_started_first(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    program = (
        "import signal, sys, time\n"
        "def stop(*_):\n"
        "    time.sleep(0.2); open('ended', 'a').write('{0} '); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop); print('ready'); time.sleep(60)"
    )
    with suppress(LookupError), Children() as children:
        for name in ("first", "second", "third"):
            child = start(children, tmp_path, program.format(name), name)
            wait_until(lambda child=child: child.output() == "ready", 10)
        raise LookupError
    assert ended.read_text() == "third second first "
    assert left(tmp_path) == []


def test_what_does_not_listen_is_killed_with_its_own_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_TIMEOUT", 0.2)
    program = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork();"
        "print('ready'); time.sleep(60)"
    )
    with Children() as children:
        child = start(children, tmp_path, program)
        wait_until(lambda: child.output().count("ready") == 2, 10)
        assert len(left(tmp_path)) == 2
        began = time.monotonic()
    assert time.monotonic() - began < 5
    wait_until(lambda: left(tmp_path) == [], 2)


def test_the_workers_of_a_server_that_was_killed_are_stopped(tmp_path: Path) -> None:
    program = "import os, time; os.fork(); print('ready'); time.sleep(60)"
    with Children() as children:
        child = start(children, tmp_path, program)
        wait_until(lambda: child.output().count("ready") == 2, 10)
        child.process.kill()
        wait_until(lambda: child.ended)
        assert len(left(tmp_path)) == 1
    wait_until(lambda: left(tmp_path) == [], 2)


def test_what_cannot_be_started_is_an_error_and_the_rest_is_stopped(tmp_path: Path) -> None:
    with Children() as children:
        start(children, tmp_path, "import time; time.sleep(60)")
        with pytest.raises(FileNotFoundError):
            children.start(["/no/such/program"], {}, tmp_path, tmp_path / "log")
    assert left(tmp_path) == []


def test_a_signal_between_start_and_note_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)  # type: ignore[call-overload]
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    with Interruption() as interruption, Children() as children:
        start(children, tmp_path, "import time; time.sleep(60)")
        assert len(left(tmp_path)) == 1
        with pytest.raises(KeyboardInterrupt), interruption.allowed():
            raise AssertionError("entered all the same")
    assert left(tmp_path) == []
