"""Runs every measurement and prints one Markdown table.

Each figure of ours stands beside the same work done with the bare driver on the same table in the same run, or beside
the figure that the requirements ask for. `python -m benchmarks [--depth N] [--schedules N]`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import claims, files, latency, schedules
from benchmarks.measure import Row, machine, table


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--depth", type=int, default=1_000_000, help="rows in the table for the claim (1,000,000)")
    parser.add_argument("--schedules", type=int, default=2_000, help="schedules in the file (2,000)")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as folder:
        for measure in (claims.run, latency.run, schedules.run, files.run):
            sys.stderr.write(f"{measure.__module__} ...\n")
            rows += measure(Path(folder), options.depth, options.schedules)
    print(machine())
    print()
    print(table(rows))


if __name__ == "__main__":
    main()
