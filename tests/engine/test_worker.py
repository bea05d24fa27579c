"""The worker: what it claims, how many at once, and that no job touches another."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.domain.errors import DatabaseUnavailable
from runner.domain.job import JobState
from runner.domain.retry import RetryPolicy
from runner.engine.worker import Selection
from runner.telemetry import JobSettled, JobStarted
from tests.engine import sample_handlers
from tests.engine.bench import Bench, kind
from tests.engine.sample_handlers import gate
from tests.factories import HOUR, MINUTE, NOW, SECOND
from tests.waiting import eventually

ONCE = RetryPolicy(max_attempts=1)


def test_threads_coroutines_and_processes_count_together(bench: Bench, tmp_path: Path) -> None:
    """A worker never has more rows running than its concurrency: threads, coroutines and processes together."""
    bench.define(kind("hold"), kind("hold_async"), kind("process_hold", isolation="process"))
    place = tmp_path / "gate"
    ids = [bench.enqueue("process_hold", {"gate": str(place)}, priority=1)]
    ids += [bench.enqueue(name) for _ in range(4) for name in ("hold", "hold_async")]

    with bench.worker(concurrency=3) as worker:
        bench.until(worker, lambda: gate().entered == 2 and place.with_suffix(".pid").exists())
        for _ in range(5):
            worker.tick(NOW)
            assert bench.app.jobs.counts()["running"] == 3
        gate().opened.set()
        place.touch()
        for _ in range(200):
            worker.tick(NOW)
            assert bench.app.jobs.counts()["running"] <= 3
        bench.run(worker, *ids)

    assert bench.app.jobs.counts()["completed"] == 9
    assert gate().most <= 3


def test_a_free_place_is_taken_in_the_settling_transaction_on_sqlite(bench: Bench) -> None:
    """Outcomes are settled and the next jobs claimed in one transaction."""
    bench.define(kind("ok"))
    first, second = bench.enqueue("ok"), bench.enqueue("ok")

    with bench.worker(concurrency=1) as worker:
        worker.tick(NOW)
        eventually(lambda: worker.executor._finished)
        assert worker.executor.free(1) == 0, "what has ended holds its place until it is settled"
        said: list[str] = []
        for ((held, _),) in bench.app.database._writers.values():
            held.connection.driver_connection.set_trace_callback(said.append)
        worker.tick(NOW)
        assert (bench.state(first), bench.state(second)) == ("completed", "running")
        assert [one for one in said if one in ("BEGIN IMMEDIATE", "COMMIT")] == ["BEGIN IMMEDIATE", "COMMIT"]
        bench.run(worker, second)


def test_what_ended_while_nothing_could_be_asked_is_settled_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was gone for a moment, as the job ended: its outcome is not forgotten."""
    bench.define(kind("ok"))
    job_id = bench.enqueue("ok")
    with bench.worker() as worker:
        worker.tick(NOW)
        eventually(lambda: worker.executor._finished)
        for place, name in ((worker.claims, "lanes"), (worker, "changed")):
            with monkeypatch.context() as gone:
                gone.setattr(place, name, _unavailable)
                worker._is_idle, worker._looked_at, worker._ask_at = False, -9.0, 0.0
                with pytest.raises(DatabaseUnavailable):
                    worker.tick(NOW)
            assert worker.has_work()
        worker.tick(NOW)
        assert bench.state(job_id) == "completed"


def _unavailable() -> bool:
    raise DatabaseUnavailable("gone")


def test_errors_of_one_job_do_not_touch_others(bench: Bench) -> None:
    """Each job is isolated from the errors of others, whatever they raise."""
    names = ("ok", "fail", "fail_async", "leave", "exit_in_a_task", "hold_async")
    bench.define(*(kind(name, retry=ONCE) for name in names))
    with bench.worker(concurrency=4) as worker:
        neighbour = bench.enqueue("hold_async")
        bench.until(worker, lambda: gate().entered == 1)
        bad = [bench.enqueue(name) for name in ("fail", "fail_async", "exit_in_a_task")]
        bad += [bench.enqueue("leave", {"how": how}) for how in ("SystemExit", "KeyboardInterrupt")]
        good = [bench.enqueue("ok") for _ in range(5)]
        bench.run(worker, *bad, *good)
        assert [bench.state(one) for one in bad] == ["failed"] * 5
        assert [bench.state(one) for one in good] == ["completed"] * 5
        assert bench.state(neighbour) == "running"
        gate().opened.set()
        bench.run(worker, neighbour)

    assert bench.state(neighbour) == "completed"


