"""How much work waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """The unfinished jobs of one queue in one state; `oldest_due` is seconds since the oldest became due, if any is."""

    queue: str
    status: str
    jobs: int
    oldest_due: float | None = None
