"""How expressions are read: what is accepted in which spelling, what is refused in which words, what is said of it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.domain.cron import Cron, CronError
from runner.domain.schedule import DayMatch

BOTH = "starts with *, so a date has to match both day fields; set day_match to any or all to say which is meant"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0 6 * * *", "0 6 * * *"),
        ("  00 06\t*  * * ", "0 6 * * *"),
        ("5-5 7 * * *", "5 7 * * *"),
        ("*/15 */1 * * *", "*/15 * * * *"),
        ("0 0 ? * ?", "0 0 * * *"),
        ("0 0 * JAN-mar Mon-FRI", "0 0 * 1-3 1-5"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * sun,SAT", "0 0 * * 0,6"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("30,15,15,0 * * * *", "0,15,30 * * * *"),
        ("1-10/1 * * * *", "1-10 * * * *"),
        ("59/15,50/5 * * * *", "50-59/5,59 * * * *"),
        ("7-8/2 * * * *", "7 * * * *"),
        ("*,5 5,* 1 * *", "* 0-23 1 * *"),  # the second field does not start with a star, so it is fixed
        ("0-59 0-23 * * *", "0-59 0-23 * * *"),
        ("*/90 * * * *", "*/90 * * * *"),
        ("*/20,20 */6,0-22 * * */2,1-7", "*/20 */6,0-22 * * *"),
        ("0-59/2,10,11 1-5,2-4,3 * * *", "0-59/2,11 1-5 * * *"),
        ("0 0 l * *", "0 0 L * *"),
        ("0 0 15w,lw,3 * *", "0 0 3,15W,LW * *"),
        ("0 0 * * FRIL", "0 0 * * L5"),
        ("0 0 * * 7L", "0 0 * * L0"),
        ("0 0 * * fri#2,7#1", "0 0 * * 0#1,5#2"),
        ("@daily", "0 0 * * *"),
        ("@HOURLY", "0 * * * *"),
    ],
)
def test_one_meaning_has_one_canonical_text(text: str, canonical: str) -> None:
    """Names become numbers, single ranges numbers, lists are sorted; and the canonical text reads as itself."""
    assert Cron.parse(text).canonical == canonical
    assert Cron.parse(canonical).canonical == canonical
    assert Cron.parse(text).expression == text


def test_canonical_text_keeps_the_seconds_field() -> None:
    """Six fields stay six."""
    assert Cron.parse("0 5-5 * * * *", seconds=True).canonical == "0 5 * * * *"
    assert Cron.parse("@daily", seconds=True).canonical == "0 0 0 * * *"


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("0 25 * * *", "hour 25 is outside 0-23", 2),
        ("60 * * * *", "minute 60 is outside 0-59", 0),
        ("0 0 32 * *", "day of month 32 is outside 1-31", 4),
        ("0 0 0 * *", "day of month 0 is outside 1-31", 4),
        ("0 0 * 13 *", "month 13 is outside 1-12", 6),
        ("0 0 * 0 *", "month 0 is outside 1-12", 6),
        ("0 0 * * 8", "weekday 8 is outside 0-7", 8),
        (" 0  25 * * *", "hour 25 is outside 0-23", 4),
        ("0 22-2 * * *", "hour 22-2 runs backwards; write 22-23,0-2", 2),
        ("0 0 * 11-2 *", "month 11-2 runs backwards; write 11-12,1-2", 6),
        ("0 0 * * fri-mon", "weekday fri-mon runs backwards; write fri,sat,sun,mon", 8),
        ("0 0 * * SAT-SUN", "weekday SAT-SUN runs backwards; write sat,sun", 8),
        ("0 0 * * 5-1", "weekday 5-1 runs backwards; write 5-6,0-1", 8),
        ("0 22-4/3 * * *", "hour 22-4/3 runs backwards; write 1,4,22", 2),
        ("*/0 * * * *", "minute */0 has step 0", 0),
        ("0 0-5/0 * * *", "hour 0-5/0 has step 0", 2),
        ("0 0 * * 6/1", "weekday 6/1 is not cron; write 6", 8),
        ("0 0 * * 1/2", "weekday 1/2 is not cron; write 1,3,5", 8),
        ("0 0 * * mon/2", "weekday mon/2 is not cron; write 1,3,5", 8),
        ("R * * * *", "minute R would differ in every process; write H", 0),
        ("0 R(0-5) * * *", "hour R(0-5) would differ in every process; write H(0-5)", 2),
        ("@reboot", "@reboot is no time; write a time such as @daily", 0),
        ("@dayly", "unknown macro '@dayly'", 0),
        ("? * * * *", "minute cannot be ?; only the two day fields can", 0),
        ("0 0 ?,1 * *", "day of month has ? in a list; it stands alone", 4),
        ("0 0 ?/2 * *", "day of month ?/2 is not understood", 4),
        ("0 0 L-3 * *", "day of month L-3 is not supported", 4),
        ("0 0 32W * *", "day of month 32 is outside 1-31", 4),
        ("0 0 W * *", "day of month W is not understood", 4),
        ("0 0 1-5W * *", "day of month 1-5W is not understood", 4),
        ("0 0 * * L", "weekday L does not say which day", 8),
        ("0 0 * * 5#6", "weekday 5#6 names no week of a month", 8),
        ("0 0 * * 5#0", "weekday 5#0 names no week of a month", 8),
        ("0 0 * * 8L", "weekday 8 is outside 0-7", 8),
        ("0 L * * *", "hour L is not understood", 2),
        ("0 0 L * 1", "day of month L cannot be combined with weekday 1", 4),
        ("0 0 15W * */2", "day of month 15W cannot be combined with weekday */2", 4),
        ("0 0 1 * 5#2", "weekday 5#2 cannot be combined with day of month 1", 8),
        ("0 0 29 2 1#5", "weekday 1#5 cannot be combined with day of month 29", 9),
        ("0 0 1 * 1,5L", "weekday L5 cannot be combined with day of month 1", 8),
        ("0 0 1,,2 * *", "day of month has an empty list item", 4),
        ("0 0 ,1 * *", "day of month has an empty list item", 4),
        ("0 0 1- * *", "day of month 1- is not understood", 4),
        ("0 0 -1 * *", "day of month -1 is not understood", 4),
        ("0 0 *-5 * *", "day of month *-5 is not understood", 4),
        ("0 +1 * * *", "hour +1 is not understood", 2),
        ("0 0 * foo *", "month foo is not understood", 6),
        ("0 0 * january *", "month january is not understood", 6),
        ("0 mon * * *", "hour mon is not understood", 2),
        ("0 0 1.5 * *", "day of month 1.5 is not understood", 4),
        ("0 ５ * * *", "hour has the character '５'", 2),
        ("0 5\n* * * *", "hour has the character '\\n'", 2),
        ("", "the expression is empty", 0),
        (" \t ", "the expression is empty", 0),
        ("0 6 * *", "the expression has 4 fields, not 5 (minute, hour, day of month, month, weekday)", 0),
        ("0 0 6 * * *", "the expression has 6 fields, not 5 (minute, hour, day of month, month, weekday)", 0),
        ("0 0 6 * * * 2026", "the expression has 7 fields, not 5 (minute, hour, day of month, month, weekday)", 0),
        ("H * * * *", "minute H needs the name of its schedule", 0),
        ("0 0 30 2 *", "never fires: no date has day of month 30 and month 2", 4),
        ("0 0 31 4,6,9,11 *", "never fires: no date has day of month 31 and month 4,6,9,11", 4),
        ("0 0 30W 2 *", "never fires: no date has day of month 30W and month 2", 4),
    ],
)
def test_what_is_refused_is_named_with_its_place(text: str, message: str, position: int) -> None:
    """A refusal names the field and the value, and the list to write instead where there is one."""
    with pytest.raises(CronError) as caught:
        Cron.parse(text)
    assert caught.value.message == message
    assert str(caught.value) == message
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("0 0 6 * * *", "a seconds field needs `seconds: true`"),
        ("0 0 * * mno", "did you mean mon?"),
        ("@dayly", "did you mean @daily?"),
        ("0 0 * * L", "write 5L for the last Friday, or 6 for Saturday"),
        ("0 x * * *", "write numbers in 0-23, lists, ranges and steps such as 1,2 or 1-5 or */2"),
        ("0 0 L * 1", "write * as the weekday, or two expressions"),
    ],
)
def test_a_refusal_hints_at_the_remedy(text: str, hint: str) -> None:
    """`hint` says what to write instead."""
    with pytest.raises(CronError) as caught:
        Cron.parse(text)
    assert caught.value.hint == hint


def test_the_number_of_fields_depends_on_seconds() -> None:
    """With `seconds: true` there are six fields, and five are refused."""
    with pytest.raises(CronError, match="has 5 fields, not 6"):
        Cron.parse("0 6 * * *", seconds=True)
    with pytest.raises(CronError, match="second 60 is outside 0-59"):
        Cron.parse("60 0 6 * * *", seconds=True)


def test_length_and_list_have_limits() -> None:
    """256 characters and 64 list items are read, one more is not."""
    assert Cron.parse("0 6 * * *".ljust(256)).canonical == "0 6 * * *"
    with pytest.raises(CronError, match="has 257 characters, at most 256"):
        Cron.parse("0 6 * * *".ljust(257))
    assert Cron.parse(f"{','.join(['1'] * 64)} * * * *").canonical == "1 * * * *"
    with pytest.raises(CronError, match="minute lists 65 items, at most 64"):
        Cron.parse(f"{','.join(['1'] * 65)} * * * *")


@pytest.mark.parametrize("match", ["vixie", "any"])
def test_only_what_never_fires_is_refused(match: DayMatch) -> None:
    """The 30th of February with Mondays is Mondays in February, unless both days are wanted."""
    assert Cron.parse("0 0 30 2 1", day_match=match).next(NOW) == datetime(2027, 2, 1, tzinfo=UTC)
    with pytest.raises(CronError, match="never fires"):
        Cron.parse("0 0 30 2 1", day_match="all")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("* 2 * 3 7L", {}),  # the hour that Berlin loses on the last Sunday of March
        ("*/5 2 * 3 7L", {"clock_change": "both"}),
        ("30 2 * 3 7L", {"clock_change": "skip"}),
    ],
)
def test_what_the_clocks_always_jump_over_never_fires(text: str, options: dict[str, str]) -> None:
    """An expression whose every time is lost in a clock change is refused, in that zone only."""
    with pytest.raises(CronError, match="never fires: on its days the clocks of Europe/Berlin jump over its times"):
        Cron.parse(text, timezone="Europe/Berlin", **options)  # type: ignore[arg-type]
    assert Cron.parse(text, timezone="America/New_York", **options)  # type: ignore[arg-type]
    assert Cron.parse("30 2 * 3 7L", timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("name", "text", "canonical"),
    [
        ("news-fetch", "H H * * *", "51 0 * * *"),
        ("news-fetch", "H/15 * * * *", "6-59/15 * * * *"),
        ("news-fetch", "0 H(0-7) * * *", "0 0 * * *"),
        ("news-fetch", "0 0 H H H", "0 0 3 4 2"),
        ("weekly-cache-cleanup", "H H * * *", "42 17 * * *"),
        ("ünïcode ☂", "H h(9-17) * * H", "22 17 * * 0"),
    ],
)
def test_h_is_drawn_from_the_schedules_name_for_ever(name: str, text: str, canonical: str) -> None:
    """These values are what running installations have: a change here moves everybody's jobs."""
    assert Cron.parse(text, name=name).canonical == canonical


