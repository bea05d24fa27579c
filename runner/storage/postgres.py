"""PostgreSQL: one server for any number of machines, reached by psycopg 3. Read committed; readers see one snapshot.

`?schema=NAME` in the URL puts the tables into a schema of that name, which is made where it is missing.
"""

from __future__ import annotations

import json
import re
import select
import threading
from collections.abc import Hashable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, text
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.pool import QueuePool

from runner.domain.errors import BrokenOff, DatabaseUnavailable, UsageError
from runner.domain.urls import without_password
from runner.storage.dialects import WRITE, Door, compact_json

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as error:
    raise UsageError(
        f"PostgreSQL needs psycopg, which cannot be imported: {error}", "pip install 'yaml-job-runner[postgres]'"
    ) from None

from runner.storage.hot_postgres import is_lost
from runner.storage.notify import NotifyBell  # which needs it too

FAULTS = (DatabaseError, InterfaceError, psycopg.Error)
OLDEST = 13
ENDS_IDLE = 14  # the first version that may end idle sessions
WRITERS = 8  # transactions at the same time in one process
SENT = "runner.settings"  # a setting that means nothing: where it did not arrive, the others did not
KEPT = 2  # connections of a kind that are kept open while nobody uses them
ALONE = 7_217_001  # the advisory lock of who must be alone, one for each schema
CONNECT_TIMEOUT = 10  # seconds
NEVER = 2**31  # times that a statement is executed before the driver prepares it unasked
IDLE_IN_TRANSACTION = 60_000  # milliseconds: nobody of ours ever is, but a process that was stopped
SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def server(url: URL, busy_timeout: timedelta) -> Postgres:
    schema = url.query.get("schema", "")
    if not isinstance(schema, str) or (schema and not SCHEMA.fullmatch(schema)):
        raise UsageError(f"no name for a schema: {schema}", "small letters, digits and underscores: ?schema=runner")
    made = Postgres(url.set(drivername="postgresql"), schema, busy_timeout)
    try:
        found = conninfo_to_dict(made.target)
    except psycopg.ProgrammingError as error:
        raise UsageError(f"not a URL of PostgreSQL: {made.place}: {str(error).strip()}", WRITE) from None
    if "@" in str(found.get("host", "")):
        raise UsageError(f"not a URL of PostgreSQL: {made.place}", "in user and password write @ as %40, and / as %2F")
    return made


