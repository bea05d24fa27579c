"""The command `enqueue`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.main import cli, desk_of, length, moment
from runner.cli.output import Format, counted, note, print_json, print_line
from runner.domain.errors import BulkRefused, PayloadInvalid, RunnerError, UsageError

if TYPE_CHECKING:
    from runner.domain.desk import Desk, Wanted
    from runner.domain.job import Enqueued

BULK_KEYS = {"type", "payload", "priority", "run_at", "delay", "project_id"}
BULK_EXAMPLES = {"run_at": '"2026-03-29T06:00Z"', "delay": '"10m"', "project_id": '"42"'}


@cli.command()
def enqueue(
    ctx: typer.Context,
    type_name: Annotated[str | None, typer.Argument(metavar="TYPE", help="A job type.", show_default=False)] = None,
    payload: Annotated[str, typer.Option(metavar="JSON", help="JSON, @FILE, or - for standard input.")] = "{}",
    priority: Annotated[
        str | None, typer.Option(metavar="P", help="high, normal, low, or 1 (first) to 10 (last).")
    ] = None,
    at: Annotated[str | None, typer.Option("--at", "--run-at", metavar="TIME", help="Not before this time.")] = None,
    delay: Annotated[
        str | None, typer.Option("--in", "--delay", metavar="DURATION", help="Not before so long from now: 10m.")
    ] = None,
    project_id: Annotated[
        str | None, typer.Option("--project", "--project-id", metavar="ID", help="Whose job it is.")
    ] = None,
    bulk: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON Lines of {type, payload, ...}, or -: all or nothing.")
    ] = None,
    output: Annotated[Format, typer.Option("-o", "--output", help="json: one document, for programs.")] = Format.TEXT,
) -> None:
    """Enqueue a job. Its policy is that of the revision in force in the database."""
    if (type_name is None) == (bulk is None):
        raise UsageError("give a job type, or --bulk FILE", "runner enqueue TYPE --payload '{}'")
    said = {"priority": priority, "run_at": at, "delay": delay, "project_id": project_id}
    if bulk is not None and (payload != "{}" or any(value is not None for value in said.values())):
        raise UsageError("with --bulk each line says its own payload, priority, run_at, delay and project_id")
    with desk_of(ctx) as desk:
        if bulk is not None:
            _bulk(desk, bulk, output)
        else:
            wanted = _wanted(str(type_name), _payload(payload), said)
            _say(desk.enqueue(wanted), wanted.type, output)


def _say(enqueued: Enqueued, type_name: str, output: Format) -> None:
    if output is Format.JSON:
        print_json({"id": enqueued.id, "status": enqueued.status, "duplicate": enqueued.duplicate})
    elif enqueued.duplicate:
        print_line(f"job {enqueued.id} is there already ({type_name}, {enqueued.status}); nothing was enqueued")
    else:
        print_line(f"job {enqueued.id} ({type_name})")


def _payload(text: str) -> Any:
    if text == "-" or text.startswith("@"):
        text = _read(text.removeprefix("@"))
    return _json(text, "the payload")


def _read(path: str) -> str:
    """The text of a file, or of standard input."""
    try:
        return sys.stdin.buffer.read().decode() if path == "-" else Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{_named(path)} is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{_named(path)} cannot be read: {said}") from None


def _named(path: str) -> str:
    return "standard input" if path == "-" else path or "the file after @"


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise PayloadInvalid(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise PayloadInvalid(f"{what} is not JSON: {error}", hint="""--payload '{"key": "value"}'""") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _wanted(type_name: str, payload: Any, said: dict[str, Any]) -> Wanted:
    from runner.domain.desk import Wanted
    from runner.telemetry.traceparent import ambient

    run_at = moment(said["run_at"]) if said.get("run_at") is not None else None
    delay = length("delay", said.get("delay"))
    if delay is not None and run_at is not None:
        raise UsageError("give a time or a delay, not both")
    return Wanted(
        type_name, payload, said.get("priority"), run_at, delay, said.get("project_id"), ambient(os.environ)
    )  # fmt: skip


def _bulk(desk: Desk, path: Path, output: Format) -> None:
    """All lines are checked before the first is written; one transaction takes them all."""
    numbers, jobs = [], []
    for number, line in _lines(path):
        try:
            entry = _json(line, f"line {number}")
            _check_entry(entry)
            jobs.append(_wanted(entry["type"], entry.get("payload", {}), entry))
        except RunnerError as error:
            raise _in_line(path, number, error) from None
        numbers.append(number)
    try:
        made = desk.enqueue_many(jobs)
    except BulkRefused as refused:
        raise _in_line(path, numbers[refused.index], refused.error) from None
    if output is Format.JSON:
        print_json({"jobs": [{"id": one.id, "status": one.status, "duplicate": one.duplicate} for one in made]})
        return
    duplicates = sum(one.duplicate for one in made)
    print_line(
        counted(len(made) - duplicates, "job") + " enqueued" + (f", {duplicates} there already" if duplicates else "")
    )
    if not made:
        note(f"{path} holds no lines")


def _in_line(path: Path, number: int, error: RunnerError) -> RunnerError:
    return type(error)(f"{path}, line {number}: {error.message}; nothing was enqueued", hint=error.hint)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_read(str(path)).split("\n"), 1):  # not splitlines(): JSON text may hold U+2028
        if line.strip():
            yield number, line


def _check_entry(entry: Any) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise PayloadInvalid("not an object with a type", hint='{"type": "cache_cleanup", "payload": {}}')
    unknown = sorted(set(entry) - BULK_KEYS)
    if unknown:
        raise PayloadInvalid(f"unknown key {unknown[0]!r}", hint=f"known: {', '.join(sorted(BULK_KEYS))}")
    for key in ("run_at", "delay", "project_id"):
        if not isinstance(entry.get(key), str | None):
            raise PayloadInvalid(f"{key} must be text", hint=BULK_EXAMPLES[key])
    if not isinstance(entry.get("priority"), str | int | None) or isinstance(entry.get("priority"), bool):
        raise PayloadInvalid("no such priority", hint="high, normal, low, or 1 (first) to 10 (last)")
