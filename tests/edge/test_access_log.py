"""Every request leaves one line, whole and exact, without secrets, and never holds anybody up."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.edge.access_log import BATCH, HANDFUL, LINGER, QUEUE, AccessLog, Writer, cut_lines
from tests.support.gateways import KEY, wait_until
from tests.support.raw import request
from tests.support.script import WALL, Script, Setup

SCORE = request(key=KEY)
# When a script begins, its clock shows 1000.
BEGIN = "2026-01-01T00:16:40.000Z"


class FakeWriter:
    """Keeps what is handed over."""

    def __init__(self) -> None:
        self.batches: list[tuple[bytes, int]] = []
        self.dropped = 0
        self.stopped = False

    def put(self, text: bytes, lines: int) -> None:
        self.batches.append((text, lines))

    def stop(self, timeout: float) -> None:
        self.stopped = True


class Desk:
    """The access log of a script's gateway."""

    def __init__(self, script: Script) -> None:
        self.writer = FakeWriter()
        self.log = AccessLog(cast(Writer, self.writer), script.clock, script.wall)
        script.recorder.then = self.log.record

    @property
    def lines(self) -> list[dict[str, Any]]:
        self.log.flush()
        text = b"".join(text for text, _ in self.writer.batches)
        assert not text or text.endswith(b"\n")
        return [json.loads(line) for line in text.splitlines()]


# The line.

LINE = (
    b'{"time":"2026-01-01T00:16:40.512Z",'
    b'"request_id":"00000000-0000-4000-8000-000000000001",'
    b'"client_request_id":"mine",'
    b'"trace_id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",'
    b'"client":"192.0.2.7",'
    b'"method":"POST",'
    b'"path":"/api/v1/service/diabetes/score",'
    b'"endpoint":"diabetes",'
    b'"deployment":"blue",'
    b'"backend":"10.0.0.5:5001",'
    b'"principal":"primary",'
    b'"status":200,'
    b'"duration_ms":12.500,'
    b'"queue_ms":0.000,'
    b'"upstream_ms":12.500,'
    b'"attempts":1,'
    b'"bytes_in":18,'
    b'"bytes_out":5,'
    b'"user_agent":"test/1.0"}\n'
)


def test_the_line_of_an_answered_request() -> None:
    with Script() as script:
        desk = Desk(script)
        client = script.client()
        script.wait(0.5)
        client.says(
            request(
                "/api/v1/service/diabetes/score?secret=1",
                key=KEY,
                headers={
                    "User-Agent": "test/1.0",
                    "x-ms-client-request-id": "mine",
                    "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
                },
            )
        )
        script.wait(0.0125)
        script.container().answers(b"[1.5]")
        desk.log.flush()
        assert desk.writer.batches == [(LINE, 1)]


def test_each_line_tells_of_its_own_call() -> None:
    with Script() as script:
        desk = Desk(script)
        container = None
        for seconds in (0.5, 0.5, 0.25, None, 0.5):
            script.client().says(request(key=KEY if seconds is not None else "wrong"))
            if seconds is not None:
                script.wait(seconds)
                container = container or script.container()
                container.answers(b"[1.5]")
        said = [(line["upstream_ms"], line["attempts"]) for line in desk.lines]
        assert said == [(500, 1), (500, 1), (250, 1), (0, 0), (500, 1)]


def test_the_line_of_a_refused_request_says_why() -> None:
    with Script() as script:
        desk = Desk(script)
        script.client().says(request(key="wrong"))
        (line,) = desk.lines
        assert line == {
            "time": BEGIN,
            "request_id": "00000000-0000-4000-8000-000000000001",
            "client_request_id": "",
            "trace_id": "",
            "client": "192.0.2.7",
            "method": "POST",
            "path": "/api/v1/service/diabetes/score",
            "endpoint": "diabetes",
            "deployment": "",
            "backend": "",
            "principal": "",
            "status": 401,
            "duration_ms": 0.0,
            "queue_ms": 0.0,
            "upstream_ms": 0.0,
            "attempts": 0,
            "bytes_in": 18,
            "bytes_out": 43,
            "user_agent": "",
            "fault": "bad_credentials",
            "detail": "no such key",
        }


