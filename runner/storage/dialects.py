"""What differs between databases, behind three shapes: a `Server` for connections, `Hot` for the claim, `Rows` for
what comes in.

`storage/sqlite.py` and `storage/postgres.py` are the servers. All other statements are of SQLAlchemy Core, and the
same on both but for the insert that may meet a conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

from sqlalchemy import Connection, Engine, Table, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError

from runner.domain.compact import encoding
from runner.domain.errors import UsageError
from runner.domain.job import Run
from runner.domain.urls import without_password

if TYPE_CHECKING:
    from runner.domain.revision import Revision
    from runner.storage.poke import Bell

Door = Literal["durable", "relaxed", "reader", "outside"]  # the last is in no transaction
Lanes = Mapping[tuple[str, str], str | None]  # (queue, type) -> the name of its limit
DOUBT = "runner.doubt"
MODULES = {"sqlite": "sqlite", "postgresql": "postgres", "postgres": "postgres"}  # what a database is called -> ours
WRITE = "write sqlite:///runner.db, the path of a file, or postgresql://USER@HOST:PORT/NAME"
End = tuple[str, str | None, str | None, int, float | None, int, str]
"""Of a run: status, result as JSON text, error, stalls, progress or None to leave it, id of the job, token."""


class Claim(NamedTuple):
    """What a claim asks for: up to `free` jobs of these lanes; with `schedules`, only jobs that these fired."""

    lanes: Lanes
    free: int
    schedules: frozenset[str] | None
    token: str  # fresh
    worker_id: str


class Server(Protocol):
    """How one database is reached, and what its errors mean."""

    name: str
    url: str
    place: str  # what messages call it
    missing: tuple[str, str]  # that it was never set up, and the remedy
    elsewhere: str  # how another place is named, where this one is taken
    file: Path | None  # where it is a file
    faults: tuple[type[Exception], ...]

    def engine(self, door: Door) -> Engine: ...

    def turns(self) -> AbstractContextManager[Any]:
        """Who may write at the same time in this process: a lock, or a semaphore."""

    def begin(self, connection: Connection) -> None: ...

    def alone(self, connection: Connection) -> None:
        """From here to the end of the transaction nobody else who asks for it is at work."""

    def is_alive(self, connection: Connection) -> bool:
        """Whether a held connection can be used."""

    def found(self) -> Hashable | None:
        """Which database is there now; None where there is none yet."""

    def explain(self, error: Exception) -> Exception:
        """What the driver's error means for a caller; anything unknown is given back as it is."""

    def bell(self) -> Bell: ...

    def version(self, connection: Connection) -> int:
        """A number that is another one when another connection has committed."""

    def check(self) -> None:
        """Raise where such a database cannot be set up there."""

    def copy(self, connection: Connection, path: Path) -> None:
        """Copy the database of this connection into a new SQLite file."""

    def trouble(self, connection: Connection) -> str | None:
        """What a quick check finds wrong, or None."""

    def sizes(self, connection: Connection) -> dict[str, Any]:
        """Bytes of the database and of its write-ahead log, and its journal mode; None where that means nothing."""

    def tables(self, connection: Connection) -> set[str]:
        """The names of the tables that are there."""


class Hot(Protocol):
    """The statements that each job passes through once, by the driver itself: a module for each database."""

    def now(self, connection: Connection) -> datetime:
        """The clock by which all machines go that share this database."""

    def claim(self, connection: Connection, wanted: Claim, now: datetime) -> list[Run]:
        """The most urgent due jobs of these lanes, now running: by priority, then `run_at`, then id. The last of its
        transaction, with its commit where there is a server."""

    def finish(self, connection: Connection, ends: Sequence[End], now: datetime) -> list[bool]:
        """Write the ends of runs; which of them still held their claim."""

    def finish_and_claim(
        self, connection: Connection, ends: Sequence[End], wanted: Claim, now: datetime
    ) -> tuple[list[bool], list[Run]]:
        """One after the other and, as the last of their transaction, with its commit on one journey to the server."""

    def hold(self, connection: Connection, schedules: Sequence[str]) -> None:
        """Until the commit nobody else ends a job of these schedules, or lets one wait for another."""

    def lanes(self, connection: Connection) -> list[tuple[str, str]]:
        """The (queue, type) pairs that have pending jobs, a seek for each, however many jobs there are."""

    def next_due(self, connection: Connection, lanes: Lanes, schedules: frozenset[str] | None) -> datetime | None:
        """When the next pending job of these lanes is due, one seek for each lane and priority."""


class Rows(Protocol):
    """How rows come in, by the driver itself: a module for each database."""

    def insert_many(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Insert rows, at least one, and give their ids in order."""

    def insert_alone(
        self, connection: Connection, table: Table, row: Mapping[str, Any], under: Revision | None, told: str | None
    ) -> int | None:
        """Insert a row, as all that its transaction does; where there is a server, it is committed then, and the
        statement `told` is sent behind it. Gives its id, or None, and inserts nothing, where another revision is in
        force than `under`."""

    def counted(self, connection: Connection, table: Table) -> int:
        """The highest number that the table's counter has given; 0 where it has none, or has given none."""

    def count_from(self, connection: Connection, table: Table, last: int) -> None:
        """The next number is above `last`, where the table has a counter."""


def server(url: str, busy_timeout: timedelta) -> Server:
    """The server of a URL; a bare path is taken for a SQLite file."""
    if "://" not in url:
        url = f"sqlite:///{url}"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the second of a port that is no number
        raise UsageError(f"not a database URL: {without_password(url)}", WRITE) from None
    kind = MODULES.get(parsed.get_backend_name())
    if kind is None:
        raise UsageError(f"no such database: {parsed.get_backend_name()}", WRITE)
    return cast("Server", import_module(f"runner.storage.{kind}").server(parsed, busy_timeout))


def commit(connection: Connection) -> None:
    """By the driver itself: SQLAlchemy's own takes as long as a claim. It takes note where it has seen a statement."""
    connection.connection.dbapi_connection.commit()  # type: ignore[union-attr]
    if connection.in_transaction():
        connection.commit()


def went_with_commit(connection: Connection) -> None:
    """What has failed was sent together with the commit, which may have been carried out."""
    connection.info[DOUBT] = True


def is_in_doubt(connection: Connection) -> bool:
    """One that SQLAlchemy knows to be lost keeps no notes: it was lost before its commit."""
    return not connection.invalidated and bool(connection.info.pop(DOUBT, False))


def hot(connection: Connection) -> Hot:
    return cast("Hot", _module("hot", connection.dialect.name))


def rows_of(connection: Connection) -> Rows:
    return cast("Rows", _module("rows", connection.dialect.name))


@cache
def _module(purpose: str, dialect: str) -> object:
    return import_module(f"runner.storage.{purpose}_{MODULES[dialect]}")


def insert(connection: Connection, table: Table) -> Any:
    """An insert that knows `on_conflict_do_nothing`."""
    return INSERTS[connection.dialect.name](table)


INSERTS: Mapping[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


_encode = encoding(ensure_ascii=False)


def compact_json(value: Any) -> str:
    """A function of its own: the driver wants no closure."""
    return _encode(value)
