"""The form of a new job: made from the schema of its type, sent to the same intake as every other job."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import Query, Request
from starlette.responses import Response

from runner.config.intake import Call, Intake
from runner.domain.access import Caller
from runner.domain.errors import NotFound, PayloadInvalid, RunnerError, UnknownJobType, UsageError
from runner.domain.job_rows import Job
from runner.domain.problem import Problem
from runner.domain.schedule import PRIORITIES, JobType
from runner.http import acts
from runner.http.callers import Operator
from runner.http.doors import LARGEST, Doors, In
from runner.http.masking import MASK
from runner.storage.idempotency import Once
from runner.web import zones
from runner.web.again import filled, uncovered
from runner.web.fields import Field, fields_of
from runner.web.filters import number, typed
from runner.web.rendering import page, pages, to
from runner.web.sending import PREFIX, payload_of
from runner.web.session import Form

new = pages()
Again = Annotated[int | None, Query(alias="from", ge=1, le=LARGEST)]
LONGEST_TOKEN = 64
INDEX = re.compile(r"\[\d+\]")
MISSING = re.compile(r'add ("(?:[^"\\]|\\.)*")')  # how the remedy of a missing key begins


@new.get("/jobs/new")
def empty(
    request: Request,
    doors: In,
    caller: Operator,
    type: str = "",  # noqa: A002
    again: Again = None,
) -> Response:
    """Without a type: which there are. With a job: filled as that one was."""
    if again is not None:
        job = doors.job(again, caller)
        job_type = _type(doors.intake(), job.type)
        given = filled(job, job_type, fields_of(job_type.payload_schema))
        return _form(request, caller, job_type, given, {}, [], 200)
    if not type:
        revision = doors.revisions.current()
        known = revision.definitions.job_types.values() if revision is not None else ()
        return page(request, "new.html", types=sorted(known, key=lambda one: one.name))
    return _form(request, caller, _type(doors.intake(), type), {}, {}, [], 200)


@new.post("/jobs/new")
def submit(request: Request, doors: In, caller: Operator, form: Form, type: str = "") -> Response:  # noqa: A002
    intake = doors.intake()
    job_type, given = _type(intake, type), _by_name(form)
    try:
        made = _enqueued(doors, intake, caller, job_type, given, zones.chosen(request))
    except NotFound:
        raise
    except PayloadInvalid as error:
        beside, rest = _placed(_fields(job_type, given), error)
        return _form(request, caller, job_type, given, beside, rest, 422)
    except UsageError as error:
        told = error.message + (f" ({error.hint})" if error.hint else "")
        return _form(request, caller, job_type, given, {}, [told], 422)
    return to(request, f"/jobs/{made}")


def _type(intake: Intake, name: str) -> JobType:
    found = intake.definitions.job_types.get(name)
    if found is None:
        raise UnknownJobType(f"there is no job type {name!r} in the revision in force", "/jobs/new")
    return found


def _by_name(form: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for name, value in form:
        given.setdefault(name, []).append(value)
    return given


def _enqueued(
    doors: Doors, intake: Intake, caller: Caller, job_type: JobType, given: Mapping[str, Sequence[str]], zone: str
) -> int:
    """Once, however often the button is pressed."""
    one = {name: values[0].strip() for name, values in given.items()}
    project = acts.project_of(one.get("project") or None, caller)
    call = Call(one.get("priority") or None, _later(one.get("run_at", ""), zone), project)
    now = doors.now()
    payload, audit = payload_of(_fields(job_type, given), given), None
    if one.get("from"):
        source = _source(doors, caller, one["from"], job_type)
        payload, audit = uncovered(payload, source.payload), doors.entry(caller, "run again", f"job {source.id}")
    job = intake.job(job_type.name, payload, now, call)
    token = typed(one, "once")[:LONGEST_TOKEN] or secrets.token_urlsafe()
    said = json.dumps(sorted(given.items()))
    return doors.once.enqueue(Once.of(f"page {caller.key_id or ''}", token, said), [job], now, audit)[0].id


def _source(doors: Doors, caller: Caller, text: str, job_type: JobType) -> Job:
    """The job that is run again."""
    job = doors.job(number(text) or 0, caller)
    if job.type != job_type.name:
        raise UsageError(f"job {job.id} is of type {job.type}", f"/jobs/new?from={job.id}")
    return job


def _fields(job_type: JobType, given: Mapping[str, Sequence[str]]) -> Sequence[Field] | None:
    """None where the payload is JSON as a whole."""
    return None if given.get("whole") else fields_of(job_type.payload_schema)


def _later(text: str, zone: str) -> datetime | None:
    """A wall clock time in the zone of the reader."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))
    except ValueError:
        raise UsageError(f"{text!r} is no time", "2026-03-01T09:30") from None


def _placed(fields: Sequence[Field] | None, error: RunnerError) -> tuple[dict[str, list[str]], list[str]]:
    """What is wrong, beside its field; the rest above the form."""
    known = set(_paths(fields or ()))
    beside: dict[str, list[str]] = {}
    rest: list[str] = []
    for one in getattr(error, "problems", ()):
        path = _nearest(one, known)
        if path is None:
            rest.append(one.message + (f" ({one.hint})" if one.hint else ""))
        else:
            beside.setdefault(path, []).append(one.message)
    return beside, rest or ([] if beside else [error.message])


def _paths(fields: Sequence[Field]) -> list[str]:
    return [path for field in fields for path in (field.path, *_paths(field.fields))]


def _nearest(one: Problem, known: set[str]) -> str | None:
    """Its field, or that of what it is in; what is missing is told where it belongs."""
    path = INDEX.sub("", one.path)
    missing = MISSING.match(one.hint or "")
    if missing is not None:
        inside = ".".join(filter(None, (path, json.loads(missing[1]))))
        path = inside if inside in known else path
    while path and path not in known:
        path = path.rpartition(".")[0]
    return path or None


def _form(
    request: Request, caller: Caller, job_type: JobType, given: Mapping[str, Sequence[str]],
    beside: Mapping[str, Sequence[str]], rest: Sequence[str], status: int,
) -> Response:  # fmt: skip
    values = {
        "job_type": job_type, "fields": _fields(job_type, given), "given": given, "beside": beside, "mask": MASK,
        "rest": rest, "prefix": PREFIX, "once": secrets.token_urlsafe(16), "priorities": PRIORITIES,
        "projects": caller.projects,
    }  # fmt: skip
    return page(request, "form.html", status, **values)
