"""Fires the slots that have come. Any number of processes may do this at once: each slot is decided once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice

from runner.config.intake import Intake
from runner.domain.access_rows import AuditEntry
from runner.domain.errors import Conflict, RunnerError, UsageError
from runner.domain.firing import Blocker, Decision, Firing, admit, fire
from runner.domain.job import WAITING_FOR_OVERLAP, Enqueued, JobState, NewJob
from runner.domain.ledger import ScheduleStatus, SlotOutcome
from runner.domain.schedule import Schedule
from runner.domain.timing import timing
from runner.storage.claims import ClaimStore
from runner.storage.revisions import RevisionStore
from runner.storage.schedules import ScheduleStore
from runner.storage.serial import schedule_from
from runner.telemetry import Emit, FiringFailed, SlotsDecided

LONGEST_WAIT = 2.0  # seconds, after which a time that another process has set is seen
AGAIN = 0.05  # seconds until the next look at what another process is firing, or what cannot be fired now
MOST_BACKFILLED = 1000


@dataclass(slots=True)
class Scheduler:
    """`window` widens each schedule's catch-up window; `only` names the schedules that this process fires."""

    schedules: ScheduleStore
    revisions: RevisionStore
    claims: ClaimStore
    environ: Mapping[str, str]
    emit: Emit
    window: timedelta | None = None
    only: Callable[[Schedule], bool] = lambda schedule: True
    changed: Callable[[], bool] = lambda: True  # whether anybody may have committed since the last call
    _due: datetime | None = None
    _is_stale: bool = True  # what is known of it, until it was read once more
    _failing: dict[str, str] = field(default_factory=dict)

    def tick(self, now: datetime) -> float:
        """Decide every slot that has come; returns seconds until the next one, or the longest wait."""
        due = self._next_due()
        if due is not None and due <= now:
            self._is_stale = True
            for name in self.schedules.due(now):
                self._fire(name, now)
            due = self._next_due()
        if due is None:
            return LONGEST_WAIT
        return min((due - now).total_seconds(), LONGEST_WAIT) if due > now else AGAIN

    def _next_due(self) -> datetime | None:
        """Asked where it may be another one."""
        self._is_stale |= self.changed()
        if self._is_stale:
            self._due, self._is_stale = self.schedules.next_due(), False
        return self._due

    def _fire(self, name: str, now: datetime) -> None:
        intake = self._intake()
        if intake is None:
            return
        current: list[Schedule] = []

        def decide(row: ScheduleStatus, blockers: Sequence[Blocker]) -> Firing | None:
            schedule = schedule_from(row.spec)
            if not self.only(schedule):
                return None
            current.append(schedule)
            paused = row.paused_at is not None
            found = fire(
                schedule, timing(schedule), row.cursor, now, paused=paused, blockers=blockers, window=self.window
            )
            return _without_workflow(found) if schedule.workflow is not None else found

        try:
            fired = self.schedules.fire(name, now, decide, lambda decision: job_of(current[-1], decision, intake, now))
        except Conflict:
            return  # another process was first
        except RunnerError as error:
            self._failed(name, error)
            return
        self._failing.pop(name, None)
        if fired is not None:
            self.emit(SlotsDecided(name, fired.slots))

    def _failed(self, name: str, error: RunnerError) -> None:
        """Said once, however often it is tried."""
        if self._failing.get(name) != error.message:
            self._failing[name] = error.message
            self.emit(FiringFailed(name, error.message))

    def trigger(self, name: str, now: datetime, audit: AuditEntry | None = None) -> Enqueued:
        """Run a schedule by hand, now. Raises Conflict where its overlap policy refuses."""
        intake = self._intake()

        def admitted(row: ScheduleStatus, blockers: Sequence[Blocker]) -> tuple[NewJob, tuple[int, ...]]:
            if row.retired_at is not None or intake is None:
                raise Conflict(f"schedule {name} is retired: it left the file", "runner schedules list")
            schedule = schedule_from(row.spec)
            admission = admit(schedule, blockers)
            if admission.is_refused:
                reason = f"schedule {name} was not triggered: {admission.reason} (overlap: {schedule.overlap})"
                raise Conflict(reason, f"runner jobs show {admission.blocker_id}")
            job = intake.scheduled(schedule, now)
            return job._replace(waiting_for=WAITING_FOR_OVERLAP if admission.waits else None), admission.cancels

        return self.schedules.trigger(name, now, admitted, audit)

    def backfill(
        self, name: str, start: datetime, end: datetime, now: datetime, audit: AuditEntry | None = None
    ) -> list[Enqueued]:
        """Enqueue the slots in [start, end] that were not; those already enqueued are left alone."""
        intake = self._intake()
        row = self.schedules.get(name)
        schedule = schedule_from(row.spec)
        if intake is None or row.retired_at is not None:
            raise Conflict(f"schedule {name} is retired: it left the file", "runner schedules list")
        times = timing(schedule)
        slots = list(islice(times.slots(start - timedelta(seconds=1), min(end, now)), MOST_BACKFILLED + 1))
        if len(slots) > MOST_BACKFILLED:
            raise UsageError(f"a backfill takes at most {MOST_BACKFILLED:,} slots at a time", "give a shorter range")
        waits = schedule.overlap != "allow"
        decisions = [
            Decision(slot, SlotOutcome.ENQUEUED, "backfill", run_at=min(slot, now), waits=waits) for slot in slots
        ]
        fired = self.schedules.backfill(name, decisions, lambda one: job_of(schedule, one, intake, now), now, audit)
        self.emit(SlotsDecided(name, fired.slots))
        self.claims.promote(now)
        return [Enqueued(slot.job_id, JobState.PENDING) for slot in fired.slots if slot.job_id is not None]

    def refresh(self, now: datetime) -> int:
        """Recompute the stored fire times from the cursors: zone data may have changed since they were written."""
        fresh = {}
        for row in self.schedules.all():
            if not row.enabled:
                continue
            after = timing(schedule_from(row.spec)).next(row.cursor)
            if after != row.next_run:
                fresh[row.name] = (row.next_run, after)
        return self.schedules.set_next_runs(fresh) if fresh else 0

    def _intake(self) -> Intake | None:
        revision = self.revisions.current()
        return None if revision is None else Intake(revision.definitions, revision.number, self.environ)


def job_of(schedule: Schedule, decision: Decision, intake: Intake, now: datetime) -> NewJob:
    """The job of one slot."""
    return intake.scheduled(schedule, now)._replace(
        scheduled_for=decision.slot,
        run_at=decision.run_at,
        waiting_for=WAITING_FOR_OVERLAP if decision.waits else None,
    )


def _without_workflow(firing: Firing) -> Firing:
    """Workflows come later: their slots are decided, and the ledger says why nothing ran."""
    reason = "workflows come with a later release"
    skipped = tuple(
        replace(one, outcome=SlotOutcome.SKIPPED_MISSED, reason=reason, run_at=None) if one.run_at else one
        for one in firing.decisions
    )
    return replace(firing, decisions=skipped, cancels=())
