"""What a reload costs: reading and judging a file of 500 deployments, handing it to a worker,
building beside what runs, and taking over. Each part is timed in this process; of what a worker
does, also how long its loop is kept from serving at a time.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import pickle
import random
import tempfile
import threading
import time
import urllib.request
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import uvloop

from benchmarks.contenders import KEY, PATH, backend, free_port, gateway_command, running
from benchmarks.machine import memory
from benchmarks.wrk import Load, load
from gateway.core.identity import request_ids
from gateway.settings.loading import Source, read_source, validate
from gateway.settings.schema import Settings
from gateway.wired import Wired
from gateway.wiring import Tools, wire, wire_gently

ENDPOINTS = 250
# Reloads in a row, for what they leave behind.
MANY = 500

T = TypeVar("T")


def run(options: Namespace) -> None:
    print(f"Reload of {2 * ENDPOINTS} deployments, milliseconds, the best of {options.rounds}:\n")
    print("| part | ms |")
    print("|---|---|")
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "gateway.yaml")
        file.write_text(configuration(concurrency=4))
        total = 0.0
        source, took = _best(options.rounds, lambda: read_source(file))
        total += _show("read the YAML", took)
        (settings, mistakes), took = _best(options.rounds, lambda: validate(source))
        total += _show("validate", took)
        assert settings is not None
        assert mistakes == []
        (_, mistakes), took = _best(options.rounds, lambda: wire(settings, source, _tools()))
        assert mistakes == []
        total += _show("judge: build all of it anew", took)
        packed, took = _best(options.rounds, lambda: pickle.dumps(settings, 5))
        total += _show(f"pickle the settings ({len(packed) >> 10} KiB)", took)
        _, took = _best(options.rounds, lambda: pickle.loads(packed))
        total += _show("unpickle them in a worker", took)
        print(f"| together, without what follows | {total * 1e3:.1f} |\n")
        file.write_text(configuration(concurrency=5))
        other = _settled(file)
        file.write_text(configuration(concurrency=4, name="next"))
        replaced = _settled(file)
    print("In a worker, by what has changed:\n")
    print("| changed | build ms | longest time without a turn ms | adopt ms |")
    print("|---|---|---|---|")
    same = (settings, source)
    for title, successor in (("nothing", same), ("all", other), ("all names", replaced)):
        figures = [uvloop.run(_worker(same, successor)) for _ in range(options.rounds)]
        best = [f"{min(figure[at] for figure in figures) * 1e3:.2f}" for at in range(3)]
        print(f"| {title} | {' | '.join(best)} |")
    _live(options)
    print(f"\nMemory left by {MANY} reloads, KiB each: {uvloop.run(_leftovers(same, other)):.1f}\n")


def _live(options: Namespace) -> None:
    """The real gateway under load, without reloads and with one after the other."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        target = stack.enter_context(backend(folder))
        port, admin = free_port(), free_port()
        config = folder / "gateway.yaml"
        text = configuration(concurrency=4)
        text = text.replace("listen: 127.0.0.1:0", f"listen: 127.0.0.1:{port}")
        text = text.replace("admin: 127.0.0.1:0", f"admin: 127.0.0.1:{admin}")
        live = f"backends: ['http://127.0.0.1:{target}'], concurrency: 256"
        text += (
            "  diabetes:\n    auth: {keys: {primary: {env: BENCH_KEY}}}\n"
            f"    deployments: {{blue: {{{live}}}}}\n"
        )
        config.write_text(text)
        stack.enter_context(
            running(gateway_command(config), port, None, folder, environment=_keys())
        )
        samples: dict[bool, list[Load]] = {False: [], True: []}
        took: list[float] = []
        for _ in range(options.rounds):
            for reloads, own in samples.items():
                with _reloading(admin if reloads else None, config, text, took):
                    url = f"http://127.0.0.1:{port}{PATH}"
                    own.append(load(url, "same.lua", 4, options.seconds, {"BENCH_KEY": KEY}))
        failures = [each.failures for own in samples.values() for each in own if each.failures]
        if failures:
            raise SystemExit(f"failed requests: {failures}")
    print("\nThe real gateway with this file, 4 connections, nothing pinned, medians:\n")
    print("| | requests/s | p50 ms | p99 ms |")
    print("|---|---|---|---|")
    for reloads, own in samples.items():
        title = "reloads without a pause, one deployment in two changed" if reloads else "steady"
        rate, p50, p99 = (median(getattr(each, a) for each in own) for a in ("rate", "p50", "p99"))
        print(f"| {title} | {rate:,.0f} | {p50:.2f} | {p99:.2f} |")
    print(f"\nA reload took {median(took) * 1e3:.0f} ms ({len(took)} of them).")