def test_the_line_of_a_request_that_could_not_be_read() -> None:
    with Script() as script:
        desk = Desk(script)
        script.client().says(b"rubbish\r\n\r\n")
        (line,) = desk.lines
        assert (line["method"], line["path"], line["endpoint"]) == ("", "", "")
        assert (line["status"], line["fault"]) == (400, "bad_request")
        assert line["detail"] == "the request line is not `METHOD target HTTP/1.1`"


@pytest.mark.parametrize(
    ("wall", "stamp"),
    [
        (0.0, "2026-01-01T00:00:00.000Z"),
        (0.9994, "2026-01-01T00:00:00.999Z"),
        (86399.9999, "2026-01-01T23:59:59.999Z"),
        (-1.0, "2025-12-31T23:59:59.000Z"),
    ],
)
def test_the_time_is_that_of_the_wall_clock_when_the_request_ended(wall: float, stamp: str) -> None:
    with Script() as script:
        writer = FakeWriter()
        log = AccessLog(cast(Writer, writer), script.clock, lambda: WALL + wall)
        script.recorder.then = log.record
        script.client().says(request(body=None, method="OPTIONS"))
        log.flush()
        assert json.loads(writer.batches[0][0])["time"] == stamp


CANARIES = {
    "a key": ({"Authorization": f"Bearer {KEY}"}, KEY),
    "a wrong key": ({"Authorization": "Bearer canary-1234567890"}, "canary"),
    "a password": ({"Authorization": "Basic Y2FuYXJ5OmNhbmFyeQ=="}, "Y2FuYXJ5"),
    "a cookie": ({"Cookie": "session=canary"}, "canary"),
    "another header": ({"Api-Key": "canary"}, "canary"),
}


@pytest.mark.parametrize("name", CANARIES)
def test_no_secret_is_in_any_line(name: str) -> None:
    headers, canary = CANARIES[name]
    with Script() as script:
        desk = Desk(script)
        client = script.client()
        path = "/api/v1/service/diabetes/score?key=canary-in-query"
        client.says(request(path, b'{"canary": 1}', headers=headers))
        for container in script.containers:
            container.answers(b"canary-in-answer")
        client.says(b"GET /x?canary HTTP/1.1\r\nHost: canary\r\nX: \0" + canary.encode())
        desk.log.flush()
        text = b"".join(text for text, _ in desk.writer.batches)
        assert len(desk.lines) == 2
        assert canary.encode() not in text
        assert b"canary" not in text


def test_what_a_client_says_of_itself_cannot_forge_a_line() -> None:
    with Script() as script:
        desk = Desk(script)
        agent = 'x","status":200}{"a":"\t\x80\xff' + "y" * 300
        script.client().says(request("/" + "z" * 300, key=KEY, headers={"User-Agent": agent}))
        script.container().answers()
        (line,) = desk.lines
        assert line["status"] == 200
        assert line["user_agent"] == ('x","status":200}{"a":"???' + "y" * 300)[:200]
        assert line["path"] == "/" + "z" * 199


# Batches.


def say(script: Script, count: int) -> None:
    client = script.client()
    client.says(request(body=None, method="OPTIONS") * count)
    script.wait(0.001)


def test_lines_wait_a_moment_for_company() -> None:
    with Script() as script:
        desk = Desk(script)
        say(script, 1)
        script.wait(LINGER / 2)
        say(script, 1)
        assert desk.writer.batches == []
        script.wait(LINGER / 2)
        assert [count for _, count in desk.writer.batches] == [2]
        script.wait(10)
        assert len(desk.writer.batches) == 1


