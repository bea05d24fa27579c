"""The commands `jobs list|show|cancel|retry`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.main import cli, desk_of, length, moment
from runner.cli.output import (
    Format,
    clean,
    exit_code,
    nearby,
    note,
    print_json,
    print_line,
    print_table,
    span,
    when,
)
from runner.domain.errors import Conflict, NotFound
from runner.domain.plain import plain

if TYPE_CHECKING:
    from runner.domain.desk import Desk

jobs = typer.Typer(no_args_is_help=True, help="Look at jobs, cancel them, retry them.")
cli.add_typer(jobs, name="jobs")

Output = Annotated[Format, typer.Option("-o", "--output", help="json: one document, for programs.")]
Id = Annotated[int, typer.Argument(metavar="ID", help="The number of a job.")]
Ids = Annotated[list[int], typer.Argument(metavar="ID", help="Numbers of jobs.")]
COLUMNS = ("id", "type", "state", "%", "attempt", "run at", "took", "said")


@jobs.command("list")
def list_jobs(
    ctx: typer.Context,
    status: Annotated[
        list[str] | None, typer.Option(metavar="STATE", help="pending, running, completed, failed, cancelled.")
    ] = None,
    type_name: Annotated[list[str] | None, typer.Option("--type", metavar="TYPE", help="Only this job type.")] = None,
    queue: Annotated[str | None, typer.Option(metavar="QUEUE", help="Only this queue.")] = None,
    schedule: Annotated[str | None, typer.Option(metavar="NAME", help="Only jobs of this schedule.")] = None,
    project_id: Annotated[
        str | None, typer.Option("--project", "--project-id", metavar="ID", help="Only jobs of this project.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Created after: a time, or 24h.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Created before: a time, or 24h.")] = None,
    q: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Text in the error, the message or the type, or an id.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="How many jobs.")] = 50,
    after: Annotated[
        int | None, typer.Option(metavar="CURSOR", min=0, help="The cursor `next` of the page before.")
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """List jobs, newest first."""
    from runner.domain.job import JobFilter

    created = (_time("--since", since), _time("--until", until))
    where = JobFilter(_statuses(status), tuple(type_name or ()), queue, schedule, project_id, *created, q)
    with desk_of(ctx) as desk:
        shown, following = desk.jobs(where, limit=limit, after=after)
        now = desk.now()
    if output is Format.JSON:
        print_json({"jobs": shown, "next": following})
        return
    print_table(COLUMNS, [_row(job, now) for job in shown], "no jobs", cut=("said", "type"))
    if following is not None:
        note(f"more: runner jobs list --after {following}")


def _statuses(given: list[str] | None) -> tuple[str, ...]:
    from runner.domain.errors import UsageError
    from runner.domain.job import JobState

    words = [word for text in given or [] for word in text.split(",") if word]
    for word in words:
        if word not in list(JobState):
            raise UsageError(f"no such status: {word}", ", ".join(JobState))
    return tuple(words)


def _time(option: str, text: str | None) -> datetime | None:
    """A time, or how long ago."""
    if text is None:
        return None
    if text[:1].isdigit() and "-" not in text:
        return datetime.now(UTC) - (length(option, text) or timedelta(0))
    return moment(text)


def _row(job: dict[str, Any], now: datetime) -> tuple[object, ...]:
    said = (job["error"] or job["message"] or job["current_step"] or "").split("\n", 1)[0]
    tries = f"{job['attempt']}/{job['max_attempts']}"
    return (
        job["id"],
        job["type"],
        job["display_state"],
        f"{job['progress']:.0f}",
        tries,
        nearby(job["run_at"], now),
        _took(job),
        said,
    )


def _took(job: dict[str, Any]) -> str:
    if job["started_at"] is None:
        return "-"
    return span((job["completed_at"] or datetime.now(UTC)) - job["started_at"])


@jobs.command()
def show(ctx: typer.Context, job_id: Id, output: Output = Format.TEXT) -> None:
    """Show one job: its values, its attempts, its outputs."""
    with desk_of(ctx) as desk:
        job = desk.job(job_id)
    if output is Format.JSON:
        print_json(job)
        return
    _print_job(job)
    for one in job["outputs"]:
        print_line(f"{'output':15} {clean(one['name'])} ({clean(one['media_type'])}, {one['bytes']:,} bytes)")
    if job["attempts"]:
        print_line()
        columns = ("run", "attempt", "outcome", "started", "took", "error")
        print_table(columns, [_attempt(one) for one in job["attempts"]], "", cut=("error",))
    if job["error"]:
        print_line()
        print_line(clean(job["error"].rstrip()))


def _print_job(job: dict[str, Any]) -> None:
    """What there is to say about it, a line each; the error has lines of its own and comes last."""
    told = job | {"progress": f"{job['progress']:g} %", "attempt": f"{job['attempt']} of {job['max_attempts']}"}
    print_line(f"{'job':15} {job['id']}")
    for name in TOLD:
        if job[name] not in (None, "") and job[name] != UNREMARKABLE.get(name):
            print_line(f"{WORDS.get(name, name):15} {_shown(told[name])}")
    if job["started_at"]:
        print_line(f"{'took':15} {_took(job)}")


TOLD = (
    "type", "display_state", "payload", "result", "progress", "current_step", "message", "priority", "queue",
    "schedule_name", "scheduled_for", "project_id", "parent_id", "attempt", "stalls", "revision", "worker_id",
    "last_heartbeat", "created_at", "run_at", "started_at", "completed_at",
)  # fmt: skip
WORDS = {"display_state": "state", "schedule_name": "schedule"}
UNREMARKABLE = {"queue": "default", "stalls": 0}


def _attempt(one: dict[str, Any]) -> tuple[object, ...]:
    took = span(one["finished_at"] - one["started_at"]) if one["finished_at"] and one["started_at"] else "-"
    error = (one["error"] or "").split("\n", 1)[0]
    return (one["run_number"], one["attempt"], one["outcome"] or "running", when(one["started_at"]), took, error)


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return when(value)
    if isinstance(value, (dict, list)):
        return clean(json.dumps(value, ensure_ascii=False, default=plain))
    return clean(str(value))


@jobs.command(short_help="Cancel pending or running jobs.")
def cancel(
    ctx: typer.Context,
    job_ids: Ids,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Kept with the job.")] = "cancelled by an operator",
    output: Output = Format.TEXT,
) -> None:
    """Cancel jobs: a pending one at once, a running one is asked to stop."""
    _each(ctx, job_ids, lambda desk, job_id: desk.cancel(job_id, reason), output)


@jobs.command(short_help="Put finished jobs back.")
def retry(ctx: typer.Context, job_ids: Ids, output: Output = Format.TEXT) -> None:
    """Put finished jobs back: pending again, with all their attempts; history and policy stay."""
    _each(ctx, job_ids, lambda desk, job_id: desk.retry(job_id), output)


def _each(ctx: typer.Context, job_ids: list[int], act: Callable[[Desk, int], str], output: Format) -> None:
    """Do it for each, say how each went, and exit with the first error's code."""
    results, worst = [], 0
    with desk_of(ctx) as desk:
        for job_id in job_ids:
            try:
                results.append({"id": job_id, "result": act(desk, job_id), "error": None})
            except (Conflict, NotFound) as error:
                results.append({"id": job_id, "result": None, "error": error.message})
                worst = worst or exit_code(error)
    if output is Format.JSON:
        print_json({"jobs": results})
    else:
        for result in results:
            if result["error"] is None:
                print_line(f"job {result['id']}: {result['result']}")
            else:
                note(f"error: {result['error']}")
    raise typer.Exit(worst)
