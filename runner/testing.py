"""For those who write handlers: run one as the worker would, and look at what it did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from runner.domain.job import JobPolicy, Run
from runner.domain.said import LogLine, OutputPiece, Progress
from runner.engine.context import Child, JobContext, Stop


@dataclass(slots=True)
class HandlerRun:
    """What a handler returned and said. `outputs` hold the whole content of each name."""

    result: Any = None
    progress: float = 0.0
    step: str | None = None
    message: str | None = None
    lines: list[str] = field(default_factory=list)
    outputs: dict[str, bytes] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)


class _Recording:
    def __init__(self, run: HandlerRun) -> None:
        self._run = run

    def progress(self, progress: Progress) -> None:
        self._run.progress = max(self._run.progress, progress.percent or 0.0)
        self._run.step = progress.step or self._run.step
        self._run.message = progress.message or self._run.message

    def log(self, line: LogLine) -> None:
        self._run.lines.append(line.message)

    def output(self, piece: OutputPiece) -> None:
        before = self._run.outputs.get(piece.name, b"") if piece.append else b""
        self._run.outputs[piece.name] = before + piece.data


def run_handler(
    handler: Callable[..., Any],
    payload: Mapping[str, Any] | None = None,
    *,
    attempt: int = 1,
    project_id: str | None = None,
    cancelled: bool = False,
) -> HandlerRun:
    """Call a handler, plain or async, with a context that records. What it raises is raised.

    With `cancelled`, its first use of `ctx` raises JobCancelled, as after a cancel.
    """
    now = datetime.now(UTC)
    run = Run(
        id=1, type="test", queue="default", payload=dict(payload or {}), priority=5, attempt=attempt, max_attempts=3,
        run_number=attempt, stalls=0, claim_token="test", worker_id="test", policy=JobPolicy(), run_at=now,
        started_at=now, created_at=now, project_id=project_id,
    )  # fmt: skip
    made, stop = HandlerRun(), Stop()
    if cancelled:
        stop.request("cancel", "cancelled by the test")
    context = JobContext(run, _Recording(made), stop)
    value = handler(context, run.payload)
    made.result = asyncio.run(value) if asyncio.iscoroutine(value) else value
    made.children = context.children
    return made
