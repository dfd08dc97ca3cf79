"""Throughput and p99 over connections, for the README."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.batching.results import Results, Section
from benchmarks.batching.world import ALONE, NGINX, OFF, ON

# Colours of Okabe and Ito, which the colour-blind can tell apart; markers for print.
_STYLES: dict[str, dict[str, Any]] = {
    ON: {"color": "#D55E00", "marker": "o", "linewidth": 2.6, "markersize": 7, "zorder": 5},
    NGINX: {"color": "#0072B2", "marker": "s"},
    ALONE: {"color": "#000000", "marker": "^", "linestyle": ":"},
    OFF: {"color": "#E69F00", "marker": "D", "markersize": 4},
    "LitServe": {"color": "#009E73", "marker": "v", "linestyle": "--"},
    "MLServer": {"color": "#CC79A7", "marker": "<", "linestyle": "--"},
    "BentoML": {"color": "#777777", "marker": ">", "linestyle": "--"},
}
_RIVALS = ("LitServe", "MLServer", "BentoML")


def draw(results: Results, path: Path) -> None:
    """
    :raises ImportError: matplotlib is not installed.
    """
    # By name: the type checker runs where matplotlib is not installed.
    import_module("matplotlib").use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    ticker = import_module("matplotlib.ticker")
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    numbers: set[int] = set()
    for name, style in _STYLES.items():
        section = results.sections.get("rivals" if name in _RIVALS else "load")
        if section is None:
            continue
        line = _line(section, name)
        numbers.update(line[0])
        label = f"{name} (its own batching)" if name in _RIVALS else name
        for panel, values in zip(panels, line[1:], strict=True):
            panel.plot(line[0], values, label=label, **{"linewidth": 1.6, "markersize": 5, **style})
    for panel, title in zip(panels, ("requests per second", "p99 latency, ms"), strict=True):
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(sorted(numbers), [f"{number:,}" for number in sorted(numbers)])
        panel.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f"{y:,g}"))
        panel.set_xlabel("connections")
        panel.set_title(title, loc="left", fontweight="bold")
        panel.grid(which="major", color="#dddddd", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_axisbelow(True)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(
        "One scoring container with one worker, requests of one row, everything on two cores",
        fontsize=11,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _line(section: Section, name: str) -> tuple[list[int], list[float], list[float]]:
    """Connections, requests per second, p99 in milliseconds."""
    cells = [cell for cell in section.cells if cell.name == name]
    return (
        [cell.connections for cell in cells],
        [cell.rate.median for cell in cells],
        [cell.p99.median for cell in cells],
    )
