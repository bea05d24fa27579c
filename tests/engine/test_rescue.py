"""Heartbeat and janitor: who is dead, what becomes of its jobs, and who is not dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runner.domain.errors import DatabaseUnavailable
from runner.domain.job import JobState, Run
from runner.domain.retry import RetryPolicy
from runner.engine import heartbeat
from runner.engine import janitor as module
from runner.engine.heartbeat import Heart, WorkerLock, introduce, is_free, new_worker_id
from runner.engine.janitor import Janitor
from runner.telemetry import ClaimLost, ClockOff, JobSettled, LateBeat, WorkerRescued
from tests.engine.bench import Bench, kind, make_bench
from tests.engine.sample_handlers import gate
from tests.factories import DAY, HOUR, MINUTE, NOW, SECOND, Stores, make_job, make_policy, make_running, make_worker
from tests.waiting import eventually

ONCE = RetryPolicy(max_attempts=1)


def make_janitor(bench: Bench, worker_id: str = "janitor") -> Janitor:
    app = bench.app
    return Janitor(worker_id, app.workers, app.claims, app.pruning, app.events.emit, Random(0))


def left_behind(bench: Bench, worker_id: str = "dead", **values: Any) -> Run:
    """A running job whose worker has no row and no lock."""
    return make_running(Stores(bench.app.database), worker_id=worker_id, **values)


def forget(bench: Bench, worker_id: str) -> None:
    bench.app.workers.forget(worker_id)


class Monotonic:
    """The machine's monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    made = Monotonic()
    monkeypatch.setattr(module, "time", made)
    return made


# ---- locks


def test_a_lock_lives_as_long_as_its_worker(tmp_path: Path) -> None:
    """On SQLite a lock that is free means dead now; one that is held means alive; no file cannot tell."""
    lock = WorkerLock(tmp_path / "runner.db", "w1")

    assert lock.path == tmp_path / "runner.db.w1.lock"
    assert is_free(lock.path) is False
    assert is_free(tmp_path / "nothing.lock") is None
    os.close(lock._descriptor)
    assert is_free(lock.path) is True
    lock._descriptor = os.open(tmp_path, os.O_RDONLY)
    lock.close()
    assert not lock.path.exists()


HOLDER = """
import sys, time
from pathlib import Path
from tests.engine.bench import kind, make_bench
from tests.factories import NOW

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    bench = make_bench(folder, url=sys.argv[2])
    bench.define(kind("hold"), kind("process_hold", isolation="process"))
    bench.enqueue("hold")
    bench.enqueue("process_hold", {"gate": str(folder / "gate")})
    with bench.worker() as worker:
        bench.until(worker, (folder / "gate.pid").exists)
        (folder / "ready").touch()
        time.sleep(60)  # it is killed long before; a test that dies leaves it no longer than that
"""


def test_the_jobs_of_a_killed_worker_are_rescued_at_once(tmp_path: Path, bench: Bench) -> None:
    """A worker that lives is left alone; once it is killed, its lock is free and its jobs are made good at once."""
    program = tmp_path / "holder.py"
    program.write_text(HOLDER)
    root = str(Path(__file__).parents[2])
    holder = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path), bench.app.database.url], env=os.environ | {"PYTHONPATH": root}
    )
    try:
        eventually((tmp_path / "ready").exists, "the start of the worker")
        janitor = make_janitor(bench)
        assert [janitor.rescue(NOW) for _ in range(3)] == [0, 0, 0]
        assert bench.app.jobs.counts()["running"] == 2
        (worker,) = bench.app.workers.all()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()

    assert janitor.rescue(NOW) == 2
    for job in bench.all_jobs():
        assert (job.status, job.attempt, job.stalls, job.run_at) == ("pending", 1, 1, NOW + 2 * SECOND)
        assert job.error == "Job processor stopped responding"
        assert [one.outcome for one in bench.attempts(job.id or 0)] == ["stalled"]
    assert bench.app.workers.all() == []
    assert not Path(worker.lock_file or "").exists()
    assert [len(told.runs) for told in bench.of(WorkerRescued)] == [2]
    assert janitor.rescue(NOW) == 0


