"""The commands `schedules list|next|pause|resume|trigger|backfill|history`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from runner.cli.jobs import Output
from runner.cli.main import cli, desk_of, moment
from runner.cli.output import Format, counted, nearby, print_json, print_line, print_table, when
from runner.domain.errors import UsageError

schedules = typer.Typer(no_args_is_help=True, help="Look at schedules, pause them, run them by hand.")
cli.add_typer(schedules, name="schedules")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of a schedule.")]
OneOrAll = Annotated[
    str | None, typer.Argument(metavar="NAME", help="One schedule; all if left out.", show_default=False)
]


@schedules.command("list", short_help="List the schedules of the database.")
def list_schedules(
    ctx: typer.Context,
    retired: Annotated[bool, typer.Option("--retired", help="Also those that left the file.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """List the schedules of the database, with their last and next runs."""
    with desk_of(ctx) as desk:
        rows = desk.schedules(retired=retired)
    if output is Format.JSON:
        print_json({"schedules": rows})
        return
    columns = ("name", "starts", "when", "zone", "last run", "next run", "state")
    now = datetime.now(UTC)
    empty = "no schedules; runner apply brings them into the database"
    print_table(columns, [_row(row, now) for row in rows], empty, cut=("when", "zone", "starts", "name"))


def _row(row: dict[str, Any], now: datetime) -> tuple[object, ...]:
    starts = row["job_type"] or f"workflow {row['workflow']}"
    times = (nearby(row["last_run"], now), nearby(row["next_run"], now))
    return (row["name"], starts, row["expression"], row["timezone"], *times, row["state"])


@schedules.command("next")
def next_runs(
    ctx: typer.Context,
    name: OneOrAll = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="How many fire times.")] = 3,
    now: Annotated[
        str | None, typer.Option(metavar="TIME", help="The time to count from, as 2026-03-29T06:00Z.")
    ] = None,
    output: Output = Format.TEXT,
) -> None:
    """Show when schedules of the file fire next. Reads the file, needs no database."""
    with desk_of(ctx) as desk:
        found = desk.upcoming(name, count, None if now is None else moment(now))
    if output is Format.JSON:
        print_json({"schedules": found})
        return
    for entry in found:
        print_line(f"{entry['name']}: {entry['words']}, {entry['timezone']}")
        for fire in entry["next"]:
            print_line(f"  {_fire(fire)}")
        if not entry["next"]:
            print_line("  never again" if entry["enabled"] else "  disabled in the file")


def _fire(fire: dict[str, Any]) -> str:
    """The wall time with its weekday, and the instant where the two differ."""
    local = datetime.fromisoformat(fire["local"])
    text = f"{local:%a} {local.replace(tzinfo=None).isoformat(' ')}"
    return text if not local.utcoffset() else f"{text} {local.isoformat()[19:]}  = {when(fire['utc'])}"


@schedules.command()
def pause(
    ctx: typer.Context,
    name: Name,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; shown wherever the pause is.")] = None,
    output: Output = Format.TEXT,
) -> None:
    """Fire nothing until it is resumed. A reload does not touch a pause."""
    with desk_of(ctx) as desk:
        row = desk.pause(name, reason)
    _say(row, f"{name} is paused", output)


@schedules.command()
def resume(ctx: typer.Context, name: Name, output: Output = Format.TEXT) -> None:
    """End a pause. What was missed is not made up: that is what backfill is for."""
    with desk_of(ctx) as desk:
        row = desk.resume(name)
    _say(row, f"{name} is active; next run {when(row['next_run'])}", output)


def _say(row: dict[str, Any], text: str, output: Format) -> None:
    if output is Format.JSON:
        print_json(row)
    else:
        print_line(text)


@schedules.command(short_help="Run a schedule now, whatever its time.")
def trigger(ctx: typer.Context, name: Name, output: Output = Format.TEXT) -> None:
    """Run a schedule now: ignores pause, jitter and time, obeys its overlap policy."""
    with desk_of(ctx) as desk:
        made = desk.trigger(name)
    if output is Format.JSON:
        print_json({"id": made.id, "status": made.status, "duplicate": made.duplicate})
    else:
        print_line(f"job {made.id} of {name} enqueued; run-once or serve runs it")


@schedules.command(short_help="Enqueue past slots that did not run.")
def backfill(
    ctx: typer.Context,
    name: Name,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="The first slot may be at this time.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="The last slot may be at this time.")],
    output: Output = Format.TEXT,
) -> None:
    """Enqueue the slots of a range of the past that did not run. Those that did are left alone."""
    first, last = moment(start), moment(end)
    if first > last:
        raise UsageError(f"--from {start} is after --to {end}")
    with desk_of(ctx) as desk:
        made = desk.backfill(name, first, last)
    if output is Format.JSON:
        print_json({"jobs": [{"id": one.id, "status": one.status} for one in made]})
        return
    print_line(f"{counted(len(made), 'job')} of {name} enqueued; run-once or serve runs them")


@schedules.command()
def history(
    ctx: typer.Context,
    name: OneOrAll = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="How many slots, newest first.")] = 50,
    output: Output = Format.TEXT,
) -> None:
    """Show the ledger: for each slot whether it ran, and if not, why."""
    with desk_of(ctx) as desk:
        rows = desk.history(name, limit)
    if output is Format.JSON:
        print_json({"slots": rows})
        return
    columns = ("schedule", "slot", "outcome", "job", "reason")
    print_table(columns, [_slot(row) for row in rows], "no slots yet", cut=("reason", "schedule"))


def _slot(row: dict[str, Any]) -> tuple[object, ...]:
    last, count = when(row["slot"]), row["slot_count"]
    times = last if count == 1 else f"{when(row['first_slot'])} to {last} ({count})"
    return (row["schedule_name"], times, row["outcome"], row["job_id"] or "-", row["reason"] or "")
