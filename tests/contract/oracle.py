"""What a claim must answer, by looking at every row: slow, and plain enough to be right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from runner.storage.claims import ClaimRequest


def claim(
    rows: Iterable[Mapping[str, Any]], limits: Mapping[str, int], request: ClaimRequest, now: datetime
) -> list[int]:
    """The ids that the claim takes, in order: priority, `run_at`, id."""
    table = list(rows)
    lanes = {(lane.queue, lane.type): lane.limit for lane in request.lanes}
    left = {name: most - _running(table, name) for name, most in limits.items()}
    taken: list[int] = []
    for row in sorted(table, key=lambda row: (row["priority"], row["run_at"], row["id"])):
        limit = lanes.get((row["queue"], row["type"]))
        if len(taken) == request.free or not _may_run(row, lanes, request.schedules, now):
            continue
        if limit is not None and left.get(limit, 0) < 1:
            continue
        if limit is not None:
            left[limit] -= 1
        taken.append(row["id"])
    return taken


def _running(rows: Iterable[Mapping[str, Any]], limit: str) -> int:
    return sum(row["status"] == "running" and row["limit_name"] == limit for row in rows)


def _may_run(
    row: Mapping[str, Any],
    lanes: Mapping[tuple[str, str], str | None],
    schedules: frozenset[str] | None,
    now: datetime,
) -> bool:
    if row["status"] != "pending" or row["waiting_for"] is not None or row["run_at"] > now:
        return False
    if (row["queue"], row["type"]) not in lanes:
        return False
    return schedules is None or row["schedule_name"] in schedules
