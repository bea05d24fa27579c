"""The jobs table for people and programs: look, cancel, retry."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from runner.domain.access_rows import AuditEntry
from runner.domain.errors import Conflict, NotFound, RunnerError
from runner.domain.job import WAITING_FOR_OVERLAP, InFlight, JobState, UniqueKey
from runner.domain.outcome import Completed, Failed, Snoozed
from runner.storage.access import AccessStore
from runner.storage.database import Database
from runner.storage.jobs import JobFilter
from tests.contract.databases import everything
from tests.factories import (
    DAY,
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
    start,
)

TERMINAL = [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED]


def test_a_job_that_is_not_there(stores: Stores) -> None:
    """Every door says NotFound, with the way to look."""
    doors: list[Callable[[int], Any]] = [
        stores.jobs.get,
        lambda job: stores.jobs.cancel(job, NOW),
        lambda job: stores.jobs.retry(job, NOW),
    ]
    for door in doors:
        with pytest.raises(NotFound, match="there is no job 17") as caught:
            door(17)
        assert caught.value.hint == "runner jobs list"


# ---- cancel


def test_a_read_inside_a_read_is_of_the_same_snapshot(database: Database, stores: Stores) -> None:
    """So that what belongs together is read together; afterwards it is as ever."""
    with database.read():
        assert stores.jobs.counts()["pending"] == 0
        stores.jobs.enqueue(make_new_job(), NOW)
        assert stores.jobs.counts()["pending"] == 0
        with pytest.raises(NotFound):
            stores.jobs.get(1)
    assert stores.jobs.counts()["pending"] == 1


def test_a_pending_job_is_cancelled_at_once_and_never_runs(stores: Stores) -> None:
    """A pending job is `cancelled` at once and never runs."""
    job = make_job(stores, unique=UniqueKey("k", "finished"))

    assert stores.jobs.cancel(job.id or 0, NOW, "no need") == JobState.CANCELLED
    row = stores.jobs.get(job.id or 0)

    assert (row.status, row.completed_at, row.error, row.unique_key) == ("cancelled", NOW, "no need", None)
    with pytest.raises(AssertionError, match="could not be claimed"):
        start(stores, job.id or 0, now=NOW + DAY)


def test_a_retrying_job_is_cancelled_at_once(stores: Stores) -> None:
    """A job between two attempts is pending; its history stays."""
    run = make_running(stores)
    end(stores, run, Failed("broken"))

    assert stores.jobs.cancel(run.id, NOW) == JobState.CANCELLED
    assert [one.error for one in stores.jobs.attempts([run.id])[run.id]] == ["broken"]


def test_a_running_job_gets_a_request(stores: Stores) -> None:
    """A running job goes on until it hears of the request; its worker finds it with the token and the reason."""
    run = make_running(stores, worker_id="w1")

    assert stores.jobs.cancel(run.id, NOW, "too slow") == JobState.RUNNING
    assert stores.jobs.cancel(run.id, NOW + MINUTE, "much too slow") == JobState.RUNNING
    row = stores.jobs.get(run.id)

    assert (row.status, row.cancel_requested_at, row.completed_at) == ("running", NOW, None)
    assert stores.claims.cancel_requests("w1") == {run.id: (run.claim_token, "much too slow")}
    assert stores.claims.cancel_requests("w2") == {}


@pytest.mark.parametrize("state", TERMINAL)
def test_too_late_is_a_conflict(database: Database, stores: Stores, state: JobState) -> None:
    """Cancel of what has ended: Conflict, with the truth, and nothing changes."""
    job = make_job(stores, state)
    before = everything(database)

    with pytest.raises(Conflict, match=f"already {state}"):
        stores.jobs.cancel(job.id or 0, NOW)

    assert everything(database) == before


# ---- the operator's retry


@pytest.mark.parametrize("state", TERMINAL)
def test_an_operators_retry_starts_over_and_keeps_what_was(stores: Stores, state: JobState) -> None:
    """Pending again, attempt 0, the run number and the old history kept, the old policy kept."""
    policy = make_policy(timeout=timedelta(seconds=7))
    job = make_job(stores, state, policy=policy, payload={"a": 1}, priority=3)
    job_id = job.id or 0

    stores.jobs.retry(job_id, NOW + HOUR)
    row = stores.jobs.get(job_id)

    assert (row.status, row.attempt, row.stalls, row.run_number, row.run_at) == ("pending", 0, 0, 1, NOW + HOUR)
    assert (row.completed_at, row.started_at, row.result, row.claim_token, row.worker_id) == (None,) * 5
    assert (row.policy, row.payload, row.priority) == (job.policy, {"a": 1}, 3)
    (kept,) = stores.jobs.attempts([job_id])[job_id]
    assert (kept.run_number, kept.outcome, kept.error, kept.claim_token) == (1, state, job.error, job.claim_token)
    assert (kept.started_at, kept.finished_at) == (NOW, NOW)

    run = start(stores, job_id, now=NOW + HOUR)
    assert (run.run_number, run.attempt, run.policy) == (2, 1, policy)
    end(stores, run, Completed("2"))
    assert (stores.jobs.get(job_id).status, stores.jobs.get(job_id).error) == ("completed", None)


def test_the_history_grows_over_retries(stores: Stores) -> None:
    """The API gives all runs as one list: none is lost, none told twice."""
    job_id = make_job(stores).id or 0
    now = NOW
    for _ in range(3):
        for outcome in (Failed("a"), Snoozed(SECOND), Failed("b"), Failed("c")):
            now += HOUR
            end(stores, start(stores, job_id, now=now), outcome, now=now)
        assert stores.jobs.get(job_id).status == "failed"
        stores.jobs.retry(job_id, now)

    found = stores.jobs.attempts([job_id])[job_id]

    assert [one.run_number for one in found] == list(range(1, 13))
    assert [one.outcome for one in found] == ["failed", "snoozed", "failed", "failed"] * 3


def test_a_job_that_was_cancelled_before_it_ran_has_no_run_to_keep(stores: Stores) -> None:
    """The history tells runs, and there was none."""
    job_id = make_job(stores).id or 0
    stores.jobs.cancel(job_id, NOW)
    stores.jobs.retry(job_id, NOW)

    assert stores.jobs.attempts([job_id]) == {job_id: []}


def test_a_retried_job_that_was_cancelled_is_not_cancelled_again(stores: Stores) -> None:
    """The old request is gone with the old run."""
    run = make_running(stores)
    stores.jobs.cancel(run.id, NOW)
    end(stores, run, Failed("x"))
    stores.jobs.retry(run.id, NOW)

    run = start(stores, run.id)
    end(stores, run, Failed("y"))

    assert stores.jobs.get(run.id).status == "pending"


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
def test_what_is_not_finished_is_not_retried(database: Database, stores: Stores, state: JobState) -> None:
    """Conflict, and nothing changes."""
    job = make_job(stores, state)
    before = everything(database)

    with pytest.raises(Conflict, match=f"is {state}, not finished"):
        stores.jobs.retry(job.id or 0, NOW)

    assert everything(database) == before


# ---- looking


def populate(stores: Stores) -> list[int]:
    """Forty jobs of all kinds; their ids, newest first."""
    made: list[int] = []
    for number in range(40):
        job = make_job(
            stores,
            list(JobState)[number % 5],
            now=NOW + number * MINUTE,
            type=("mail", "letter", "fax")[number % 3],
            queue=("default", "slow")[number % 2],
            project_id=("p1", "p2", None)[number // 2 % 3],
            schedule_name=("nightly", None)[number % 7 > 2],
        )
        made.append(job.id or 0)
    return made[::-1]


FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({}, lambda job: True),
    ({"status": ("pending",)}, lambda job: job.status == "pending"),
    ({"status": ("failed", "cancelled")}, lambda job: job.status in ("failed", "cancelled")),
    ({"type": ("mail", "fax")}, lambda job: job.type in ("mail", "fax")),
    ({"queue": "slow"}, lambda job: job.queue == "slow"),
    ({"schedule": "nightly"}, lambda job: job.schedule_name == "nightly"),
    ({"project_id": "p2"}, lambda job: job.project_id == "p2"),
    ({"since": NOW + 10 * MINUTE}, lambda job: job.created_at >= NOW + 10 * MINUTE),
    ({"until": NOW + 10 * MINUTE}, lambda job: job.created_at < NOW + 10 * MINUTE),
    ({"q": "address"}, lambda job: "address" in (job.error or "")),
    ({"q": "lett"}, lambda job: job.type == "letter"),
    ({"q": "17"}, lambda job: job.id == 17),
    ({"q": "%"}, lambda job: False),
    ({"q": "_"}, lambda job: False),
    ({"q": "9" * 30}, lambda job: False),
    (
        {"status": ("failed",), "queue": "slow", "q": "address"},
        lambda job: job.status == "failed" and job.queue == "slow",
    ),
    ({"type": ("nothing",)}, lambda job: False),
]


def test_find_filters_and_pages_by_key(stores: Stores) -> None:
    """All conditions that are set hold; the pages are complete, newest first, without duplicates; count agrees."""
    ids = populate(stores)
    jobs = [stores.jobs.get(job_id) for job_id in ids]
    for values, accepts in FILTERS:
        where = JobFilter(**values)
        expected = [job.id for job in jobs if accepts(job)]
        assert stores.jobs.count(where) == len(expected), values
        for size in (1, 7, len(expected) or 1, 50):
            assert pages(stores, where, size) == expected, (values, size)


def pages(stores: Stores, where: JobFilter, size: int) -> list[int | None]:
    found: list[int | None] = []
    after: int | None = None
    while True:
        page, after = stores.jobs.find(where, limit=size, after=after)
        assert len(page) <= size
        found += [job.id for job in page]
        if after is None:
            return found


def test_pages_hold_still_while_jobs_arrive(stores: Stores) -> None:
    """Keyset paging: what is enqueued between two pages shifts nothing."""
    ids = [make_job(stores).id for _ in range(6)][::-1]

    first, after = stores.jobs.find(JobFilter(), limit=3)
    stores.jobs.enqueue_many([make_new_job()] * 5, NOW)
    second, _ = stores.jobs.find(JobFilter(), limit=3, after=after)

    assert [job.id for job in first + second] == ids


def test_counts_and_what_is_in_flight(stores: Stores) -> None:
    """Every state has a count; unfinished jobs are told by type and schedule."""
    make_job(stores)
    make_job(stores, schedule_name="nightly")
    end(stores, make_running(stores, schedule_name="nightly"), Failed("x"))
    make_job(stores, JobState.RUNNING, schedule_name="nightly")
    make_job(stores, JobState.FAILED)

    assert stores.jobs.counts() == {"pending": 3, "running": 1, "completed": 0, "failed": 1, "cancelled": 0}
    assert stores.jobs.in_flight() == {("mail", None): InFlight(1, 0, 0), ("mail", "nightly"): InFlight(1, 1, 1)}


def test_attempts_of_many_jobs(stores: Stores) -> None:
    """Every job that was asked for is in the answer."""
    run = make_running(stores)
    end(stores, run, Failed("x"))

    found = stores.jobs.attempts([run.id, 999])

    assert [one.error for one in found[run.id]] == ["x"]
    assert found[999] == []
    assert stores.jobs.attempts([]) == {}


# ---- many at once


def entries(action: str, job_ids: list[int]) -> list[AuditEntry]:
    return [AuditEntry(at=NOW, who="me", address="::1", action=action, target=f"job {one}") for one in job_ids]


def audited(database: Database) -> list[str | None]:
    return [one.target for one in AccessStore(database).audited()][::-1]


def told(answers: list[Any]) -> list[str]:
    return [one.message if isinstance(one, RunnerError) else one.value for one in answers]


def test_many_are_cancelled_and_each_answer_tells_what_became_of_it(database: Database, stores: Stores) -> None:
    """In the order that was asked; what could not be holds up nothing, and is not audited."""
    ids = [make_job(stores, state).id or 0 for state in (JobState.PENDING, JobState.RUNNING, *TERMINAL)]
    asked = [*ids[::-1], 99]

    answers = stores.jobs.cancel_many(asked, NOW, "enough", entries("cancel", asked))

    assert told(answers) == [
        "job 5 is already cancelled", "job 4 is already failed", "job 3 is already completed", "running", "cancelled",
        "there is no job 99",
    ]  # fmt: skip
    assert audited(database) == ["job 2", "job 1"]
    assert (stores.jobs.get(1).status, stores.jobs.get(1).error) == ("cancelled", "enough")
    assert (stores.jobs.get(2).cancel_requested_at, stores.jobs.get(2).cancel_reason) == (NOW, "enough")
    assert stores.jobs.cancel_many([], NOW, "enough") == []


def test_many_are_retried_and_each_keeps_its_history(database: Database, stores: Stores) -> None:
    """As one by one."""
    ids = [make_job(stores, state).id or 0 for state in (JobState.PENDING, JobState.RUNNING, *TERMINAL)]

    answers = stores.jobs.retry_many([*ids, 99], NOW + HOUR, entries("retry", [*ids, 99]))

    assert told(answers) == [
        "job 1 is pending, not finished", "job 2 is running, not finished", *["pending"] * 3, "there is no job 99",
    ]  # fmt: skip
    assert audited(database) == ["job 3", "job 4", "job 5"]
    assert {stores.jobs.get(one).status for one in ids[2:]} == {"pending"}
    assert [len(kept) for kept in stores.jobs.attempts(ids).values()] == [0, 0, 1, 1, 1]


def test_many_are_done_with_their_audit_or_not_at_all(database: Database, stores: Stores) -> None:
    """One transaction: an entry that cannot be written undoes all of it."""
    ids = [make_job(stores).id or 0 for _ in range(3)]
    broken = entries("cancel", ids)
    broken[2].who = None  # type: ignore[assignment]

    with pytest.raises(IntegrityError):
        stores.jobs.cancel_many(ids, NOW, "enough", broken)

    assert {stores.jobs.get(one).status for one in ids} == {"pending"}
    assert audited(database) == []


def test_what_waited_for_those_that_are_cancelled_may_run(stores: Stores) -> None:
    """Also where both are cancelled together: then neither runs."""
    first = make_job(stores, schedule_name="nightly").id or 0
    waits = make_new_job(schedule_name="nightly", waiting_for=WAITING_FOR_OVERLAP)
    waiting = [stores.jobs.enqueue(waits, NOW).id for _ in range(2)]

    stores.jobs.cancel_many([first, waiting[0]], NOW, "enough")

    assert [stores.jobs.get(one).status for one in (first, *waiting)] == ["cancelled", "cancelled", "pending"]
    assert stores.jobs.get(waiting[1]).waiting_for is None


def test_ids_and_heads_of_many(stores: Stores) -> None:
    """What a filter finds, without the jobs themselves, from one of them on."""
    populate(stores)
    failed = JobFilter((JobState.FAILED,))
    found, _ = stores.jobs.find(failed, limit=100)
    ids = [job.id or 0 for job in found]
    assert stores.jobs.find_ids(failed, limit=100) == ids
    assert stores.jobs.find_ids(failed, limit=2, upto=ids[2]) == ids[2:4]
    assert stores.jobs.heads([*ids[:2], 999]) == {job.id: (job.status, job.project_id) for job in found[:2]}