@pytest.mark.parametrize("how", ["SystemExit", "KeyboardInterrupt"])
def test_an_exit_fails_only_its_job(bench: Bench, how: str) -> None:
    """A handler that raises SystemExit or KeyboardInterrupt has failed, like any other."""
    bench.define(kind("leave", retry=ONCE))

    job = bench.run_one("leave", {"how": how})

    assert job.status == "failed"
    assert (job.error or "").startswith(how)


def test_plain_handlers_run_in_threads_and_coroutines_on_one_loop(bench: Bench) -> None:
    """Sync handlers run in threads; all async handlers share one loop thread, many waiting at once."""
    bench.define(kind("ok"), kind("hold_async"))
    with bench.worker(concurrency=200) as worker:
        ids = [bench.enqueue("hold_async") for _ in range(200)]
        before = threading.active_count()
        bench.until(worker, lambda: gate().inside == 200)
        assert threading.active_count() <= before + 1
        gate().opened.set()
        jobs = bench.run(worker, *ids)
        plain = bench.run(worker, bench.enqueue("ok"))[0]

    assert {job.result for job in jobs} == {"handler-loop"}
    assert plain.result["thread"].startswith("handler-")
    assert plain.result["thread"] != "handler-loop"


def test_a_thread_is_reused(bench: Bench) -> None:
    """A thread that has ended its job takes the next one."""
    bench.define(kind("ok"))
    with bench.worker(concurrency=1) as worker:
        jobs = [bench.run(worker, bench.enqueue("ok"))[0] for _ in range(5)]

    assert {job.result["thread"] for job in jobs} == {"handler-1"}


def test_an_unknown_type_stays_pending(bench: Bench) -> None:
    """A worker without that job type leaves the job pending, not failed."""
    bench.define(kind("ok"))
    unknown, known = bench.enqueue("nobody", priority=1), bench.enqueue("ok")

    with bench.worker() as worker:
        bench.until(worker, lambda: bench.state(known) == "completed")
        for _ in range(3):
            worker.tick(NOW)

    assert (bench.job(unknown).status, bench.job(unknown).attempt) == ("pending", 0)


@pytest.mark.parametrize("handler", ["nothing_there", "takes_one"])
def test_a_missing_handler_parks_its_jobs(bench: Bench, handler: str) -> None:
    """A type whose handler this worker does not have waits for a worker that has it."""
    bench.define(kind("mail", handler), kind("ok"))
    parked, known = bench.enqueue("mail"), bench.enqueue("ok")

    with bench.worker() as worker:
        bench.until(worker, lambda: bench.state(known) == "completed")
        assert not worker.takes(bench.job(parked))

    assert bench.state(parked) == "pending"


def test_a_worker_learns_a_new_file(bench: Bench) -> None:
    """`know` takes over a file: what it adds is claimed from then on."""
    bench.define(kind("ok"))
    with bench.worker() as worker:
        job = bench.enqueue("echo", {"value": 1})
        worker.tick(NOW)
        assert bench.state(job) == "pending"
        worker.know(bench.define(kind("ok"), kind("echo")))
        assert bench.run(worker, job)[0].result == 1


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), "abcde"),
        (Selection(queues=frozenset({"slow"})), "c"),
        (Selection(exclude_queues=frozenset({"slow"})), "abde"),
        (Selection(types=frozenset({"echo"})), "b"),
        (Selection(schedules=frozenset({"nightly"})), "d"),
    ],
)
def test_a_selection_narrows_what_is_taken(bench: Bench, selection: Selection, taken: str) -> None:
    """Queues, types and schedules route; whatever is not selected stays pending, and is not waited for."""
    bench.define(kind("ok"), kind("echo"))
    jobs = {
        "a": bench.enqueue("ok"),
        "b": bench.enqueue("echo"),
        "c": bench.enqueue("ok", queue="slow"),
        "d": bench.enqueue("ok", schedule_name="nightly"),
        "e": bench.enqueue("ok", schedule_name="hourly"),
    }
    with bench.worker(selection=selection) as worker:
        assert "".join(name for name, job in jobs.items() if worker.takes(bench.job(job))) == taken
        bench.run(worker, *(jobs[name] for name in taken))
        assert worker.next_due() is None

    assert "".join(name for name, job in jobs.items() if bench.state(job) == "completed") == taken


