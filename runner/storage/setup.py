"""The first use of a database: its folder, its tables, and the refusal of what we cannot work with."""

from __future__ import annotations

from sqlalchemy import Connection, text

from runner.domain.errors import DatabaseUnavailable
from runner.storage.database import Database
from runner.storage.dialects import network_file_system

HEAD = "0001"  # a test holds this against the migrations; asking Alembic costs a fifth of a second at each start


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
    with database.read() as connection:
        return _version(connection)


def _version(connection: Connection) -> str | None:
    if connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")).first() is None:
        return None
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none() or "")