def test_a_live_worker_is_not_rescued(bench: Bench) -> None:
    """A long job on a live worker is not rescued for its age."""
    bench.define(kind("hold"))
    with bench.worker() as worker:
        job_id = bench.enqueue("hold")
        bench.until(worker, lambda: gate().entered == 1)
        assert make_janitor(bench).rescue(NOW + 30 * DAY) == 0
        assert bench.state(job_id) == "running"
        gate().opened.set()
        bench.run(worker, job_id)


def test_nobody_rescues_itself(bench: Bench) -> None:
    """A janitor leaves the runs of its own worker alone, whatever its row says."""
    run = left_behind(bench, "me")
    forget(bench, "me")

    assert make_janitor(bench, "me").rescue(NOW) == 0
    assert bench.state(run.id) == "running"
    assert make_janitor(bench, "another").rescue(NOW) == 1


def test_an_orphan_is_rescued(bench: Bench) -> None:
    """A running job whose worker is not known at all is made good."""
    run = left_behind(bench)
    forget(bench, "dead")

    assert make_janitor(bench).rescue(NOW) == 1
    assert bench.state(run.id) == "pending"


# ---- beats


def test_without_a_lock_the_same_beat_must_be_seen_twice(bench: Bench, monotonic: Monotonic) -> None:
    """Where no lock can tell, a worker is dead when the same beat was seen twice, `stalled_after` apart."""
    run = left_behind(bench, "far")
    janitor = make_janitor(bench)

    assert janitor.rescue(NOW + DAY) == 0, "a first look rescues nobody, whatever the wall clock says"
    monotonic.seconds += 59
    assert janitor.rescue(NOW + DAY) == 0
    monotonic.seconds += 1
    assert janitor.rescue(NOW + DAY) == 1
    assert bench.state(run.id) == "pending"


def test_a_held_lock_does_not_make_a_silent_worker_live(bench: Bench, monotonic: Monotonic, tmp_path: Path) -> None:
    """A process that was stopped still holds its lock: it is dead when it has not beaten for `stalled_after`."""
    lock = WorkerLock(tmp_path / "other.db", "far")
    Stores(bench.app.database).workers.register(make_worker("far", lock_file=str(lock.path)))
    run = left_behind(bench, "far")
    janitor = make_janitor(bench)
    assert janitor.rescue(NOW) == 0
    monotonic.seconds += 60

    assert janitor.rescue(NOW) == 1
    assert bench.state(run.id) == "pending"
    assert is_free(lock.path) is False, "its lock stays: it tells of its end"
    lock.close()


def test_who_was_taken_for_dead_and_is_back_begins_anew(bench: Bench, monotonic: Monotonic) -> None:
    """A stopped worker that goes on makes itself known again, with no beat yet: that is not the old silence."""
    stores = Stores(bench.app.database)
    stores.workers.register(make_worker("far"))
    janitor, run = make_janitor(bench), left_behind(bench, "far")
    janitor.rescue(NOW)
    monotonic.seconds += 60
    assert janitor.rescue(NOW) == 1
    stores.workers.register(make_worker("far", last_heartbeat=NOW + MINUTE))
    run = left_behind(bench, "far")

    assert janitor.rescue(NOW) == 0
    monotonic.seconds += 59
    assert janitor.rescue(NOW) == 0
    monotonic.seconds += 1
    assert janitor.rescue(NOW) == 1
    assert bench.state(run.id) == "pending"


def test_a_worker_that_cannot_beat_is_not_well_before_the_others_may_take_its_runs(bench: Bench) -> None:
    """After two thirds of `stalled_after`, on its monotonic clock."""
    heart = Heart(bench.app.workers, "me", 10, 60, bench.events.append, lambda: None)
    began = heart._beaten
    for seconds, is_well in ((0, True), (39, True), (41, False)):
        heart._beaten = began - seconds
        assert heart.is_well is is_well


