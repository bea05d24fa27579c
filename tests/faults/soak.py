"""Long runs under faults: workers are killed, stopped, or locked out while ten thousand jobs run.

`make soak`, or `python -m tests.faults.soak --jobs 10000 --seed 7 kill stop lock`. In `--postgresql --jobs 20000 crash`
workers are killed at random, and the server ten times. Each form prints what it did, and fails where a rule is broken,
or where its faults did not happen. A short form is one of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.contract.postgres import Server
from tests.faults.checker import Broken, History, check
from tests.faults.interrupted import statements, terminate, told
from tests.faults.projects import HANDLERS, Project, make_project
from tests.faults.proxy import Proxy
from tests.faults.served import Served, command, history_of, serve

STALLED_AFTER = 3.0  # seconds, in all forms but `lock`
LONGEST = 600.0  # seconds: a form that takes longer hangs
LONGEST_PER_JOB = 0.06  # seconds, where there are more than ten thousand
BULK = 500
FEW = 10  # jobs, of which some are longer than two stops are apart: they must be let end
LOCKED = 10.0  # seconds
RESTARTS = 10  # of the server, in the form `crash`, over the first two thirds of the jobs
LOCKED_OUT, TRIES = 7, 10  # the exit code of a command that could not write, and how often it is called again

FILE = """
version: 1
runner: {concurrency: 4}
defaults: {retry: {max_attempts: 100, delay: 0s}}
job_types:
  thread: {handler: handlers.soak.thread, max_stalls: 100}
  coroutine: {handler: handlers.soak.coroutine, max_stalls: 100}
schedules:
  second: {job: thread, every: 1s, overlap: allow, catch_up: all, payload: {seconds: 0.01}}
"""

SOAK = """

def thread(ctx, payload):
    trace(ctx, "begin")
    time.sleep(payload["seconds"])
    trace(ctx, "end")
    return {"run": run_number(ctx)}


async def coroutine(ctx, payload):
    trace(ctx, "begin")
    await asyncio.sleep(payload["seconds"])
    trace(ctx, "end")
    return {"run": run_number(ctx)}
"""

ENDED = "SELECT count(*) AS count FROM background_jobs WHERE completed_at IS NOT NULL AND schedule_name IS NULL"
UNFINISHED = "SELECT count(*) AS count FROM background_jobs WHERE completed_at IS NULL AND schedule_name IS NULL"
AT_WORK = """
SELECT DISTINCT workers.pid FROM workers JOIN background_jobs AS jobs ON jobs.worker_id = workers.id
WHERE jobs.status = 'running'
"""
OF_WORKERS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'runner%'"
HOLD_THE_LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("COMMIT")
"""


