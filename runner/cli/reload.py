"""The command `reload`."""

from __future__ import annotations

import typer

from runner.cli.jobs import Output
from runner.cli.main import cli, desk_of
from runner.cli.output import Format, print_json, print_line

DONE = "the file is read again"


@cli.command(short_help="Have a server read its file again, at once.")
def reload(ctx: typer.Context, output: Output = Format.TEXT) -> None:
    """Have the server that --server names read its file again, at once. `runner status` tells what came of it.

    A process on this machine follows its file by itself; `kill -HUP PID` hurries it.
    """
    with desk_of(ctx) as desk:
        desk.reload()
    if output is Format.JSON:
        print_json({"result": DONE})
    else:
        print_line(DONE)
