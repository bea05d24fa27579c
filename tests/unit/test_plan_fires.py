"""What clock changes do to the fire times of a plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner.domain.plan.crowds import fires_in
from runner.domain.plan.fires import DUE, fires
from runner.domain.schedule import Schedule
from runner.domain.timing import timing

SPRING = datetime(2026, 3, 28, 12, tzinfo=UTC)  # Berlin goes from 02:00 to 03:00 on the 29th
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC)  # and from 03:00 back to 02:00 on 25 October


def told(now: datetime, count: int = 3, **values: Any) -> list[tuple[str, str]]:
    """Wall time and mark of the next fires in Berlin."""
    schedule = Schedule("nightly", job="clean", **({"timezone": "Europe/Berlin"} | values))
    found = fires(schedule, timing(schedule).next(now), now, count)
    return [(f"{fire.time:%d %H:%M} {fire.time.tzname()}", fire.mark) for fire in found]


SKIPPED = "clock change: Sun 29 Mar 02:30 skipped"
FORWARD = {
    "fixed": ({"cron": ("30 2 * * *",)}, ("29 03:00 CEST", "clock change: moved from 02:30")),
    "skip": ({"cron": ("30 2 * * *",), "clock_change": "skip"}, ("30 02:30 CEST", SKIPPED)),
    "list": ({"cron": ("30 2 * * *", "0 12 * * *")}, ("29 03:00 CEST", "clock change: moved from 02:30")),
    "untouched": ({"cron": ("0 6 * * *",)}, ("29 06:00 CEST", "clock change: +1h")),
    "utc": ({"cron": ("0 6 * * *",), "timezone": "UTC"}, ("29 06:00 UTC", "")),
    "every": ({"every": timedelta(hours=24)}, ("30 02:00 CEST", "clock change: +1h")),
}


@pytest.mark.parametrize("case", FORWARD)
def test_clocks_go_forward(case: str) -> None:
    """A lost time is told where it is moved to; where it is skipped, at the slot after it."""
    values, expected = FORWARD[case]
    assert expected in told(SPRING, **values)


def test_a_wildcard_that_loses_a_time() -> None:
    """The slot after the gap tells what the gap has taken."""
    since = datetime(2026, 3, 29, 0, 10, tzinfo=UTC)
    assert told(since, cron=("*/30 * * * *",)) == [
        ("29 01:30 CET", ""),
        ("29 03:00 CEST", "clock change: Sun 29 Mar 02:00 skipped"),
        ("29 03:30 CEST", ""),
    ]


def test_a_fixed_time_that_comes_twice_runs_once() -> None:
    """At the first of the two, which is said."""
    assert told(AUTUMN, cron=("30 2 * * *",))[:2] == [
        ("25 02:30 CEST", "clock change: only the first of two 02:30"),
        ("26 02:30 CET", "clock change: -1h"),
    ]


@pytest.mark.parametrize("values", [{"clock_change": "both", "cron": ("30 2 * * *",)}, {"cron": ("30 2-3/12 * * *",)}])
def test_a_fixed_time_that_comes_twice(values: dict[str, Any]) -> None:
    """With `both` it runs twice, and each of the two is marked; without, the second is not there."""
    both = told(AUTUMN, **values)[:2]
    assert both[0][0] == "25 02:30 CEST"
    if "clock_change" in values:
        assert both == [
            ("25 02:30 CEST", "clock change: first of two 02:30"),
            ("25 02:30 CET", "clock change: second of two 02:30"),
        ]
    else:
        assert both[1] == ("26 02:30 CET", "clock change: -1h")


def test_a_wildcard_that_comes_twice() -> None:
    """Each real instant is a slot, and each of the repeated ones is marked."""
    since = datetime(2026, 10, 24, 23, 40, tzinfo=UTC)
    assert told(since, 6, cron=("*/30 * * * *",)) == [
        ("25 02:00 CEST", "clock change: first of two 02:00"),
        ("25 02:30 CEST", "clock change: first of two 02:30"),
        ("25 02:00 CET", "clock change: second of two 02:00"),
        ("25 02:30 CET", "clock change: second of two 02:30"),
        ("25 03:00 CET", ""),
        ("25 03:30 CET", ""),
    ]


def test_a_yearly_schedule_passes_changes_that_cancel_out() -> None:
    """Summer in between is not worth a word."""
    assert [mark for _, mark in told(SPRING - timedelta(days=60), cron=("0 6 1 1 *",))] == ["", "", ""]


def test_a_due_slot_comes_first() -> None:
    """Of several that are due, the first is told; what follows is in the future."""
    schedule = Schedule("pulse", job="news", every=timedelta(minutes=10))
    found = fires(schedule, SPRING - timedelta(hours=3), SPRING, 3)
    assert [(fire.utc - SPRING, fire.mark) for fire in found] == [
        (-timedelta(hours=3), DUE),
        (timedelta(minutes=10), ""),
        (timedelta(minutes=20), ""),
    ]


def test_a_schedule_that_ends() -> None:
    """There are no more fires than the schedule has."""
    assert len(told(SPRING, cron=("0 6 * * *",), until=SPRING + timedelta(hours=30))) == 1
    assert told(SPRING, cron=("0 6 * * *",), until=SPRING) == []


@pytest.mark.parametrize(
    "values",
    [
        {"cron": ("30 2 * * *",), "timezone": "America/New_York"},
        {"cron": ("*/7 * * * mon-fri", "0 6 * * *")},
        {"every": timedelta(minutes=11)},
        {"every": timedelta(minutes=11), "starts": SPRING, "until": SPRING + timedelta(hours=2)},
    ],
)
def test_looking_into_a_minute(values: dict[str, Any]) -> None:
    """Asked of each minute of a day, the answer is that of the slots themselves."""
    when = timing(Schedule("s", job="clean", **values))
    start = SPRING - timedelta(days=2)
    minutes = [start + timedelta(minutes=number) for number in range(2 * 1440 + 180)]
    slots = set(when.slots(start - timedelta(seconds=1), minutes[-1]))
    assert [minute for minute in minutes if fires_in(when, minute)] == [minute for minute in minutes if minute in slots]