def test_jobs_in_another_queue_than_their_type_are_found(bench: Bench) -> None:
    """The queue is the job's: an edit of the type's queue strands nothing that is queued."""
    bench.define(kind("ok", queue="new"))
    old = bench.enqueue("ok", queue="old")

    with bench.worker() as worker:
        assert bench.run(worker, old)[0].status == "completed"


def test_an_idle_worker_finds_a_new_queue_at_once(bench: Bench) -> None:
    """It claims where it looked before, as nobody shall wait for more; where work came elsewhere, it does not pause."""
    bench.define(kind("ok", queue="new"))
    with bench.worker() as worker:
        for _ in range(3):
            worker.tick(NOW)
        old = bench.enqueue("ok", queue="old")
        pause = worker.tick(NOW)
        assert (pause, bench.state(old)) == (0.0, "pending")
        worker.tick(NOW)
        assert bench.state(old) in ("running", "completed")
        bench.until(worker, lambda: not worker.has_work())


def test_a_limit_holds_over_workers(bench: Bench) -> None:
    """A named limit counts the running rows over all workers."""
    bench.define(kind("hold", limit="one"), kind("ok"), limits={"one": 1})
    ids = [bench.enqueue("hold") for _ in range(3)]

    with bench.worker(concurrency=3) as first, bench.worker(concurrency=3) as second:
        bench.until(first, lambda: gate().entered == 1)
        for _ in range(3):
            first.tick(NOW)
            second.tick(NOW)
        assert bench.app.jobs.counts()["running"] == 1
        gate().opened.set()
        bench.until(first, lambda: second.tick(NOW) and bench.app.jobs.counts()["completed"] == 3)

    assert gate().most == 1
    assert [bench.state(one) for one in ids] == ["completed"] * 3


def test_the_queue_is_told_when_to_look_again(bench: Bench) -> None:
    """`tick` returns at once while there may be more to claim, and at the latest at the poll interval."""
    bench.define(kind("hold", timeout=timedelta(seconds=0.5)))
    with bench.worker(concurrency=2) as worker:
        assert worker.tick(NOW) == 1.0
        bench.enqueue("hold")
        assert 0 < worker.tick(NOW) <= 0.5 or worker.tick(NOW) <= 0.5
        gate().opened.set()
        bench.until(worker, lambda: not worker.has_work())


# ---- retries and instructions


def test_a_retry_waits_as_its_policy_says(bench: Bench) -> None:
    """Fails twice, then succeeds: 2 s and then 4 s between the attempts, three attempts told."""
    bench.define(kind("fail_first"))
    with bench.worker() as worker:
        job_id = bench.enqueue("fail_first", {"times": 2})
        assert bench.run(worker, job_id)[0].run_at == NOW + 2 * SECOND
        worker.tick(NOW + 1.99 * SECOND)
        assert bench.state(job_id) == "pending"
        bench.clock.time = NOW + 2 * SECOND
        assert bench.run(worker, job_id)[0].run_at == NOW + 6 * SECOND
        bench.clock.time = NOW + 6 * SECOND
        job = bench.run(worker, job_id)[0]

    assert (job.status, job.result, job.attempt, job.run_number) == ("completed", "at last", 3, 3)
    assert [(one.outcome, one.attempt) for one in bench.attempts(job_id)] == [("failed", 1), ("failed", 2)]
    assert (bench.attempts(job_id)[0].error or "").startswith("ConnectionResetError: attempt 1\n")


