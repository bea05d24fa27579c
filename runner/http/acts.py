"""What callers may do to jobs and schedules, by the API and by the pages: looked up as theirs, done, audited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runner.domain.access import Caller, told
from runner.domain.errors import NotAllowed, RunnerError
from runner.domain.job import Enqueued, JobState
from runner.domain.ledger import ScheduleStatus
from runner.domain.lifecycle import cancel_result
from runner.http.doors import Doors, no_job
from runner.storage.acts import Acted

Action = Literal["cancel", "retry"]
REASON = "cancelled over HTTP"
MOST = 1000  # jobs of one request
BATCH = 100  # of one transaction, which others wait for
POSSIBLE: Mapping[Action, tuple[JobState, ...]] = {
    "cancel": (JobState.PENDING, JobState.RUNNING), "retry": tuple(state for state in JobState if state.is_terminal),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one job of several: a result, or the reason why it could not be."""

    id: int
    result: str | None
    error: str | None


def cancel(doors: Doors, caller: Caller, job_id: int, reason: str | None) -> JobState:
    """A pending one at once; a running one is asked to stop."""
    doors.job(job_id, caller)
    entry = doors.entry(caller, "cancel", f"job {job_id}", reason)
    return doors.jobs.cancel(job_id, doors.now(), reason or REASON, entry)


def retry(doors: Doors, caller: Caller, job_id: int) -> None:
    """Pending again, with all its attempts; its history and its policy stay."""
    doors.job(job_id, caller)
    doors.jobs.retry(job_id, doors.now(), doors.entry(caller, "retry", f"job {job_id}"))


def many(doors: Doors, caller: Caller, action: Action, job_ids: Sequence[int], reason: str | None = None) -> list[Done]:
    """What cannot be done holds up nothing; what was done is audited with it, a hundred jobs in a transaction."""
    batches = (job_ids[start : start + BATCH] for start in range(0, len(job_ids), BATCH))
    return [done for batch in batches for done in _batch(doors, caller, action, batch, reason)]


def _batch(
    doors: Doors, caller: Caller, action: Action, job_ids: Sequence[int], reason: str | None
) -> list[Done]:  # fmt: skip
    heads, now = doors.jobs.heads(job_ids), doors.now()
    seen = [job_id for job_id in job_ids if job_id in heads and caller.sees(heads[job_id].project_id)]
    entries = [doors.entry(caller, action, f"job {job_id}", reason) for job_id in seen]
    if action == "cancel":
        answers = doors.jobs.cancel_many(seen, now, reason or REASON, entries)
    else:
        answers = doors.jobs.retry_many(seen, now, entries)
    became = dict(zip(seen, answers, strict=True))
    return [_done(job_id, action, became.get(job_id, no_job(job_id))) for job_id in job_ids]


def _done(job_id: int, action: Action, became: Acted) -> Done:
    if isinstance(became, RunnerError):
        return Done(job_id, None, became.message)
    return Done(job_id, cancel_result(became) if action == "cancel" else became.value, None)


def project_of(given: str | None, caller: Caller) -> str | None:
    """The project of a new job: the one that is named; else the only one of the caller's key."""
    if given is None and caller.projects is not None and len(caller.projects) == 1:
        return caller.projects[0]
    if not caller.sees(given):
        named = "no project" if given is None else f"project {given!r}"
        raise NotAllowed(f"{caller.name} may not enqueue for {named}", f"its projects: {told(caller.projects)}")
    return given


def pause(doors: Doors, caller: Caller, name: str, reason: str | None) -> ScheduleStatus:
    """It fires nothing until it is resumed; a reload of the file does not touch that."""
    doors.schedule(name, caller)
    entry = doors.entry(caller, "pause", f"schedule {name}", reason)
    return doors.schedules.pause(name, doors.now(), by=caller.name, reason=reason, audit=entry)


def resume(doors: Doors, caller: Caller, name: str) -> ScheduleStatus:
    """What was missed is not made up."""
    doors.schedule(name, caller)
    return doors.schedules.resume(name, doors.now(), audit=doors.entry(caller, "resume", f"schedule {name}"))


def trigger(doors: Doors, caller: Caller, name: str) -> Enqueued:
    """Run it now: ignores pause, jitter and time, obeys its overlap policy."""
    doors.schedule(name, caller)
    return doors.engine.trigger(name, doors.now(), doors.entry(caller, "trigger", f"schedule {name}"))
