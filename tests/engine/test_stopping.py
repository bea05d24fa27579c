"""Stops: an operator's cancel, a timeout, a lost claim, a shutdown; threads, coroutines and given-up handlers."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from runner.domain.errors import Conflict
from runner.domain.job import JobState
from runner.domain.retry import RetryPolicy
from runner.engine.worker import Worker
from runner.telemetry import ClaimLost
from tests.engine.bench import Bench, kind
from tests.engine.sample_handlers import gate
from tests.factories import NOW
from tests.waiting import eventually

ONCE = RetryPolicy(max_attempts=1)
BRIEF = timedelta(seconds=0.1)


def started(bench: Bench, worker: Worker, name: str, payload: dict[str, object] | None = None) -> int:
    """A job whose handler has entered its gate."""
    before = gate().entered
    job_id = bench.enqueue(name, payload)
    bench.until(worker, lambda: gate().entered > before, "the start of the handler")
    return job_id


# ---- timeouts


def test_a_thread_that_asks_its_context_times_out(bench: Bench) -> None:
    """After its timeout a thread handler is interrupted at its next use of `ctx`; `except Exception` does not help."""
    bench.define(kind("work", timeout=BRIEF, retry=ONCE))

    job = bench.run_one("work")

    assert job.status == "failed"
    assert job.error == "TimeoutError: the job ran longer than its timeout of 0.1 s"
    assert gate().said == ["finally"]


def test_a_finally_block_may_still_log(bench: Bench) -> None:
    """JobCancelled is raised once, so that `finally` may use the context, and what it says is stored."""
    bench.define(kind("work", timeout=BRIEF, retry=ONCE))

    job = bench.run_one("work")

    assert bench.lines(job.id or 0) == ["cleaned up"]


def test_a_timeout_is_a_failed_attempt(bench: Bench) -> None:
    """A timeout is retried as any failure, and `give_up_on: [TimeoutError]` sees it."""
    picky = RetryPolicy(give_up_on=("TimeoutError",))
    bench.define(kind("work", timeout=BRIEF), kind("stop", "work", timeout=BRIEF, retry=picky))

    assert (bench.run_one("work").status, bench.run_one("stop").status) == ("pending", "failed")


def test_a_coroutine_times_out_at_its_await(bench: Bench) -> None:
    """An async handler is cancelled at its next await; its `finally` runs, awaits and logs."""
    bench.define(kind("hold_async", timeout=BRIEF, retry=ONCE))

    job = bench.run_one("hold_async")

    assert (job.error or "").startswith("TimeoutError: ")
    assert gate().said == ["finally"]
    assert bench.lines(job.id or 0) == ["cleaned up"]


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("name", ["hold_and_say", "stubborn_async"])
def test_a_handler_that_never_listens_is_given_up(bench: Bench, name: str) -> None:
    """A handler that does not stop is settled as failed after the grace, and its place is free again."""
    bench.define(kind(name, timeout=BRIEF, retry=ONCE), kind("ok"))
    with bench.worker(concurrency=1) as worker:
        job_id = started(bench, worker, name)
        job = bench.run(worker, job_id)[0]
        assert (job.status, gate().left) == ("failed", 0)
        assert (job.error or "").startswith("TimeoutError")
        assert worker.executor.leaked_threads == 1
        assert bench.run(worker, bench.enqueue("ok"))[0].status == "completed"
        gate().opened.set()
        eventually(lambda: worker.executor.leaked_threads == 0)


@pytest.mark.usefixtures("short_grace")
def test_what_a_given_up_handler_says_later_is_refused(bench: Bench) -> None:
    """The fence refuses the late progress, log lines and result of a handler that was given up."""
    bench.define(kind("hold_and_say", timeout=BRIEF))
    with bench.worker() as worker:
        job_id = started(bench, worker, "hold_and_say")
        before = bench.run(worker, job_id)[0]
        assert before.status == "pending"
        gate().opened.set()
        eventually(lambda: worker.executor.leaked_threads == 0)
        worker.tick(NOW)
        worker.recorder.flush()

    assert gate().said == ["told"]
    assert bench.job(job_id) == before
    assert bench.lines(job_id) == []


@pytest.mark.usefixtures("short_grace")
def test_the_next_run_is_not_touched_by_the_given_up_one(bench: Bench) -> None:
    """The old handler says its late words while the same job runs again here: only the new run counts."""
    bench.define(kind("hold_and_say", retry=RetryPolicy(delay=(timedelta(0),))))
    with bench.worker() as worker:
        job_id = bench.enqueue("hold_and_say", {"gate": "attempt {attempt}"})
        bench.until(worker, lambda: gate("attempt 1").entered == 1)
        assert worker.executor.request_stop(job_id, "timeout", "too long")
        bench.until(worker, lambda: gate("attempt 2").entered == 1, "the second run")
        gate("attempt 1").opened.set()
        eventually(lambda: worker.executor.leaked_threads == 0)
        worker.tick(NOW)
        assert (bench.state(job_id), bench.job(job_id).run_number) == ("running", 2)
        assert worker.has_work()
        gate("attempt 2").opened.set()
        job = bench.run(worker, job_id)[0]

    assert (job.status, job.result, job.run_number) == ("completed", "late", 2)
    assert [one.outcome for one in bench.attempts(job_id)] == ["failed"]
    assert bench.lines(job_id) == ["late"]
    assert bench.of(ClaimLost) == []


@pytest.mark.usefixtures("short_grace")
def test_given_up_handlers_are_replaced_up_to_the_concurrency(bench: Bench) -> None:
    """As many given-up threads as the concurrency are replaced; each one more keeps its place until it ends."""
    bench.define(kind("hold", timeout=BRIEF, retry=ONCE), kind("ok"))
    with bench.worker(concurrency=2) as worker:
        for _ in range(4):
            bench.run(worker, started(bench, worker, "hold"))
        assert (worker.executor.leaked_threads, worker.executor.free(2)) == (4, 0)
        assert worker.is_stuck
        waiting = bench.enqueue("ok")
        for _ in range(3):
            worker.tick(NOW)
        assert bench.state(waiting) == "pending"
        gate().opened.set()
        assert bench.run(worker, waiting)[0].status == "completed"
        assert not worker.is_stuck


def test_a_handler_that_ends_in_time_is_not_stopped(bench: Bench) -> None:
    """The first word counts: who returns after the request and before the grace is over has completed."""
    bench.define(kind("look", timeout=BRIEF))

    job = bench.run_one("look")

    assert (job.status, job.result) == ("completed", "ended by itself")


# ---- cancels


@pytest.mark.parametrize("name", ["work", "hold_async"])
def test_a_running_job_is_cancelled(bench: Bench, name: str) -> None:
    """A running job gets a request: its handler is interrupted, and the job is cancelled with the reason."""
    bench.define(kind(name))
    with bench.worker() as worker:
        job_id = started(bench, worker, name)
        assert bench.app.jobs.cancel(job_id, NOW, "no longer wanted") is JobState.RUNNING
        job = bench.run(worker, job_id)[0]

    assert (job.status, job.error) == ("cancelled", "no longer wanted")
    assert gate().said == ["finally"]
    assert bench.lines(job_id) == ["cleaned up"]


@pytest.mark.parametrize("name", ["work", "hold_async"])
def test_a_cancel_stops_no_other_job(bench: Bench, name: str) -> None:
    """Only the job that was named is interrupted."""
    bench.define(kind(name))
    with bench.worker() as worker:
        wanted, unwanted = started(bench, worker, name), started(bench, worker, name)
        bench.app.jobs.cancel(unwanted, NOW)
        assert bench.run(worker, unwanted)[0].status == "cancelled"
        assert bench.state(wanted) == "running"
        bench.app.jobs.cancel(wanted, NOW)
        bench.run(worker, wanted)


def test_except_exception_does_not_swallow_a_cancel(bench: Bench) -> None:
    """JobCancelled is a BaseException."""
    bench.define(kind("work"))
    with bench.worker() as worker:
        job_id = started(bench, worker, "work")
        bench.app.jobs.cancel(job_id, NOW)
        bench.run(worker, job_id)

    assert "swallowed" not in gate().said


@pytest.mark.usefixtures("short_grace")
def test_a_thread_that_never_listens_is_cancelled_after_the_grace(bench: Bench) -> None:
    """After a cancel, a thread that never calls `ctx` is settled as cancelled."""
    bench.define(kind("hold"))
    with bench.worker() as worker:
        job_id = started(bench, worker, "hold")
        bench.app.jobs.cancel(job_id, NOW, "no longer wanted")
        job = bench.run(worker, job_id)[0]
        assert gate().left == 0

    assert (job.status, job.error) == ("cancelled", "no longer wanted")


def test_a_completion_before_the_cancel_wins(bench: Bench) -> None:
    """A cancel and a completion that race: the first commit wins, and the canceller is told the truth."""
    bench.define(kind("hold"))
    with bench.worker() as worker:
        job_id = started(bench, worker, "hold")
        gate().opened.set()
        assert bench.run(worker, job_id)[0].status == "completed"
        with pytest.raises(Conflict, match="already completed"):
            bench.app.jobs.cancel(job_id, NOW)


def test_a_failure_after_a_cancel_is_not_retried(bench: Bench) -> None:
    """A request that was open when the attempt failed makes it a cancelled job."""
    bench.define(kind("chatter"))
    with bench.worker() as worker:
        job_id = bench.enqueue("chatter", {"times": "not a number"})
        worker.tick(NOW)
        eventually(lambda: worker.executor._finished)
        bench.app.jobs.cancel(job_id, NOW)
        worker.tick(NOW)

    assert bench.state(job_id) == "cancelled"


def test_a_cancelled_pending_job_never_runs(bench: Bench) -> None:
    """A pending job is cancelled at once and never runs."""
    bench.define(kind("ok"))
    job_id = bench.enqueue("ok")
    assert bench.app.jobs.cancel(job_id, NOW) is JobState.CANCELLED

    with bench.worker() as worker:
        for _ in range(3):
            worker.tick(NOW)

    assert (bench.state(job_id), bench.job(job_id).run_number) == ("cancelled", 0)


def test_a_cancel_of_an_earlier_run_does_not_stop_the_next(bench: Bench) -> None:
    """A request carries the claim token: it stops that run and no later one."""
    bench.define(kind("hold"))
    with bench.worker() as worker:
        job_id = started(bench, worker, "hold")
        assert not worker.executor.request_stop(job_id, "cancel", "late", "another token")
        assert bench.state(job_id) == "running"
        gate().opened.set()
        assert bench.run(worker, job_id)[0].status == "completed"


def test_a_coroutine_is_interrupted_once(bench: Bench) -> None:
    """Whichever comes first, the context or the await: a handler that cleans up is not interrupted again."""
    bench.define(kind("asks_and_awaits"))
    with bench.worker() as worker:
        job_id = started(bench, worker, "asks_and_awaits")
        bench.app.jobs.cancel(job_id, NOW)
        job = bench.run(worker, job_id)[0]

    assert job.status == "cancelled"
    assert gate().said == ["JobCancelled", "cleaned up"]


# ---- lost claims and shutdown


def test_a_lost_claim_stops_the_handler(bench: Bench) -> None:
    """Where the token is no longer the row's, nothing changes; it is told once, and the handler is stopped."""
    bench.define(kind("work"), kind("says", "say_until_stopped"))
    with bench.worker() as worker:
        job_id = started(bench, worker, "says")
        with bench.app.database.write() as connection:
            connection.exec_driver_sql(f"UPDATE background_jobs SET claim_token = 'another' WHERE id = {job_id}")
        bench.until(worker, lambda: not worker.has_work(), "the end of the handler")
        worker.tick(NOW)

    job = bench.job(job_id)
    assert (job.status, job.claim_token, job.result) == ("running", "another", None)
    assert [told.run.id for told in bench.of(ClaimLost)] == [job_id]
    assert gate().said == ["finally"]