def test_out_of_attempts_keeps_the_last_error(bench: Bench) -> None:
    """After max_attempts the job is failed and keeps its last error."""
    bench.define(kind("fail_first"))
    with bench.worker() as worker:
        job_id = bench.enqueue("fail_first", {"times": 9})
        for _ in range(3):
            job = bench.run(worker, job_id)[0]
            bench.clock.time += MINUTE

    assert (job.status, job.attempt) == ("failed", 3)
    assert (job.error or "").startswith("ConnectionResetError: attempt 3\n")
    assert [one.outcome for one in bench.attempts(job_id)] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("policy", "state"),
    [
        (RetryPolicy(retry_on=("ConnectionError",)), "pending"),
        (RetryPolicy(retry_on=("builtins.OSError",)), "pending"),
        (RetryPolicy(retry_on=("ValueError",)), "failed"),
        (RetryPolicy(give_up_on=("OSError",)), "failed"),
        (RetryPolicy(give_up_on=("ConnectionResetError",)), "failed"),
        (RetryPolicy(give_up_on=("KeyError",)), "pending"),
        (RetryPolicy(retry_on=("OSError",), give_up_on=("ConnectionError",)), "failed"),
    ],
)
def test_retry_on_and_give_up_on_match_base_classes(bench: Bench, policy: RetryPolicy, state: str) -> None:
    """`retry_on` and `give_up_on` match any class in the method resolution order of a ConnectionResetError."""
    bench.define(kind("fail_first", retry=policy))

    assert bench.run_one("fail_first", {"times": 1}).status == state


def test_retry_says_when(bench: Bench) -> None:
    """`Retry(after=...)` is a failed attempt with a wait of its own."""
    bench.define(kind("retry"))

    job = bench.run_one("retry", {"after": 90})

    assert (job.status, job.attempt, job.run_at) == ("pending", 1, NOW + 90 * SECOND)
    assert (job.error or "").startswith("runner.domain.outcome.Retry: later please")


@pytest.mark.parametrize(("name", "payload"), [("retry", {"after": 1e13}), ("snooze", {"seconds": 1e13})])
def test_a_wait_beyond_the_calendar_is_cut(bench: Bench, name: str, payload: dict[str, float]) -> None:
    """No wait that a handler asks for can end the worker: a year is the longest."""
    bench.define(kind(name))

    assert bench.run_one(name, payload).run_at == NOW + timedelta(days=365)


def test_cancel_ends_the_job(bench: Bench) -> None:
    """`Cancel(reason)` ends the job as cancelled, with its reason."""
    bench.define(kind("cancel"))

    job = bench.run_one("cancel", {"reason": "the customer left"})

    assert (job.status, job.error) == ("cancelled", "the customer left")


