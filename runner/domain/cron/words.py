"""An expression as an English phrase."""

from __future__ import annotations

from collections.abc import Sequence

from runner.domain.cron.days import Days
from runner.domain.cron.fields import Field
from runner.domain.cron.text import Fields

MOST_TIMES = 6  # more clock times than these are told as minutes and hours
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTHS = (
    *("", "January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
ORDINALS = ("", "first", "second", "third", "fourth", "fifth")


def words_of(fields: Fields, days: Days) -> str:
    times, whole_day = _times(fields), len(fields.hour.values) == 24
    if days.every_day:
        return times if whole_day else f"{times} every day"
    months = _months(fields.month)
    return f"{times} {_days(days)}{',' * (days.both_given and months != '')}{months}"


def _times(fields: Fields) -> str:
    seconds, minutes, hours = (sorted(part.values) for part in (fields.second, fields.minute, fields.hour))
    if len(seconds) * len(minutes) * len(hours) <= MOST_TIMES:
        clock = [(h, m, s) for h in hours for m in minutes for s in seconds]
        return f"at {_joined([f'{h:02}:{m:02}' + (f':{s:02}' if seconds != [0] else '') for h, m, s in clock])}"
    text = _rhythm(fields.minute) if seconds == [0] else _with_seconds(fields)
    if len(hours) < 24:
        return f"{text} in the hour{'s' * (len(hours) > 1)} {_runs(hours)}"
    return text if _rhythm(fields.minute).startswith("every") else f"{text} of every hour"


def _with_seconds(fields: Fields) -> str:
    second, minute = _rhythm(fields.second), _rhythm(fields.minute)
    if second.startswith("every") and minute == "every minute":
        return second
    return f"{second} of {minute.removeprefix('at ')}"


def _rhythm(part: Field) -> str:
    """`every minute`, `every 15 minutes`, `at minutes 0, 20 and 45`."""
    name, values = part.kind.name, sorted(part.values)
    size = part.kind.high + 1
    step = values[1] - values[0] if len(values) > 1 else size
    if values == list(range(0, size, step)) and size % step == 0 and len(values) > 1:
        return f"every {name}" if step == 1 else f"every {step} {name}s"
    return f"at {name}{'s' * (len(values) > 1)} {_runs(values)}"


def _days(days: Days) -> str:
    if days.day.is_star and days.weekday.is_star:
        return "every day"
    by_number, by_weekday = _days_of_month(days.day), _weekdays(days.weekday)
    if not days.both_given:
        return by_weekday if days.day.is_star else by_number
    return f"{by_number}, {'or' if days.either else 'and only'} {by_weekday}"


def _days_of_month(part: Field) -> str:
    values = sorted(part.values)
    phrases = [f"day{'s' * (len(values) > 1)} {_runs(values)} of the month"] if values else []
    return f"on {_joined(phrases + [_special_day(text) for text in part.specials])}"


def _special_day(text: str) -> str:
    if text == "L":
        return "the last day of the month"
    if text == "LW":
        return "the last working day (Monday to Friday) of the month"
    return f"the working day (Monday to Friday) nearest to day {text.removesuffix('W')} of the month"


def _weekdays(part: Field) -> str:
    phrases = [_named(run, WEEKDAYS) for run in _consecutive(sorted(part.values))]
    return f"on {_joined(phrases + [_special_weekday(text) for text in part.specials])}"


def _special_weekday(text: str) -> str:
    if text.startswith("L"):
        return f"the last {WEEKDAYS[int(text[1:])]} of the month"
    weekday, nth = text.split("#")
    return f"the {ORDINALS[int(nth)]} {WEEKDAYS[int(weekday)]} of the month"


def _months(part: Field) -> str:
    if len(part.values) == 12:
        return ""
    return f" in {_joined([_named(run, MONTHS) for run in _consecutive(sorted(part.values))])}"


def _named(run: list[int], names: Sequence[str]) -> str:
    return names[run[0]] if len(run) == 1 else f"{names[run[0]]} to {names[run[-1]]}"


def _runs(values: list[int]) -> str:
    return _joined([str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in _consecutive(values)])


def _consecutive(values: list[int]) -> list[list[int]]:
    """The values in runs of three or more neighbours, all others alone."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return [part for run in runs for part in ([run] if len(run) > 2 else [[value] for value in run])]


def _joined(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
