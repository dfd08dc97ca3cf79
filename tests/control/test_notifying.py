"""systemd is told what it asked to be told, and nobody is harmed if it is not there."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from gateway.control.notifying import Notifier


@pytest.mark.parametrize("abstract", [False, True])
def test_lines_arrive_in_one_message(tmp_path: Path, abstract: bool) -> None:
    name = f"gateway-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}" if abstract else name)
        manager.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}" if abstract else name}).tell("READY=1", "STATUS=ok")
        assert manager.recv(100) == b"READY=1\nSTATUS=ok"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}])
def test_without_a_socket_nothing_happens(
    environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    Notifier(environment).tell("READY=1")
    assert caplog.records == []


def test_a_manager_that_is_gone_is_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")
    assert caplog.messages == ["systemd could not be told READY=1: No such file or directory"]
