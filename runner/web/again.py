"""A job once more: the form of its type filled with its payload, in which secrets stay covered and are still used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.domain.errors import PayloadInvalid
from runner.domain.job_rows import Job
from runner.domain.problem import Problem
from runner.domain.schedule import PRIORITIES, JobType
from runner.http.masking import MASK, is_secret, masked
from runner.web.fields import Field, said
from runner.web.sending import PREFIX, WHOLE, payload_of

MISSING: Any = object()
Sent = dict[str, list[str]]


def filled(job: Job, job_type: JobType, fields: Sequence[Field] | None) -> Sent:
    """As if the form had been sent; as JSON where its controls cannot say all of the payload."""
    hidden = masked(job.payload)
    given: Sent = {"from": [str(job.id)], "project": [job.project_id or ""], "priority": [_priority(job, job_type)]}
    controls = dict(_controls(fields or (), hidden))
    if fields is not None and payload_of(fields, controls) == hidden:
        return given | controls
    return given | {WHOLE: [json.dumps(hidden, ensure_ascii=False, indent=2)], "whole": ["yes"]}


def _priority(job: Job, job_type: JobType) -> str:
    names = (name for name, value in PRIORITIES.items() if value == job.priority != job_type.priority)
    return next(names, "")


def _controls(fields: Sequence[Field], value: Any) -> Iterator[tuple[str, list[str]]]:
    """What the controls hold: the other way round than `payload_of`."""
    for field in fields:
        one = value.get(field.name, MISSING) if isinstance(value, dict) else MISSING
        if field.kind == "group":
            yield from _controls(field.fields, one)
        elif one is not MISSING and (texts := _texts(field, one)) is not None:
            yield PREFIX + field.path, texts


def _texts(field: Field, value: Any) -> list[str] | None:
    """None where the control has no way to say it."""
    match field.kind:
        case "choices":
            return [said(one) for one in value] if isinstance(value, list) else None
        case "list":
            return ["\n".join(said(one) for one in value)] if isinstance(value, list) else None
        case "date":
            return None if value == MASK else [said(value)]
        case "json":
            return [value if value == MASK else json.dumps(value, ensure_ascii=False, indent=2)]
    text = "" if value is None else said(value)
    breaks = "\r" if field.kind == "long" else "\r\n"  # which browsers make into others, or leave out
    return None if any(char in text for char in breaks) else [text]


def uncovered(given: Any, kept: Any) -> Any:
    """A payload in which each covered value is that of the job at the same place.

    Raises PayloadInvalid where there is none: the text that covers is never a value.
    """
    problems: list[Problem] = []
    made = _uncovered(given, kept, "", problems)
    if problems:
        places = ", ".join(one.path for one in problems)
        raise PayloadInvalid(f"a covered value cannot be taken over: {places}", problems)
    return made


def _uncovered(given: Any, kept: Any, path: str, problems: list[Problem], *, is_hidden: bool = False) -> Any:
    if given == MASK:
        if kept is MISSING or not (is_hidden or kept == MASK):
            problems.append(Problem("payload", f"{path or WHOLE} is covered here: write the value", path=path))
        return kept
    match given:
        case dict():
            known: Mapping[str, Any] = kept if isinstance(kept, dict) else {}
            return {
                name: _uncovered(
                    one, known.get(name, MISSING), f"{path}.{name}" if path else name, problems,
                    is_hidden=is_hidden or is_secret(name),
                )
                for name, one in given.items()
            }  # fmt: skip
        case list():
            return [_uncovered(one, _same(one, n, kept), f"{path}[{n}]", problems) for n, one in enumerate(given)]
    return given


def _same(item: Any, place: int, kept: Any) -> Any:
    """The item of the job that this one is: unchanged where it stood, or the only one that looks so."""
    known = kept if isinstance(kept, list) else []
    if place < len(known) and masked(known[place]) == item:
        return known[place]
    alike = [one for one in known if masked(one) == item]
    return alike[0] if len(alike) == 1 else MISSING
