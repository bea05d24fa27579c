"""The commands `jobs watch` and `jobs logs`: what a job says while others run it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.jobs import Id, jobs
from runner.cli.main import desk_of, length
from runner.cli.output import clean, is_heard, note, print_json, print_line, span, when
from runner.domain.plain import plain

if TYPE_CHECKING:
    from runner.domain.desk import Desk, Turn

TIMED_OUT = 124


class Stream(StrEnum):
    """How something that goes on is printed."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


Streamed = Annotated[
    Stream, typer.Option("-o", "--output", help="jsonl: a document a line as it comes; json: one at the end.")
]
Timeout = Annotated[str | None, typer.Option(metavar="DURATION", help="Stop waiting after this time; exit 124.")]


# ---- watch


@jobs.command(short_help="Show what a job does, until it ends.")
def watch(ctx: typer.Context, job_id: Id, timeout: Timeout = None, output: Streamed = Stream.TEXT) -> None:
    """Show what a job does, until it ends. Exit 0 if it completed, 1 if it failed or was cancelled."""
    limit = length("--timeout", timeout)
    with desk_of(ctx) as desk:
        watched = _Watched(desk, output)
        for turn in desk.follow(job_id, after=None, limit=limit):
            if watched.look(turn) or not is_heard():
                break
        else:
            raise _timed_out(job_id, timeout)
    raise typer.Exit(0 if watched.job["status"] == "completed" else 1)


def _timed_out(job_id: int, timeout: str | None) -> typer.Exit:
    note(f"error: job {job_id} had not ended after {timeout}; it goes on")
    return typer.Exit(TIMED_OUT)


@dataclass(slots=True)
class _Watched:
    """Says what is new since the last look."""

    desk: Desk
    output: Stream
    job: dict[str, Any] = field(default_factory=dict)
    _told: tuple[object, ...] = ()
    _runs: int | None = None  # the number of the last run whose end was told
    _obstacle: str | None = None

    def look(self, turn: Turn) -> bool:
        """Whether it has ended."""
        self.job, now = turn.job, turn.now
        job = self.job
        self._tell_ended_runs(job, now)
        if turn.is_last:
            self._tell_end(job)
            return True
        mark = (job["run_number"], job["display_state"], job["progress"], job["current_step"], job["message"])
        if mark != self._told:
            self._told = mark
            self._line(_progress_data(job, now), _progress(job, now))
        self._tell_obstacle(job, now)
        return False

    def _tell_ended_runs(self, job: dict[str, Any], now: datetime) -> None:
        """Attempts that failed, and more than one may have between two looks. Those of before are history."""
        ended = [one for one in job["attempts"] if one["outcome"] and one["run_number"] < _present_run(job)]
        if self._runs is not None:
            for one in (one for one in ended if one["run_number"] > self._runs):
                self._line(_ended_data(job, one), _ended(job, one))
        self._runs = max((one["run_number"] for one in ended), default=0)

    def _tell_end(self, job: dict[str, Any]) -> None:
        if self.output is Stream.JSON:
            print_json(job)
        else:
            self._line({"event": "ended", "format_version": 1} | job, _end(job))

    def _tell_obstacle(self, job: dict[str, Any], now: datetime) -> None:
        found = _obstacle(self.desk, job, now)
        if found is not None and found != self._obstacle:
            note(f"warning: {found}")
        self._obstacle = found

    def _line(self, data: dict[str, Any], text: str) -> None:
        if self.output is Stream.JSONL:
            print_line(json.dumps(data, ensure_ascii=False, default=plain))
        elif self.output is Stream.TEXT:
            print_line(text)


def _present_run(job: dict[str, Any]) -> int:
    """Runs below this one have ended before the job's own row tells of another, or waits for one."""
    return int(job["run_number"]) + (0 if job["started_at"] is not None else 1)


def _progress_data(job: dict[str, Any], now: datetime) -> dict[str, Any]:
    names = ("status", "display_state", "attempt", "max_attempts", "run_number", "worker_id", "run_at")
    said = {"percent": job["progress"], "step": job["current_step"], "message": job["message"]}
    return {"event": "progress", "at": now, "job_id": job["id"]} | said | {name: job[name] for name in names}


