"""The commands `migrate up|down|status|check|sql`."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.jobs import Output
from runner.cli.main import app_of, cli
from runner.cli.output import Format, print_json, print_line

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
    _say({"schema": found, "database": app.database.place}, f"{app.database.place} has schema {found}", output)


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
    _say({"schema": found}, f"{app.database.place} has schema {found or 'none'}", output)


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


@migrate.command(short_help="Print the statements of a fresh set-up.")
def sql(ctx: typer.Context) -> None:
    """Print the statements of a fresh set-up, for the kind of database that is configured."""
    from runner.storage import migrations

    app = app_of(ctx)
    app.close()
    print_line(migrations.sql(app.database.server.name))


@migrate.command(short_help="Move everything to another, empty database.")
def copy(
    source: Annotated[str, typer.Option("--from", metavar="URL", help="What is copied; it is not changed.")],
    target: Annotated[str, typer.Option("--to", metavar="URL", help="Where to; refused where it holds anything.")],
    output: Output = Format.TEXT,
) -> None:
    """Copy every row of one database into another, and compare both by counts and checksums. End all workers first."""
    from dataclasses import asdict

    from runner.storage.copying import Copied, copy_all
    from runner.storage.database import Database

    def told(one: Copied) -> None:
        if output is not Format.JSON:
            print_line(f"{one.table:18} {one.rows:>12,} rows  {one.checksum}")

    databases = Database(source), Database(target)
    try:
        done = copy_all(*databases, told)
    finally:
        for database in databases:
            database.close()
    rows = sum(one.rows for one in done)
    text = f"{rows:,} rows copied to {databases[1].place}, the same in both"
    _say({"tables": [asdict(one) for one in done], "rows": rows}, text, output)


def _say(data: dict[str, object], text: str, output: Format) -> None:
    if output is Format.JSON:
        print_json(data)
    else:
        print_line(text)
