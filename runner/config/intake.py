"""What an enqueue becomes: a job with its policy resolved and its payload complete, or an error."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from runner.config.payload import WHOLE, check, complete, is_plain
from runner.config.references import resolve
from runner.config.suggest import Suggester, did_you_mean
from runner.domain.errors import NotThereYet, PayloadInvalid, UnknownJobType, UsageError
from runner.domain.job import JobPolicy, NewJob, UniqueKey
from runner.domain.moment import in_utc
from runner.domain.plain import require_storable
from runner.domain.problem import Problem
from runner.domain.retry import RetryPolicy
from runner.domain.schedule import Definitions, JobType, Schedule, Unique, priority_of


@dataclass(frozen=True, slots=True)
class Call:
    """What the caller of an enqueue said, beyond type and payload. None: as the job type says."""

    priority: int | str | None = None
    run_at: datetime | None = None
    project_id: str | None = None
    unique: Unique | None = None
    timeout: timedelta | None = None
    retry: RetryPolicy | None = None
    parent_id: int | None = None
    traceparent: str | None = None


MOST_REMEDIES = 5
NOTHING_SAID = Call()


@dataclass(frozen=True, slots=True)
class Intake:
    """The definitions in force, and what turns a call into a job by them. `environ` resolves a payload's references."""

    definitions: Definitions
    revision: int
    environ: Mapping[str, str]
    _policies: dict[str, JobPolicy] = field(default_factory=dict, compare=False, repr=False)  # of who says no other

    def job(self, type_name: str, payload: Any, now: datetime, call: Call = NOTHING_SAID) -> NewJob:
        """Raises UnknownJobType, PayloadInvalid, UsageError."""
        job_type = self._type(type_name)
        filled = _filled(job_type, payload)
        unique = call.unique or job_type.unique
        return NewJob(
            type=job_type.name,
            payload=filled,
            queue=job_type.queue,
            priority=_priority(call.priority, job_type.priority),
            run_at=_moment(call.run_at),
            policy=self._policy(job_type, call),
            project_id=_text(call.project_id, "project_id"),
            unique=_key(job_type, filled, unique, now) if unique else None,
            parent_id=call.parent_id,
            revision=self.revision,
        )

    def scheduled(self, schedule: Schedule, now: datetime) -> NewJob:
        """The job of a schedule, without its slot. Raises UnsetVariable, PayloadInvalid."""
        if schedule.workflow is not None:
            raise NotThereYet(f"schedule {schedule.name} starts workflow {schedule.workflow}: workflows come later")
        call = Call(
            schedule.priority, None, schedule.project_id, timeout=schedule.timeout, retry=schedule.retry
        )  # fmt: skip
        payload = resolve(dict(schedule.payload), self.environ, ("schedules", schedule.name, "payload"))
        try:
            job = self.job(schedule.target, payload, now, call)
        except PayloadInvalid as error:
            raise PayloadInvalid(f"schedule {schedule.name}: {error.message}", error.problems, error.hint) from None
        return job._replace(schedule_name=schedule.name)

    def _policy(self, job_type: JobType, call: Call) -> JobPolicy:
        """One for all jobs of a type that bring nothing of their own."""
        if call.timeout or call.retry or call.traceparent:
            return _policy(job_type, call)
        known = self._policies.get(job_type.name)
        if known is None:
            known = self._policies[job_type.name] = _policy(job_type, call)
        return known

    def _type(self, name: str) -> JobType:
        known = self.definitions.job_types
        if not isinstance(name, str):
            raise UnknownJobType(f"a job type is named by text, not by {type(name).__name__}")
        if name in known:
            return known[name]
        if name in self.definitions.workflows:
            raise NotThereYet(f"{name} is a workflow: enqueueing workflows comes with a later release")
        remedy = did_you_mean(Suggester().closest(name, known)) or f"known: {', '.join(sorted(known)) or 'none'}"
        raise UnknownJobType(f"there is no job type {name!r} in the revision in force", remedy)


def _policy(job_type: JobType, call: Call) -> JobPolicy:
    timeout, retry = call.timeout or job_type.timeout, call.retry or job_type.retry
    return JobPolicy(timeout, retry, job_type.on_stall, job_type.max_stalls, call.traceparent)


def _filled(job_type: JobType, payload: Any) -> dict[str, Any]:
    if not isinstance(payload, Mapping):
        raise PayloadInvalid(f"the payload of {job_type.name} must be an object, not {type(payload).__name__}")
    if job_type.payload_schema is None and is_plain(payload):
        return dict(payload)
    # What JSON cannot carry is refused before defaults are copied around it.
    problems = check(None, dict(payload))
    if not problems and job_type.payload_schema is None:
        return dict(payload)
    filled = dict(payload) if problems else complete(job_type.payload_schema, dict(payload))
    problems = problems or check(job_type.payload_schema, filled)
    if problems:
        said = "; ".join(map(_said, problems))
        raise PayloadInvalid(f"the payload does not fit {job_type.name}: {said}", problems, _remedies(problems))
    return filled


def _said(problem: Problem) -> str:
    """The message, after its place where it does not name that itself."""
    message = problem.message.removesuffix(f" in {WHOLE}")
    is_named = re.search(rf"(?<![\w.]){re.escape(problem.path)}(?![\w.])", message)
    return message if is_named or not problem.path else f"{problem.path}: {message}"


def _remedies(problems: list[Problem]) -> str | None:
    hints = [(problem.path, problem.hint) for problem in problems if problem.hint][:MOST_REMEDIES]
    if len(problems) == 1:
        return next((hint for _, hint in hints), None)
    return "; ".join(dict.fromkeys(f"{path}: {hint}" if path else hint for path, hint in hints)) or None


def _priority(said: int | str | None, default: int) -> int:
    return default if said is None else priority_of(said)


def after(now: datetime, delay: timedelta | float) -> datetime:
    """The time that a delay, in seconds or as a timedelta, leads to."""
    try:
        return now + (delay if isinstance(delay, timedelta) else timedelta(seconds=delay))
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"no such delay: {delay!r}", "a number of seconds, or a timedelta") from None


def _moment(value: datetime | None) -> datetime | None:
    if value is not None and not isinstance(value, datetime):
        raise UsageError(f"run_at is a datetime, not {type(value).__name__}")
    if value is not None and value.tzinfo is None:
        raise UsageError("run_at needs a time zone", "datetime.now(UTC) + timedelta(minutes=10)")
    return None if value is None else in_utc(value)


def _text(value: str | None, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name} is text, not {type(value).__name__}")
    if value is not None:
        require_storable(value, name)
    return value


def _key(job_type: JobType, payload: Mapping[str, Any], unique: Unique, now: datetime) -> UniqueKey:
    chosen = {key: payload.get(key) for key in unique.by} if unique.by else payload
    text = json.dumps([job_type.name, chosen], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return UniqueKey(digest, unique.until, now + unique.window if unique.window else None)
