"""The first use of a database: its folder, its tables, and the refusal of what we cannot work with."""

from __future__ import annotations

from sqlalchemy import Connection, text

from runner.domain.errors import DatabaseUnavailable
from runner.storage.database import Database

TABLES = (
    "api_keys", "audit_log", "background_jobs", "config_revisions", "cron_schedules", "idempotency_keys",
    "job_attempts", "job_logs", "job_outputs", "limits", "schedule_slots", "workers",
)  # fmt: skip
HEAD = "0006"  # a test holds both against the migrations; asking Alembic costs a fifth of a second at each start


def prepare(database: Database) -> None:
    """Create the database where there is none and bring its schema up, in one transaction."""
    database.server.check()
    if database.exists and version(database) == HEAD:
        return
    from runner.storage import migrations

    with database.write(create=True, alone=True) as connection:
        migrations.upgrade(connection)


def require_current(database: Database) -> None:
    """For callers that never create or migrate: the database, if there is one, must have our schema."""
    found = version(database)
    if found == HEAD:
        return
    from runner.storage import migrations

    if found is None:
        raise DatabaseUnavailable(f"the database {database.place} was never set up", "runner migrate up")
    if found > HEAD:
        raise migrations.newer(found)
    raise DatabaseUnavailable(f"the database {database.place} has the older schema {found}", "runner migrate up")


def version(database: Database) -> str | None:
    """The schema of the database, or None where it was never set up. One that belongs to something else is refused."""
    with database.read() as connection:
        there = database.server.tables(connection)
        found = _version(connection) if "alembic_version" in there else None
    if found is None and (taken := sorted(there.intersection(TABLES))):
        raise _foreign(database, f"it has a table {taken[0]} that is not ours")
    if found is not None and "config_revisions" not in there:
        raise _foreign(database, f"it has the schema {found} of another program")
    return found


def _version(connection: Connection) -> str | None:
    number = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if number is None else str(number)


def _foreign(database: Database, why: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"the database {database.place} belongs to something else: {why}", database.server.elsewhere
    )
