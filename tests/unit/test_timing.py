"""When whole schedules fire: unions of expressions, intervals, bounds, and jitter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from runner.domain.cron import Cron, CronError
from runner.domain.schedule import Schedule
from runner.domain.timing import canonical, jitter, timing

SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=n) for n in (1, 60, 3600, 86400))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(schedule: Schedule, after: str, until: str) -> list[str]:
    return [f"{slot:%m-%d %H:%M:%S}".removesuffix(":00") for slot in timing(schedule).slots(utc(after), utc(until))]


def test_one_expression_is_its_cron() -> None:
    """A schedule with one expression takes zone, day match and clock change from its fields."""
    schedule = Schedule("s", cron=("30 2 13 * 5",), timezone="Europe/Berlin", day_match="all", clock_change="skip")
    assert slots(schedule, "2026-01-01", "2026-12-31") == ["02-13 01:30", "03-13 01:30", "11-13 01:30"]


def test_several_expressions_are_a_union() -> None:
    """A slot that two expressions share is one slot."""
    schedule = Schedule("s", cron=("0 6 * * *", "0 */6 * * *", "30 6 * * *"))
    assert slots(schedule, "2026-01-01", "2026-01-01T12:00") == ["01-01 06:00", "01-01 06:30", "01-01 12:00"]
    assert timing(schedule).previous(utc("2026-01-01T07:00")) == utc("2026-01-01T06:30")
    assert timing(schedule).count(utc("2026-01-01"), utc("2036-01-01")) == 5 * 3652


@pytest.mark.parametrize("place", ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "Antarctica/Troll"])
def test_a_union_counts_as_many_as_it_visits(place: str) -> None:
    """Fixed and wildcard expressions together, over clock changes: counted exactly, each instant once."""
    rng = Random(place)
    lists = [
        ("0,30 1,2,3 * * *", "*/20 2 * * *"),
        ("15 2 * * *", "45 2 * * 0", "0 3 * * *"),
        ("7 * * * *", "7 0-3 * * *"),
    ]
    for crons in lists:
        for year in (2011, 2026):
            whole = timing(Schedule("s", cron=crons, timezone=place))
            begin = datetime(year, 1, 1, tzinfo=UTC) + rng.randrange(200) * DAY + rng.randrange(86400) * SECOND
            end = begin + rng.randrange(300) * DAY
            visited = list(whole.slots(begin, end))
            each = {slot for text in crons for slot in Cron.parse(text, timezone=place).slots(begin, end)}
            assert visited == sorted(each)
            assert whole.count(begin, end) == len(visited)


@pytest.mark.parametrize(
    ("every", "starts", "expected"),
    [
        (15 * MINUTE, None, ["01-01 00:15", "01-01 00:30", "01-01 00:45", "01-01 01:00"]),
        (25 * MINUTE, None, ["01-01 00:15", "01-01 00:40"]),  # 1767225600 s since the epoch leave 900 s of 1500
        (25 * MINUTE, "2026-01-01T00:10", ["01-01 00:10", "01-01 00:35", "01-01 01:00"]),
        (25 * MINUTE, "2025-12-31T23:50", ["01-01 00:15", "01-01 00:40"]),
        (20 * MINUTE, "2026-01-01T00:10:00.250", ["01-01 00:10:01", "01-01 00:30:01", "01-01 00:50:01"]),
    ],
)
def test_every_is_multiples_since_its_start(every: timedelta, starts: str | None, expected: list[str]) -> None:
    """Multiples of the interval since `from`, else since the Unix epoch, in whole seconds."""
    schedule = Schedule("s", every=every, starts=utc(starts) if starts else None)
    assert slots(schedule, "2026-01-01", "2026-01-01T01:00") == expected


def test_every_steps_and_counts_like_any_timing() -> None:
    """`next` is strictly after, `previous` is not strictly before, and ten years are counted at once."""
    whole, slot = timing(Schedule("s", every=90 * SECOND)), utc("2026-01-01T00:03")
    assert whole.next(slot) == slot + 90 * SECOND
    assert whole.next(slot - timedelta(microseconds=1)) == slot
    assert whole.previous(slot) == slot
    assert whole.previous(slot - timedelta(microseconds=1)) == slot - 90 * SECOND
    assert whole.count(slot, slot + 3650 * DAY) == 3650 * 960
    assert whole.count(slot, slot - DAY) == 0
    assert whole.next(datetime.max.replace(tzinfo=UTC)) is None


def test_every_knows_no_clock_change() -> None:
    """An interval is real time, whatever the schedule's zone does."""
    schedule = Schedule("s", every=HOUR, timezone="Europe/Berlin")
    assert timing(schedule).count(utc("2026-03-28"), utc("2026-03-30")) == 48


@pytest.mark.parametrize("every", [timedelta(0), timedelta(milliseconds=500), timedelta(milliseconds=1500), -HOUR])
def test_every_is_whole_seconds(every: timedelta) -> None:
    """At least one second, and no fraction of one."""
    with pytest.raises(CronError, match="is not a whole number of seconds"):
        timing(Schedule("s", every=every))


