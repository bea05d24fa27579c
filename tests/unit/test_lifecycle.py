"""What happens to a job when a run ends."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest

from runner.domain.job import JobState
from runner.domain.lifecycle import Transition, cancelled_instead, display_state, settle
from runner.domain.outcome import Cancelled, Completed, Failed, Outcome, Released, Retry, Snooze, Snoozed, Stalled
from runner.domain.retry import RetryPolicy
from tests.factories import HOUR, MINUTE, NOW, SECOND, make_policy, make_run

PENDING, COMPLETED, FAILED, CANCELLED = (
    JobState.PENDING,
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.CANCELLED,
)
STOPPED = "Job processor stopped responding"
RUN = {"attempt": 2, "max_attempts": 3, "stalls": 1, "run_number": 7}


@pytest.mark.parametrize(
    ("outcome", "run", "expected"),
    [
        (Completed("[1]"), {}, Transition(COMPLETED, 2, 1, "completed", result="[1]")),
        (Completed(), {"attempt": 3}, Transition(COMPLETED, 3, 1, "completed")),
        (Cancelled("no need"), {}, Transition(CANCELLED, 2, 1, "cancelled", error="no need")),
        (Failed("E: x"), {"attempt": 1}, Transition(PENDING, 1, 1, "failed", NOW + 2 * SECOND, "E: x")),
        (Failed("E: x"), {}, Transition(PENDING, 2, 1, "failed", NOW + 4 * SECOND, "E: x")),
        (Failed("E: x"), {"attempt": 3}, Transition(FAILED, 3, 1, "failed", error="E: x")),
        (Failed("E: x"), {"max_attempts": 2}, Transition(FAILED, 2, 1, "failed", error="E: x")),
        (Failed("E: x", for_good=True), {"attempt": 1}, Transition(FAILED, 1, 1, "failed", error="E: x")),
        (Failed("E", retry_after=HOUR), {}, Transition(PENDING, 2, 1, "failed", NOW + HOUR, "E")),
        (Failed("E", retry_after=timedelta(0)), {}, Transition(PENDING, 2, 1, "failed", NOW, "E")),
        (Failed("E", retry_after=HOUR), {"attempt": 3}, Transition(FAILED, 3, 1, "failed", error="E")),
        (Snoozed(MINUTE), {"attempt": 3}, Transition(PENDING, 2, 1, "snoozed", NOW + MINUTE)),
        (Released(), {}, Transition(PENDING, 1, 1, "released", NOW - MINUTE, "released at shutdown")),
        (Stalled(), {"attempt": 1}, Transition(PENDING, 1, 2, "stalled", NOW + 2 * SECOND, STOPPED)),
        (Stalled(), {"attempt": 3}, Transition(FAILED, 3, 2, "stalled", error=STOPPED)),
        (Stalled(), {"stalls": 2, "attempt": 1}, Transition(FAILED, 1, 3, "stalled", error=STOPPED)),
    ],
    ids=str,
)
def test_the_end_of_a_run(outcome: Outcome, run: dict[str, Any], expected: Transition) -> None:
    """A failure waits or ends, a snooze and a release give the attempt back, a stall counts and does not."""
    assert settle(make_run(**(RUN | run)), outcome, NOW, Random(0)) == expected


def test_on_stall_fail_ends_the_job_at_the_first_stall() -> None:
    """`on_stall: fail` ends the job as failed."""
    run = make_run(policy=make_policy(on_stall="fail"))

    assert settle(run, Stalled(), NOW, Random(0)).state is FAILED


def test_max_stalls_counts_stalls_alone() -> None:
    """`max_stalls` (3) ends the job as failed, whatever attempts are left."""
    policy = make_policy(max_stalls=2, retry=RetryPolicy(max_attempts=10))

    first = settle(make_run(policy=policy, attempt=5), Stalled(), NOW, Random(0))
    second = settle(make_run(policy=policy, attempt=6, stalls=first.stalls), Stalled(), NOW, Random(0))

    assert [(one.state, one.stalls) for one in (first, second)] == [(PENDING, 1), (FAILED, 2)]


@pytest.mark.parametrize(
    ("kinds", "expected"), [(("builtins.ValueError",), FAILED), (("a.Gone", "builtins.OSError"), PENDING)]
)
def test_give_up_on_ends_the_job(kinds: tuple[str, ...], expected: JobState) -> None:
    """An exception of a class in `give_up_on` is not tried again."""
    run = make_run(policy=make_policy(retry=RetryPolicy(give_up_on=("ValueError",))))

    assert settle(run, Failed("broken", kinds), NOW, Random(0)).state is expected


@pytest.mark.parametrize(
    ("outcome", "attempt", "expected"),
    [
        (Completed("1"), 1, COMPLETED),
        (Failed("broken", for_good=True), 1, FAILED),
        (Failed("broken"), 3, FAILED),
        (Failed("broken"), 1, CANCELLED),
        (Snoozed(HOUR), 1, CANCELLED),
        (Released(), 1, CANCELLED),
        (Stalled(), 1, CANCELLED),
        (Stalled(), 3, CANCELLED),
        (Cancelled("me too"), 1, CANCELLED),
    ],
    ids=str,
)
def test_a_cancel_request_turns_every_second_chance_into_a_cancel(
    outcome: Outcome, attempt: int, expected: JobState
) -> None:
    """What has ended stays, the rest is cancelled; a cancelled job of a dead worker is never retried or failed."""
    transition = cancelled_instead(settle(make_run(attempt=attempt), outcome, NOW, Random(0)), "by hand")

    assert (transition.state, transition.run_at) == (expected, None)


@pytest.mark.parametrize(
    ("ended", "error", "expected"),
    [("failed", "ValueError: x", "ValueError: x"), ("snoozed", None, "by hand"), ("stalled", "gone", "by hand")],
)
def test_a_cancelled_job_says_why_or_what_its_failed_run_said(ended: str, error: str | None, expected: str) -> None:
    """A job that is cancelled instead of tried again keeps what went wrong; else it has the reason of the cancel."""
    found = cancelled_instead(Transition(PENDING, 1, 0, ended, NOW, error), "by hand")

    assert found == Transition(CANCELLED, 1, 0, ended, None, expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"status": "pending"}, "pending"),
        ({"status": "pending", "run_at": NOW + SECOND}, "scheduled"),
        ({"status": "pending", "run_at": NOW + SECOND, "attempt": 1}, "retrying"),
        ({"status": "pending", "attempt": 1}, "pending"),
        ({"status": "pending", "waiting": True}, "scheduled"),
        ({"status": "pending", "parked": True}, "parked"),
        ({"status": "pending", "limited": True}, "waiting_for_limit"),
        ({"status": "pending", "parked": True, "run_at": NOW + SECOND}, "scheduled"),
        ({"status": "running"}, "running"),
        ({"status": "running", "cancelling": True}, "cancelling"),
        ({"status": "completed", "cancelling": True}, "completed"),
        ({"status": "failed", "attempt": 3, "run_at": NOW + HOUR}, "failed"),
        ({"status": "cancelled"}, "cancelled"),
    ],
    ids=str,
)
def test_what_people_are_shown(values: dict[str, Any], expected: str) -> None:
    """`retrying`, `scheduled`, `parked`, `waiting_for_limit`, `cancelling`, else the status."""
    given: dict[str, Any] = {"attempt": 0, "run_at": NOW} | values

    assert display_state(given.pop("status"), now=NOW, **given) == expected


@pytest.mark.parametrize("make", [lambda: Retry(after=-1), lambda: Snooze(for_=timedelta(seconds=-1))])
def test_a_delay_is_never_negative(make: Any) -> None:
    """A handler's `Retry(after=...)` and `Snooze(for_=...)` refuse a time in the past where they are made."""
    with pytest.raises(ValueError, match="negative"):
        make()


def test_delays_are_seconds_or_timedeltas() -> None:
    """`after` and `for_` take both."""
    assert (Retry(after=90).after, Retry().after, Snooze(for_=HOUR).delay) == (90 * SECOND, None, HOUR)
