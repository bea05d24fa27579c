"""When expressions fire: the table of semantics.md, row by row, and the cases that libraries got wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from runner.domain.cron import Cron, UnknownZone, closest_zone, zone
from runner.domain.schedule import ClockChange, DayMatch


def fires(text: str, start: str, count: int, place: str = "UTC", **options: object) -> list[str]:
    """The next slots after a local time, as `MM-DD HH:MM`, with seconds where they are not 0 and the offset."""
    cron = Cron.parse(text, timezone=place, **options)  # type: ignore[arg-type]
    at: datetime | None = datetime.fromisoformat(start)
    if at is not None and at.tzinfo is None:
        at = at.replace(tzinfo=ZoneInfo(place))
    shown = []
    for _ in range(count):
        assert at is not None
        at = cron.next(at)
        assert at is not None
        local = at.astimezone(ZoneInfo(place))
        shown.append(f"{local:%m-%d %H:%M}" + (f":{local:%S}" if local.second else "") + f"{local:%z}"[:3])
    return shown


def dates(text: str, start: str, count: int, **options: object) -> list[str]:
    """The next dates, as `YYYY-MM-DD`, of an expression that fires once a day."""
    cron = Cron.parse(text, **options)  # type: ignore[arg-type]
    at: datetime | None = datetime.fromisoformat(start).replace(tzinfo=UTC)
    shown = []
    for _ in range(count):
        assert at is not None
        at = cron.next(at)
        shown.append(f"{at:%Y-%m-%d}")
    return shown


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("0 6 * * *", ["01-01 06:00+00", "01-02 06:00+00"]),
        ("0 */4 * * *", ["01-01 04:00+00", "01-01 08:00+00"]),
        ("0 3 * * 0", ["01-04 03:00+00", "01-11 03:00+00"]),
        ("*/20 * * * *", ["01-01 00:20+00", "01-01 00:40+00"]),
        ("5,7 1-2 * * *", ["01-01 01:05+00", "01-01 01:07+00", "01-01 02:05+00"]),
        ("10-30/10 * * * *", ["01-01 00:10+00", "01-01 00:20+00", "01-01 00:30+00", "01-01 01:10+00"]),
        ("50/4 * * * *", ["01-01 00:50+00", "01-01 00:54+00", "01-01 00:58+00", "01-01 01:50+00"]),
        ("59/15 * * * *", ["01-01 00:59+00", "01-01 01:59+00"]),
        ("5-5 * * * *", ["01-01 00:05+00", "01-01 01:05+00"]),
        ("0 0 * jan-jan sun-sun", ["01-04 00:00+00", "01-11 00:00+00"]),
        ("0 0 31 * *", ["01-31 00:00+00", "03-31 00:00+00", "05-31 00:00+00"]),
        ("0 0 * * 7", ["01-04 00:00+00"]),
        ("0 0 * * 5-7", ["01-02 00:00+00", "01-03 00:00+00", "01-04 00:00+00", "01-09 00:00+00"]),
        ("0 0 * DEC Mon", ["12-07 00:00+00"]),
        ("0 0 ? * ?", ["01-02 00:00+00"]),
        ("@hourly", ["01-01 01:00+00", "01-01 02:00+00"]),
        ("@daily", ["01-02 00:00+00"]),
        ("@midnight", ["01-02 00:00+00"]),
        ("@weekly", ["01-04 00:00+00"]),
        ("@Monthly ", ["02-01 00:00+00"]),
        ("@yearly", ["01-01 00:00+00"]),
        ("@annually", ["01-01 00:00+00"]),
    ],
)
def test_plain_fields_fire_at_every_combination(text: str, first: list[str]) -> None:
    """Numbers, lists, ranges, steps, names and macros mean what crontab(5) says."""
    assert fires(text, "2026-01-01 00:00", len(first)) == first


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("30 * * * * *", ["01-01 00:00:30+00", "01-01 00:01:30+00"]),
        ("*/25 0 0 * * *", ["01-01 00:00:25+00", "01-01 00:00:50+00", "01-02 00:00+00"]),
        ("0 */15 * * * *", ["01-01 00:15+00", "01-01 00:30+00"]),
        ("@daily", ["01-02 00:00+00"]),
    ],
)
def test_with_seconds_the_second_comes_first(text: str, first: list[str]) -> None:
    """Six fields, seconds first, where the schedule says `seconds: true`."""
    assert fires(text, "2026-01-01 00:00", len(first), seconds=True) == first


@pytest.mark.parametrize(
    ("text", "match", "days"),
    [
        ("0 0 13 * 5", "vixie", [2, 9, 13, 16, 20 + 3, 30]),  # the 13th is a Tuesday
        ("0 0 13 * 5", "any", [2, 9, 13, 16, 23, 30]),
        ("0 0 13 * 5", "all", []),
        ("0 0 16 * 5", "all", [16]),
        ("0 0 */2 * 1", "vixie", [5, 19]),
        ("0 0 */10 * 1", "any", [1, 5, 11, 12, 19, 21, 26, 31]),
        ("0 0 1-7 * */2", "vixie", [1, 3, 4, 6]),  # Thursday, Saturday, Sunday, Tuesday
        ("0 0 5,*/10 * 1", "vixie", [1, 5, 11, 12, 19, 21, 26, 31]),  # a star later in the list is none
        ("0 0 */10,5 * 1", "vixie", [5]),
        ("0 0 1-31 * 1", "vixie", list(range(1, 32))),
        ("0 0 * * 1", "any", [5, 12, 19, 26]),  # one day field alone has nothing to be combined with
        ("0 0 ? * 1", "any", [5, 12, 19, 26]),
        ("0 0 8 * *", "any", [8]),
    ],
)
def test_both_day_fields(text: str, match: DayMatch, days: list[int]) -> None:
    """Either day field is enough, unless one starts with a star, then both must match; `day_match` overrides."""
    cron = Cron.parse(text, day_match=match)
    january = cron.slots(datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 1, 31, 23, tzinfo=UTC))
    assert [slot.day for slot in january] == days


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("0 0 L * *", ["2026-01-31", "2026-02-28", "2026-03-31"]),
        ("0 0 15,L 2 *", ["2026-02-15", "2026-02-28", "2027-02-15"]),
        ("0 0 LW * *", ["2026-01-30", "2026-02-27", "2026-03-31", "2026-04-30", "2026-05-29"]),
        ("0 0 15W * *", ["2026-01-15", "2026-02-16", "2026-03-16", "2026-04-15", "2026-05-15"]),
        ("0 0 1W * *", ["2026-01-01", "2026-02-02", "2026-03-02", "2026-04-01", "2026-05-01", "2026-06-01"]),
        ("0 0 1W 8 *", ["2026-08-03"]),  # a Saturday: never into July
        ("0 0 31W * *", ["2026-01-30", "2026-03-31", "2026-05-29"]),  # a Sunday: never into June
        ("0 0 1W,15W 2 *", ["2026-02-02", "2026-02-16"]),
        ("0 0 * * 5L", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("0 0 * * friL", ["2026-01-30", "2026-02-27"]),
        ("0 0 * * L5", ["2026-01-30", "2026-02-27"]),
        ("0 0 * * 7L", ["2026-01-25", "2026-02-22"]),
        ("0 0 ? * 5#2", ["2026-01-09", "2026-02-13"]),
        ("0 0 * * mon#5", ["2026-03-30", "2026-06-29"]),
        ("0 0 * * 1#1,5L", ["2026-01-05", "2026-01-30", "2026-02-02"]),
        ("0 0 * * 1#1,2", ["2026-01-05", "2026-01-06", "2026-01-13"]),
    ],
)
def test_special_days(text: str, first: list[str]) -> None:
    """`L`, `LW`, `15W`, `nL` and `n#k` are accepted where the other day field is a star."""
    assert dates(text, "2026-01-01 00:00" if first[0] != "2026-01-01" else "2025-12-31", len(first))[-2:] == first[-2:]


@pytest.mark.parametrize(
    ("text", "first", "options"),
    [
        ("0 0 29 2 *", ["2028-02-29", "2032-02-29"], {}),
        ("0 0 * 2 1#5", ["2044-02-29", "2072-02-29", "2112-02-29"], {}),  # 2100 has no leap day
        ("0 0 29 2 0", ["2032-02-29", "2060-02-29"], {"day_match": "all"}),
        ("0 0 29 2 3", ["2040-02-29", "2068-02-29", "2096-02-29", "2108-02-29"], {"day_match": "all"}),
        ("0 0 31 5,6 *", ["2026-05-31", "2027-05-31"], {}),
    ],
)
def test_rare_dates_are_found(text: str, first: list[str], options: dict[str, object]) -> None:
    """What fires once in decades is accepted, and its next date is found."""
    assert dates(text, "2026-01-01 00:00", len(first), **options) == first


NEW_YORK, LORD_HOWE, CAIRO, APIA = "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Pacific/Apia"
BERLIN, CASEY, TROLL, SANTIAGO = "Europe/Berlin", "Antarctica/Casey", "Antarctica/Troll", "America/Santiago"


@pytest.mark.parametrize(
    ("text", "place", "start", "slots"),
    [
        # clock forward, fixed: once, at the first instant after the gap
        ("30 2 * * *", BERLIN, "2026-03-28 12:00", ["03-29 03:00+02", "03-30 02:30+02"]),
        ("10,20,30 2 * * *", BERLIN, "2026-03-28 12:00", ["03-29 03:00+02", "03-30 02:10+02"]),
        ("0,30 2,3 * * *", BERLIN, "2026-03-28 12:00", ["03-29 03:00+02", "03-29 03:30+02", "03-30 02:00+02"]),
        ("0 2-4 * * *", BERLIN, "2026-03-29 00:00", ["03-29 03:00+02", "03-29 04:00+02", "03-30 02:00+02"]),
        ("15 2 29 3 *", BERLIN, "2026-01-01 00:00", ["03-29 03:00+02", "03-29 02:15+02"]),
        ("15 0 6 9 *", SANTIAGO, "2026-09-05 12:00", ["09-06 01:00-03", "09-06 00:15-03"]),  # at midnight
        ("15 2 * * *", LORD_HOWE, "2026-10-03 12:00", ["10-04 02:30+11", "10-05 02:15+11"]),  # half an hour
        ("45 1 * * *", TROLL, "2026-03-28 12:00", ["03-29 03:00+02", "03-30 01:45+02"]),  # two hours
        ("0 1 * * *", CASEY, "2016-10-21 12:00", ["10-22 03:00+11", "10-23 01:00+11"]),  # just three hours
        # clock forward, a gap of over three hours: the clock was set
        ("0 12 * * *", APIA, "2011-12-29 13:00", ["12-31 12:00+14", "01-01 12:00+14"]),
        ("0 0 30 12 *", APIA, "2011-12-01 00:00", ["12-30 00:00+14", "12-30 00:00+14"]),
        # clock forward, wildcard: only what exists, nothing invented
        ("0 */2 * * *", NEW_YORK, "2026-03-08 00:30", ["03-08 04:00-04", "03-08 06:00-04"]),
        ("*/15 2 * * *", NEW_YORK, "2026-03-08 00:30", ["03-09 02:00-04", "03-09 02:15-04"]),
        ("2,3,4 */3 * * *", CAIRO, "2026-04-23 23:00", ["04-24 03:02+03", "04-24 03:03+03"]),
        ("*/30 * * * *", BERLIN, "2026-03-29 01:00", ["03-29 01:30+01", "03-29 03:00+02", "03-29 03:30+02"]),
        ("* * * * *", APIA, "2011-12-29 23:59", ["12-31 00:00+14", "12-31 00:01+14"]),
        # clock back, fixed: once, the first of the two
        ("30 1 * * *", NEW_YORK, "2026-10-31 12:00", ["11-01 01:30-04", "11-02 01:30-05"]),
        ("30 1 1 11 *", NEW_YORK, "2026-10-31 12:00", ["11-01 01:30-04", "11-01 01:30-04"]),  # and 2027
        ("30 1 * * *", NEW_YORK, "2026-11-01T01:10-05:00", ["11-02 01:30-05"]),  # asked in the second hour
        ("0,59 1,2 * * *", NEW_YORK, "2026-11-01 00:00", ["11-01 01:00-04", "11-01 01:59-04", "11-01 02:00-05"]),
        ("30 23 * * *", CAIRO, "2026-10-29 12:00", ["10-29 23:30+03", "10-30 23:30+02"]),  # over midnight
        # clock back, wildcard: at every real instant
        ("*/20 * * * *", LORD_HOWE, "2026-04-05T01:20+11:00", ["04-05 01:40+11", "04-05 01:40+10", "04-05 02:00+10"]),
        ("20-52 * * * *", LORD_HOWE, "2026-04-05T01:50+11:00", ["04-05 01:51+11", "04-05 01:52+11", "04-05 01:30+10"]),
        ("45 * * * *", LORD_HOWE, "2026-04-05T01:00+11:00", ["04-05 01:45+11", "04-05 01:45+10", "04-05 02:45+10"]),
        ("24 */7 * * *", LORD_HOWE, "2026-04-05 00:30", ["04-05 07:24+10", "04-05 14:24+10"]),
        ("*/3 14 * * *", LORD_HOWE, "2026-04-05 12:00", ["04-05 14:00+10", "04-05 14:03+10"]),
        ("0 * * * *", NEW_YORK, "2026-11-01 00:00", ["11-01 01:00-04", "11-01 01:00-05", "11-01 02:00-05"]),
        ("42 */2 * * 0", "America/Goose_Bay", "2010-11-06 23:00", ["11-07 00:42-04", "11-07 02:42-04"]),
        ("42 */2 * * 0", "Asia/Bishkek", "2004-10-31 00:00", ["10-31 00:42+06", "10-31 02:42+05", "10-31 04:42+05"]),
    ],
)
def test_clock_changes(text: str, place: str, start: str, slots: list[str]) -> None:
    """Fixed times run once in spite of a clock change, wildcards follow the clocks: as cronie does it."""
    assert fires(text, start, len(slots), place) == slots


@pytest.mark.parametrize(
    ("text", "mode", "start", "slots"),
    [
        ("30 2 * * *", "skip", "2026-03-28 12:00", ["03-30 02:30+02"]),
        ("0,30 2,3 * * *", "skip", "2026-03-28 12:00", ["03-29 03:00+02", "03-29 03:30+02"]),
        ("30 2 * * *", "both", "2026-03-28 12:00", ["03-29 03:00+02", "03-30 02:30+02"]),
        ("30 2 * * *", "skip", "2026-10-24 12:00", ["10-25 02:30+02", "10-26 02:30+01"]),
        ("30 2 * * *", "both", "2026-10-24 12:00", ["10-25 02:30+02", "10-25 02:30+01", "10-26 02:30+01"]),
        ("30 * * * *", "skip", "2026-10-25 02:00", ["10-25 02:30+02", "10-25 02:30+01", "10-25 03:30+01"]),
        ("*/30 2 * * *", "both", "2026-03-28 12:00", ["03-30 02:00+02"]),
    ],
)
def test_clock_change_overrides(text: str, mode: ClockChange, start: str, slots: list[str]) -> None:
    """`skip` does not run lost times, `both` runs repeated ones twice; wildcards are the same in all modes."""
    assert fires(text, start, len(slots), BERLIN, clock_change=mode) == slots


def test_next_is_strictly_after_and_previous_is_not() -> None:
    """`next(t)` is later than t by at least a fraction of a second; a slot is its own newest slot."""
    cron, slot = Cron.parse("0 6 * * *"), datetime(2026, 3, 1, 6, tzinfo=UTC)
    moment = timedelta(microseconds=1)
    assert cron.next(slot) == slot + timedelta(days=1)
    assert cron.next(slot - moment) == slot
    assert cron.previous(slot) == slot
    assert cron.previous(slot + moment) == slot
    assert cron.previous(slot - moment) == slot - timedelta(days=1)
    assert cron.count(slot - moment, slot) == 1
    assert cron.count(slot, slot) == 0
    assert cron.count(slot, slot - timedelta(days=9)) == 0


def test_times_of_any_zone_are_taken_and_utc_is_returned() -> None:
    """Instants are instants: the zone of the argument says nothing about the schedule's."""
    slot = Cron.parse("0 6 * * *").next(datetime(2026, 3, 1, 8, tzinfo=ZoneInfo("Asia/Tokyo")))
    assert slot == datetime(2026, 3, 1, 6, tzinfo=UTC)
    assert slot.tzinfo is UTC
    with pytest.raises(ValueError, match="has no zone"):
        Cron.parse("0 6 * * *").next(datetime(2026, 3, 1))


