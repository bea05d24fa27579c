"""Which jobs the list shows, as its address says it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from runner.domain.access import Caller
from runner.domain.duration import DurationError, parse_duration
from runner.domain.errors import UsageError
from runner.domain.job import JobState
from runner.domain.moment import in_utc
from runner.http.doors import LARGEST, Doors
from runner.storage.jobs import JobFilter

ACTIVE = (JobState.RUNNING, JobState.PENDING)
ENDED = tuple(state for state in JobState if state.is_terminal)
TABS: Mapping[str, tuple[JobState, ...]] = {
    "finished": ENDED, "completed": (JobState.COMPLETED,), "failed": (JobState.FAILED,),
    "cancelled": (JobState.CANCELLED,), "pending": (JobState.PENDING,), "running": (JobState.RUNNING,),
}  # fmt: skip
NAMES = ("q", "type", "queue", "schedule", "project", "since", "until")
TIMES = ("since", "until")


@dataclass(frozen=True, slots=True)
class Filter:
    """What is empty is not asked for. `problem`: what of the address cannot be read."""

    state: str = "finished"
    q: str = ""
    type: str = ""
    queue: str = ""
    schedule: str = ""
    project: str = ""
    since: str = ""
    until: str = ""
    after: int | None = None
    problem: str | None = None

    @classmethod
    def of(cls, params: Mapping[str, str]) -> Filter:
        given = {name: typed(params, name) for name in NAMES}
        state, after = params.get("state", "finished"), number(params.get("after", ""))
        found = cls(state if state in TABS else "finished", **given, after=after)
        return replace(found, problem=f"{state!r} is no state of jobs") if state not in TABS else found

    @property
    def is_plain(self) -> bool:
        return not any(getattr(self, name) for name in NAMES)

    @property
    def said(self) -> dict[str, str]:
        """What is asked for, by its name in an address."""
        every = {name: str(getattr(self, name)) for name in ("state", *NAMES)}
        return {name: value for name, value in every.items() if value and value != "finished"}

    def address(self, path: str = "/jobs", **changes: object) -> str:
        """Of the list with another state or page, or of what is done with what it shows.

        >>> Filter(q="a b").address(state="failed"), Filter().address("/jobs/export.csv")
        ('/jobs?state=failed&q=a+b', '/jobs/export.csv')
        """
        own: dict[str, Any] = {name: str(changes[name]) for name in ("state", *NAMES) if name in changes}
        rest = {name: str(value) for name, value in changes.items() if value and name not in ("state", *NAMES)}
        kept = replace(self, **own).said | rest
        return path + (f"?{urlencode(kept)}" if kept else "")

    def where(self, states: tuple[JobState, ...], caller: Caller, now: datetime) -> JobFilter:
        """Raises DurationError where a time cannot be read."""
        since, until = (moment(text, now) if text else None for text in (self.since, self.until))
        return JobFilter(
            states, (self.type,) if self.type else (), self.queue or None, self.schedule or None, self.project or None,
            since, until, self.q or None, caller.projects,
        )  # fmt: skip


def typed(given: Mapping[str, str], name: str) -> str:
    """What somebody has filled in, without what no database keeps."""
    return given.get(name, "").replace("\x00", "").strip()


def number(text: str) -> int | None:
    """Of a job; None where it can be none.

    >>> [number(text) for text in ("17", " 17", "0", "-1", "²", "9" * 19, "9" * 5000)]
    [17, None, None, None, None, None, None]
    """
    is_short = text.isascii() and text.isdecimal() and len(text) <= len(str(LARGEST))
    return int(text) if is_short and 0 < int(text) <= LARGEST else None


def moment(text: str, now: datetime) -> datetime:
    """How long ago, or a time, which is UTC where it does not say otherwise.

    >>> now = in_utc(datetime(2026, 3, 2))
    >>> [f"{moment(text, now):%d. %H:%M}" for text in ("1d", "2026-01-05", "2026-01-05T10:00+01:00")]
    ['01. 00:00', '05. 00:00', '05. 09:00']
    """
    with suppress(ValueError, UsageError):
        return in_utc(datetime.fromisoformat(text))
    try:
        return now - parse_duration(text)
    except OverflowError:
        raise DurationError(f"{text} is too long ago") from None


def checked(found: Filter, now: datetime) -> Filter:
    """Without what cannot be read, which is told instead."""
    for name in TIMES:
        try:
            moment(getattr(found, name) or "1d", now)
        except DurationError as error:
            unsaid: dict[str, Any] = {name: ""}
            found = replace(found, problem=error.message, **unsaid)
    return found


def counts(doors: Doors, found: Filter, caller: Caller, now: datetime) -> dict[str, int]:
    """Of each tab."""
    is_all = found.is_plain and not caller.is_bound
    by_state = doors.jobs.counts(None if is_all else found.where((), caller, now))
    return {tab: sum(by_state[state.value] for state in states) for tab, states in TABS.items()}