@dataclass
class Soak:
    """One form: a project, its workers, and a fault that is done to them until no job is left."""

    project: Project
    rng: random.Random
    jobs: int
    workers: int
    every: float
    longest: float  # seconds that a job takes
    environ: dict[str, str]
    live: list[Served] = field(default_factory=list)
    stopped: list[tuple[threading.Timer, Served]] = field(default_factory=list)
    networks: list[tuple[Served, Proxy]] = field(default_factory=list)  # one for each worker, where the fault is theirs
    mending: list[threading.Timer] = field(default_factory=list)
    has_networks: bool = False
    restarts: int = 0

    def run(self, fault: Callable[[Soak], None]) -> History:
        longest = max(LONGEST, LONGEST_PER_JOB * self.jobs)
        deadline = time.monotonic() + longest
        self.live = [self._serve() for _ in range(self.workers)]
        fault_at = time.monotonic() + min(self.every, 1.0)
        with ThreadPoolExecutor(1, "enqueue") as producer:
            enqueued = producer.submit(self._enqueue, random.Random(self.rng.random()))
            while not enqueued.done() or self._unfinished():
                assert time.monotonic() < deadline, f"not done after {longest:g} s; see {self.project.traces}"
                if time.monotonic() >= fault_at:
                    fault(self)
                    fault_at = max(fault_at + self.every, time.monotonic())
                time.sleep(max(min(fault_at - time.monotonic(), 0.05), 0))
            enqueued.result()
        for timer in (*self.mending, *(timer for timer, _ in self.stopped)):
            timer.join()
        for one in self.live:
            one.await_told("serving")  # who was started a moment ago may not hear a signal yet
        codes = [one.stop() for one in self.live]
        assert codes == [0] * self.workers, f"exit codes {codes}; see {self.project.traces}"
        return history_of(self.project)

    # ---- faults

    def kill(self) -> None:
        """kill -9 of one worker, whatever it is doing, and another in its place at once."""
        victim = self.live.pop(self.rng.randrange(len(self.live)))
        victim.harm(signal.SIGKILL)
        self.live.append(self._serve())

    def stop(self) -> None:
        """SIGSTOP of one that is at work, up to half of them at a time, for longer than the others wait for it."""
        held = [served.pid for timer, served in self.stopped if timer.is_alive()]
        at_work = {row["pid"] for row in self.project.rows(AT_WORK)}
        free = [one for one in self.live if one.pid in at_work and one.pid not in held]
        if free and len(held) < self.workers / 2 and self._unfinished() > FEW:
            victim = self.rng.choice(free)
            victim.harm(signal.SIGSTOP)
            # By a thread of its own: who waits for the lock that it holds must not be who lets it go on.
            timer = threading.Timer(STALLED_AFTER * self.rng.uniform(1.8, 2.4), victim.harm, [signal.SIGCONT])
            timer.start()
            self.stopped.append((timer, victim))

    def lock(self) -> None:
        """Another program holds the write lock of the database for ten seconds."""
        if self.project.locks and self.project.locks[-1].poll() is None:
            return
        script = [sys.executable, "-c", HOLD_THE_LOCK, str(self.project.database), str(LOCKED)]
        self.project.locks.append(subprocess.Popen(script, stdout=subprocess.DEVNULL))
        self.project.note("fault", fault="lock", at=time.time())

    def restart(self) -> None:
        """The server of the database is ended as by a crash, and started again."""
        assert self.project.server is not None
        self.project.note("fault", fault="restart", interrupted=statements(self.project), at=time.time())
        self.project.server.down()
        time.sleep(self.rng.uniform(0.0, 0.5))  # as long as nobody answers
        self.project.server.up()
        self.restarts += 1

    def crash(self) -> None:
        """kill -9 of one worker; of the server, each time that a fifteenth of the jobs has ended."""
        is_due = self._count(ENDED) >= self.jobs * self.restarts / (1.5 * RESTARTS)
        if is_due and self.restarts < RESTARTS:
            self.restart()
        else:
            self.kill()

    def terminate(self) -> None:
        """The server ends some of the connections of the workers."""
        with suppress(psycopg.Error):
            for row in self.project.rows(OF_WORKERS):
                if self.rng.random() < 0.5:
                    interrupted = terminate(self.project, row["pid"])
                    self.project.note("fault", fault="terminate", interrupted=interrupted, at=time.time())

    def drop(self) -> None:
        """All connections of one worker are reset by the network."""
        interrupted = statements(self.project)
        dropped = self.rng.choice(self.networks)[1].drop()
        if dropped:
            self.project.note(
                "fault", fault="drop", connections=dropped, interrupted=interrupted, at=time.time()
            )  # fmt: skip

    def cut(self) -> None:
        """No byte comes from one worker or to it for a while, sometimes for longer than the others wait for it."""
        served, network = self.rng.choice(self.networks)
        interrupted = statements(self.project)
        network.cut()
        self.project.note("fault", fault="cut", pid=served.pid, interrupted=interrupted, at=time.time())
        self._later(STALLED_AFTER * self.rng.uniform(0.3, 3.0), network.mend)

    def readonly(self) -> None:
        """The server takes no writes for a moment, as one that has become a standby."""
        self.project.note("fault", fault="readonly", interrupted=statements(self.project), at=time.time())
        self._set_read_only("on")
        self._later(self.rng.uniform(0.2, 1.0), lambda: self._set_read_only("off"))

    def _set_read_only(self, value: str) -> None:
        with psycopg.connect(self.project.url, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}".encode())
            connection.execute("SELECT pg_reload_conf()")

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.mending.append(threading.Timer(seconds, call))
        self.mending[-1].start()

    # ---- load

    def _serve(self) -> Served:
        if not self.has_networks or self.project.server is None:
            return serve(self.project, wait=False, **self.environ)
        network = Proxy(self.project.server.folder / ".s.PGSQL.5432")
        served = serve(self.project, wait=False, DATABASE_URL=network.url(), **self.environ)
        self.networks.append((served, network))
        return served

    def _enqueue(self, rng: random.Random) -> None:
        """While the workers are at it, and the faults come; noted once it is acknowledged."""
        left = self.jobs
        while left:
            count = min(BULK, left)
            file = self.project.traces / "bulk.jsonl"
            file.write_text("".join(json.dumps(self._job(rng)) + "\n" for _ in range(count)))
            said = self._enqueued(file)
            for job in json.loads(said)["jobs"]:
                self.project.note("enqueued", job=job["id"])
            left -= count

    def _enqueued(self, file: Path) -> str:
        """Until it is acknowledged: a worker that is stopped may hold the write lock, and one more after it."""
        for _ in range(TRIES):
            code, said = command(self.project, "enqueue", "--bulk", str(file), "-o", "json")
            if code != LOCKED_OUT:
                break
        assert code == 0, said
        return said

    def _job(self, rng: random.Random) -> dict[str, object]:
        kind = rng.choice(["thread", "thread", "coroutine"])
        seconds = self.longest if rng.random() < 0.002 else rng.uniform(0.001, 0.08)
        return {"type": kind, "payload": {"seconds": round(seconds, 4)}, "priority": rng.randint(1, 10)}

    def _unfinished(self) -> int:
        return self._count(UNFINISHED)

    def _count(self, statement: str) -> int:
        try:
            return int(self.project.rows(statement)[0]["count"])
        except psycopg.OperationalError:
            return 1  # the server is not there


