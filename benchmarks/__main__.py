"""``python -m benchmarks``: install what is missing, measure, print the tables."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import idle, proxying, streaming
from benchmarks.machine import describe

PARTS = {"proxying": proxying.run, "idle": idle.run, "streaming": streaming.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="what to measure; all")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, interleaved")
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    script = Path(__file__).resolve().parent.parent / "scripts" / "tools.sh"
    subprocess.run([script, "nginx", "haproxy", "wrk"], check=True)
    print(describe(), end="\n\n")
    for name in options.parts or PARTS:
        PARTS[name](options)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
