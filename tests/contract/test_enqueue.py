"""The way in: what an enqueue leaves in the database."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from runner.config.intake import Call, Intake
from runner.domain.errors import DatabaseUnavailable, RunnerError
from runner.domain.job import Enqueued, JobPolicy, JobState, NewJob, UniqueKey
from runner.domain.outcome import Completed
from runner.domain.retry import RetryPolicy
from runner.domain.schedule import Unique, UniqueUntil
from runner.storage import rows_postgres
from runner.storage.database import Database
from runner.storage.revisions import Edit
from runner.storage.serial import policy_from
from tests.contract.databases import everything
from tests.factories import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Stores,
    end,
    make_definitions,
    make_job,
    make_job_type,
    make_new_job,
    make_schedule,
    start,
)


def test_a_job_is_pending_and_due_now(stores: Stores) -> None:
    """An enqueued job is pending, never run, and due at once unless it says when."""
    enqueued = stores.jobs.enqueue(NewJob("mail"), NOW)
    job = stores.jobs.get(enqueued.id)

    assert enqueued == Enqueued(job.id or 0, JobState.PENDING)
    assert (job.status, job.run_at, job.created_at) == ("pending", NOW, NOW)
    assert (job.attempt, job.run_number, job.stalls, job.progress, job.max_attempts) == (0, 0, 0, 0, 3)
    assert (job.claim_token, job.worker_id, job.started_at, job.completed_at, job.result) == (None,) * 5


def test_everything_that_was_said_is_in_the_row(stores: Stores) -> None:
    """Priority, queue, `run_at`, project, schedule, parent, revision and policy are the job's own from here on."""
    policy = JobPolicy(HOUR, RetryPolicy(7, "linear", (SECOND, MINUTE), retry_on=("OSError",)), "fail", 9)
    payload = {"text": "Grüße 🎉", "numbers": [1, 2.5, None, True], "nested": {"a": {}}}
    said: dict[str, Any] = {
        "queue": "slow",
        "priority": 2,
        "run_at": NOW + DAY,
        "project_id": "p-1",
        "schedule_name": "nightly",
        "scheduled_for": NOW,
        "parent_id": 7,
        "revision": 3,
        "payload": payload,
    }

    job = stores.jobs.get(stores.jobs.enqueue(make_new_job(policy=policy, **said), NOW).id)

    assert {name: getattr(job, name) for name in said} == said
    assert (policy_from(job.policy), job.max_attempts) == (policy, 7)


@pytest.mark.parametrize("unique", [None, UniqueKey("k", "finished")], ids=["plain", "unique"])
def test_a_job_is_made_under_the_revision_in_force_alone(stores: Stores, unique: UniqueKey | None) -> None:
    """What was read of an older one, or of another database's, makes none; under whatever is one like any other."""
    job = make_new_job(unique=unique)
    edit = Edit(make_definitions(), "one", "1", 0, "me")
    stores.revisions.apply(edit, NOW)
    first = stores.revisions.current()
    stores.revisions.apply(replace(edit, definitions=make_definitions(make_schedule()), sha256="2", base=1), NOW)
    second = stores.revisions.current()
    assert first is not None
    assert second is not None

    for other in (first, replace(second, sha256="9"), replace(second, applied_at=NOW - SECOND)):
        assert stores.jobs.enqueue_under(other, job, NOW) is None
    assert stores.jobs.counts()["pending"] == 0

    made = stores.jobs.enqueue_under(second, job, NOW)
    assert made is not None
    assert stores.jobs.get(made.id).status == "pending"


def test_bulk_keeps_the_order(stores: Stores) -> None:
    """A bulk enqueue answers in the order of its jobs, also beyond one batch of the driver."""
    jobs = [make_new_job(payload={"n": number}) for number in range(2500)]

    made = stores.jobs.enqueue_many(jobs, NOW)

    assert [one.id for one in made] == sorted(one.id for one in made)
    for number in (0, 1, 999, 1000, 1001, 2499):
        assert stores.jobs.get(made[number].id).payload == {"n": number}


def test_bulk_is_all_or_none(database: Database, stores: Stores) -> None:
    """A job that cannot be stored takes the whole bulk with it."""
    before = everything(database)

    with pytest.raises(Exception, match="priority"):
        stores.jobs.enqueue_many([make_new_job(), make_new_job(priority=99), make_new_job()], NOW)

    assert everything(database) == before
    assert stores.jobs.enqueue_many([], NOW) == []


def test_ids_are_never_reused_after_a_prune(stores: Stores) -> None:
    """One integer everywhere, never reused after a prune."""
    last = make_job(stores, JobState.COMPLETED, now=NOW - DAY)
    assert stores.pruning.jobs(NOW) == 1

    assert stores.jobs.enqueue(make_new_job(), NOW).id > (last.id or 0)