FORMS: dict[str, Callable[[Soak], None]] = {
    "kill": Soak.kill, "stop": Soak.stop, "lock": Soak.lock, "restart": Soak.restart, "terminate": Soak.terminate,
    "drop": Soak.drop, "cut": Soak.cut, "readonly": Soak.readonly, "crash": Soak.crash,
}  # fmt: skip
OF_THE_NETWORK = ("drop", "cut")
OF_THE_SERVER = ("restart", "terminate", "readonly", "crash", *OF_THE_NETWORK)  # on PostgreSQL alone
EVERY = {"kill": 0.2, "stop": 1.0, "lock": 20.0, "restart": 3.0, "terminate": 0.3, "drop": 0.2, "cut": 2.0,
         "readonly": 3.0, "crash": 0.5}  # fmt: skip
FAULTS = {"kill": ("SIGKILL",), "stop": ("SIGSTOP",), "crash": ("SIGKILL", "restart")}  # of the others: as the form
LONGEST_JOB = {
    "kill": 0.4,
    "stop": 1.5 * STALLED_AFTER,
    "lock": 1.0,
    "restart": 1.0,
    "terminate": 0.4,
    "drop": 0.4,
    "cut": 1.0,
    "readonly": 1.0,
    "crash": 0.4,
}  # a worker lives for 0.8 s where they are killed
QUICK_BEATS = {"RUNNER_STALLED_AFTER": f"{STALLED_AFTER:g}s", "RUNNER_HEARTBEAT": "1s"}


@dataclass(frozen=True)
class Report:
    """What came of one form."""

    form: str
    seed: int
    seconds: float
    history: History
    broken: list[Broken]
    folder: Path

    def problems(self) -> list[str]:
        """Broken rules, and faults that did not happen."""
        found = [str(one) for one in self.broken[:20]]
        if len(self.broken) > 20:
            found.append(f"and {len(self.broken) - 20} more")
        for name, count in self.injected().items():
            if count == 0:
                found.append(f"no {name}: this run has shown nothing")
        if self.form == "crash" and self.injected()["restart"] < RESTARTS:
            found.append(f"fewer than {RESTARTS} restarts of the server")
        failed = {f"a duty failed: {line['loop']}: {line['error']}" for line in self.history.of("failed")}
        known = "the database" if self.form in OF_THE_SERVER else {"stop": "is locked by another"}.get(self.form)
        return found + sorted(one for one in failed if known is None or known not in one)

    def injected(self) -> dict[str, int]:
        counts = {fault: len(self.history.faults(fault)) for fault in FAULTS.get(self.form, (self.form,))}
        if self.form in OF_THE_SERVER and self.form != "cut":
            counts["failed duties"] = len(self.history.of("failed"))
        if self.form in ("kill", "stop", "cut", "crash"):
            counts["rescues"] = sum(bool(line["jobs"]) for line in self.history.of("rescued"))
        if self.form == "stop":
            counts["stale writes rejected"] = len(self.history.of("rejected"))
        return counts

    def __str__(self) -> str:
        jobs, broken = self.history.of("job"), [one.rule for one in self.broken]
        runs = sum(row["run_number"] for row in jobs)
        ends = [row["outcome"] for row in self.history.of("attempt")]
        counts = self.injected() | {
            "runs stalled": ends.count("stalled"),
            "released": ends.count("released"),
            "stale writes rejected": len(self.history.of("rejected")),
            "failed duties": len(self.history.of("failed")),
            "commits in doubt": sum("as it was to commit" in line["error"] for line in self.history.of("failed")),
        }
        running = sum(row["status"] == "running" for row in jobs)
        acknowledged, slots = len(self.history.of("enqueued")), len(self.history.of("slot"))
        first = f"{self.form}: seed {self.seed}, {self.seconds:.0f} s, {acknowledged:,} jobs and {slots:,} slots"
        second = f"{runs:,} runs, " + ", ".join(f"{count:,} {name}" for name, count in counts.items())
        lost, twice = broken.count("lost"), broken.count("settled twice")
        third = f"  {lost} lost, {twice} settled twice, {running} left running"
        return "\n".join(filter(None, (first, f"  {second}", told(self.history), third)))


