"""What applying a file does to the rows of schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner.domain.applying import RowChange, mass_removal, renames, row_changes, timing_differs
from runner.domain.ledger import ScheduleStatus
from runner.domain.retry import RetryPolicy
from runner.domain.schedule import Schedule
from tests.factories import DAY, HOUR, MINUTE, NOW, SECOND, make_definitions, make_schedule, make_status


def apply(
    stored: list[Schedule], wanted: list[Schedule], *, lookback: timedelta = timedelta(0), **row: Any
) -> dict[str, RowChange]:
    rows = [make_status(schedule, **row) for schedule in stored]
    before = {schedule.name: schedule for schedule in stored}
    changes = row_changes(rows, before, make_definitions(*wanted), NOW, lookback=lookback)
    assert len({change.name for change in changes}) == len(changes)
    return {change.name: change for change in changes}


def test_the_same_file_again_changes_nothing() -> None:
    """Comments and key order change nothing: no new `next_run`."""
    both = [make_schedule("a"), make_schedule("b", cron=("0 6 * * *",))]

    assert apply(both, both[::-1]) == {}


def test_a_new_schedule_starts_at_the_moment_of_applying() -> None:
    """A name never seen gets a row with the cursor now, and its first slot after it."""
    change = apply([], [make_schedule()])["nightly"]

    assert change.is_new
    assert (change.values["cursor"], change.values["next_run"]) == (NOW, NOW + 10 * MINUTE)
    assert (change.values["expression"], change.values["job_type"]) == ("every 10m", "mail")


def test_lookback_is_for_names_never_seen() -> None:
    """`--since` lets a schedule that this database has never seen look that far back, and no other."""
    changes = apply([make_schedule("old")], [make_schedule("old", every=HOUR), make_schedule("new")], lookback=DAY)

    assert changes["new"].values["cursor"] == NOW - DAY
    assert changes["old"].values["cursor"] == NOW


TIMINGS = [
    {"every": HOUR},
    {"cron": ("*/5 * * * *",)},
    {"timezone": "Europe/Berlin"},
    {"starts": NOW + DAY},
    {"until": NOW + DAY},
    {"enabled": False},
    {"clock_change": "skip"},
    {"day_match": "any"},
]
OTHERS = [
    {"payload": {"to": "all"}},
    {"job": "letter"},
    {"priority": 1},
    {"jitter": MINUTE},
    {"catch_up": "all"},
    {"catch_up_window": DAY},
    {"overlap": "queue"},
    {"retry": RetryPolicy(5)},
    {"timeout": HOUR},
    {"description": "said better"},
    {"labels": {"team": "a"}},
    {"project_id": "p"},
]


@pytest.mark.parametrize("edit", TIMINGS, ids=str)
def test_an_edit_of_the_timing_never_looks_back(edit: dict[str, Any]) -> None:
    """When timing changes, the cursor becomes the moment of applying."""
    change = apply([make_schedule()], [make_schedule(**edit)])["nightly"]

    assert not change.is_new
    assert change.values["cursor"] == NOW
    assert change.values["next_run"] is None or change.values["next_run"] > NOW


@pytest.mark.parametrize("edit", OTHERS, ids=str)
def test_an_edit_of_anything_else_leaves_the_cursor(edit: dict[str, Any]) -> None:
    """What does not change when it fires moves neither cursor nor `next_run`, and no pause."""
    change = apply([make_schedule()], [make_schedule(**edit)])["nightly"]

    assert not {"cursor", "next_run", "paused_at", "last_run", "retired_at"} & set(change.values)


def test_another_spelling_of_the_same_times_is_no_change_of_timing() -> None:
    """`0 6 * * MON` and `0 6 * * 1` are the same timing."""
    assert not timing_differs(make_schedule(cron=("0 6 * * MON",)), make_schedule(cron=("0 6 * * 1",)))
    assert timing_differs(make_schedule(cron=("0 6 * * 1",)), make_schedule(cron=("0 6 * * 2",)))


def test_a_disabled_schedule_has_no_next_run_and_comes_back_at_now() -> None:
    """`enabled: false` takes the next run away; enabling it again looks from now on."""
    on, off = make_schedule(), make_schedule(enabled=False)

    assert apply([on], [off])["nightly"].values["next_run"] is None
    assert apply([off], [on])["nightly"].values["next_run"] == NOW + 10 * MINUTE


def test_a_schedule_that_left_the_file_is_retired() -> None:
    """A schedule that left the file is retired: no new slots."""
    assert apply([make_schedule()], []) == {
        "nightly": RowChange("nightly", {"retired_at": NOW, "next_run": None})
    }  # fmt: skip
    assert apply([make_schedule()], [], retired_at=NOW - DAY) == {}


@pytest.mark.parametrize(
    ("away", "pause_survives"), [(SECOND, True), (DAY - SECOND, True), (DAY, False), (30 * DAY, False)]
)
def test_back_within_a_day_its_pause_survives(away: timedelta, pause_survives: bool) -> None:
    """Back within 24 h, its pause survives; it starts at now either way, and never looks back."""
    change = apply(
        [make_schedule()], [make_schedule()], retired_at=NOW - away, paused_at=NOW - 40 * DAY, lookback=DAY
    )["nightly"]  # fmt: skip

    assert (change.is_new, change.values["retired_at"], change.values["cursor"]) == (False, None, NOW)
    assert ("paused_at" in change.values) is not pause_survives


def test_a_rename_moves_the_row_and_keeps_the_cursor() -> None:
    """`renamed_from` keeps history, pause and cursor: neither a new schedule nor a retired one."""
    rows = [make_status(make_schedule("old"))]
    wanted = make_definitions(make_schedule("new", renamed_from="old"))

    changes = row_changes(rows, {"old": make_schedule("old")}, wanted, NOW)

    assert changes[0] == RowChange("old", rename_to="new")
    assert [(change.name, change.is_new) for change in changes[1:]] == [("new", False)]
    assert not {"cursor", "next_run", "paused_at"} & set(changes[1].values)


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        (["old"], [("new", "old")], {"old": "new"}),
        (["new"], [("new", "old")], {}),
        (["old", "new"], [("new", "old")], {}),
        (["old"], [("new", "old"), ("old", None)], {}),
        ([], [("new", "old")], {}),
        (["a", "b"], [("b", "a"), ("c", "b")], {}),
        (["a", "b"], [("c", "a"), ("d", "b")], {"a": "c", "b": "d"}),
    ],
)
def test_a_rename_is_harmless_once_it_is_done(
    stored: list[str], wanted: list[tuple[str, str | None]], expected: dict[str, str]
) -> None:
    """A rename counts where the old name lives, left the file, and the new name is free."""
    rows = [make_status(make_schedule(name)) for name in stored]
    definitions = make_definitions(*(make_schedule(name, renamed_from=old) for name, old in wanted))

    assert renames(rows, definitions) == expected


def test_a_retired_schedule_is_not_renamed() -> None:
    """What has been retired stays under its name; the new one is new."""
    rows = [make_status(make_schedule("old"), retired_at=NOW)]

    assert renames(rows, make_definitions(make_schedule("new", renamed_from="old"))) == {}


NAMES = ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        (NAMES[:1], [], ["a"]),
        (NAMES[:4], [], ["a", "b", "c", "d"]),
        (NAMES[:4], ["a"], []),
        (NAMES[:4], ["x"], []),
        (NAMES[:5], ["a", "b", "c"], []),
        (NAMES[:5], ["a", "b"], ["c", "d", "e"]),
        (NAMES[:6], ["a", "b", "c"], []),
        (NAMES[:6], ["a", "b", "x", "y", "z"], ["c", "d", "e", "f"]),
        ([], [], []),
    ],
)
def test_a_mass_removal_must_be_meant(stored: list[str], wanted: list[str], expected: list[str]) -> None:
    """An edit that leaves no schedule where there were some, or retires more than half of five or more."""
    rows: list[ScheduleStatus] = [make_status(make_schedule(name)) for name in stored]

    assert mass_removal(rows, make_definitions(*map(make_schedule, wanted))) == expected


def test_renames_and_retired_ones_are_no_removals() -> None:
    """Renames do not count, nor does what was retired before."""
    rows = [make_status(make_schedule(name)) for name in NAMES[:5]]
    rows += [make_status(make_schedule(f"gone-{name}"), retired_at=NOW) for name in NAMES]
    wanted = make_definitions(*(make_schedule(f"new-{name}", renamed_from=name) for name in NAMES[:5]))

    assert mass_removal(rows, wanted) == []


def test_next_run_is_computed_in_the_zone_of_the_schedule() -> None:
    """A change of zone is a change of timing; the next run is the wall clock's."""
    before = make_schedule(cron=("0 6 * * *",))
    after = make_schedule(cron=("0 6 * * *",), timezone="Asia/Tokyo")

    assert apply([before], [after])["nightly"].values["next_run"] == datetime(2026, 3, 2, 21, tzinfo=UTC)
