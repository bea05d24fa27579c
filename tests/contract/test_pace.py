"""The last hour: how much ended and how long it had waited, for a price that does not grow with it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert

from runner.domain.job import JobState
from runner.domain.job_rows import Job
from runner.domain.pace import MOST, SAMPLE, SLICE, SLICES, edges
from runner.storage import pace
from runner.storage.database import Database
from runner.storage.pace import Paces
from tests.contract.explained import plans, walked
from tests.factories import HOUR, MINUTE, NOW, SECOND, Stores, make_job

JOBS = Job.__table__  # type: ignore[attr-defined]


def ended(stores: Stores, count: int, at: datetime, waited: timedelta = SECOND, **values: Any) -> None:
    """Jobs that ended then, having waited so long."""
    row = {"type": "mail", "payload": {}, "status": JobState.COMPLETED, "run_at": at - SECOND - waited, "policy": "{}",
           "created_at": at - HOUR, "started_at": at - SECOND, "completed_at": at, "queue": "default", "priority": 5,
           "progress": 0.0, "attempt": 1, "max_attempts": 3, "run_number": 1, "stalls": 0}  # fmt: skip
    with stores.database.write() as connection:
        connection.execute(insert(JOBS), [row | values] * count)


def test_slices_count_what_ended_in_them(stores: Stores) -> None:
    """Whatever its state; the last hour alone, the present slice to now. What never began has not waited."""
    ended(stores, 2, NOW)
    ended(stores, 1, NOW + MINUTE, 5 * SECOND, status=JobState.FAILED)
    ended(stores, 1, NOW - SECOND, started_at=None, status=JobState.CANCELLED)
    ended(stores, 3, NOW - HOUR + SLICE, 9 * SECOND)
    ended(stores, 4, NOW - HOUR + SLICE - SECOND)
    make_job(stores)

    seen = Paces(stores.database).look(NOW + MINUTE)

    assert [one.start for one in seen.slices] == edges(NOW)
    assert [(at, one.ended, one.waits) for at, one in enumerate(seen.slices) if one.ended] == [
        (0, 3, (9.0, 9.0, 9.0)), (SLICES - 2, 1, ()), (SLICES - 1, 3, (1.0, 1.0, 5.0)),
    ]  # fmt: skip
    assert (seen.ended, seen.is_full, seen.slices[-1].typical, seen.slices[-1].slow) == (7, False, 1.0, 5.0)


def test_what_is_over_is_asked_for_once(stores: Stores) -> None:
    """A minute after its end: a commit may come later than the time that it writes. Later looks see what is new."""
    ended(stores, 1, NOW - SECOND)
    paces = Paces(stores.database)

    def looked(at: datetime) -> tuple[int, int]:
        """What is seen to have ended, and by how many statements."""
        found: list[int] = []
        asked = plans(stores.database, lambda: found.append(paces.look(at).ended))
        return found[0], len(asked)

    assert looked(NOW) == (1, SLICES)
    ended(stores, 1, NOW - SECOND)
    assert looked(NOW + 30 * SECOND) == (2, 2)
    assert looked(NOW + 90 * SECOND) == (2, 2)
    ended(stores, 1, NOW + 90 * SECOND)
    assert looked(NOW + 91 * SECOND) == (3, 1)
    assert looked(NOW + HOUR - SLICE) == (1, SLICES)
    assert looked(NOW + 2 * HOUR) == (0, SLICES)


def test_a_slice_is_read_no_further_than_it_is_shown(stores: Stores) -> None:
    """Neither counted nor asked: the numbers stand in the statement."""
    ended(stores, SAMPLE + 10, NOW)
    (seen,) = [one for one in Paces(stores.database).look(NOW).slices if one.ended]
    assert (seen.ended, len(seen.waits)) == (SAMPLE + 10, SAMPLE)
    for number in (MOST, SAMPLE):
        assert f"LIMIT {number}" in str(pace._SLICE.compile(stores.database._reader))


def test_a_slice_is_a_seek(database: Database, stores: Stores) -> None:
    """By the index of what has ended, in its order, whatever the statistics say."""
    ended(stores, 5000, NOW)
    ended(stores, 5000, NOW - 5 * HOUR)
    for plan in plans(database, lambda: Paces(database).look(NOW)):
        assert walked(plan) == []
        assert [line for line in plan if "jobs_finished" in line], plan
        assert not [line for line in plan if "Sort" in line or "TEMP B-TREE" in line], plan
