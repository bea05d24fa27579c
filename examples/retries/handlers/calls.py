"""Calls to a service that is not always there."""

from __future__ import annotations

from typing import Any

from runner import Cancel, JobContext, Snooze

_asked: set[str] = set()


def flaky(ctx: JobContext, payload: dict[str, Any]) -> dict[str, int]:
    """The first two attempts fail."""
    if ctx.attempt < 3:
        raise ConnectionError(f"attempt {ctx.attempt}: nobody answers")
    return {"answered_at_attempt": ctx.attempt}


def picky(ctx: JobContext, payload: dict[str, Any]) -> None:
    """Ends the job at once; raising ValueError would fail it at once, by `give_up_on`."""
    raise Cancel("no such address")


def polite(ctx: JobContext, payload: dict[str, Any]) -> str:
    """Asks once, is told to come back, and does; the attempt is given back."""
    if ctx.idempotency_key not in _asked:
        _asked.add(ctx.idempotency_key)
        raise Snooze(for_=0.1)
    return f"answered at attempt {ctx.attempt}"