@pytest.mark.parametrize(
    ("text", "low", "high"), [("H * * * *", 0, 59), ("H(10-20) * * * *", 10, 20), ("0 0 H * *", 1, 28)]
)
def test_h_spreads_over_its_range(text: str, low: int, high: int) -> None:
    """Many names use the whole range, and nothing else; a day of month exists in every month."""
    crons = [Cron.parse(text, name=f"schedule-{n}") for n in range(500)]
    drawn = {min(cron.fields[1].values if low != 1 else cron.fields.day.values) for cron in crons}
    assert drawn == set(range(low, high + 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("H(10-70) * * * *", "minute 70 is outside 0-59"),
        ("H(20-10) * * * *", "minute H(20-10) runs backwards"),
        ("H/0 * * * *", "minute H/0 has step 0"),
        ("H(0-5)/2 * * * *", "minute H(0-5)/2 is not understood"),
        ("H5 * * * *", "minute H5 is not understood"),
    ],
)
def test_h_is_checked_like_any_value(text: str, message: str) -> None:
    """`H`, `H/n` and `H(a-b)`, inside the field's range, are all there is."""
    with pytest.raises(CronError) as caught:
        Cron.parse(text, name="x")
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "match", "words"),
    [
        ("0 6 * * *", "vixie", "at 06:00 every day"),
        ("0 */4 * * *", "vixie", "at 00:00, 04:00, 08:00, 12:00, 16:00 and 20:00 every day"),
        ("0 3 * * 0", "vixie", "at 03:00 on Sunday"),
        ("* * * * *", "vixie", "every minute"),
        ("*/15 * * * *", "vixie", "every 15 minutes"),
        ("*/45 * * * *", "vixie", "at minutes 0 and 45 of every hour"),
        ("7 * * * *", "vixie", "at minute 7 of every hour"),
        ("*/15 9-17 * * 1-5", "vixie", "every 15 minutes in the hours 9 to 17 on Monday to Friday"),
        ("* 3 * * *", "vixie", "every minute in the hour 3 every day"),
        ("0 0 1,15 * *", "vixie", "at 00:00 on days 1 and 15 of the month"),
        ("0 0 1 * 1", "vixie", "at 00:00 on day 1 of the month, or on Monday"),
        ("0 0 1 * 1", "all", "at 00:00 on day 1 of the month, and only on Monday"),
        ("0 0 */10 * 1", "vixie", "at 00:00 on days 1, 11, 21 and 31 of the month, and only on Monday"),
        ("0 0 */10 2 1", "any", "at 00:00 on days 1, 11, 21 and 31 of the month, or on Monday, in February"),
        ("0 0 L * *", "vixie", "at 00:00 on the last day of the month"),
        ("0 0 LW * *", "vixie", "at 00:00 on the last working day (Monday to Friday) of the month"),
        (
            "0 0 1,15W * *",
            "vixie",
            "at 00:00 on day 1 of the month and the working day (Monday to Friday) nearest to day 15 of the month",
        ),
        ("0 0 * * 5L", "vixie", "at 00:00 on the last Friday of the month"),
        ("0 0 * 1,6-8 mon#2", "vixie", "at 00:00 on the second Monday of the month in January and June to August"),
        ("@yearly", "vixie", "at 00:00 on day 1 of the month in January"),
    ],
)
def test_words_tell_times_days_and_the_reading_of_both_days(text: str, match: DayMatch, words: str) -> None:
    """The phrase says whether one day field is enough (`or`) or both must match (`and only`)."""
    assert Cron.parse(text, day_match=match).in_words() == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("* * * * * *", "every second"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("30 0 6 * * *", "at 06:00:30 every day"),
        ("30 * * * * *", "at second 30 of every minute"),
        ("30 */20 * * * *", "at second 30 of every 20 minutes"),
        ("0 */20 * * * *", "every 20 minutes"),
        ("*/30 5 * * * *", "every 30 seconds of minute 5 of every hour"),
    ],
)
def test_words_tell_seconds(text: str, words: str) -> None:
    """A seconds field is told where it is not 0."""
    assert Cron.parse(text, seconds=True).in_words() == words


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("*/15 */6 * * 1", []),
        ("*/45 * * * *", ["minute */45 is uneven: after 45 comes 0, 15 minutes later"]),
        ("0 */23 * * *", ["hour */23 is uneven: after 23 comes 0, 1 hour later"]),
        ("0 0 1 */5 *", ["month */5 is uneven: after 11 comes 1, 2 months later"]),
        ("*/60 * * * *", ["minute */60 has a step longer than its range: it means 0"]),
        (
            "0 0 */2 * 1",
            [f"day of month */2 {BOTH}"],
        ),
        (
            "0 0 1 * */2",
            [f"weekday */2 {BOTH}"],
        ),
    ],
)
def test_warnings_name_what_is_seldom_meant(text: str, warnings: list[str]) -> None:
    """Uneven steps, steps beyond the range, and `*/n` beside another day field are allowed, with a warning."""
    assert Cron.parse(text).warnings() == warnings


