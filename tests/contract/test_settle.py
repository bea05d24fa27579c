"""How runs end: under the fence, in one transaction, with a history."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from runner.domain.job import JobState, Run
from runner.domain.lifecycle import settle
from runner.domain.outcome import Cancelled, Completed, Failed, Outcome, Released, Snoozed, Stalled
from runner.domain.said import LogLine, OutputPiece, Progress, Writes
from runner.storage.claims import ClaimRequest, Lane
from runner.storage.database import Database
from runner.storage.jobs import JobFilter
from runner.storage.settling import Settlement
from tests.contract.databases import everything
from tests.factories import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Stores,
    end,
    make_job,
    make_new_job,
    make_policy,
    make_running,
    make_worker,
    start,
)

ALL_ENDS: list[Outcome] = [
    Completed('{"n":1}'),
    Failed("ValueError: x"),
    Failed("ValueError: x", for_good=True),
    Cancelled("no need"),
    Snoozed(HOUR),
    Released(),
    Stalled(),
]
LATER = NOW + MINUTE
LETTERS = JobFilter(type=("letter",))


def settlement(run: Run, outcome: Outcome, now: datetime = LATER, **values: Any) -> Settlement:
    return Settlement(run, settle(run, outcome, now, Random(0)), **values)


def test_a_completed_job_has_its_result_and_full_progress(stores: Stores) -> None:
    """Completed: result, finish time, progress 100, and its slot and key free."""
    run = make_running(stores)

    settled = end(stores, run, Completed('{"sent":[1,"é"]}'), now=LATER)
    job = stores.jobs.get(run.id)

    assert (set(settled.written), settled.lost) == ({run.id}, frozenset())
    assert (job.status, job.result, job.progress, job.error) == ("completed", {"sent": [1, "é"]}, 100, None)
    assert (job.completed_at, job.limit_name, job.unique_key) == (LATER, None, None)
    assert (job.claim_token, job.worker_id, job.started_at) == (run.claim_token, "w1", NOW)


@pytest.mark.parametrize(
    "result",
    ["1", "1.0", "-0.0", "9007199254740993", "123456789012345678901234567890", "1e300", '"007"', "0.1", "true"],
)
def test_a_result_is_kept_letter_by_letter(stores: Stores, database: Database, result: str) -> None:
    """A bare number is as the handler gave it: no rounding, no integer from a float."""
    run = make_running(stores)

    end(stores, run, Completed(result))

    with database.read() as connection:
        kept = connection.exec_driver_sql("SELECT CAST(result AS text) FROM background_jobs").scalar_one()
    assert (kept, repr(stores.jobs.get(run.id).result)) == (result, repr(json.loads(result)))


def test_a_clean_first_run_is_told_by_the_row_alone(stores: Stores) -> None:
    """A clean first run leaves no row in the history."""
    run = make_running(stores)
    end(stores, run, Completed())

    assert stores.jobs.attempts([run.id]) == {run.id: []}


def test_a_failed_attempt_waits_and_leaves_a_row(stores: Stores) -> None:
    """Every run that is superseded leaves a row; the job is pending again with a later `run_at`."""
    run = make_running(stores)
    end(stores, run, Failed("ValueError: no such address"), now=LATER)
    job = stores.jobs.get(run.id)

    assert (job.status, job.run_at, job.attempt, job.error) == (
        "pending",
        LATER + 2 * SECOND,
        1,
        "ValueError: no such address",
    )
    assert (job.claim_token, job.worker_id, job.started_at, job.completed_at) == (None,) * 4
    (row,) = stores.jobs.attempts([run.id])[run.id]
    assert row.model_dump() == {
        "job_id": run.id,
        "run_number": 1,
        "attempt": 1,
        "claim_token": run.claim_token,
        "worker_id": "w1",
        "started_at": NOW,
        "finished_at": LATER,
        "outcome": "failed",
        "error": "ValueError: no such address",
    }


def test_out_of_attempts_a_job_fails_and_keeps_its_last_error(stores: Stores) -> None:
    """After `max_attempts` the job is failed and keeps its last error; the final run is told by the job's row."""
    job = make_job(stores)
    now = NOW
    for number in (1, 2, 3):
        run = start(stores, job.id or 0, now=now)
        end(stores, run, Failed(f"error {number}"), now=now)
        now += HOUR
    row = stores.jobs.get(run.id)

    assert (row.status, row.error, row.attempt, row.run_number) == ("failed", "error 3", 3, 3)
    assert [(one.run_number, one.error) for one in stores.jobs.attempts([run.id])[run.id]] == [
        (1, "error 1"),
        (2, "error 2"),
    ]


