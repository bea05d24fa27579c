"""Runs one handler as the worker would, without a database, and keeps what it said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from runner.domain.job import JobPolicy, Run
from runner.domain.outcome import Failed
from runner.domain.said import LogLine, OutputPiece, Progress
from runner.engine.capture import Voice, capturing
from runner.engine.context import Child, JobContext, Stop
from runner.engine.outcomes import returned


@dataclass(slots=True)
class HandlerRun:
    """What a handler returned, raised and said. `outputs` hold the whole content of each name, `lines` the texts of
    `log`: what it logged by `ctx.log` or `logging`, and what it printed."""

    result: Any = None
    raised: BaseException | None = None
    progress: float = 0.0
    step: str | None = None
    message: str | None = None
    log: list[LogLine] = field(default_factory=list)
    outputs: dict[str, bytes] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [line.message for line in self.log]


class Recording:
    """Where the context says things: a HandlerRun."""

    def __init__(self, run: HandlerRun) -> None:
        self._run = run

    def progress(self, progress: Progress) -> None:
        self._run.progress = max(self._run.progress, progress.percent or 0.0)
        self._run.step = progress.step or self._run.step
        self._run.message = progress.message or self._run.message

    def log(self, line: LogLine) -> None:
        self._run.log.append(line)

    def output(self, piece: OutputPiece) -> None:
        before = self._run.outputs.get(piece.name, b"") if piece.append else b""
        self._run.outputs[piece.name] = before + piece.data


def run_handler(
    handler: Callable[..., Any],
    payload: Mapping[str, Any] | None = None,
    *,
    attempt: int = 1,
    max_attempts: int = 3,
    project_id: str | None = None,
    cancelled: bool = False,
    catch: bool = False,
    now: datetime | None = None,
) -> HandlerRun:
    """Call a handler, plain or async, with a context that records. What it raises is raised; with `catch` it is kept
    in `raised`, beside all that was said before.

    With `cancelled`, the handler's first use of `ctx` raises JobCancelled, as after a cancel. A result that the worker
    would not take (no JSON, too large) raises TypeError.
    """
    moment = now or datetime.now(UTC)
    run = Run(
        id=1, type="test", queue="default", payload=dict(payload or {}), priority=5, attempt=attempt,
        max_attempts=max_attempts, run_number=attempt, stalls=0, claim_token="test", worker_id="test",
        policy=JobPolicy(), run_at=moment, started_at=moment, created_at=moment, project_id=project_id,
    )  # fmt: skip
    made, stop = HandlerRun(), Stop()
    if cancelled:
        stop.request("cancel", "cancelled by the test")
    sink = Recording(made)
    context = JobContext(run, sink, stop, lambda: moment)
    made.children = context.children
    try:
        with capturing(), Voice(sink, lambda: moment):
            made.result = _call(handler, context, run.payload)
    except BaseException as error:
        made.raised = error
        if not catch or isinstance(error, KeyboardInterrupt):
            raise
    return made


def _call(handler: Callable[..., Any], context: JobContext, payload: Mapping[str, Any]) -> Any:
    value = handler(context, payload)
    if asyncio.iscoroutine(value):
        value = asyncio.run(value)
    outcome = returned(value)
    if isinstance(outcome, Failed):
        raise TypeError(outcome.error)
    return value