def test_a_chosen_day_match_needs_no_warning() -> None:
    """Where the schedule says which reading is meant, there is nothing to warn of."""
    matches: list[DayMatch] = ["any", "all"]
    for match in matches:
        assert Cron.parse("0 0 */2 * 1", day_match=match).warnings() == []


@pytest.mark.parametrize(
    ("text", "mode", "warnings"),
    [
        ("30 2 * * *", "vixie", ["02:30 in Europe/Berlin does not exist on 2026-03-29; it will run at 03:00"]),
        ("30 2 * * *", "skip", ["02:30 in Europe/Berlin does not exist on 2026-03-29; it will not run"]),
        ("*/30 2 * * *", "vixie", []),
        ("30 3 * * *", "vixie", []),
    ],
)
def test_lost_times_of_the_coming_year_are_told(text: str, mode: str, warnings: list[str]) -> None:
    """With `now`, a warning names each fixed time that a clock change loses, and what happens instead."""
    cron = Cron.parse(text, timezone="Europe/Berlin", clock_change=mode)  # type: ignore[arg-type]
    assert cron.warnings(NOW) == warnings
    assert cron.warnings() == []
    assert Cron.parse(text).warnings(NOW) == []


WORDS = st.lists(st.sampled_from([*"*?/-,#LWHR@0123459 ", "mon", "FRI", "jan", " * ", " */", "(0-", ")"]), max_size=40)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.one_of(st.text(max_size=300), WORDS.map("".join)), st.booleans())
def test_any_text_is_read_or_refused(text: str, seconds: bool) -> None:
    """No text makes the parser raise anything but CronError, and what is read can be stepped and told."""
    cron = read_or_refused(text, seconds)
    if isinstance(cron, CronError):
        assert cron.message
        assert 0 <= cron.position <= len(text)
    else:
        assert cron.next(NOW) is not None
        assert cron.in_words()
        assert Cron.parse(cron.canonical, seconds=seconds).canonical == cron.canonical