@pytest.mark.parametrize(
    ("outcome", "attempt", "stalls", "run_at", "word"),
    [
        (Snoozed(HOUR), 0, 0, LATER + HOUR, "snoozed"),
        (Released(), 0, 0, NOW, "released"),
        (Stalled(), 1, 1, LATER + 2 * SECOND, "stalled"),
    ],
    ids=str,
)
def test_a_snooze_and_a_release_give_the_attempt_back_a_stall_does_not(
    stores: Stores, outcome: Outcome, attempt: int, stalls: int, run_at: datetime, word: str
) -> None:
    """The run number is never given back; each of them is told in the history."""
    run = make_running(stores)
    end(stores, run, outcome, now=LATER)
    job = stores.jobs.get(run.id)

    assert (job.status, job.attempt, job.stalls, job.run_number, job.run_at) == ("pending", attempt, stalls, 1, run_at)
    assert [one.outcome for one in stores.jobs.attempts([run.id])[run.id]] == [word]


def test_a_snooze_keeps_the_error_of_the_attempt_before(stores: Stores) -> None:
    """What went wrong last stays readable until the job completes."""
    run = make_running(stores)
    end(stores, run, Failed("broken"))
    end(stores, start(stores, run.id, now=LATER), Snoozed(HOUR), now=LATER)

    assert stores.jobs.get(run.id).error == "broken"


def test_the_third_stall_ends_the_job(stores: Stores) -> None:
    """`max_stalls` (3) ends the job as failed, with the error of the stall."""
    policy = make_policy(retry=replace(make_policy().retry, max_attempts=10))
    job = make_job(stores, policy=policy)
    for number in range(3):
        end(stores, start(stores, job.id or 0, now=NOW + number * HOUR), Stalled(), now=NOW + number * HOUR)
    row = stores.jobs.get(job.id or 0)

    assert (row.status, row.stalls, row.error) == ("failed", 3, "Job processor stopped responding")


# ---- the fence


@pytest.mark.parametrize("outcome", ALL_ENDS, ids=str)
def test_a_stale_token_changes_nothing(database: Database, stores: Stores, outcome: Outcome) -> None:
    """Where the token is no longer the row's, nothing changes, and the answer says so."""
    stale = make_running(stores)
    end(stores, stale, Released())
    fresh = start(stores, stale.id)
    before = everything(database)

    writes = Writes(stale, Progress(90), (LogLine(NOW, "info", "late"),), (OutputPiece(NOW, "o", "text/plain", b"x"),))
    settled = stores.claims.settle([settlement(stale, outcome, children=(make_new_job(),), writes=writes)], LATER)

    assert (settled.written, settled.lost) == ({}, frozenset({stale.id}))
    assert everything(database) == before
    assert end(stores, fresh, outcome).lost == frozenset()


@pytest.mark.parametrize("second", ALL_ENDS, ids=str)
@pytest.mark.parametrize("first", ALL_ENDS, ids=str)
def test_a_run_is_settled_once(stores: Stores, database: Database, first: Outcome, second: Outcome) -> None:
    """Exactly one settled outcome for each run: a second word about it is lost, whatever the first was."""
    run = make_running(stores)
    end(stores, run, first)
    before = everything(database)

    settled = stores.claims.settle([settlement(run, second, children=(make_new_job(),))], LATER)

    assert settled.lost == frozenset({run.id})
    assert everything(database) == before


def test_a_token_of_another_job_opens_nothing(database: Database, stores: Stores) -> None:
    """The fence is id and token together."""
    one, two = make_running(stores), make_running(stores)
    before = everything(database)

    assert end(stores, one._replace(claim_token=two.claim_token), Completed()).lost == {one.id}
    assert everything(database) == before