@pytest.mark.parametrize(
    ("starts", "until", "expected"),
    [
        (None, None, ["01-02 06:00", "01-03 06:00", "01-04 06:00"]),
        ("2026-01-03", None, ["01-03 06:00", "01-04 06:00"]),
        ("2026-01-03T06:00", "2026-01-03T06:00", ["01-03 06:00"]),
        ("2026-01-03T06:00:01", None, ["01-04 06:00"]),
        ("2026-01-03T06:00:00.5", None, ["01-04 06:00"]),
        (None, "2026-01-03T05:59:59", ["01-02 06:00"]),
        ("2026-02-01", "2026-03-01", []),
        ("2026-03-01", "2026-02-01", []),
    ],
)
def test_bounds_include_both_ends(starts: str | None, until: str | None, expected: list[str]) -> None:
    """Slots run from `from` to `until`, both included, in every question that a timing answers."""
    first, last = (utc(bound) if bound else None for bound in (starts, until))
    schedule = Schedule("s", cron=("0 6 * * *",), starts=first, until=last)
    begin, end = utc("2026-01-01T12:00"), utc("2026-01-04T12:00")
    whole = timing(schedule)
    found = list(whole.slots(begin, end))
    assert [f"{slot:%m-%d %H:%M}" for slot in found] == expected
    assert whole.count(begin, end) == len(expected)
    if expected:
        assert whole.next(begin) == found[0]
        assert whole.previous(end) == found[-1]
    assert whole.next(utc(until) if until else utc("2027-01-01")) is None or until is None
    assert whole.previous(utc(starts) - SECOND if starts else utc("2025-01-01")) is None or starts is None


def test_canonical_text_of_a_schedule() -> None:
    """Several expressions are joined, an interval says so; this is what the database shows."""
    assert canonical(Schedule("s", cron=("@daily", "0 0 * * mon"))) == "0 0 * * * | 0 0 * * 1"
    assert canonical(Schedule("s", every=90 * MINUTE)) == "every 1h30m"
    assert canonical(Schedule("news-fetch", cron=("H H * * *",))) == "51 0 * * *"
    assert canonical(Schedule("s", cron=("5-5 0 0 * * *",), seconds=True)) == "5 0 0 * * *"


def test_a_wrong_expression_among_several_is_refused() -> None:
    """`timing` and `canonical` raise what the parser raises."""
    schedule = Schedule("s", cron=("0 6 * * *", "0 25 * * *"))
    for ask in (timing, canonical):
        with pytest.raises(CronError, match="hour 25 is outside 0-23"):
            ask(schedule)


def test_jitter_is_the_same_for_ever() -> None:
    """These values are what running installations have: jitter depends on schedule and slot alone."""
    slot = utc("2026-03-01T06:00")
    tokyo = slot.astimezone(Cron.parse("0 0 * * *", timezone="Asia/Tokyo").clock.place)
    assert jitter("news-fetch", slot, 2 * MINUTE, DAY) == JITTER
    assert jitter("news-fetch", tokyo, 2 * MINUTE, DAY) == JITTER
    assert jitter("news-fetch", slot + DAY, 2 * MINUTE, DAY) != JITTER
    assert jitter("other", slot, 2 * MINUTE, DAY) != JITTER


JITTER = timedelta(seconds=75, milliseconds=328)


@pytest.mark.parametrize(
    ("spread", "gap", "limit"),
    [
        (2 * MINUTE, DAY, 2 * MINUTE),
        (10 * MINUTE, 10 * MINUTE, 5 * MINUTE),
        (10 * MINUTE, SECOND, SECOND / 2),
        (timedelta(milliseconds=1), DAY, timedelta(milliseconds=1)),
    ],
)
def test_jitter_stays_below_spread_and_half_the_gap(spread: timedelta, gap: timedelta, limit: timedelta) -> None:
    """Over many slots it fills its range evenly, in whole milliseconds, and never reaches the limit."""
    drawn = [jitter("s", utc("2026-01-01") + n * MINUTE, spread, gap) for n in range(2000)]
    assert all(timedelta(0) <= one < limit for one in drawn)
    assert all(one % timedelta(milliseconds=1) == timedelta(0) for one in drawn)
    if limit > SECOND / 10:
        assert min(drawn) < limit / 20
        assert max(drawn) > limit * 0.95
        assert abs(sum(drawn, timedelta(0)) / len(drawn) - limit / 2) < limit / 20


def test_no_spread_is_no_jitter() -> None:
    """Without a spread, or without a gap, a run starts at its slot."""
    assert jitter("s", utc("2026-01-01"), timedelta(0), DAY) == timedelta(0)
    assert jitter("s", utc("2026-01-01"), MINUTE, timedelta(0)) == timedelta(0)
