"""What batching is worth: one real container, everything in one run, ratios within a round."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.batching import cost, figure, latency, load, report, rivals, splicing
from benchmarks.batching.results import Results, Section, load_results, save_results
from benchmarks.batching.values import wrong_answers
from benchmarks.batching.world import NGINX, ON, Target, Unknown, batch_rows, everything
from benchmarks.machine import check_cores, describe

_ROOT = Path(__file__).resolve().parents[2]
_PUBLISHED = _ROOT / "benchmarks" / "results" / "batching.json"
_PICTURE = _ROOT / "docs" / "images" / "batching.png"
_READMES = (_ROOT / "README.md", _ROOT / "benchmarks" / "README.md")
_DRAFTS = _ROOT / "build" / "benchmarks"


def run(options: Namespace) -> None:
    """Measure the parts that were asked for, print their tables, keep them.

    Without ``--publish`` the results stay below ``build``; with it they replace those of the
    repository: the JSON file, the picture and the marked blocks of the READMEs.

    :raises SystemExit: a request failed or an answer was wrong.
    """
    if options.render:
        results = load_results(_PUBLISHED)
        if results is None:
            raise SystemExit(f"{_PUBLISHED} is not there, or of another form")
        _publish(results)
        return
    check_cores()
    target = _PUBLISHED if options.publish else _DRAFTS / "batching.json"
    earlier = load_results(target)
    options.neighbours = round(os.getloadavg()[0], 1)  # before this program adds to it
    measured: dict[str, Section] = {}
    for name in options.sections or SECTIONS:
        print(f"batching: {name}", file=sys.stderr)
        measured[name] = SECTIONS[name](options)
    machine = describe()
    print(report.full(Results(machine, measured)), end="\n\n")
    failed = report.failures(measured.values())
    if failed:
        raise SystemExit("\n".join(["these results are worth nothing:", *failed]))
    sections = earlier.sections if earlier and earlier.machine == machine else {}
    results = Results(machine, sections | measured)
    save_results(target, results)
    if options.publish:
        _publish(results)
    else:
        figure.draw(results, _DRAFTS / "batching.png")
        print(f"kept in {_DRAFTS.relative_to(_ROOT)}: batching.json, batching.png")


def _publish(results: Results) -> None:
    figure.draw(results, _PICTURE)
    blocks = {"summary": report.summary(results), "full": report.full(results)}
    for path in _READMES:
        if not report.publish(path, blocks):
            print(f"{path.relative_to(_ROOT)} has no place for the results", file=sys.stderr)


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"commit {done.stdout.strip() or 'unknown'}"


def _section(options: Namespace, rounds: int | None = None) -> Section:
    measured = f"{time.strftime('%Y-%m-%d', time.gmtime())}, {_commit()}"
    seconds = options.seconds if rounds is None else 0.0
    return Section(measured, options.neighbours, rounds or options.rounds, seconds)


def _load(options: Namespace) -> Section:
    section = _section(options)
    with (
        tempfile.TemporaryDirectory() as name,
        everything(Path(name)) as (targets, notes),
    ):
        section.notes.extend(notes)
        for target in targets:
            section.notes.extend(wrong_answers(target))
        section.cells.extend(
            load.rounds(targets, report.CONNECTIONS, options.rounds, options.seconds, NGINX)
        )
        section.notes.extend(_without_batches(targets))
    return section


def _without_batches(targets: list[Target]) -> list[str]:
    for target in targets:
        if target.name == ON:
            counted = batch_rows(target)
            if counted is None:
                return [f"NOTE: {ON}: the gateway does not count batches."]
            if counted[0] <= counted[1]:
                return [f"NOTE: {ON}: no call to the container had more than one row."]
    return []


def _latency(options: Namespace) -> Section:
    rounds = options.rounds * 6  # short ones
    section = _section(options, rounds)
    with (
        tempfile.TemporaryDirectory() as name,
        everything(Path(name)) as (targets, notes),
    ):
        section.notes.extend(notes)
        section.latencies.extend(latency.added(targets, rounds))
    return section


def _cost(options: Namespace) -> Section:
    section = _section(options)
    with tempfile.TemporaryDirectory() as name:
        try:
            section.cells.extend(cost.compare(Path(name), options.rounds, options.seconds))
        except Unknown as why:
            section.notes.append(f"SKIPPED: {ON}: its configuration is not accepted: {why}")
    return section


def _splicing(options: Namespace) -> Section:
    repeats = options.rounds * 40
    section = _section(options, repeats)
    try:
        return replace(section, splicing=splicing.splicing(repeats))
    except ImportError as why:
        return replace(section, notes=[f"SKIPPED: {why}"])


def _rivals(options: Namespace) -> Section:
    section = _section(options)
    cells, notes = rivals.compare(options.rounds, options.seconds)
    section.cells.extend(cells)
    section.notes.extend(notes)
    return section


SECTIONS: dict[str, Callable[[Namespace], Section]] = {
    "load": _load,
    "latency": _latency,
    "cost": _cost,
    "splicing": _splicing,
    "rivals": _rivals,
}
