"""The scheduler: each slot that has come is decided once, by the rules, and the ledger says how."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.domain.errors import Conflict, NotFound, NotThereYet, UsageError
from runner.domain.ledger import ScheduleStatus
from runner.domain.schedule import Definitions, RunnerOptions, Schedule
from runner.domain.workflow import Step, Workflow
from runner.engine.scheduler import LONGEST_WAIT, Scheduler
from runner.telemetry import FiringFailed, SlotsDecided
from tests.engine.bench import Bench, kind, make_bench, open_app
from tests.factories import DAY, HOUR, MINUTE, NOW, SECOND, make_edit, make_schedule

TEN = 10 * MINUTE


def with_schedule(bench: Bench, **values: Any) -> Scheduler:
    """A file with one schedule, `often`, applied at NOW: every ten minutes unless said otherwise."""
    bench.define(kind("ok"), schedules=[make_schedule("often", **({"job": "ok"} | values))])
    return bench.scheduler()


def told(bench: Bench) -> list[tuple[datetime, str]]:
    return [(slot.slot, slot.outcome) for slot in bench.slots("often")]


def status(bench: Bench) -> ScheduleStatus:
    return bench.app.schedules.get("often")


def finish(bench: Bench, *job_ids: int) -> None:
    with bench.worker() as worker:
        bench.run(worker, *job_ids)


# ---- a slot that has come


def test_a_slot_is_fired_at_its_time(bench: Bench) -> None:
    """A slot becomes one ledger row and one job, due at the slot; the cursor and the next run move on."""
    scheduler = with_schedule(bench)

    assert scheduler.tick(NOW + TEN - SECOND) == 1.0
    assert bench.all_jobs() == []
    scheduler.tick(NOW + TEN)
    scheduler.tick(NOW + TEN + SECOND)

    (job,) = bench.all_jobs()
    assert (job.type, job.schedule_name, job.scheduled_for, job.run_at) == ("ok", "often", NOW + TEN, NOW + TEN)
    (slot,) = bench.slots()
    assert (slot.slot, slot.outcome, slot.job_id, slot.reason) == (NOW + TEN, "enqueued", job.id, None)
    assert (status(bench).last_run, status(bench).next_run) == (NOW + TEN, NOW + 2 * TEN)
    assert [(one.name, len(one.slots)) for one in bench.of(SlotsDecided)] == [("often", 1)]


def test_a_job_takes_the_policy_of_its_schedule(bench: Bench) -> None:
    """Priority, timeout, retry, project and payload of the schedule override those of its type."""
    from runner.domain.retry import RetryPolicy

    scheduler = with_schedule(
        bench, priority=1, timeout=MINUTE, retry=RetryPolicy(max_attempts=7), project_id="acme", payload={"a": 1}
    )
    scheduler.tick(NOW + TEN)

    (job,) = bench.all_jobs()
    assert (job.priority, job.max_attempts, job.project_id, job.payload) == (1, 7, "acme", {"a": 1})
    assert '"timeout":60.0' in job.policy.replace(" ", "")


def test_the_pause_until_the_next_look(bench: Bench) -> None:
    """`tick` returns the seconds until the next slot, or the longest wait."""
    scheduler = with_schedule(bench)

    assert scheduler.tick(NOW) == LONGEST_WAIT
    assert scheduler.tick(NOW + TEN - SECOND) == 1.0
    assert Scheduler(bench.app.schedules, bench.app.revisions, bench.app.claims, {}, print).tick(NOW) == LONGEST_WAIT


def test_without_a_revision_nothing_is_fired(bench: Bench) -> None:
    """A database without a file has no schedules, and a scheduler that waits."""
    assert bench.scheduler().tick(NOW) == LONGEST_WAIT


# ---- after a downtime


@pytest.mark.parametrize(
    ("catch_up", "window", "fired", "missed"),
    [
        ("latest", HOUR, [12], 11),
        ("latest", timedelta(0), [12], 11),
        ("all", HOUR, [6, 7, 8, 9, 10, 11, 12], 5),
        ("all", 3 * HOUR, list(range(1, 13)), 0),
        ("all", timedelta(0), [12], 11),
        ("none", HOUR, [12], 11),
    ],
)
def test_catch_up_on_a_slot(bench: Bench, catch_up: str, window: timedelta, fired: list[int], missed: int) -> None:
    """At a slot after two hours of downtime: `latest` fires the newest, `all` each in the window."""
    scheduler = with_schedule(bench, catch_up=catch_up, catch_up_window=window, overlap="allow")
    scheduler.tick(NOW + 2 * HOUR)

    assert [job.scheduled_for for job in bench.all_jobs()] == [NOW + number * TEN for number in fired]
    assert Counter(outcome for _, outcome in told(bench)) == Counter(enqueued=len(fired), skipped_missed=missed)
    assert status(bench).next_run == NOW + 13 * TEN


@pytest.mark.parametrize(
    ("catch_up", "window", "late", "fired"),
    [
        ("latest", HOUR, HOUR, True),
        ("latest", HOUR, HOUR + SECOND, False),
        ("all", HOUR, HOUR, True),
        ("all", HOUR, HOUR + SECOND, False),
        ("none", 10 * HOUR, MINUTE, True),
        ("none", 10 * HOUR, MINUTE + SECOND, False),
    ],
)
def test_the_edge_of_the_window(bench: Bench, catch_up: str, window: timedelta, late: timedelta, fired: bool) -> None:
    """A slot exactly as old as the window is fired, one that is older is not; `none` forgives a minute."""
    scheduler = with_schedule(bench, every=DAY, catch_up=catch_up, catch_up_window=window)
    slot = datetime(2026, 3, 3, tzinfo=NOW.tzinfo)
    scheduler.tick(slot + late)

    assert told(bench) == [(slot, "enqueued" if fired else "skipped_missed")]


def test_since_widens_the_window(bench: Bench) -> None:
    """`--since 24h` widens each catch-up window to it."""
    with_schedule(bench, every=HOUR, catch_up="all", catch_up_window=HOUR, overlap="allow")
    bench.scheduler(window=5 * HOUR).tick(NOW + 8 * HOUR)

    assert [job.scheduled_for for job in bench.all_jobs()] == [NOW + number * HOUR for number in range(3, 9)]


def test_a_long_downtime_is_few_rows(bench: Bench) -> None:
    """Of long runs of skipped slots the newest 1,000 have a row each, the rest share one; none is forgotten."""
    scheduler = with_schedule(bench, every=MINUTE, catch_up="none")
    scheduler.tick(NOW + 10 * DAY)

    slots = bench.slots("often")
    assert len(slots) == 1 + 1000 + 1
    assert (slots[0].first_slot, slots[-1].outcome) == (NOW + MINUTE, "enqueued")
    assert sum(slot.slot_count for slot in slots) == 10 * 24 * 60


# ---- overlap


def test_overlap_skip(bench: Bench) -> None:
    """`skip`: while a job of the schedule is unfinished, its slots are skipped and name the blocker."""
    scheduler = with_schedule(bench)
    scheduler.tick(NOW + TEN)
    (job,) = bench.all_jobs()
    scheduler.tick(NOW + 2 * TEN)
    bench.clock.time = NOW + 2 * TEN
    finish(bench, job.id or 0)
    scheduler.tick(NOW + 3 * TEN)

    assert [outcome for _, outcome in told(bench)] == ["enqueued", "skipped_overlap", "enqueued"]
    skipped = bench.slots("often")[1]
    assert (skipped.blocker_id, skipped.reason) == (job.id, f"job {job.id} is not finished")


def test_overlap_queue(bench: Bench) -> None:
    """`queue`: one waits until the other has ended, a third is skipped; it starts when the other ends."""
    scheduler = with_schedule(bench, overlap="queue")
    for number in (1, 2, 3):
        scheduler.tick(NOW + number * TEN)
    first, second = bench.all_jobs()
    assert [outcome for _, outcome in told(bench)] == ["enqueued", "enqueued", "skipped_overlap"]
    assert bench.slots("often")[-1].blocker_id == second.id
    bench.clock.time = NOW + 3 * TEN

    with bench.worker(concurrency=1) as worker:
        worker.tick(bench.clock.now())
        assert (bench.state(first.id or 0), bench.state(second.id or 0)) == ("running", "pending")
        assert bench.job(second.id or 0).waiting_for == "overlap"
        bench.run(worker, first.id or 0)
        bench.run(worker, second.id or 0)

    assert bench.state(second.id or 0) == "completed"


def test_overlap_replace(bench: Bench) -> None:
    """`replace`: the old job is cancelled, the new one starts when the old one has ended."""
    scheduler = with_schedule(bench, overlap="replace")
    scheduler.tick(NOW + TEN)
    scheduler.tick(NOW + 2 * TEN)
    old, new = bench.all_jobs()

    assert (old.status, old.error) == ("cancelled", "replaced by a later slot of often")
    assert (new.status, new.waiting_for) == ("pending", None)


def test_overlap_replace_of_a_running_job(bench: Bench) -> None:
    """A running job is asked to stop; until it has, the new one waits."""
    bench.define(kind("work"), schedules=[make_schedule("often", job="work", overlap="replace")])
    scheduler = bench.scheduler()
    scheduler.tick(NOW + TEN)
    bench.clock.time = NOW + 2 * TEN
    with bench.worker() as worker:
        worker.tick(bench.clock.now())
        scheduler.tick(bench.clock.now())
        old, new = bench.all_jobs()
        assert (old.status, new.waiting_for) == ("running", "overlap")
        bench.until(worker, lambda: bench.state(new.id or 0) == "running")
        assert bench.state(old.id or 0) == "cancelled"
        bench.app.jobs.cancel(new.id or 0, NOW)
        bench.run(worker, new.id or 0)


def test_overlap_allow(bench: Bench) -> None:
    """`allow`: every slot is fired, whatever runs."""
    scheduler = with_schedule(bench, overlap="allow")
    for number in (1, 2, 3):
        scheduler.tick(NOW + number * TEN)

    assert [(job.status, job.waiting_for) for job in bench.all_jobs()] == [("pending", None)] * 3


def test_caught_up_slots_run_in_order(bench: Bench) -> None:
    """`catch_up: all` fires each missed slot in order: the later ones wait for the earlier ones."""
    scheduler = with_schedule(bench, catch_up="all")
    bench.clock.time = NOW + 5 * TEN
    scheduler.tick(bench.clock.now())
    jobs = bench.all_jobs()
    assert [job.waiting_for for job in jobs] == [None, *["overlap"] * 4]

    with bench.worker(concurrency=4) as worker:
        bench.until(worker, lambda: bench.app.jobs.counts()["completed"] == 5)

    starts = [bench.job(job.id or 0).started_at for job in jobs]
    assert starts == sorted(starts, key=lambda at: at or NOW)


# ---- jitter, pause, dates


def test_jitter_moves_the_run_and_not_the_slot(bench: Bench) -> None:
    """Jitter is the same on every machine, smaller than half the gap, and moves `run_at` alone."""
    runs: list[timedelta] = []
    scheduler = with_schedule(bench, jitter=HOUR, overlap="allow")
    for number in range(1, 21):
        scheduler.tick(NOW + number * TEN)
    for job in bench.all_jobs():
        assert job.scheduled_for is not None
        runs.append(job.run_at - job.scheduled_for)

    assert all(timedelta(0) <= spread < TEN / 2 for spread in runs)
    assert len(set(runs)) > 10
    assert [slot for slot, _ in told(bench)] == [NOW + number * TEN for number in range(1, 21)]


def test_a_paused_schedule_skips_its_slots(bench: Bench) -> None:
    """A pause skips and says so; resuming does not back-fill."""
    scheduler = with_schedule(bench, catch_up="all")
    bench.app.schedules.pause("often", NOW, by="ann", reason="maintenance")
    scheduler.tick(NOW + 2 * TEN)
    assert bench.all_jobs() == []
    assert [outcome for _, outcome in told(bench)] == ["skipped_paused", "skipped_paused"]

    bench.app.schedules.resume("often", NOW + 25 * MINUTE)
    scheduler.tick(NOW + 3 * TEN)
    assert [job.scheduled_for for job in bench.all_jobs()] == [NOW + 3 * TEN]


@pytest.mark.parametrize(
    ("values", "slots"),
    [
        ({"enabled": False}, []),
        ({"starts": NOW + 3 * TEN}, [3, 4]),
        ({"until": NOW + 2 * TEN}, [1, 2]),
        ({"starts": NOW + 2 * TEN, "until": NOW + 3 * TEN}, [2, 3]),
    ],
)
def test_dates_bound_a_schedule(bench: Bench, values: dict[str, Any], slots: list[int]) -> None:
    """`enabled: false` fires nothing; `from` and `until` bound the slots, both included."""
    scheduler = with_schedule(bench, overlap="allow", **values)
    for number in range(1, 5):
        scheduler.tick(NOW + number * TEN)

    assert [job.scheduled_for for job in bench.all_jobs()] == [NOW + number * TEN for number in slots]
    if "until" in values:
        assert status(bench).next_run is None


def test_a_selection_fires_only_its_schedules(bench: Bench) -> None:
    """What `run-once --schedule` leaves out waits, undecided, for somebody else."""
    bench.define(kind("ok"), schedules=[make_schedule(name, job="ok") for name in ("often", "other")])
    bench.scheduler(only=lambda schedule: schedule.name == "often").tick(NOW + TEN)

    assert [job.schedule_name for job in bench.all_jobs()] == ["often"]
    bench.scheduler().tick(NOW + TEN)
    assert [job.schedule_name for job in bench.all_jobs()] == ["often", "other"]


def test_a_retired_schedule_fires_nothing(bench: Bench) -> None:
    """A schedule that left the file has no new slots."""
    with_schedule(bench)
    bench.define(kind("ok"))
    bench.scheduler().tick(NOW + DAY)

    assert bench.all_jobs() == []


def test_a_workflow_says_that_it_comes_later(bench: Bench) -> None:
    """A schedule of a workflow decides its slots, and the ledger says why nothing ran."""
    workflow = Workflow("chain", {"a": Step("a", "ok")})
    bench.define(
        kind("ok"), schedules=[make_schedule("often", workflow="chain")], workflows={"chain": workflow}
    )  # fmt: skip
    scheduler = bench.scheduler()
    scheduler.tick(NOW + TEN)

    (slot,) = bench.slots("often")
    assert (slot.outcome, slot.reason, slot.job_id) == ("skipped_missed", "workflows come with a later release", None)
    assert bench.all_jobs() == []
    with pytest.raises(NotThereYet, match="workflows come later"):
        scheduler.trigger("often", NOW)


# ---- what cannot be fired


def test_a_slot_that_cannot_be_fired_waits(bench: Bench) -> None:
    """A payload whose `${VAR}` is unset fires nothing, is told once, and is fired once the variable is set."""
    scheduler = with_schedule(bench, payload={"to": "${MAIL_TO}"})
    other = make_schedule("other", job="ok")
    bench.define(kind("ok"), schedules=[make_schedule("often", job="ok", payload={"to": "${MAIL_TO}"}), other])
    for _ in range(3):
        scheduler.tick(NOW + TEN)

    assert [job.schedule_name for job in bench.all_jobs()] == ["other"], "others are fired all the same"
    said = "the environment has no MAIL_TO, which schedules.often.payload.to refers to"
    assert [(one.name, one.message) for one in bench.of(FiringFailed)] == [("often", said)]
    assert (bench.slots("often"), status(bench).next_run) == ([], NOW + TEN)

    scheduler.environ = {"MAIL_TO": "ann@example.com"}
    scheduler.tick(NOW + TEN + MINUTE)
    assert [job.payload for job in bench.all_jobs(schedule="often")] == [{"to": "ann@example.com"}]
    scheduler.environ = {}
    scheduler.tick(NOW + 2 * TEN)
    assert len(bench.of(FiringFailed)) == 1, "a later slot is refused by the overlap before its job is made"


def test_a_failure_after_a_success_is_told_again(bench: Bench) -> None:
    """Said once, however often it is tried, and again when it comes back."""
    scheduler = with_schedule(bench, payload={"to": "${MAIL_TO}"}, overlap="allow")
    for minutes, environ in ((10, {}), (11, {"MAIL_TO": "x"}), (20, {}), (21, {})):
        scheduler.environ = environ
        scheduler.tick(NOW + minutes * MINUTE)

    assert len(bench.of(FiringFailed)) == 2


# ---- by hand


def test_a_trigger_ignores_pause_and_time(bench: Bench) -> None:
    """A trigger runs now: no ledger slot, whatever the pause, the jitter and the time."""
    scheduler = with_schedule(bench, jitter=HOUR)
    bench.app.schedules.pause("often", NOW, by="ann", reason=None)
    enqueued = scheduler.trigger("often", NOW + MINUTE)

    job = bench.job(enqueued.id)
    assert (job.schedule_name, job.scheduled_for, job.run_at) == ("often", None, NOW + MINUTE)
    assert bench.slots() == []
    assert status(bench).next_run == NOW + TEN


def test_a_trigger_obeys_the_overlap(bench: Bench) -> None:
    """`skip` refuses and names the blocker, `queue` waits, `replace` replaces, `allow` allows."""
    scheduler = with_schedule(bench)
    first = scheduler.trigger("often", NOW).id
    with pytest.raises(Conflict, match=rf"job {first} is not finished \(overlap: skip\)"):
        scheduler.trigger("often", NOW)

    with_schedule(bench, overlap="queue")
    second = scheduler.trigger("often", NOW).id
    assert bench.job(second).waiting_for == "overlap"
    with pytest.raises(Conflict, match=f"job {second} waits already"):
        scheduler.trigger("often", NOW)

    with_schedule(bench, overlap="replace")
    third = scheduler.trigger("often", NOW).id
    assert [bench.state(one) for one in (first, second, third)] == ["cancelled", "cancelled", "pending"]
    assert bench.job(third).waiting_for is None

    with_schedule(bench, overlap="allow")
    assert bench.job(scheduler.trigger("often", NOW).id).waiting_for is None


def test_what_cannot_be_triggered(bench: Bench) -> None:
    """A name that nobody knows, and a schedule that left the file."""
    scheduler = with_schedule(bench)
    with pytest.raises(NotFound):
        scheduler.trigger("oftne", NOW)
    bench.define(kind("ok"))
    with pytest.raises(Conflict, match="is retired"):
        scheduler.trigger("often", NOW)


def test_backfill_enqueues_what_was_skipped(bench: Bench) -> None:
    """`backfill` turns skipped slots of a range into jobs and leaves enqueued ones alone; never into the future."""
    scheduler = with_schedule(bench, overlap="allow")
    scheduler.tick(NOW + HOUR)
    assert Counter(outcome for _, outcome in told(bench)) == Counter(enqueued=1, skipped_missed=5)

    made = scheduler.backfill("often", NOW + 2 * TEN, NOW + DAY, NOW + HOUR)

    assert len(made) == 4
    assert [(slot, outcome) for slot, outcome in told(bench) if outcome != "enqueued"] == [
        (NOW + TEN, "skipped_missed")
    ]
    assert scheduler.backfill("often", NOW + 2 * TEN, NOW + DAY, NOW + HOUR) == []
    assert len(bench.all_jobs()) == 5


def test_a_backfill_waits_its_turn_and_has_a_limit(bench: Bench) -> None:
    """Back-filled slots run one after the other; more than a thousand are refused."""
    scheduler = with_schedule(bench)
    scheduler.backfill("often", NOW - HOUR, NOW - TEN, NOW)
    assert [job.waiting_for for job in bench.all_jobs()] == [None, *["overlap"] * 5]
    with pytest.raises(UsageError, match="a backfill takes at most 1,000 slots"):
        scheduler.backfill("often", NOW - 30 * DAY, NOW, NOW)


# ---- the cached next run


def test_refresh_recomputes_what_is_stored(bench: Bench) -> None:
    """A stored `next_run` is a cache: it is computed again from the cursor, and only what is wrong is written."""
    with_schedule(bench)
    assert bench.scheduler().refresh(NOW) == 0
    with bench.app.database.write() as connection:
        connection.exec_driver_sql("UPDATE cron_schedules SET next_run = '2030-01-01 00:00:00.000000'")

    assert bench.scheduler().refresh(NOW) == 1
    assert status(bench).next_run == NOW + TEN


def test_refresh_leaves_disabled_schedules_alone(bench: Bench) -> None:
    """A schedule that is off has no next run."""
    with_schedule(bench, enabled=False)

    assert bench.scheduler().refresh(NOW) == 0
    assert status(bench).next_run is None


# ---- several at once


def test_two_schedulers_in_threads_never_double_a_slot(bench: Bench) -> None:
    """Each (schedule, slot) is decided once, whoever looks at the same moment."""
    names = [f"s{number}" for number in range(10)]
    bench.define(
        kind("ok"), schedules=[make_schedule(name, job="ok", overlap="allow", catch_up="all") for name in names]
    )
    start = threading.Barrier(4)

    def fire() -> None:
        scheduler = bench.scheduler()
        for number in range(1, 6):
            start.wait()
            scheduler.tick(NOW + number * TEN)

    threads = [threading.Thread(target=fire) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(bench.all_jobs()) == 50
    assert len({(job.schedule_name, job.scheduled_for) for job in bench.all_jobs()}) == 50
    assert Counter(outcome.outcome for outcome in bench.slots()) == Counter(enqueued=50)


def _fire_elsewhere(folder: str, start: Any) -> None:
    app = open_app(Path(folder))
    scheduler = app.scheduler()
    start.wait()
    for number in range(1, 11):
        scheduler.tick(NOW + number * TEN)
    app.close()


def test_two_schedulers_in_processes_never_double_a_slot(tmp_path: Path) -> None:
    """The same over processes: the ledger's unique row decides."""
    bench = make_bench(tmp_path)
    bench.define(
        kind("ok"), schedules=[make_schedule(name, job="ok", overlap="allow", catch_up="all") for name in "abc"]
    )
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    processes = [spawn.Process(target=_fire_elsewhere, args=(str(tmp_path), start)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0]
    assert Counter((job.schedule_name, job.scheduled_for) for job in bench.all_jobs()) == Counter(
        {(name, NOW + number * TEN): 1 for name in "abc" for number in range(1, 11)}
    )
    bench.app.close()


def test_the_definition_in_force_is_the_databases(bench: Bench) -> None:
    """Schedules follow the database's revision: an edit of the timing begins at the moment of applying."""
    scheduler = with_schedule(bench)
    bench.clock.time = NOW + 35 * MINUTE
    definitions = Definitions(
        runner=RunnerOptions(handler_packages=("tests",)),
        job_types=bench.definitions.job_types,
        schedules={"often": Schedule("often", job="ok", every=HOUR)},
    )
    bench.app.revisions.apply(make_edit(definitions, base=1), bench.clock.now())
    scheduler.tick(bench.clock.now())

    assert bench.all_jobs() == [], "an edit never looks back"
    assert status(bench).next_run == NOW + HOUR
