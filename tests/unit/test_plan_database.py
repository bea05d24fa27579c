"""A plan says what applying does: held against a real database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.domain.applying import row_changes
from runner.domain.job import InFlight, JobState
from runner.domain.outcome import Failed
from runner.domain.plan import Plan, Stored, plan
from runner.domain.plan.report import as_text
from runner.domain.schedule import Definitions
from runner.storage.database import Database
from runner.storage.revisions import Edit
from runner.storage.setup import prepare
from tests.factories import Stores, end, make_job, make_running
from tests.unit.plan_texts import ALL, EDITS, FILE, NOW, definitions, edit, edited

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
APPLIED = NOW - HOUR


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    database = Database(f"sqlite:///{tmp_path / 'runner.db'}")
    prepare(database)
    yield Stores(database)
    database.close()


def apply(stores: Stores, wanted: Definitions, now: datetime = APPLIED) -> int:
    revision = stores.revisions.current()
    source = f"{wanted}"
    base = revision.number if revision else 0
    new = Edit(wanted, source, hashlib.sha256(source.encode()).hexdigest(), base, "a test")
    return stores.revisions.apply(new, now)[0]


def stored(stores: Stores) -> Stored:
    revision = stores.revisions.current()
    assert revision is not None
    rows = {row.name: row for row in stores.schedules.all(retired=True)}
    return Stored(revision.number, revision.definitions, rows, stores.jobs.in_flight())


def planned(stores: Stores, text: str, now: datetime = NOW) -> Plan:
    return plan(stored(stores), definitions(text), now)


def schedules_of(made: Plan) -> set[str]:
    """The schedules that a plan lists, or names under the file's own values."""
    listed = {change.name for change in made.changes if change.kind == "schedule"}
    touched = {
        name for change in made.changes if change.kind in ("timezone", "defaults") for name in change.touches
    }  # fmt: skip
    return listed | touched - {"clean", "news", "sync"}


def assert_agrees(stores: Stores, text: str, now: datetime = NOW) -> None:
    """The plan lists what `row_changes` writes, and its fire times are those that applying stores."""
    before, wanted = stored(stores), definitions(text)
    assert before.definitions is not None
    made = plan(before, wanted, now)
    written = row_changes(before.statuses.values(), before.definitions.schedules, wanted, now)
    assert schedules_of(made) == {change.name for change in written if change.rename_to is None}
    renamed = {change.rename_to: change.name for change in written if change.rename_to is not None}
    assert {change.name: change.renamed_from for change in made.changes if change.action == "rename"} == renamed
    assert made.is_empty == (apply(stores, wanted, now) == before.revision)
    rows = {row.name: row for row in stores.schedules.all(retired=True)}
    for change in made.changes:
        if change.kind == "schedule":
            first = change.next_after[0].utc if change.next_after else None
            assert rows[change.name].next_run == first
            assert (rows[change.name].retired_at is not None) == (change.action == "retire")


@pytest.mark.parametrize("name", EDITS)
def test_each_edit_does_what_its_plan_says(stores: Stores, name: str) -> None:
    """A schedule is listed exactly when its row is written, with the fire time that is stored."""
    apply(stores, definitions(FILE))
    assert_agrees(stores, edit(name))
    assert planned(stores, edit(name)).is_empty


def test_all_edits_together_do_what_their_plan_says(stores: Stores) -> None:
    apply(stores, definitions(FILE))
    assert_agrees(stores, edited(*ALL))
    assert_agrees(stores, FILE)


TEXTS = [FILE, *(edit(name) for name in EDITS), edited(*ALL), FILE[: FILE.index("schedules:")]]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(TEXTS), st.integers(1, 60)), min_size=2, max_size=5))
def test_any_row_of_edits_does_what_its_plans_say(steps: list[tuple[str, int]], tmp_path_factory: object) -> None:
    """Also where schedules were retired, come back, change their names there and back, or have slots that are due."""
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('plans') / 'runner.db'}")
    prepare(database)
    stores, now = Stores(database), NOW
    apply(stores, definitions(FILE), now)
    for text, hours in steps:
        now += hours * HOUR
        assert_agrees(stores, text, now)
    database.close()


