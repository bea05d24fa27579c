"""The options that name a server, and the desk of that server; what works here alone says so."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cli.output import note
from runner.domain.errors import UsageError

if TYPE_CHECKING:
    from runner.domain.desk import Desk
    from runner.settings import ServerSettings

ASKING = frozenset({"enqueue", "jobs", "plan", "reload", "schedules", "status", "top"})  # whoever answers
WRITING = frozenset({"apply", "keys", "migrate", "run-once"})  # these change a database of this machine


def server_of(flags: Mapping[str, Any], environ: Mapping[str, str]) -> ServerSettings | None:
    """The server that is to be asked; None: the database. A database that an option names wins over a variable."""
    from runner.settings import server_settings

    if flags["server"] and flags["database_url"]:
        raise UsageError("give --server or --database-url, not both")
    found = None if flags["database_url"] else server_settings(flags, environ)
    given = next((name for name in KEYS if flags[name]), None)
    if found is None and given is not None:
        raise UsageError(f"--{given.replace('_', '-')} is for a server, and none is named", "--server URL")
    return found


def require_here(command: str, flags: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """A command that works on this machine is not given a server. One that a variable names may stand, unless it would
    be taken for the database that is written."""
    if command in ASKING:
        return
    if flags["server"]:
        raise UsageError(f"{command} works on the machine where it is typed, not on a server", _remedy(command))
    is_named = flags["server"] is not None or flags["database_url"] is not None
    if command in WRITING and not is_named and environ.get("RUNNER_SERVER"):
        raise UsageError(
            f"{command} changes the database of this machine, and RUNNER_SERVER names a server",
            f"if this machine is meant: runner --server '' {command}; else {_remedy(command)}",
        )


KEYS = ("token", "token_file", "ca_file", "insecure")  # options that say nothing without a server
REMEDIES = {
    "apply": "put the file there, then: runner --server URL reload",
    "doctor": "runner --server URL status",
    "run-once": "runner --server URL schedules trigger NAME",
    "validate": "runner --server URL plan",
}


def _remedy(command: str) -> str:
    return REMEDIES.get(command, "type it on that machine")


def desk_of_server(found: ServerSettings) -> Desk:
    from runner.client.address import address
    from runner.client.desk import ServerDesk
    from runner.client.wire import Wire

    token = found.token if found.token_file is None or found.token is not None else _read(found.token_file)
    where = address(found.server, token or None, insecure=found.insecure)
    return ServerDesk(Wire(where, ca_file=found.ca_file, timeout=found.server_timeout, tell=note))


def _read(path: str) -> str:
    """The key, without the line end that editors leave."""
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        text = raw.decode().strip()
    except UnicodeDecodeError:
        raise UsageError(f"--token-file {path} is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--token-file {path} cannot be read: {said}") from None
    if not text:
        raise UsageError(f"--token-file {path} holds no key", "runner keys create shows one")
    return text
