"""From what a request says to jobs that can be written, or every reason why not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from runner.api import bodies
from runner.config.intake import Call, Intake
from runner.domain.access import Caller, told
from runner.domain.duration import parse_duration
from runner.domain.errors import NotAllowed, PayloadInvalid, RunnerError, UsageError
from runner.domain.job import Enqueued, NewJob
from runner.domain.problem import Problem
from runner.domain.schedule import Unique
from runner.http.doors import Doors
from runner.storage.idempotency import Once
from runner.telemetry.traceparent import valid

MOST_TOLD = 100  # problems of a bulk request


def enqueue(
    doors: Doors, caller: Caller, given: Sequence[bodies.NewJobBody], key: str | None, traceparent: str | None
) -> list[Enqueued]:
    """All of them or none; with an idempotency key, once."""
    now, intake = doors.now(), doors.intake()
    if len(given) == 1:
        made = [_job(given[0], intake, caller, now, traceparent)]
    else:
        made = _all(given, intake, caller, now, traceparent)
    if key is None:
        return doors.jobs.enqueue_many(made, now)
    said = json.dumps([one.model_dump(mode="json") for one in given], sort_keys=True)
    return doors.once.enqueue(Once.of(caller.key_id or "", key, said), made, now)


def _job(
    given: bodies.NewJobBody, intake: Intake, caller: Caller, now: datetime, traceparent: str | None
) -> NewJob:  # fmt: skip
    try:
        return intake.job(given.type, given.payload, now, _call(given, caller, now, traceparent))
    except PayloadInvalid as error:
        found = [replace(one, path=".".join(filter(None, ("payload", one.path)))) for one in error.problems]
        raise PayloadInvalid(error.message, found, error.hint) from None


def _all(
    given: Sequence[bodies.NewJobBody], intake: Intake, caller: Caller, now: datetime, traceparent: str | None
) -> list[NewJob]:
    made: list[NewJob] = []
    found: list[Problem] = []
    for at, one in enumerate(given):
        try:
            made.append(_job(one, intake, caller, now, traceparent))
        except NotAllowed:
            raise
        except RunnerError as error:
            found += _placed(error, f"jobs.{at}")
    if found:
        first = found[0]
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise PayloadInvalid(f"nothing was enqueued: {first.path}: {first.message}{more}", found[:MOST_TOLD])
    return made


def _placed(error: RunnerError, place: str) -> list[Problem]:
    problems = getattr(error, "problems", []) or [Problem("invalid", error.message, hint=error.hint)]
    return [replace(one, path=".".join(filter(None, (place, one.path)))) for one in problems]


def _call(given: bodies.NewJobBody, caller: Caller, now: datetime, traceparent: str | None) -> Call:
    if given.run_at is not None and given.delay is not None:
        raise UsageError("give run_at or delay, not both")
    run_at = given.run_at if given.delay is None else now + _length(given.delay)
    return Call(
        given.priority, run_at, project_of(given.project_id, caller), unique=_unique(given.unique),
        traceparent=valid(traceparent),
    )  # fmt: skip


def _length(given: float | str) -> timedelta:
    return parse_duration(given) if isinstance(given, str) else timedelta(seconds=given)


def project_of(given: str | None, caller: Caller) -> str | None:
    """The project that is named; else the only one of the caller's key."""
    if given is None and caller.projects is not None and len(caller.projects) == 1:
        return caller.projects[0]
    if not caller.sees(given):
        named = "no project" if given is None else f"project {given!r}"
        raise NotAllowed(f"{caller.name} may not enqueue for {named}", f"its projects: {told(caller.projects)}")
    return given


def _unique(given: str | bodies.UniqueBody | None) -> Unique | None:
    match given:
        case "started" | "finished":
            return Unique(given)
        case bodies.UniqueBody():
            window = parse_duration(given.window) if given.window is not None else None
            return Unique(given.until, window, tuple(given.by))
    return None
