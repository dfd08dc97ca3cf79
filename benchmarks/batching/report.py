"""Results as tables, as verdicts on what was promised, and as blocks of a README."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

from benchmarks.batching.cost import DISTINCT, SAME
from benchmarks.batching.results import Results, Section, Spread
from benchmarks.batching.world import ALONE, LOGLESS, NGINX, OFF, ON, TRIVIAL

CONNECTIONS = (1, 8, 64, 256, 1024)
#: How many times nginx's throughput, by connections (the issue's bounds).
SPEEDUP = {8: 2.5, 64: 12.0, 256: 20.0}
ADDED_LATENCY = 0.3
CPU_RATIO = 1.2
SPLICE_TIME = 1.5
RIVAL_RATIO = 10.0


def full(results: Results) -> str:
    """Every table, in Markdown."""
    parts = [results.machine]
    for name, title, table in (
        ("load", "One container with one worker, requests of one row, no two equal", _load),
        ("latency", "One connection, one request at a time", _latency),
        ("cost", "CPU time of a batched request beside that of one that nginx passes on", _cost),
        ("splicing", "CPU time of merging and splitting", _splicing),
        ("rivals", "The same model behind servers that batch by themselves", _rivals),
    ):
        section = results.sections.get(name)
        if section is None:
            continue
        head = (
            f"{title} ({section.measured}, {section.rounds} rounds; "
            f"load average before it {section.neighbours})"
        )
        tables = [f"**{head}**", "\n".join(table(section)), *section.notes]
        tables += [f"FAILED: {failure}" for failure in section.failures]
        parts.append("\n\n".join(part for part in tables if part))
    parts.append("\n".join(["**Promised and measured**\n", *verdicts(results)]))
    return "\n\n".join(parts)


def summary(results: Results) -> str:
    """The few figures for the front page."""
    section = results.sections.get("load")
    if section is None:
        return ""
    counts = [number for number in CONNECTIONS if section.cell(NGINX, number)]
    lines = [
        "| in front of one container | "
        + " | ".join(f"{n:,} connection{'s' * (n > 1)}" for n in counts)
        + " |",
        "|---" * (len(counts) + 1) + "|",
    ]
    for name in (NGINX, OFF, ON):
        cells = [section.cell(name, number) for number in counts]
        if all(cells):
            texts = [
                f"{c.rate.median:,.0f}/s, p50 {_ms(c.p50)}, p99 {_ms(c.p99)}" for c in cells if c
            ]
            lines.append(f"| {name} | " + " | ".join(texts) + " |")
    ratios = [section.cell(ON, number) for number in counts]
    if all(ratios):
        texts = [f"**{c.ratio.median:.1f} x**" for c in ratios if c and c.ratio]
        lines.append("| batching on, relative to nginx | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def verdicts(results: Results) -> list[str]:
    """A table of what was promised, with what was measured beside it."""
    lines = ["| promise | bound | measured | met |", "|---|---|---|---|"]
    for promise, bound, measured, met in _promises(results):
        lines.append(f"| {promise} | {bound} | {measured} | {'yes' if met else '**no**'} |")
    return lines


def publish(path: Path, blocks: dict[str, str]) -> bool:
    """Replace what stands between ``<!-- batching:NAME -->`` and ``<!-- /batching:NAME -->``.

    :returns: whether the file has one of the blocks.
    """
    text = old = path.read_text(encoding="utf-8")
    found = False
    for name, block in blocks.items():
        begin, end = f"<!-- batching:{name} -->\n", f"<!-- /batching:{name} -->"
        before, begun, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if begun and ended:
            text, found = f"{before}{begin}{block}\n{end}{after}", True
    if text != old:
        path.write_text(text, encoding="utf-8")
    return found


def _load(section: Section) -> Iterator[str]:
    yield (
        "| connections | in front | requests/s | (min-max) | ratio | p50 ms | p99 ms "
        "| CPU µs/request: front | container | wrk | rows a call |"
    )
    yield "|---" * 11 + "|"
    for cell in section.cells:
        alone = cell.name == ALONE
        front, container = (None, cell.cpu) if alone else (cell.cpu, cell.container_cpu)
        yield (
            f"| {cell.connections} | {cell.name} | {cell.rate.median:,.0f} "
            f"| {cell.rate.low:,.0f}-{cell.rate.high:,.0f} | {_short(cell.ratio, '.2f')} "
            f"| {cell.p50.median:.2f} | {cell.p99.median:.2f} | {_short(front, '.1f')} "
            f"| {_short(container, '.0f')} | {cell.generator_cpu.median:.1f} "
            f"| {_short(cell.batch_rows, '.1f')} |{' FAILED' if cell.failures else ''}"
        )


def _latency(section: Section) -> Iterator[str]:
    yield "| in front | p50 ms | (min-max) | added ms | (min-max) | added to a connected caller |"
    yield "|---|---|---|---|---|---|"
    for one in section.latencies:
        low_high = f"{one.added.low:.3f}-{one.added.high:.3f}" if one.added else ""
        yield (
            f"| {one.name} | {one.p50.median:.3f} | {one.p50.low:.3f}-{one.p50.high:.3f} "
            f"| {_short(one.added, '.3f')} | {low_high} "
            f"| {_short(one.added_without_connecting, '.3f')} |"
        )


def _cost(section: Section) -> Iterator[str]:
    yield "| proxy, 256 connections | CPU µs/request | (min-max) | ratio | requests/s |"
    yield "|---|---|---|---|---|"
    for cell in section.cells:
        base = section.cell(_like(cell.name, TRIVIAL), cell.connections)
        if cell.cpu and base and base.cpu:
            yield (
                f"| {cell.name} | {cell.cpu.median:.1f} | {cell.cpu.low:.1f}-{cell.cpu.high:.1f} "
                f"| {cell.cpu.median / base.cpu.median:.2f} | {cell.rate.median:,.0f} |"
            )


def _splicing(section: Section) -> Iterator[str]:
    found = section.splicing
    if found is None:
        return
    yield f"| {found.bodies:,} bodies of one row | CPU ms | (min-max) |"
    yield "|---|---|---|"
    for name, spread in (("read", found.read), ("merge", found.merge), ("split", found.split)):
        yield f"| {name} | {spread.median:.3f} | {spread.low:.3f}-{spread.high:.3f} |"
    yield f"| merge + split | {found.merge.median + found.split.median:.3f} | |"


def _rivals(section: Section) -> Iterator[str]:
    yield (
        "| server | connections | requests/s | (min-max) | ratio | p50 ms | p99 ms "
        "| CPU µs/request |"
    )
    yield "|---" * 8 + "|"
    for cell in section.cells:
        whole = (cell.cpu.median if cell.cpu else 0.0) + (
            cell.container_cpu.median if cell.container_cpu else 0.0
        )
        yield (
            f"| {cell.name} | {cell.connections} | {cell.rate.median:,.0f} "
            f"| {cell.rate.low:,.0f}-{cell.rate.high:,.0f} | {_short(cell.ratio, '.3f')} "
            f"| {cell.p50.median:.2f} | {cell.p99.median:.2f} | {whole:.0f} |"
            f"{' FAILED' if cell.failures else ''}"
        )


def _promises(results: Results) -> Iterator[tuple[str, str, str, bool]]:
    """What was promised, its bound, what was measured, and whether that will do."""
    sections = results.sections
    if load := sections.get("load"):
        for number, bound in SPEEDUP.items():
            own, base = load.cell(ON, number), load.cell(NGINX, number)
            if own and base and own.ratio:
                yield _at_least(f"throughput of nginx at {number} connections", bound, own.ratio)
                for name, mine, its in (
                    ("p50", own.p50.median, base.p50.median),
                    ("p99", own.p99.median, base.p99.median),
                ):
                    what = f"{name} at {number} connections"
                    yield what, f"< {its:.2f} ms (nginx)", f"{mine:.2f} ms", mine < its
    if latency := sections.get("latency"):
        for one in latency.latencies:
            if one.name == ON and one.added:
                mine = one.added.median
                yield (
                    "added p50 at 1 connection", f"≤ {ADDED_LATENCY} ms", f"{mine:.3f} ms",
                    mine <= ADDED_LATENCY,
                )  # fmt: skip
    yield from _cost_promises(sections.get("cost"))
    if (section := sections.get("splicing")) and (found := section.splicing):
        mine = found.merge.median + found.split.median
        what = f"merge + split of {found.bodies:,} bodies"
        yield what, f"≤ {SPLICE_TIME} ms", f"{mine:.3f} ms", mine <= SPLICE_TIME
    if rivals := sections.get("rivals"):
        for cell in rivals.cells:
            if cell.connections == 64 and cell.name != ON and cell.ratio:
                inverse = Spread(1 / cell.ratio.median, 1 / cell.ratio.high, 1 / cell.ratio.low)
                yield _at_least(f"throughput of {cell.name} at 64", RIVAL_RATIO, inverse)


def _cost_promises(section: Section | None) -> Iterator[tuple[str, str, str, bool]]:
    if section is None:
        return
    for name, kind in product((LOGLESS, ON), (SAME, DISTINCT)):
        own = section.cell(f"{name}, {kind}", 256)
        base = section.cell(f"{TRIVIAL}, {kind}", 256)
        if own and base and own.cpu and base.cpu:
            mine = own.cpu.median / base.cpu.median
            log = "no access log" if name == LOGLESS else "with its access log"
            what = f"CPU per batched request relative to nginx (no log): {log}, {kind}"
            yield what, f"≤ {CPU_RATIO} x", f"{mine:.2f} x", mine <= CPU_RATIO


def _at_least(what: str, bound: float, ratio: Spread) -> tuple[str, str, str, bool]:
    measured = f"{ratio.median:.1f} x ({ratio.low:.1f}-{ratio.high:.1f})"
    return what, f"≥ {bound:g} x", measured, ratio.median >= bound


def _like(name: str, base: str) -> str:
    """The cell of the base with the same kind of requests."""
    return f"{base}, {DISTINCT if name.endswith(DISTINCT) else SAME}"


def _ms(spread: Spread) -> str:
    """Two or three digits."""
    return f"{spread.median:,.{0 if spread.median >= 100 else 1}f} ms"


def _short(spread: Spread | None, form: str) -> str:
    return "" if spread is None else format(spread.median, form)


def failures(sections: Iterable[Section]) -> list[str]:
    """Everything that makes figures worthless."""
    return [
        text
        for section in sections
        for text in (*section.failures, *(n for n in section.notes if n.startswith("FAILED")))
    ]
