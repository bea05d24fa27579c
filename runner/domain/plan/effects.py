"""What a change does to the jobs that are queued or running, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from runner.domain.applying import PAUSE_SURVIVES
from runner.domain.job import InFlight
from runner.domain.ledger import ScheduleStatus
from runner.domain.plan.change import FieldChange, counted, moment

CARRIED = frozenset({"priority", "timeout", "retry", "queue", "on_stall", "max_stalls", "unique", "payload_schema"})
LOOKED_UP = frozenset({"handler", "isolation", "memory_limit", "nice"})  # by the worker, when it starts the job
LATER = "executing workflows comes with a later release"

Counts = Mapping[tuple[str, str | None], InFlight]


@dataclass(frozen=True)
class Flights:
    """Unfinished jobs, added up by job type and by schedule."""

    by_type: Mapping[str, InFlight]
    by_schedule: Mapping[str, InFlight]

    @classmethod
    def of(cls, counts: Counts) -> Flights:
        types: dict[str, InFlight] = {}
        schedules: dict[str, InFlight] = {}
        for (job_type, schedule), jobs in counts.items():
            types[job_type] = total([types.get(job_type, InFlight()), jobs])
            if schedule is not None:
                schedules[schedule] = total([schedules.get(schedule, InFlight()), jobs])
        return cls(types, schedules)

    def of_type(self, name: str) -> InFlight:
        return self.by_type.get(name, InFlight())

    def of_schedule(self, name: str) -> InFlight:
        return self.by_schedule.get(name, InFlight())


def total(counts: Iterable[InFlight]) -> InFlight:
    each = list(counts)
    return InFlight(
        sum(jobs.queued for jobs in each), sum(jobs.retrying for jobs in each), sum(jobs.running for jobs in each)
    )


def queued(jobs: InFlight) -> str:
    """All that wait, and how many of them for another attempt; empty where nothing waits.

    >>> queued(InFlight(1, 2))
    '3 queued jobs (2 retrying)'
    """
    waiting = jobs.queued + jobs.retrying
    if not waiting:
        return ""
    return counted(waiting, "queued job") + (f" ({jobs.retrying:,} retrying)" if jobs.retrying else "")


def running(jobs: InFlight) -> str:
    return counted(jobs.running, "running job") if jobs.running else ""


def keeps(jobs: InFlight) -> list[str]:
    """The rule: a job carries its settings from its enqueue on."""
    waiting = jobs.queued + jobs.retrying
    said = [f"{queued(jobs)} {_verb(waiting, 'keep')} the old settings"] if waiting else []
    return said + ([f"{running(jobs)} {_verb(jobs.running, 'finish')} with the old settings"] if jobs.running else [])


def stays(jobs: InFlight, *, will_run: bool = True) -> list[str]:
    """What leaves the file, or is switched off, interrupts nothing. What is queued runs while its type is there."""
    waiting = jobs.queued + jobs.retrying
    said = [f"{running(jobs)} {_verb(jobs.running, 'finish')}"] if jobs.running else []
    return said + ([f"{queued(jobs)} {_verb(waiting, 'stay')}{' and will run' * will_run}"] if waiting else [])


def come_along(jobs: InFlight) -> list[str]:
    """What a renamed schedule takes with it."""
    count = jobs.queued + jobs.retrying + jobs.running
    return [f"{_all(jobs)} {_verb(count, 'come')} along"] if count else []


def of_job_type(jobs: InFlight, fields: Iterable[FieldChange]) -> list[str]:
    changed = {change.field.split(".")[0] for change in fields}
    waiting = jobs.queued + jobs.retrying
    said = keeps(jobs) if changed & CARRIED else []
    if changed & LOOKED_UP and waiting:
        said.append(f"{queued(jobs)} {_verb(waiting, 'run')} with the new {_and(sorted(changed & LOOKED_UP))}")
    if changed & LOOKED_UP and jobs.running and not changed & CARRIED:
        said.append(f"{running(jobs)} {_verb(jobs.running, 'finish')} as started")
    if "limit" in changed and (waiting or jobs.running):
        said.append(f"the limit holds for what is queued too: {_all(jobs)}")
    return said or ([f"nothing changes for {_all(jobs)}"] if waiting or jobs.running else [])


def of_new_type(jobs: InFlight) -> list[str]:
    """Jobs that an earlier type of that name has left."""
    waiting = jobs.queued + jobs.retrying
    return [f"{queued(jobs)} {_verb(waiting, 'wait')} for it already and will run"] if waiting else []


def of_lost_type(jobs: InFlight) -> list[str]:
    waiting = jobs.queued + jobs.retrying
    said = [f"{running(jobs)} {_verb(jobs.running, 'finish')}"] if jobs.running else []
    return said + ([f"{queued(jobs)} will be parked until it is back"] if waiting else [])


def of_limit(jobs: InFlight, most: int | None) -> list[str]:
    """Limits are the exception: they are looked up at each claim."""
    if not (jobs.queued or jobs.retrying or jobs.running):
        return []
    said = (
        [f"holds for what is queued too: {_all(jobs)}"] if most is not None else [f"no longer holds back {_all(jobs)}"]
    )
    if most is not None and jobs.running > most:
        said.append(f"{running(jobs)} {_verb(jobs.running, 'finish')}; none starts before fewer than {most} run")
    return said


def of_return(row: ScheduleStatus, now: datetime) -> list[str]:
    """A retired schedule that is in the file again."""
    if row.retired_at is None:
        return []
    said = [f"comes back with its history: it was retired on {moment(row.retired_at)}"]
    if row.paused_at is not None:
        kept = now - row.retired_at < PAUSE_SURVIVES
        said.append(
            "its pause stays: it is back within 24 hours" if kept else "its pause ended: it was away for 24 hours"
        )
    return said


def _all(jobs: InFlight) -> str:
    return _and([text for text in (queued(jobs), running(jobs)) if text])


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _verb(number: int, verb: str) -> str:
    if number != 1:
        return verb
    return f"{verb}es" if verb.endswith("sh") else f"{verb}s"
