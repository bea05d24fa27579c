"""What the file says: job types, schedules, limits and process options, with their defaults merged in.

Everything here is frozen and plain. Text keeps its `${NAME}` references: they are resolved where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from runner.domain.errors import UsageError
from runner.domain.retry import RetryPolicy
from runner.domain.workflow import Workflow

PRIORITIES = {"high": 2, "normal": 5, "low": 8}
DEFAULT_QUEUE = "default"

Isolation = Literal["thread", "async", "process"]
OnStall = Literal["retry", "fail"]
Overlap = Literal["skip", "queue", "replace", "allow"]
CatchUp = Literal["latest", "all", "none"]
ClockChange = Literal["vixie", "skip", "both"]
DayMatch = Literal["vixie", "any", "all"]
UniqueUntil = Literal["started", "finished"]


def priority_of(said: int | str) -> int:
    """The number that a word, or a number as text, stands for."""
    value = PRIORITIES.get(said, said) if isinstance(said, str) else said
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10:
        raise UsageError(f"no such priority: {said!r}", "high, normal, low, or 1 (first) to 10 (last)")
    return value


@dataclass(frozen=True, slots=True)
class Unique:
    """While one such job waits (`started`) or is unfinished (`finished`), another is a duplicate.

    `window` is the longest time that a key is held, from the enqueue on. `by` names the payload's keys that
    tell jobs apart; empty: the whole payload.
    """

    until: UniqueUntil = "finished"
    window: timedelta | None = None
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobType:
    """A kind of job: the function that runs it and the policy that a job takes along when it is enqueued."""

    name: str
    handler: str
    description: str = ""
    priority: int = PRIORITIES["normal"]
    timeout: timedelta = timedelta(minutes=10)
    retry: RetryPolicy = RetryPolicy()
    queue: str = DEFAULT_QUEUE
    limit: str | None = None
    unique: Unique | None = None
    payload_schema: Mapping[str, Any] | None = None
    isolation: Isolation | None = None
    memory_limit: str | None = None  # as `512MB`, in its shortest form
    nice: int = 0
    on_stall: OnStall = "retry"
    max_stalls: int = 3
    steps: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job type or a workflow runs by itself. Exactly one of `job` and `workflow`, and of `cron` and `every`.

    `cron` holds the expressions as written. `priority`, `timeout` and `retry` are set where the schedule overrides
    its job type.
    """

    name: str
    job: str | None = None
    workflow: str | None = None
    cron: tuple[str, ...] = ()
    every: timedelta | None = None
    timezone: str = "UTC"
    seconds: bool = False
    day_match: DayMatch = "vixie"
    clock_change: ClockChange = "vixie"
    starts: datetime | None = None
    until: datetime | None = None
    jitter: timedelta = timedelta(0)
    catch_up: CatchUp = "latest"
    catch_up_window: timedelta = timedelta(hours=1)
    overlap: Overlap = "skip"
    enabled: bool = True
    payload: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None
    timeout: timedelta | None = None
    retry: RetryPolicy | None = None
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    project_id: str | None = None
    renamed_from: str | None = None

    @property
    def target(self) -> str:
        """The name of the job type or workflow it starts."""
        return self.job or self.workflow or ""


@dataclass(frozen=True, slots=True)
class NotifyTarget:
    """Where notifications go. `webhook` and `secret` keep their references; they are never stored resolved."""

    name: str
    webhook: str
    secret: str | None = None
    events: tuple[str, ...] = ("failed",)


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """The `runner:` block: what a process uses where neither a flag nor the environment says otherwise."""

    concurrency: int = 2
    heartbeat: timedelta = timedelta(seconds=10)
    stalled_after: timedelta = timedelta(seconds=60)
    shutdown_grace: timedelta = timedelta(seconds=30)
    retention: timedelta = timedelta(days=30)
    handler_packages: tuple[str, ...] = ("handlers",)


@dataclass(frozen=True, slots=True)
class Definitions:
    """One whole file, resolved. `defaults` is kept as written (plain JSON data), to name the cause of a change."""

    version: int = 1
    timezone: str = "UTC"
    runner: RunnerOptions = RunnerOptions()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    job_types: Mapping[str, JobType] = field(default_factory=dict)
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    workflows: Mapping[str, Workflow] = field(default_factory=dict)
    notify: Mapping[str, NotifyTarget] = field(default_factory=dict)
