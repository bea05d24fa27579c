"""The jobs of a state are found and counted by its own index, among however many that have ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from runner.domain.job import JobState
from runner.storage import states
from runner.storage.database import Database
from runner.storage.jobs import JobFilter
from tests.contract.explained import plans, walked
from tests.contract.test_pace import ended
from tests.factories import HOUR, NOW, Stores, make_job, make_new_job, make_running


def mix(stores: Stores) -> None:
    """Of every state some, and of those that have ended many."""
    for state, count in ((JobState.COMPLETED, 3), (JobState.FAILED, 2), (JobState.CANCELLED, 1)):
        for _ in range(count):
            make_job(stores, state)
    for _ in range(4):
        make_running(stores)
    for waiting in (None, "overlap", None):
        make_job(stores, schedule_name="nightly", waiting_for=waiting)
    ended(stores, 5000, NOW - HOUR)


def analyze(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("ANALYZE"))


def test_every_state_is_counted(stores: Stores) -> None:
    mix(stores)
    assert stores.jobs.counts() == {"pending": 3, "running": 4, "completed": 5003, "failed": 2, "cancelled": 1}


def test_every_state_of_some_projects_is_counted(database: Database, stores: Stores) -> None:
    """What else belongs to others is not; in one statement, by their index."""
    mix(stores)
    for project, state in (("shop", JobState.FAILED), ("shop", JobState.PENDING), ("blog", JobState.PENDING)):
        make_job(stores, state, project_id=project)
    make_job(stores, project_id="garden")
    none = dict.fromkeys(JobState, 0)
    assert stores.jobs.counts(JobFilter(projects=("shop", "blog"))) == none | {"pending": 2, "failed": 1}
    assert stores.jobs.counts(JobFilter(projects=("shop",), type=("no",))) == none
    assert stores.jobs.counts(JobFilter(projects=())) == none
    assert stores.jobs.counts(JobFilter()) == stores.jobs.counts()
    analyze(database)
    (plan,) = plans(database, lambda: stores.jobs.counts(JobFilter(projects=("shop",))))
    assert not walked(plan)


@pytest.mark.parametrize("many", [1, 3, 1000])
@pytest.mark.parametrize("state", ["pending", "running"])
def test_a_listing_is_the_same_by_whichever_way(
    stores: Stores, state: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newest first, page after page, those that wait for an earlier job too; all other conditions hold."""
    mix(stores)
    monkeypatch.setattr(states, "MANY", many)
    everything = [job.id for job in stores.jobs.find(JobFilter(), limit=10_000)[0] if job.status == state]
    first, after = stores.jobs.find(JobFilter((state,)), limit=2)
    rest, end = stores.jobs.find(JobFilter((state,)), limit=2, after=after)
    assert [job.id for job in first + rest] == everything
    assert end is None
    skipped, _ = stores.jobs.find(JobFilter((state,)), limit=2, offset=1)
    assert [job.id for job in skipped] == everything[1:3]
    assert stores.jobs.find(JobFilter((state,), type=("other",)))[0] == []


@pytest.mark.parametrize(
    "look",
    [
        lambda stores: stores.jobs.find(JobFilter(("pending",)), limit=20),
        lambda stores: stores.jobs.find(JobFilter(("running",)), limit=20),
    ],
)
def test_what_has_ended_is_not_walked(database: Database, stores: Stores, look: Callable[[Stores], object]) -> None:
    """Where little waits and little runs."""
    mix(stores)
    analyze(database)
    for plan in plans(database, lambda: look(stores)):
        assert walked(plan) == [], plan


def test_counting_walks_for_what_has_ended_alone(database: Database, stores: Stores) -> None:
    """PostgreSQL may do that by the table, until it was vacuumed."""
    mix(stores)
    analyze(database)
    (plan,) = plans(database, stores.jobs.counts)
    assert len(walked(plan)) <= (0 if database.is_file else 1), plan


def test_among_many_that_wait_the_newest_are_met_in_order(stores: Stores) -> None:
    """Then the list is not sorted whole for its first page."""
    stores.jobs.enqueue_many([make_new_job() for _ in range(states.MANY)], NOW)
    analyze(stores.database)
    count, listing = plans(stores.database, lambda: stores.jobs.find(JobFilter(("pending",)), limit=20))
    assert count
    assert not [line for line in listing if "B-TREE" in line or "Sort" in line], listing
