"""Other processes on the same database. Each says `ready`, then answers every line on its input with a line."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from runner.domain.errors import RunnerError
from runner.domain.firing import Decision, fire
from runner.domain.job import NewJob
from runner.domain.lifecycle import settle
from runner.domain.outcome import Completed
from runner.domain.timing import timing
from runner.storage.claims import ClaimRequest, Lane
from runner.storage.database import Database
from runner.storage.serial import schedule_from
from runner.storage.settling import Settlement
from runner.storage.setup import prepare, version
from tests.factories import NOW, Stores, make_new_job

ROOT = Path(__file__).parents[2]
LONGEST = 120.0  # seconds until a process that does not answer is ended


class Other:
    """A process that can be asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, question: Any = None) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the other process ended: {self.process.wait(30)}"
        return json.loads(line)


@contextmanager
def others(what: str, url: str, count: int = 1) -> Iterator[list[Other]]:
    """That many processes doing the same, all of them ready."""
    command = [sys.executable, "-m", "tests.contract.processes", what, url]
    started = [
        Other(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        for _ in range(count)
    ]
    deadlines = [threading.Timer(LONGEST, other.process.kill) for other in started]
    try:
        for deadline in deadlines:
            deadline.start()
        for other in started:
            assert other.answer() == "ready"
        yield started
    finally:
        for deadline in deadlines:
            deadline.cancel()
        for other in started:
            with other.process as process:
                if process.stdin is not None:
                    process.stdin.close()


def claim_everything(database: Database, question: Any) -> Any:
    """Claim and settle until nothing is left, from the second question on; what was claimed, and what was lost."""
    stores, worker = Stores(database), str(question)
    claimed, lost = [], []
    request = ClaimRequest(worker, [Lane("default", "mail"), Lane("default", "sync", "api")], 7)
    runs = stores.claims.claim(request, NOW)
    print(json.dumps("began"), flush=True)
    sys.stdin.readline()
    while runs:
        claimed += [(run.id, run.run_number) for run in runs]
        batch = [Settlement(run, settle(run, Completed(), NOW, Random(0))) for run in runs]
        settled = stores.claims.settle(batch, NOW, request)
        lost += sorted(settled.lost)
        runs = settled.claimed
    return {"claimed": claimed, "lost": lost}


def job_of(name: str, decision: Decision) -> NewJob:
    return make_new_job(schedule_name=name, scheduled_for=decision.slot)


def fire_due(database: Database, question: Any) -> Any:
    """Fire what is due at that time; the slots that were ours."""
    stores, now = Stores(database), datetime.fromisoformat(question)
    ours: list[str] = []
    for name in stores.schedules.due(now):
        fired = stores.schedules.fire(
            name,
            now,
            lambda row, blockers: fire(
                schedule_from(row.spec), timing(schedule_from(row.spec)), row.cursor, now, blockers=blockers
            ),
            partial(job_of, name),
        )
        ours += [f"{name} {slot.slot.isoformat()}" for slot in fired.slots] if fired else []
    return ours


def set_up(database: Database, question: Any) -> Any:
    """Prepare the database of that URL, as every process does at its start."""
    database.close()
    asked = Database(question, busy_timeout=timedelta(seconds=60))
    try:
        prepare(asked)
        return version(asked)
    finally:
        asked.close()


def hold_the_lock(database: Database, question: Any) -> Any:
    """Hold the write lock from one question to the next."""
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM background_jobs")
        print(json.dumps("held"), flush=True)
        sys.stdin.readline()
        connection.rollback()
    return "released"


WHAT = {"claim": claim_everything, "fire": fire_due, "prepare": set_up, "lock": hold_the_lock}


def main(what: str, url: str) -> None:
    database = Database(url, busy_timeout=timedelta(seconds=60))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        try:
            answer = WHAT[what](database, json.loads(line))
        except RunnerError as error:
            answer = {"error": error.message}
        print(json.dumps(answer), flush=True)
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
