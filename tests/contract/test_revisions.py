"""Applying a file: one transaction, all of it or nothing, and never a look back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from runner.domain.errors import DatabaseUnavailable, StaleRevision
from runner.domain.firing import Blocker, Decision, Firing, fire
from runner.domain.job import NewJob
from runner.domain.job_rows import Job
from runner.domain.ledger import ScheduleSlot, ScheduleStatus
from runner.domain.retry import RetryPolicy
from runner.domain.revision import ConfigRevision, Limit
from runner.domain.rows import Row
from runner.domain.schedule import Definitions, NotifyTarget, RunnerOptions, Schedule, Unique
from runner.domain.timing import timing
from runner.storage.database import Database
from runner.storage.revisions import Edit
from runner.storage.serial import schedule_from
from tests.contract.databases import everything, steps
from tests.factories import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Stores,
    make_definitions,
    make_edit,
    make_job,
    make_job_type,
    make_new_job,
    make_schedule,
)

LIMITS = Limit.__table__  # type: ignore[attr-defined]
TEN = 10 * MINUTE


def apply(stores: Stores, definitions: Definitions, now: datetime = NOW, **values: Any) -> int:
    current = stores.revisions.current()
    return stores.revisions.apply(make_edit(definitions, current.number if current else 0), now, **values)[0]


def limits(database: Database) -> dict[str, int]:
    with database.read() as connection:
        return {row.name: row.max for row in connection.execute(select(LIMITS))}


FULL = make_definitions(
    make_schedule(
        "a",
        cron=("0 6 * * MON", "@hourly"),
        timezone="Europe/Berlin",
        starts=NOW,
        until=NOW + DAY,
        retry=RetryPolicy(4, delay=(SECOND, MINUTE)),
        payload={"list": [1, {"x": None}], "text": "${HOME}"},
        labels={"team": "ä"},
    ),
    make_schedule("b", every=timedelta(seconds=90), jitter=timedelta(milliseconds=1500), renamed_from="z"),
    job_types={
        "mail": make_job_type(
            unique=Unique("started", HOUR, ("to",)),
            payload_schema={"type": "object"},
            limit="smtp",
            steps=("one", "two"),
        )
    },
    limits={"smtp": 2},
    runner=RunnerOptions(concurrency=5, handler_packages=("handlers", "more")),
    notify={"ops": NotifyTarget("ops", "https://example.org", "${SECRET}", ("failed", "completed"))},
    defaults={"retry": {"delay": "2s"}},
)


def test_the_definitions_in_force_are_those_that_were_applied(stores: Stores) -> None:
    """What was applied comes back equal, whatever it holds, from the database alone."""
    assert stores.revisions.current() is None

    number = apply(stores, FULL)
    current = stores.revisions.current()

    assert current is not None
    assert (number, current.number, current.applied_at, current.applied_by) == (1, 1, NOW, "a test")
    assert current.definitions == FULL
    assert schedule_from(stores.schedules.get("a").spec) == FULL.schedules["a"]


def test_the_same_definitions_make_no_revision(database: Database, stores: Stores) -> None:
    """Comments and key order change nothing: no revision, no new `next_run`."""
    apply(stores, FULL)
    before = everything(database)
    other_order = replace(FULL, schedules=dict(reversed([*FULL.schedules.items()])))
    edit = make_edit(other_order, base=1, source="# the same, with a comment")

    assert stores.revisions.apply(edit, NOW + DAY) == (1, [])
    assert everything(database) == before


def test_every_edit_is_a_revision_and_old_ones_stay(stores: Stores) -> None:
    """Revisions are numbered and kept; an edit of a job type alone is one too."""
    first, second = make_definitions(make_schedule()), make_definitions(make_schedule(), limits={"x": 1})

    assert [apply(stores, one) for one in (first, second, first)] == [1, 2, 3]
    assert [row.number for row in stores.revisions.history()] == [3, 2, 1]
    assert [row.number for row in stores.revisions.history(limit=1)] == [3]
    assert stores.revisions.current() is not None
    assert stores.schedules.get("nightly").revision == 1


@pytest.mark.parametrize("base", [0, 2, 7])
def test_a_plan_against_another_revision_is_refused(database: Database, stores: Stores, base: int) -> None:
    """Another process applied a revision since this plan was made: nothing is written."""
    apply(stores, FULL)
    before = everything(database)

    with pytest.raises(StaleRevision):
        stores.revisions.apply(make_edit(make_definitions(), base), NOW)

    assert everything(database) == before


def test_all_of_it_or_nothing_on_sqlite(database: Database, stores: Stores) -> None:
    """Broken off at any point, an apply leaves everything as it was; then it goes through."""
    old = make_definitions(*(make_schedule(f"s{n}") for n in range(6)), limits={"a": 1, "b": 2})
    new = make_definitions(
        make_schedule("s0", every=HOUR),
        make_schedule("s1", payload={"x": 1}),
        make_schedule("renamed", renamed_from="s2"),
        make_schedule("new"),
        limits={"b": 3, "c": 4},
    )
    apply(stores, old)
    make_job(stores, schedule_name="s2")
    before = everything(database)
    broken = 0

    for budget in range(0, 2000, 3):
        try:
            with steps(database, budget):
                apply(stores, new)
        except DatabaseUnavailable:
            broken += 1
            assert everything(database) == before, f"after {budget} tens of steps"
        else:
            break

    assert broken > 20
    assert stores.revisions.current().definitions == new  # type: ignore[union-attr]
    assert limits(database) == {"b": 3, "c": 4}
    assert [row.name for row in stores.schedules.all()] == ["new", "renamed", "s0", "s1"]


def test_the_limits_are_those_of_the_revision(database: Database, stores: Stores) -> None:
    """Apply writes the named limits: new, changed and gone."""
    apply(stores, make_definitions(limits={"a": 1, "b": 2}))
    apply(stores, make_definitions(limits={"b": 5}))
    assert limits(database) == {"b": 5}

    apply(stores, make_definitions())
    assert limits(database) == {}


def decide(now: datetime) -> Any:
    def decided(row: ScheduleStatus, blockers: Sequence[Blocker]) -> Firing:
        schedule = schedule_from(row.spec)
        paused = row.paused_at is not None
        return fire(schedule, timing(schedule), row.cursor, now, paused=paused, blockers=blockers)

    return decided


def job_of(name: str, decision: Decision) -> NewJob:
    return make_new_job(schedule_name=name, scheduled_for=decision.slot)


def tick(stores: Stores, now: datetime) -> None:
    for name in stores.schedules.due(now):
        stores.schedules.fire(name, now, decide(now), partial(job_of, name))


def test_a_rename_keeps_history_pause_and_cursor(stores: Stores) -> None:
    """A rename moves the schedule with its ledger, its jobs and its pause; what fires next stays what it was."""
    apply(stores, make_definitions(make_schedule("old")))
    tick(stores, NOW + TEN)
    stores.schedules.pause("old", NOW + TEN, by="me", reason="why not")
    before = stores.schedules.get("old")

    apply(stores, make_definitions(make_schedule("new", renamed_from="old")), NOW + 15 * MINUTE)
    after = stores.schedules.get("new")

    moved = {"name", "spec", "updated_at", "revision"}
    assert after.model_dump(exclude=moved) == before.model_dump(exclude=moved)
    assert [row.slot for row in stores.schedules.history("new")] == [NOW + TEN]
    assert {job.schedule_name for job in [stores.jobs.get(1)]} == {"new"}
    assert [row.name for row in stores.schedules.all(retired=True)] == ["new"]
    assert apply(stores, make_definitions(make_schedule("new", renamed_from="old")), NOW + DAY) == 2


def test_a_rename_takes_the_place_of_a_retired_one(stores: Stores) -> None:
    """What an earlier, retired schedule left under the new name gives way."""
    apply(stores, make_definitions(make_schedule("new", every=MINUTE), make_schedule("old")))
    tick(stores, NOW + TEN)
    apply(stores, make_definitions(make_schedule("old")), NOW + TEN)

    apply(stores, make_definitions(make_schedule("new", renamed_from="old")), NOW + 11 * MINUTE)

    assert [(row.name, row.retired_at, row.cursor) for row in stores.schedules.all(retired=True)] == [
        ("new", None, NOW + TEN)
    ]
    assert [row.slot for row in stores.schedules.history("new")] == [NOW + TEN]


@pytest.mark.parametrize(("away", "paused"), [(DAY - SECOND, True), (DAY, False)])
def test_a_retired_schedule_comes_back(stores: Stores, away: timedelta, paused: bool) -> None:
    """Retired: no new slots, queued jobs stay. Back within 24 h, its pause survives; nothing is made up."""
    apply(stores, make_definitions(make_schedule()))
    tick(stores, NOW + TEN)
    stores.schedules.pause("nightly", NOW, by="me", reason=None)
    apply(stores, make_definitions(), NOW + 11 * MINUTE)
    gone = stores.schedules.get("nightly")
    tick(stores, NOW + HOUR)

    assert (gone.retired_at, gone.next_run) == (NOW + 11 * MINUTE, None)
    assert stores.jobs.get(1).status == "pending"

    back = NOW + 11 * MINUTE + away
    apply(stores, make_definitions(make_schedule()), back)
    row = stores.schedules.get("nightly")
    tick(stores, back)

    assert (row.retired_at, row.cursor, row.paused_at is not None) == (None, back, paused)
    assert (row.paused_by is not None) is paused
    assert [row.slot for row in stores.schedules.history("nightly")] == [NOW + TEN]


def test_lookback_is_for_names_never_seen(stores: Stores) -> None:
    """`--since 24h` lets a schedule that this database has never seen look that far back."""
    apply(stores, make_definitions(make_schedule("seen")))
    apply(stores, make_definitions(), NOW + MINUTE)

    apply(stores, make_definitions(make_schedule("seen"), make_schedule("new")), NOW + HOUR, lookback=DAY)

    assert stores.schedules.get("seen").cursor == NOW + HOUR
    assert stores.schedules.get("new").cursor == NOW + HOUR - DAY
    assert stores.schedules.due(NOW + HOUR) == ["new"]


def test_an_apply_never_touches_a_pause_or_the_past(stores: Stores) -> None:
    """Pause belongs to the database: a reload does not touch it, nor `last_run`, nor the creation."""
    apply(stores, make_definitions(make_schedule()))
    tick(stores, NOW + TEN)
    stores.schedules.pause("nightly", NOW + TEN, by="me", reason="why not")
    before = stores.schedules.get("nightly")

    apply(stores, make_definitions(make_schedule(every=HOUR, payload={"x": 1})), NOW + DAY)
    after = stores.schedules.get("nightly")

    for name in ("paused_at", "paused_by", "pause_reason", "last_run", "created_at"):
        assert getattr(after, name) == getattr(before, name), name


# ---- any number of edits at any times

EDITS: list[dict[str, Any]] = [
    {"every": 7 * MINUTE},
    {"every": HOUR},
    {"cron": ("*/5 * * * *",)},
    {"cron": ("0 * * * *", "30 12 * * *")},
    {"cron": ("0 12 * * *",), "timezone": "Asia/Kolkata"},
    {"every": 7 * MINUTE, "enabled": False},
    {"every": 7 * MINUTE, "starts": NOW + DAY},
    {"every": MINUTE, "catch_up": "all", "catch_up_window": 7 * DAY},
    {"every": 7 * MINUTE, "catch_up": "all", "catch_up_window": 7 * DAY},
    {"every": HOUR, "payload": {"x": 1}},
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["tick", "tick", "edit", "retire"]), st.integers(0, 30_000), st.integers(0, len(EDITS) - 1)
    ),
    min_size=2,
    max_size=12,
)


@settings(derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_an_edit_never_looks_back(database: Database, stores: Stores, said: list[tuple[str, int, int]]) -> None:
    """After an edit of the timing no slot from before it is fired or stands in the ledger; each slot stands once."""
    with database.write(durable=False) as connection:
        for table in (ScheduleSlot, ScheduleStatus, ConfigRevision, Job):
            connection.execute(delete(Row.metadata.tables[str(table.__tablename__)]))
    now, edited, first = NOW, NOW, make_schedule(**EDITS[0], overlap="allow")
    in_force: Schedule | None = first
    apply(stores, make_definitions(first), now)
    seen: set[datetime] = set()
    for what, wait, which in said:
        now += wait * SECOND
        if what == "tick":
            tick(stores, now)
        else:
            wanted = make_schedule(**EDITS[which], overlap="allow") if what == "edit" else None
            apply(stores, make_definitions(*([wanted] if wanted else [])), now)
            if wanted is None or in_force is None or _fires_otherwise(in_force, wanted):
                edited = now
            in_force = wanted
        fresh = [row for row in stores.schedules.history(limit=100_000) if row.slot not in seen]
        assert all((row.first_slot or row.slot) > edited for row in fresh), (what, now, edited)
        assert all(row.slot <= now for row in fresh)
        seen |= {row.slot for row in fresh}


def _fires_otherwise(one: Schedule, other: Schedule) -> bool:
    def only_when(schedule: Schedule) -> Schedule:
        return replace(schedule, payload={}, catch_up="latest", catch_up_window=HOUR)

    return only_when(one) != only_when(other)


def test_two_databases_with_the_same_revision_do_not_share_it(stores: Stores) -> None:
    """What a process remembers of a revision belongs to its content, not to its number."""
    one = Edit(make_definitions(make_schedule()), "one", "sha-one", 0, "a test")
    stores.revisions.apply(one, NOW)
    assert stores.revisions.current() is not None

    with stores.database.write() as connection:
        connection.execute(delete(ConfigRevision.__table__))  # type: ignore[attr-defined]
    other = Edit(make_definitions(make_schedule("other")), "two", "sha-two", 0, "a test")
    stores.revisions.apply(other, NOW)

    assert set(stores.revisions.current().definitions.schedules) == {"other"}  # type: ignore[union-attr]