@pytest.mark.parametrize("text", ["* * * * *", "0 0 1 1 *", "0 0 29 2 *", "0 0 L * *", "0 0 * * 5#5", "0 12 13 * 5"])
@pytest.mark.parametrize("place", ["UTC", BERLIN, APIA, "Asia/Tokyo", "America/Adak"])
def test_the_calendar_has_two_ends(text: str, place: str) -> None:
    """Where the calendar ends there is no next slot, and nothing else happens."""
    cron = Cron.parse(text, timezone=place)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert cron.next(last) is None
    assert cron.previous(first) is None
    assert (begin := cron.next(first)) is not None
    assert begin.year < 9
    assert (end := cron.previous(last)) is not None
    assert end.year > 9990
    assert cron.next(last - timedelta(days=3660)) is not None


def test_a_count_needs_no_visits() -> None:
    """Fifty years of minutes are counted at once, and clock changes are counted as they are."""
    begin, end = datetime(2000, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)
    assert Cron.parse("* * * * *", timezone=BERLIN).count(begin, end) == (end - begin) // timedelta(minutes=1)
    assert Cron.parse("* * * * * *", timezone=BERLIN, seconds=True).count(begin, end) == (end - begin).total_seconds()
    assert Cron.parse("30 2 * * *", timezone=BERLIN).count(begin, end) == (end - begin).days
    assert Cron.parse("30 2 * * *", timezone=BERLIN, clock_change="both").count(begin, end) == (end - begin).days + 50
    assert Cron.parse("30 2 * * *", timezone=BERLIN, clock_change="skip").count(begin, end) == (end - begin).days - 50