def read_or_refused(text: str, seconds: bool) -> Cron | CronError:
    try:
        return Cron.parse(text, seconds=seconds, name="x", timezone="Europe/Berlin")
    except CronError as error:
        return error


FIELD = st.lists(
    st.sampled_from(
        ["*", "*/2", "*/7", "1", "5", "1-5", "2-4/2", "3/2", "7", "mon", "jan", "L", "3W", "1#2", "H", "?"]
    ),
    min_size=1,
    max_size=3,
).map(",".join)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(FIELD, min_size=5, max_size=5).map(" ".join), st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_steps_forward_and_back_agree(text: str, at: datetime) -> None:
    """`previous` undoes `next`, nothing lies between, and the canonical text fires at the same times."""
    try:
        cron = Cron.parse(text, name="x", timezone="America/New_York")
    except CronError:
        return
    start = at.replace(tzinfo=UTC)
    slot = cron.next(start)
    assert slot is not None
    assert slot > start
    assert cron.previous(slot) == slot
    assert cron.count(start, slot) == 1
    assert cron.count(start, slot - timedelta(seconds=1)) == 0
    assert Cron.parse(cron.canonical, timezone="America/New_York").next(start) == slot


@pytest.mark.parametrize(
    "text",
    [
        f"{'9' * 250} * * * *"[:256],
        f"*/{'9' * 240} * * * *",
        f"{','.join(f'{n}-59/2' for n in range(38))} * * * *",
        "0 0 * 2 1#5",
        "0 0 31 2,4,6,9,11 *",
        f"0 0 {','.join(f'{n}W' for n in range(1, 32))} * *",
        f"0 0 * * {','.join(f'{n}#{k}' for n in range(8) for k in range(1, 6))}",
        "@" * 256,
        "(" * 256,
        "0 0 * * " + "mon-" * 60,
    ],
)
def test_hostile_texts_need_few_steps(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest search is one cycle of the calendar by months, never by dates: 4,800 looks at most."""
    looks = 0

    def counted(year: int, month: int, real: object = __import__("calendar").monthrange) -> tuple[int, int]:
        nonlocal looks
        looks += 1
        return real(year, month)  # type: ignore[operator,no-any-return]

    monkeypatch.setattr("runner.domain.cron.days.monthrange", counted)
    with suppress(CronError):
        Cron.parse(text).next(NOW)
    assert looks <= 12 * 400
