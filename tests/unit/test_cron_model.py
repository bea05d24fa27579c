"""Cron against other programs: a model of cronie's main loop, cronsim, and croniter's own dates."""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest
from cronsim import CronSim

from runner.domain.cron import Cron, CronError, zones
from runner.domain.cron.expression import CroniterDates
from runner.domain.schedule import ClockChange, DayMatch
from tests.unit.cronie_model import Change, Entry, changes, looks, pinned_zone, shapes

LONG = os.environ.get("RUNNER_TEST_PROFILE") == "long"
PER_SHAPE = 2_000 if LONG else 47  # 86,000 expressions in all, or 2,021
AROUND = timedelta(hours=30)
MODES: list[ClockChange] = ["vixie", "vixie", "skip", "both"]
MATCHES: list[DayMatch] = ["vixie", "vixie", "any", "all"]


@pytest.mark.parametrize("shape", range(43))
def test_slots_are_what_cronies_loop_would_run(shape: int) -> None:
    """Around every shape of clock change since 2000, any expression fires as in cronie's main loop."""
    change = shapes()[shape]
    begin, end = change.instant - AROUND, change.instant + AROUND
    timeline = list(looks(pinned_zone(change.zone), begin, end))
    rng = Random(shape)
    for _ in range(PER_SHAPE):
        text, match, mode = an_expression(rng, change), rng.choice(MATCHES), rng.choice(MODES)
        case = f"{text} in {change}, {match}, {mode}"
        expected = Entry(text, day_match=match, clock_change=mode).runs(timeline)
        try:
            cron = Cron.parse(text, timezone=change.zone, day_match=match, clock_change=mode)
        except CronError as refusal:  # such as the hour that is lost on the last Sunday of each March
            assert (refusal.message[:12], expected) == ("never fires:", []), case  # noqa: PT017
            continue
        agree(cron, expected, begin, end, rng, case)


def test_every_shape_of_clock_change_is_tried() -> None:
    """The shapes come from the pinned tzdata; a new one has to be looked at, and is then counted here."""
    assert len(shapes()) == 43


@pytest.mark.parametrize("shape", range(0, 43, 1 if LONG else 6))
def test_slots_with_seconds_are_what_the_loop_would_run_each_second(shape: int) -> None:
    """With a seconds field the same rules hold, second by second."""
    change = shapes()[shape]
    begin, end = change.instant - timedelta(hours=2), change.instant + timedelta(hours=2)
    timeline = list(looks(pinned_zone(change.zone), begin, end, timedelta(seconds=1)))
    rng = Random(shape)
    for _ in range(8):
        hours = rng.choice(["*", "*/2", around(rng, change.wall.hour, 23)])
        text = f"{a_field(rng, 0, 59)} {a_list(rng, 0, 59)} {hours} * * *"
        mode = rng.choice(MODES)
        cron = Cron.parse(text, timezone=change.zone, seconds=True, clock_change=mode)
        expected = Entry(text, seconds=True, clock_change=mode).runs(timeline)
        agree(cron, expected, begin, end, rng, f"{text} in {change}, {mode}")


