"""The state machine: what happens to a job when a run ends."""

from __future__ import annotations

from datetime import datetime
from random import Random
from typing import NamedTuple

from runner.domain.job import JobState, Run
from runner.domain.outcome import Cancelled, Completed, Failed, Outcome, Released, Snoozed, Stalled


class Transition(NamedTuple):
    """What to write for a run that ended. `run_at` is set where the job is to run again.

    `attempt` and `stalls` are the numbers the row shall hold; `ended` is the word for this run in the history.
    """

    state: JobState
    attempt: int
    stalls: int
    ended: str
    run_at: datetime | None = None
    error: str | None = None
    result: str | None = None

    @property
    def is_terminal(self) -> bool:
        return self.state is not JobState.PENDING


def settle(run: Run, outcome: Outcome, now: datetime, rng: Random) -> Transition:
    """The one decision about the end of a run; the store turns it where somebody wants the job cancelled."""
    if isinstance(outcome, Completed):
        return Transition(JobState.COMPLETED, run.attempt, run.stalls, "completed", result=outcome.result)
    same = Transition(JobState.PENDING, run.attempt, run.stalls, ended="failed")
    given_back = same._replace(attempt=run.attempt - 1)
    match outcome:
        case Cancelled(reason):
            return same._replace(state=JobState.CANCELLED, ended="cancelled", error=reason)
        case Snoozed(delay):
            return given_back._replace(ended="snoozed", run_at=now + delay)
        case Released(reason):
            return given_back._replace(ended="released", run_at=run.run_at, error=reason)
        case Stalled(error):
            return _after_stall(run, same._replace(ended="stalled", error=error, stalls=run.stalls + 1), now, rng)
        case Failed():
            return _after_failure(run, outcome, same._replace(error=outcome.error), now, rng)


def _after_failure(run: Run, outcome: Failed, failed: Transition, now: datetime, rng: Random) -> Transition:
    policy = run.policy.retry
    if outcome.for_good or run.attempt >= run.max_attempts or not policy.allows(outcome.kinds):
        return failed._replace(state=JobState.FAILED)
    wait = outcome.retry_after if outcome.retry_after is not None else policy.wait(run.attempt, rng)
    return failed._replace(run_at=now + wait)


def _after_stall(run: Run, stalled: Transition, now: datetime, rng: Random) -> Transition:
    out = run.attempt >= run.max_attempts or stalled.stalls >= run.policy.max_stalls
    if run.policy.on_stall == "fail" or out:
        return stalled._replace(state=JobState.FAILED)
    return stalled._replace(run_at=now + run.policy.retry.wait(run.attempt, rng))


def cancelled_instead(transition: Transition, reason: str) -> Transition:
    """The same end, honouring an open cancel request: what has ended stays, the rest is cancelled.

    A dead worker ended nothing: its job is cancelled also where the stall was one too many. What a failed run said is
    kept; else the job says why it was cancelled.
    """
    if not yields_to_cancel(transition):
        return transition
    error = transition.error if transition.ended == "failed" else reason
    return transition._replace(state=JobState.CANCELLED, run_at=None, error=error)


def yields_to_cancel(transition: Transition) -> bool:
    return not transition.is_terminal or transition.ended == "stalled"


def display_state(
    status: str, *, attempt: int, run_at: datetime, now: datetime, waiting: bool = False, cancelling: bool = False,
    parked: bool = False, limited: bool = False,
) -> str:  # fmt: skip
    """What people are shown: `retrying`, `scheduled`, `parked`, `waiting_for_limit`, `cancelling`, else the status."""
    if status == JobState.RUNNING:
        return "cancelling" if cancelling else status
    if status != JobState.PENDING:
        return status
    if waiting:
        return "scheduled"
    if run_at > now:
        return "retrying" if attempt > 0 else "scheduled"
    return "parked" if parked else "waiting_for_limit" if limited else status


def cancel_result(state: JobState) -> str:
    """What a cancel has come to, by the state that it left."""
    return "cancelled" if state is JobState.CANCELLED else "asked to stop"
