"""Server-Sent Events as they go over the wire: each is formatted once, however many read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runner.domain.job_rows import JobLog
from runner.http.answers import to_json
from runner.http.masking import masked
from runner.storage.watching import Pulse

BEGIN = b"retry: 1000\n\n"
KEEP_ALIVE = b": still here\n\n"
STATE = (
    "id", "status", "display_state", "attempt", "max_attempts", "run_number", "run_at", "worker_id", "started_at",
    "completed_at", "error",
)  # fmt: skip


def frame(event: str, data: Mapping[str, Any], number: int | None = None) -> bytes:
    """JSON has no line break, so that one `data:` line holds it."""
    head = f"event: {event}\n" if number is None else f"event: {event}\nid: {number}\n"
    return f"{head}data: {to_json(data)}\n\n".encode("utf-8", "replace")


def covered(view: Mapping[str, Any]) -> Mapping[str, Any]:
    """For who sees it by a link."""
    return {**view, "payload": masked(view["payload"]), "result": masked(view["result"])}


def snapshot(view: Mapping[str, Any]) -> bytes:
    return frame("snapshot", view)


def state(view: Mapping[str, Any]) -> bytes:
    return frame("state", {name: view[name] for name in STATE})


def progress(pulse: Pulse) -> bytes:
    said = {"progress": pulse.progress, "current_step": pulse.current_step, "message": pulse.message}
    return frame("progress", {"id": pulse.id, "run_number": pulse.run_number} | said)


def log(lines: Iterable[JobLog]) -> bytes:
    return b"".join(frame("log", line.model_dump(exclude={"job_id"}), line.id) for line in lines)


def outputs(job_id: int, sizes: Iterable[Any]) -> bytes:
    return frame("output", {"id": job_id, "outputs": [one._asdict() for one in sizes]})


def end(view: Mapping[str, Any]) -> bytes:
    return frame("end", view)
