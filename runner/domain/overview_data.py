"""A look inside as plain data: the same words by `runner status -o json` and by the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from runner.domain.overview import Overview, Skips, WorkerView


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
