"""The commands `migrate` and `doctor`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from runner.cli.config import contents
from runner.cli.jobs import Output
from runner.cli.main import app_of, cli, settings_of
from runner.cli.output import Format, clean, print_json, print_line
from runner.domain.errors import RunnerError

if TYPE_CHECKING:
    from runner.app import App

migrate = typer.Typer(no_args_is_help=True, help="The schema of the database.")
cli.add_typer(migrate, name="migrate")


@migrate.command(short_help="Bring the schema to this release's.")
def up(ctx: typer.Context, output: Output = Format.TEXT) -> None:
    """Bring the schema to this release's; creates the database where there is none."""
    from runner.storage.setup import version

    app = app_of(ctx)
    try:
        app.prepare()
        found = version(app.database)
    finally:
        app.close()
    _say({"schema": found, "database": str(app.database.path)}, f"{app.database.path} has schema {found}", output)


@migrate.command()
def down(
    ctx: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The schema to go back to: -1, a number, or `base` (removes all).")
    ] = "-1",
    yes: Annotated[bool, typer.Option("--yes", help="Yes, lose what the older schema cannot hold.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """Take the schema back. What the older schema has no place for is lost."""
    from runner.domain.errors import UsageError
    from runner.storage import migrations
    from runner.storage.setup import version

    if not yes:
        raise UsageError("going back loses data that the older schema has no place for", "if that is meant: --yes")
    app = app_of(ctx)
    try:
        version(app.database)  # what is not ours is not opened for writing
        with app.database.write() as connection:
            migrations.downgrade(connection, target)
        found = version(app.database)
    finally:
        app.close()
    _say({"schema": found}, f"{app.database.path} has schema {found or 'none'}", output)


@migrate.command()
def status(ctx: typer.Context, output: Output = Format.TEXT) -> None:
    """Show the schema of the database and that of this release. Changes nothing."""
    from runner.storage.setup import HEAD, version

    app = app_of(ctx)
    try:
        found = version(app.database) if app.database.exists else None
    finally:
        app.close()
    text = f"database: {found or 'none yet'}, this release: {HEAD}"
    _say({"schema": found, "head": HEAD, "is_current": found == HEAD}, text, output)


@migrate.command(short_help="Find differences between tables and models.")
def check(ctx: typer.Context, output: Output = Format.TEXT) -> None:
    """Find differences between the tables and this release's models. Exit 1 where there are any."""
    from runner.storage import migrations
    from runner.storage.setup import version

    app = app_of(ctx)
    try:
        version(app.database)  # nothing is said about tables of others
        with app.database.read() as connection:
            migrations.refuse_newer(connection)
            found = migrations.drift(connection)
    finally:
        app.close()
    _say({"differences": found}, "\n".join(found) or "no differences", output)
    raise typer.Exit(1 if found else 0)


@migrate.command()
def sql(ctx: typer.Context) -> None:
    """Print the statements of a fresh set-up."""
    from runner.storage import migrations

    print_line(migrations.sql())


def _say(data: dict[str, object], text: str, output: Format) -> None:
    if output is Format.JSON:
        print_json(data)
    else:
        print_line(text)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `doctor`. Only an error makes it exit 1."""

    check: str
    level: Literal["ok", "warning", "error"]
    message: str
    remedy: str | None = None


@cli.command(short_help="Look for what is wrong.")
def doctor(ctx: typer.Context, output: Output = Format.TEXT) -> None:
    """Look for what is wrong: file, handlers, database, SQLite library, zone data, workers. Changes nothing."""
    app = app_of(ctx)
    try:
        findings = [finding for look in CHECKS for finding in _looked(look, app, ctx)]
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


Check = Callable[["App", typer.Context], Iterator[Finding]]


def _looked(look: Check, app: App, ctx: typer.Context) -> list[Finding]:
    try:
        return list(look(app, ctx))
    except RunnerError as error:
        return [Finding(look.__name__.strip("_"), "error", error.message, error.hint)]


def _python(app: App, ctx: typer.Context) -> Iterator[Finding]:
    import platform

    import runner

    yield Finding("python", "ok", f"Python {platform.python_version()}, runner {runner.__version__}")


def _sqlite(app: App, ctx: typer.Context) -> Iterator[Finding]:
    from runner.storage.dialects import sqlite_library

    version, is_affected = sqlite_library()
    if is_affected:
        message = f"SQLite {version} can lose commits when several processes write (fixed in 3.51.3)"
        yield Finding("sqlite", "warning", message, "pip install 'yaml-job-runner[sqlite]'")
    else:
        yield Finding("sqlite", "ok", f"SQLite {version}")


def _zones(app: App, ctx: typer.Context) -> Iterator[Finding]:
    from importlib.metadata import version

    yield Finding("zones", "ok", f"tzdata {version('tzdata')}")


def _file(app: App, ctx: typer.Context) -> Iterator[Finding]:
    from runner.engine.reloader import read

    loaded = read(settings_of(ctx).config, os.environ)
    for problem in loaded.problems:
        level: Literal["warning", "error"] = "error" if problem.is_error else "warning"
        yield Finding("file", level, f"{loaded.path}:{problem.line}:{problem.column}: {problem.message}", problem.hint)
    if loaded.definitions is not None:
        yield Finding("file", "ok", f"{loaded.path}: {contents(loaded.definitions)}")


def _database(app: App, ctx: typer.Context) -> Iterator[Finding]:
    from runner.storage.dialects import network_file_system
    from runner.storage.setup import require_current

    path = app.database.path
    if (kind := network_file_system(path)) is not None:
        yield Finding("database", "error", f"{path} lies on a network file system ({kind})", "put it on a local disk")
    if not app.database.exists:
        yield Finding("database", "ok", f"none yet at {path}; apply or run-once creates it")
        return
    require_current(app.database)
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        yield Finding("database", "error", f"{path} or its folder is read-only", "make both writable for this user")
    trouble = app.database.integrity()
    if trouble:
        yield Finding("database", "error", f"{path} is damaged: {trouble}", "restore a backup")
    counts = app.jobs.counts()
    words = ", ".join(f"{number} {state}" for state, number in counts.items() if number) or "no jobs"
    yield Finding("database", "ok", f"{path}: {words}")


def _workers(app: App, ctx: typer.Context) -> Iterator[Finding]:
    from pathlib import Path

    from runner.engine.heartbeat import is_free

    if not app.look():
        return
    for worker in app.workers.all():
        if worker.lock_file and is_free(Path(worker.lock_file)) is not False:
            message = f"worker {worker.id} (pid {worker.pid} on {worker.host}) is gone and its jobs are not rescued yet"
            yield Finding("workers", "warning", message, "the next run-once or serve rescues them")


def _jobs(app: App, ctx: typer.Context) -> Iterator[Finding]:
    if not app.look():
        return
    revision = app.revisions.current()
    if revision is None:
        return
    for queue, name in app.claims.lanes():
        if name not in revision.definitions.job_types:
            message = f"jobs of type {name} (queue {queue}) wait: the revision in force does not know that type"
            yield Finding("jobs", "warning", message, "put the type back into the file, or cancel them")


CHECKS: tuple[Check, ...] = (_python, _sqlite, _zones, _file, _database, _workers, _jobs)
