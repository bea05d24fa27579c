"""`run-once`: everything that is due, once; what it waits for, and what it does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.domain.job import JobState
from runner.domain.retry import RetryPolicy
from runner.engine.loop import SimulatedClock
from runner.engine.run_once import Options, Report, RunOnce
from runner.engine.worker import Selection
from runner.telemetry import JobStarted
from tests.engine.bench import DEADLINE, Bench, kind, open_app
from tests.engine.sample_handlers import gate
from tests.factories import DAY, HOUR, MINUTE, NOW, SECOND, Stores, make_policy, make_schedule, make_worker, start
from tests.waiting import eventually

ONCE = RetryPolicy(max_attempts=1)
TEN = 10 * MINUTE


def states(report: Report) -> list[str]:
    return [job.status for job in report.jobs]


def run(bench: Bench, options: Options | None = None, **values: Any) -> Report:
    """A whole drain on the simulated clock, as with `--now`."""
    with bench.drain(options, clock=SimulatedClock(bench.clock.now()), **values) as drain:
        return drain.run()


@contextmanager
def running(bench: Bench, options: Options | None = None, **values: Any) -> Iterator[tuple[RunOnce, list[Report]]]:
    """A drain in a thread, so that the test can do something meanwhile; it must end with the block."""
    reports: list[Report] = []
    with bench.drain(options, **values) as drain:
        thread = threading.Thread(target=lambda: reports.append(drain.run()))
        thread.start()
        try:
            yield drain, reports
        finally:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "run-once did not end"


# ---- what is due


def test_nothing_due(bench: Bench) -> None:
    """Nothing due is good: an empty report."""
    bench.define(kind("ok"), schedules=[make_schedule("often", job="ok")])

    report = run(bench)

    assert (report.jobs, report.slots, report.refused, report.stopped_by) == ([], [], [], None)


def test_due_slots_and_due_jobs_are_run(bench: Bench) -> None:
    """Due slots are fired and all due jobs run; a job for tomorrow is left alone."""
    bench.define(kind("ok"), schedules=[make_schedule("often", job="ok")])
    queued = bench.enqueue("ok")
    tomorrow = bench.enqueue("ok", run_at=NOW + DAY)
    bench.clock.time = NOW + TEN

    report = run(bench)

    assert states(report) == ["completed", "completed"]
    assert [job.id for job in report.jobs] == [queued, report.slots[0].job_id]
    assert bench.state(tomorrow) == "pending"


def test_retries_are_waited_for(bench: Bench) -> None:
    """Fails twice, then succeeds: 2 s, then 4 s between the attempts, completed, three attempts recorded."""
    bench.define(kind("fail_first"))
    job_id = bench.enqueue("fail_first", {"times": 2})
    began = time.monotonic()

    report = run(bench)

    (job,) = report.jobs
    assert (job.status, job.attempt) == ("completed", 3)
    first, second = bench.attempts(job_id)
    assert timedelta(seconds=2) <= (second.started_at or NOW) - first.finished_at < timedelta(seconds=3)
    assert timedelta(seconds=4) <= (job.started_at or NOW) - second.finished_at < timedelta(seconds=5)
    assert report.ended - report.began >= timedelta(seconds=6)
    assert time.monotonic() - began < 6, "the simulated clock jumps over the waits"


def test_always_failing_ends_failed_after_three(bench: Bench) -> None:
    """One that always fails: failed after three attempts."""
    bench.define(kind("fail"))
    job_id = bench.enqueue("fail")

    report = run(bench)

    assert ([job.id for job in report.failed], len(bench.attempts(job_id))) == ([job_id], 2)
    assert report.jobs[0].attempt == 3


def test_retries_are_waited_for_on_the_real_clock_too(bench: Bench) -> None:
    """Without `--now` the wait is real."""
    brief = RetryPolicy(delay=(timedelta(seconds=0.3),))
    bench.define(kind("fail_first", retry=brief))
    from runner.engine.loop import Clock

    real = Clock()
    bench.clock.time = real.now()
    bench.enqueue("fail_first", {"times": 1})
    began = time.monotonic()
    with bench.drain(clock=real) as drain:
        report = drain.run()

    assert states(report) == ["completed"]
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(("wait", "state"), [(0, "pending"), (1.9, "pending"), (2, "completed"), (None, "completed")])
def test_wait_bounds_the_retries(bench: Bench, wait: float | None, state: str) -> None:
    """`--wait 0s` leaves a retry pending; a retry due within `--wait` is waited for."""
    bench.define(kind("fail_first"))
    bench.enqueue("fail_first", {"times": 1})

    report = run(bench, Options(wait=None if wait is None else timedelta(seconds=wait)))

    assert states(report) == [state]


def test_slots_that_come_meanwhile_are_left_to_the_next_call(bench: Bench) -> None:
    """A schedule of every second does not make a run endless."""
    hasty = make_schedule("often", job="fail_first", every=SECOND, overlap="allow", payload={"times": 2})
    bench.define(kind("fail_first"), schedules=[hasty])
    bench.clock.time = NOW + SECOND

    report = run(bench)

    assert states(report) == ["completed"]
    assert [slot.slot for slot in report.slots] == [NOW + SECOND]


def test_children_are_run_in_the_same_call(bench: Bench) -> None:
    """What a job enqueues is due and is run."""
    bench.define(kind("parent"), kind("ok"))
    bench.enqueue("parent", {"children": [{"type": "ok"}, {"type": "ok"}]})

    assert states(run(bench)) == ["completed"] * 3


# ---- overlap, limits, others


def test_jobs_of_a_limit_run_one_after_the_other(bench: Bench) -> None:
    """Two jobs of a limit of 1: never both at once, both completed."""
    bench.define(kind("hold", limit="one"), limits={"one": 1})
    for _ in range(2):
        bench.enqueue("hold")
    with running(bench, concurrency=4):
        eventually(lambda: gate().entered == 1)
        gate().opened.set()

    assert (gate().most, gate().entered) == (1, 2)
    assert bench.app.jobs.counts()["completed"] == 2


def test_a_job_that_waits_for_a_retry_jumps_with_it(bench: Bench) -> None:
    """A job that waits for an earlier one of its schedule is waited for as that one is: over the same jump."""
    slow = RetryPolicy(delay=(HOUR,), max_delay=HOUR)
    queued = make_schedule("often", job="fail_first", overlap="queue", payload={"times": 1})
    bench.define(kind("fail_first", retry=slow), schedules=[queued])
    began = time.monotonic()

    report = run(bench, Options(trigger=("often", "often")))

    assert states(report) == ["completed", "completed"]
    assert report.ended - report.began >= 2 * HOUR
    assert time.monotonic() - began < DEADLINE


def test_a_job_that_waits_for_a_late_retry_is_left(bench: Bench) -> None:
    """With `--wait 0s` neither the retry nor the job that waits for it is waited for."""
    queued = make_schedule("often", job="fail_first", overlap="queue", payload={"times": 1})
    bench.define(kind("fail_first"), schedules=[queued])

    report = run(bench, Options(trigger=("often", "often"), wait=timedelta(0)))

    assert states(report) == ["pending", "pending"]


def test_a_job_of_ours_that_another_process_runs_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    """What we fired is waited for, also where another worker was quicker to claim it."""
    bench.define(kind("hold"), schedules=[make_schedule("often", job="hold")])
    bench.clock.time = NOW + TEN
    other = open_app(tmp_path)
    try:
        with other.worker(bench.definitions, bench.clock) as theirs, bench.drain() as drain:
            drain.scheduler.tick(bench.clock.now())
            theirs.tick(bench.clock.now())
            eventually(lambda: gate().entered == 1)
            reports: list[Report] = []
            thread = threading.Thread(target=lambda: reports.append(drain.run()))
            thread.start()
            thread.join(0.6)
            assert thread.is_alive(), "it did not wait"
            gate().opened.set()
            bench.until(theirs, lambda: not theirs.has_work())
            thread.join(DEADLINE)
        assert states(reports[0]) == ["completed"]
        assert bench.job(reports[0].jobs[0].id or 0).worker_id == theirs.worker_id
    finally:
        other.close()


def test_jobs_of_others_are_not_waited_for(bench: Bench, tmp_path: Path) -> None:
    """A job that somebody else fired and runs keeps nobody here; nor does one that only others can run."""
    bench.define(kind("hold"), kind("ok"))
    other = open_app(tmp_path)
    try:
        with other.worker(bench.definitions, bench.clock) as theirs:
            bench.enqueue("hold")
            theirs.tick(NOW)
            eventually(lambda: gate().entered == 1)
            bench.enqueue("unknown")
            mine = bench.enqueue("ok")

            report = run(bench)

            assert [job.id for job in report.jobs] == [mine]
            gate().opened.set()
            bench.until(theirs, lambda: not theirs.has_work())
    finally:
        other.close()


def test_a_triggered_job_that_nobody_here_takes_is_not_waited_for(bench: Bench) -> None:
    """A job of ours whose handler is missing here, or that the selection leaves out, stays pending; the run ends."""
    schedules = [make_schedule("parked", job="gone"), make_schedule("other", job="ok")]
    bench.define(kind("ok"), kind("gone", "nothing_there"), schedules=schedules)

    report = run(bench, Options(trigger=("parked", "other")), selection=Selection(types=frozenset({"gone"})))

    assert states(report) == ["pending", "pending"]


def test_a_rescued_job_that_is_not_selected_is_not_waited_for(bench: Bench) -> None:
    """`run-once --type a` makes good what a dead worker left of type b, and does not wait for it."""
    bench.define(kind("ok"), kind("echo"))
    orphan = bench.enqueue("echo")
    with bench.worker() as dead:
        bench.app.claims.claim(_request(dead.worker_id, "echo"), NOW)
    mine = bench.enqueue("ok")

    report = run(bench, selection=Selection(types=frozenset({"ok"})))

    assert bench.state(orphan) == "pending"
    assert [(job.id, job.status) for job in report.jobs] == [(orphan, "pending"), (mine, "completed")]


def _request(worker_id: str, type_name: str) -> Any:
    from runner.storage.claims import ClaimRequest, Lane

    return ClaimRequest(worker_id, [Lane("default", type_name)], 1)


# ---- selections


@pytest.mark.parametrize(
    ("selection", "only", "done"),
    [
        (Selection(types=frozenset({"ok"})), "ok", {"ok"}),
        (Selection(schedules=frozenset({"s-echo"})), "echo", {"echo"}),
        (Selection(queues=frozenset({"slow"})), "slow", {"slow"}),
    ],
)
def test_selections(bench: Bench, selection: Selection, only: str, done: set[str]) -> None:
    """`--type`, `--schedule` and `--queue`: what is left out is neither fired nor run."""
    schedules = [make_schedule(f"s-{name}", job=name) for name in ("ok", "echo", "slow")]
    bench.define(kind("ok"), kind("echo"), kind("slow", "ok", queue="slow"), schedules=schedules)
    bench.clock.time = NOW + TEN

    report = run(bench, selection=selection, only=lambda schedule: schedule.job == only)

    assert {job.type for job in report.jobs} == done
    assert {job.type for job in bench.all_jobs()} == done
    assert {slot.schedule_name for slot in bench.slots()} == {f"s-{name}" for name in done}


# ---- triggers


def test_triggers_run_now(bench: Bench) -> None:
    """`--trigger` fires a schedule whatever its time."""
    bench.define(kind("ok"), schedules=[make_schedule("often", job="ok")])

    report = run(bench, Options(trigger=("often",)))

    assert states(report) == ["completed"]
    assert report.slots == []


def test_a_refused_trigger_is_told_and_does_not_stop_the_rest(bench: Bench) -> None:
    """What cannot be triggered is in the report, for whatever reason; the others run."""
    schedules = [
        make_schedule("often", job="ok"),
        make_schedule("unset", job="ok", payload={"to": "${MAIL_TO}"}),
        make_schedule("other", job="ok"),
    ]
    bench.define(kind("ok"), schedules=schedules)
    bench.enqueue("ok", schedule_name="often", run_at=NOW + DAY)

    report = run(bench, Options(trigger=("often", "unset", "other"), wait=timedelta(0)))

    assert [job.schedule_name for job in report.jobs] == ["other"]
    assert len(report.refused) == 2
    assert "was not triggered: job 1 is not finished" in report.refused[0]
    assert report.refused[1] == "the environment has no MAIL_TO, which schedules.unset.payload.to refers to"


def test_a_slot_that_cannot_be_fired_is_told(bench: Bench) -> None:
    """A run that could not fire what was due is no good run, and says so once."""
    bench.define(kind("fail_first"), schedules=[make_schedule("often", job="fail_first", payload={"to": "${MAIL_TO}"})])
    bench.clock.time = NOW + TEN
    bench.enqueue("fail_first", {"times": 1})

    report = run(bench)

    assert report.refused == [
        "schedule often could not be fired: the environment has no MAIL_TO, which schedules.often.payload.to refers to"
    ]
    assert states(report) == ["completed"]


# ---- stops


def test_fail_fast_claims_nothing_more(bench: Bench) -> None:
    """`--fail-fast`: after a job failed nothing more is claimed, not even in the transaction that settled it."""
    bench.define(kind("fail", retry=ONCE), kind("ok"))
    bench.enqueue("fail", priority=1)
    rest = [bench.enqueue("ok") for _ in range(5)]

    report = run(bench, Options(fail_fast=True), concurrency=1)

    assert (report.stopped_by, states(report)) == ("fail_fast", ["failed"])
    assert [bench.state(one) for one in rest] == ["pending"] * 5
    assert len(bench.of(JobStarted)) == 1


def test_fail_fast_lets_running_jobs_end(bench: Bench) -> None:
    """`--fail-fast` interrupts nobody; an attempt that will be retried is no failed job."""
    bench.define(kind("fail", retry=ONCE), kind("hold"), kind("fail_first"))
    held = bench.enqueue("hold", priority=1)
    bench.enqueue("fail_first", {"times": 1}, priority=2)
    with running(bench, Options(fail_fast=True, wait=timedelta(0))) as (_, reports):
        eventually(lambda: gate().entered == 1 and bench.app.jobs.attempts([2])[2])
        failed = bench.enqueue("fail")
        eventually(lambda: bench.state(failed) == "failed")
        assert not reports
        gate().opened.set()

    assert reports[0].stopped_by == "fail_fast"
    assert bench.state(held) == "completed"


@pytest.mark.parametrize("name", ["work", "hold_async"])
def test_a_timeout_releases_what_runs(bench: Bench, name: str) -> None:
    """After `--timeout` running jobs are pending again with their attempt given back, and the run says why it ended."""
    bench.define(kind(name), kind("ok"))
    job_id = bench.enqueue(name, priority=1)
    with bench.drain(Options(timeout=timedelta(seconds=0.3)), concurrency=1) as drain:
        report = drain.run()

    assert report.stopped_by == "timeout"
    assert (bench.state(job_id), bench.job(job_id).attempt) == ("pending", 0)
    assert [one.outcome for one in bench.attempts(job_id)] == ["released"]


def test_a_timeout_interrupts_a_wait(bench: Bench) -> None:
    """A retry that is due after the `--timeout` stays pending."""
    bench.define(kind("fail_first", retry=RetryPolicy(delay=(HOUR,), max_delay=HOUR)))
    bench.enqueue("fail_first", {"times": 1})
    with bench.drain(Options(timeout=timedelta(seconds=0.3))) as drain:
        report = drain.run()

    assert (report.stopped_by, states(report)) == ("timeout", ["pending"])


def test_a_timeout_counts_real_time_only(bench: Bench) -> None:
    """By a clock that jumps, a wait of an hour passes within a `--timeout` of a minute."""
    bench.define(kind("fail_first", retry=RetryPolicy(delay=(HOUR,), max_delay=HOUR)))
    bench.enqueue("fail_first", {"times": 1})
    with bench.drain(Options(timeout=MINUTE), clock=SimulatedClock(NOW)) as drain:
        report = drain.run()

    assert (report.stopped_by, states(report)) == (None, ["completed"])


@pytest.mark.usefixtures("short_grace")
def test_a_stop_gives_up_who_does_not_listen(bench: Bench) -> None:
    """A handler that never calls `ctx` does not keep a stopped run: its job is released without it."""
    bench.define(kind("hold"))
    job_id = bench.enqueue("hold")
    with bench.drain(Options(timeout=timedelta(seconds=0.2))) as drain:
        report = drain.run()

    assert report.stopped_by == "timeout"
    assert (bench.state(job_id), bench.job(job_id).attempt) == ("pending", 0)


def test_a_stop_ends_a_long_wait_at_once(bench: Bench) -> None:
    """A signal does not wait for the next retry."""
    bench.define(kind("fail_first", retry=RetryPolicy(delay=(HOUR,), max_delay=HOUR)))
    job_id = bench.enqueue("fail_first", {"times": 1})
    with running(bench) as (drain, reports):
        eventually(lambda: bench.attempts(job_id))
        drain.stop("SIGTERM")
        drain.stop("SIGINT")

    assert reports[0].stopped_by == "SIGTERM"


def test_a_stop_takes_no_lock(bench: Bench) -> None:
    """A signal handler runs in the middle of anything: whatever lock its thread holds, `stop` returns."""
    bench.define(kind("ok"))
    with bench.drain() as drain:
        executor = drain.worker.executor
        held = [executor._lock, drain.worker.recorder._lock, bench.app.database._turn]
        for lock in held:
            lock.acquire()
        thread = threading.Thread(target=lambda: drain.stop("SIGTERM"), daemon=True)
        thread.start()
        thread.join(5)
        returned = not thread.is_alive()
        for lock in held:
            lock.release()

    assert returned


def test_what_starts_during_a_stop_is_stopped_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal between the claim and the start of a job: the job is released, not run to its end."""
    bench.define(kind("work"))
    job_id = bench.enqueue("work")
    with bench.drain() as drain:
        start = drain.worker.executor.start

        def signalled(*given: Any) -> None:
            drain.stop("SIGTERM")
            start(*given)

        monkeypatch.setattr(drain.worker.executor, "start", signalled)
        report = drain.run()

    assert report.stopped_by == "SIGTERM"
    assert (bench.state(job_id), bench.job(job_id).attempt) == ("pending", 0)


