"""The words of the log: what each event is called, how loud it is, and what is bound to its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Literal

from runner import telemetry as told
from runner.domain.duration import format_duration
from runner.domain.job import JobState, Run
from runner.domain.ledger import ScheduleSlot, SlotOutcome
from runner.domain.lifecycle import Transition
from runner.domain.problem import Problem
from runner.domain.urls import without_password
from runner.telemetry import bound

Level = Literal["debug", "info", "warning", "error", "critical"]
QUIET = (told.JobStarted, told.JobProgressed)  # told on `debug` alone
SHOWN = 20  # problems of a file that one line carries


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `details` are whole lines of their own where people read."""

    level: Level
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    details: tuple[str, ...] = ()
    cause: BaseException | None = None


def routine(event: told.Event) -> Literal["debug", "info"] | None:
    """How loud it is where it may happen thousands of times a second and nothing is wrong; asked before `lines`."""
    match event:
        case told.JobSettled():
            return "info" if event.transition.ended in ("completed", "snoozed") else None
        case _ if isinstance(event, QUIET):
            return "debug"
    return None


def many(jobs: Mapping[str, int]) -> Line:
    """The line for those that had none of their own; counts by job type."""
    types = [f"{name}:{count}" for name, count in sorted(jobs.items())]
    fields = {"jobs": sum(jobs.values()), "types": types}
    return Line("info", "more jobs completed than are told one by one", fields)


def lines(event: told.Event) -> Iterator[Line]:
    """What is said of an event; of progress, nothing."""
    match event:
        case told.JobStarted(run):
            waited = max((run.started_at - run.run_at).total_seconds(), 0.0)
            yield Line("debug", "job started", bound(run) | {"attempt": run.attempt, "waited": round(waited, 3)})
        case told.JobSettled(run, transition, at):
            yield _settled(run, transition, at)
        case told.ClaimLost(run):
            yield Line("warning", "the run is no longer ours: nothing of its outcome was taken", bound(run))
        case told.SlotsDecided(name, slots):
            yield from _slots(name, slots)
        case told.FiringFailed(name, message):
            yield Line("error", "schedule could not be fired: its slot waits", {"schedule": name, "error": message})
        case told.WorkerRescued(worker_id, runs):
            rescued = {"dead_worker": worker_id, "job_ids": [run.id for run in runs]}
            yield Line("warning", "a worker is gone: its jobs were rescued", rescued)
        case told.JobProgressed():
            return
        case _:
            yield from _of_service(event)


def _settled(run: Run, end: Transition, at: datetime) -> Line:
    seconds = round(max((at - run.started_at).total_seconds(), 0.0), 3)
    fields = bound(run) | {"attempt": run.attempt, "seconds": seconds}
    if end.error:
        fields["error"] = end.error.splitlines()[0]
    if end.is_terminal:
        level: Level = "error" if end.state is JobState.FAILED else "info"
        return Line(level, f"job {end.state}", fields)
    fields["run_at"] = _moment(end.run_at or at)
    if end.ended in ("failed", "stalled"):
        return Line("warning", f"job {end.ended}: it is tried again", fields | {"max_attempts": run.max_attempts})
    return Line("info", f"job {end.ended}", fields)


def _slots(name: str, slots: tuple[ScheduleSlot, ...]) -> Iterator[Line]:
    """A line for each slot that was enqueued, one for each row of slots that were skipped for one reason."""
    for (outcome, reason, job_id), group in groupby(slots, key=lambda slot: (slot.outcome, slot.reason, slot.job_id)):
        rows = list(group)
        fields: dict[str, Any] = {"schedule": name, "slot": _moment(rows[-1].slot)}
        count = sum(row.slot_count for row in rows)
        if count > 1:
            fields |= {"slots": count, "first_slot": _moment(rows[0].first_slot or rows[0].slot)}
        if reason:
            fields["reason"] = reason
        if outcome == SlotOutcome.ENQUEUED:
            yield Line("info", "schedule fired", fields | {"job_id": job_id})
        else:
            yield Line("info", "schedule skipped", fields | {"outcome": str(outcome)})