def test_a_lost_claim_is_told_at_settle_too(bench: Bench) -> None:
    """A handler that said nothing meanwhile: its result is refused, and that is told once."""
    bench.define(kind("hold"))
    with bench.worker() as worker:
        job_id = started(bench, worker, "hold")
        with bench.app.database.write() as connection:
            connection.exec_driver_sql(f"UPDATE background_jobs SET claim_token = 'another' WHERE id = {job_id}")
        gate().opened.set()
        bench.until(worker, lambda: not worker.has_work())

    assert bench.job(job_id).claim_token == "another"
    assert [told.run.id for told in bench.of(ClaimLost)] == [job_id]


@pytest.mark.parametrize("name", ["work", "hold_async"])
def test_a_shutdown_gives_the_attempt_back(bench: Bench, name: str) -> None:
    """A shutdown interrupts handlers and gives their attempts back: the job is due at once."""
    bench.define(kind(name, retry=ONCE))
    with bench.worker() as worker:
        job_id = started(bench, worker, name)
        worker.accepting = False
        worker.executor.stop_all("shutdown", "released: SIGTERM")
        bench.until(worker, lambda: not worker.has_work())

    job = bench.job(job_id)
    assert (job.status, job.attempt, job.run_at, job.run_number) == ("pending", 0, NOW, 1)
    assert [(one.outcome, one.error) for one in bench.attempts(job_id)] == [("released", "released: SIGTERM")]


def test_a_loop_that_closes_lets_its_thread_end(bench: Bench) -> None:
    """A worker that was closed leaves neither its loop nor its idle threads behind."""
    bench.define(kind("ok"), kind("hold_async"))
    before = set(threading.enumerate())
    with bench.worker() as worker:
        gate().opened.set()
        bench.run(worker, bench.enqueue("ok"), bench.enqueue("hold_async"))

    eventually(lambda: not set(threading.enumerate()) - before, "the end of all threads of the worker")
