"""What the system says of processes agrees with what they know themselves."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest

from gateway.control.processes import Usage, usage


def test_this_process_is_seen_as_it_is() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    use = usage(os.getpid())
    assert use is not None
    assert 0 < use.resident < use.virtual
    assert use.resident <= before.ru_maxrss * 1024 + 2**24
    assert use.cpu == pytest.approx(before.ru_utime + before.ru_stime, abs=0.5)
    # The start of the system is known by the second.
    assert time.time() - 86400 < use.started < time.time() + 2


def test_every_descriptor_counts() -> None:
    before = usage(os.getpid())
    pipes = [os.pipe() for _ in range(5)]
    after = usage(os.getpid())
    for ends in pipes:
        for end in ends:
            os.close(end)
    assert before is not None
    assert after is not None
    assert after.descriptors == before.descriptors + 10


def made_up(folder: Path, stat: str) -> Path:
    own = folder / "7"
    (own / "fd").mkdir(parents=True)
    for number in range(3):
        (own / "fd" / str(number)).touch()
    (own / "stat").write_text(stat)
    (folder / "stat").write_text("cpu  1 2 3\nbtime 1000\nprocesses 5\n")
    return folder


def test_a_programs_name_may_be_anything(tmp_path: Path) -> None:
    numbers = [str(number) for number in range(1, 50)]
    proc = made_up(tmp_path, f"7 (a) b (c 1)) S {' '.join(numbers)}\n")
    use = usage(7, proc)
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    assert isinstance(use, Usage)
    assert (use.virtual, use.resident) == (20, 21 * page)
    assert use.cpu == (11 + 12) / ticks
    assert use.started == 1000 + 19 / ticks


@pytest.mark.parametrize("stat", ["", "7 (python) S 1 2 3", "7 (python) S " + "x " * 40])
def test_what_makes_no_sense_is_not_shown(tmp_path: Path, stat: str) -> None:
    assert usage(7, made_up(tmp_path, stat)) is None


def test_of_a_process_that_is_gone_nothing_is_known(tmp_path: Path) -> None:
    assert usage(2**22 + 1) is None
    assert usage(7, tmp_path) is None