def _of_service(event: told.Event) -> Iterator[Line]:
    match event:
        case told.ServiceStarted():
            yield from _started(event)
        case told.StopRequested(reason, at_once=False):
            yield Line("info", "stopping: nothing more is claimed, what runs may end", {"reason": reason})
        case told.StopRequested(reason):
            yield Line("warning", "stopping at once", {"reason": reason})
        case told.ServiceStopped(reason, drained, released, seconds):
            fields: dict[str, Any] = {
                "reason": reason,
                "drained": drained,
                "released": released,
                "seconds": _rounded(seconds),
            }
            yield Line("info", "stopped", _known(fields))
        case told.ConfigApplied(revision, changes):
            text = "configuration applied" if changes else "configuration in order: nothing to change"
            yield Line("info", text, {"revision": revision}, changes)
        case told.ConfigRejected():
            yield _rejected(event)
        case told.SettingsChanged(changed):
            said = ", ".join(f"{name} {_value(old)} -> {_value(new)}" for name, (old, new) in changed.items())
            yield Line("info", f"settings changed: {said}")
        case told.SettingsKept(kept, reason, is_refused):
            said = ", ".join(f"{name} {_value(value)} ({origin})" for name, (value, origin) in kept.items())
            yield Line("warning" if is_refused else "info", f"settings kept: {said}", {"reason": reason})
        case _:
            yield from _of_surroundings(event)
            yield from _of_loop(event)


def _of_surroundings(event: told.Event) -> Iterator[Line]:
    match event:
        case told.LateBeat(seconds, expected):
            fields = {"seconds": _rounded(seconds), "expected": expected}
            yield Line("warning", "the heartbeat was late: the machine or the interpreter was held", fields)
        case told.ClockOff(seconds) if seconds:
            way = "behind" if seconds > 0 else "ahead"
            text = "this machine's clock is not the database's: let NTP set both"
            yield Line("warning", text, {way: round(abs(seconds), 3)})
        case told.ClockOff():
            yield Line("info", "this machine's clock and the database's agree again", {})
        case told.TracesUnavailable(wanted_by):
            given = {"wanted_by": wanted_by, "remedy": "pip install 'yaml-job-runner[otel]'"}
            yield Line("warning", "no traces are sent: the extra for them is not installed", given)


def _of_loop(event: told.Event) -> Iterator[Line]:
    match event:
        case told.TickFailed(loop, error, cause, repeats):
            if repeats == 0:
                text = "a duty failed: it is tried again until it succeeds"
                yield Line("error", text, {"loop": loop, "error": error}, cause=cause)
        case told.TickRecovered(loop):
            yield Line("info", "a duty that failed succeeds again", {"loop": loop})
        case told.LoopDied(loop, cause):
            yield Line("critical", "a duty died: the process ends", {"loop": loop}, cause=cause)


def _started(event: told.ServiceStarted) -> Iterator[Line]:
    given: dict[str, Any] = {
        "version": event.version,
        "database": without_password(event.database),
        "revision": event.revision,
        "concurrency": event.concurrency,
        "queues": ",".join(event.queues) or "all",
        "schedules": event.schedules,
        "worker_id": event.worker_id,
        "address": event.address,
        "access": event.access,
        "metrics": event.metrics,
        "sqlite": event.sqlite_version,
    }
    yield Line("info", "serving", _known(given))
    if event.is_sqlite_affected:
        yield Line(
            "warning",
            "this SQLite library can lose commits when several processes write (fixed in 3.51.3)",
            {"sqlite": event.sqlite_version, "remedy": "pip install 'yaml-job-runner[sqlite]'"},
        )


def _rejected(event: told.ConfigRejected) -> Line:
    kept = "nothing is in force" if event.in_force is None else f"revision {event.in_force} stays in force"
    found = event.problems
    details = [_problem(event.path, one) for one in found]
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    fields: dict[str, Any] = {"file": event.path, "problems": len(found)}
    if event.reason:
        fields["error"] = event.reason
    return Line("error", f"configuration rejected: {kept}", fields, (*details[:SHOWN], *more))


def _problem(path: str, one: Problem) -> str:
    remedy = f" (help: {one.hint})" if one.hint else ""
    return f"{path}:{one.line}:{one.column}: {one.severity}[{one.code}]: {one.message}{remedy}"


def _value(value: object) -> str:
    return format_duration(value) if isinstance(value, timedelta) else str(value)


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _moment(value: datetime) -> str:
    return value.isoformat(timespec="seconds").replace("+00:00", "Z")
