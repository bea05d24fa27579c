"""Small projects for the tests of faults: a file, handlers that leave traces, and real `runner` processes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

import runner
from tests.contract.postgres import Server

if TYPE_CHECKING:
    from tests.faults.served import Served

DEADLINE = 60.0  # seconds: a test that waits longer has failed
ROOT = Path(__file__).parents[2]

HANDLERS = '''
import asyncio, json, os, sys, time
from pathlib import Path
from tests.waiting import eventually

FOLDER = Path(__file__).parents[1]
if os.environ.get("START_GATE"):  # several processes begin at the same moment
    (FOLDER / f"ready-{os.getpid()}").touch()
    while not (FOLDER / "go").exists():
        time.sleep(0.001)  # between two looks for a file of another process


def run_number(ctx):
    """Of this run, which a handler is not told: from what called it, here or in a process of its own."""
    run, frame = getattr(ctx._sink, "run", None), sys._getframe()
    while run is None:
        run, frame = frame.f_locals.get("run"), frame.f_back
    return run.run_number


def trace(ctx, word):
    """One line, whole or not at all, that survives the process."""
    line = {"kind": "effect", "job": ctx.job_id, "run": run_number(ctx), "attempt": ctx.attempt, "word": word}
    line |= {"pid": os.getpid(), "at": time.time()}
    descriptor = os.open(FOLDER / "traces/history.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (json.dumps(line) + "\\n").encode())
    os.close(descriptor)


def steps(ctx, payload):
    for number in range(payload.get("steps", 10)):
        ctx.progress(min(number, 100))
        yield 0.02


def plain(ctx, payload):
    trace(ctx, "begin")
    for pause in steps(ctx, payload):
        time.sleep(pause)  # work, in the middle of which the faults happen
    trace(ctx, "end")
    return {"attempt": ctx.attempt, "run": run_number(ctx)}


async def coroutine(ctx, payload):
    trace(ctx, "begin")
    for pause in steps(ctx, payload):
        await asyncio.sleep(pause)
    trace(ctx, "end")
    return {"attempt": ctx.attempt, "run": run_number(ctx)}


def quick(ctx, payload):
    """Where several processes begin together, it waits until all of them are at work."""
    trace(ctx, "begin")
    while os.environ.get("START_GATE") and not (FOLDER / "together").exists():
        time.sleep(0.005)  # between two looks for a file of another process
    trace(ctx, "end")
    return {"attempt": ctx.attempt, "run": run_number(ctx)}


def stuck(ctx, payload):
    """Looks, and goes on all the same, until the file `open` appears."""
    trace(ctx, "begin")
    was_told = False
    while not (FOLDER / "open").exists():
        if ctx.cancelled and not was_told:
            was_told = True
            trace(ctx, "told")
        time.sleep(0.005)
    trace(ctx, "end")
    return {"attempt": ctx.attempt, "run": run_number(ctx)}


def turn(ctx, payload):
    """Until the file `open-N` appears, N being its run number; never asks whether it should stop."""
    trace(ctx, "begin")
    while not (FOLDER / f"open-{run_number(ctx)}").exists():
        time.sleep(0.001)
    trace(ctx, "end")
    return {"attempt": ctx.attempt, "run": run_number(ctx)}
'''

FILE = """
version: 1
runner: {concurrency: 4}
defaults: {retry: {max_attempts: 50, delay: 0s}}
job_types:
  plain: {handler: handlers.traces.plain, max_stalls: 50}
  coroutine: {handler: handlers.traces.coroutine, max_stalls: 50}
  process: {handler: handlers.traces.plain, isolation: process, max_stalls: 50}
  quick: {handler: handlers.traces.quick, max_stalls: 50}
  stuck: {handler: handlers.traces.stuck, max_stalls: 50}
  turn: {handler: handlers.traces.turn, max_stalls: 50}
