"""Two transactions side by side on PostgreSQL, one of them held before its commit: what the other may and may not do.

SQLite has one writer at a time, so that nothing of this can happen there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from runner.domain.job import WAITING_FOR_OVERLAP, JobState
from runner.domain.outcome import Completed, Failed, Outcome, Released
from runner.storage import dialects, hot_postgres
from runner.storage.claims import ClaimRequest, Lane
from runner.storage.database import Database
from runner.storage.settling import Settled
from tests.contract.databases import everything
from tests.contract.processes import fire_due
from tests.contract.test_schedules import fire_at, install
from tests.contract.test_settle import settlement
from tests.factories import (
    MINUTE,
    NOW,
    SECOND,
    Stores,
    end,
    make_definitions,
    make_edit,
    make_new_job,
    make_running,
    make_schedule,
)
from tests.waiting import eventually

DEADLINE = 30.0  # seconds: what does not happen until then does not happen
WAITS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)  # fmt: skip
SLOT = NOW + 10 * MINUTE
THREADS = 20


class Side:
    """A call in a thread of its own, on connections of its own."""

    def __init__(self, url: str, call: Callable[[Stores], Any], *, is_held: bool = False) -> None:
        self._call = call
        self._database = Database(url, busy_timeout=timedelta(seconds=DEADLINE))
        self._held, self._may = threading.Event(), threading.Event()
        self._answer: list[Any] = []
        self._error: list[BaseException] = []
        self._is_held = is_held
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        if self._is_held:
            HELD[threading.get_ident()] = self
        try:
            self._answer.append(self._call(Stores(self._database)))
        except BaseException as error:
            self._error.append(error)
        finally:
            HELD.pop(threading.get_ident(), None)
            self._held.set()
            self._database.close()

    def before_commit(self) -> None:
        self._held.set()
        assert self._may.wait(DEADLINE), "nobody let it go on"

    def await_commit(self) -> Side:
        """Until it is held there."""
        assert self._held.wait(DEADLINE)
        assert not self.is_done, self._error or self._answer
        return self

    def go_on(self) -> Any:
        self._may.set()
        return self.answer()

    def answer(self) -> Any:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "it still waits"
        if self._error:
            raise self._error[0]
        return self._answer[0]

    @property
    def is_done(self) -> bool:
        return bool(self._answer or self._error)


HELD: dict[int, Side] = {}  # by thread: whose commits wait


@pytest.fixture(autouse=True)
def commits(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = dialects.commit

    def held(connection: Any) -> None:
        if (side := HELD.get(threading.get_ident())) is not None:
            side.before_commit()
        commit(connection)

    monkeypatch.setattr(dialects, "commit", held)
    together = hot_postgres._together
    uncommitted = lambda connection, steps, commits=False: together(connection, steps)  # noqa: E731
    monkeypatch.setattr(hot_postgres, "_together", uncommitted)


@contextmanager
def held(stores: Stores, call: Callable[[Stores], Any]) -> Iterator[Side]:
    """All but its commit is done."""
    side = Side(stores.database.url, call, is_held=True).await_commit()
    try:
        yield side
    finally:
        side.go_on()


def until_it_waits(stores: Stores, side: Side) -> None:
    """For a lock of somebody else, or is through without having waited."""

    def waits() -> bool:
        with stores.database.read() as connection:
            return bool(connection.execute(WAITS).scalar_one())

    eventually(lambda: side.is_done or waits(), "a wait or an end")


# ---- jobs of one schedule


def test_two_that_end_together_let_the_third_start_on_postgresql(stores: Stores) -> None:
    """Neither sees the other's end before its own commit: one of them comes after the other, and promotes."""
    runs = [make_running(stores, schedule_name="nightly") for _ in range(2)]
    third = stores.jobs.enqueue(make_new_job(schedule_name="nightly", waiting_for=WAITING_FOR_OVERLAP), NOW).id

    with held(stores, lambda mine: end(mine, runs[0], Completed())) as first:
        second = Side(stores.database.url, lambda mine: end(mine, runs[1], Completed()))
        until_it_waits(stores, second)
        assert stores.jobs.get(third).waiting_for == WAITING_FOR_OVERLAP
        first.go_on()
    assert second.answer().lost == frozenset()

    assert stores.jobs.get(third).waiting_for is None


# ---- limits

API = [Lane("default", "mail", "api")]


def test_a_limit_holds_while_a_claim_is_not_committed_on_postgresql(stores: Stores) -> None:
    """Who comes meanwhile gets none of it; after the commit there is as much as was left."""
    stores.revisions.apply(make_edit(make_definitions(limits={"api": 3})), NOW)
    stores.jobs.enqueue_many([make_new_job()] * 9, NOW)
    other = Stores(stores.database)

    with held(stores, lambda mine: mine.claims.claim(ClaimRequest("w1", API, 2), NOW)) as first:
        assert other.claims.claim(ClaimRequest("w2", API, 9), NOW) == []
        taken = first.go_on()
    later = other.claims.claim(ClaimRequest("w2", API, 9), NOW)

    assert (len(taken), len(later)) == (2, 1)
    assert other.claims.claim(ClaimRequest("w3", API, 9), NOW) == []
    assert stores.jobs.counts()["running"] == 3


def test_a_full_limit_holds_beside_its_own_claim_on_postgresql(stores: Stores) -> None:
    """One claim takes all that there is; those who claim beside it and after it get nothing, other types do."""
    stores.revisions.apply(make_edit(make_definitions(limits={"api": 3})), NOW)
    stores.jobs.enqueue_many([make_new_job()] * 9 + [make_new_job("letter")] * 2, NOW)
    request = ClaimRequest("w2", [*API, Lane("default", "letter")], 9)

    with held(stores, lambda mine: mine.claims.claim(ClaimRequest("w1", API, 9), NOW)) as first:
        beside = stores.claims.claim(request, NOW)
        assert len(first.go_on()) == 3

    assert [run.type for run in beside] == ["letter", "letter"]
    assert stores.claims.claim(request, NOW) == []


