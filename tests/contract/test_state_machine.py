"""Random roads of jobs on the real store, compared after every step with a model that is plain enough to be right.

`RUNNER_TEST_PROFILE=long` walks 50,000 steps instead of 5,000. Seeds are fixed: a failure comes again.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, insert, select

from runner.domain.errors import Conflict, DatabaseUnavailable, NotFound
from runner.domain.job import JobPolicy, NewJob, Run, UniqueKey
from runner.domain.job_rows import Job, JobAttempt, JobLog
from runner.domain.lifecycle import settle
from runner.domain.outcome import Cancelled, Completed, Failed, Outcome, Released, Snoozed, Stalled
from runner.domain.retry import RetryPolicy
from runner.domain.revision import Limit
from runner.domain.rows import Row
from runner.domain.said import LogLine, Progress, Writes
from runner.domain.worker import WorkerStatus
from runner.storage.claims import ClaimRequest, Lane
from runner.storage.database import Database
from runner.storage.settling import Settlement
from tests.contract.databases import broken_off
from tests.contract.job_model import COMPARED, FINISHED, LIMITS, Model, ModelJob, of_worker
from tests.factories import NOW, SECOND, Stores, make_worker

Answer = TypeVar("Answer")
LONG = os.environ.get("RUNNER_TEST_PROFILE") == "long"
STEPS = 50_000 if LONG else 5_000
STEPS_OF_A_WALK = 80

JOBS, ATTEMPTS, LOGS, WORKERS = (
    Row.metadata.tables[str(row.__tablename__)] for row in (Job, JobAttempt, JobLog, WorkerStatus)
)
_ROWS = select(*(JOBS.c[name] for name in COMPARED)).order_by(JOBS.c.id)
_ATTEMPTS = select(ATTEMPTS)
_LINES = select(LOGS.c.job_id, LOGS.c.run_number, LOGS.c.message).order_by(LOGS.c.id)
_WORKERS = select(WORKERS.c.id)

KINDS = (("a", "default"), ("a", "default"), ("b", "default"), ("c", "default"), ("a", "slow"), ("unknown", "default"))
LANES = (Lane("default", "a"), Lane("default", "b", "one"), Lane("default", "c", "two"), Lane("slow", "a"))
POLICIES = (
    JobPolicy(retry=RetryPolicy(3)),
    JobPolicy(retry=RetryPolicy(2), on_stall="fail"),
    JobPolicy(retry=RetryPolicy(6), max_stalls=2),
    JobPolicy(retry=RetryPolicy(1)),
)
KEYS = (None, None, None, ("k", "started", None), ("k", "finished", None), ("k", "finished", 60), ("l", "started", 5))
SCHEDULES = (None, None, "nightly", "hourly")
OUTCOMES: tuple[Outcome, ...] = (
    Completed("7"),
    Completed(),
    Failed("ValueError: x"),
    Failed("ValueError: y"),
    Failed("ValueError: z", for_good=True),
    Cancelled("by itself"),
    Snoozed(30 * SECOND),
    Released(),
    Stalled(),
)

DEEDS = {
    "enqueue": 8,
    "claim": 7,
    "say": 4,
    "end": 9,
    "rescue": 1,
    "promote": 1,
    "cancel": 4,
    "retry": 4,
    "prune": 2,
    "time_passes": 5,
    "ask_for_what_is_not_there": 1,
}
FAULTS = (0, 1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 60, 80)  # tens of steps of SQLite's machine


class JobMachine(RuleBasedStateMachine):
    """Each rule does one thing to the store and to the model. A fault breaks the store's transaction off half way."""

    database: ClassVar[Database]
    seen: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.stores = Stores(self.database)
        self.model = Model(NOW)
        self.runs: list[Run] = []  # every run that was ever handed out, the stale ones too
        self.drawn: Counter[int] = Counter()
        self.names = [f"w{number}" for number in range(3)]
        self.database.close()  # new connections: SQLite counts the steps of a statement over all its uses
        with self.database.write(durable=False) as connection:
            for table in Row.metadata.sorted_tables:
                connection.execute(delete(table))
            connection.execute(
                insert(Limit.__table__),  # type: ignore[attr-defined]
                [{"name": name, "max": most} for name, most in LIMITS.items()],
            )

    def does(self, name: str, fault: int | None, act: Callable[[], Answer]) -> Answer | None:
        """Do it; None where the fault broke it off, and then nothing may have changed."""
        self.seen[name] += 1
        if fault is None:
            return act()
        try:
            with broken_off(self.database, fault) as counted:
                return act()
        except DatabaseUnavailable:
            if not counted.is_spent:
                raise
            self.seen[f"{name} broken off"] += 1
            return None

    @rule(number=st.integers(0, 2**32))
    def step(self, number: int) -> None:
        """One deed. Hypothesis likes to repeat what it draws, and to leave rules out: both would lead nowhere here."""
        rng = Random(number * 1000 + self.drawn[number])
        self.drawn[number] += 1
        (deed,) = rng.choices(list(DEEDS), list(DEEDS.values()))
        getattr(self, deed)(rng, rng.choice(FAULTS) if rng.random() < 0.15 else None)

    # ---- in

    def enqueue(self, rng: Random, fault: int | None) -> None:
        kind, priority, delay, more = rng.randrange(99), rng.randint(1, 10), rng.randint(0, 14), rng.randrange(999)
        type_, queue = KINDS[kind % len(KINDS)]
        policy, said = POLICIES[more % len(POLICIES)], KEYS[kind % len(KEYS)]
        schedule = SCHEDULES[more // 7 % len(SCHEDULES)]
        waits = "overlap" if more % 3 and self.model.has_unfinished(schedule) else None
        expires = self.model.now + said[2] * SECOND if said and said[2] else None
        run_at = self.model.now + max(delay - 10, 0) * SECOND
        job = NewJob(
            type_, {"n": kind}, queue, priority, run_at, policy, schedule_name=schedule, waiting_for=waits,
            unique=UniqueKey(said[0], said[1], expires) if said else None,  # type: ignore[arg-type]
        )  # fmt: skip
        enqueued = self.does("enqueue", fault, lambda: self.stores.jobs.enqueue(job, self.model.now))
        if enqueued is None:
            return
        there = self.model.holder(said[0] if said else None)
        if there is not None:
            self.seen["duplicate"] += 1
            assert (enqueued.id, enqueued.status, enqueued.duplicate) == (there.id, there.status, True)
            return
        assert not enqueued.duplicate
        assert enqueued.id > max(self.model.jobs, default=0)
        self.model.enqueue(
            ModelJob(
                enqueued.id, type_, queue, priority, run_at, policy.retry.max_attempts, policy.max_stalls,
                policy.on_stall, schedule, waits, said[0] if said else None, said[1] if said else None, expires,
            )
        )  # fmt: skip

    # ---- run

    def request(self, rng: Random, free: int) -> ClaimRequest:
        name = rng.choice(self.names)
        if name not in self.model.workers:
            self.stores.workers.register(make_worker(name))
            self.model.workers.add(name)
        only = frozenset({"nightly"}) if free == 4 else None
        return ClaimRequest(name, LANES, free, only)

    def claimed(self, request: ClaimRequest, runs: list[Run]) -> None:
        assert [run.id for run in runs] == self.model.claimable(request)
        assert all(run.claim_token not in {old.claim_token for old in self.runs} for run in runs)
        self.model.claim(request, runs)
        for run in runs:
            job = self.model.jobs[run.id]
            assert (run.attempt, run.run_number, run.stalls) == (job.attempt, job.run_number, job.stalls)
        self.runs += runs
        self.seen["claimed jobs"] += len(runs)

    def claim(self, rng: Random, fault: int | None) -> None:
        request = self.request(rng, rng.randint(1, 4))
        runs = self.does("claim", fault, lambda: self.stores.claims.claim(request, self.model.now))
        if runs is not None:
            self.claimed(request, runs)

    def say(self, rng: Random, fault: int | None) -> None:
        if not self.runs:
            return
        run, percent = self.some_runs(rng, 1)[0], rng.randint(0, 100)
        writes = Writes(run, Progress(percent), (LogLine(self.model.now, "info", str(percent)),))
        lost = self.does("say", fault, lambda: self.stores.logs.write([writes]))
        if lost is None:
            return
        assert lost == (set() if self.model.holds(run) else {run.id})
        if not lost:
            self.model.say(run, percent, str(percent))

    # ---- end

    def end(self, rng: Random, fault: int | None) -> None:
        runs = self.some_runs(rng, rng.choice([1, 1, 2, 4]))
        chosen = {run.id: (run, rng.choice(OUTCOMES)) for run in runs}
        if not chosen:
            return
        request = self.request(rng, rng.randint(1, 3)) if rng.random() < 0.3 else None
        batch = [self.settlement(run, how) for run, how in chosen.values()]
        settled = self.does("end", fault, lambda: self.stores.claims.settle(batch, self.model.now, request))
        if settled is None:
            return
        held = {job_id for job_id, (run, _) in chosen.items() if self.model.holds(run)}
        assert (set(settled.written), settled.lost) == (held, frozenset(chosen) - held)
        for job_id in held:
            self.model.settle(*chosen[job_id])
            assert settled.written[job_id].state == self.model.jobs[job_id].status
        self.model.promote()
        self.seen["lost"] += len(settled.lost)
        self.seen["ended"] += len(held)
        if request is not None:
            self.claimed(request, settled.claimed)

    def some_runs(self, rng: Random, most: int) -> list[Run]:
        """Mostly runs that still hold their jobs, sometimes any of the last."""
        held = [run for run in self.runs if self.model.holds(run)]
        source = held if held and rng.random() < 0.8 else self.runs[-12:]
        return rng.sample(source, min(most, len(source)))

    def settlement(self, run: Run, outcome: Outcome) -> Settlement:
        return Settlement(run, settle(run, outcome, self.model.now, Random(0)))

    def rescue(self, rng: Random, fault: int | None) -> None:
        place = rng.randrange(len(self.names))
        name = self.names[place]
        runs = self.stores.claims.running_of([name])
        assert {run.id for run in runs} == of_worker(self.model.jobs.values(), name)
        batch = [self.settlement(run, Stalled()) for run in runs]
        settled = self.does("rescue", fault, lambda: self.stores.claims.rescue([name], batch, self.model.now))
        if settled is None:
            return
        assert (set(settled.written), settled.lost) == ({run.id for run in runs}, frozenset())
        for run in runs:
            self.model.settle(run, Stalled())
        self.model.promote()
        self.model.workers.discard(name)
        self.names[place] = f"{name}'" if len(name) < 9 else f"v{place}-{len(self.runs)}"
        self.seen["rescued"] += len(runs)

    def promote(self, rng: Random, fault: int | None) -> None:
        assert self.does("promote", fault, lambda: self.stores.claims.promote(self.model.now)) in (0, None)

    # ---- people

    def chosen_job(self, rng: Random, *states: str) -> ModelJob | None:
        """Mostly one for which it is not too late, sometimes any."""
        jobs = list(self.model.jobs.values())
        fit = [job for job in jobs if job.status in states]
        return rng.choice(fit if fit and rng.random() < 0.8 else jobs) if jobs else None

    def cancel(self, rng: Random, fault: int | None) -> None:
        job = self.chosen_job(rng, "running", "running", "pending")
        if job is None:
            return
        state: str | None
        try:
            state = self.does("cancel", fault, lambda: self.stores.jobs.cancel(job.id, self.model.now, "no need"))
        except Conflict:
            state = "conflict"
        if state is not None:
            assert state == self.model.cancel(job)
            self.model.promote()

    def retry(self, rng: Random, fault: int | None) -> None:
        job = self.chosen_job(rng, *FINISHED)
        if job is None:
            return

        def again() -> bool:
            self.stores.jobs.retry(job.id, self.model.now)
            return True

        try:
            done = self.does("retry", fault, again)
        except Conflict:
            assert job.completed_at is None
            return
        if done:
            assert job.completed_at is not None
            self.model.retry(job)

    def prune(self, rng: Random, fault: int | None) -> None:
        before = self.model.now - timedelta(seconds=rng.randint(0, 20))
        pruned = self.does("prune", fault, lambda: self.stores.pruning.jobs(before))
        if pruned is not None:
            assert pruned == self.model.prune(before)
            self.seen["pruned"] += pruned

    def time_passes(self, rng: Random, fault: int | None) -> None:
        seconds = rng.choice([0, 1, 2, 5, 40])
        self.model.now += timedelta(seconds=seconds, milliseconds=seconds % 3)

    def ask_for_what_is_not_there(self, rng: Random, fault: int | None) -> None:
        for door in (self.stores.jobs.cancel, self.stores.jobs.retry):
            with pytest.raises(NotFound):
                door(10**9, self.model.now)

    # ---- after every step

    @invariant()
    def the_tables_are_those_of_the_model(self) -> None:
        self.seen["steps"] += 1
        with self.database.read() as connection:
            rows = [tuple(row) for row in connection.execute(_ROWS)]
            attempts = {(row[0], row[1]): tuple(row)[2:] for row in connection.execute(_ATTEMPTS)}
            lines = [tuple(row) for row in connection.execute(_LINES)]
            workers = set(connection.execute(_WORKERS).scalars())
        if rows != self.model.rows():
            self.tell_the_difference(rows)
        assert attempts == self.model.attempts
        assert lines == self.model.lines
        assert workers == self.model.workers

    def tell_the_difference(self, rows: list[tuple[Any, ...]]) -> None:
        wanted = self.model.rows()
        assert [row[0] for row in rows] == [row[0] for row in wanted]
        for row, model in zip(rows, wanted, strict=True):
            found = {
                name: (is_, should) for name, is_, should in zip(COMPARED, row, model, strict=True) if is_ != should
            }
            assert not found, f"job {row[0]}: column -> (is, should be): {found}"

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        running = Counter(job.limit_name for job in self.model.jobs.values() if job.status == "running")
        assert all(running[name] <= most for name, most in LIMITS.items())


def test_the_state_machine_of_a_job(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever happens to jobs, in whatever order, the tables hold what the rules say, and a failed write nothing."""
    seen: Counter[str] = Counter()
    machine = type("Machine", (JobMachine,), {"database": database, "seen": seen})
    walks = settings(
        max_examples=STEPS // STEPS_OF_A_WALK + 2,
        stateful_step_count=STEPS_OF_A_WALK,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    run_state_machine_as_test(machine, settings=walks)

    with capsys.disabled() if LONG else nullcontext():
        print(f"\n{seen['steps']} steps:", dict(sorted(seen.items())))
    assert seen["steps"] >= STEPS
    for what in ("duplicate", "lost", "ended", "rescued", "pruned", "claimed jobs"):
        assert seen[what] > STEPS // 500, (what, seen)
    for what in ("enqueue", "claim", "say", "end", "rescue", "cancel", "retry"):
        assert seen[f"{what} broken off"] > 0, (what, seen)


def test_the_model_is_not_the_store(database: Database) -> None:
    """A model that is wrong in one rule is found out: the comparison above is not empty."""
    machine = type("Machine", (JobMachine,), {"database": database, "seen": Counter()})
    walk = machine()
    walk.enqueue(Random(0), None)
    walk.the_tables_are_those_of_the_model()
    (job_id,) = walk.model.jobs
    walk.model.jobs[job_id] = replace(walk.model.jobs[job_id], attempt=1)

    with pytest.raises(AssertionError, match=r"'attempt': \(0, 1\)"):
        walk.the_tables_are_those_of_the_model()