@pytest.mark.parametrize("reason", ["bad \ud800 and \x00", 42, ["a", "list"]])
def test_a_cancel_gives_any_reason(bench: Bench, reason: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a handler gives as its reason can be stored."""
    monkeypatch.setitem(sample_handlers.ODD, "reason", reason)
    bench.define(kind("cancel"))

    job = bench.run_one("cancel")

    assert job.status == "cancelled"
    assert job.error


def test_a_snooze_gives_the_attempt_back(bench: Bench) -> None:
    """`Snooze(for_=...)` runs later with the same attempt; the run is told in the history."""
    bench.define(kind("snooze", retry=ONCE))
    with bench.worker() as worker:
        job_id = bench.enqueue("snooze", {"seconds": 60})
        job = bench.run(worker, job_id)[0]
        assert (job.status, job.attempt, job.run_at) == ("pending", 0, NOW + MINUTE)
        bench.clock.time += MINUTE
        job = bench.run(worker, job_id)[0]

    assert (job.status, job.result, job.attempt, job.run_number) == ("completed", "awake", 1, 2)
    assert [one.outcome for one in bench.attempts(job_id)] == ["snoozed"]


def test_a_cancellation_of_something_awaited_is_a_failure(bench: Bench) -> None:
    """Nobody cancelled the job: an inner task that was cancelled is an error like any other."""
    bench.define(kind("inner_cancel"))

    job = bench.run_one("inner_cancel")

    assert (job.status, job.attempt) == ("pending", 1)
    assert (job.error or "").startswith("asyncio.exceptions.CancelledError")


# ---- results


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ("set", "the result is not JSON: Object of type set"),
        ("bytes", "the result is not JSON"),
        ("nan", "the result is not JSON: Out of range float values"),
        ("circle", "the result is not JSON: Circular reference"),
        ("huge", "the limit is 1,048,576 (1 MiB)"),
    ],
)
def test_a_result_that_is_no_json_fails_for_good(bench: Bench, of: str, words: str) -> None:
    """A result that is not JSON or over 1 MiB fails for good, with the limit named."""
    bench.define(kind("result"))

    job = bench.run_one("result", {"of": of})

    assert (job.status, job.attempt) == ("failed", 1)
    assert words in (job.error or "")


def test_odd_text_of_a_result_is_replaced(bench: Bench) -> None:
    """NUL and lone surrogates are replaced: every database takes what is stored."""
    bench.define(kind("result"))

    assert bench.run_one("result", {"of": "nul"}).result == {"text�": "a�b", "lone": "?"}


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": [1, 2.5, None, True]}, "ünïcödé 🎈", "x" * 1_000_000])
def test_a_result_comes_back_as_it_was(bench: Bench, value: Any) -> None:
    """Any JSON up to 1 MiB is a result."""
    bench.define(kind("echo"))

    job = bench.run_one("echo", {"value": value})

    assert (job.status, job.result, job.progress) == ("completed", value, 100)


def test_odd_text_that_a_handler_says_is_stored(bench: Bench) -> None:
    """Steps, messages, lines, names and errors with NUL or surrogates neither fail the job nor the worker."""
    bench.define(kind("odd_text", retry=ONCE), kind("ok"))

    job = bench.run_one("odd_text")

    assert job.status == "failed"
    assert (job.error or "").startswith("ValueError: err�or ?")
    assert (job.current_step, job.message) == ("st�ep", "mess?age")
    assert bench.lines(job.id or 0) == ["line�?"]
    assert bench.app.logs.outputs(job.id or 0) == {"na�me?": ("text/?plain", b"?")}


# ---- children


def test_children_exist_with_their_completed_parent(bench: Bench) -> None:
    """`ctx.enqueue` takes effect in the transaction that settles the parent as completed."""
    bench.define(kind("parent"), kind("ok"))
    children = [{"type": "ok", "payload": {"n": 1}}, {"type": "ok", "options": {"delay": 60, "priority": "high"}}]
    with bench.worker(concurrency=1) as worker:
        job_id = bench.enqueue("parent", {"children": children, "gate": "parent"}, project_id="acme")
        bench.until(worker, lambda: gate("parent").entered == 1)
        assert len(bench.all_jobs()) == 1
        gate("parent").opened.set()
        bench.until(worker, lambda: bench.state(job_id) == "completed")
        first, second = bench.all_jobs()[1:]

        assert (first.type, first.payload, first.parent_id, first.project_id) == ("ok", {"n": 1}, job_id, "acme")
        assert (second.run_at, second.priority) == (NOW + MINUTE, 2)
        assert bench.run(worker, first.id or 0)[0].status == "completed"


def test_children_of_a_failed_parent_never_exist(bench: Bench) -> None:
    """A parent that fails after `ctx.enqueue` leaves no child, at no attempt."""
    bench.define(kind("parent"), kind("ok"))

    job = bench.run_one("parent", {"children": [{"type": "ok"}], "fails": True})

    assert job.status == "pending"
    assert [one.id for one in bench.all_jobs()] == [job.id]


def test_children_of_a_lost_parent_never_exist(bench: Bench) -> None:
    """A run whose claim is lost enqueues nothing."""
    bench.define(kind("parent"), kind("ok"))
    with bench.worker() as worker:
        job_id = bench.enqueue("parent", {"children": [{"type": "ok"}], "gate": "parent"})
        bench.until(worker, lambda: gate("parent").entered == 1)
        with bench.app.database.write() as connection:
            connection.exec_driver_sql(f"UPDATE background_jobs SET claim_token = 'another' WHERE id = {job_id}")
        gate("parent").opened.set()
        bench.until(worker, lambda: not worker.has_work())

    assert len(bench.all_jobs()) == 1
    assert bench.state(job_id) == "running"


@pytest.mark.parametrize(
    ("child", "words"),
    [
        ({"type": "nobody"}, "there is no job type 'nobody'"),
        ({"type": ["ok"]}, "named by text, not by list"),
        ({"type": "ok", "options": {"priority": 11}}, "no such priority: 11"),
        ({"type": "strict", "payload": {"days": "many"}}, "the payload does not fit strict"),
        ({"type": "ok", "options": {"delay": 1e300}}, "no such delay"),
        ({"type": "ok", "options": {"project_id": 5}}, "project_id is text, not int"),
        ({"type": "ok", "options": {"run_at": "tomorrow"}}, "run_at is a datetime, not str"),
    ],
)
def test_a_child_that_cannot_be_enqueued_fails_its_parent(bench: Bench, child: dict[str, Any], words: str) -> None:
    """Another attempt would not help, and the worker goes on."""
    strict = kind("strict", "ok", payload_schema={"properties": {"days": {"type": "integer"}}})
    bench.define(kind("parent"), kind("ok"), strict)

    job = bench.run_one("parent", {"children": [child]})

    assert job.status == "failed"
    assert words in (job.error or "")
    assert len(bench.all_jobs()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [({"run_at": datetime(2026, 3, 2, 13, 0)}, "needs a time zone"), ({"project_id": "a\x00"}, "cannot be stored")],
)
def test_values_that_no_database_takes_fail_the_parent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    """A naive time or a NUL in a child's option fails the parent in place of the worker."""
    monkeypatch.setitem(sample_handlers.ODD, "options", options)
    bench.define(kind("odd_child"), kind("ok"))

    job = bench.run_one("odd_child")

    assert job.status == "failed"
    assert words in (job.error or "")


def test_a_child_runs_by_the_clock_of_the_run(bench: Bench) -> None:
    """With `run-once --now` in the past, a child is due then, not today."""
    bench.define(kind("parent"), kind("ok"))
    bench.clock.time = datetime(2020, 1, 1, tzinfo=UTC)

    with bench.worker() as worker:
        bench.run(worker, bench.enqueue("parent", {"children": [{"type": "ok"}]}))
        child = bench.all_jobs()[-1]
        assert (child.type, child.run_at) == ("ok", bench.clock.time)
        assert bench.run(worker, child.id or 0)[0].status == "completed"


# ---- the database


def test_an_outcome_waits_for_the_database(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended while the database could not be written is settled later; nothing is run again for it."""
    bench.define(kind("chatter"))
    with bench.worker(concurrency=1) as worker:
        gate().opened.set()
        job_id = bench.enqueue("chatter", {"times": 3})
        worker.tick(NOW)
        eventually(lambda: worker.executor._finished)
        settle = bench.app.claims.settle

        def full(*_: Any) -> Any:
            raise DatabaseUnavailable("the disk is full")

        monkeypatch.setattr(type(bench.app.claims), "settle", full)
        with pytest.raises(DatabaseUnavailable):
            worker.tick(NOW)
        with pytest.raises(DatabaseUnavailable):
            worker.tick(NOW)
        assert worker.has_work()
        monkeypatch.setattr(type(bench.app.claims), "settle", lambda _, *rest: settle(*rest))
        bench.until(worker, lambda: not worker.has_work())

    assert (bench.state(job_id), bench.job(job_id).attempt) == ("completed", 1)
    assert bench.lines(job_id) == ["first line", "second line"]


def test_events_tell_each_run_once(bench: Bench) -> None:
    """One JobStarted and one JobSettled for each run, after it is on disk."""
    bench.define(kind("fail_first"))
    states: list[str] = []
    bench.app.events.subscribe(
        lambda told: states.append(bench.state(told.run.id)) if isinstance(told, JobSettled) else None
    )
    with bench.worker() as worker:
        job_id = bench.enqueue("fail_first", {"times": 1})
        bench.run(worker, job_id)
        bench.clock.time += HOUR
        bench.run(worker, job_id)

    assert [told.run.attempt for told in bench.of(JobStarted)] == [1, 2]
    assert [told.transition.ended for told in bench.of(JobSettled)] == ["failed", "completed"]
    assert states == ["pending", "completed"]
    assert JobState(states[-1]).is_terminal


def test_a_handler_that_cannot_start_has_failed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without another thread fails the attempt, not the worker."""
    bench.define(kind("ok"))

    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with bench.worker() as worker:
        job_id = bench.enqueue("ok")
        with monkeypatch.context() as patch:
            patch.setattr("runner.engine.backends.threading.Thread.start", no_more)
            worker.tick(NOW)
        job = bench.run(worker, job_id)[0]
        assert (job.status, job.error) == ("pending", "the handler could not be started: can't start new thread")
        bench.clock.time += MINUTE
        assert bench.run(worker, job_id)[0].status == "completed"
