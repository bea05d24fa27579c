"""How much log one run may write: it fills no disk, and where it was cut is told."""

from __future__ import annotations

from dataclasses import replace

from runner.domain.said import LogLine

LOG_BUDGET = 4 * 1024 * 1024  # bytes of text
LOG_LINES = 100_000


class LogBudget:
    """Of one run."""

    __slots__ = ("_bytes", "_is_spent", "_lines")

    def __init__(self) -> None:
        self._bytes = 0
        self._lines = 0
        self._is_spent = False

    def take(self, line: LogLine) -> tuple[LogLine, ...]:
        """What may be written: the line, or the part of it that fits and a mark, or nothing."""
        if self._is_spent:
            return ()
        left = LOG_BUDGET - self._bytes
        text = line.message.encode("utf-8", "replace")
        self._bytes += len(text) + 1
        self._lines += 1
        if self._bytes > LOG_BUDGET:
            self._is_spent = True
            rest = text[:left].decode("utf-8", "ignore")
            return (*([replace(line, message=rest)] if rest else []), _mark(line, f"{LOG_BUDGET:,} bytes"))
        if self._lines > LOG_LINES:
            self._is_spent = True
            return (_mark(line, f"{LOG_LINES:,} lines"),)
        return (line,)


def _mark(line: LogLine, limit: str) -> LogLine:
    return LogLine(line.at, "warning", f"[the log is cut here: {limit} for one run]")
