"""``python -m benchmarks``: install what is missing, measure, print the tables."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import (
    batching,
    idle,
    lag,
    lifecycle,
    proxying,
    reloading,
    scraping,
    sharing,
    slow,
    soak,
    streaming,
    tls,
    workers,
)
from benchmarks.machine import describe

PARTS = {
    "proxying": proxying.run,
    "idle": idle.run,
    "streaming": streaming.run,
    "tls": tls.run,
    "scraping": scraping.run,
    "batching": batching.run,
    "reload": reloading.run,
    "sharing": sharing.run,
    "slow": slow.run,
    "lag": lag.run,
    "lifecycle": lifecycle.run,
    "soak": soak.run,
    "workers": workers.run,
}
# Batching takes longer than all the others, and installs the servers it is compared with. A soak
# takes an hour.
DEFAULT = ("proxying", "idle", "streaming")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        choices=[[], *PARTS],
        help=f"what to measure; without a name: {', '.join(DEFAULT)}",
    )
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, interleaved")
    parser.add_argument("--connections", type=int, default=32, help="of proxying")
    life = parser.add_argument_group("soak")
    life.add_argument("--minutes", type=float, default=60.0, help="its length")
    life.add_argument("--soak-workers", type=int, default=2, help="processes that serve")
    life.add_argument("--reload-every", type=float, default=0.0, help="seconds; never if 0")
    life.add_argument("--kill-every", type=float, default=0.0, help="seconds; never if 0")
    own = parser.add_argument_group("batching")
    own.add_argument(
        "--sections", nargs="+", choices=list(batching.SECTIONS), help="parts of it; all"
    )
    own.add_argument(
        "--publish",
        action="store_true",
        help="replace the results, the picture and the tables in the repository",
    )
    own.add_argument(
        "--render", action="store_true", help="measure nothing, draw the published results again"
    )
    options = parser.parse_args()
    script = Path(__file__).resolve().parent.parent / "scripts" / "tools.sh"
    subprocess.run([script, "nginx", "haproxy", "wrk"], check=True)
    print(describe(), end="\n\n")
    for name in options.parts or DEFAULT:
        PARTS[name](options)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
