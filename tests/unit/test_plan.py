"""What `runner plan` says of each kind of edit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from syrupy.assertion import SnapshotAssertion

from runner.config.load import load_text
from runner.domain.job import InFlight
from runner.domain.plan import MISSING, FieldChange, Stored, plan
from runner.domain.plan.report import as_text
from tests.unit.plan_texts import (
    ALL,
    EDITS,
    FILE,
    NOW,
    REMOVED_TYPE,
    definitions,
    edit,
    edited,
    payload_problems,
    planned,
)

JOBS = {
    ("sync", "channel-sync"): InFlight(queued=1, running=1),
    ("news", "news-fetch"): InFlight(queued=1, retrying=1, running=1),
    ("news", "pulse"): InFlight(queued=2),
    ("clean", "nightly"): InFlight(retrying=1),
    ("clean", None): InFlight(queued=3, running=2),
}


@pytest.mark.parametrize("name", EDITS)
def test_each_kind_of_edit_alone(name: str, snapshot: SnapshotAssertion) -> None:
    """Each edit is told with its fields, fire times and what it does to jobs that are queued or running."""
    assert as_text(planned(FILE, edit(name), JOBS), source="schedules.yaml") == snapshot


def test_all_together(snapshot: SnapshotAssertion) -> None:
    """Changes are told by kind, then by name; warnings and one summary line close the plan."""
    assert as_text(planned(FILE, edited(*ALL), JOBS), source="schedules.yaml") == snapshot


def test_the_first_file(snapshot: SnapshotAssertion) -> None:
    """Where nothing was ever applied, everything is added, and shown by what it says beyond the defaults."""
    first = plan(Stored(), definitions(FILE), NOW)
    assert first.base_revision == 0
    assert as_text(first, source="schedules.yaml") == snapshot


def test_a_removed_job_type(snapshot: SnapshotAssertion) -> None:
    """Its jobs are parked, and a warning says how many."""
    assert as_text(planned(FILE, edited(*REMOVED_TYPE), JOBS), source="schedules.yaml") == snapshot


def test_a_job_type_with_jobs_that_waited_for_it() -> None:
    """A type that comes back runs what was parked."""
    made = planned(edited(*REMOVED_TYPE), FILE, JOBS)
    added = next(change for change in made.changes if change.kind == "job_type")
    assert added.effects == ("1 queued job waits for it already and will run",)


def test_a_mass_removal(snapshot: SnapshotAssertion) -> None:
    """Most or all schedules go only when that is said; their names are given."""
    made = planned(FILE, FILE[: FILE.index("schedules:")], JOBS)
    assert made.removals == ("channel-sync", "news-fetch", "nightly", "pulse")
    assert as_text(made, source="schedules.yaml") == snapshot


def test_a_removal_of_few_needs_no_permission() -> None:
    """One of four may go; renames are no removals."""
    assert planned(FILE, edit("schedule-removed")).removals == ()
    assert planned(FILE, edit("schedule-renamed")).removals == ()


def test_a_limit_below_what_is_running() -> None:
    """Nothing is interrupted: no further job starts until fewer run."""
    jobs = {("sync", None): InFlight(queued=4, running=3)}
    (change,) = planned(edited("youtube: 1", "youtube: 5"), edited("youtube: 1", "youtube: 2"), jobs).changes
    assert change.effects == (
        "holds for what is queued too: 4 queued jobs and 3 running jobs",
        "3 running jobs finish; none starts before fewer than 2 run",
    )


def test_what_the_defaults_explain_is_told_once() -> None:
    """A type is listed only for what is its own; what it inherits stands with the defaults."""
    made = planned(FILE, edited("timeout: 10m", "timeout: 20m", "priority: low", "priority: low, queue: slow"))
    told = {change.kind: change for change in made.changes}
    assert told["defaults"].touches == ("clean", "news")
    assert [(field.field, field.after) for field in told["job_type"].fields] == [("queue", "slow")]
    assert made.summary == {"add": 0, "change": 2, "rename": 0, "retire": 0, "unchanged": 8}


def test_an_own_value_is_not_explained_by_the_defaults() -> None:
    """A type that moves from one own value to another is listed, whatever the defaults do."""
    made = planned(FILE, edited("timeout: 10m", "timeout: 20m", "timeout: 30m", "timeout: 20m"))
    assert [change.name for change in made.changes if change.kind == "job_type"] == ["sync"]


def test_a_retry_that_a_schedule_merges_follows_the_defaults() -> None:
    """The policy of a schedule is merged into the inherited one: with the defaults it changes, and is named there."""
    file = edited("every: 15m", "every: 15m, retry: {delay: 7s}")
    (change,) = planned(file, edited("max_attempts: 3", "max_attempts: 6", file=file)).changes
    assert change.kind == "defaults"
    assert change.touches == ("news", "sync", "pulse")
    assert "touches the retry of 1 schedule: pulse" in change.effects


def test_a_schedule_that_follows_the_zone_of_the_file_and_changes_too() -> None:
    """It is listed for what is its own; the zone stands with the file."""
    made = planned(FILE, edited("timezone: UTC", "timezone: Europe/Berlin", "every: 15m", "every: 20m"))
    assert [(change.kind, change.name) for change in made.changes] == [("schedule", "pulse"), ("timezone", "timezone")]
    assert [field.field for field in made.changes[0].fields] == ["every"]


def test_times_without_an_offset_move_with_the_zone_of_the_file() -> None:
    """`from: 2026-04-01T08:00` is eight o'clock in both zones: no change of its own."""
    file = edited("every: 15m", "every: 15m, from: 2026-04-01T08:00")
    made = planned(file, edited("timezone: UTC", "timezone: Europe/Berlin", file=file))
    assert [change.kind for change in made.changes] == ["timezone"]