def agree(cron: Cron, expected: list[datetime], begin: datetime, end: datetime, rng: Random, case: str) -> None:
    """The slots, the steps in both directions from anywhere, and the counts are all those of the model."""
    second = timedelta(seconds=1)
    assert list(cron.slots(begin - second, end)) == expected, case
    for _ in range(3):
        at, later = sorted(begin + second * rng.randrange((end - begin) // second) for _ in range(2))
        assert cron.count(at, later) == sum(at < slot <= later for slot in expected), (case, at, later)
        if following := [slot for slot in expected if slot > at]:
            assert cron.next(at) == following[0], (case, at)
        if preceding := [slot for slot in expected if slot <= at]:
            assert cron.previous(at) == preceding[-1], (case, at)
    assert cron.count(begin - second, end) == len(expected), case


def an_expression(rng: Random, change: Change) -> str:
    """Any expression, but with hours and days that often meet the clock change."""
    hour = rng.choice([a_field(rng, 0, 23), around(rng, change.wall.hour, 23), around(rng, change.wall.hour, 23)])
    minute = rng.choice([a_field(rng, 0, 59), a_list(rng, 0, 59), str(rng.randrange(60))])
    day = weekday = "*"
    match rng.randrange(8):
        case 0:
            day = a_field(rng, 1, 31)
        case 1:
            weekday = rng.choice(
                [a_field(rng, 0, 7, steps=False), a_weekday(rng), f"{a_weekday(rng)},{a_weekday(rng)}"]
            )
        case 2:
            day, weekday = a_field(rng, 1, 31), a_field(rng, 0, 7, steps=False)
        case 3:
            day = rng.choice(["L", "LW", "l,15", f"{change.wall.day}W", f"1,{change.wall.day}W", "?"])
        case 4:
            weekday = rng.choice([f"{a_weekday(rng)}L", f"{a_weekday(rng)}#{rng.randint(1, 5)}", "5#2,L5", "?"])
        case 5:
            day, weekday = around(rng, change.wall.day, 31, low=1), a_weekday(rng)
    month = rng.choice(["*", "*", "*", a_field(rng, 1, 12), str(change.wall.month), f"{change.wall:%b}"])
    text = f"{minute} {hour} {day} {month} {weekday}".replace("L5", "5L")
    return text if fires(text) else an_expression(rng, change)


def fires(text: str) -> bool:
    """Leave out what is refused as never firing: its tests stand elsewhere."""
    entry = Entry(text, day_match="all")
    return any(entry.on(date(2000, 1, 1) + timedelta(days=n)) for n in range(3 * 366))


def a_field(rng: Random, low: int, high: int, *, steps: bool = True) -> str:
    first = rng.randint(low, high)
    last, step = rng.randint(first, high), rng.randint(1, max(2, (high - low) // 2))
    spellings = ["*", f"*/{step}", f"{first}-{last}", f"{first}-{last}/{step}", f"{first}", a_list(rng, low, high)]
    spellings += [
        f"*,{first}",
        f"{first},*",
        f"*/{step},{last}",
        f"*/{step},{first}-{last}",
        f"{first}-{last},{high}",
        f"{first}-{first}",
    ]
    return rng.choice([*spellings, f"{first}/{step}"] if steps else spellings)


def a_list(rng: Random, low: int, high: int) -> str:
    return ",".join(str(rng.randint(low, high)) for _ in range(rng.randint(1, 4)))


def a_weekday(rng: Random) -> str:
    return rng.choice(["0", "1", "2", "3", "4", "5", "6", "7", "sun", "MON", "Tue", "wed", "thu", "fri", "sat"])


def around(rng: Random, value: int, high: int, low: int = 0) -> str:
    """A list of values near one that matters."""
    near = {min(high, max(low, value + rng.randint(-2, 3))) for _ in range(rng.randint(1, 3))}
    return ",".join(map(str, near))


def test_slots_are_cronsims_where_it_is_right() -> None:
    """In UTC, with one plain day field, the independent cronsim steps through the same instants."""
    rng = Random(11)
    for _ in range(300):
        day, weekday = rng.choice([("*", "*"), (a_list(rng, 1, 28), "*"), ("*", a_list(rng, 0, 6)), ("L", "*")])
        text = f"{a_field(rng, 0, 59)} {a_field(rng, 0, 23)} {day} {rng.choice(['*', a_list(rng, 1, 12)])} {weekday}"
        text = re.sub(r"\b(\d+)-\1/\d+", r"\1", text)  # cronsim takes 9-9/4 for 9-23/4
        at = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(minutes=rng.randrange(40 * 366 * 1440))
        theirs, ours = CronSim(text, at), Cron.parse(text)
        for _ in range(10):
            before, at = at, next(theirs)
            assert ours.next(before) == at, (text, before)
            assert ours.previous(at) == at, (text, at)


def test_croniters_dates_are_ours_where_it_is_asked() -> None:
    """Wherever croniter steps from date to date, it finds the dates that our own predicate has."""
    rng = Random(12)
    for _ in range(400):
        day, weekday = rng.choice(
            [
                (a_field(rng, 1, 31), "*"),
                ("*", a_field(rng, 0, 7, steps=False)),
                (rng.choice(["L", "15,L", "31", "29,30,31"]), "*"),
                ("*", f"{rng.randrange(7)}L"),
            ]
        )
        days = Cron.parse(f"0 0 {day} {rng.choice(['*', '1-12/3', '2,12', '1,3,5'])} {weekday}").days
        start = date(2000, 1, 1) + timedelta(days=rng.randrange(40_000))
        if CroniterDates.reads(days):
            assert CroniterDates(days).after(start) == days.after(start), (day, weekday, start)
            assert CroniterDates(days).before(start) == days.before(start), (day, weekday, start)


def test_no_clock_change_is_overlooked() -> None:
    """Our search finds the clock changes that a scan of every hour finds."""
    for name in ["Africa/Casablanca", "Africa/Cairo", "Pacific/Apia", "Asia/Gaza", "America/Caracas", "Europe/Dublin"]:
        place, begin, end = zones.zone(name), datetime(2009, 12, 31, 23), datetime(2016, 1, 1)
        hours = [begin + timedelta(hours=n) for n in range((end - begin) // timedelta(hours=1) + 1)]
        offsets = [zones.offset(place, hour) for hour in hours]
        scanned = [hour for hour, one, two in zip(hours[1:], offsets, offsets[1:], strict=False) if one != two]
        found = [shift.at for shift in zones.shifts(place, begin, end)]
        assert [at - timedelta(minutes=at.minute, seconds=at.second) for at in found] == [
            hour - timedelta(hours=at != hour) for hour, at in zip(scanned, found, strict=True)
        ], name


@pytest.mark.skipif(not LONG, reason="every zone and year takes a minute: RUNNER_TEST_PROFILE=long")
def test_clock_changes_are_those_of_all_zones() -> None:
    """In no zone since 1970 do two clock changes hide each other from our search."""
    for change in changes(1970, 2038):
        at = change.instant.replace(tzinfo=None)
        found = zones.first_shift(zones.zone(change.zone), at - timedelta(seconds=1), at)
        assert found is not None, change
        assert found.gap == change.jump, change