class Postgres:
    """One database of a server, and in it one schema."""

    name = "postgresql"
    file = None
    faults = FAULTS

    def __init__(self, url: URL, schema: str, busy_timeout: timedelta) -> None:
        self.target = _text(url.difference_update_query(["schema"]))
        self._schema = schema
        self._busy_timeout = busy_timeout
        self._was_found = False
        self.url = _text(url)
        self.place = without_password(self.url)
        self.elsewhere = "give our tables a schema of their own: ?schema=runner in the URL"
        self.missing = f"the database {self.place} was never set up", "runner apply sets it up"

    def engine(self, door: Door) -> Engine:
        made = create_engine(
            "postgresql+psycopg://",
            creator=partial(self._connect, door),  # libpq reads the URL, not SQLAlchemy
            poolclass=QueuePool,
            pool_size=KEPT,
            max_overflow=2 * WRITERS - KEPT,
            pool_pre_ping=True,
            isolation_level={"reader": "REPEATABLE READ", "outside": "AUTOCOMMIT"}.get(door, "READ COMMITTED"),
            json_serializer=compact_json,
            json_deserializer=json.loads,
        )
        event.listen(made, "handle_error", _is_lost)
        event.listen(made, "connect", lambda connection, _: _mind_the_pooler(connection))
        made.dialect.do_ping = answers  # type: ignore[assignment, method-assign]
        return made

    def _connect(self, door: Door) -> psycopg.Connection[Any]:
        made = psycopg.connect(self.target, **self._arguments(door))
        made.read_only = door == "reader" or None  # of its transactions: a session that is so fails `read-write` hosts
        return made

    def _arguments(self, door: Door) -> dict[str, Any]:
        settings = {
            "timezone": "UTC",
            "lock_timeout": int(self._busy_timeout.total_seconds() * 1000),
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION,
            "jit": "off",  # to compile a claim takes longer than it runs
            SENT: "on",
        }
        if self._schema:
            settings["search_path"] = self._schema
        if door == "relaxed":
            settings["synchronous_commit"] = "off"
        given = conninfo_to_dict(self.target)
        ours = " ".join(f"-c {name}={value}" for name, value in settings.items())
        return {name: value for name, value in self._defaults(door).items() if name not in given} | {
            "options": f"{given.get('options', '')} {ours}".strip()
        }

    def _defaults(self, door: Door) -> dict[str, Any]:
        """Of a connection, where the URL does not say otherwise."""
        return {
            "application_name": f"runner {door}",
            "connect_timeout": CONNECT_TIMEOUT,
            "prepare_threshold": NEVER,  # a plan that knows no values does not see that a partial index serves it
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        }

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of its own, in no transaction: to listen, and to look before there is anything."""
        made = psycopg.connect(self.target, autocommit=True, **self._arguments("outside"))
        if not _mind_the_pooler(made) and self._schema:
            made.close()
            raise DatabaseUnavailable(
                f"a pooler before {self.place} takes the schema out of our connections", "name the server itself"
            )
        return made

    def turns(self) -> threading.BoundedSemaphore:
        """The server lets them work side by side."""
        return threading.BoundedSemaphore(WRITERS)

    def begin(self, connection: Connection) -> None:
        """The driver begins with the first statement."""

    def is_alive(self, connection: Connection) -> bool:
        return answers(connection.connection.dbapi_connection)

    def alone(self, connection: Connection) -> None:
        connection.execute(_ALONE, {"key": ALONE})

    def found(self) -> Hashable | None:
        """Whether our tables were ever seen there; a server that cannot be reached is an error."""
        if not self._was_found:
            try:
                with self.connect() as connection:
                    self._was_found = connection.execute(_IS_THERE).fetchone() is not None
            except psycopg.Error as error:
                raise self.explain(error) from error
        return True if self._was_found else None

    def explain(self, error: Exception) -> Exception:
        return explain(error, self.place, self._busy_timeout)

    def bell(self) -> NotifyBell:
        return NotifyBell(self.connect)

    def version(self, connection: Connection) -> int:
        return int(connection.execute(_VERSION).scalar_one())

    def check(self) -> None:
        try:
            with self.connect() as connection:
                if connection.info.server_version < OLDEST * 10_000:
                    raise DatabaseUnavailable(
                        f"the server of {self.place} is PostgreSQL {connection.info.server_version // 10_000}",
                        f"it takes {OLDEST} or newer",
                    )
                if self._schema:  # letters, digits and underscores; who comes at the same time waits for the lock
                    connection.execute("SELECT pg_advisory_lock(%s, 0)", (ALONE,))
                    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {self._schema}")
        except psycopg.Error as error:
            raise self.explain(error) from error

    def copy(self, connection: Connection, path: Path) -> None:
        from runner.storage.copying import copy_open

        copy_open(connection, path)

    def trouble(self, connection: Connection) -> str | None:
        """A server checks its pages itself."""
        return None

    def sizes(self, connection: Connection) -> dict[str, Any]:
        from runner.storage.health_postgres import size

        return {"bytes": size(connection), "wal_bytes": None, "journal_mode": None}

    def tables(self, connection: Connection) -> set[str]:
        return set(connection.execute(_TABLES).scalars())


def _is_lost(context: ExceptionContext) -> None:
    """What the server has not said, libpq has: then no rollback is tried on it."""
    error = context.original_exception
    if isinstance(error, psycopg.Error) and error.sqlstate is None and is_lost(error):
        context.is_disconnect = True


def _text(url: URL) -> str:
    """As libpq reads it, for whom a plus in the query is no space."""
    before, mark, query = url.render_as_string(hide_password=False).partition("?")
    return before + mark + query.replace("+", "%20")


def _mind_the_pooler(connection: Any) -> bool:
    """Whether what we set for the session has arrived. A pooler that drops it may give each transaction to another
    session, where a statement that was prepared is not known, or another one bears its name.

    Our connections are idle as long as there is nothing to do: where the server ends such, ours are excepted.
    """
    asked = _ARRIVED_AND_STAYS if connection.info.server_version >= ENDS_IDLE * 10_000 else _ARRIVED
    arrived, *_ = connection.execute(asked).fetchone()
    if not connection.autocommit:
        connection.commit()
    if arrived is None:
        connection.prepare_threshold = None
    return arrived is not None


def answers(connection: Any) -> bool:
    """Whether this connection, which nobody uses, can be used. A server that goes says so, or its kernel does: only
    where something has come is the server asked."""
    try:
        waiting = select.poll()
        waiting.register(connection.fileno(), select.POLLIN)
        if waiting.poll(0):
            connection.execute("")
            if not connection.autocommit:
                connection.rollback()
    except psycopg.Error:
        return False
    return True


_ARRIVED = f"SELECT current_setting('{SENT}', true)"
_ARRIVED_AND_STAYS = f"""
SELECT arrived, CASE WHEN arrived IS NOT NULL THEN set_config('idle_session_timeout', '0', false) END
FROM current_setting('{SENT}', true) AS arrived"""
_ALONE = text("SELECT pg_advisory_xact_lock(:key, hashtext(current_schema()))")
_TABLES = text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
_IS_THERE = """
SELECT 1 FROM pg_tables WHERE schemaname = current_schema()
  AND tablename IN ('alembic_version', 'background_jobs', 'config_revisions', 'cron_schedules')"""
_VERSION = text("SELECT txid_snapshot_xmax(txid_current_snapshot())")

# SQLSTATE, or the class that it begins with
MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("55P03", "is locked by another process for longer than {busy:g} s", "end that process, or try again"),
    ("40", "was busy: two transactions stood in each other's way", "try again"),
    ("25006", "is read-only: a standby, or set so", "name the primary server in the URL"),
    ("53300", "has no connection left", "raise max_connections, or run fewer processes"),
    ("53100", "cannot grow: the disk of the server is full", "free some space; nothing was changed"),
    ("53", "has too little of something: {said}", "look at the server's log"),
    ("3D000", "does not exist", "create it: createdb NAME"),
    ("3F000", "has no such schema", "runner migrate up"),
    ("28", "refuses this user: {said}", "check user and password in the URL"),
    ("42501", "may not be used so by this user: {said}", "GRANT what is missing, or name another user"),
    ("42P01", "was never set up, or has an older schema: {said}", "runner migrate up"),
    ("42703", "has an older schema: {said}", "runner migrate up"),
    ("57P03", "is starting up or shutting down", "try again in a moment"),
    ("57P", "has ended the connection: {said}", "try again in a moment"),
    ("57014", "has broken a statement off: {said}", "try again"),
    ("25P03", "has ended a connection that was idle for too long", "try again"),
    ("58", "cannot be read or written: {said}", "look at the server's log"),
    ("XX", "is damaged: {said}", "look at the server's log"),
    ("08P01", "is behind a pooler that refuses our settings: {said}", "PgBouncer: ignore_startup_parameters = options"),
    ("08", "cannot be reached: {said}", "check that the server runs and that the URL is right"),
)


PASSING = {"40", "57P03", "57P", "25P03", "08"}

# What libpq says where no connection was made: it keeps the SQLSTATE to itself.
REFUSALS = (
    (re.compile(r'database "[^"]*" does not exist'), "3D000"),
    (
        re.compile(r"authentication failed|no pg_hba.conf entry|role \"[^\"]*\" (does not exist|is not permitted)"),
        "28000",
    ),
    (re.compile(r"too many (clients|connections)|remaining connection slots"), "53300"),
    (re.compile(r"the database system is"), "57P03"),
    (re.compile(r"no password supplied"), "28000"),
    (re.compile(r"unsupported startup parameter"), "08P01"),
)


def explain(error: Exception, place: str, busy: timedelta) -> Exception:
    """`error` is the driver's own, or SQLAlchemy's around it."""
    original = getattr(error, "orig", None) or error
    said = (str(original).strip().splitlines() or [type(original).__name__])[0]
    state = getattr(original, "sqlstate", None) or _state_of(str(original))
    for begins, meaning, remedy in MEANINGS:
        if state.startswith(begins):
            told = meaning.format(busy=busy.total_seconds(), said=said)
            kind = BrokenOff if begins in PASSING else DatabaseUnavailable
            return kind(f"the database {place} {told}", remedy)
    if isinstance(error, (OperationalError, psycopg.OperationalError, InterfaceError, psycopg.InterfaceError)):
        meaning, remedy = MEANINGS[-1][1:]
        return BrokenOff(f"the database {place} {meaning.format(said=said)}", remedy)
    return error


def _state_of(said: str) -> str:
    return next((state for pattern, state in REFUSALS if pattern.search(said)), "")