# ---- one run, two ends


@pytest.mark.parametrize("outcome", [Released(), Failed("ValueError: x")], ids=["released", "retried"])
def test_the_second_to_give_a_run_back_is_told_on_postgresql(stores: Stores, outcome: Outcome) -> None:
    """A rescue and the worker's own settle: one of them is written, the other has lost the run."""
    run = make_running(stores)

    with held(stores, lambda mine: end(mine, run, outcome)) as first:
        second = Side(stores.database.url, lambda mine: end(mine, run, Failed("Job processor stopped responding")))
        until_it_waits(stores, second)
        written: Settled = first.go_on()

    assert (set(written.written), second.answer().lost) == ({run.id}, {run.id})
    assert len(everything(stores.database)["job_attempts"]) == 1
    assert stores.jobs.get(run.id).status == JobState.PENDING


def test_the_second_to_end_a_run_is_told_on_postgresql(stores: Stores) -> None:
    """The same for an end for good."""
    run = make_running(stores)

    with held(stores, lambda mine: end(mine, run, Completed("1"))) as first:
        second = Side(stores.database.url, lambda mine: mine.claims.settle([settlement(run, Completed("2"))], NOW))
        until_it_waits(stores, second)
        first.go_on()

    assert second.answer().lost == {run.id}
    assert stores.jobs.get(run.id).result == 1


def test_a_claim_passes_over_what_another_has_not_committed_on_postgresql(stores: Stores) -> None:
    """Neither waits for the other, and no job is given to both."""
    made = [one.id for one in stores.jobs.enqueue_many([make_new_job()] * 4, NOW)]
    lanes = [Lane("default", "mail")]

    with held(stores, lambda mine: mine.claims.claim(ClaimRequest("w1", lanes, 2), NOW)) as first:
        beside = stores.claims.claim(ClaimRequest("w2", lanes, 9), NOW)
        mine = first.go_on()

    assert [run.id for run in mine] == made[:2]
    assert [run.id for run in beside] == made[2:]


# ---- schedules


def test_a_slot_is_fired_once_beside_its_own_firing_on_postgresql(stores: Stores) -> None:
    """Who comes meanwhile does not wait, and fires nothing."""
    install(stores, make_schedule())

    with held(stores, lambda mine: fire_at(mine, SLOT)) as first:
        assert fire_at(stores, SLOT) is None
        assert len(first.go_on().slots) == 1
    assert fire_at(stores, SLOT) is None

    assert len(everything(stores.database)["schedule_slots"]) == 1


def test_an_edit_keeps_what_a_firing_has_moved_on_postgresql(stores: Stores) -> None:
    """An edit of the payload that comes while a slot is fired waits for it: cursor and next slot are the firing's."""
    install(stores, make_schedule())
    edit = make_edit(make_definitions(make_schedule(payload={"a": 1})), 1)

    with held(stores, lambda mine: fire_at(mine, SLOT)) as firing:
        editing = Side(stores.database.url, lambda mine: mine.revisions.apply(edit, SLOT + SECOND))
        until_it_waits(stores, editing)
        firing.go_on()
    editing.answer()

    row = stores.schedules.get("nightly")
    assert (row.cursor, row.next_run, row.last_run) == (SLOT, SLOT + 10 * MINUTE, SLOT)
    assert row.spec["payload"] == {"a": 1}


def test_a_firing_does_not_undo_an_edit_on_postgresql(stores: Stores) -> None:
    """A slot that comes due while its times are edited is not fired: the cursor is the moment of applying."""
    install(stores, make_schedule())
    applied = SLOT + SECOND
    edit = make_edit(make_definitions(make_schedule(every=15 * MINUTE)), 1)

    with held(stores, lambda mine: mine.revisions.apply(edit, applied)) as editing:
        assert fire_at(stores, applied) is None
        editing.go_on()
    assert fire_at(stores, applied) is None

    row = stores.schedules.get("nightly")
    assert (row.cursor, row.next_run) == (applied, NOW + 15 * MINUTE)
    assert everything(stores.database)["schedule_slots"] == []


def test_twenty_fire_each_slot_once_on_postgresql(stores: Stores) -> None:
    """Twenty schedulers at the same moment, ten schedules, five slots: fifty rows, and nobody is told of a conflict."""
    names = [f"s{number}" for number in range(10)]
    stores.revisions.apply(
        make_edit(make_definitions(*(make_schedule(name, every=MINUTE, overlap="allow") for name in names))), NOW
    )
    gate = threading.Barrier(THREADS)

    def race(mine: Stores) -> list[str]:
        ours = []
        for minute in range(1, 6):
            gate.wait(DEADLINE)
            ours += fire_due(mine.database, (NOW + minute * MINUTE).isoformat())
        return ours

    sides = [Side(stores.database.url, race) for _ in range(THREADS)]
    fired = [slot for side in sides for slot in side.answer()]

    rows = everything(stores.database)
    assert len(set(fired)) == len(fired) == len(names) * 5
    slots = [(row["schedule_name"], row["slot"]) for row in rows["schedule_slots"]]
    assert len(set(slots)) == len(slots) == len(names) * 5
    jobs = [(row["schedule_name"], row["scheduled_for"]) for row in rows["background_jobs"]]
    assert sorted(jobs) == sorted(slots)