def test_a_full_hand_does_not_wait() -> None:
    with Script() as script:
        desk = Desk(script)
        for _ in range(HANDFUL + BATCH + 1):
            script.client().says(request(body=None, method="OPTIONS"))
        assert [count for _, count in desk.writer.batches] == [HANDFUL]
        script.wait(LINGER)
        assert [count for _, count in desk.writer.batches] == [HANDFUL, BATCH + 1]
        numbers = [int(line["request_id"][-12:]) for line in desk.lines]
        assert numbers == list(range(1, HANDFUL + BATCH + 2))


def test_stopping_hands_over_what_is_left() -> None:
    with Script() as script:
        desk = Desk(script)
        say(script, 3)
        desk.log.stop(1.0)
        assert [count for _, count in desk.writer.batches] == [3]
        assert desk.writer.stopped


def test_no_log_is_kept_where_none_is_wanted() -> None:
    with Script(Setup()) as script:
        log = AccessLog(None, script.clock, script.wall)
        script.recorder.then = log.record
        say(script, 3)
        log.flush()
        log.stop(1.0)
        assert log.dropped == 0


# The file.


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_lines_are_appended_to_the_file_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("older\n")
    writer = Writer(path)
    writer.start()
    for n in range(QUEUE):
        writer.put(b"%d\n" % n, 1)
    writer.stop(5.0)
    assert lines(path) == ["older", *map(str, range(QUEUE))]
    assert writer.dropped == 0


def test_a_new_file_is_not_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = Writer(path)
    before = os.umask(0)
    try:
        writer.start()
    finally:
        os.umask(before)
    writer.stop(5.0)
    assert path.stat().st_mode & 0o777 == 0o640


def rename(path: Path) -> None:
    path.rename(path.with_suffix(".1"))


def rename_and_create(path: Path) -> None:
    rename(path)
    path.touch()


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("rotate", [rename, rename_and_create, remove, truncate])
def test_after_rotation_lines_go_to_the_new_file(
    tmp_path: Path, rotate: Callable[[Path], None]
) -> None:
    path = tmp_path / "access.log"
    writer = Writer(path)
    writer.start()
    writer.put(b"before\n", 1)
    wait_until(lambda: lines(path) == ["before"])
    descriptors = len(os.listdir("/proc/self/fd"))
    rotate(path)
    writer.put(b"after\n", 1)
    wait_until(lambda: lines(path) == ["after"])
    assert len(os.listdir("/proc/self/fd")) == descriptors
    if rotate in (rename, rename_and_create):
        assert lines(path.with_suffix(".1")) == ["before"]
    writer.stop(5.0)


def test_what_cannot_be_written_is_counted_and_what_can_again_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "access.log"
    writer = Writer(path)
    writer.start()
    writer.put(b"one\n", 1)
    wait_until(lambda: lines(path) == ["one"])
    folder.rename(tmp_path / "elsewhere")
    writer.put(b"two\nthree\n", 2)
    wait_until(lambda: writer.dropped == 2)
    folder.mkdir()
    writer.put(b"four\n", 1)
    wait_until(lambda: lines(path) == ["four"])
    writer.stop(5.0)
    assert writer.dropped == 2