def test_effects_count_pending_retrying_and_running_jobs(stores: Stores) -> None:
    """Each changed entry says how many of its jobs wait, wait for another attempt, and run."""
    apply(stores, definitions(FILE))
    for job_type, schedule in (("sync", "channel-sync"), ("news", "news-fetch"), ("news", None), ("clean", "nightly")):
        make_job(stores, type=job_type, schedule_name=schedule, now=APPLIED)
        make_job(stores, type=job_type, schedule_name=schedule, now=APPLIED)
        end(stores, make_running(stores, type=job_type, schedule_name=schedule, now=APPLIED), Failed("E: no"))
        make_running(stores, type=job_type, schedule_name=schedule, now=APPLIED)
        make_job(stores, JobState.COMPLETED, type=job_type, schedule_name=schedule, now=APPLIED)
    assert stores.jobs.in_flight()["news", "news-fetch"] == InFlight(queued=2, retrying=1, running=1)
    effects = {(change.kind, change.name): change.effects for change in planned(stores, edited(*ALL)).changes}
    kept = ("3 queued jobs (1 retrying) keep the old settings", "1 running job finishes with the old settings")
    assert effects["schedule", "news-fetch"] == kept
    assert effects["schedule", "nightly"] == kept
    assert effects["schedule", "daily-sync"][1] == "3 queued jobs (1 retrying) and 1 running job come along"
    assert effects["job_type", "news"] == (
        "6 queued jobs (2 retrying) keep the old settings",
        "2 running jobs finish with the old settings",
    )
    assert effects["job_type", "sync"][0] == "3 queued jobs (1 retrying) run with the new handler"
    assert effects["limit", "youtube"] == (
        "holds for what is queued too: 3 queued jobs (1 retrying) and 1 running job",
    )  # fmt: skip
    assert effects["defaults", "defaults"][1:] == (
        "9 queued jobs (3 retrying) keep the old settings",
        "3 running jobs finish with the old settings",
    )


def test_a_pause_in_force_is_a_warning(stores: Stores) -> None:
    """Who, since when and why; a rename carries it along; a plan without changes tells it too."""
    apply(stores, definitions(FILE))
    stores.schedules.pause("channel-sync", NOW - DAY, by="anna", reason="quota")
    said = 'is paused by anna since 2026-03-26 09:00 UTC ("quota"): it will not fire'
    assert [str(caution) for caution in planned(stores, FILE).warnings] == [f"channel-sync {said}"]
    assert [str(caution) for caution in planned(stores, edit("schedule-renamed")).warnings] == [f"daily-sync {said}"]
    text = as_text(planned(stores, FILE), source="schedules.yaml")
    assert text.startswith("No changes. schedules.yaml matches revision 1.\n\n! channel-sync is paused by anna")


@pytest.mark.parametrize(
    ("hours", "said"),
    [(2, "its pause stays: it is back within 24 hours"), (25, "its pause ended: it was away for 24 hours")],
)
def test_a_retired_schedule_comes_back(stores: Stores, hours: int, said: str) -> None:
    """Its history is still there; within 24 hours its pause is too, and the plan says which."""
    apply(stores, definitions(FILE))
    stores.schedules.pause("pulse", APPLIED, by="anna", reason=None)
    apply(stores, definitions(edit("schedule-removed")), NOW)
    back = NOW + hours * HOUR
    (change,) = planned(stores, FILE, back).changes
    assert (change.action, change.name) == ("add", "pulse")
    assert change.effects == ("comes back with its history: it was retired on 2026-03-27 09:00 UTC", said)
    assert bool(planned(stores, FILE, back).warnings) == (hours < 24)
    apply(stores, definitions(FILE), back)
    assert (stores.schedules.get("pulse").paused_at is not None) == (hours < 24)


def test_a_new_name_that_was_another_schedule(stores: Stores) -> None:
    """What an earlier schedule of that name left gives way to the history that comes along."""
    apply(stores, definitions(edited("  pulse:", "  daily-sync: {job: news, every: 1h}\n  pulse:")))
    apply(stores, definitions(FILE), APPLIED + timedelta(minutes=1))
    (change,) = planned(stores, edit("schedule-renamed")).changes
    assert change.action == "rename"
    assert "the history of an earlier daily-sync, which was retired, gives way" in change.effects


def test_a_slot_that_is_due_is_told(stores: Stores) -> None:
    """Where the times stay, the due slot comes first; where they change, it is dropped, and that is said."""
    apply(stores, definitions(FILE))
    (kept,) = planned(stores, edit("overlap")).changes
    assert [(fire.utc, fire.mark) for fire in kept.next_after[:2]] == [
        (NOW - timedelta(minutes=45), "due now"),
        (NOW + timedelta(minutes=15), ""),
    ]
    (moved,) = planned(stores, edit("every")).changes
    assert moved.next_before == kept.next_before
    assert moved.next_after[0].utc == NOW + timedelta(minutes=90)
    assert "the slot that is due is dropped: an edit never looks back" in moved.effects


def test_a_row_that_another_hand_has_made(stores: Stores) -> None:
    """A live row of which the revision in force knows nothing starts anew, and the plan says so."""
    apply(stores, definitions(FILE))
    found = stored(stores)
    stray = Stored(found.revision, definitions(edit("schedule-removed")), found.statuses, {})
    (change,) = plan(stray, definitions(FILE), NOW).changes
    assert change.effects[0] == "its row is not of this revision: it starts anew"