# ---- unique


def unique(key: str = "k", until: UniqueUntil = "finished", expires: timedelta | None = None) -> NewJob:
    return make_new_job(unique=UniqueKey(key, until, NOW + expires if expires else None))


def test_a_duplicate_names_the_job_that_is_there(stores: Stores) -> None:
    """A duplicate enqueue returns the existing job and says so."""
    first = stores.jobs.enqueue(unique(), NOW)

    assert stores.jobs.enqueue(unique(), NOW) == Enqueued(first.id, JobState.PENDING, duplicate=True)
    assert not stores.jobs.enqueue(unique("other"), NOW).duplicate
    assert not stores.jobs.enqueue(make_new_job(), NOW).duplicate


def test_duplicates_within_one_bulk(stores: Stores) -> None:
    """A bulk may hold duplicates of itself; the others are enqueued, in order."""
    made = stores.jobs.enqueue_many([unique("a"), make_new_job(), unique("a"), unique("b"), unique("b")], NOW)

    assert [one.duplicate for one in made] == [False, False, True, False, True]
    assert (made[0].id, made[3].id) == (made[2].id, made[4].id)
    assert stores.jobs.counts()["pending"] == 3


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED])
def test_every_end_frees_the_key(stores: Stores, state: JobState) -> None:
    """Until finished: completed, failed or cancelled."""
    make_job(stores, state, unique=UniqueKey("k", "finished"))

    assert not stores.jobs.enqueue(unique(), NOW).duplicate


def test_cancelling_a_pending_job_frees_the_key(stores: Stores) -> None:
    """A job that never ran holds nothing."""
    first = stores.jobs.enqueue(unique(), NOW)
    stores.jobs.cancel(first.id, NOW)

    assert not stores.jobs.enqueue(unique(), NOW).duplicate


@pytest.mark.parametrize(("later", "duplicate"), [(HOUR - SECOND, True), (HOUR, False), (DAY, False)])
def test_a_window_is_the_longest_time_that_a_key_is_held(stores: Stores, later: timedelta, duplicate: bool) -> None:
    """`window: 1h` counts from the enqueue; after it the old job stays and the new one has the key."""
    first = stores.jobs.enqueue(unique(expires=HOUR), NOW)

    second = stores.jobs.enqueue(unique(expires=HOUR), NOW + later)

    assert (second.duplicate, second.id == first.id) == (duplicate, duplicate)
    assert stores.jobs.get(first.id).status == JobState.PENDING


def test_an_old_holder_takes_nothing_away_when_it_ends(stores: Stores) -> None:
    """A key that has passed on stays with its new holder when the old one ends."""
    first = stores.jobs.enqueue(unique(expires=HOUR), NOW)
    second = stores.jobs.enqueue(unique(expires=DAY), NOW + HOUR)

    run = start(stores, first.id, now=NOW + HOUR)
    end(stores, run, Completed(), now=NOW + HOUR)

    assert stores.jobs.enqueue(unique(), NOW + 2 * HOUR) == Enqueued(second.id, JobState.PENDING, duplicate=True)


@pytest.mark.parametrize(
    ("by", "other", "duplicate"),
    [
        ((), {"to": "a", "n": 1}, True),
        ((), {"n": 1, "to": "a"}, True),
        ((), {"to": "a", "n": 2}, False),
        (("to",), {"to": "a", "n": 2}, True),
        (("to",), {"to": "b", "n": 1}, False),
        (("missing",), {"to": "b"}, True),
    ],
)
def test_by_names_the_keys_that_tell_jobs_apart(
    stores: Stores, by: tuple[str, ...], other: dict[str, Any], duplicate: bool
) -> None:
    """`by: [keys]` compares these keys of the payload; without it, the whole payload; and never across types."""
    types = {name: make_job_type(name, unique=Unique(by=by)) for name in ("mail", "letter")}
    intake = Intake(make_definitions(job_types=types), 1, {})
    stores.jobs.enqueue(intake.job("mail", {"to": "a", "n": 1}, NOW), NOW)

    assert stores.jobs.enqueue(intake.job("mail", other, NOW), NOW).duplicate is duplicate
    assert not stores.jobs.enqueue(intake.job("letter", {"to": "a", "n": 1}, NOW), NOW).duplicate


def test_a_call_may_ask_for_uniqueness_itself(stores: Stores) -> None:
    """What the caller says goes before what the type says; the window starts at the enqueue."""
    intake = Intake(make_definitions(), 1, {})
    job = intake.job("mail", {}, NOW, Call(unique=Unique("started", HOUR)))

    assert job.unique is not None
    assert (job.unique.until, job.unique.expires_at) == ("started", NOW + HOUR)