def test_a_batch_settles_what_it_may_and_names_what_it_may_not(stores: Stores) -> None:
    """A batch with a mix: each end is written or named in `lost`, none of them holds up another."""
    good = [make_running(stores) for _ in range(3)]
    stale = [make_running(stores) for _ in range(3)]
    for run in stale:
        end(stores, run, Released())
        start(stores, run.id)
    waiting = make_running(stores)
    mix = [stale[0], good[0], waiting, stale[1], good[1], good[2], stale[2]]
    ends: list[Outcome] = [
        Completed(),
        Completed("1"),
        Failed("x"),
        Failed("x"),
        Cancelled(),
        Snoozed(HOUR),
        Failed("y", (), True),
    ]

    batch = [settlement(run, outcome) for run, outcome in zip(mix, ends, strict=True)]
    settled = stores.claims.settle(batch, LATER)

    assert settled.lost == {run.id for run in stale}
    states = {run.id: stores.jobs.get(run.id).status for run in mix}
    assert states == {run.id: "running" for run in stale} | {
        good[0].id: "completed",
        waiting.id: "pending",
        good[1].id: "cancelled",
        good[2].id: "pending",
    }
    assert {job_id: transition.state for job_id, transition in settled.written.items()} == {
        good[0].id: "completed",
        waiting.id: "pending",
        good[1].id: "cancelled",
        good[2].id: "pending",
    }


@pytest.mark.parametrize("one_is_lost", [False, True])
def test_many_ends_are_each_kept_letter_by_letter(stores: Stores, database: Database, one_is_lost: bool) -> None:
    """However many are settled together: every result and error as it was given, and whose claim was lost is named."""
    results = [
        "1.0",
        "123456789012345678901234567890",
        '"\\"é\\u2028"',
        "null",
        '{"a":[1e300,-0.0]}',
        f'"{"x" * 100_000}"',
        None,
    ]
    error = 'it\'s "so"\n\té'
    ends: list[Outcome] = [*map(Completed, results), Failed(error, (), True), Cancelled("no")]
    batch = [settlement(make_running(stores), outcome) for outcome in ends]
    lost = make_running(stores)
    end(stores, lost, Released())
    start(stores, lost.id)
    if one_is_lost:
        batch.insert(3, settlement(lost, Completed("9")))

    settled = stores.claims.settle(batch, LATER)

    assert settled.lost == ({lost.id} if one_is_lost else frozenset())
    assert len(settled.written) == len(ends)
    with database.read() as connection:
        kept = connection.exec_driver_sql(
            "SELECT status, CAST(result AS text), error, progress FROM background_jobs ORDER BY id"
        )
        assert [tuple(row) for row in kept] == [
            *(("completed", result, None, 100.0) for result in results),
            ("failed", None, error, 0.0),
            ("cancelled", None, "no", 0.0),
            ("running", None, "released at shutdown", 0.0),
        ]


def test_an_earlier_end_at_the_same_instant_is_not_taken_for_ours(stores: Stores) -> None:
    """Within a batch too, another end of the same run is not reported as written."""
    run, other = make_running(stores), make_running(stores)
    end(stores, run, Completed(), now=LATER)
    again = settlement(run, Completed("2"), children=(make_new_job("letter"),))

    settled = stores.claims.settle([again, settlement(other, Completed())], LATER)

    assert (set(settled.written), settled.lost) == ({other.id}, frozenset({run.id}))
    assert stores.claims.settle([again], LATER).lost == {run.id}
    assert (stores.jobs.get(run.id).result, stores.jobs.count(LETTERS)) == (None, 0)


def test_settle_and_claim_are_one_transaction(stores: Stores) -> None:
    """The next claim rides in the transaction of the settle, and the place that was freed is there for it."""
    run = make_running(stores)
    waiting = make_job(stores)

    settled = stores.claims.settle(
        [settlement(run, Completed())], LATER, ClaimRequest("w1", [Lane("default", "mail")], 1)
    )

    assert [one.id for one in settled.claimed] == [waiting.id]
    assert set(settled.written) == {run.id}


def test_settling_nothing_is_allowed(stores: Stores) -> None:
    """An empty batch changes nothing."""
    assert stores.claims.settle([], NOW).written == {}


# ---- children and writes