def test_a_count_may_begin_between_the_first_and_the_second_hour() -> None:
    """Asked in the hour that comes twice, a fixed time of that hour is over, a wildcard's is still to come."""
    second, day = datetime(2026, 11, 1, 6, 10, tzinfo=UTC), timedelta(hours=12)  # 01:10 in New York, again
    assert Cron.parse("30 1 * * *", timezone=NEW_YORK).count(second, second + day) == 0
    assert Cron.parse("30 1 * * *", timezone=NEW_YORK, clock_change="both").count(second, second + day) == 1
    assert Cron.parse("30 * * * *", timezone=NEW_YORK).count(second, second + day) == 12


def test_threads_share_an_expression() -> None:
    """Steps taken by several threads at once are the steps of one (a shared croniter gives wrong dates)."""
    cron = Cron.parse("0 0 * * 1,3")
    starts = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(500)]
    expected = [cron.next(start) for start in starts]
    with ThreadPoolExecutor(8) as pool:
        rounds = list(pool.map(lambda _: [cron.next(start) for start in starts], range(8)))
    assert all(found == expected for found in rounds)


@pytest.mark.parametrize(
    "name",
    ["localtime", "CET+1", "+01:00", "UTC+2", "europe/berlin", "Factory", "", "../UTC", "Europe", "Europe/Berlin "],
)
def test_zones_are_exact_iana_names(name: str) -> None:
    """Only names of the pinned database are zones; offsets and the machine's own zone are refused."""
    with pytest.raises(UnknownZone):
        zone(name)
    with pytest.raises(UnknownZone):
        Cron.parse("0 6 * * *", timezone=name)


def test_a_refused_zone_says_what_was_meant() -> None:
    """The hint of an unknown zone names the nearest one."""
    assert closest_zone("europe/berln") == "Europe/Berlin"
    assert closest_zone("berlin") == "Europe/Berlin"
    assert closest_zone("New York") == "America/New_York"
    assert closest_zone("nowhere at all") is None
    with pytest.raises(UnknownZone, match="unknown time zone 'Europe/Berln'") as caught:
        zone("Europe/Berln")
    assert caught.value.hint == "did you mean Europe/Berlin?"
    with pytest.raises(UnknownZone) as caught:
        zone("+05:30")
    assert "an offset knows no clock changes" in (caught.value.hint or "")


def test_zones_come_from_the_pinned_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without zone files, or with other ones, has the same zones."""
    monkeypatch.setattr("zoneinfo.TZPATH", ())
    zone.cache_clear()
    assert str(zone(BERLIN)) == BERLIN
    assert datetime(2026, 7, 1, tzinfo=zone(BERLIN)).utcoffset() == timedelta(hours=2)