@pytest.mark.usefixtures("short_grace")
def test_handlers_that_hold_every_place_do_not_hold_the_run(bench: Bench) -> None:
    """Where handlers ignore their timeouts until no place is left, the run ends and says so."""
    brief = timedelta(seconds=0.1)
    bench.define(kind("hold", timeout=brief, retry=ONCE), kind("ok"))
    for _ in range(2):
        bench.enqueue("hold", priority=1)
    left = bench.enqueue("ok")
    with bench.drain(concurrency=1) as drain:
        report = drain.run()

    assert (states(report), bench.state(left)) == (["failed", "failed"], "pending")
    assert report.refused == ["handlers that ignore their timeout hold every place: what is left stays pending"]


def test_a_cancel_from_elsewhere_is_seen(bench: Bench, tmp_path: Path) -> None:
    """A cancel by another process reaches a running job within moments."""
    bench.define(kind("work"))
    job_id = bench.enqueue("work")
    other = open_app(tmp_path)
    with running(bench) as (_, reports):
        eventually(lambda: gate().entered == 1)
        assert other.jobs.cancel(job_id, NOW, "from elsewhere") is JobState.RUNNING

    other.close()
    assert [(job.status, job.error) for job in reports[0].jobs] == [("cancelled", "from elsewhere")]


def test_the_worker_is_forgotten_at_the_end(bench: Bench, tmp_path: Path) -> None:
    """A run leaves neither a worker row nor a lock file behind."""
    bench.define(kind("ok"))
    bench.enqueue("ok")
    run(bench)

    assert bench.app.workers.all() == []
    assert list(tmp_path.glob("*.lock")) == []


def test_what_a_killed_call_has_left_is_rescued_by_a_short_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another machine no lock tells that it is dead: the call stays until the same beat was seen for long enough."""
    monkeypatch.setattr("runner.engine.run_once.RESCUE", 0.0)
    bench.define(kind("ok"))
    job_id = bench.enqueue("ok", policy=make_policy(retry=RetryPolicy(max_attempts=2, delay=(timedelta(0),))))
    stores = Stores(bench.app.database)
    stores.workers.register(make_worker("killed", last_heartbeat=NOW - HOUR, stalled_after=0.2))
    start(stores, job_id, worker_id="killed")

    with bench.drain() as run_once:
        report = run_once.run()

    assert [(job.id, job.status, job.stalls) for job in report.jobs] == [(job_id, "completed", 1)]
    assert [worker.id for worker in bench.app.workers.all()] == []
