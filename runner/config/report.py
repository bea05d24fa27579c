"""Problems as text for people, as annotations for GitHub, and as JSON for programs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from runner.domain.problem import Problem

SHOWN = 50
WIDTH = 160
FORMAT_VERSION = 1


def as_text(problems: Sequence[Problem], source: str, filename: str, *, limit: int = SHOWN) -> str:
    """Each problem with its line of the source, a caret and its remedy. Ends with a newline unless it is empty."""
    lines = re.split(r"\r\n|\n|\r", source)
    blocks = [_block(problem, lines, filename) for problem in problems[:limit]]
    if len(problems) > limit:
        blocks.append(f"{filename}: and {len(problems) - limit:,} more\n")
    return "\n".join(blocks)


def _block(problem: Problem, lines: Sequence[str], filename: str) -> str:
    head = f"{filename}:{problem.line}:{problem.column}: {problem.severity}[{problem.code}]: {problem.message}"
    excerpt = _excerpt(lines[problem.line - 1], problem) if problem.line <= len(lines) else []
    help_line = [f"help: {problem.hint}"] if problem.hint else []
    return "".join(f"{_plain(line)}\n" for line in [head, *excerpt, *help_line])


def _excerpt(line: str, problem: Problem) -> list[str]:
    """The source line and a caret under the column; of a very long line, the part around it."""
    if not line.strip():
        return []
    column = problem.column - 1
    start = 0 if column < WIDTH - 20 else column - WIDTH // 2
    cut = line[start : start + WIDTH]
    number = str(problem.line)
    blank = "".join("\t" if char == "\t" else " " * _cells(char) for char in cut[: column - start])
    return [f"  {number} | {cut}", f"  {' ' * len(number)} | {blank}^"]


def _cells(char: str) -> int:
    """How many cells of a terminal a character takes."""
    if unicodedata.combining(char) or not char.isprintable():
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _plain(line: str) -> str:
    """Without control characters: what stands in a file must not reach the terminal."""
    return "".join(char for char in line if char.isprintable() or char == "\t")


def as_github(problems: Sequence[Problem], filename: str) -> str:
    """Workflow commands, errors first: GitHub shows only the first ten of a step."""
    ordered = sorted(problems, key=lambda problem: not problem.is_error)
    return "".join(f"{_command(problem, filename)}\n" for problem in ordered)


def _command(problem: Problem, filename: str) -> str:
    fields = {"file": filename, "line": problem.line, "col": problem.column, "title": f"runner: {problem.code}"}
    written = ",".join(f"{name}={_property(str(value))}" for name, value in fields.items())
    message = f"{problem.message}\n{problem.hint}" if problem.hint else problem.message
    return f"::{problem.severity} {written}::{_message(message)}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def as_json(problems: Sequence[Problem]) -> dict[str, Any]:
    """The document that `runner validate -o json` prints."""
    names = ("code", "severity", "line", "column", "path", "message", "hint")
    entries = [{name: getattr(problem, name) for name in names} for problem in problems]
    return {"format_version": FORMAT_VERSION, "problems": entries}
