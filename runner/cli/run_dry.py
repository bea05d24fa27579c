"""What `run-once --dry-run` prints: the slots that would be fired, and the jobs in the order of their claim."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from runner.cli.output import clean, counted, note, print_json, print_line, print_table, slot_lines, when
from runner.domain.errors import DatabaseUnavailable, RunnerError
from runner.domain.plain import plain
from runner.telemetry import Event, FiringFailed, SlotsDecided

if TYPE_CHECKING:
    from runner.app import App
    from runner.cli.run_once import Chosen, RunFormat
    from runner.domain.job_rows import Job
    from runner.domain.ledger import ScheduleSlot
    from runner.domain.schedule import Definitions
    from runner.engine.run_once import Report
    from runner.engine.scheduler import Scheduler
    from runner.engine.worker import Selection

MOST = 1000


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the database had come before anything was tried on its copy: what has a higher number is not there."""

    job: int
    revision: int


def standing(app: App) -> Standing:
    from runner.storage.jobs import JobFilter

    newest, _ = app.jobs.find(JobFilter(), limit=1)
    revision = app.revisions.current()
    return Standing(newest[0].id or 0 if newest else 0, revision.number if revision else 0)


def show(
    app: App, scheduler: Scheduler, definitions: Definitions, chosen: Chosen, triggers: tuple[str, ...],
    before: Standing, now: datetime, output: RunFormat,
) -> None:  # fmt: skip
    """Fire and trigger on the copy that `app` works on; then list what a worker would take, and take none of it."""
    from runner.cli.run_report import summarise
    from runner.engine.run_once import Report

    tried = Report(now, now)
    app.events.subscribe(lambda event: _note(event, tried, before))
    tried.refused += _trigger(scheduler, triggers, now)
    scheduler.tick(now)
    selection = chosen.selection(definitions)
    due = app.jobs.in_claim_order(now, limit=MOST)
    tried.jobs = [job for job in due if job.type in definitions.job_types and _takes(selection, job)]
    jobs = [_as_far_as_there(job, before) for job in app.views.view(tried.jobs, now)]
    if output.value == "text":
        _print(tried, jobs)
        return
    slots = [_slot_as_far_as_there(slot, before) for slot in tried.slots]
    told = {"dry_run": True, "summary": summarise(tried, 0), "jobs": jobs, "slots": slots}
    if output.value == "json":
        print_json(told)
    else:
        line = {"event": "dry_run", "format_version": 1} | told
        print_line(json.dumps(line, ensure_ascii=False, default=plain))


def _takes(selection: Selection, job: Job) -> bool:
    fired = selection.schedules is None or job.schedule_name in selection.schedules
    return fired and selection.takes_type(job.type) and selection.takes_queue(job.queue)


def _note(event: Event, tried: Report, before: Standing) -> None:
    match event:
        case SlotsDecided(slots=slots):
            for slot in slots:
                if slot.blocker_id is not None and slot.blocker_id > before.job:
                    slot.reason = (slot.reason or "").replace(f"job {slot.blocker_id}", "a job of this run")
            tried.slots += slots
        case FiringFailed(name, message):
            tried.refused.append(f"schedule {name} could not be fired: {message}")
        case _:
            pass


def _trigger(scheduler: Scheduler, names: tuple[str, ...], now: datetime) -> list[str]:
    refused = []
    for name in names:
        try:
            scheduler.trigger(name, now)
        except DatabaseUnavailable:
            raise
        except RunnerError as refusal:
            refused.append(refusal.message)
    return refused


def _as_far_as_there(job: dict[str, Any], before: Standing) -> dict[str, Any]:
    """A job that only the copy has was given no number, and was not created."""
    if job["id"] <= before.job:
        return job
    revision = job["revision"] if (job["revision"] or 0) <= before.revision else None
    return job | {"id": None, "created_at": None, "revision": revision}


def _slot_as_far_as_there(slot: ScheduleSlot, before: Standing) -> dict[str, Any]:
    there = {
        name: number if number is not None and number <= before.job else None
        for name, number in (("job_id", slot.job_id), ("blocker_id", slot.blocker_id))
    }
    return slot.model_dump() | there | {"decided_at": None}


def _print(tried: Report, jobs: list[dict[str, Any]]) -> None:
    for refusal in tried.refused:
        note(f"would not run: {clean(refusal)}")
    skipped = sorted((slot for slot in tried.slots if slot.job_id is None), key=lambda slot: slot.schedule_name)
    for name, group in groupby(skipped, key=lambda slot: slot.schedule_name):
        for line in slot_lines(name, list(group)):
            print_line(line)
    if skipped:
        print_line()
    columns = ("order", "type", "schedule", "priority", "due", "payload")
    if jobs:
        print_table(columns, [_row(n, job) for n, job in enumerate(jobs, 1)], "", cut=("payload", "schedule"))
        print_line()
    print_line(f"Dry run: {counted(len(jobs), 'job')} would run; nothing was changed.")


def _row(number: int, job: dict[str, Any]) -> tuple[object, ...]:
    payload = json.dumps(job["payload"], ensure_ascii=False)
    return (number, job["type"], job["schedule_name"] or "-", job["priority"], when(job["run_at"]), payload)