def _progress(job: dict[str, Any], now: datetime) -> str:
    state, run_at = job["display_state"], job["run_at"]
    if state in ("scheduled", "retrying") and run_at > now:
        return f"{when(now)} {state:10} to run in {span(run_at - now)}"
    tries = f" (attempt {job['attempt']} of {job['max_attempts']})" if job["attempt"] > 1 else ""
    if job["status"] != "running":
        return f"{when(now)} {state:10}{tries}".rstrip()
    said = ": ".join(clean(text) for text in (job["current_step"], job["message"]) if text)
    return f"{when(now)} {state:10} {job['progress']:3.0f} %  {said}{tries}".rstrip()


def _ended_data(job: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    return {"event": "settled", "at": run["finished_at"], "job_id": job["id"]} | run


def _ended(job: dict[str, Any], run: dict[str, Any]) -> str:
    error = (run["error"] or "").split("\n", 1)[0]
    return f"{when(run['finished_at'])} {run['outcome']:10} attempt {run['attempt']}{': ' * bool(error)}{clean(error)}"


def _end(job: dict[str, Any]) -> str:
    took = f"after {span(job['completed_at'] - job['started_at'])}" if job["started_at"] else "before it ran"
    if job["status"] == "completed":
        said = "" if job["result"] is None else f": {json.dumps(job['result'], ensure_ascii=False)}"
    else:
        said = f": {job['error']}".split("\n", 1)[0] if job["error"] else ""
    return f"{when(job['completed_at'])} {job['status']:10} {took}{clean(said)}"


def _obstacle(desk: Desk, job: dict[str, Any], now: datetime) -> str | None:
    """Why it may be waited for in vain."""
    workers = desk.workers()
    if job["status"] == "running":
        dead = [one for one in workers if one.status.id == job["worker_id"] and one.life == "gone"]
        return "its worker is gone; the next serve or run-once makes good what it left" if dead else None
    if job["run_at"] > now or any(worker.takes(job["queue"]) for worker in workers):
        return None
    return f"no live worker takes queue {clean(job['queue'])}: runner serve, or runner run-once"


# ---- logs


@jobs.command()
def logs(
    ctx: typer.Context,
    job_id: Id,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the job has ended.")] = False,
    after: Annotated[
        int, typer.Option("--after", "--since-id", metavar="ID", min=0, help="Only lines with an id above this.")
    ] = 0,
    timeout: Timeout = None,
    output: Streamed = Stream.TEXT,
) -> None:
    """Print the log of a job. With --follow, its new lines too as they come, and at the end how the job ended."""
    from runner.domain.errors import UsageError

    if follow and output is Stream.JSON:
        raise UsageError("a log that goes on is no one document", "write -o jsonl: each line is one")
    limit = length("--timeout", timeout)
    with desk_of(ctx) as desk:
        log = _Log(job_id, output, after)
        if follow:
            _follow(desk, log, limit, timeout)
        else:
            log.print_all(desk)


@dataclass(slots=True)
class _Log:
    job_id: int
    output: Stream
    after: int  # the id of the last line that was printed

    def print_all(self, desk: Desk) -> None:
        lines = desk.lines(self.job_id, after=self.after)
        if self.output is Stream.JSON:
            print_json({"lines": list(lines)})
        elif not self.print_new(lines):
            note(f"job {self.job_id} has no log lines")

    def print_new(self, lines: Iterable[dict[str, Any]]) -> int:
        """How many lines there were."""
        number = 0
        for line in lines:
            number += 1
            self.after = line["id"]
            if self.output is Stream.JSONL:
                print_line(json.dumps(line, ensure_ascii=False, default=plain))
            else:
                print_line(f"{when(line['at'])} {line['level']:7} {clean(line['message'])}")
        return number


def _follow(desk: Desk, log: _Log, limit: timedelta | None, given: str | None) -> None:
    try:
        for turn in desk.follow(log.job_id, after=log.after, limit=limit):
            log.print_new(turn.lines)
            if turn.is_last:
                error = f": {clean(turn.job['error'].splitlines()[0])}" if turn.job["error"] else ""
                note(f"job {log.job_id} {turn.job['status']}{error}")
                return
            if not is_heard():
                return
    except KeyboardInterrupt:
        note(f"to go on: runner jobs logs {log.job_id} --follow --after {log.after}")
        raise
    raise _timed_out(log.job_id, given)
