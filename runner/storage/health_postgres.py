"""What `doctor` asks a PostgreSQL server: what slows a queue down there long before it stops it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, text

from runner.storage.database import Database
from runner.storage.setup import TABLES


@dataclass(frozen=True, slots=True)
class Bloat:
    """Dead rows of a table that nobody has cleaned up yet."""

    table: str
    live: int
    dead: int


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """As one look finds it. `frozen_age` is in transactions; 2,100 million stop the server."""

    version: str
    connections: int
    max_connections: int
    oldest_transaction: timedelta
    lock_waits: int
    longest_wait: timedelta
    frozen_age: int
    bloat: tuple[Bloat, ...]


def server_health(database: Database) -> ServerHealth:
    with database.read() as connection:
        version = str(connection.execute(text("SHOW server_version")).scalar_one()).split()[0]
        used, most = connection.execute(_CONNECTIONS).one()
        oldest = connection.execute(_OLDEST).scalar() or timedelta(0)
        waits, longest = connection.execute(_WAITS).one()
        age = connection.execute(_FROZEN).scalar_one()
        bloat = tuple(Bloat(*row) for row in connection.execute(_BLOAT, {"tables": list(TABLES)}))
    return ServerHealth(version, used, most, oldest, waits, longest or timedelta(0), age, bloat)


def size(connection: Connection) -> int:
    """Bytes of our tables with their indexes."""
    return int(connection.execute(_SIZE, {"tables": list(TABLES)}).scalar() or 0)


_CONNECTIONS = text(
    "SELECT (SELECT count(*) FROM pg_stat_activity "
    "WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'), "  # of others: not told
    "current_setting('max_connections')::int"
)
_OLDEST = text(
    "SELECT max(clock_timestamp() - xact_start) FROM pg_stat_activity "
    "WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
_WAITS = text(
    "SELECT count(*), max(clock_timestamp() - state_change) FROM pg_stat_activity "
    "WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
_FROZEN = text("SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()")
_BLOAT = text(
    "SELECT relname, n_live_tup, n_dead_tup FROM pg_stat_user_tables "
    "WHERE schemaname = current_schema() AND relname = ANY(:tables) ORDER BY relname"
)
_SIZE = text(
    "SELECT sum(pg_total_relation_size(oid)) FROM pg_class "
    "WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname = ANY(:tables)"
)