def test_children_are_enqueued_with_the_completion(stores: Stores) -> None:
    """`ctx.enqueue`: child jobs, in the transaction that settles the parent."""
    run = make_running(stores)
    child = make_new_job("letter", parent_id=run.id)

    stores.claims.settle([settlement(run, Completed(), children=(child, child))], LATER)

    (found, _), _ = stores.jobs.find(LETTERS)
    assert (found.parent_id, found.status, found.created_at) == (run.id, "pending", LATER)
    assert stores.jobs.count(LETTERS) == 2


@pytest.mark.parametrize("outcome", ALL_ENDS[1:], ids=str)
def test_a_run_that_did_not_complete_has_no_children(stores: Stores, outcome: Outcome) -> None:
    """Children are enqueued where the run completed, or not at all."""
    run = make_running(stores)

    stores.claims.settle([settlement(run, outcome, children=(make_new_job("letter"),))], LATER)

    assert stores.jobs.count(LETTERS) == 0


def test_the_last_words_of_a_run_are_written_with_its_end(stores: Stores) -> None:
    """Logs and outputs that are still in hand go into the transaction that settles."""
    run = make_running(stores)
    writes = Writes(
        run, Progress(50, "half"), (LogLine(NOW, "info", "bye"),), (OutputPiece(NOW, "o", "text/plain", b"x"),)
    )

    stores.claims.settle([settlement(run, Failed("broken"), writes=writes)], LATER)

    assert [line.message for line in stores.logs.lines(run.id)] == ["bye"]
    assert stores.logs.outputs(run.id) == {"o": ("text/plain", b"x")}
    assert (stores.jobs.get(run.id).progress, stores.jobs.get(run.id).current_step) == (50, "half")


# ---- cancel requests


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Completed(), "completed"),
        (Failed("broken", for_good=True), "failed"),
        (Failed("broken"), "cancelled"),
        (Snoozed(HOUR), "cancelled"),
        (Released(), "cancelled"),
        (Stalled(), "cancelled"),
    ],
    ids=str,
)
def test_a_cancel_request_that_nobody_saw_is_honoured_at_the_settle(
    stores: Stores, outcome: Outcome, expected: str
) -> None:
    """A cancel and a completion that race: the first commit wins; a retry becomes a cancel."""
    run = make_running(stores)
    assert stores.jobs.cancel(run.id, NOW) == JobState.RUNNING

    settled = end(stores, run, outcome, now=LATER)
    job = stores.jobs.get(run.id)

    assert (job.status, settled.written[run.id].state) == (expected, expected)
    assert job.completed_at == LATER
    assert stores.jobs.attempts([run.id])[run.id] == []


def test_a_cancelled_job_of_a_dead_worker_is_cancelled_also_at_its_last_stall(stores: Stores) -> None:
    """A cancelled job of a dead worker is `cancelled`, never retried, whatever its stalls and attempts."""
    run = make_running(stores, policy=make_policy(on_stall="fail"))
    stores.jobs.cancel(run.id, NOW)

    end(stores, run, Stalled())

    assert stores.jobs.get(run.id).status == "cancelled"


# ---- jobs that wait for another


def queued(stores: Stores, name: str = "nightly", **values: Any) -> int:
    return make_job(stores, schedule_name=name, waiting_for="overlap", **values).id or 0


@pytest.mark.parametrize("outcome", [Completed(), Failed("x", for_good=True), Cancelled()], ids=str)
def test_a_waiting_job_starts_when_the_earlier_one_has_ended(stores: Stores, outcome: Outcome) -> None:
    """`overlap: queue`: one waits until the other has ended, however it ended; the next waits for this one."""
    run = make_running(stores, schedule_name="nightly")
    first, second, other = queued(stores), queued(stores), queued(stores, "hourly")
    make_running(stores, schedule_name="yearly")
    still = queued(stores, "yearly")

    end(stores, run, outcome, now=LATER)

    waiting = {job: stores.jobs.get(job).waiting_for for job in (first, second, other, still)}
    assert waiting == {first: None, second: "overlap", other: None, still: "overlap"}
    assert stores.jobs.get(first).run_at == LATER


