"""What to beware of before a plan is applied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from runner.domain.applying import PAUSE_SURVIVES, mass_removal, renames
from runner.domain.ledger import ScheduleStatus
from runner.domain.plan.change import Action, Caution, Change, counted, moment
from runner.domain.plan.effects import Flights
from runner.domain.sameness import same
from runner.domain.schedule import Definitions, JobType, Schedule
from runner.domain.timing import canonical

MOST_COMPARED = 50  # names are compared one with another only where they are few

PayloadProblems = Callable[[JobType, Mapping[str, Any]], list[str]]


def removals(rows: Sequence[ScheduleStatus], wanted: Definitions) -> Iterator[Caution]:
    names = tuple(mass_removal(rows, wanted))
    if names:
        live = sum(1 for row in rows if row.retired_at is None)
        message = f"retires {len(names)} of {counted(live, 'schedule')}: applying it needs --allow-removals"
        yield Caution("mass-removal", message, names)


def lost_types(before: Definitions, wanted: Definitions, flights: Flights) -> Iterator[Caution]:
    for name in sorted(before.job_types.keys() - wanted.job_types.keys()):
        jobs = flights.of_type(name)
        count = jobs.queued + jobs.retrying + jobs.running
        if count:
            message = (
                f"job type {name} leaves the file with {counted(count, 'unfinished job')}: what is queued, or must be"
                " tried again, is parked until a file has that type again"
            )
            yield Caution("parked", message, (name,))


def pauses(rows: Mapping[str, ScheduleStatus], wanted: Definitions, now: datetime) -> Iterator[Caution]:
    old_names = {new: old for old, new in renames(rows.values(), wanted).items()}
    for name in sorted(wanted.schedules):
        row = rows.get(old_names.get(name, name))
        if row is None or row.paused_at is None:
            continue
        if row.retired_at is None or now - row.retired_at < PAUSE_SURVIVES:
            who = f" by {row.paused_by}" if row.paused_by else ""
            why = f' ("{row.pause_reason}")' if row.pause_reason else ""
            message = f"{name} is paused{who} since {moment(row.paused_at)}{why}: it will not fire"
            yield Caution("paused", message, (name,))


def lookalikes(changes: Iterable[Change], before: Definitions, wanted: Definitions) -> Iterator[Caution]:
    """A schedule that goes while one like it comes was perhaps meant to be renamed."""
    told = [change for change in changes if change.kind == "schedule"]
    going = [before.schedules[name] for name in _named(told, "retire") if name in before.schedules]
    coming = [wanted.schedules[name] for name in _named(told, "add")]
    for old, new in _pairs(going, coming):
        message = f"{new} looks like {old}: renamed_from: {old} would keep its history and its pause"
        yield Caution("looks-renamed", message, (new, old))


def _named(changes: Iterable[Change], action: Action) -> list[str]:
    return [change.name for change in changes if change.action == action]


def _pairs(going: Sequence[Schedule], coming: Sequence[Schedule]) -> Iterator[tuple[str, str]]:
    """Old and new names of what starts the same thing at the same times, or under a similar name."""
    same: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for new in coming:
        same[_fires(new)].append(new.name)
    left = {new.name: new.target for new in coming}
    for old in going:
        alike = same[_fires(old)] or _similar(old, left if len(going) <= MOST_COMPARED else {})
        names = [name for name in alike[:MOST_COMPARED] if name in left]
        if names:
            new_name = max(names, key=lambda name: SequenceMatcher(None, old.name, name).ratio())
            del left[new_name]
            if new_name in same[_fires(old)]:
                same[_fires(old)].remove(new_name)
            yield old.name, new_name


def _fires(schedule: Schedule) -> tuple[str, str, str]:
    return schedule.target, canonical(schedule), schedule.timezone


def _similar(old: Schedule, left: Mapping[str, str]) -> list[str]:
    targets = [name for name, target in left.items() if target == old.target]
    return get_close_matches(old.name, targets) if len(targets) <= MOST_COMPARED else []


def payloads(before: Definitions, wanted: Definitions, problems: PayloadProblems) -> Iterator[Caution]:
    """Payloads in the file that do not fit, where their schema or they themselves have changed."""
    changed = {name for name, kind in wanted.job_types.items() if not same(_schema(before, name), kind.payload_schema)}
    for place, job, payload, is_edited in _payloads(before, wanted):
        if job in wanted.job_types and (job in changed or is_edited):
            said = problems(wanted.job_types[job], payload)
            if said:
                message = f"the payload of {place} does not fit {job}: {'; '.join(said)}"
                yield Caution("payload", message, (place.rsplit(" ", 1)[-1],))


def _payloads(before: Definitions, wanted: Definitions) -> Iterator[tuple[str, str, Mapping[str, Any], bool]]:
    """Where a payload stands, its job type, and whether anything was edited around it."""
    for name, schedule in sorted(wanted.schedules.items()):
        if schedule.job is not None:
            yield f"schedule {name}", schedule.job, schedule.payload, not same(before.schedules.get(name), schedule)
    for name, workflow in sorted(wanted.workflows.items()):
        is_edited = not same(before.workflows.get(name), workflow)
        for step in workflow.steps.values():
            yield f"step {step.name} of workflow {name}", step.job, step.payload, is_edited


def _schema(file: Definitions, name: str) -> Any:
    return file.job_types[name].payload_schema if name in file.job_types else None
