"""A look inside as plain data: the same words by `runner status -o json` and by the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from runner.domain.overview import (
    EndedJob,
    Life,
    NextFire,
    Overview,
    QueueView,
    RevisionMark,
    RunningJob,
    ScheduleSums,
    Skips,
    WorkerView,
)
from runner.domain.plain import timed
from runner.domain.worker import WorkerStatus


def overview_data(seen: Overview | None, skipped: Sequence[Skips]) -> dict[str, Any]:
    """Nothing of all that where there is no database yet."""
    if seen is None:
        return {"revision": None, "problems": [], "workers": [], "queues": [], "schedules": None, "next": [],
                "skipped": []}  # fmt: skip
    return {
        "revision": seen.revision and asdict(seen.revision),
        "problems": [asdict(problem) for problem in seen.problems],
        "workers": [worker_data(worker) for worker in seen.workers],
        "queues": [asdict(queue) for queue in seen.queues],
        "schedules": asdict(seen.schedules),
        "next": [asdict(fire) for fire in seen.fires],
        "skipped": [asdict(one) for one in skipped],
    }


def worker_data(worker: WorkerView) -> dict[str, Any]:
    row = worker.status.model_dump(exclude={"lock_file", "wake_socket"})
    return row | {"state": worker.life, "running": worker.running, "is_current": worker.is_current}


def overview_from(data: Mapping[str, Any]) -> tuple[Overview | None, list[Skips]]:
    """The look inside that this was, as it came over the wire."""
    skipped = [Skips(**timed(one, "last")) for one in data["skipped"]]
    if data["schedules"] is None:
        return None, skipped
    revision = data["revision"]
    seen = Overview(
        datetime.fromisoformat(data["at"]),
        None if revision is None else RevisionMark(**timed(revision, "applied_at")),
        [worker_from(one) for one in data["workers"]],
        [QueueView(**timed(one, "oldest_due")) for one in data["queues"]],
        ScheduleSums(**data["schedules"]),
        [NextFire(**timed(one, "at")) for one in data["next"]],
    )
    return seen, skipped


def worker_from(data: Mapping[str, Any]) -> WorkerView:
    told = timed(data, "started_at", "last_heartbeat", "config_problem_at")
    state, running, is_current = (told.pop(name) for name in ("state", "running", "is_current"))
    return WorkerView(WorkerStatus(**told), Life(state), running, is_current)


def running_from(data: Sequence[Mapping[str, Any]]) -> list[RunningJob]:
    return [RunningJob(**timed(one, "started_at")) for one in data]


def ended_from(data: Sequence[Mapping[str, Any]]) -> list[EndedJob]:
    return [EndedJob(**timed(one, "started_at", "completed_at")) for one in data]
