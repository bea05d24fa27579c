"""The command `doctor`: looks at everything that can be wrong, each thing told once, with a remedy."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from runner.cli.config import contents
from runner.cli.jobs import Output
from runner.cli.main import app_of, cli, settings_of
from runner.cli.output import Format, clean, counted, print_json, print_line, since, span
from runner.domain.errors import RunnerError

if TYPE_CHECKING:
    from runner.app import App
    from runner.config.load import Loaded
    from runner.domain.overview import Overview, QueueView

WATCHED = 2.0  # seconds within which a touch must be noticed
TOUCHES = 0.1  # seconds between two touches: the watch may not have begun at the first
AHEAD = timedelta(seconds=5)  # of a row before our clock: more than two processes of one machine differ
LONG = timedelta(hours=1)  # that a job may be due
LITTLE, TOO_LITTLE = 1_000_000_000, 100_000_000  # bytes of disk

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `doctor`. Only an error makes it exit 1."""

    check: str
    level: Level
    message: str
    remedy: str | None = None


@cli.command(short_help="Look for what is wrong.")
def doctor(ctx: typer.Context, output: Output = Format.TEXT) -> None:
    """Look for what is wrong: file, handlers, watcher, disk, database, clock, workers, queues, jobs.

    Exit 1 if there is an error; warnings are no errors. Changes nothing: what it tries, it takes back.
    """
    from runner.engine.reloader import read

    app = app_of(ctx)
    try:
        loaded = read(settings_of(ctx).config, os.environ)
        findings = _findings(app, loaded)
    finally:
        app.close()
    if output is Format.JSON:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print_line(f"{finding.level:8} {finding.check:10} {clean(finding.message)}")
            if finding.remedy and finding.level != "ok":
                print_line(f"{'':19} help: {clean(finding.remedy)}")
    raise typer.Exit(1 if any(finding.level == "error" for finding in findings) else 0)


def _findings(app: App, loaded: Loaded) -> list[Finding]:
    found = [finding for look in MACHINE for finding in _looked(look, app, loaded)]
    is_usable = not any(finding.check == "database" and finding.level == "error" for finding in found)
    if is_usable and app.database.exists:  # what is wrong with the database is told once
        found += [finding for look in (*INSIDE, *_of_server(app)) for finding in _looked(look, app, loaded)]
    return found


Check = Callable[["App", "Loaded"], Iterator[Finding]]


def _of_server(app: App) -> tuple[Check, ...]:
    if app.database.is_file:
        return ()
    from runner.cli import doctor_postgres as server

    return server.server, server.notifications, server.skew


def _looked(look: Check, app: App, loaded: Loaded) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(look(app, loaded))
    except RunnerError as error:
        found.append(Finding(look.__name__.strip("_"), "error", error.message, error.hint))
    return found


# ---- the machine and the file


def _python(app: App, loaded: Loaded) -> Iterator[Finding]:
    import platform

    import runner

    yield Finding("python", "ok", f"Python {platform.python_version()}, runner {runner.__version__}")


def _sqlite(app: App, loaded: Loaded) -> Iterator[Finding]:
    if not app.database.is_file:
        return
    from runner.storage.sqlite import sqlite_library

    version, is_affected = sqlite_library()
    if is_affected:
        message = f"SQLite {version} can lose commits when several processes write (fixed in 3.51.3)"
        yield Finding("sqlite", "warning", message, "pip install 'yaml-job-runner[sqlite]'")
    else:
        yield Finding("sqlite", "ok", f"SQLite {version}")


def _zones(app: App, loaded: Loaded) -> Iterator[Finding]:
    from importlib.metadata import version

    yield Finding("zones", "ok", f"tzdata {version('tzdata')}")


def _file(app: App, loaded: Loaded) -> Iterator[Finding]:
    for problem in loaded.problems:
        check = "handlers" if problem.code == "handler" else "file"
        level: Level = "error" if problem.is_error else "warning"
        yield Finding(check, level, f"{loaded.path}:{problem.line}:{problem.column}: {problem.message}", problem.hint)
    if loaded.definitions is not None:
        yield Finding("file", "ok", f"{loaded.path}: {contents(loaded.definitions)}")
        paths = {job_type.handler for job_type in loaded.definitions.job_types.values()}
        yield Finding("handlers", "ok", f"{counted(len(paths), 'handler')} can be imported")


def _watcher(app: App, loaded: Loaded) -> Iterator[Finding]:
    folder = app.settings.folder
    try:
        took = _noticed(app)
    except OSError as error:
        yield Finding("watcher", "warning", f"it could not be tried in {folder}: {error.strerror}")
        return
    if took is None:
        message = f"a change in {folder} is not noticed (a network mount, or no inotify watches left?)"
        yield Finding("watcher", "warning", message, "serve finds edits all the same: it looks twice a second")
    else:
        yield Finding("watcher", "ok", f"a change in {folder} is noticed after {span(took)}")


def _noticed(app: App) -> float | None:
    """Seconds from the first touch of a file of ours until the watch of `serve` tells of it."""
    from runner.engine.watch import Watch

    noticed = threading.Event()
    with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=app.settings.folder) as file:
        watch = Watch(Path(file.name), noticed.set)
        watch.start()
        began = time.monotonic()
        while time.monotonic() - began < WATCHED and not noticed.wait(TOUCHES):
            file.write(b"\n")
            file.flush()
        watch.close()
        return time.monotonic() - began if noticed.is_set() else None


