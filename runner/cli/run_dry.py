"""What `run-once --dry-run` prints: the slots that would be fired, and the jobs in the order of their claim."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from runner.cli.output import counted, note, plain, print_json, print_line, print_table, slot_lines, when
from runner.domain.errors import Conflict

if TYPE_CHECKING:
    from runner.app import App
    from runner.cli.run_once import Chosen, RunFormat
    from runner.domain.schedule import Definitions
    from runner.engine.scheduler import Scheduler

MOST = 1000


def show(
    app: App, scheduler: Scheduler, definitions: Definitions, chosen: Chosen, triggers: tuple[str, ...], now: datetime,
    output: RunFormat,
) -> None:  # fmt: skip
    """Fire and trigger on the copy that `app` works on; then list what a worker would take, and take none of it."""
    refused = _trigger(scheduler, triggers, now)
    scheduler.tick(now)
    rows = [row for row in reversed(app.schedules.history(limit=MOST)) if row.decided_at == now]
    slots = [row.model_dump() for row in rows]
    jobs = app.views.view(app.jobs.in_claim_order(now, limit=MOST), now)
    wanted = [job for job in jobs if _is_wanted(job, definitions, chosen)]
    if output.value == "json":
        print_json({"dry_run": True, "slots": slots, "jobs": wanted, "refused": refused})
        return
    if output.value == "jsonl":
        told = {"event": "dry_run", "format_version": 1, "slots": slots, "jobs": wanted, "refused": refused}
        print_line(json.dumps(told, ensure_ascii=False, default=plain))
        return
    for refusal in refused:
        note(f"would not run: {refusal}")
    skipped = sorted((row for row in rows if row.job_id is None), key=lambda row: row.schedule_name)
    for name, group in groupby(skipped, key=lambda row: row.schedule_name):
        for line in slot_lines(name, list(group)):
            print_line(line)
    if skipped:
        print_line()
    columns = ("order", "type", "schedule", "priority", "due", "payload")
    if wanted:
        print_table(columns, [_row(n, job) for n, job in enumerate(wanted, 1)], "", cut=("payload", "schedule"))
        print_line()
    print_line(f"Dry run: {counted(len(wanted), 'job')} would run; nothing was changed.")


def _trigger(scheduler: Scheduler, names: tuple[str, ...], now: datetime) -> list[str]:
    refused = []
    for name in names:
        try:
            scheduler.trigger(name, now)
        except Conflict as refusal:
            refused.append(refusal.message)
    return refused


def _is_wanted(job: dict[str, Any], definitions: Definitions, chosen: Chosen) -> bool:
    return (
        job["type"] in definitions.job_types
        and (not chosen.types or job["type"] in chosen.types)
        and (not chosen.queues or job["queue"] in chosen.queues)
        and (not chosen.schedules or job["schedule_name"] in chosen.schedules)
    )


def _row(number: int, job: dict[str, Any]) -> tuple[object, ...]:
    payload = json.dumps(job["payload"], ensure_ascii=False)
    return (number, job["type"], job["schedule_name"] or "-", job["priority"], when(job["run_at"]), payload)
