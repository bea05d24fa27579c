"""Timing, and the table that is printed."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from runner.storage.sqlite import sqlite_library


@dataclass(frozen=True, slots=True)
class Row:
    """One line: seconds per operation of ours, and what it stands beside."""

    what: str
    ours: list[float]
    beside: str = ""
    theirs: list[float] | None = None
    goal: float | None = None


def timed(operation: Callable[[], object], times: int, before: Callable[[], object] | None = None) -> list[float]:
    """Seconds of each call."""
    found = []
    for _ in range(times):
        if before is not None:
            before()
        start = time.perf_counter()
        operation()
        found.append(time.perf_counter() - start)
    return found


def table(rows: list[Row]) -> str:
    lines = [
        "| what | median | p99 | beside | its median | ratio | asked for |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        median = statistics.median(row.ours)
        theirs = statistics.median(row.theirs) if row.theirs else None
        ratio = f"{median / theirs:.2f}" if theirs else ""
        goal = f"under {_shown(row.goal)}" if row.goal else ""
        cells = (row.what, _shown(median), _shown(_p99(row.ours)), row.beside, _shown(theirs), ratio, goal)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _p99(values: list[float]) -> float:
    return sorted(values)[min(int(len(values) * 0.99), len(values) - 1)]


def _shown(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1000:.3f} ms" if seconds < 1 else f"{seconds:.2f} s"


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite_library()[0]}"
