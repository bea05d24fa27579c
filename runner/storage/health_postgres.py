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
    """As one look finds it. `frozen_age` is in transactions; 2,100 million stop the server.

    What `hidden` connections do, of other users, only a member of pg_monitor may see.
    """

    version: str
    connections: int
    hidden: int
    max_connections: int
    oldest_transaction: timedelta
    lock_waits: int
    longest_wait: timedelta
    frozen_age: int
    bloat: tuple[Bloat, ...]
    is_direct: bool = True  # what we set for a session has arrived


def server_health(database: Database) -> ServerHealth:
    with database.read() as connection:
        version = str(connection.execute(text("SHOW server_version")).scalar_one()).split()[0]
        used, hidden, most = connection.execute(_CONNECTIONS).one()
        oldest = connection.execute(_OLDEST).scalar() or timedelta(0)
        waits, longest = connection.execute(_WAITS).one()
        age = connection.execute(_FROZEN).scalar_one()
        is_direct = connection.execute(_DIRECT).scalar() is not None
        bloat = tuple(Bloat(*row) for row in connection.execute(_BLOAT, {"tables": list(TABLES)}))
    return ServerHealth(version, used, hidden, most, oldest, waits, longest or timedelta(0), age, bloat, is_direct)


def size(connection: Connection) -> int:
    """Bytes of our tables with their indexes."""
    return int(connection.execute(_SIZE, {"tables": list(TABLES)}).scalar() or 0)


_CONNECTIONS = text(
    "SELECT count(*), count(*) FILTER (WHERE backend_type IS NULL), current_setting('max_connections')::int "
    "FROM pg_stat_activity WHERE datname IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'"
)
# A writer between two statements has no snapshot, and yet its number keeps every later dead row. One that was prepared
# belongs to no connection.
_OLDEST = text(
    "SELECT max(age) FROM ("
    "SELECT clock_timestamp() - xact_start AS age FROM pg_stat_activity WHERE datname = current_database() "
    "AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) "
    "AND pid <> pg_backend_pid() AND backend_type = 'client backend' "
    "UNION ALL SELECT clock_timestamp() - prepared FROM pg_prepared_xacts WHERE database = current_database()) AS open"
)
# Since when it waits, the server tells from version 14 on; before that, when its statement began.
_WAITS = text(
    "SELECT count(*), max(clock_timestamp() - coalesce((to_jsonb(l) ->> 'waitstart')::timestamptz, a.query_start)) "
    "FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted WHERE a.datname = current_database()"
)
_DIRECT = text("SELECT current_setting('runner.settings', true)")
_FROZEN = text(
    "SELECT greatest(age(datfrozenxid), mxid_age(datminmxid)) FROM pg_database WHERE datname = current_database()"
)
_BLOAT = text(
    "SELECT relname, n_live_tup, n_dead_tup FROM pg_stat_user_tables "
    "WHERE schemaname = current_schema() AND relname = ANY(:tables) ORDER BY relname"
)
_SIZE = text(
    "SELECT sum(pg_total_relation_size(oid)) FROM pg_class "
    "WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname = ANY(:tables)"
)
