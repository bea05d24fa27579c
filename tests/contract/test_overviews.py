"""Looks inside: who runs jobs, how much waits and whether anybody takes it, what is next, what has ended."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from runner.domain.job import JobState
from runner.domain.overview import Life, LimitView, NextFire, QueueView, ScheduleSums
from runner.storage import overviews
from runner.storage.database import Database
from runner.storage.overviews import Overviews
from runner.storage.setup import HEAD
from tests.factories import (
    HOUR,
    MINUTE,
    NOW,
    Stores,
    make_definitions,
    make_edit,
    make_job,
    make_new_job,
    make_running,
    make_schedule,
    make_worker,
    start,
)

SECOND = timedelta(seconds=1)


@pytest.fixture
def looks(database: Database) -> Overviews:
    """Locks are free where their file is called so."""
    words = {"free": True, "held": False, "lost": None}
    return Overviews(database, lambda path: words[path.name])


def test_queues_are_counted_by_what_their_jobs_wait_for(stores: Stores, looks: Overviews) -> None:
    """Due; waiting for a time, a retry or an earlier job; running. What has ended is not counted."""
    for run_at in (NOW - MINUTE, NOW - HOUR, NOW + SECOND):
        make_job(stores, queue="a", run_at=run_at)
    make_job(stores, queue="a", run_at=NOW - HOUR, waiting_for="overlap", schedule_name="nightly")
    make_job(stores, queue="b", run_at=NOW + SECOND)
    make_running(stores, queue="c")
    make_job(stores, JobState.COMPLETED, queue="d")

    assert looks.look(NOW).queues == [
        QueueView("a", 2, 2, 0, NOW - HOUR),
        QueueView("b", 0, 1, 0, None),
        QueueView("c", 0, 0, 1, None),
    ]


@pytest.mark.parametrize(
    ("worker", "untaken"),
    [
        ({}, []),
        ({"queues": {"only": ["a"]}}, ["b"]),
        ({"queues": {"except": ["a"]}}, ["a"]),
        ({"concurrency": 0}, ["a", "b"]),
        ({"lock_file": "/locks/free"}, ["a", "b"]),
        ({"lock_file": "/locks/held"}, []),
        ({"last_heartbeat": NOW - 61 * SECOND}, ["a", "b"]),
        ({"last_heartbeat": NOW + HOUR}, []),
    ],
)
def test_a_queue_is_taken_by_a_live_worker_that_has_it(
    stores: Stores, looks: Overviews, worker: dict[str, object], untaken: list[str]
) -> None:
    """Only queues with jobs that are due are marked; a worker that is dead, silent or runs nothing takes none."""
    stores.workers.register(make_worker(**worker))
    for queue in "ab":
        make_job(stores, queue=queue, run_at=NOW)
    make_job(stores, queue="later", run_at=NOW + HOUR)
    assert [queue.name for queue in looks.look(NOW).untaken] == untaken


def test_the_lock_tells_death_and_the_beat_silence(stores: Stores, looks: Overviews) -> None:
    """A free lock is death at once; a held one is no life: a stopped process holds it too."""
    late = NOW - 2 * MINUTE
    for name, lock, beat in (("1", "free", NOW), ("2", "held", late), ("3", "lost", late), ("4", "held", NOW)):
        stores.workers.register(make_worker(name, lock_file=str(Path("/locks") / lock), last_heartbeat=beat))
    lives = [worker.life for worker in looks.look(NOW).workers]
    assert lives == [Life.GONE, Life.STALE, Life.STALE, Life.ALIVE]


def test_a_workers_file_is_the_one_in_force_by_hash_or_by_number(stores: Stores, looks: Overviews) -> None:
    """A comment changes the hash alone. Who follows no file is not asked."""
    assert looks.look(NOW).revision is None
    edit = make_edit(make_definitions(make_schedule()))
    stores.revisions.apply(edit, NOW)
    for name, sha256, number in (("1", edit.sha256, None), ("2", "x", 1), ("3", "x", 7), ("4", None, None)):
        stores.workers.register(make_worker(name, config_sha256=sha256, config_revision=number))
    seen = looks.look(NOW)
    assert seen.revision is not None
    assert (seen.revision.number, seen.revision.sha256, seen.revision.applied_by) == (1, edit.sha256, "a test")
    assert [worker.is_current for worker in seen.workers] == [True, True, False, None]


def test_problems_are_told_once_and_by_the_living(stores: Stores, looks: Overviews) -> None:
    """Several processes with one problem are one line, since the first said so."""
    for name, problem, at, lock in (
        ("1", "a", NOW - MINUTE, "held"), ("2", "a", NOW - HOUR, "held"), ("3", "b", NOW, "free"),
        ("4", None, None, "held"),
    ):  # fmt: skip
        lock_file = f"/locks/{lock}"
        stores.workers.register(make_worker(name, config_problem=problem, config_problem_at=at, lock_file=lock_file))
    (problem,) = looks.look(NOW).problems
    assert (problem.message, problem.since, problem.processes) == ("a", NOW - HOUR, 2)


def test_schedules_are_counted_and_the_next_fires_are_those_that_will_be(stores: Stores, looks: Overviews) -> None:
    """Paused, disabled and retired ones fire nothing."""
    names = ("active", "paused", "gone")
    every = [make_schedule(name, every=HOUR) for name in names] + [make_schedule("disabled", every=HOUR, enabled=False)]
    stores.revisions.apply(make_edit(make_definitions(*every)), NOW)
    stores.schedules.pause("paused", NOW, by="x", reason=None)
    left = [schedule for schedule in every if schedule.name != "gone"]
    stores.revisions.apply(make_edit(make_definitions(*left), base=1), NOW)
    seen = looks.look(NOW)
    assert seen.schedules == ScheduleSums(active=1, paused=1, disabled=1, retired=1)
    (row,) = [row for row in stores.schedules.all() if row.name == "active"]
    assert row.next_run is not None
    assert list(seen.fires) == [NextFire("active", row.job_type or "", row.next_run)]


def test_running_and_ended_jobs_are_given_in_order(stores: Stores, looks: Overviews) -> None:
    """The longest running first, the last ended first, and no more than asked for."""
    first = make_running(stores, now=NOW)
    second = make_running(stores, now=NOW + MINUTE)
    done = [make_job(stores, state, now=NOW + 2 * MINUTE).id for state in (JobState.COMPLETED, JobState.FAILED)]
    assert [job.id for job in looks.running(9)] == [first.id, second.id]
    assert [job.id for job in looks.running(1)] == [first.id]
    assert {job.id for job in looks.ended(9)} == set(done)
    assert len(looks.ended(1)) == 1


@pytest.mark.parametrize(
    "name",
    ["_PENDING", "_WAITING", "_RUNNING_BY_QUEUE", "_RUNNING_BY_WORKER", "_RUNNING_BY_LIMIT", "_RUNNING", "_ENDED"],
)
def test_a_look_reads_indexes_alone_on_sqlite(database: Database, name: str) -> None:
    """Finished jobs, a million of them, cost a look nothing."""
    compiled = getattr(overviews, name).compile(database._reader)
    values = compiled.params | {"now": "2026", "n": 5}
    with database.read() as connection:
        arguments = tuple(values[one] for one in compiled.positiontup or ())
        plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", arguments)]
    assert all("INDEX jobs_" in step or "TEMP B-TREE" in step for step in plan), plan


def test_limits_tell_how_full_they_are(stores: Stores, looks: Overviews) -> None:
    """By what runs, over all machines; what runs without a limit counts for none."""
    stores.revisions.apply(make_edit(make_definitions(limits={"api": 1, "files": 3})), NOW)
    run = stores.jobs.enqueue(make_new_job(), NOW)
    start(stores, run.id, limit="api")
    make_running(stores)
    assert looks.limits() == [LimitView("api", 1, 1), LimitView("files", 3, 0)]
    assert [one.is_full for one in looks.limits()] == [True, False]


def test_the_database_is_told_by_its_kind(database: Database, looks: Overviews) -> None:
    seen = looks.database()
    assert seen.kind == ("sqlite" if database.is_file else "postgresql")
    assert seen.schema == HEAD
    assert seen.bytes > 0
    assert (seen.wal_bytes is None) is (not database.is_file)
