"""How much work waits, by queue and state: from indexes, whatever else is in the table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runner.domain.depth import QueueDepth
from runner.domain.job import JobState
from runner.storage import depths
from runner.storage.database import Database
from runner.storage.depths import queue_depths
from tests.factories import HOUR, MINUTE, NOW, Stores, make_job, make_running


def test_unfinished_jobs_are_counted_by_queue_and_state(stores: Stores) -> None:
    """Pending with those that wait for an earlier one, running; what has ended is not counted."""
    make_job(stores, JobState.COMPLETED, queue="done")
    make_running(stores, queue="slow")
    for queue in ("default", "default", "slow"):
        make_job(stores, queue=queue)
    for queue in ("default", "waiting"):
        assert make_job(stores, queue=queue, waiting_for="overlap", schedule_name="nightly").waiting_for

    found = {(one.queue, one.status): one.jobs for one in queue_depths(stores.database, NOW)}
    assert found == {
        ("default", "pending"): 3, ("slow", "pending"): 1, ("waiting", "pending"): 1, ("slow", "running"): 1,
    }  # fmt: skip


def test_the_oldest_job_that_is_due_is_told_by_queue(stores: Stores) -> None:
    """A job for later is not overdue, and neither is one that waits for an earlier one of its schedule."""
    make_job(stores, queue="a", run_at=NOW - MINUTE)
    make_job(stores, queue="a", run_at=NOW - HOUR)
    make_job(stores, queue="b", run_at=NOW + timedelta(seconds=1))
    make_job(stores, queue="c", run_at=NOW - HOUR, waiting_for="overlap", schedule_name="nightly")

    assert sorted(queue_depths(stores.database, NOW), key=lambda one: one.queue) == [
        QueueDepth("a", "pending", 2, 3600.0),
        QueueDepth("b", "pending", 1, None),
        QueueDepth("c", "pending", 1, None),
    ]


@pytest.mark.parametrize("statement", ["_PENDING", "_WAITING", "_RUNNING"])
def test_partial_indexes_alone_are_read_on_sqlite(dialect: str, database: Database, statement: str) -> None:
    """A scrape does not walk the table: finished jobs, a million of them, cost it nothing."""
    compiled = getattr(depths, statement).compile(database._reader)
    with database.read() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", tuple(compiled.params.values()))
        plan = [row.detail for row in rows]
    assert all("INDEX jobs_" in step or "TEMP B-TREE" in step for step in plan), plan
