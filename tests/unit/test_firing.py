"""What becomes of the slots of a schedule that have come."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.domain.firing import (
    MOST_CATCH_UP,
    MOST_ROWS,
    Admission,
    Blocker,
    Decision,
    Firing,
    admit,
    fire,
    remainder,
    spread,
)
from runner.domain.ledger import SlotOutcome
from runner.domain.schedule import Schedule
from runner.domain.timing import timing
from tests.factories import DAY, HOUR, MINUTE, NOW, SECOND, make_schedule

ENQUEUED, OVERLAP, MISSED, PAUSED = (
    SlotOutcome.ENQUEUED,
    SlotOutcome.SKIPPED_OVERLAP,
    SlotOutcome.SKIPPED_MISSED,
    SlotOutcome.SKIPPED_PAUSED,
)
TEN = 10 * MINUTE


def look(schedule: Schedule, cursor: datetime, now: datetime, **values: Any) -> Firing:
    return fire(schedule, timing(schedule), cursor, now, **values)


def outcomes(firing: Firing) -> list[tuple[datetime, SlotOutcome]]:
    return [(one.slot, one.outcome) for one in firing.decisions]


def test_nothing_is_due_before_the_next_slot() -> None:
    """`next_run` is computed from the previous nominal slot, never from now."""
    firing = look(make_schedule(), NOW, NOW + TEN - SECOND)

    assert firing == Firing((), (), NOW, NOW + TEN)


def test_a_slot_fires_at_its_time_and_moves_the_cursor_to_it() -> None:
    """A slot that is found late is still the nominal fire time, and so is the next one."""
    firing = look(make_schedule(), NOW, NOW + TEN + 7 * SECOND)

    assert firing == Firing((Decision(NOW + TEN, ENQUEUED, run_at=NOW + TEN),), (), NOW + TEN, NOW + 2 * TEN)


HALF = 30 * MINUTE


@pytest.mark.parametrize(
    ("catch_up", "window", "late", "expected"),
    [
        ("latest", HALF, HALF, [MISSED, MISSED, ENQUEUED]),
        ("latest", HALF, HALF + SECOND, [MISSED, MISSED, MISSED]),
        ("latest", DAY, HALF, [MISSED, MISSED, ENQUEUED]),
        ("all", HOUR, 0 * SECOND, [MISSED, ENQUEUED, ENQUEUED]),
        ("all", HOUR, SECOND, [MISSED, MISSED, ENQUEUED]),
        ("all", HALF, HALF + SECOND, [MISSED, MISSED, MISSED]),
        ("all", DAY, HALF, [ENQUEUED, ENQUEUED, ENQUEUED]),
        ("none", DAY, MINUTE, [MISSED, MISSED, ENQUEUED]),
        ("none", DAY, MINUTE + SECOND, [MISSED, MISSED, MISSED]),
        ("latest", 0 * SECOND, MINUTE, [MISSED, MISSED, ENQUEUED]),
    ],
)
def test_catch_up_after_downtime(
    catch_up: Any, window: timedelta, late: timedelta, expected: list[SlotOutcome]
) -> None:
    """`latest` fires the newest missed slot within the window, `all` each of them in order, `none` none."""
    schedule = make_schedule(every=HOUR, catch_up=catch_up, catch_up_window=window)

    firing = look(schedule, NOW, NOW + 3 * HOUR + late)

    assert outcomes(firing) == list(zip([NOW + n * HOUR for n in (1, 2, 3)], expected, strict=True))
    assert all(one.reason for one in firing.decisions if one.outcome is MISSED)
    assert (firing.cursor, firing.next_run) == (NOW + 3 * HOUR, NOW + 4 * HOUR)


def test_a_longer_window_widens_the_catch_up() -> None:
    """`run-once --since` widens the catch-up window, and does not narrow it."""
    schedule = make_schedule(every=HOUR, catch_up="all", catch_up_window=2 * HOUR)

    fired = [
        sum(one.outcome is ENQUEUED for one in look(schedule, NOW, NOW + 12 * HOUR, window=window).decisions)
        for window in (None, HOUR, 5 * HOUR)
    ]

    assert fired == [3, 3, 6]


def test_all_fires_at_most_a_thousand_in_order() -> None:
    """`all` fires at most 1,000; what is not fired is in the ledger as `skipped_missed`."""
    schedule = make_schedule(every=MINUTE, catch_up="all", catch_up_window=9 * DAY, overlap="allow")

    firing = look(schedule, NOW, NOW + 2500 * MINUTE)
    fired = [one for one in firing.decisions if one.outcome is ENQUEUED]
    missed = [one for one in firing.decisions if one.outcome is MISSED]

    assert [one.slot for one in fired] == [NOW + n * MINUTE for n in range(1501, 2501)]
    assert len(fired) == MOST_CATCH_UP
    assert sum(one.count for one in missed) == 1500


def reasons(firing: Firing) -> Counter[str | None]:
    """How many slots were not fired for each reason."""
    found: Counter[str | None] = Counter()
    for one in firing.decisions:
        if one.outcome is MISSED:
            found[one.reason] += one.count
    return found


NEWEST = "nobody was there at its time; catch_up: all fires only the newest 1,000 slots"


def test_what_a_thousand_leave_out_says_so() -> None:
    """A slot within the window that `all` does not fire is beyond the 1,000; an older one is beyond the window."""
    schedule = make_schedule(every=MINUTE, catch_up="all", catch_up_window=DAY, overlap="allow")

    within = look(schedule, NOW, NOW + 1300 * MINUTE)
    beyond = look(schedule, NOW, NOW + 1500 * MINUTE)

    assert reasons(within) == {NEWEST: 300}
    assert reasons(beyond) == {NEWEST: 441, "nobody was there within its catch_up_window of 1d": 59}


def test_a_shared_row_gives_a_reason_that_is_true_of_all_its_slots() -> None:
    """Where the newest of its slots is beyond the 1,000, so are the others."""
    schedule = make_schedule(every=MINUTE, catch_up="all", catch_up_window=2 * DAY, overlap="allow")

    first = look(schedule, NOW, NOW + 4000 * MINUTE).decisions[0]

    assert (first.count, first.reason) == (2000, NEWEST)


@pytest.mark.parametrize(
    ("own", "window", "said"),
    [
        (2 * HOUR, None, "its catch_up_window of 2h"),
        (2 * HOUR, HOUR, "its catch_up_window of 2h"),
        (2 * HOUR, 5 * HOUR, "5h of its time (--since; its catch_up_window is 2h)"),
        (0 * SECOND, None, "1m of its time (catch_up_window: 0s)"),
    ],
)
def test_the_reason_names_the_window_that_counted(own: timedelta, window: timedelta | None, said: str) -> None:
    """Widened by `run-once --since`, or the minute in which a slot is on time: never another window than was used."""
    schedule = make_schedule(every=HOUR, catch_up="all", catch_up_window=own)

    firing = look(schedule, NOW, NOW + 12 * HOUR, window=window)

    assert set(reasons(firing)) == {f"nobody was there within {said}"}


def test_a_later_slot_that_was_refused_was_not_fired() -> None:
    """`latest` with a later slot that the overlap policy skipped: that one was due, not fired."""
    schedule = make_schedule(every=HOUR, catch_up="latest", catch_up_window=DAY, overlap="skip")

    said = [
        reasons(look(schedule, NOW, NOW + 2 * HOUR, blockers=blockers)) for blockers in ([], [Blocker(1)])
    ]  # fmt: skip

    assert said == [
        {"nobody was there at its time; a later slot was fired (catch_up: latest)": 1},
        {"nobody was there at its time; a later slot was due (catch_up: latest)": 1},
    ]


@pytest.mark.parametrize("slots", [MOST_ROWS - 1, MOST_ROWS, MOST_ROWS + 1, 250_000])
def test_long_runs_of_skipped_slots_share_a_row(slots: int) -> None:
    """The newest 1,000 have one row each, the rest one row with first slot and count."""
    schedule = make_schedule(every=MINUTE)
    end = NOW + slots * MINUTE

    firing = look(schedule, NOW, end, paused=True)
    rest = [one for one in firing.decisions if one.count > 1 or one.first is not None]

    assert {one.outcome for one in firing.decisions} == {PAUSED}
    assert len(firing.decisions) == min(slots, MOST_ROWS + 1)
    assert sum(one.count for one in firing.decisions) == slots
    assert [one.slot for one in firing.decisions] == sorted(one.slot for one in firing.decisions)
    if slots > MOST_ROWS:
        assert rest == [firing.decisions[0]]
        assert (rest[0].first, rest[0].slot) == (NOW + MINUTE, end - MOST_ROWS * MINUTE)
    assert firing.cursor == end


def test_a_paused_schedule_fires_nothing_and_cancels_nothing() -> None:
    """Pause: the slot is in the ledger as `skipped_paused`, and nothing else happens."""
    firing = look(make_schedule(overlap="replace"), NOW, NOW + TEN, paused=True, blockers=[Blocker(1)])

    assert (outcomes(firing), firing.cancels) == ([(NOW + TEN, PAUSED)], ())


OLD, WAITING = Blocker(1), Blocker(2, is_waiting=True)


@pytest.mark.parametrize(
    ("overlap", "blockers", "expected"),
    [
        ("skip", [], Admission()),
        ("queue", [], Admission()),
        ("replace", [], Admission()),
        ("allow", [OLD, WAITING], Admission()),
        ("skip", [OLD], Admission(1, "job 1 is not finished")),
        ("queue", [OLD], Admission(waits=True)),
        ("queue", [OLD, WAITING], Admission(2, "job 2 waits already")),
        ("replace", [OLD, WAITING], Admission(waits=True, cancels=(1, 2))),
    ],
)
def test_overlap_looks_at_unfinished_jobs(overlap: Any, blockers: list[Blocker], expected: Admission) -> None:
    """`skip`, `queue` (one waits), `replace` (cancel the old, start when it has ended), `allow`."""
    assert admit(make_schedule(overlap=overlap), blockers) == expected


def test_an_overlap_is_told_with_its_blocker() -> None:
    """The ledger names the job that was in the way."""
    (decision,) = look(make_schedule(), NOW, NOW + TEN, blockers=[Blocker(17)]).decisions

    assert (decision.outcome, decision.blocker_id, decision.run_at) == (OVERLAP, 17, None)
    assert decision.reason == "job 17 is not finished"


def test_replace_cancels_only_where_it_fires() -> None:
    """A slot that is missed replaces nothing."""
    schedule = make_schedule(overlap="replace", catch_up="none")

    assert look(schedule, NOW, NOW + TEN, blockers=[OLD]).cancels == (1,)
    assert look(schedule, NOW, NOW + TEN + HOUR - SECOND, blockers=[OLD]).cancels == ()


@pytest.mark.parametrize(
    ("overlap", "waits"), [("allow", [False] * 3), ("skip", [False, True, True]), ("queue", [False, True, True])]
)
def test_caught_up_slots_run_one_after_the_other(overlap: Any, waits: list[bool]) -> None:
    """`catch_up: all` fires in order: each waits for the one before, unless the overlap is allowed."""
    schedule = make_schedule(catch_up="all", overlap=overlap)

    assert [one.waits for one in look(schedule, NOW, NOW + 3 * TEN).decisions] == waits


def test_jitter_moves_the_run_and_not_the_slot() -> None:
    """Jitter is deterministic from schedule and slot, smaller than half the gap, and moves `run_at`, not the slot."""
    schedule = make_schedule(jitter=HOUR)
    slots = [NOW + n * TEN for n in range(50)]

    shifts = [spread(schedule, timing(schedule), slot) for slot in slots]
    (decision,) = look(schedule, NOW - TEN, NOW).decisions

    assert shifts == [spread(schedule, timing(schedule), slot) for slot in slots]
    assert all(timedelta(0) <= shift < TEN / 2 for shift in shifts)
    assert len(set(shifts)) > 40
    assert (decision.slot, decision.run_at) == (NOW, NOW + shifts[0])


def test_the_last_slot_of_all_may_have_jitter() -> None:
    """A schedule whose `until` has come has no next slot to keep half a gap from."""
    schedule = make_schedule(jitter=MINUTE, until=NOW)

    assert timedelta(0) <= spread(schedule, timing(schedule), NOW) < MINUTE


def test_after_its_last_slot_a_schedule_rests() -> None:
    """`until` counts itself; after it there is no next run."""
    firing = look(make_schedule(until=NOW + TEN), NOW, NOW + HOUR)

    assert (outcomes(firing), firing.next_run) == ([(NOW + TEN, ENQUEUED)], None)
    assert look(make_schedule(until=NOW + TEN), firing.cursor, NOW + DAY) == Firing((), (), NOW + TEN, None)


@settings(derandomize=True, deadline=None)
@given(
    every=st.sampled_from([SECOND, 7 * SECOND, MINUTE, HOUR]),
    catch_up=st.sampled_from(["latest", "all", "none"]),
    overlap=st.sampled_from(["skip", "queue", "replace", "allow"]),
    looks=st.lists(st.integers(0, 30_000), min_size=1, max_size=6),
    paused=st.booleans(),
)
def test_every_slot_is_decided_exactly_once(
    every: timedelta, catch_up: Any, overlap: Any, looks: list[int], paused: bool
) -> None:
    """However the looks fall, the decisions cover each slot after the first cursor, once, and in order."""
    schedule = make_schedule(every=every, catch_up=catch_up, overlap=overlap, catch_up_window=10 * MINUTE)
    times, cursor, now = timing(schedule), NOW, NOW
    counted, seen = 0, Counter[datetime]()
    for step in looks:
        now += step * SECOND
        firing = fire(schedule, times, cursor, now, paused=paused)
        counted += sum(one.count for one in firing.decisions)
        seen.update(one.slot for one in firing.decisions)
        assert [one.slot for one in firing.decisions] == sorted(one.slot for one in firing.decisions)
        cursor = firing.cursor
    assert counted == times.count(NOW, now)
    assert set(seen.values()) <= {1}


AT = [datetime(2026, 1, 1, tzinfo=UTC) + n * TEN for n in range(10)]


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        (set(), (AT[0], AT[9])),
        ({AT[4], AT[5]}, (AT[0], AT[9])),
        ({AT[9]}, (AT[0], AT[8])),
        ({AT[0], AT[1], AT[8], AT[9]}, (AT[2], AT[7])),
        (set(AT), None),
        (set(AT[:9]), (AT[9], AT[9])),
    ],
)
def test_what_is_left_of_a_run_of_skipped_slots(
    taken: set[datetime], expected: tuple[datetime, datetime] | None
) -> None:
    """`backfill` may turn skipped slots into enqueued ones; the row of the rest keeps its true bounds."""
    assert remainder(timing(make_schedule()), AT[0], AT[9], taken) == expected
