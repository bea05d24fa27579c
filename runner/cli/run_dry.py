"""What `run-once --dry-run` prints: the slots that would be fired, and the jobs in the order of their claim."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from runner.cli.output import note, print_json, print_line, print_table, when
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
    slots = [row.model_dump() for row in app.schedules.history(limit=MOST) if row.decided_at == now]
    jobs = app.views.view(app.jobs.in_claim_order(now, limit=MOST), now)
    wanted = [job for job in jobs if _is_wanted(job, definitions, chosen)]
    if output.value != "text":
        print_json({"dry_run": True, "slots": slots, "jobs": wanted, "refused": refused})
        return
    for refusal in refused:
        note(f"would not run: {refusal}")
    skipped = [slot for slot in slots if slot["job_id"] is None]
    if skipped:
        print_line("Slots that would be skipped")
        print_table(
            ("schedule", "slot", "why"), [(s["schedule_name"], when(s["slot"]), s["reason"]) for s in skipped], ""
        )
        print_line()
    print_table(
        ("order", "type", "schedule", "priority", "due", "payload"),
        [_row(n, job) for n, job in enumerate(wanted, 1)],
        "nothing is due",
    )
    print_line(f"Dry run: {len(wanted)} job{'s' * (len(wanted) != 1)} would run; nothing was changed.")


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
    return (number, job["type"], job["schedule_name"] or "-", job["priority"], when(job["run_at"]), job["payload"])
