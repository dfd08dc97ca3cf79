"""Side by side with servers that batch by themselves, each with the same Ridge model.

Each has an environment of its own, made on demand below ``~/.cache/scoring-gateway/peers`` from the
pins in ``benchmarks/peers``. Each is started for a round and stopped after it: what polls while
it is idle would otherwise be paid for by the others.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.batching.load import Sample, cell, measure, show, warn
from benchmarks.batching.results import Cell
from benchmarks.batching.values import wrong_answers
from benchmarks.batching.world import ON, Target, Unknown, await_answer, container, in_front
from benchmarks.contenders import PEERS, free_port, running

CONNECTIONS = (8, 64, 256)


def v2_output(answer: Any) -> float:
    """The prediction in an answer of the V2 inference protocol."""
    return float(answer["outputs"][0]["data"][0])


@dataclass(frozen=True, slots=True)
class Rival:
    """A server that batches: its files in ``peers`` are ``<file>.txt`` and ``<file>_server.py``."""

    name: str
    file: str
    talk: dict[str, Any] = field(default_factory=dict)


RIVALS = (
    Rival("LitServe", "litserve", {"path": "/predict"}),
    Rival(
        "MLServer",
        "mlserver",
        {
            "path": "/v2/models/diabetes/infer",
            "before": '{"inputs": [{"name": "predict", "shape": [1, 10], "datatype": "FP64", '
            '"data": [',
            "after": "]}]}",
            "prediction": v2_output,
        },
    ),
    Rival("BentoML", "bentoml", {"path": "/predict"}),
)


def environment(rival: Rival) -> Path:
    """The Python of the rival's own environment, made if it is not there or has other pins.

    :raises subprocess.CalledProcessError: it cannot be made.
    """
    pins = PEERS / f"{rival.file}.txt"
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "scoring-gateway" / "peers" / f"{rival.file}-{digest}"
    python, made = folder / "bin" / "python", folder / ".made"
    if not made.exists():
        print(f"  installing {rival.name} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(pins)]
        subprocess.run(install, check=True)
        made.touch()
    return python


@contextmanager
def serving(rival: Rival, python: Path) -> Iterator[Target]:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        command = [str(python), str(PEERS / f"{rival.file}_server.py"), str(port)]
        with running(command, port, None, folder, {"PYTHONWARNINGS": "ignore"}) as pid:
            target = Target(name=rival.name, port=port, pid=pid, **rival.talk)
            await_answer(target)
            yield target


@contextmanager
def _gateway() -> Iterator[Target]:
    """
    :raises Unknown: batching is not known.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with container(folder) as behind, in_front(ON, folder, behind) as target:
            yield target


def compare(
    count: int, seconds: float, connections: Sequence[int] = CONNECTIONS
) -> tuple[list[Cell], list[str]]:
    """Cells of the gateway and of every rival that works, and notes on those that do not.

    Ratios are relative to the gateway: below one is slower than it.
    """
    notes: list[str] = []
    started: dict[str, Callable[[], AbstractContextManager[Target]]] = {ON: _gateway}
    for rival in RIVALS:
        try:
            python = environment(rival)
        except (subprocess.CalledProcessError, OSError) as why:
            notes.append(f"SKIPPED: {rival.name} cannot be installed: {why}")
            continue
        started[rival.name] = partial(serving, rival, python)
    samples: dict[tuple[str, int], list[Sample]] = {}
    for _ in range(count):
        for name, start in list(started.items()):
            try:
                with start() as target:
                    _one_round(target, connections, seconds, samples, notes)
            except (SystemExit, Unknown) as why:
                notes.append(f"SKIPPED: {name}: {why}")
                del started[name]
    cells = [
        cell(name, number, samples[name, number], samples.get((ON, number), []))
        for name in (ON, *(rival.name for rival in RIVALS))
        for number in connections
        if (name, number) in samples
    ]
    show(cells)
    return cells, notes


def _one_round(
    target: Target,
    connections: Sequence[int],
    seconds: float,
    samples: dict[tuple[str, int], list[Sample]],
    notes: list[str],
) -> None:
    if (target.name, connections[0]) not in samples:
        notes += wrong_answers(target)
    measure(target, 64, min(seconds, 2.0))
    for number in connections:
        sample = measure(target, number, seconds)
        samples.setdefault((target.name, number), []).append(sample)
        warn(target.name, number, sample)
