"""A diagnostic: what is wrong, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. Lines and columns count from 1; `path` is the dotted path into the document."""

    code: str
    message: str
    line: int = 1
    column: int = 1
    path: str = ""
    hint: str | None = None
    severity: Severity = "error"

    @property
    def is_error(self) -> bool:
        return self.severity == "error"

    def at(self, line: int, column: int) -> Problem:
        return replace(self, line=line, column=column)


def in_file_order(problems: list[Problem]) -> list[Problem]:
    """Sorted as a reader meets them, without repetitions."""
    return sorted(dict.fromkeys(problems), key=lambda p: (p.line, p.column, p.code, p.message))
