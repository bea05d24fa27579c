"""Firing and the ledger: each (schedule, slot) is decided once, and the ledger says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest

from runner.domain.errors import Conflict, NotFound
from runner.domain.firing import MOST_ROWS, Blocker, Decision, Firing, admit, fire
from runner.domain.job import WAITING_FOR_OVERLAP, JobState, NewJob, UniqueKey
from runner.domain.ledger import ScheduleSlot, ScheduleStatus, SlotOutcome
from runner.domain.outcome import Completed
from runner.domain.schedule import Schedule
from runner.domain.timing import timing
from runner.storage.database import Database
from runner.storage.jobs import JobFilter
from runner.storage.schedules import Fired
from runner.storage.serial import schedule_from
from tests.contract.databases import everything, steps
from tests.factories import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Stores,
    end,
    make_definitions,
    make_edit,
    make_new_job,
    make_schedule,
    start,
)

TEN = 10 * MINUTE


def install(stores: Stores, *schedules: Schedule, now: datetime = NOW) -> None:
    current = stores.revisions.current()
    stores.revisions.apply(make_edit(make_definitions(*schedules), current.number if current else 0), now)


def decide(now: datetime) -> Any:
    def decided(row: ScheduleStatus, blockers: Sequence[Blocker]) -> Firing | None:
        schedule = schedule_from(row.spec)
        paused = row.paused_at is not None
        return fire(schedule, timing(schedule), row.cursor, now, paused=paused, blockers=blockers)

    return decided


def job_of(decision: Decision) -> NewJob:
    return make_new_job(
        schedule_name="nightly",
        scheduled_for=decision.slot,
        run_at=decision.run_at,
        waiting_for=WAITING_FOR_OVERLAP if decision.waits else None,
    )


def fire_at(stores: Stores, now: datetime) -> Fired | None:
    return stores.schedules.fire("nightly", now, decide(now), job_of)


def ledger(stores: Stores) -> list[tuple[datetime, str]]:
    return [(row.slot, row.outcome) for row in stores.schedules.history("nightly", limit=5000)][::-1]


def jobs(stores: Stores) -> list[Any]:
    return stores.jobs.find(JobFilter(schedule="nightly"), limit=5000)[0][::-1]


def test_a_slot_becomes_one_ledger_row_and_one_job(stores: Stores) -> None:
    """One transaction: the ledger row, the job, the cursor and the times of the schedule."""
    install(stores, make_schedule())
    assert stores.schedules.due(NOW + TEN - SECOND) == []
    assert stores.schedules.due(NOW + TEN) == ["nightly"]

    fired = fire_at(stores, NOW + TEN + 3 * SECOND)

    (job,) = jobs(stores)
    (row,) = stores.schedules.history("nightly")
    assert (row.slot, row.outcome, row.job_id, row.slot_count) == (NOW + TEN, "enqueued", job.id, 1)
    assert fired is not None
    assert [one.model_dump() for one in fired.slots] == [row.model_dump()]
    assert (job.scheduled_for, job.run_at, job.status) == (NOW + TEN, NOW + TEN, "pending")
    schedule = stores.schedules.get("nightly")
    assert (schedule.cursor, schedule.next_run) == (NOW + TEN, NOW + 2 * TEN)
    assert schedule.last_run == NOW + TEN + 3 * SECOND
    assert stores.schedules.due(NOW + TEN + 3 * SECOND) == []
    assert stores.schedules.next_due() == NOW + 2 * TEN


def test_a_slot_whose_job_was_there_already_says_so(stores: Stores) -> None:
    """A unique job that has not ended answers the firing: the slot names it, and why it made none of its own."""
    install(stores, make_schedule())
    unique = UniqueKey("nightly", "finished")
    there = stores.jobs.enqueue(make_new_job(unique=unique), NOW)

    stores.schedules.fire("nightly", NOW + TEN, decide(NOW + TEN), lambda one: job_of(one)._replace(unique=unique))

    (row,) = stores.schedules.history("nightly")
    assert (row.outcome, row.job_id, row.reason) == ("enqueued", there.id, "unique: the job was there already")
    assert jobs(stores) == []


def test_what_is_not_due_is_not_fired(database: Database, stores: Stores) -> None:
    """None where nothing is due, where another was first, and where the schedule is retired or disabled."""
    install(stores, make_schedule())
    before = everything(database)

    assert fire_at(stores, NOW + TEN - SECOND) is None
    assert stores.schedules.fire("nightly", NOW + HOUR, lambda row, blockers: None, job_of) is None
    assert everything(database) == before

    install(stores, make_schedule(enabled=False))
    assert fire_at(stores, NOW + HOUR) is None
    install(stores)
    assert fire_at(stores, NOW + HOUR) is None
    assert (stores.schedules.due(NOW + DAY), stores.schedules.next_due()) == ([], None)
    with pytest.raises(NotFound):
        stores.schedules.fire("never", NOW, decide(NOW), job_of)


def test_the_longest_due_is_first(stores: Stores) -> None:
    """Due schedules come in the order of their slots."""
    install(stores, make_schedule("a", every=HOUR), make_schedule("b"), make_schedule("c", every=MINUTE))

    assert stores.schedules.due(NOW + DAY) == ["c", "b", "a"]
    assert stores.schedules.next_due() == NOW + MINUTE
    assert stores.schedules.next_due(["a", "b"]) == NOW + TEN
    assert stores.schedules.next_due([]) is None


def test_a_failure_on_the_way_leaves_nothing_behind(database: Database, stores: Stores) -> None:
    """Firing is one transaction: a job that cannot be made takes ledger and cursor back."""
    install(stores, make_schedule(catch_up="all", overlap="allow"))
    before = everything(database)

    def broken(decision: Decision) -> NewJob:
        if decision.slot == NOW + 3 * TEN:
            raise NotFound("no such type")
        return job_of(decision)

    with pytest.raises(NotFound):
        stores.schedules.fire("nightly", NOW + 4 * TEN, decide(NOW + 4 * TEN), broken)

    assert everything(database) == before


def test_a_clock_that_jumps_back_fires_no_slot_twice(stores: Stores) -> None:
    """One row per (schedule, slot): a cursor that was set back by a wrong clock finds the slot taken."""
    install(stores, make_schedule(overlap="allow"))
    fire_at(stores, NOW + TEN)

    install(stores, make_schedule(every=5 * MINUTE, overlap="allow"), now=NOW + 2 * SECOND)
    fire_at(stores, NOW + 5 * MINUTE)
    fire_at(stores, NOW + TEN)

    assert ledger(stores) == [(NOW + 5 * MINUTE, "enqueued"), (NOW + TEN, "enqueued")]
    assert [job.scheduled_for for job in jobs(stores)] == [NOW + TEN, NOW + 5 * MINUTE]
    assert stores.schedules.get("nightly").next_run == NOW + 3 * 5 * MINUTE


def test_what_was_there_already_is_not_reported(stores: Stores) -> None:
    """A firing names the rows that it wrote, not those that another wrote before."""
    install(stores, make_schedule(overlap="allow"))
    fire_at(stores, NOW + TEN)
    install(stores, make_schedule(every=5 * MINUTE, overlap="allow"), now=NOW)

    fired = fire_at(stores, NOW + 4 * 5 * MINUTE)

    assert fired is not None
    assert [(row.slot - NOW) // MINUTE for row in fired.slots] == [5, 15, 20]
    assert {row.outcome for row in stores.schedules.history("nightly") if row.slot == NOW + TEN} == {"enqueued"}


# ---- overlap


def test_an_overlap_is_skipped_and_told(stores: Stores) -> None:
    """`skip`: the ledger names the blocker; after its end the next slot fires."""
    install(stores, make_schedule())
    fire_at(stores, NOW + TEN)
    first = jobs(stores)[0]

    fire_at(stores, NOW + 2 * TEN)
    (row, _) = stores.schedules.history("nightly")
    assert (row.outcome, row.blocker_id, row.job_id) == ("skipped_overlap", first.id, None)
    assert stores.schedules.get("nightly").last_run == NOW + TEN

    end(stores, start(stores, first.id, now=NOW + 2 * TEN), Completed(), now=NOW + 2 * TEN)
    fire_at(stores, NOW + 3 * TEN)
    assert [outcome for _, outcome in ledger(stores)] == ["enqueued", "skipped_overlap", "enqueued"]


def test_queue_lets_one_wait(stores: Stores) -> None:
    """`queue`: one waits until the other has ended, further slots are skipped."""
    install(stores, make_schedule(overlap="queue"))
    for number in (1, 2, 3):
        fire_at(stores, NOW + number * TEN)
    first, second = jobs(stores)

    assert [job.waiting_for for job in (first, second)] == [None, "overlap"]
    end(stores, start(stores, first.id, now=NOW + HOUR), Completed(), now=NOW + HOUR)
    assert stores.jobs.get(second.id).waiting_for is None
    assert [outcome for _, outcome in ledger(stores)] == ["enqueued", "enqueued", "skipped_overlap"]


def test_replace_of_a_running_job_waits_for_its_end(stores: Stores) -> None:
    """`replace`: cancel the old, start when it has ended."""
    install(stores, make_schedule(overlap="replace"))
    fire_at(stores, NOW + TEN)
    run = start(stores, jobs(stores)[0].id, now=NOW + TEN)

    fire_at(stores, NOW + 2 * TEN)
    old, new = jobs(stores)
    assert (old.status, new.waiting_for) == ("running", "overlap")
    assert old.cancel_reason == "replaced by a later slot of nightly"

    end(stores, run, Completed(), now=NOW + 2 * TEN)
    assert stores.jobs.get(new.id).waiting_for is None


def test_replace_of_a_pending_job_starts_at_once(stores: Stores) -> None:
    """`replace`: where the old one never ran, nobody's end has to be waited for."""
    install(stores, make_schedule(overlap="replace"))
    fire_at(stores, NOW + TEN)
    fire_at(stores, NOW + 2 * TEN)
    old, new = jobs(stores)

    assert (old.status, new.status, new.waiting_for) == ("cancelled", "pending", None)
    assert start(stores, new.id, now=NOW + 2 * TEN).id == new.id


