"""The command `status`: how things are, told by the database, whoever runs the jobs."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from runner.cli.jobs import Output
from runner.cli.main import cli, desk_of
from runner.cli.output import Format, clean, is_terminal, print_json, print_line, print_table, since, span, when

if TYPE_CHECKING:
    from runner.domain.overview import FileProblem, Overview, QueueView, Skips, WorkerView


@cli.command(short_help="Show workers, queues, schedules and the file in force.")
def status(ctx: typer.Context, output: Output = Format.TEXT) -> None:
    """Show how things are: database, revision in force, problems of the file, schedules, workers, queues.

    All of it comes from the database, so it is right in any process. Changes nothing and exits 0 whatever it shows:
    `runner doctor` is the command that judges.
    """
    from runner.domain.desk import Rows
    from runner.domain.overview_data import overview_data

    with desk_of(ctx) as desk:
        found = desk.inside(Rows())
    seen, skipped = found.seen, found.skipped
    if output is Format.JSON:
        print_json({"at": found.at, "database": found.database, **overview_data(seen, skipped)})
        return
    for line in _lines(found.database, seen):
        print_line(line)
    if seen is not None:
        _tables(seen, skipped)


# ---- for people


def _lines(database: Mapping[str, Any], seen: Overview | None) -> Iterator[str]:
    path = clean(database["path"])
    if seen is None:
        yield from _entry("database", f"none yet at {path}; runner apply creates it")
        return
    log = "" if database["wal_bytes"] is None else f", write-ahead log {_bytes(database['wal_bytes'])}"
    sizes = f"{_bytes(database['bytes'])}{log}"
    mode = (
        "" if database["journal_mode"] in ("wal", None) else f", journal mode {database['journal_mode']} instead of wal"
    )
    yield from _entry("database", f"{path} ({sizes}{mode}), schema {database['schema']}")
    yield from _entry("revision", _revision(seen))
    for problem in seen.problems:
        yield from _problem(problem, seen)
    yield from _entry("schedules", _sums(seen))
    for at, worker in enumerate(seen.workers):
        first, second = _worker(worker, seen)
        yield from _entry("" if at else "workers", first)
        yield from _entry("", second, indent=9)
    if not seen.workers:
        yield from _entry("workers", "none")


def _entry(word: str, text: str, *, indent: int = 0) -> Iterator[str]:
    """A word and what there is to say, wrapped on a terminal."""
    room = shutil.get_terminal_size().columns - 11 if is_terminal() else 10_000
    margin = " " * indent
    wrapped = textwrap.wrap(
        text, max(room, 30), initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False
    )
    for at, line in enumerate(wrapped):
        yield f"{'' if at else word:10} {line}"


def _revision(seen: Overview) -> str:
    mark = seen.revision
    if mark is None:
        return "none in force yet; runner apply brings the file into the database"
    applied = f"applied {when(mark.applied_at)} ({since(mark.applied_at, seen.at)} ago)"
    return f"{mark.number}, {applied} by {clean(mark.applied_by)}, file {mark.sha256[:8]}"


def _problem(problem: FileProblem, seen: Overview) -> Iterator[str]:
    ago = f" {since(problem.since, seen.at)} ago" if problem.since is not None else ""
    yield from _entry(
        "problem", f"the file was refused{ago} by {problem.processes:,} of {len(seen.workers):,} processes:"
    )
    yield from _entry("", clean(problem.message))
    if seen.revision is not None:
        yield from _entry("", f"revision {seen.revision.number} stays in force")


def _sums(seen: Overview) -> str:
    sums = seen.schedules
    more = [f"{number:,} {word}" for word, number in asdict(sums).items() if number and word != "active"]
    return ", ".join([f"{sums.active:,} active", *more])


def _worker(worker: WorkerView, seen: Overview) -> tuple[str, str]:
    """What it does, and what it is."""
    row = worker.status
    beat = since(row.last_heartbeat, seen.at)
    state = {
        "alive": f"alive, beat {beat} ago",
        "stale": f"stale, no beat for {beat}",
        "gone": f"gone, last beat {beat} ago",
    }[worker.life]
    work = f"{worker.running} of {row.concurrency} running, {_taken(worker)}" if row.concurrency else "runs no jobs"
    where = f"pid {row.pid} on {clean(row.host)}, runner {clean(row.version)}, up {since(row.started_at, seen.at)}"
    return f"{row.id[:8]} {state}: {work}", f"{where}, {_file(worker)}"


def _taken(worker: WorkerView) -> str:
    told = worker.status.queues or {}
    if "only" in told:
        return f"queues {clean(', '.join(told['only']))}"
    return f"all queues but {clean(', '.join(told['except']))}" if "except" in told else "all queues"


def _file(worker: WorkerView) -> str:
    if worker.is_current is None:
        return "follows no file" if worker.status.config_sha256 is None else "no revision yet"
    if worker.is_current:
        return "file as in force" + (", newer edit refused" if worker.status.config_problem else "")
    number = worker.status.config_revision
    return f"file of revision {number}" if number else f"another file ({(worker.status.config_sha256 or '')[:8]})"


def _tables(seen: Overview, skipped: Sequence[Skips]) -> None:
    print_line()
    columns = ("queue", "due", "scheduled", "running", "oldest due", "")
    if seen.queues:
        print_table(columns, [_queue(queue, seen.at) for queue in seen.queues], "", cut=("queue",))
    else:
        print_line("no unfinished jobs")
    if seen.fires:
        print_line()
        fires = [(fire.schedule, fire.starts, _ahead(fire.at, seen.at), when(fire.at)) for fire in seen.fires]
        print_table(("next fires", "starts", "", "at"), fires, "", cut=("starts", "next fires"))
    if skipped:
        print_line()
        rows = [(one.schedule, one.outcome, one.slots, when(one.last), one.reason or "") for one in skipped]
        print_table(
            ("skipped (24 h)", "outcome", "slots", "last", "reason"), rows, "", cut=("reason", "skipped (24 h)")
        )


def _ahead(value: datetime, now: datetime) -> str:
    return f"in {span(value - now)}" if value > now else "now"


def _queue(queue: QueueView, now: datetime) -> tuple[object, ...]:
    oldest = since(queue.oldest_due, now) if queue.oldest_due is not None else "-"
    mark = "no live worker takes it" if queue.due and not queue.is_taken else ""
    return (queue.name, f"{queue.due:,}", f"{queue.scheduled:,}", f"{queue.running:,}", oldest, mark)


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