@pytest.mark.parametrize("payload", [{"a": float("nan")}, {"a": "\x00"}, {"a": "\ud800"}, {"a": object()}, [1], None])
def test_what_two_databases_would_treat_differently_is_refused_at_the_door(stores: Stores, payload: Any) -> None:
    """NUL, lone surrogates and NaN are refused before anything is written."""
    with pytest.raises(RunnerError):
        stores.jobs.enqueue(Intake(make_definitions(), 1, {}).job("mail", payload, NOW), NOW)

    assert sum(stores.jobs.counts().values()) == 0


def test_an_enqueue_is_on_disk_when_it_returns_on_sqlite(database: Database, stores: Stores) -> None:
    """What was acknowledged is on disk before the answer: `synchronous=FULL`; a claim may be lost."""

    with database.write() as durable:
        assert durable.execute(text("PRAGMA synchronous")).scalar_one() == 2
    with database.write(durable=False) as relaxed:
        assert relaxed.execute(text("PRAGMA synchronous")).scalar_one() == 1


def test_a_writer_holds_the_lock_before_it_reads_on_sqlite(database: Database, stores: Stores) -> None:
    """One writer at a time: a write transaction begins with the write lock, not with its first write."""
    other = Database(database.url, busy_timeout=timedelta(milliseconds=20))
    try:
        with (
            database.write(),
            pytest.raises(DatabaseUnavailable, match=r"locked by another process for longer than 0\.02 s"),
            other.write(),
        ):
            pytest.fail("two writers at once")
        assert Stores(other).jobs.enqueue(make_new_job(), NOW).id
    finally:
        other.close()


def test_readers_do_not_wait_for_a_writer(database: Database, stores: Stores) -> None:
    """WAL: what is being written is not seen, and reading it does not wait."""
    job = make_job(stores)
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM background_jobs")
        assert stores.jobs.get(job.id or 0).status == JobState.PENDING
        connection.rollback()


def test_many_are_kept_letter_by_letter(stores: Stores) -> None:
    """Whatever way they go in: what means something to COPY is text like any other."""
    odd = ["\\N", "\\", "a\tb", "c\nd\r\n", "\\.", "é\u2028\x7f", "", "NULL", "{}", None]
    for batch in (odd, odd[:1], ["\\N", "\\N"], [None, None]):
        payloads = [{"text": text, "n": number} for number, text in enumerate(batch)]
        made = stores.jobs.enqueue_many(
            [make_new_job(payload=payload, project_id=payload["text"]) for payload in payloads], NOW
        )
        kept = [stores.jobs.get(one.id) for one in made]
        assert [(job.project_id, job.payload) for job in kept] == [(one["text"], one) for one in payloads]
        assert {job.created_at for job in kept} == {NOW}


def test_many_keep_their_own_values(stores: Stores) -> None:
    """What is alike and what is not, in whatever order: each row has its own, and numbers go with the order."""
    payloads: list[Any] = [{"a": 1}, {"a": True}, {"a": 1.0}, {}, {"t": 'say "x", {y}\\\n\t NULL é'}, {"a": None}]
    jobs = [
        make_new_job(
            payload=payload, priority=1 + n % 2, project_id=None if n % 3 else f"p,{n}", run_at=NOW + n * MINUTE
        )
        for n, payload in enumerate(payloads * 3)
    ]
    made = stores.jobs.enqueue_many(jobs, NOW)

    assert [one.id for one in made] == sorted({one.id for one in made})
    kept = stores.jobs.get_many([one.id for one in made])
    assert [(json.dumps(job.payload), job.priority, job.project_id, job.run_at) for job in kept] == [
        (json.dumps(job.payload), job.priority, job.project_id, job.run_at) for job in jobs
    ]


def test_many_that_are_the_same(stores: Stores) -> None:
    """The very same job, again and again."""
    made = stores.jobs.enqueue_many([make_new_job()] * 2500, NOW)
    assert len({one.id for one in made}) == stores.jobs.counts()["pending"] == 2500


def test_very_much_goes_in_parts_on_postgresql(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement has room for a gigabyte: in the order of the jobs all the same."""
    monkeypatch.setattr(rows_postgres, "LARGEST", 1000)
    made = stores.jobs.enqueue_many([make_new_job(payload={"n": n, "text": "x" * 200}) for n in range(50)], NOW)
    assert [job.payload["n"] for job in stores.jobs.get_many([one.id for one in made])] == list(range(50))
