"""The claim: which jobs, in which order, under which fence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import delete, insert, select

from runner.domain.job import JobState, NewJob, Run, UniqueKey
from runner.domain.job_rows import Job
from runner.domain.outcome import Completed, Failed
from runner.domain.revision import Limit
from runner.domain.said import Progress, Writes
from runner.storage.claims import ClaimRequest, Lane
from runner.storage.database import Database
from tests.contract import oracle
from tests.factories import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    Stores,
    end,
    make_definitions,
    make_edit,
    make_job,
    make_new_job,
    make_running,
    make_worker,
    start,
)

JOBS = Job.__table__  # type: ignore[attr-defined]
LIMITS = Limit.__table__  # type: ignore[attr-defined]
MAIL = Lane("default", "mail")


def claim(stores: Stores, free: int = 10, *lanes: Lane, **values: Any) -> list[Run]:
    request = ClaimRequest("w1", lanes or (MAIL,), free, values.pop("schedules", None))
    return stores.claims.claim(request, values.pop("now", NOW))


def ids(runs: Sequence[Run]) -> list[int]:
    return [run.id for run in runs]


def enqueue(stores: Stores, *jobs: NewJob) -> list[int]:
    return [one.id for one in stores.jobs.enqueue_many(jobs, NOW - HOUR)]


def test_the_order_is_priority_then_run_at_then_id(stores: Stores) -> None:
    """Order of claim: priority, then `run_at`, then id."""
    last, early, first, second, urgent = enqueue(
        stores,
        make_new_job(priority=8, run_at=NOW - HOUR),
        make_new_job(priority=5, run_at=NOW - HOUR),
        make_new_job(priority=5, run_at=NOW - MINUTE),
        make_new_job(priority=5, run_at=NOW - MINUTE),
        make_new_job(priority=1, run_at=NOW),
    )

    assert ids(claim(stores)) == [urgent, early, first, second, last]


def test_never_more_than_are_free(stores: Stores) -> None:
    """A worker never has more rows running than its concurrency: the claim takes at most `free`."""
    enqueue(stores, *[make_new_job(priority=1 + number % 10) for number in range(12)])

    assert claim(stores, 0) == []
    assert claim(stores, -1) == []
    assert len(claim(stores, 5)) == 5
    assert len(claim(stores, 5)) == 5
    assert len(claim(stores, 5)) == 2
    assert claim(stores, 5) == []


def test_no_lanes_no_jobs(stores: Stores) -> None:
    """A worker that may run nothing claims nothing."""
    enqueue(stores, make_new_job())

    assert stores.claims.claim(ClaimRequest("w1", [], 5), NOW) == []


def test_a_job_is_claimed_at_its_time_and_not_before(stores: Stores) -> None:
    """A waiting retry, a snoozed job and a job for tomorrow are pending with a later `run_at`."""
    (job,) = enqueue(stores, make_new_job(run_at=NOW))

    assert claim(stores, now=NOW - timedelta(microseconds=1)) == []
    assert ids(claim(stores, now=NOW)) == [job]


def test_queues_and_types_of_others_stay(stores: Stores) -> None:
    """Queues are routing only; a job of a type that the worker does not know stays pending."""
    mine, *_ = enqueue(
        stores, make_new_job(), make_new_job("unknown", priority=1), make_new_job(queue="slow", priority=1)
    )

    assert ids(claim(stores)) == [mine]
    assert stores.jobs.counts()["pending"] == 2


def test_only_jobs_of_the_named_schedules(stores: Stores) -> None:
    """`run-once --schedule` takes the jobs that these schedules fired, and no other."""
    _, mine, _ = enqueue(
        stores, make_new_job(), make_new_job(schedule_name="nightly"), make_new_job(schedule_name="hourly")
    )

    assert claim(stores, schedules=frozenset()) == []
    assert ids(claim(stores, schedules=frozenset({"nightly", "other"}))) == [mine]


def test_a_job_that_waits_for_an_earlier_one_is_not_claimed(stores: Stores) -> None:
    """`overlap: queue`: one waits until the other has ended."""
    enqueue(stores, make_new_job(schedule_name="nightly", waiting_for="overlap"))

    assert claim(stores) == []


def test_every_claim_has_a_new_token_and_the_next_run_number(stores: Stores) -> None:
    """Each claim writes a new random token beside the run number, which nothing ever lowers."""
    enqueue(stores, make_new_job())
    tokens = set()

    for number in (1, 2, 3):
        (run,) = claim(stores, now=NOW + number * HOUR)
        assert (run.run_number, run.attempt) == (number, number)
        tokens.add(run.claim_token)
        end(stores, run, Failed("once more"), now=NOW + number * HOUR)

    assert len(tokens) == 3


def test_a_run_says_what_the_row_says(stores: Stores) -> None:
    """What is handed to the executor is what stands in the row."""
    (job,) = enqueue(stores, make_new_job(payload={"to": ["Zoë", None, 1.5]}, project_id="p1", schedule_name="nightly"))

    (run,) = claim(stores)
    row = stores.jobs.get(job)

    assert row.status == JobState.RUNNING
    for name in ("payload", "project_id", "schedule_name", "claim_token", "worker_id", "run_at", "created_at"):
        assert getattr(run, name) == getattr(row, name), name
    assert (row.started_at, row.worker_id) == (NOW, "w1")


def test_progress_is_kept_until_the_next_claim_and_zeroed_by_it(stores: Stores) -> None:
    """Progress is kept over restart and rescue, zeroed by the next claim."""
    run = make_running(stores)
    stores.logs.write([Writes(run, Progress(70, "sending", "to all"))])
    end(stores, run, Failed("broken"), now=NOW)
    kept = stores.jobs.get(run.id)

    start(stores, run.id, now=NOW + HOUR)
    zeroed = stores.jobs.get(run.id)

    assert (kept.progress, kept.current_step, kept.message) == (70, "sending", "to all")
    assert (zeroed.progress, zeroed.current_step, zeroed.message) == (0, None, None)


def test_until_started_frees_the_key_at_the_first_claim_for_good(stores: Stores) -> None:
    """`unique: started` frees the key at the first claim for good, also where the job is pending again."""
    job = make_new_job(unique=UniqueKey("k", "started"))
    first = stores.jobs.enqueue(job, NOW)
    assert stores.jobs.enqueue(job, NOW).duplicate

    run = start(stores, first.id)
    second = stores.jobs.enqueue(job, NOW)
    end(stores, run, Failed("once more"))

    assert not second.duplicate
    assert stores.jobs.get(first.id).status == JobState.PENDING
    assert stores.jobs.enqueue(job, NOW).id == second.id


def test_until_finished_holds_the_key_until_the_end(stores: Stores) -> None:
    """`unique: finished`: a duplicate while the job is pending, running or retrying, and not after it."""
    job = make_new_job(unique=UniqueKey("k", "finished"))
    first = stores.jobs.enqueue(job, NOW)
    run = start(stores, first.id)
    assert stores.jobs.enqueue(job, NOW).status == JobState.RUNNING
    end(stores, run, Failed("once more"))
    assert stores.jobs.enqueue(job, NOW).status == JobState.PENDING

    end(stores, start(stores, first.id, now=NOW + HOUR), Completed())

    assert not stores.jobs.enqueue(job, NOW).duplicate


class TestLimits:
    """A named limit counts the running rows over all machines."""

    LANE = Lane("default", "mail", "smtp")

    @pytest.fixture(autouse=True)
    def _limit(self, stores: Stores) -> None:
        stores.revisions.apply(make_edit(make_definitions(limits={"smtp": 2, "none": 0})), NOW)

    def test_never_more_than_the_limit(self, stores: Stores) -> None:
        """The claim takes as many as the limit leaves, whoever runs the others, and writes its name on the row."""
        enqueue(stores, *[make_new_job(priority=1 + number % 3) for number in range(6)])

        first = claim(stores, 10, self.LANE)
        assert len(first) == 2
        assert stores.claims.claim(ClaimRequest("w2", [self.LANE], 10), NOW) == []
        assert {stores.jobs.get(run.id).limit_name for run in first} == {"smtp"}

        end(stores, first[0], Completed())
        assert len(stores.claims.claim(ClaimRequest("w2", [self.LANE], 10), NOW)) == 1

    def test_two_types_share_a_limit_and_others_pass(self, stores: Stores) -> None:
        """Jobs behind a full limit do not hold up the rest, not even within one claim."""
        limited = enqueue(stores, *[make_new_job(kind, priority=1) for kind in ("mail", "letter") * 3])
        free = enqueue(stores, *[make_new_job("plain", priority=9) for _ in range(2)])

        runs = claim(stores, 4, self.LANE, Lane("default", "letter", "smtp"), Lane("default", "plain"))

        assert ids(runs) == limited[:2] + free

    def test_a_limit_used_up_by_urgent_jobs_does_not_shorten_the_batch(self, stores: Stores) -> None:
        """Jobs of a limit at several priorities count once against the batch, not at each priority."""
        limited = enqueue(stores, *[make_new_job(priority=priority) for priority in (1, 2, 3, 4, 5, 6, 7, 8)])
        free = enqueue(stores, *[make_new_job("plain", priority=9) for _ in range(2)])

        assert ids(claim(stores, 3, self.LANE, Lane("default", "plain"))) == [*limited[:2], free[0]]

    @pytest.mark.parametrize("limit", ["none", "never heard of"])
    def test_a_limit_of_nothing_runs_nothing(self, stores: Stores, limit: str) -> None:
        """A limit of zero, and one that the revision in force does not know, lets nothing through."""
        enqueue(stores, make_new_job())

        assert claim(stores, 5, Lane("default", "mail", limit)) == []

    def test_a_changed_limit_holds_for_what_is_queued(self, stores: Stores) -> None:
        """A job carries its policy from enqueue on; except the limit, which the claim reads and writes."""
        enqueue(stores, *[make_new_job() for _ in range(5)])
        assert len(claim(stores, 5, self.LANE)) == 2

        stores.revisions.apply(make_edit(make_definitions(limits={"smtp": 3}), base=1), NOW)

        assert len(claim(stores, 5, self.LANE)) == 1
        assert len(claim(stores, 5, MAIL)) == 2

    def test_a_crash_cannot_leak_a_slot(self, stores: Stores) -> None:
        """The limit counts rows, so that a rescued run gives its slot back."""
        enqueue(stores, *[make_new_job() for _ in range(3)])
        for run in claim(stores, 5, self.LANE):
            end(stores, run, Failed("worker died"))

        assert len(claim(stores, 5, self.LANE, now=NOW + HOUR)) == 2


# ---- against every row

QUEUES = ("default", "slow", "other")
TYPES = ("a", "b", "c", "d", "unknown")
SCHEDULES = (None, None, "nightly", "hourly")
LIMIT_NAMES = (None, None, None, "one", "two")


PLAIN_ROW = {
    name: value for name, value in Job(type="a", run_at=NOW, created_at=NOW).model_dump().items() if name != "id"
}


def random_shape(rng: Random) -> dict[str, list[Any]]:
    """What the rows of one table have: all of it, or very little, so that they crowd in a few lanes."""
    return {
        "type": [name for name in TYPES for _ in range(1 + int(30 * rng.random() ** 4))],
        "queue": rng.sample(QUEUES, rng.randint(1, len(QUEUES))),
        "priority": rng.sample(range(1, 11), rng.choice([1, 2, 5, 10])),
    }


def random_row(rng: Random, number: int, shape: dict[str, list[Any]]) -> dict[str, Any]:
    status = rng.choices(list(JobState), [20, 1, 1, 1, 1])[0]
    row = {name: rng.choice(values) for name, values in shape.items()} | {
        "status": status,
        "run_at": NOW + rng.choice([-3600, -60, -60, -1, 0, 0, 1, 3600]) * SECOND,
        "created_at": NOW,
        "completed_at": NOW if status.is_terminal else None,
        "schedule_name": rng.choice(SCHEDULES),
        "waiting_for": "overlap" if status is JobState.PENDING and rng.random() < 0.1 else None,
        "limit_name": rng.choice(LIMIT_NAMES) if status is JobState.RUNNING else None,
        "worker_id": "other" if status is JobState.RUNNING else None,
        "claim_token": f"token-{number}" if status is JobState.RUNNING else None,
    }
    return PLAIN_ROW | row


def random_request(rng: Random) -> ClaimRequest:
    share = rng.choice([0.5, 1.0])
    pairs = [(queue, kind) for queue in QUEUES for kind in TYPES if kind != "unknown" and rng.random() < share]
    names = rng.choice([LIMIT_NAMES, ("one", "one", "two", None)])
    limit_of = {kind: rng.choice(names) for kind in TYPES}
    lanes = [Lane(queue, kind, limit_of[kind]) for queue, kind in pairs]
    rng.shuffle(lanes)
    schedules = frozenset(rng.sample(["nightly", "hourly", "other"], 2)) if rng.random() < 0.25 else None
    return ClaimRequest("w1", lanes, rng.choice([1, 1, 2, 3, 5, 10, 50]), schedules)


def refill(database: Database, rng: Random) -> dict[str, int]:
    limits, shape = {"one": rng.randint(1, 3), "two": rng.randint(0, 6)}, random_shape(rng)
    rows = [random_row(rng, number, shape) for number in range(rng.choice([0, 5, 20, 20, 40, 80]))]
    with database.write() as connection:
        connection.execute(delete(JOBS))
        connection.execute(delete(LIMITS))
        connection.execute(insert(LIMITS), [{"name": name, "max": most} for name, most in limits.items()])
        if rows:
            connection.execute(insert(JOBS), rows)
    return limits


@pytest.mark.parametrize("seed", range(5))
def test_the_claim_equals_a_search_through_every_row(database: Database, stores: Stores, seed: int) -> None:
    """Equal to a brute-force oracle, in content and in order: limits, queues, unknown types, later and waiting jobs."""
    rng = Random(seed)
    claimed = 0
    for _ in range(30):
        limits = refill(database, rng)
        for _ in range(3):
            request = random_request(rng)
            with database.read() as connection:
                rows = [dict(row) for row in connection.execute(select(JOBS)).mappings()]
            expected = oracle.claim(rows, limits, request, NOW)
            assert ids(stores.claims.claim(request, NOW)) == expected
            claimed += len(expected)
    assert claimed > 50, "the tables must give the claim something to do"


# ---- what else is asked about lanes


def test_lanes_are_the_pairs_that_have_pending_jobs(stores: Stores) -> None:
    """The (queue, type) pairs with pending jobs, each once, whoever may run them."""
    pairs = [("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")]
    enqueue(stores, *[make_new_job(kind, queue=queue) for queue, kind in pairs * 3])
    make_job(stores, JobState.COMPLETED, type="gone", queue="d")
    enqueue(stores, make_new_job("waits", waiting_for="overlap", schedule_name="nightly"))

    assert sorted(stores.claims.lanes()) == pairs


def test_no_lanes_where_nothing_waits(stores: Stores) -> None:
    """An empty table has no lanes."""
    assert stores.claims.lanes() == []


def test_next_due_is_the_first_time_in_these_lanes(stores: Stores) -> None:
    """When the next pending job of these lanes is due, whatever its priority."""
    enqueue(
        stores,
        make_new_job(priority=1, run_at=NOW + HOUR),
        make_new_job(priority=9, run_at=NOW + MINUTE),
        make_new_job("other", run_at=NOW),
        make_new_job(schedule_name="nightly", run_at=NOW + 2 * HOUR),
        make_new_job(schedule_name="nightly", waiting_for="overlap", run_at=NOW),
    )

    assert stores.claims.next_due([MAIL]) == NOW + MINUTE
    assert stores.claims.next_due([MAIL], frozenset({"nightly"})) == NOW + 2 * HOUR
    assert stores.claims.next_due([Lane("default", "nothing")]) is None
    assert stores.claims.next_due([]) is None


def test_held_and_running_of_name_what_a_worker_has(stores: Stores) -> None:
    """A worker can ask the database what it holds."""
    mine = [make_running(stores, worker_id="w1") for _ in range(2)]
    theirs = make_running(stores, worker_id="w2")

    assert stores.claims.held("w1") == {run.claim_token for run in mine}
    assert {run.id: run for run in stores.claims.running_of(["w2"])} == {theirs.id: theirs}


def test_a_census_names_the_workers_and_whom_running_jobs_name_besides(stores: Stores) -> None:
    """Whoever holds a job and has no row is an orphan; a worker that holds nothing is a worker."""
    for worker_id in ("w1", "w2", "w2"):
        make_running(stores, worker_id=worker_id)
    make_job(stores, JobState.COMPLETED, worker_id="w4")
    stores.workers.register(make_worker("w3", started_at=NOW + MINUTE))
    stores.workers.forget("w2")
    stores.workers.forget("w4")

    known, orphaned = stores.workers.census()
    assert known == stores.workers.all()
    assert [worker.id for worker in known] == ["w1", "w3"]
    assert orphaned == {"w2"}