def test_who_could_not_beat_itself_buries_nobody(bench: Bench, monotonic: Monotonic) -> None:
    """While nobody could write (the database was locked, we were stopped with its lock in hand), silence says nothing:
    a worker is judged by a silence of `stalled_after` in which our own beats were written."""
    left_behind(bench, "far")
    janitor = make_janitor(bench)
    well: list[float | None] = [0.0]
    janitor.well_since = lambda: well[0]
    janitor.rescue(NOW)
    monotonic.seconds += 61
    well[0] = None
    assert janitor.rescue(NOW) == 0
    well[0] = monotonic.seconds
    assert janitor.rescue(NOW) == 0, "our first beat since then: theirs may be on its way"
    monotonic.seconds += 59
    assert janitor.rescue(NOW) == 0
    monotonic.seconds += 1
    assert janitor.rescue(NOW) == 1


def test_since_when_a_worker_is_well(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since its start; after beats that were too late, since the first that was written again; not before that."""
    clock = Monotonic()
    monkeypatch.setattr(heartbeat, "time", clock)
    make_worker_row(bench, "me")
    heart = Heart(
        bench.app.workers, "me", 10, 60, bench.events.append, lambda: None, _beaten=1000.0, _well_since=1000.0
    )
    clock.seconds += 39
    heart.beat()
    assert heart.well_since == 1000.0
    clock.seconds += 41
    assert heart.well_since is None
    heart.beat()
    assert heart.well_since == 1080.0


def make_worker_row(bench: Bench, worker_id: str) -> None:
    Stores(bench.app.database).workers.register(make_worker(worker_id))


def test_a_late_beat_is_told(bench: Bench) -> None:
    """One that comes later than twice its interval: something held this process up."""
    heart = Heart(bench.app.workers, "me", 10, 60, bench.events.append, lambda: None)
    heart._beaten -= 25
    heart.beat()
    heart.beat()

    (late,) = bench.of(LateBeat)
    assert (round(late.seconds), late.expected) == (25, 10)


@pytest.mark.parametrize("wanted", [(100.0, 600.0), (1.0, 6.0), (2.0, 60.0)])
def test_a_worker_never_goes_by_more_than_its_row_says(bench: Bench, wanted: tuple[float, float]) -> None:
    """Raised, the row first; lowered, the worker first. A beat that cannot be written changes neither."""
    make_worker_row(bench, "me")
    heart = Heart(bench.app.workers, "me", 10, 60, bench.events.append, lambda: None)
    found: list[tuple[float, float, float]] = []

    def look() -> None:
        (row,) = bench.app.workers.all()
        assert heart.stalled_after <= row.stalled_after
        found.append((heart.interval, heart.stalled_after, row.stalled_after))

    class Store:
        """Looks right before and right after each write; the first does not succeed, the second without our knowing."""

        calls = 0

        def beat(self, *given: Any, **said: Any) -> bool:
            look()
            self.calls += 1
            if self.calls == 1:
                raise DatabaseUnavailable("away")
            is_known = bench.app.workers.beat(*given, **said)
            look()
            if self.calls == 2:
                raise DatabaseUnavailable("away as it answered")
            return is_known

    heart.store = Store()  # type: ignore[assignment]
    heart.listeners.append(look)
    heart.want(*wanted)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            heart.beat()
        assert (heart.interval, heart.stalled_after) == (10, 60)
    heart.beat()
    assert (heart.interval, heart.stalled_after) == wanted
    heart.beat()
    assert found[-1] == (*wanted, wanted[1])
    assert len(found) == 8


def test_a_worker_that_was_taken_for_dead_comes_back_with_its_own_time(bench: Bench) -> None:
    """The new row as well says no less than what the worker goes by then."""
    rows: list[float] = []
    heart = Heart(bench.app.workers, "me", 10, 60, bench.events.append, lambda: None)
    heart.lost = lambda: rows.append(heart.says()["stalled_after"])
    for asked in (600.0, 6.0):
        heart.want(1, asked)
        heart.beat()
        assert heart.stalled_after == asked
    assert rows == [600.0, 600.0]


def test_a_clock_that_is_off_is_told_when_it_comes_and_when_it_goes(bench: Bench) -> None:
    """Not at each look, and not what a network makes of a clock that is right."""
    janitor = make_janitor(bench)
    for seconds in (0.0, 0.9, 62.0, 61.0, -0.5, -0.1, -3600.0):
        janitor.offset = partial(timedelta, seconds=seconds)
        janitor.tick(NOW)

    assert [one.seconds for one in bench.of(ClockOff)] == [62.0, 0.0, -3600.0]


def test_who_was_silent_before_the_first_look_is_suspected(bench: Bench, monotonic: Monotonic) -> None:
    """While it holds jobs, until it beats or is known to be dead: a short process knows that it has to look again."""
    bench.app.workers.register(make_worker("silent", last_heartbeat=NOW - HOUR, stalled_after=60.0))
    bench.app.workers.register(make_worker("live", last_heartbeat=NOW, stalled_after=60.0))
    bench.app.workers.register(make_worker("idle", last_heartbeat=NOW - HOUR, stalled_after=60.0))
    for worker_id in ("silent", "live"):
        left_behind(bench, worker_id)
    janitor = make_janitor(bench)
    assert janitor.suspected() is None
    janitor.rescue(NOW)
    assert janitor.suspected() == 60.0

    monotonic.seconds += 40.0
    bench.app.workers.beat("silent", NOW - HOUR)
    janitor.rescue(NOW)
    assert janitor.suspected() is None

    other = make_janitor(bench)
    other.rescue(NOW)
    monotonic.seconds += 60.0
    assert other.suspected() == 0.0
    assert other.rescue(NOW) == 2
    assert other.suspected() is None


def test_a_beat_begins_the_wait_anew(bench: Bench, monotonic: Monotonic) -> None:
    """A worker that beats is alive, also when its beats are late."""
    left_behind(bench, "far")
    janitor = make_janitor(bench)
    for _ in range(5):
        assert janitor.rescue(NOW) == 0
        monotonic.seconds += 59
        assert bench.app.workers.beat("far", NOW)
    assert janitor.rescue(NOW) == 0


def test_the_dead_worker_says_how_long(bench: Bench, monotonic: Monotonic) -> None:
    """`stalled_after` is the judged worker's own."""
    stores = Stores(bench.app.database)
    stores.workers.register(make_worker("far", stalled_after=5.0))
    left_behind(bench, "far")
    janitor = make_janitor(bench)
    janitor.rescue(NOW)
    monotonic.seconds += 5

    assert janitor.rescue(NOW) == 1


def test_a_clock_that_jumps_rescues_nobody(bench: Bench, monotonic: Monotonic) -> None:
    """An hour forward or back on the wall is no death."""
    left_behind(bench, "far")
    janitor = make_janitor(bench)
    for jump in (HOUR, -HOUR, DAY, -DAY):
        assert janitor.rescue(NOW + jump) == 0
        monotonic.seconds += 10


# ---- what a stall means


@pytest.mark.parametrize(
    ("policy", "values", "expected"),
    [
        (make_policy(), {}, ("pending", 1)),
        (make_policy(on_stall="fail"), {}, ("failed", 1)),
        (make_policy(max_stalls=1), {}, ("failed", 1)),
        (make_policy(retry=ONCE), {}, ("failed", 1)),
    ],
)
def test_a_stall_is_a_failed_attempt(
    bench: Bench, policy: object, values: dict[str, Any], expected: tuple[str, int]
) -> None:
    """A rescue counts as a failed attempt and a stall; `on_stall: fail` or `max_stalls` end the job as failed."""
    run = left_behind(bench, policy=policy, **values)
    forget(bench, "dead")
    make_janitor(bench).rescue(NOW)

    job = bench.job(run.id)
    assert (job.status, job.stalls) == expected
    assert job.error == "Job processor stopped responding"


def test_stalls_add_up(bench: Bench) -> None:
    """A job that kills its worker three times is failed, however many attempts it has left."""
    run = left_behind(bench, policy=make_policy(retry=RetryPolicy(max_attempts=100)))
    stores = Stores(bench.app.database)
    for number in range(1, 4):
        forget(bench, "dead")
        make_janitor(bench).rescue(NOW)
        job = bench.job(run.id)
        assert job.stalls == number
        if number < 3:
            from tests.factories import start

            start(stores, run.id, worker_id="dead", now=job.run_at)

    assert (job.status, job.attempt) == ("failed", 3)
    assert [one.outcome for one in bench.attempts(run.id)] == ["stalled", "stalled"]


def test_a_cancelled_job_of_a_dead_worker_is_cancelled(bench: Bench) -> None:
    """A cancel that its worker did not live to see is honoured: cancelled, never retried."""
    run = left_behind(bench)
    assert bench.app.jobs.cancel(run.id, NOW) is JobState.RUNNING
    forget(bench, "dead")
    make_janitor(bench).rescue(NOW)

    assert bench.state(run.id) == "cancelled"


def test_two_janitors_rescue_once(bench: Bench) -> None:
    """The fence decides which rescue counts."""
    run = left_behind(bench)
    forget(bench, "dead")
    first, second = make_janitor(bench, "one"), make_janitor(bench, "two")

    assert (first.rescue(NOW), second.rescue(NOW)) == (1, 0)
    assert len(bench.of(JobSettled)) == 1
    assert len(bench.attempts(run.id)) == 1


# ---- a worker that was taken for dead


def test_a_worker_that_was_taken_for_dead_goes_on(tmp_path: Path) -> None:
    """Its rescued runs are stopped and told as lost; it is known again, and what it runs now stays its own."""
    bench = make_bench(tmp_path, heartbeat=timedelta(seconds=0.2))
    bench.define(kind("work"), kind("hold"), kind("ok"))
    with bench.worker(concurrency=4) as worker:
        lost = bench.enqueue("work")
        bench.until(worker, lambda: gate().entered == 1)
        run = bench.app.claims.running_of([worker.worker_id])
        _take_for_dead(bench, worker.worker_id, run)
        kept = bench.enqueue("hold")
        bench.until(worker, lambda: gate().entered == 2)
        eventually(bench.app.workers.all, "the worker to be known again")
        bench.until(worker, lambda: gate().left == 1, "the end of the lost handler")
        assert make_janitor(bench).rescue(NOW) == 0, "it is alive"
        gate().opened.set()
        assert bench.run(worker, kept)[0].status == "completed"

    assert [told.run.id for told in bench.of(ClaimLost)] == [lost]
    assert (bench.state(lost), bench.job(lost).stalls) == ("pending", 1)
    bench.app.close()


def _take_for_dead(bench: Bench, worker_id: str, runs: list[Run]) -> None:
    from runner.domain.lifecycle import settle
    from runner.domain.outcome import Stalled
    from runner.storage.settling import Settlement

    rescued = [Settlement(run, settle(run, Stalled(), NOW, Random(0))) for run in runs]
    bench.app.claims.rescue([worker_id], rescued, NOW)


def test_a_beat_tells_whether_the_worker_is_known(bench: Bench, tmp_path: Path) -> None:
    """A beat of a worker whose row is gone tells it so."""
    lost: list[str] = []
    worker_id = new_worker_id()
    lock = WorkerLock(tmp_path / "runner.db", worker_id)
    row = introduce(lock, worker_id, version="0", said={"concurrency": 2, "stalled_after": 60.0})
    bench.app.workers.register(row)
    heart = Heart(
        bench.app.workers, worker_id, 10, 60, bench.events.append, lambda: lost.append("lost"),
        lambda: {"config_sha256": "abc"},
    )  # fmt: skip
    heart.beat()
    (known,) = bench.app.workers.all()
    assert (known.beats, known.config_sha256, known.pid, lost) == (1, "abc", os.getpid(), [])

    forget(bench, worker_id)
    heart.beat()
    assert lost == ["lost"]
    lock.close()


def test_worker_ids_are_new_at_each_start() -> None:
    """A new process is never taken for an old one."""
    assert len({new_worker_id() for _ in range(1000)}) == 1000


# ---- old jobs


def test_prune_removes_what_ended_long_ago(bench: Bench) -> None:
    """What ended before the retention is removed in batches, whatever is unfinished stays."""
    stores = Stores(bench.app.database)
    for state in JobState:
        make_job(stores, state, now=NOW - 31 * DAY)
    recent = make_job(stores, JobState.COMPLETED, now=NOW - 29 * DAY)

    assert make_janitor(bench).prune(NOW, 30 * DAY) == 3
    assert {job.status for job in bench.all_jobs()} == {"pending", "running", "completed"}
    assert bench.job(recent.id or 0).status == "completed"
    assert make_janitor(bench).prune(NOW, MINUTE) == 1