# ---- trigger


def trigger(stores: Stores, now: datetime = NOW) -> Any:
    def admitted(row: ScheduleStatus, blockers: Sequence[Blocker]) -> tuple[NewJob, tuple[int, ...]]:
        admission = admit(schedule_from(row.spec), blockers)
        if admission.is_refused:
            raise Conflict("not now")
        waiting = WAITING_FOR_OVERLAP if admission.waits else None
        return make_new_job(schedule_name="nightly", waiting_for=waiting), admission.cancels

    return stores.schedules.trigger("nightly", now, admitted)


def test_trigger_leaves_no_ledger_row_and_ignores_pause(stores: Stores) -> None:
    """By hand: no ledger slot, ignores pause and time, obeys overlap."""
    install(stores, make_schedule())
    stores.schedules.pause("nightly", NOW, by="me", reason=None)

    made = trigger(stores)

    schedule = stores.schedules.get("nightly")
    assert (ledger(stores), [job.id for job in jobs(stores)]) == ([], [made.id])
    assert (schedule.last_run, schedule.next_run, schedule.cursor) == (NOW, NOW + TEN, NOW)
    with pytest.raises(Conflict, match="not now"):
        trigger(stores)
    assert len(jobs(stores)) == 1


def test_trigger_replaces_a_pending_job_at_once(stores: Stores) -> None:
    """Obeys overlap: the replaced job is cancelled, and the new one does not wait for an end that was there before."""
    install(stores, make_schedule(overlap="replace"))
    old, new = trigger(stores), trigger(stores)

    assert (stores.jobs.get(old.id).status, stores.jobs.get(new.id).waiting_for) == ("cancelled", None)


