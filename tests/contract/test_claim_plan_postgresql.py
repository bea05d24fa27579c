"""The hot statements stay flat on PostgreSQL: their plans know no values, and are seeks whatever statistics say."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from sqlalchemy import text

from runner.domain.outcome import Completed
from runner.storage import hot_postgres
from runner.storage.claims import ClaimRequest, Lane
from runner.storage.database import Database
from runner.storage.dialects import Claim
from tests.contract.test_settle import settlement
from tests.factories import DAY, HOUR, NOW, Stores, make_definitions, make_edit, make_job, make_new_job

VALUES: dict[str, str] = {
    "queues": "'{default,default,slow}'", "types": "'{mail,sync,mail}'", "limits": "'{NULL,api,NULL}'", "free": "5",
    "token": "'t'", "worker": "'w1'", "now": f"'{NOW.isoformat()}'", "schedules": "'{nightly}'",
} | dict.fromkeys(hot_postgres.COLUMNS, "'{1}'")  # fmt: skip
TYPES = {"free": "int", "now": "timestamptz"}
LOOKS = {"lanes": hot_postgres.LANES, "next due": hot_postgres._NEXT_DUE_OF_ALL}
DEPTH = 20_000


def claims() -> dict[str, str]:
    return {f"limited {limited}, of schedules {of}": text for (limited, of), text in hot_postgres._CLAIMS.items()}


class Prepared:
    """A statement as a worker has it: prepared under the settings of the hot path, with a plan that knows no values."""

    def __init__(self, cursor: Any, statement: str) -> None:
        self.cursor = cursor
        cursor.execute(hot_postgres.SEEKS)
        cursor.execute("DEALLOCATE ALL")
        cursor.execute("SELECT set_config('runner.locked', '{api}', true)")
        names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
        numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", statement)
        types = ", ".join(TYPES.get(name, "text") for name in names)
        cursor.execute(f"PREPARE hot ({types}) AS {numbered}" if names else f"PREPARE hot AS {numbered}")
        self.call = "hot" + (f"({', '.join(VALUES[name] for name in names)})" if names else "")

    def explain(self, options: str = "COSTS OFF") -> list[Any]:
        return [row[0] for row in self.cursor.execute(f"EXPLAIN ({options}) EXECUTE {self.call}").fetchall()]


def plan(database: Database, statement: str) -> list[str]:
    with database.write() as connection:
        prepared = Prepared(connection.connection.driver_connection.cursor(), statement)  # type: ignore[union-attr]
        return [str(line).strip() for line in prepared.explain()]


def heap(stores: Stores) -> None:
    """Jobs that are due, for later, of foreign queues and unknown types, and some that run or have ended."""
    some = [make_new_job(), make_new_job(priority=1, run_at=NOW + DAY), make_new_job("unknown", priority=1),
            make_new_job(queue="foreign"), make_new_job("sync")]  # fmt: skip
    stores.jobs.enqueue_many(some * (DEPTH // len(some)), NOW - HOUR)


@pytest.mark.parametrize("statistics", ["none", "of an empty table", "fresh"])
def test_pending_rows_are_found_by_one_index_on_postgresql(database: Database, stores: Stores, statistics: str) -> None:
    stores.revisions.apply(make_edit(make_definitions(limits={"api": 1})), NOW)
    if statistics == "of an empty table":
        analyze(database)
    before = {name: plan(database, statement) for name, statement in claims().items()}  # kept by who serves long
    heap(stores)
    if statistics == "fresh":
        analyze(database)
    after = {name: plan(database, statement) for name, statement in (claims() | LOOKS).items()}
    for name, lines in [*before.items(), *after.items()]:
        used = {
            found for line in lines for found in re.findall(r"Scan (?:using|on) (jobs_\w+|pk_background_jobs)", line)
        }
        assert "jobs_claim" in used, (name, lines)
        rest = {"jobs_limit", "jobs_worker", "pk_background_jobs"}  # of what runs, and of what was chosen
        assert used <= {"jobs_claim", *rest}, (name, lines)
        assert not any("Seq Scan on background_jobs" in line for line in lines), (name, lines)


@pytest.mark.parametrize("statistics", ["none", "of an empty table", "fresh"])
def test_a_run_is_ended_by_its_number_on_postgresql(database: Database, stores: Stores, statistics: str) -> None:
    """Not by a walk through all that runs, however few the statistics say they are."""
    if statistics == "of an empty table":
        analyze(database)
    heap(stores)
    if statistics == "fresh":
        analyze(database)
    lines = plan(database, hot_postgres.FINISH)
    used = {found for line in lines for found in re.findall(r"Scan (?:using|on) (jobs_\w+|\w*background_jobs)", line)}
    assert used == {"pk_background_jobs"}, lines


def analyze(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("ANALYZE background_jobs"))


def test_what_may_not_be_taken_costs_a_claim_nothing_on_postgresql(database: Database, stores: Stores) -> None:
    """Counted in buffers that the statement touched: twenty thousand rows for later and of others change nothing."""

    def touched() -> int:
        with database.write() as connection:
            driver: Any = connection.connection.driver_connection
            prepared = Prepared(driver.cursor(), hot_postgres._CLAIMS[True, False])
            (answer,) = prepared.explain("ANALYZE, BUFFERS, FORMAT JSON")
            driver.rollback()
            top = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
            return int(top["Shared Hit Blocks"]) + int(top["Shared Read Blocks"])

    make_job(stores, now=NOW - HOUR)
    analyze(database)
    shallow = touched()
    heap(stores)
    analyze(database)
    assert touched() < shallow + 200


def test_the_settings_of_the_hot_path_end_with_it_on_postgresql(database: Database, stores: Stores) -> None:
    """What follows in the same transaction, and on the same connection, is planned as ever."""
    names = ("plan_cache_mode", "enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan")

    def now_set(connection: Any) -> list[str]:
        return [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]

    with database.write() as connection:
        usual = now_set(connection)
        hot_postgres.finish(connection, [("completed", "1", None, 0, 100.0, 1, "t")], NOW)
        assert now_set(connection) == usual == ["auto", "on", "on", "on", "on"]
        hot_postgres.claim(connection, Claim({("default", "mail"): None}, 1, None, "t" * 32, "w1"), NOW)
        assert now_set(connection) == usual, "it has ended its transaction"
    request = ClaimRequest("w1", [Lane("default", "mail")], 1)
    job = make_job(stores)
    (run,) = stores.claims.claim(request, NOW)
    assert run.id == job.id
    stores.claims.settle([settlement(run, Completed("1"))], NOW, request)
    with database.write() as connection:
        assert now_set(connection) == usual
