"""The commands `keys create|list|revoke`: who may use the HTTP interface."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.jobs import Output
from runner.cli.main import app_of, cli, settings_of
from runner.cli.output import Format, note, print_json, print_line, print_table, when
from runner.domain.access import Role, told

if TYPE_CHECKING:
    from runner.domain.access_rows import ApiKey

keys = typer.Typer(no_args_is_help=True, help="Keys of the HTTP interface: make them, list them, revoke them.")
cli.add_typer(keys, name="keys")


@keys.command(short_help="Make a key; it is shown once.")
def create(
    ctx: typer.Context,
    role: Annotated[
        Role, typer.Option(help="viewer: look; operator: also enqueue, cancel, pause; admin: everything.")
    ] = Role.VIEWER,
    project: Annotated[
        list[str] | None,
        typer.Option("--project", "--project-id", metavar="ID", help="Bound to this project; may be repeated."),
    ] = None,
    text: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="What it is for.")] = None,
    output: Output = Format.TEXT,
) -> None:
    """Make a key for the HTTP interface. It is shown once; what is kept is a digest of it.

    From the first key on, every request needs one.
    """
    from runner.domain.access import new_key
    from runner.engine.reloader import applied_by
    from runner.storage.access import AccessStore

    app = app_of(ctx)
    try:
        app.prepare()
        made = new_key()
        row = AccessStore(app.database).add(made, role, project or None, app.now(), by=applied_by(), note=text)
    finally:
        app.close()
    if output is Format.JSON:
        print_json(_data(row) | {"key": made.text})
        return
    print_line(made.text)
    note(f"key {row.id}: {row.role}, projects: {told(row.projects)}; it is shown this once")


@keys.command("list")
def list_keys(
    ctx: typer.Context,
    revoked: Annotated[bool, typer.Option("--revoked", help="Also those that were revoked.")] = False,
    output: Output = Format.TEXT,
) -> None:
    """List the keys, with their last use, which is exact to a minute."""
    from runner.storage.access import AccessStore

    app = app_of(ctx)
    try:
        rows = AccessStore(app.database).keys(revoked=revoked) if app.look() else []
    finally:
        app.close()
    if output is Format.JSON:
        print_json({"keys": [_data(row) for row in rows]})
        return
    columns = ("id", "role", "projects", "created", "last used", "state", "note")
    print_table(columns, [_row(row) for row in rows], "no keys; runner keys create makes one", cut=("note", "projects"))


def _data(row: ApiKey) -> dict[str, Any]:
    return row.model_dump(exclude={"digest"})


def _row(row: ApiKey) -> tuple[object, ...]:
    state = "valid" if row.revoked_at is None else f"revoked {when(row.revoked_at)}"
    return (row.id, row.role, told(row.projects), when(row.created_at), when(row.last_used_at), state, row.note or "")


@keys.command(short_help="Make a key worthless, at once.")
def revoke(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Of `runner keys list`.")],
    output: Output = Format.TEXT,
) -> None:
    """Make a key worthless, at once. It stays in the list of the revoked."""
    from runner.app import open_existing
    from runner.storage.access import AccessStore

    app = open_existing(settings_of(ctx), os.environ)
    try:
        AccessStore(app.database).revoke(key_id, app.now())
    finally:
        app.close()
    if output is Format.JSON:
        print_json({"id": key_id, "revoked": True})
    else:
        print_line(f"key {key_id} is revoked")