def _disk(app: App, loaded: Loaded) -> Iterator[Finding]:
    if not app.database.is_file:
        return
    folder = app.database.path.parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding("disk", "error", f"{folder}: {error.strerror}", "create it, or give another --database-url")
        return
    level: Level = "error" if free < TOO_LITTLE else "warning" if free < LITTLE else "ok"
    yield Finding(
        "disk", level, f"{free / 1e9:,.1f} GB free in {folder}", "free some space: a full disk stops all work"
    )


def _database(app: App, loaded: Loaded) -> Iterator[Finding]:
    from runner.storage.health import try_writing
    from runner.storage.setup import HEAD, require_current

    place = app.database.place
    if app.database.is_file:
        from runner.storage.sqlite import network_file_system

        if (kind := network_file_system(app.database.path)) is not None:
            message = f"{place} lies on a network file system ({kind})"
            yield Finding("database", "error", message, "put it on a local disk")
    if not app.database.exists:
        yield Finding("database", "ok", f"none yet at {place}; apply or run-once creates it")
        return
    require_current(app.database)
    trouble = app.database.trouble()
    if trouble:
        yield Finding("database", "error", f"{place} is damaged: {trouble}", "restore a backup")
        return
    mode = app.database.sizes()["journal_mode"]
    if mode not in ("wal", None):
        message = f"{place} is in journal mode {mode}: reading and writing block each other"
        yield Finding("database", "warning", message, "the next command that writes changes it to wal")
    elif _is_writable(app):
        try_writing(app.database)
    else:
        yield Finding("database", "error", f"{place} or its folder is read-only", "make both writable for this user")
        return
    words = ", ".join(f"{number:,} {state}" for state, number in app.jobs.counts().items() if number) or "no jobs"
    yield Finding("database", "ok", f"{place}: schema {HEAD}, {f'{mode}, ' if mode else ''}{words}")


def _is_writable(app: App) -> bool:
    if not app.database.is_file:
        return True  # the server says so itself
    path = app.database.path
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


# ---- inside the database


def _clock(app: App, loaded: Loaded) -> Iterator[Finding]:
    from runner.storage.health import newest

    now, last = app.now(), newest(app.database)
    if last is not None and last > now + AHEAD:
        message = f"the newest row is {span(last - now)} ahead of this machine's clock: was the clock set back?"
        yield Finding("clock", "warning", message, "set the clock; after `--now` in the future this is no fault")
    else:
        yield Finding("clock", "ok", "not behind the newest row")


def _workers(app: App, loaded: Loaded) -> Iterator[Finding]:
    seen = app.overviews.look(app.now())
    for worker in seen.workers:
        row = worker.status
        name, silent = f"worker {row.id[:8]} (pid {row.pid} on {row.host})", since(row.last_heartbeat, seen.at)
        if worker.life == "gone":
            message = f"{name} is gone and its jobs are not rescued yet"
            yield Finding("workers", "warning", message, "the next run-once or serve rescues them")
        elif worker.life == "stale":
            message = f"{name} has not beaten for {silent}: stopped, stuck, or on another machine that is down"
            yield Finding("workers", "warning", message, "end it; the next run-once or serve rescues its jobs")
    for problem in seen.problems:
        remedy = "mend the file; until then the revision before stays in force"
        message = f"{problem.processes:,} of {len(seen.workers):,} processes refuse their file: {problem.message}"
        yield Finding("workers", "warning", message, remedy)
    alive = sum(worker.life == "alive" for worker in seen.workers)
    yield Finding("workers", "ok", f"{counted(alive, 'live worker')}")


def _queues(app: App, loaded: Loaded) -> Iterator[Finding]:
    seen = app.overviews.look(app.now())
    for queue in seen.queues:
        if queue.oldest_due is not None:
            yield from _queue(queue, seen.at - queue.oldest_due, seen)


def _queue(queue: QueueView, waited: timedelta, seen: Overview) -> Iterator[Finding]:
    told = f"{counted(queue.due, 'job')} due in queue {queue.name}, the oldest for {span(waited)}"
    if not queue.is_taken:
        # Where nobody works at all, jobs may wait for the next run-once by design; where others work, these never run.
        is_forgotten = waited >= LONG and any(worker.life == "alive" for worker in seen.workers)
        level: Level = "error" if is_forgotten else "warning"
        yield Finding("queues", level, f"{told}: no live worker takes it", f"runner serve --queues {queue.name}")
    elif waited >= LONG:
        remedy = f"runner jobs list --status pending --queue {queue.name}"
        message = f"{told}: the workers are behind, a limit is full, or nobody has its type"
        yield Finding("queues", "warning", message, remedy)


def _jobs(app: App, loaded: Loaded) -> Iterator[Finding]:
    revision = app.revisions.current()
    if revision is None:
        return
    for queue, name in app.claims.lanes():
        if name not in revision.definitions.job_types:
            message = f"jobs of type {name} (queue {queue}) wait: the revision in force does not know that type"
            yield Finding("jobs", "warning", message, "put the type back into the file, or cancel them")


MACHINE: tuple[Check, ...] = (_python, _sqlite, _zones, _file, _watcher, _disk, _database)
INSIDE: tuple[Check, ...] = (_clock, _workers, _queues, _jobs)
