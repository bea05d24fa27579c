"""What a run says while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from runner.domain.job import Run


@dataclass(frozen=True, slots=True)
class Progress:
    """The newest word of a run about itself. `percent` None leaves the number as it is."""

    percent: float | None = None
    step: str | None = None
    message: str | None = None

    def then(self, newer: Progress) -> Progress:
        """The two in one: the larger number, the newer words."""
        known = [percent for percent in (self.percent, newer.percent) if percent is not None]
        return Progress(
            max(known, default=None),
            self.step if newer.step is None else newer.step,
            self.message if newer.message is None else newer.message,
        )


@dataclass(frozen=True, slots=True)
class LogLine:
    at: datetime
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class OutputPiece:
    """`append` False begins the output of that name anew."""

    at: datetime
    name: str
    media_type: str
    data: bytes
    append: bool = False


@dataclass(frozen=True, slots=True)
class Writes:
    """What one run wants written, in the order in which it said it."""

    run: Run
    progress: Progress | None = None
    lines: tuple[LogLine, ...] = ()
    outputs: tuple[OutputPiece, ...] = ()