# ---- pause


def test_a_paused_schedule_goes_on_in_the_ledger(stores: Stores) -> None:
    """Pause: slots are `skipped_paused`; resuming does not back-fill, and looks from now on."""
    install(stores, make_schedule())
    paused = stores.schedules.pause("nightly", NOW + MINUTE, by="me", reason="too loud")
    assert (paused.paused_at, paused.paused_by, paused.pause_reason) == (NOW + MINUTE, "me", "too loud")
    fire_at(stores, NOW + 2 * TEN)

    later = NOW + 5 * TEN + MINUTE
    resumed = stores.schedules.resume("nightly", later)
    fire_at(stores, NOW + 6 * TEN)

    assert (resumed.paused_at, resumed.cursor, resumed.next_run) == (None, later, NOW + 6 * TEN)
    assert ledger(stores) == [
        (NOW + TEN, "skipped_paused"),
        (NOW + 2 * TEN, "skipped_paused"),
        (NOW + 6 * TEN, "enqueued"),
    ]
    with pytest.raises(Conflict, match="is not paused"):
        stores.schedules.resume("nightly", later)


def test_a_schedule_that_is_not_there(stores: Stores) -> None:
    """Every door says NotFound."""
    doors: list[Callable[[], Any]] = [
        lambda: stores.schedules.get("x"),
        lambda: stores.schedules.pause("x", NOW, by="me", reason=None),
        lambda: stores.schedules.resume("x", NOW),
        lambda: stores.schedules.history("x"),
        lambda: stores.schedules.backfill("x", [], job_of, NOW),
    ]
    for door in doors:
        with pytest.raises(NotFound, match="there is no schedule 'x'"):
            door()