def test_fields_keep_nothing_and_null_apart() -> None:
    """A payload's null is a value; a key that is not there is none."""
    (change,) = planned(FILE, edited("{days: 3}", "{days: 3, feeds: null}").replace("type: array, ", "")).changes[:1]
    assert change.fields == (FieldChange("payload.feeds", MISSING, None),)
    assert "payload.feeds: none -> null" in as_text(
        plan(Stored(1, definitions(FILE)), replace(definitions(FILE), schedules={
            **definitions(FILE).schedules,
            "news-fetch": replace(definitions(FILE).schedules["news-fetch"], payload={"days": 3, "feeds": None}),
        }), NOW),
        source="schedules.yaml",
    )  # fmt: skip


def test_a_payload_that_no_longer_fits() -> None:
    """Where a schema changed, the payloads of the file are held against it."""
    wanted = definitions(FILE)
    news = replace(wanted.job_types["news"], payload_schema={"properties": {"days": {"maximum": 2}}})
    wanted = replace(wanted, job_types={**wanted.job_types, "news": news})
    made = plan(Stored(1, definitions(FILE)), wanted, NOW, payload_problems=payload_problems)
    assert [(caution.code, caution.message) for caution in made.warnings] == [
        ("payload", "the payload of schedule news-fetch does not fit news: days: days must be at most 2, not 3")
    ]


def test_a_crowded_minute() -> None:
    """More schedules in one minute than a process runs at once are named, if the edit brings one of them there."""
    crowd = edited("concurrency: 4", "concurrency: 1")
    made = planned(crowd, edited("every: 15m", "every: 4h", file=crowd))
    assert [str(caution) for caution in made.warnings] == [
        "2 schedules start at Fri 27 Mar 12:00 UTC, over the concurrency of 1: news-fetch, pulse"
    ]
    assert planned(crowd, edited("every: 15m", "every: 4h, jitter: 30m", file=crowd)).warnings == ()
    assert planned(crowd, edited("{days: 3}", "{days: 4}", file=crowd)).warnings == ()


