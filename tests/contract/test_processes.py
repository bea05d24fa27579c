"""Several processes on one database: real ones, at the same time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sqlalchemy import text

from runner.storage.database import Database
from runner.storage.migrations import drift
from runner.storage.setup import HEAD, prepare
from tests.contract.databases import DIALECTS, everything
from tests.contract.processes import others
from tests.factories import HOUR, MINUTE, NOW, Stores, make_definitions, make_edit, make_new_job, make_schedule


def test_no_job_is_claimed_twice(database: Database, stores: Stores) -> None:
    """Processes that claim in parallel: every job runs once, nothing is lost, and the limit holds."""
    stores.revisions.apply(make_edit(make_definitions(limits={"api": 3})), NOW)
    made = stores.jobs.enqueue_many(
        [make_new_job(("mail", "sync")[number % 3 == 0], priority=1 + number % 10) for number in range(3000)],
        NOW - HOUR,
    )

    with others("claim", database.url, 3) as workers:
        for number, worker in enumerate(workers):
            worker.ask(f"w{number}")
            assert worker.answer() == "began"
        for worker in workers:
            worker.ask()
        answers = [worker.answer() for worker in workers]

    claimed = sorted(tuple(one) for answer in answers for one in answer["claimed"])
    assert claimed == sorted((one.id, 1) for one in made)
    assert [answer["lost"] for answer in answers] == [[], [], []]
    assert stores.jobs.counts() == {"pending": 0, "running": 0, "completed": 3000, "failed": 0, "cancelled": 0}
    assert everything(database)["job_attempts"] == []
    assert all(answer["claimed"] for answer in answers), "each held some while the others claimed"


def test_each_slot_is_fired_once_over_all_processes(database: Database, stores: Stores) -> None:
    """Two processes race for the same due slots: one ledger row and one job for each, and none is left out."""
    names = ("a", "b", "c")
    schedules = [make_schedule(name, every=MINUTE, overlap="allow") for name in names]
    stores.revisions.apply(make_edit(make_definitions(*schedules)), NOW)
    ours: list[list[str]] = [[], []]

    with others("fire", database.url, 2) as racers:
        for number in range(1, 61):
            for racer in racers:
                racer.ask((NOW + number * MINUTE).isoformat())
            for mine, racer in zip(ours, racers, strict=True):
                answer = racer.answer()
                assert isinstance(answer, list), answer
                mine += answer

    slots = sorted(f"{name} {(NOW + number * MINUTE).isoformat()}" for name in names for number in range(1, 61))
    rows = everything(database)
    ledger = sorted(f"{row['schedule_name']} {row['slot'].isoformat()}" for row in rows["schedule_slots"])
    jobs = sorted(f"{row['schedule_name']} {row['scheduled_for'].isoformat()}" for row in rows["background_jobs"])
    assert ledger == slots == jobs
    assert sorted(ours[0] + ours[1]) == slots
    assert {row["job_id"] for row in rows["schedule_slots"]} == {row["id"] for row in rows["background_jobs"]}


def test_processes_that_start_together_set_the_database_up_once(
    database: Database, dialect: str, tmp_path: Path
) -> None:
    """`prepare` is safe when processes start together, on no database at all."""
    turns = 40 if dialect == "sqlite" else 4
    with others("prepare", database.url, 3) as starters:
        for turn in range(turns):
            (tmp_path / str(turn)).mkdir()
            url = DIALECTS[dialect].nothing_yet(tmp_path / str(turn))
            for starter in starters:
                starter.ask(url)
            assert [starter.answer() for starter in starters] == [HEAD] * 3
            asked = Database(url)
            try:
                with asked.read() as connection:
                    assert drift(connection) == []
                    assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
            finally:
                asked.close()


def test_a_second_set_up_changes_nothing(database: Database, stores: Stores) -> None:
    """`prepare` is idempotent, and keeps what is there."""
    stores.jobs.enqueue(make_new_job(), NOW)
    before = everything(database)

    prepare(database)
    again = Database(database.url, busy_timeout=timedelta(seconds=1))
    prepare(again)
    again.close()

    assert everything(database) == before