def test_cached_times_are_replaced_only_where_nothing_moved(stores: Stores) -> None:
    """A stored `next_run` is a cache: it is corrected unless another process was there meanwhile."""
    install(stores, make_schedule("nightly"), make_schedule("b"), make_schedule("c", until=NOW - DAY))
    other = NOW + 5 * HOUR

    changed = stores.schedules.set_next_runs(
        {"nightly": (NOW + TEN, other), "b": (NOW + HOUR, other), "c": (None, other)}
    )

    assert changed == 2
    assert [stores.schedules.get(name).next_run for name in ("nightly", "b", "c")] == [other, NOW + TEN, other]


# ---- long runs of skipped slots, and backfill

MANY = MOST_ROWS + 500


def after_a_long_pause(stores: Stores) -> None:
    install(stores, make_schedule(every=MINUTE, overlap="allow"))
    stores.schedules.pause("nightly", NOW, by="me", reason=None)
    fire_at(stores, NOW + MANY * MINUTE)


def at(number: int) -> datetime:
    return NOW + number * MINUTE


def backfill(stores: Stores, first: int, last: int) -> list[int]:
    """Minutes first to last; which of them were enqueued."""
    slots = [at(number) for number in range(first, last + 1)]
    decisions = [Decision(slot, SlotOutcome.ENQUEUED, "backfill", run_at=slot) for slot in slots]
    fired = stores.schedules.backfill("nightly", decisions, job_of, NOW + DAY)
    return [(row.slot - NOW) // MINUTE for row in fired.slots]


def covered(rows: list[ScheduleSlot]) -> int:
    """Every slot stands in the ledger exactly once: as its own row, or counted in the row of many."""
    assert sum(row.slot_count for row in rows) == MANY
    assert len({row.slot for row in rows}) == len(rows)
    return sum(row.outcome == "enqueued" for row in rows)


def many(stores: Stores) -> tuple[int, int, int]:
    """The row of many: its first and last minute, and how many it stands for."""
    (row,) = [row for row in stores.schedules.history("nightly", limit=5000) if row.first_slot is not None]
    assert row.first_slot is not None
    return (row.first_slot - NOW) // MINUTE, (row.slot - NOW) // MINUTE, row.slot_count


def test_a_long_run_of_skipped_slots_shares_a_row(stores: Stores) -> None:
    """The newest 1,000 one row each, the rest one row with first slot and count."""
    after_a_long_pause(stores)
    rows = stores.schedules.history("nightly", limit=5000)

    assert len(rows) == MOST_ROWS + 1
    assert many(stores) == (1, 500, 500)
    assert covered(rows) == 0
    assert {row.outcome for row in rows} == {"skipped_paused"}


def test_backfill_turns_skipped_into_enqueued_and_nothing_touches_enqueued(stores: Stores) -> None:
    """`backfill` may turn a skipped slot into `enqueued`, nothing touches an `enqueued` one."""
    after_a_long_pause(stores)

    assert backfill(stores, 600, 604) == [600, 601, 602, 603, 604]
    before = [row.model_dump() for row in stores.schedules.history("nightly", limit=5000) if row.outcome == "enqueued"]
    assert backfill(stores, 602, 606) == [605, 606]
    after = [row.model_dump() for row in stores.schedules.history("nightly", limit=5000) if row.outcome == "enqueued"]

    assert [row for row in after if row in before] == before
    assert [job.scheduled_for for job in jobs(stores)] == [at(number) for number in range(600, 607)]
    assert covered(stores.schedules.history("nightly", limit=5000)) == 7


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([(200, 210)], (1, 500, 489)),
        ([(1, 100)], (101, 500, 400)),
        ([(401, 500)], (1, 400, 400)),
        ([(401, 600)], (1, 400, 400)),
        ([(500, 500)], (1, 499, 499)),
        ([(490, 495), (496, 500)], (1, 489, 489)),
        ([(1, 1), (2, 3), (300, 300)], (4, 500, 496)),
        ([(1, 499)], (500, 500, 1)),
    ],
    ids=str,
)
def test_backfill_takes_slots_out_of_the_row_of_many(
    stores: Stores, ranges: list[tuple[int, int]], expected: tuple[int, int, int]
) -> None:
    """A slot inside, at the start or at the end of a row of many gets its own row; the rest keeps its true bounds."""
    after_a_long_pause(stores)
    wanted = [number for first, last in ranges for number in range(first, last + 1)]

    assert [number for first, last in ranges for number in backfill(stores, first, last)] == wanted

    assert many(stores) == expected
    assert covered(stores.schedules.history("nightly", limit=5000)) == len(wanted) == len(jobs(stores))
    assert backfill(stores, 1, 3) == [number for number in (1, 2, 3) if number not in wanted]
    covered(stores.schedules.history("nightly", limit=5000))