def test_a_full_queue_drops_and_counts_and_never_waits(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writer = Writer(path)  # not started: a disk that hangs
    for n in range(QUEUE + 3):
        writer.put(b"%d\n" % n, 7)
    assert writer.dropped == 3 * 7
    writer.start()
    writer.stop(5.0)
    assert lines(path) == [str(n) for n in range(QUEUE)]


def test_stopping_does_not_wait_for_ever_for_a_disk_that_hangs(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = Writer(pipe)
    writer.start()
    for _ in range(3):
        writer.put(b"x" * 60_000, 1)  # more than the pipe holds
    writer.stop(0.05)
    os.close(reader)


def test_a_file_that_cannot_be_opened_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        Writer(tmp_path).start()


def test_standard_output_will_do(capfd: pytest.CaptureFixture[str]) -> None:
    writer = Writer(None)
    writer.start()
    writer.put(b"to the console\n", 1)
    writer.stop(5.0)
    assert capfd.readouterr().out == "to the console\n"


# Several processes.

WORKER = """
import sys
from gateway.edge.access_log import Writer
writer = Writer(None)
writer.start()
name, long, complains = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "complains"
for n in range(12):
    lines = [f"{name} {n} {i} " + "x" * (i * 37 % 900) + " end" for i in range(400)]
    lines[200] += "x" * long + " end"
    writer.put("".join(line + chr(10) for line in lines).encode(), 400)
    if complains:
        sys.stderr.write(f"{name} complains {n} end" + chr(10))
writer.stop(50.0)
sys.exit(writer.dropped)
"""


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("pipe", ("9000", "")),
        ("socket", ("9000", "")),
        ("fifo", ("9000", "")),
        # Who takes no turns cannot tear what the kernel writes as a whole.
        ("pipe", ("2000", "complains")),
        ("fifo", ("2000", "complains")),
    ],
)
def test_the_lines_of_several_processes_stay_whole(kind: str, more: tuple[str, str]) -> None:
    if kind == "socket":
        reader, writer = socket.socketpair()
        ends = reader.detach(), writer.detach()
    else:
        ends = os.pipe()
    # With a name, it is opened anew by every process.
    program = WORKER.replace("Writer(None)", f"Writer(Path('/proc/self/fd/{ends[1]}'))")
    program = f"from pathlib import Path{program}" if kind == "fifo" else WORKER
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, name, *more],
            stdout=ends[1],
            stderr=ends[1],
            pass_fds=[ends[1]],
        )
        for name in "abcd"
    ]
    os.close(ends[1])
    with open(ends[0], "rb") as read:
        found = [line.decode().split() for line in read]
    assert [worker.wait(30) for worker in workers] == [0] * 4
    assert {line[-1] for line in found} == {"end"}
    assert {line[0] for line in found} == set("abcd")
    counted = [tuple(line[:3]) for line in found if line[1] != "complains"]
    assert len(counted) == len(set(counted)) == 4 * 12 * 400
    for name in "abcd":  # and in the order in which they were handed over
        mine = [(int(n), int(i)) for who, n, i in counted if who == name]
        assert mine == sorted(mine)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (b"", []),
        (b"a\n", [b"a\n"]),
        (b"abc\nde\nf\n", [b"abc\n", b"de\nf\n"]),
        (b"a longer one\nb\n", [b"a longer one\n", b"b\n"]),
        (b"a\na longer one\n", [b"a\n", b"a longer one\n"]),
        (b"abcd\nabc\nabcd\n", [b"abcd\n", b"abc\n", b"abcd\n"]),
        (b"never ending", [b"never ending"]),
    ],
)
def test_what_is_written_at_a_time_ends_with_a_line(text: bytes, pieces: list[bytes]) -> None:
    assert list(cut_lines(text, 5)) == pieces


def test_lines_can_be_sent_elsewhere_and_none_is_lost_between(tmp_path: Path) -> None:
    writers = [Writer(tmp_path / name) for name in ("first", "second")]
    for writer in writers:
        writer.start()
    with Script() as script:
        log = AccessLog(writers[0], script.clock, script.wall)
        script.recorder.then = log.record
        script.client().says(request(key="wrong"))
        writers[0].dropped = 3
        log.redirect(writers[1])
        script.client().says(request(key="wrong"))
        log.stop(5.0)
        assert log.dropped == 3
        log.redirect(None)
        script.client().says(request(key="wrong"))
    wait_until(lambda: (tmp_path / "first").read_text().count("\n") == 1, what="the first line")
    assert (tmp_path / "second").read_text().count("\n") == 1
