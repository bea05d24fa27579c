"""Valid data -> definitions: defaults merged in, texts turned into the objects that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from runner.config.formats import parse_instant
from runner.config.merge import Data, inherit, merge_retry, priority, retry_policy, texts, unique
from runner.domain.cron.zones import zone
from runner.domain.duration import parse_duration
from runner.domain.schedule import Definitions, JobType, NotifyTarget, RunnerOptions, Schedule
from runner.domain.size import format_size, parse_size
from runner.domain.workflow import Step, Workflow

T = TypeVar("T")
TIMES = {"from": "starts", "until": "until"}
READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("timeout", "jitter", "catch_up_window", "every"), parse_duration),
    **dict.fromkeys(("heartbeat", "stalled_after", "shutdown_grace", "retention"), parse_duration),
    **dict.fromkeys(("cron", "needs", "notify", "steps", "events", "handler_packages"), texts),
    **dict.fromkeys(("concurrency", "max_stalls", "nice"), int),
    "memory_limit": lambda written: format_size(parse_size(written)),
    "priority": priority,
    "retry": retry_policy,
    "unique": unique,
}


def build(data: Data) -> Definitions:
    """The definitions of a document that has no errors."""
    return Definitions(
        version=int(data["version"]),
        timezone=data.get("timezone", "UTC"),
        runner=RunnerOptions(**_read(data.get("runner", {}))),
        defaults=data.get("defaults", {}),
        limits={name: int(size) for name, size in data.get("limits", {}).items()},
        job_types=_each(data.get("job_types", {}), lambda name, entry: _job_type(name, entry, data)),
        schedules=_each(data.get("schedules", {}), lambda name, entry: _schedule(name, entry, data)),
        workflows=_each(data.get("workflows", {}), lambda name, entry: _workflow(name, entry, data)),
        notify=_each(data.get("notify", {}), lambda name, entry: NotifyTarget(name=name, **_read(entry))),
    )


def _job_type(name: str, entry: Data, data: Data) -> JobType:
    return JobType(name=name, **_read(inherit(data.get("defaults", {}), entry)))


def _schedule(name: str, entry: Data, data: Data) -> Schedule:
    fields = {"timezone": data.get("timezone", "UTC"), **_overrides(entry, data)}
    for written, field in TIMES.items():
        if written in fields:
            fields[field] = instant(fields.pop(written), fields["timezone"])
    return Schedule(name=name, **fields)


def _workflow(name: str, entry: Data, data: Data) -> Workflow:
    steps = _each(entry["steps"], lambda step, written: Step(name=step, **_overrides(written, data)))
    return Workflow(name=name, steps=steps, **_read({key: value for key, value in entry.items() if key != "steps"}))


def _overrides(entry: Data, data: Data) -> dict[str, Any]:
    """The fields of a schedule or step; its `retry` is merged into the one of its job type."""
    if "retry" not in entry:
        return _read(entry)
    defaults = data.get("defaults", {})
    job_type = data.get("job_types", {}).get(entry.get("job"), {})
    weak = merge_retry(defaults.get("retry"), job_type.get("retry"))
    return _read({**entry, "retry": merge_retry(weak, entry["retry"])})


def instant(written: str, timezone: str) -> datetime:
    """The time in UTC; without an offset it is one of the time zone."""
    moment = parse_instant(written)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone(timezone))
    return moment.astimezone(UTC)


def _read(entry: Data) -> dict[str, Any]:
    return {name: READERS[name](value) if name in READERS else value for name, value in entry.items()}


def _each(entries: Mapping[str, Data], make: Callable[[str, Data], T]) -> dict[str, T]:
    return {name: make(name, entry) for name, entry in entries.items()}
