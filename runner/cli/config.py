"""Commands around the file: validate, plan, apply, config, schema."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.main import app_of, cli, desk_of, moment, settings_of
from runner.cli.output import Format, clean, counted, keep_stdout, print_json, print_line, print_table

if TYPE_CHECKING:
    from runner.config.load import Loaded
    from runner.domain.desk import PlanCall, Planned
    from runner.domain.schedule import Definitions

File = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="The file; schedules.yaml or what -c names.", show_default=False)
]
NoImport = Annotated[bool, typer.Option("--no-import", help="Do not import handlers: for machines without their code.")]
AllowRemovals = Annotated[
    bool, typer.Option("--allow-removals", help="Retire most or all schedules, if the file says so.")
]


class Report(StrEnum):
    """How problems are printed."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


class PlanFormat(StrEnum):
    """How a plan is printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


@cli.command(short_help="Check the file: all problems at once.")
def validate(
    ctx: typer.Context,
    file: File = None,
    output: Annotated[
        Report, typer.Option("-o", "--output", help="github: annotations for a pull request.")
    ] = Report.TEXT,
    no_import: NoImport = False,
) -> None:
    """Check the file: all problems at once, each with its place and a remedy. Exit 1 if there is an error."""
    from runner.config import report

    loaded = read_file(ctx, file, no_import)
    name = str(loaded.path)
    if output is Report.JSON:
        print_json(report.as_json(loaded.problems))
    elif output is Report.GITHUB:
        if loaded.problems:
            print_line(report.as_github(loaded.problems, name).rstrip("\n"))
    else:
        if loaded.problems:
            print_line(clean(report.as_text(loaded.problems, loaded.source, name)))
        print_line(f"{name}: {_verdict(loaded)}")
    raise typer.Exit(0 if loaded.ok else 1)


def _verdict(loaded: Loaded) -> str:
    errors = sum(problem.is_error for problem in loaded.problems)
    warnings = len(loaded.problems) - errors
    warned = f", {counted(warnings, 'warning')}" if warnings else ""
    if loaded.definitions is None:
        return f"{counted(errors, 'error')}{warned}"
    return f"valid, {contents(loaded.definitions)}{warned}"


def contents(found: Definitions) -> str:
    """What a file holds, in words."""
    parts = [counted(len(found.schedules), "schedule"), counted(len(found.job_types), "job type")]
    if found.workflows:
        parts.append(counted(len(found.workflows), "workflow"))
    return ", ".join(parts)


def read_file(ctx: typer.Context, file: Path | None = None, no_import: bool = False) -> Loaded:
    from runner.engine.reloader import read

    keep_stdout()
    return read(file or settings_of(ctx).config, os.environ, import_handlers=not no_import)


@cli.command()
def plan(
    ctx: typer.Context,
    file: File = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with this file instead of the database.")
    ] = None,
    output: Annotated[
        PlanFormat, typer.Option("-o", "--output", help="markdown: for a pull request.")
    ] = PlanFormat.TEXT,
    now: Annotated[
        str | None, typer.Option(metavar="TIME", help="The time to plan from, as 2026-03-29T06:00Z.")
    ] = None,
    upcoming: Annotated[
        int, typer.Option("--next", metavar="N", min=0, max=100, help="How many fire times to show.")
    ] = 3,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 where there are changes.")] = False,
    no_import: NoImport = False,
) -> None:
    """Say what applying the file would do. Changes nothing, and never creates a database."""
    from runner.domain.desk import PlanCall

    path = file or settings_of(ctx).config
    call = PlanCall(path, None if now is None else moment(now), upcoming, output.value, not no_import)
    made = _with_database(ctx, call) if against is None else _between(against, call)
    if output is PlanFormat.JSON:
        print_json(made.data)
    else:
        print_line(clean(made.shown))
    raise typer.Exit(1 if exit_code and not made.is_empty else 0)


def _with_database(ctx: typer.Context, call: PlanCall) -> Planned:
    with desk_of(ctx) as desk:
        return desk.plan(call)


def _between(old: Path, call: PlanCall) -> Planned:
    """Two files: nobody else is asked."""
    from runner.config.load import load
    from runner.config.payload_checks import payload_problems
    from runner.domain.desk import Planned
    from runner.domain.plan import Stored, report
    from runner.domain.plan import plan as make_plan
    from runner.engine.reloader import read

    loaded = read(call.path, os.environ, import_handlers=call.import_handlers)
    wanted = loaded.require()
    stored = Stored(0, load(old, environ=os.environ).require(), {}, {})
    now = call.now or datetime.now(UTC)
    made = make_plan(stored, wanted, now, upcoming=call.upcoming, payload_problems=payload_problems)
    return Planned(report.as_json(made), report.shown(made, call.form, source=str(loaded.path), against=str(old)))


@cli.command(short_help="Bring the database to the file.")
def apply(
    ctx: typer.Context,
    file: File = None,
    allow_removals: AllowRemovals = False,
    output: Annotated[Format, typer.Option("-o", "--output", help="json: one document, for programs.")] = Format.TEXT,
    now: Annotated[
        str | None, typer.Option(metavar="TIME", help="The moment of applying, as 2026-03-29T06:00Z.")
    ] = None,
    no_import: NoImport = False,
) -> None:
    """Bring the database to the file, in one transaction: all of it or nothing."""
    from runner.config.payload_checks import payload_problems
    from runner.domain.plan import plan as make_plan
    from runner.domain.plan import report

    loaded = read_file(ctx, file, no_import)
    wanted = loaded.require()
    app = app_of(ctx)
    try:
        app.prepare()
        at = app.now() if now is None else moment(now)
        made = make_plan(app.stored(), wanted, at, payload_problems=payload_problems)
        revision, is_new = app.reloader.apply(loaded, at, allow_removals=allow_removals, base=made.base_revision)
    finally:
        app.close()
    if output is Format.JSON:
        print_json({"revision": revision.number, "is_new": is_new, "plan": report.as_json(made)})
        return
    print_line(clean(report.as_text(made, source=str(loaded.path))))
    print_line(f"Applied as revision {revision.number}." if is_new else f"Revision {revision.number} stays in force.")


@cli.command(short_help="Show settings and the file, each value with its origin.")
def config(
    ctx: typer.Context,
    output: Annotated[Format, typer.Option("-o", "--output", help="json: one document, for programs.")] = Format.TEXT,
) -> None:
    """Show the settings of this process and the resolved file, each value with its origin."""
    from runner.config.origins import origins
    from runner.domain.urls import without_password
    from runner.settings import settings

    loaded = read_file(ctx, no_import=True)
    definitions = loaded.require()
    found = settings(ctx.obj, os.environ, definitions.runner)
    found = replace(found, database_url=without_password(found.database_url))
    mine = [
        (name, getattr(found, name), found.origins.get(name, "default"))
        for name in found.__dataclass_fields__
        if name != "origins"
    ]
    theirs = origins(loaded)
    if output is Format.JSON:
        print_json({"settings": _entries(mine), "file": _entries(theirs), "definitions": _definitions(definitions)})
        return
    print_table(("setting", "value", "origin"), [(name, _shown(value), origin) for name, value, origin in mine], "")
    print_line()
    rows = [(name, origin, _shown(value)) for name, value, origin in theirs]
    print_table(("value of the file", "origin", "value"), rows, "", cut=("value",))


def _shown(value: Any) -> str:
    from datetime import timedelta

    from runner.domain.duration import format_duration

    if isinstance(value, timedelta):
        return format_duration(value)
    if value is None or isinstance(value, (bool, dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=_shown)
    return str(value)


def _entries(rows: Sequence[tuple[str, Any, str]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "value": str(value) if isinstance(value, Path) else value, "origin": origin}
        for name, value, origin in rows
    ]


def _definitions(definitions: Definitions) -> Any:
    from runner.storage.serial import to_data

    return to_data(definitions)


@cli.command(short_help="Print the JSON Schema of the file, for editors.")
def schema() -> None:
    """Print the JSON Schema of the file, for editors: schemas/schedules.schema.json."""
    from runner.config.schema import schema_text

    print_line(schema_text().rstrip())
