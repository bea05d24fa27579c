"""What became of schedules lately: the newest slots and jobs of many, by a seek for each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest
from sqlalchemy import insert, text

from runner.domain.job import JobState
from runner.domain.ledger import SlotOutcome
from runner.storage.database import Database
from runner.storage.strips import SLOTS, last_jobs, strips
from tests.contract.explained import plans, walked
from tests.factories import (
    HOUR,
    MINUTE,
    NOW,
    Stores,
    make_definitions,
    make_edit,
    make_job,
    make_new_job,
    make_schedule,
)


def install(stores: Stores, *names: str) -> None:
    stores.revisions.apply(make_edit(make_definitions(*map(make_schedule, names))), NOW)


def write(stores: Stores, name: str, *slots: tuple[datetime, str, int | None]) -> None:
    rows = [
        {"schedule_name": name, "slot": slot, "outcome": outcome, "job_id": job, "reason": None, "blocker_id": None,
         "first_slot": None, "slot_count": 1, "decided_at": slot}
        for slot, outcome, job in slots
    ]  # fmt: skip
    with stores.database.write() as connection:
        connection.execute(insert(SLOTS), rows)


def test_the_newest_slots_come_in_order_with_what_became_of_them(stores: Stores) -> None:
    """How the job went; that it was pruned; else the outcome of the slot. Each schedule has its own number of them."""
    install(stores, "a", "b", "c", "other")
    done = make_job(stores, JobState.FAILED, schedule_name="a", project_id="shop")
    write(
        stores, "a", (NOW - HOUR, SlotOutcome.ENQUEUED, 99), (NOW, SlotOutcome.ENQUEUED, done.id),
        (NOW - 2 * HOUR, SlotOutcome.SKIPPED_PAUSED, None), (NOW - 3 * HOUR, SlotOutcome.ENQUEUED, done.id),
    )  # fmt: skip
    write(stores, "b", (NOW, SlotOutcome.SKIPPED_OVERLAP, None))
    write(stores, "other", (NOW, SlotOutcome.SKIPPED_MISSED, None))

    found = strips(stores.database, ["a", "b", "c"], 3)

    assert {name: [one.result for one in row] for name, row in found.items()} == {
        "a": ["skipped_paused", "enqueued", "failed"], "b": ["skipped_overlap"], "c": [],
    }  # fmt: skip
    (newest,) = [one.job for one in found["a"] if one.job is not None]
    assert (newest.id, newest.project_id, newest.completed_at) == (done.id, "shop", NOW)


def test_the_last_job_is_the_newest_whatever_started_it(stores: Stores) -> None:
    """By hand, by a slot; it may still wait."""
    install(stores, "a", "b")
    make_job(stores, JobState.COMPLETED, schedule_name="a")
    by_hand = make_job(stores, schedule_name="a")
    make_job(stores, schedule_name="elsewhere")
    found = last_jobs(stores.database, ["a", "b"])
    assert {name: (job.id, job.status) for name, job in found.items()} == {"a": (by_hand.id, "pending")}


@pytest.mark.parametrize("read", [lambda at: strips(at, ["s1"], 30), lambda at: last_jobs(at, ["s1"])])
def test_a_long_history_is_never_walked(stores: Stores, read: Callable[[Database], object]) -> None:
    """Of the ledger and of the jobs, only what is shown is read."""
    names = [f"s{n}" for n in range(20)]
    install(stores, *names)
    for name in names:
        write(stores, name, *((NOW - MINUTE * at, SlotOutcome.SKIPPED_PAUSED, None) for at in range(500)))
    stores.jobs.enqueue_many([make_new_job(schedule_name=name) for name in names * 250], NOW)
    with stores.database.write() as connection:
        connection.execute(text("ANALYZE"))

    for plan in plans(stores.database, lambda: read(stores.database)):
        assert [line for line in walked(plan) if "cron_schedules" not in line] == [], plan
        assert [line for line in plan if "INDEX" in line.upper()], plan
