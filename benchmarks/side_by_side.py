"""Figures of several queues from the same turns, and the one table in which they stand side by side."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

OURS = "runner"


@dataclass(frozen=True, slots=True)
class Goal:
    """What ours shall reach: a share of another figure (`whose`, of which `line`), or where none is named, a bound."""

    want: float
    least: float | None = None
    whose: str = ""
    line: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table. `beside`: the row whose figures of the others it shows, where ours alone is measured."""

    key: str
    what: str
    unit: str = "/s"
    digits: int = 0
    goals: tuple[Goal, ...] = ()
    beside: str = ""


@dataclass(slots=True)
class Figures:
    """One value for each turn, by line and queue."""

    values: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, line: str, who: str, value: float) -> None:
        self.values[line, who].append(value)

    def of(self, line: str, who: str) -> list[float]:
        return self.values.get((line, who), [])


def table(lines: Iterable[Line], others: Sequence[str], figures: Figures) -> str:
    """Medians with their spread; beside each of the others ours/theirs, turn by turn."""
    head = ["", OURS, *others, "goal", "found"]
    rows = [head, ["---", *("---:" for _ in [OURS, *others]), "---", "---"]]
    rows += [_row(line, others, figures) for line in lines if figures.of(line.key, OURS)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(line: Line, others: Sequence[str], figures: Figures) -> list[str]:
    ours = figures.of(line.key, OURS)
    cells = [_beside(ours, figures.of(line.beside or line.key, other), line.digits) for other in others]
    goals = [_judged(line, goal, figures) for goal in line.goals]
    wanted, found = ("; ".join(words) for words in zip(*goals, strict=True)) if goals else ("", "")
    return [f"{line.what}, {line.unit}", spread(ours, line.digits), *cells, wanted, found]


def _beside(ours: list[float], theirs: list[float], digits: int) -> str:
    if not theirs:
        return ""
    return f"{spread(theirs, digits)} **{statistics.median(ratios(ours, theirs)):.2f}**"


def spread(values: list[float], digits: int = 0) -> str:
    """The median, and the least and most.

    >>> spread([1200.0, 1000.0, 1300.0])
    '1,200 (1,000-1,300)'
    """
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Turn by turn, so that a slow minute of the machine weighs on both."""
    return [mine / its for mine, its in zip(ours, theirs, strict=True) if its]


def _judged(line: Line, goal: Goal, figures: Figures) -> tuple[str, str]:
    """The goal in words, and what was found."""
    ours = figures.of(line.key, OURS)
    if not goal.whose:
        return f"under {goal.want:g}", _verdict(statistics.median(ours) < goal.want, None)
    theirs = figures.of(goal.line or line.beside or line.key, goal.whose)
    if not theirs:
        return "", ""
    of = goal.whose if goal.whose != OURS else "none waiting"
    least = f", at least {goal.least:g}" if goal.least else ""
    found = ratios(ours, theirs)
    middle = statistics.median(found)
    verdict = _verdict(middle >= goal.want, None if goal.least is None else middle >= goal.least)
    return f"{goal.want:g} of {of}{least}", f"{spread(found, 2)}: {verdict}"


def _verdict(is_reached: bool, is_least_reached: bool | None) -> str:
    if is_reached:
        return "reached"
    return "above the least" if is_least_reached else "missed"
