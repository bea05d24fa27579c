"""A real `runner serve`: how it is started, watched and harmed, and the history of what it did."""

from __future__ import annotations

import atexit
import json
import os
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tests.faults.checker import History, check
from tests.faults.projects import Project
from tests.faults.zygote import Zygote
from tests.waiting import eventually

ENDS = {  # what the log calls the end of a run
    "job completed": "completed",
    "job failed": "failed",
    "job cancelled": "cancelled",
    "job failed: it is tried again": "failed",
    "job stalled: it is tried again": "stalled",
    "job released": "released",
    "job snoozed": "snoozed",
}
REJECTED = "the run is no longer ours: nothing of its outcome was taken"
RESCUED = "a worker is gone: its jobs were rescued"
FAILED = "a duty failed: it is tried again until it succeeds"
RECOVERED = "a duty that failed succeeds again"
UNFIRED = "schedule could not be fired: its slot waits"


@cache
def zygote() -> Zygote:
    made = Zygote()
    atexit.register(made.close)
    return made


@dataclass(frozen=True)
class Served:
    """A process of `runner serve`, and its log."""

    project: Project
    pid: int
    log: Path
    parent: Zygote

    @property
    def code(self) -> int | None:
        return self.parent.code(self.pid)

    def harm(self, number: signal.Signals) -> None:
        """Send a signal and note it in the history."""
        assert self.code is None, f"it ended by itself, with {self.code}:\n{self.log.read_text()[-2000:]}"
        self.project.note("fault", fault=number.name, pid=self.pid, at=datetime.now(UTC).timestamp())
        os.kill(self.pid, number)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> int:
        """Wait for its end; its exit code."""
        eventually(lambda: self.code is not None, "the end of a serve")
        assert self.code is not None
        return self.code

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.end()

    def kill(self) -> None:
        if self.code is None:
            self.signal(signal.SIGKILL)
            self.end()

    def told(self, event: str | None = None) -> list[dict[str, Any]]:
        """The lines of its log, all or those of one event."""
        lines = lines_of(self.log)
        return lines if event is None else [line for line in lines if line["event"] == event]

    def await_told(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        def is_told() -> bool:
            assert self.code is None, f"it ended with {self.code}:\n{self.log.read_text()}"
            return len(self.told(event)) >= count

        eventually(is_told, f"{event!r} in {self.log}")
        return self.told(event)

    @property
    def worker_id(self) -> str:
        return str(self.await_told("serving")[0]["worker_id"])


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Whole lines of JSON; a process that was killed may have left half of one, and other lines are no JSON."""
    try:
        text = log.read_text()
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and "event" in value:
            found.append(value)
    return found


def serve(
    project: Project, *arguments: str, wait: bool = True, by: Zygote | None = None, **environ: str
) -> Served:  # fmt: skip
    """Start one, and wait until it serves. Each job has its line in the log."""
    number = len(list(project.traces.glob("serve-*.log"))) + 1
    log = project.traces / f"serve-{number}.log"
    log.touch()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RUNNER_", "DATABASE_URL"))}
    settings = {"RUNNER_LOG_LEVEL": "debug", "RUNNER_LOG_FORMAT": "json", "RUNNER_HTTP": "off"}
    parent = by or zygote()
    pid = parent.start(["serve", *arguments], project.folder, clean | settings | project.environ | environ, log)
    made = Served(project, pid, log, parent)
    project.served.append(made)
    if wait:
        made.await_told("serving")
    return made


def apply(project: Project) -> None:
    code, said = command(project, "apply")
    assert code == 0, said


def command(project: Project, *arguments: str, by: Zygote | None = None, **environ: str) -> tuple[int, str]:
    """Run another command to its end: exit code, and all that it said."""
    log = project.traces / "command.log"
    log.unlink(missing_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RUNNER_", "DATABASE_URL"))}
    parent = by or zygote()
    pid = parent.start(arguments, project.folder, clean | project.environ | environ, log)
    eventually(lambda: parent.code(pid) is not None, f"the end of runner {' '.join(arguments)}")
    return parent.code(pid) or 0, log.read_text()


# ---- the history


def history_of(project: Project) -> History:
    """What handlers, tests and workers have told, and the tables as they are; kept beside the database."""
    told = project.traces / "history.jsonl"
    lines = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
    for log in sorted(project.traces.glob("serve-*.log")):
        lines += [line for said in lines_of(log) if (line := _from_log(said)) is not None]
    lines += _tables(project)
    whole = project.traces / "whole-history.jsonl"
    whole.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return History(tuple(lines))


def _from_log(said: dict[str, Any]) -> dict[str, Any] | None:
    event = said["event"]
    run = {"job": said.get("job_id"), "run": said.get("run_number"), "worker": said.get("worker_id")}
    if event in ENDS:
        return {"kind": "told", "end": ENDS[event], **run}
    if event == REJECTED:
        return {"kind": "rejected", **run}
    if event == RESCUED:
        return {"kind": "rescued", "worker": said["dead_worker"], "jobs": said["job_ids"]}
    if event == FAILED:
        return {"kind": "failed", "loop": said["loop"], "error": said["error"]}
    if event == UNFIRED:
        return {"kind": "failed", "loop": "scheduler", "error": said["error"]}
    return None


def _tables(project: Project) -> list[dict[str, Any]]:
    jobs = [
        {
            "kind": "job", "job": row["id"], "status": row["status"], "run_number": row["run_number"],
            "attempt": row["attempt"], "stalls": row["stalls"], "token": row["claim_token"], "error": row["error"],
            "result_of": (json.loads(row["result"] or "null") or {}).get("run"), "schedule": row["schedule_name"],
            "slot": _maybe(row["scheduled_for"]), "started": _maybe(row["started_at"]),
            "ended": _maybe(row["completed_at"]),
        }
        for row in project.jobs()
    ]  # fmt: skip
    attempts = [
        {
            "kind": "attempt", "job": row["job_id"], "run": row["run_number"], "attempt": row["attempt"],
            "token": row["claim_token"], "outcome": row["outcome"], "started": _maybe(row["started_at"]),
            "ended": _maybe(row["finished_at"]),
        }
        for row in project.attempts()
    ]  # fmt: skip
    slots = [
        {
            "kind": "slot", "schedule": row["schedule_name"], "slot": _maybe(row["slot"]), "outcome": row["outcome"],
            "first": _maybe(row["first_slot"]), "job": row["job_id"] or 0,
        }
        for row in project.rows("SELECT * FROM schedule_slots")
    ]  # fmt: skip
    return [*jobs, *attempts, *slots]


def epoch(text: str) -> float:
    """The columns hold UTC without saying so."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _maybe(text: str | None) -> float | None:
    return None if text is None else epoch(text)


def check_whole(project: Project, *ends: str) -> History:
    """No rule is broken and the file of the database is sound; returns the history."""
    history = history_of(project)
    broken = check(history, ends or ("completed",))
    assert not broken, "\n".join([*map(str, broken[:20]), f"{len(broken)} in all; see {project.traces}"])
    assert project.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    return history