def test_a_job_that_will_run_again_has_not_ended(stores: Stores) -> None:
    """A retry, a snooze and a release keep the others waiting."""
    run = make_running(stores, schedule_name="nightly")
    waiting = queued(stores)

    for outcome in (Failed("x"), Snoozed(SECOND), Released()):
        end(stores, run, outcome)
        assert stores.claims.promote(NOW) == 0
        run = start(stores, run.id, now=NOW + HOUR)
    end(stores, run, Completed())

    assert stores.jobs.get(waiting).waiting_for is None


def test_a_promoted_job_keeps_a_later_time_of_its_own(stores: Stores) -> None:
    """Jitter may have moved a waiting job's `run_at` beyond the end of the earlier one."""
    run = make_running(stores, schedule_name="nightly")
    waiting = queued(stores, run_at=NOW + HOUR)

    end(stores, run, Completed())

    assert stores.jobs.get(waiting).run_at == NOW + HOUR


def test_cancelling_the_earlier_job_lets_the_waiting_one_start(stores: Stores) -> None:
    """A cancel of a pending job is an end like any other; a waiting job can be cancelled as well."""
    earlier, first, second = make_job(stores, schedule_name="nightly"), queued(stores), queued(stores)

    assert stores.jobs.cancel(earlier.id or 0, NOW) == JobState.CANCELLED
    assert stores.jobs.get(first).waiting_for is None
    assert stores.jobs.cancel(first, NOW) == JobState.CANCELLED
    assert stores.jobs.get(second).waiting_for is None


# ---- a dead worker


def test_rescue_settles_the_runs_and_forgets_the_worker(stores: Stores) -> None:
    """The running jobs of a dead worker are rescued, as a failed attempt that is counted in `stalls`."""
    dead = [make_running(stores, worker_id="dead") for _ in range(2)]
    alive = make_running(stores, worker_id="alive")
    stores.jobs.cancel(dead[1].id, NOW)

    runs = stores.claims.running_of(["dead"])
    settled = stores.claims.rescue(["dead"], [settlement(run, Stalled()) for run in runs], LATER)

    assert set(settled.written) == {run.id for run in dead}
    assert [worker.id for worker in stores.workers.all()] == ["alive"]
    assert [stores.jobs.get(run.id).status for run in (*dead, alive)] == ["pending", "cancelled", "running"]
    assert (stores.jobs.get(dead[0].id).stalls, stores.jobs.get(dead[0].id).error) == (
        1,
        "Job processor stopped responding",
    )


@pytest.mark.parametrize("outcome", ALL_ENDS, ids=str)
def test_a_zombie_is_refused_after_its_rescue(database: Database, stores: Stores, outcome: Outcome) -> None:
    """A worker that was taken for dead and is not: its beat, settle and writes are all refused."""
    zombie = make_running(stores, worker_id="zombie")
    stores.claims.rescue(["zombie"], [settlement(zombie, Stalled())], LATER)
    start(stores, zombie.id, worker_id="w2", now=LATER + HOUR)
    before = everything(database)

    assert stores.workers.beat("zombie", LATER) is False
    assert stores.claims.held("zombie") == set()
    assert end(stores, zombie, outcome, now=LATER).lost == {zombie.id}
    assert stores.logs.write([Writes(zombie, Progress(99))]) == {zombie.id}
    assert everything(database) == before


def test_two_rescuers_settle_each_run_once(database: Database, stores: Stores) -> None:
    """Any other worker may rescue; the second one comes too late and changes nothing."""
    run = make_running(stores, worker_id="dead")
    batch = [settlement(run, Stalled())]
    stores.claims.rescue(["dead"], batch, LATER)
    before = everything(database)

    assert stores.claims.rescue(["dead"], batch, LATER).lost == {run.id}
    assert everything(database) == before


def test_a_beat_is_seen(stores: Stores) -> None:
    """A beat moves the time and the count; the hash of the worker's file rides with it."""
    stores.workers.register(make_worker("w1"))

    assert stores.workers.beat("w1", NOW + timedelta(seconds=10), "abc")
    assert stores.workers.beat("w1", NOW + timedelta(seconds=20))
    (worker,) = stores.workers.all()

    assert (worker.beats, worker.config_sha256) == (2, "abc")
    assert stores.workers.heartbeats(["w1", "w2"]) == {"w1": NOW + timedelta(seconds=20)}
    stores.workers.forget("w1")
    assert stores.workers.all() == []