def soak(
    form: str, folder: Path, *, seed: int, jobs: int, workers: int = 4, every: float | None = None,
    on_postgresql: bool = False,
) -> Report:  # fmt: skip
    """Run one form in that folder, which must be new."""
    project = make_project(folder, FILE)
    if on_postgresql:
        project.server = Server.start(Path(tempfile.mkdtemp(prefix="soak-pg-")), "fsync=on")
    (folder / "handlers/soak.py").write_text(HANDLERS + SOAK)
    project.note("schedule", name="second", every=1)
    environ = {} if form == "lock" else QUICK_BEATS
    code, said = command(project, "apply")
    assert code == 0, said
    began = time.monotonic()
    run = Soak(project, random.Random(seed), jobs, workers, every or EVERY[form], LONGEST_JOB[form], environ,
               has_networks=form in OF_THE_NETWORK)  # fmt: skip
    try:
        history = run.run(FORMS[form])
        broken = [*check(history, ("completed", "pending")), *_left(project)]
    finally:
        project.kill_all()
        for _, network in run.networks:
            network.close()
    return Report(form, seed, time.monotonic() - began, history, broken, folder)


def _left(project: Project) -> Iterator[Broken]:
    """What a check of the tables does not see. Only a tick of the schedule may be pending: it fires until the end."""
    for row in project.rows("SELECT id FROM background_jobs WHERE status = 'pending' AND schedule_name IS NULL"):
        yield Broken("unfinished", f"job {row['id']} is pending")
    if project.server is not None:
        return
    for row in project.rows("PRAGMA integrity_check"):
        if row["integrity_check"] != "ok":
            yield Broken("integrity", str(row["integrity_check"]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("forms", nargs="*", help=f"{', '.join(FORMS)}; default: all that the database knows")
    parser.add_argument("--postgresql", action="store_true", help="on a server of its own, not on a file")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("RUNNER_SEED") or random.randrange(10**6)))
    parser.add_argument("--jobs", type=int, default=int(os.environ.get("SOAK_JOBS") or 10_000))
    parser.add_argument("--workers", type=int, default=int(os.environ.get("SOAK_WORKERS") or 4))
    parser.add_argument("--keep", action="store_true", help="keep database, logs and history")
    asked = parser.parse_args()
    print(f"RUNNER_SEED={asked.seed}", flush=True)
    failed = False
    every = [form for form in FORMS if (form != "lock" if asked.postgresql else form not in OF_THE_SERVER)]
    for form in asked.forms or every:
        folder = Path(tempfile.mkdtemp(prefix=f"soak-{form}-")) / "project"
        report = soak(form, folder, seed=asked.seed, jobs=asked.jobs, workers=asked.workers,
                      on_postgresql=asked.postgresql)  # fmt: skip
        print(report, flush=True)
        problems = report.problems()
        for problem in problems:
            print(f"  PROBLEM {problem}")
        failed |= bool(problems)
        if problems or asked.keep:
            print(f"  its history: {folder}/traces/whole-history.jsonl")
        else:
            shutil.rmtree(folder.parent)
    return int(failed)


if __name__ == "__main__":
    from runner.cli import use_current_sqlite

    use_current_sqlite()
    sys.exit(main())
