"""Cross-checks of times: zones, cron expressions, intervals, and durations that must fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice, pairwise, product
from typing import Any, get_args

from runner.config.build import instant
from runner.config.findings import Findings
from runner.config.places import Path
from runner.config.raw import Data, entries, items, mapping
from runner.config.words import label, shown
from runner.domain.cron import Cron, CronError, UnknownZone, zone
from runner.domain.cron.text import Fields
from runner.domain.cron.zones import zone_names
from runner.domain.duration import DurationError, format_duration, parse_duration
from runner.domain.schedule import ClockChange, DayMatch, RunnerOptions

BEATS_TO_MISS = 3
SAMPLE_START = datetime(2026, 1, 1, tzinfo=UTC)
SAMPLE_SLOTS = 8
MANY_TIMES = 1_500
DAY = 86_400
MOMENT = timedelta(microseconds=1)
HINTED_ZONES = 20  # looking for the closest of 600 names takes its time


def check_timings(findings: Findings, data: Data) -> None:
    _check_heartbeat(findings, mapping(data.get("runner")))
    zones = _Zones(findings)
    file_zone = zones.checked(("timezone",), data.get("timezone", "UTC"))
    for path, entry in entries(data, "schedules"):
        name = zones.checked((*path, "timezone"), entry["timezone"]) if "timezone" in entry else file_zone
        crons = dict(_crons(findings, path, entry, name))
        _check_jitter(findings, path, entry, list(crons.values()))
        _check_bounds(findings, path, entry, name, crons)


class _Zones:
    """Remembers what it has looked up."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._unknown: dict[str, UnknownZone] = {}

    def checked(self, path: Path, name: Any) -> str:
        """The name, or UTC in the place of one that has been complained about."""
        if not isinstance(name, str) or self._findings.is_broken(path):
            return "UTC"
        error = self._lookup(name)
        if error is None:
            return name
        self._findings.error("timezone", path, error.message, error.hint)
        return "UTC"

    def _lookup(self, name: str) -> UnknownZone | None:
        if name in zone_names() or name in self._unknown:
            return self._unknown.get(name)
        if len(self._unknown) >= HINTED_ZONES:
            return UnknownZone(f"unknown time zone {name!r}", "write an IANA name such as UTC or Europe/Berlin")
        try:
            zone(name)
        except UnknownZone as error:
            self._unknown[name] = error
        return self._unknown.get(name)


def _check_heartbeat(findings: Findings, runner: Data) -> None:
    beat = _span(runner.get("heartbeat")) or RunnerOptions().heartbeat
    stalled = _span(runner.get("stalled_after")) or RunnerOptions().stalled_after
    if stalled < BEATS_TO_MISS * beat:
        field = "stalled_after" if "stalled_after" in runner else "heartbeat"
        message = f"stalled_after ({format_duration(stalled)}) must be at least three times heartbeat"
        hint = f"write stalled_after: {format_duration(BEATS_TO_MISS * beat)}, or a shorter heartbeat"
        findings.error("stalled-after", ("runner", field), f"{message} ({format_duration(beat)})", hint)


def _crons(findings: Findings, path: Path, entry: Data, timezone: str) -> Iterator[tuple[Path, Cron]]:
    """The expressions of a schedule that can be read, with their paths."""
    options: dict[str, Any] = {"timezone": timezone, "name": str(path[-1])}
    if isinstance(entry.get("seconds"), bool):
        options["seconds"] = entry["seconds"]
    for field, choices in (("day_match", get_args(DayMatch)), ("clock_change", get_args(ClockChange))):
        if entry.get(field) in choices:
            options[field] = entry[field]
    for at, text in items(entry.get("cron"), (*path, "cron")):
        try:
            cron = Cron.parse(text, **options)
        except CronError as error:
            findings.error("cron", at, f"cron {shown(text)}: {error.message}", error.hint)
        else:
            for warning in cron.warnings():
                findings.warning("cron-unusual", at, warning)
            yield at, cron


def _check_jitter(findings: Findings, path: Path, entry: Data, crons: list[Cron]) -> None:
    jitter, every = _span(entry.get("jitter")), _span(entry.get("every"))
    if not jitter or (crons and jitter * 2 < _least_gap(crons)):
        return
    gaps = [every] if every else _gaps(crons)
    if gaps and jitter * 2 >= min(gaps):
        message = f"jitter ({format_duration(jitter)}) must be less than half of the time between two runs"
        hint = f"the shortest is {format_duration(min(gaps))}: write less than {format_duration(min(gaps) / 2)}"
        findings.error("jitter", (*path, "jitter"), message, hint)


def _least_gap(crons: list[Cron]) -> timedelta:
    """No two runs are closer than this, if all of them fell on one day. Quicker than looking for them."""
    fields = [cron.fields for cron in crons]
    if sum(len(one.hour.values) * len(one.minute.values) * len(one.second.values) for one in fields) > MANY_TIMES:
        return timedelta(0)
    times = sorted({time for one in fields for time in _times(one)})
    gaps = [later - time for time, later in pairwise([*times, times[0] + DAY])]
    return timedelta(seconds=min(gaps))


def _times(fields: Fields) -> Iterator[int]:
    for hour, minute, second in product(fields.hour.values, fields.minute.values, fields.second.values):
        yield (hour * 60 + minute) * 60 + second


def _gaps(crons: list[Cron]) -> list[timedelta]:
    slots = merge(*(_slots(cron) for cron in crons))
    return [later - slot for slot, later in pairwise(islice(slots, SAMPLE_SLOTS)) if later > slot]


def _slots(cron: Cron) -> Iterator[datetime]:
    slot = cron.next(SAMPLE_START)
    while slot is not None:
        yield slot
        slot = cron.next(slot)


def _check_bounds(findings: Findings, path: Path, entry: Data, timezone: str, crons: dict[Path, Cron]) -> None:
    if findings.is_full or any(findings.is_broken((*path, field)) for field in ("from", "until")):
        return
    starts, until = entry.get("from"), entry.get("until")
    if not isinstance(starts, str) or not isinstance(until, str):
        return
    first, last = instant(starts, timezone), instant(until, timezone)
    if last <= first:
        message = f"until ({until}) is not later than from ({starts})"
        findings.error("interval", (*path, "until"), message, "write a later time")
        return
    for at, cron in crons.items():
        slot = cron.next(first - MOMENT)
        if slot is None or slot > last:
            message = f"{label(at)} never fires between from ({starts}) and until ({until})"
            findings.error("cron", at, message, _later(slot, cron))


def _later(slot: datetime | None, cron: Cron) -> str:
    if slot is None:
        return "write an earlier from"
    return f"its first time after from is {slot.astimezone(zone(cron.timezone)):%Y-%m-%d %H:%M %Z}: write a later until"


def _span(text: Any) -> timedelta | None:
    try:
        return parse_duration(text) if isinstance(text, str) else None
    except DurationError:
        return None