def test_backfill_of_all_of_a_row_of_many_leaves_none(stores: Stores) -> None:
    """A row that stands for nothing is gone."""
    after_a_long_pause(stores)
    assert len(backfill(stores, 1, 700)) == 700

    rows = stores.schedules.history("nightly", limit=5000)
    assert {row.slot_count for row in rows} == {1}
    assert covered(rows) == 700


def test_a_firing_leaves_out_what_a_backfill_took_before(stores: Stores) -> None:
    """A backfill of slots that nobody has decided yet: the next look skips them, in the row of many as well."""
    install(stores, make_schedule(every=MINUTE, overlap="allow", catch_up="none"))
    backfill(stores, 300, 500)
    backfill(stores, 1400, 1410)

    stores.schedules.pause("nightly", NOW, by="me", reason=None)
    fire_at(stores, NOW + MANY * MINUTE)

    rows = stores.schedules.history("nightly", limit=5000)
    assert many(stores) == (1, 299, 299)
    assert covered(rows) == 201 + 11 == len(jobs(stores))


def test_backfilled_slots_run_one_after_the_other(stores: Stores) -> None:
    """Slots that wait start in order: the first at once, the next when it has ended."""
    install(stores, make_schedule(every=MINUTE))
    decisions = [Decision(at(n), SlotOutcome.ENQUEUED, "backfill", run_at=at(n), waits=True) for n in (1, 2)]
    stores.schedules.backfill("nightly", decisions, job_of, NOW + HOUR)

    assert [job.waiting_for for job in jobs(stores)] == [None, "overlap"]
    assert stores.schedules.backfill("nightly", [], job_of, NOW).slots == ()


def test_history_is_newest_first_over_all_or_one(stores: Stores) -> None:
    """The ledger, newest slot first, of one schedule or of all."""
    install(stores, make_schedule(overlap="allow"), make_schedule("b", overlap="allow"))
    for name in ("nightly", "b"):
        stores.schedules.fire(name, NOW + TEN, decide(NOW + TEN), job_of)
    fire_at(stores, NOW + 2 * TEN)

    assert [(row.schedule_name, row.slot) for row in stores.schedules.history()] == [
        ("nightly", NOW + 2 * TEN),
        ("b", NOW + TEN),
        ("nightly", NOW + TEN),
    ]
    assert [row.schedule_name for row in stores.schedules.history("b")] == ["b"]
    assert len(stores.schedules.history(limit=2)) == 2


def test_the_look_for_due_schedules_does_not_grow_with_the_ledger_on_sqlite(
    database: Database, stores: Stores
) -> None:  # fmt: skip
    """What is due is found by its index, whatever the ledger holds."""
    install(
        stores,
        make_schedule(every=MINUTE, overlap="allow"),
        *(make_schedule(f"s{n}", starts=NOW + 30 * DAY) for n in range(9)),
    )

    def look(now: datetime) -> int:
        with steps(database) as counted:
            assert stores.schedules.due(now) == ["nightly"]
            stores.schedules.next_due()
            fire_at(stores, now)
        return counted.tens

    shallow = look(NOW + MINUTE)
    stores.schedules.pause("nightly", NOW, by="me", reason=None)
    fire_at(stores, NOW + MANY * MINUTE)
    stores.schedules.resume("nightly", NOW + MANY * MINUTE)

    assert look(NOW + (MANY + 1) * MINUTE) <= shallow * 1.3 + 20
    assert stores.jobs.counts()[JobState.PENDING] == 2