"""


@dataclass(frozen=True)
class Effect:
    """A line that a handler wrote."""

    job_id: int
    attempt: int
    word: str
    pid: int


@dataclass
class Project:
    """A folder with a file, a database and handlers, and the `runner` processes that were started in it."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    locks: list[subprocess.Popen[bytes]] = field(default_factory=list)  # programs that hold the database's lock

    at: Path | None = None  # where the database is, if not beside the file
    server: Server | None = None  # where it is on PostgreSQL

    @property
    def database(self) -> Path:
        return self.at or self.folder / "runner.db"

    @property
    def url(self) -> str:
        return self.server.url if self.server is not None else str(self.database)

    @property
    def environ(self) -> dict[str, str]:
        """What names the database to a command, where it is not beside the file."""
        return {"DATABASE_URL": self.url} if self.server is not None else {}

    @property
    def traces(self) -> Path:
        """Where the history and the logs are: not in the folder itself, which is watched."""
        return self.folder / "traces"

    def runner(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start a command; its output is kept for `end`."""
        clean = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "START_GATE")}
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", *arguments],
            cwd=self.folder,
            env=clean | {"PYTHONPATH": str(ROOT)} | self.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        """Wait for its end: code, stdout, stderr."""
        out, errors = process.communicate(timeout=DEADLINE)
        return process.returncode, out, errors

    def call(self, *arguments: str) -> tuple[int, str, str]:
        return self.end(self.runner(*arguments))

    def apply(self) -> None:
        code, out, errors = self.call("apply")
        assert code == 0, out + errors

    def enqueue(self, type_name: str, **payload: Any) -> int:
        return runner.enqueue(type_name, payload, database_url=self.url).id

    def note(self, kind: str, **values: Any) -> None:
        """Add a line to the history."""
        with open(self.traces / "history.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind} | values) + "\n")

    def effects(self) -> list[Effect]:
        try:
            lines = (self.traces / "history.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        found = [line for line in map(json.loads, lines) if line["kind"] == "effect"]
        return [Effect(line["job"], line["attempt"], line["word"], line["pid"]) for line in found]

    def count(self, word: str) -> int:
        return sum(effect.word == word for effect in self.effects())

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Values as SQLite has them: JSON and times are text."""
        if self.server is not None:
            with psycopg.connect(self.url, autocommit=True, options="-c timezone=UTC") as server:
                found = server.cursor(row_factory=dict_row).execute(query.encode()).fetchall()
                return [{name: _as_text(value) for name, value in row.items()} for row in found]
        connection = sqlite3.connect(self.database, timeout=30)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(query)]
        finally:
            connection.close()

    def jobs(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM background_jobs ORDER BY id")

    def attempts(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM job_attempts ORDER BY job_id, run_number")

    def kill_all(self) -> None:
        """Nothing that was started here outlives its test."""
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate()
        for one in self.served:
            one.kill()
        for lock in self.locks:
            lock.kill()
            lock.wait()
        if self.server is not None:
            self.server.remove()


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(" ", "microseconds")
    return json.dumps(value) if isinstance(value, dict | list) else value


def make_project(folder: Path, file: str = FILE) -> Project:
    (folder / "handlers").mkdir(parents=True)
    (folder / "traces").mkdir()
    (folder / "handlers/__init__.py").touch()
    (folder / "handlers/traces.py").write_text(HANDLERS)
    (folder / "schedules.yaml").write_text(file)
    return Project(folder)


def is_alive(pid: int) -> bool:
    """Whether that process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def check_history(project: Project) -> None:
    """Whatever happened: each job ended once, each run is told once, nothing is half written."""
    effects = project.effects()
    attempts = project.attempts()
    for job in project.jobs():
        mine = [row for row in attempts if row["job_id"] == job["id"]]
        assert job["status"] == "completed", job
        assert job["completed_at"] is not None
        assert job["claim_token"], "the run that ended the job is told by the job's own row"
        assert [row["run_number"] for row in mine] == list(range(1, job["run_number"])), "each earlier run is told once"
        assert len({row["claim_token"] for row in mine} | {job["claim_token"]}) == job["run_number"]
        assert {row["outcome"] for row in mine} <= {"stalled", "released"}, "only one run was settled as completed"
        assert job["stalls"] == sum(row["outcome"] == "stalled" for row in mine)
        assert job["attempt"] == 1 + job["stalls"]
        result = f'{{"attempt":{job["attempt"]},"run":{job["run_number"]}}}'
        assert job["result"] == result, "the result is the last run's"
        begun = [effect for effect in effects if effect.job_id == job["id"] and effect.word == "begin"]
        assert 1 <= len(begun) <= job["run_number"], "no run was started twice"
    assert project.rows("SELECT * FROM workers") == []
    assert project.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert list(project.folder.glob("*.lock")) == []
