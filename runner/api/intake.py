"""From what a request says to jobs that can be written, or every reason why not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from runner.api import bodies
from runner.config.intake import Call, Intake, after
from runner.domain.access import Caller
from runner.domain.duration import parse_duration
from runner.domain.errors import BulkRefused, NotAllowed, PayloadInvalid, RunnerError, UsageError
from runner.domain.job import Enqueued, NewJob
from runner.domain.problem import Problem
from runner.domain.schedule import Unique
from runner.http.acts import project_of
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
    refused: BulkRefused | None = None
    for at, one in enumerate(given):
        try:
            made.append(_job(one, intake, caller, now, traceparent))
        except NotAllowed:
            raise
        except RunnerError as error:
            refused = refused or BulkRefused(at, error)
            found += _placed(error, f"jobs.{at}")
    if refused is not None:
        first = found[0]
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        said = f"nothing was enqueued: {first.path}: {first.message}{more}"
        raise PayloadInvalid(said, found[:MOST_TOLD]) from refused
    return made


def _placed(error: RunnerError, place: str) -> list[Problem]:
    problems = getattr(error, "problems", []) or [Problem("invalid", error.message, hint=error.hint)]
    return [replace(one, path=".".join(filter(None, (place, one.path)))) for one in problems]


def _call(given: bodies.NewJobBody, caller: Caller, now: datetime, traceparent: str | None) -> Call:
    if given.run_at is not None and given.delay is not None:
        raise UsageError("give run_at or delay, not both")
    delay = parse_duration(given.delay) if isinstance(given.delay, str) else given.delay
    run_at = given.run_at if delay is None else after(now, delay)
    return Call(
        given.priority, run_at, project_of(given.project_id, caller), unique=_unique(given.unique),
        traceparent=valid(traceparent),
    )  # fmt: skip


def _unique(given: str | bodies.UniqueBody | None) -> Unique | None:
    match given:
        case "started" | "finished":
            return Unique(given)
        case bodies.UniqueBody():
            window = parse_duration(given.window) if given.window is not None else None
            return Unique(given.until, window, tuple(given.by))
    return None
