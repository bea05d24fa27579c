"""The tree of commands and the options that come before each of them. Heavy imports live inside the commands."""

from __future__ import annotations

import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import runner
from runner.cli.output import clean, fail, give_stdout_back, keep_stdout, lost_output, note
from runner.domain.errors import ConfigInvalid, RunnerError, UsageError
from runner.domain.moment import in_utc

if TYPE_CHECKING:
    from runner.app import App
    from runner.domain.desk import Desk
    from runner.settings import Settings

LAST_CALL = 5.0  # seconds
SERVER = "runner.server"  # where the options stand that name one
ORDER = ("init", "validate", "plan", "apply", "run-once", "serve", "enqueue", "status", "top", "jobs", "schedules",
         "reload", "keys", "config", "schema", "migrate", "doctor")  # fmt: skip


class _Commands(typer.core.TyperGroup):
    """The commands in the order in which a newcomer meets them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


cli = typer.Typer(
    name="runner",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A declarative workflow runner, configured by one YAML file.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"runner {runner.__version__}")
        raise typer.Exit


@cli.callback()
def options(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", metavar="FILE", help="The file to read.  [default: schedules.yaml]"),
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where jobs are kept: FILE, sqlite:///FILE, or postgresql://...  [default: runner.db beside -c]",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask the `runner serve` there instead of a database.  [env: RUNNER_SERVER]"),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="The key to show it. Others on this machine see it in `ps`: rather set RUNNER_TOKEN, or --token-file.",
        ),
    ] = None,
    token_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="A file that holds the key, or - for standard input.")
    ] = None,
    ca_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Trust these certificates (PEM), not the system's.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the key to another machine in clear text, over http://.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    from runner.cli.server import require_here

    ctx.obj = {"config": config, "database_url": database_url}
    asked = {"server": server, "token": token, "token_file": token_file, "ca_file": ca_file, "insecure": insecure}
    asked |= {"database_url": database_url}
    require_here(str(ctx.invoked_subcommand), asked, os.environ)
    ctx.meta[SERVER] = asked


def settings_of(ctx: typer.Context, **flags: Any) -> Settings:
    """The settings without the file's `runner:` block: enough for commands that do not run jobs."""
    from runner.settings import settings

    keep_stdout()
    return settings(ctx.obj | flags, os.environ)


def app_of(ctx: typer.Context, settings: Settings | None = None) -> App:
    from runner.app import App

    return App(settings or settings_of(ctx), os.environ)


def desk_of(ctx: typer.Context) -> Desk:
    """Where a command asks: the database of this process, or a server."""
    from runner.cli.server import desk_of_server, server_of

    keep_stdout()
    server = server_of(ctx.meta[SERVER], os.environ)
    if server is not None:
        return desk_of_server(server)
    from runner.cli.local import DatabaseDesk

    return DatabaseDesk(settings_of(ctx), os.environ)


def moment(text: str | None) -> datetime:
    """The time that `--now` gives: ISO 8601, UTC where it names no offset; the clock's where it is not given."""
    if text is None:
        return datetime.now(UTC)
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a time", "write 2026-03-29T06:00Z") from None
    return in_utc(given)


def length(option: str, text: str | None) -> timedelta | None:
    """The duration that an option gives."""
    from runner.domain.duration import DurationError, parse_duration

    if text is None:
        return None
    try:
        return parse_duration(text)
    except DurationError as error:
        raise UsageError(f"{option}: {error.message}", error.hint) from None


def load_commands() -> None:
    """Import the modules that register the commands."""
    from runner.cli import (  # noqa: F401
        admin,
        config,
        doctor,
        enqueue,
        follow,
        init,
        jobs,
        keys,
        reload,
        run_once,
        schedules,
        serve,
        status,
        top,
    )  # fmt: skip


def run() -> None:
    """Run the command; no traceback reaches a user for what a user can cause."""
    load_commands()
    _open_standard_streams()
    try:
        try:
            cli(prog_name="runner", standalone_mode=True)
        except ConfigInvalid as error:
            _problems(error)
            fail(error)
        except RunnerError as error:
            fail(error)
        except UnicodeEncodeError:
            if all(_is_text(argument) for argument in sys.argv):
                raise
            fail(UsageError("an argument is not UTF-8 text"))
    except typer.Exit as end:
        _leave(end.exit_code)
    except SystemExit as end:
        _leave(end.code if isinstance(end.code, int) else 0)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # a bug of ours: told in one sentence, exit 1, and by RUNNER_DEBUG whole
        if os.environ.get("RUNNER_DEBUG"):
            raise
        note(f"error: internal error: {type(error).__name__}: {clean(str(error))}")
        note("help: this is a bug of runner; RUNNER_DEBUG=1 shows the traceback to report")
        sys.exit(1)
    finally:
        give_stdout_back()


def _open_standard_streams() -> None:
    """Who closes one (`runner jobs list >&-`) does not want to read it."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _leave(code: int) -> NoReturn:
    """End; what could not be printed for want of space makes a good end a bad one."""
    if lost_output:
        note(f"error: the output could not be written: {lost_output[0].strerror}")
    code = code or int(bool(lost_output))
    _last_call(code)
    sys.exit(code)


def _last_call(code: int) -> None:
    """The interpreter waits for threads that are no daemons: one that a handler has left must not hold it for ever."""
    left = sum(not thread.daemon for thread in threading.enumerate()) - 1
    if left > 0:
        timer = threading.Timer(LAST_CALL, _end_without, (left, code))
        timer.daemon = True
        timer.start()


def _end_without(left: int, code: int) -> None:
    which = "a thread" if left == 1 else f"{left} threads"
    note(f"warning: {which} that handlers have started did not end; the process ends all the same")
    sys.stdout.flush()
    os._exit(code)


def _problems(error: ConfigInvalid) -> None:
    from runner.config.report import as_text

    source = Path(error.source)
    try:
        text = source.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    note(clean(as_text(error.problems, text, error.source)))