@contextmanager
def _reloading(admin: int | None, config: Path, text: str, took: list[float]) -> Iterator[None]:
    """Reload again and again, with other settings each time.

    :param admin: the admin port; None to reload nothing.
    :param took: gets the seconds of each.
    """
    ending = threading.Event()

    def reload() -> None:
        for number in itertools.count():
            if ending.is_set():
                return
            config.write_text(
                text.replace("batching: on", f"batching: {('on', 'off')[number % 2]}")
            )
            begun = time.perf_counter()
            url = f"http://127.0.0.1:{admin}/reload"
            with urllib.request.urlopen(url, data=b"", timeout=60) as answer:
                answer.read()
            took.append(time.perf_counter() - begun)

    thread = threading.Thread(target=reload)
    if admin is not None:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        if admin is not None:
            thread.join()


def configuration(concurrency: int, name: str = "endpoint") -> str:
    """A file with two deployments for each endpoint, one of them with two backends and batching."""
    lines = ["listen: 127.0.0.1:0", "admin: 127.0.0.1:0", "access_log: off", "endpoints:"]
    for number in range(ENDPOINTS):
        lines += [
            f"  {name}-{number}:",
            f"    hosts: [e{number}.example.com]",
            "    auth:",
            f"      keys: {{primary: {{env: ONE_{number}}}, secondary: {{env: TWO_{number}}}}}",
            "    traffic: {blue: 90, green: 10}",
            "    deployments:",
            "      blue:",
            f'        backends: ["http://10.0.{number}.1:5001", "http://10.0.{number}.2:5001"]',
            f"        concurrency: {concurrency}",
            "        batching: on",
            "        connections: {max: 8}",
            "      green:",
            f'        backends: ["http://10.1.{number}.1:5001"]',
            f"        concurrency: {concurrency}",
            "        queue: {max_wait: 1s, max_length: 100}",
            "        connections: {max: 8}",
        ]
    return "\n".join(lines) + "\n"


def _settled(file: Path) -> tuple[Settings, Source]:
    source = read_source(file)
    settings, mistakes = validate(source)
    assert settings is not None
    assert mistakes == []
    return settings, source


def _tools() -> Tools:
    async def never(_: object) -> Any:
        raise AssertionError("nothing is called here")

    class Nobody:
        def record(self, exchange: object) -> None:
            raise AssertionError("nobody asks here")

    return Tools(
        dial=never,
        fetch=never,
        recorder=Nobody(),
        clock=time.monotonic,
        wall=time.time,
        draw=random.random,
        ids=request_ids(random.randbytes),
        environment=_keys(),
    )


def _keys() -> dict[str, str]:
    return {
        f"{word}_{number}": f"key-{word.lower()}-of-endpoint-{number}"
        for number in range(ENDPOINTS)
        for word in ("ONE", "TWO")
    }


async def _worker(
    before: tuple[Settings, Source], after: tuple[Settings, Source]
) -> tuple[float, float, float]:
    """Seconds to build, the longest time without a turn of the loop meanwhile, and to adopt."""
    first, _ = wire(*before, _tools())
    first.adopt()
    gc.collect()
    gaps: list[float] = []
    last = time.perf_counter()

    def tick() -> None:
        nonlocal last
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
        handle[0] = asyncio.get_running_loop().call_soon(tick)

    handle = [asyncio.get_running_loop().call_soon(tick)]
    begun = time.perf_counter()
    second, mistakes = await wire_gently(*after, _tools(), first)
    built = time.perf_counter() - begun
    assert mistakes == []
    handle[0].cancel()
    begun = time.perf_counter()
    second.adopt()
    adopted = time.perf_counter() - begun
    second.close()
    return built, max(gaps), adopted


async def _leftovers(one: tuple[Settings, Source], other: tuple[Settings, Source]) -> float:
    """KiB by which memory has grown for each of many reloads, after as many to warm up. Nobody
    collects garbage: in a worker, that hardly ever happens."""
    tools = _tools()
    wired: Wired = wire(*one, tools)[0]
    wired.adopt()
    sizes = []
    gc.disable()
    try:
        for number in range(2 * MANY):
            wired, _ = wire(*(one if number % 2 else other), tools, wired)
            wired.adopt()
            wired.expire(time.monotonic())
            await asyncio.sleep(0)
            if number % MANY == MANY - 1:
                sizes.append(memory(os.getpid()))
    finally:
        gc.enable()
    return (sizes[1] - sizes[0]) / 1024 / MANY


def _best(rounds: int, action: Callable[[], T]) -> tuple[T, float]:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        result = action()
        times.append(time.perf_counter() - begun)
    return result, min(times)


def _show(part: str, seconds: float) -> float:
    print(f"| {part} | {seconds * 1e3:.1f} |")
    return seconds