def test_nothing_to_compare_with() -> None:
    """Two files are compared without a database; the text says so."""
    stored = Stored(0, definitions(FILE))
    assert as_text(plan(stored, definitions(FILE), NOW), source="new.yaml").endswith("matches the other file.")
    made = plan(stored, definitions(edit("cron")), NOW)
    assert as_text(made, source="new.yaml", against="old.yaml").startswith("new.yaml against old.yaml, now ")


def test_no_fire_times_are_asked_for() -> None:
    """With none asked for, the text says nothing of them."""
    made = plan(Stored(1, definitions(FILE)), definitions(edit("every")), NOW, upcoming=0)
    assert made.changes[0].next_after == ()
    assert "next" not in as_text(made, source="schedules.yaml")


def test_the_same_text_for_the_same_input() -> None:
    """Neither the order of the file nor the zone of `now` changes the plan."""
    made = planned(FILE, edited(*ALL), JOBS)
    later = plan(
        Stored(12, definitions(FILE), {}, dict(reversed(JOBS.items()))),
        definitions(edited(*ALL)),
        NOW.astimezone(),
        payload_problems=payload_problems,
    )
    assert as_text(made, source="a") == as_text(later, source="a")


def test_a_line_fits_a_terminal_where_its_values_do() -> None:
    """No line is wider than 80 columns unless one value is."""
    for name in EDITS:
        text = as_text(planned(FILE, edit(name), JOBS), source="schedules.yaml")
        assert max(len(line) for line in text.splitlines()) <= 80, name


def test_a_long_value_stands_alone() -> None:
    """A field that is too long for its line has a line for each side."""
    feeds = "[" + ", ".join(f"feeds/number-{number}.xml" for number in range(8)) + "]"
    text = as_text(planned(FILE, edited("{days: 3}", f"{{days: 3, feeds: {feeds}}}")), source="schedules.yaml")
    assert "    payload.feeds:\n        none\n     -> [feeds/number-0.xml, feeds/number-1.xml" in text


def test_an_added_entry_that_is_disabled_never_fires() -> None:
    made = planned(FILE, edited("  pulse:", "  off: {job: news, every: 1m, enabled: false}\n  pulse:"))
    assert made.changes[0].next_after == ()
    assert "next: never" in as_text(made, source="a")


def test_h_draws_another_time_after_a_rename() -> None:
    """`H` stands for a value of the name: a new name moves the times, and the plan says why."""
    file = edited("0 6 * * mon", "H H * * *")
    made = planned(file, edited("  channel-sync: {job", "  daily: {renamed_from: channel-sync, job", file=file))
    (change,) = made.changes
    assert change.action == "rename"
    assert "fires at other times: H is drawn from the name" in change.effects
    assert change.next_after != change.next_before


def test_a_year_stands_where_it_is_not_this_one() -> None:
    """Far fire times carry their year."""
    file = edited("0 6 * * mon", "0 6 29 2 *")
    (change,) = planned(FILE, file).changes
    assert [fire.utc.year for fire in change.next_after] == [2028, 2032, 2036]
    assert "Tue 29 Feb 2028 06:00, Sun 29 Feb 2032 06:00" in as_text(planned(FILE, file), source="a")
    assert change.next_after[0].utc - NOW > timedelta(days=600)


def test_one_and_true_are_different_in_a_payload() -> None:
    """For Python 1 == True; a payload that goes from the one to the other is an edit, shown and applied."""
    text = (
        "version: 1\njob_types: {a: {handler: handlers.x.y}}\nschedules: {s: {job: a, every: 1h, payload: {x: %s}}}\n"
    )
    old, new = (load_text(text % value, environ={}).require() for value in ("1", "true"))
    made = plan(Stored(1, old, {}, {}), new, datetime(2026, 3, 27, 9, tzinfo=UTC))
    assert [(field.field, field.before, field.after) for change in made.changes for field in change.fields] == [
        ("payload.x", 1, True)
    ]
