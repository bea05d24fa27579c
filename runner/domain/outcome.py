"""How one run ended, and what a handler may raise to say so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Completed:
    """The handler returned. `result` is JSON text, or None."""

    result: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed. `kinds` are the dotted names in the exception's method resolution order."""

    error: str
    kinds: tuple[str, ...] = ()
    for_good: bool = False
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Stalled:
    """The worker stopped beating. Counted apart from the handler's own failures."""

    error: str = "Job processor stopped responding"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Asked for by an operator or by the handler itself."""

    reason: str = "cancelled"


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The handler wants to be called again later; the attempt is given back."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class Released:
    """The worker is going away; the attempt is given back and the job is due at once."""

    reason: str = "released at shutdown"


Outcome = Completed | Failed | Stalled | Cancelled | Snoozed | Released


class Retry(Exception):
    """Raise in a handler: this attempt failed, try again `after` that long (default: as the policy says)."""

    def __init__(
        self, reason: str = "retry asked for by the handler", *, after: timedelta | float | None = None
    ) -> None:
        super().__init__(reason)
        self.after = _duration(after) if after is not None else None


class Cancel(Exception):
    """Raise in a handler: end the job as cancelled; it is not retried."""

    def __init__(self, reason: str = "cancelled by the handler") -> None:
        super().__init__(reason)
        self.reason = reason


class Snooze(Exception):
    """Raise in a handler: call me again after `for_` (seconds or timedelta); this attempt does not count."""

    def __init__(self, *, for_: timedelta | float) -> None:
        super().__init__(f"snoozed for {for_}")
        self.delay = _duration(for_)


class JobCancelled(BaseException):
    """Raised inside a handler at its next use of `ctx` after a cancel or a timeout.

    A BaseException, so that `except Exception` in a handler does not swallow it.
    """

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(reason)
        self.reason = reason


def _duration(value: timedelta | float) -> timedelta:
    span = value if isinstance(value, timedelta) else timedelta(seconds=value)
    if span < timedelta(0):
        raise ValueError(f"a delay cannot be negative: {span}")
    return span
