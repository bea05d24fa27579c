"""The first use of a database: its folder, its tables, and the refusal of what we cannot work with."""

from __future__ import annotations

from sqlalchemy import Connection, String, column, select, table, text

from runner.domain.errors import DatabaseUnavailable
from runner.storage.database import Database
from runner.storage.dialects import network_file_system

TABLES = (
    "background_jobs", "config_revisions", "cron_schedules", "job_attempts", "job_logs", "job_outputs", "limits",
    "schedule_slots", "workers",
)  # fmt: skip
HEAD = "0004"  # a test holds both against the migrations; asking Alembic costs a fifth of a second at each start


def prepare(database: Database) -> None:
    """Create the database where there is none and bring its schema up, in one transaction."""
    kind = network_file_system(database.path)
    if kind is not None:
        raise DatabaseUnavailable(
            f"the database {database.path} lies on a network file system ({kind}), where SQLite's WAL mode loses data",
            "put it on a local disk",
        )
    if not database.path.parent.is_dir():
        raise DatabaseUnavailable(
            f"the folder of the database, {database.path.parent}, does not exist", "create it, or give another path"
        )
    if database.exists and version(database) == HEAD:
        return
    from runner.storage import migrations

    with database.write(create=True) as connection:
        migrations.upgrade(connection)


def require_current(database: Database) -> None:
    """For callers that never create or migrate: the database, if there is one, must have our schema."""
    found = version(database)
    if found == HEAD:
        return
    from runner.storage import migrations

    if found is None:
        raise DatabaseUnavailable(f"the database {database.path} was never set up", "runner migrate up")
    if found > HEAD:
        raise migrations.newer(found)
    raise DatabaseUnavailable(f"the database {database.path} has the older schema {found}", "runner migrate up")


def version(database: Database) -> str | None:
    """The schema of the database, or None where it was never set up. One that belongs to something else is refused."""
    with database.read() as connection:
        there = _tables(connection)
        found = _version(connection) if "alembic_version" in there else None
    if found is None and (taken := sorted(there.intersection(TABLES))):
        raise _foreign(database, f"it has a table {taken[0]} that is not ours")
    if found is not None and "config_revisions" not in there:
        raise _foreign(database, f"it has the schema {found} of another program")
    return found


def _tables(connection: Connection) -> set[str]:
    """Those that are called as ours are, whosever they may be."""
    name = column("name", String)
    named = select(name).select_from(table("sqlite_master", name)).where(name.in_(("alembic_version", *TABLES)))
    return set(connection.execute(named).scalars())


def _version(connection: Connection) -> str | None:
    number = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if number is None else str(number)


def _foreign(database: Database, why: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"the database {database.path} belongs to something else: {why}", "name another file with --database-url"
    )
