"""What is too old goes, in short transactions; what an unfinished job owns or names stays, whatever its age."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from runner.domain.firing import Decision
from runner.domain.job import JobState
from runner.domain.ledger import SlotOutcome
from runner.domain.outcome import Completed, Failed
from runner.domain.said import LogLine, OutputPiece, Writes
from runner.storage.database import Database
from runner.storage.jobs import JobFilter
from tests.contract.databases import engines, everything
from tests.factories import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    Stores,
    end,
    make_definitions,
    make_edit,
    make_job,
    make_job_type,
    make_new_job,
    make_running,
    make_schedule,
    make_worker,
    start,
)

OLD = NOW - 40 * DAY
BEFORE = NOW - 30 * DAY
LINE, PIECE = LogLine(OLD, "info", "said"), OutputPiece(OLD, "o", "text/plain", b"x", append=True)


def prune_all(stores: Stores, before: datetime = BEFORE) -> None:
    kept = stores.pruning
    for prune in (kept.parts, kept.jobs, kept.slots, kept.revisions, kept.workers):
        while prune(before):
            pass


def rows(database: Database, table: str, column: str) -> list[Any]:
    return sorted(row[column] for row in everything(database)[table])


# ---- jobs


def test_prune_removes_what_ended_before_and_all_that_belongs_to_it(database: Database, stores: Stores) -> None:
    """Finished jobs from before that time go, with attempts, logs and outputs; nothing else does."""
    old = make_running(stores, now=NOW - 2 * DAY)
    end(stores, old, Failed("x"), now=NOW - 2 * DAY)
    old = start(stores, old.id, now=NOW - 2 * DAY + HOUR)
    stores.logs.write([Writes(old, lines=(LINE,), outputs=(PIECE,))])
    end(stores, old, Completed(), now=NOW - 2 * DAY + HOUR)
    kept = [
        make_job(stores, JobState.PENDING, now=NOW - 9 * DAY),
        make_job(stores, JobState.RUNNING, now=NOW - 9 * DAY),
        make_job(stores, JobState.COMPLETED, now=NOW - DAY),
    ]
    young = make_running(stores)
    stores.logs.write([Writes(young, lines=(LINE,), outputs=(PIECE,))])

    assert stores.pruning.jobs(NOW - DAY) == 1
    assert stores.pruning.jobs(NOW - DAY) == 0

    assert rows(database, "background_jobs", "id") == sorted([*(job.id or 0 for job in kept), young.id])
    assert rows(database, "job_attempts", "job_id") == []
    assert rows(database, "job_logs", "job_id") == rows(database, "job_outputs", "job_id") == [young.id]


def test_prune_goes_in_batches_oldest_first(stores: Stores) -> None:
    """At most `batch` at a time: a long table does not hold the write lock."""
    made = [make_job(stores, JobState.COMPLETED, now=NOW - number * HOUR).id for number in range(1, 6)]

    assert stores.pruning.jobs(NOW, batch=2) == 2
    assert {job.id for job in stores.jobs.find(JobFilter())[0]} == set(made[:3])
    assert [stores.pruning.jobs(NOW, batch=2) for _ in range(3)] == [2, 1, 0]


def test_a_job_that_said_much_goes_in_short_transactions(database: Database, stores: Stores) -> None:
    """Its lines, outputs and attempts first, so many at a time; then the job."""
    run = make_running(stores, now=OLD)
    stores.logs.write([Writes(run, lines=(LINE,) * 25, outputs=(PIECE,) * 7)])
    end(stores, run, Failed("x"), now=OLD)
    end(stores, start(stores, run.id, now=OLD + HOUR), Completed(), now=OLD + HOUR)

    assert [stores.pruning.parts(BEFORE, batch=10) for _ in range(5)] == [10, 10, 10, 3, 0]
    found = everything(database)
    assert [found[name] for name in ("job_logs", "job_outputs", "job_attempts")] == [[], [], []]
    assert stores.jobs.get(run.id).status == "completed"
    assert stores.pruning.jobs(BEFORE) == 1


# ---- slots


def skipped(slot: datetime) -> Decision:
    return Decision(slot, SlotOutcome.SKIPPED_MISSED, "missed")


def fire(stores: Stores, name: str, *slots: datetime, now: datetime) -> None:
    """Ledger rows of skipped slots, decided at `now`."""
    stores.schedules.backfill(name, [skipped(slot) for slot in slots], lambda one: make_new_job(), now)


def test_old_slots_go_and_the_newest_of_each_schedule_stays(database: Database, stores: Stores) -> None:
    """By the time of the decision; a schedule that seldom fires still shows when it last did."""
    stores.revisions.apply(make_edit(make_definitions(make_schedule("a"), make_schedule("b"))), OLD)
    fire(stores, "a", *(OLD + number * HOUR for number in range(4)), now=OLD + 4 * HOUR)
    fire(stores, "a", NOW - HOUR, now=NOW)
    fire(stores, "b", OLD, OLD + HOUR, now=OLD + HOUR)

    assert [stores.pruning.slots(BEFORE, batch=2) for _ in range(4)] == [2, 2, 1, 0]

    left = [(row["schedule_name"], row["slot"]) for row in everything(database)["schedule_slots"]]
    assert left == [("a", NOW - HOUR), ("b", OLD + HOUR)]


def test_the_slot_of_an_unfinished_job_stays(database: Database, stores: Stores) -> None:
    """As long as the job goes on; when that ends, its slot goes."""
    stores.revisions.apply(make_edit(make_definitions(make_schedule("a"))), OLD)
    due = Decision(OLD, SlotOutcome.ENQUEUED, None, run_at=OLD)
    stores.schedules.backfill("a", [due], lambda one: make_new_job(schedule_name="a"), OLD)
    fire(stores, "a", NOW, now=NOW)
    (job,), _ = stores.jobs.find(JobFilter(schedule="a"))

    assert stores.pruning.slots(BEFORE) == 0
    end(stores, start(stores, job.id or 0, now=NOW), Completed(), now=NOW)
    assert stores.pruning.slots(BEFORE) == 1


# ---- revisions


def test_old_revisions_lose_their_texts_and_are_never_taken_for_new(database: Database, stores: Stores) -> None:
    """What was out of force for longer than the retention. A file that was applied once stays known by its hash."""
    for number, at in enumerate((OLD - DAY, OLD, BEFORE - DAY, NOW)):
        stores.revisions.apply(make_edit(make_definitions(limits={"n": number + 1}), base=number), at)
    (*_, first) = stores.revisions.history()

    assert stores.pruning.revisions(BEFORE) == 2
    assert stores.pruning.revisions(BEFORE) == 0

    found = everything(database)["config_revisions"]
    assert [bool(row["source"]) and bool(row["body"]) for row in found] == [False, False, True, True]
    assert stores.revisions.knows(first.sha256)
    current = stores.revisions.current()
    assert current is not None
    assert current.number == 4


def test_the_revision_in_force_stays_however_old(database: Database, stores: Stores) -> None:
    """Age counts from the day on which another one took its place."""
    stores.revisions.apply(make_edit(make_definitions()), OLD)
    assert stores.pruning.revisions(NOW) == 0

    stores.revisions.apply(make_edit(make_definitions(limits={"n": 1}), base=1), NOW)
    assert stores.pruning.revisions(NOW) == 0
    assert stores.pruning.revisions(NOW + MINUTE) == 1


def test_a_revision_that_an_unfinished_job_names_stays(database: Database, stores: Stores) -> None:
    """Until that job has ended."""
    for number in range(3):
        edit = make_edit(make_definitions(job_types={"mail": make_job_type(priority=number + 1)}), base=number)
        stores.revisions.apply(edit, OLD + number * HOUR)
    job = make_job(stores, now=OLD, revision=1)
    make_job(stores, JobState.COMPLETED, now=NOW, revision=2)

    assert stores.pruning.revisions(BEFORE) == 1
    assert [bool(row["source"]) for row in everything(database)["config_revisions"]] == [True, False, True]
    stores.jobs.cancel(job.id or 0, NOW)
    assert stores.pruning.revisions(BEFORE) == 1


# ---- workers


def test_workers_that_nobody_has_heard_of_go(database: Database, stores: Stores) -> None:
    """One that holds a job is left to the rescue; one that beats stays."""
    make_running(stores, now=OLD, worker_id="holds")
    stores.workers.register(make_worker("gone", last_heartbeat=OLD))
    stores.workers.register(make_worker("here", started_at=OLD, last_heartbeat=NOW))

    assert [stores.pruning.workers(BEFORE) for _ in range(2)] == [1, 0]
    assert rows(database, "workers", "id") == ["here", "holds"]


# ---- all of it


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
def test_an_unfinished_jobs_things_are_never_pruned(database: Database, stores: Stores, state: JobState) -> None:
    """Its row, attempts, log, outputs, slot, revision and worker, at any age and under any retention."""
    stores.revisions.apply(make_edit(make_definitions(make_schedule("a"))), OLD)
    stores.revisions.apply(make_edit(make_definitions(make_schedule("a"), limits={"n": 1}), base=1), OLD + HOUR)
    due = Decision(OLD, SlotOutcome.ENQUEUED, None, run_at=OLD)
    stores.schedules.backfill("a", [due], lambda one: make_new_job(schedule_name="a", revision=1), OLD)
    fire(stores, "a", OLD + HOUR, now=OLD + HOUR)
    (job,), _ = stores.jobs.find(JobFilter(schedule="a"))
    run = start(stores, job.id or 0, now=OLD)
    stores.logs.write([Writes(run, lines=(LINE,), outputs=(PIECE,))])
    end(stores, run, Failed("x"), now=OLD)
    if state is JobState.RUNNING:
        start(stores, run.id, now=OLD + HOUR)
    before = everything(database)

    prune_all(stores, NOW + 1000 * DAY)

    after = everything(database)
    if state is JobState.PENDING:
        assert before.pop("workers")
        assert after.pop("workers") == [], "it holds nothing and was not heard of"
    assert after == before


def test_pruning_is_not_on_the_way_of_others(database: Database, stores: Stores) -> None:
    """Nothing old: no transaction changes a row, and none is durable."""
    make_job(stores, JobState.COMPLETED)
    make_running(stores)
    commits: list[str] = []
    durable = engines(database)[0]

    def note(connection: Any) -> None:
        commits.append("durable")

    before = everything(database)
    event.listen(durable, "begin", note)
    try:
        prune_all(stores)
    finally:
        event.remove(durable, "begin", note)
    assert (everything(database), commits) == (before, [])


DOORS: list[Callable[[Stores, datetime, int], int]] = [
    lambda stores, before, batch: stores.pruning.jobs(before, batch=batch),
    lambda stores, before, batch: stores.pruning.slots(before, batch=batch),
    lambda stores, before, batch: stores.pruning.revisions(before, batch=batch),
    lambda stores, before, batch: stores.pruning.workers(before, batch=batch),
]


@pytest.mark.parametrize("door", DOORS, ids=["jobs", "slots", "revisions", "workers"])
def test_no_more_than_a_batch_at_a_time(stores: Stores, door: Callable[[Stores, datetime, int], int]) -> None:
    """Each call takes what it is told, and the calls together take all."""
    for number in range(6):
        edit = make_edit(make_definitions(make_schedule("a"), limits={"n": number + 1}), base=number)
        stores.revisions.apply(edit, OLD + number * MINUTE)
        make_job(stores, JobState.COMPLETED, now=OLD)
        stores.workers.register(make_worker(f"old-{number}", last_heartbeat=OLD))
    fire(stores, "a", *(OLD + timedelta(minutes=number) for number in range(6)), now=OLD)

    taken: list[int] = []
    while not taken or taken[-1]:
        taken.append(door(stores, BEFORE, 2))
    assert max(taken) == 2
    assert sum(taken) >= 5
