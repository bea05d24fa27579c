"""What differs between databases: how a connection is made, and the statements that only one of them understands."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

insert = sqlite.insert
DriverError, DriverOperationalError = sqlite3.Error, sqlite3.OperationalError

NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "9p", "fuse.sshfs", "ceph", "glusterfs"}
BEGIN_WRITE = "BEGIN IMMEDIATE"
RACY_BEFORE = (3, 51, 3)
MENDED = {(3, 44, 6), (3, 50, 7)}


def engine(
    path: Path, busy_timeout: timedelta, *, write: bool, synchronous: str, autocommit: bool = False
) -> Engine:  # fmt: skip
    """An engine on a SQLite file. A write engine takes the write lock before it reads."""
    made = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=8,
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": busy_timeout.total_seconds()},
        json_serializer=compact_json,
        json_deserializer=json.loads,
    )
    settings = _pragmas(path, busy_timeout, write, synchronous)

    @event.listens_for(made, "connect")
    def prepare(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        if write:
            _switch_to_wal(connection, busy_timeout)
        for statement in settings:
            connection.execute(statement).fetchall()

    if autocommit:
        return made
    begin = BEGIN_WRITE if write else "BEGIN"

    @event.listens_for(made, "begin")
    def start(connection: Any) -> None:
        bare = connection.connection.driver_connection
        if not bare.in_transaction:  # which `begin_write` has begun
            bare.execute(begin)

    return made


def begin_write(connection: Connection) -> None:
    """Take the write lock, by the driver itself: SQLAlchemy's own begin and commit cost as much as a claim."""
    connection.connection.driver_connection.execute(BEGIN_WRITE)  # type: ignore[union-attr]


def commit(connection: Connection) -> None:
    """End what `begin_write` began; SQLAlchemy takes note where it has seen a statement."""
    connection.connection.driver_connection.commit()  # type: ignore[union-attr]
    if connection.in_transaction():
        connection.commit()


def _switch_to_wal(connection: sqlite3.Connection, patience: timedelta) -> None:
    """SQLite does not wait here, whatever its timeout says: processes that start together would refuse each other."""
    deadline = time.monotonic() + patience.total_seconds()
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _pragmas(path: Path, busy_timeout: timedelta, write: bool, synchronous: str) -> list[str]:
    settings = [f"PRAGMA busy_timeout = {int(busy_timeout.total_seconds() * 1000)}"]
    if not write:
        settings.append("PRAGMA query_only = ON")
    return [
        *settings,
        f"PRAGMA synchronous = {synchronous}",
        "PRAGMA journal_size_limit = 67108864",
        "PRAGMA cache_size = -16384",
        "PRAGMA temp_store = MEMORY",
    ]


def insert_many(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
    """Insert rows, at least one, and give their ids in order.

    AUTOINCREMENT counts up by one within a transaction that holds the write lock, so the last id tells them all; asking
    for each with RETURNING takes twice as long.
    """
    connection.execute(insert(table), rows)
    last = int(connection.exec_driver_sql("SELECT last_insert_rowid()").scalar_one())
    return range(last - len(rows) + 1, last + 1)


def file_of(connection: Connection) -> Path | None:
    """The file behind a connection, of whatever engine; None where there is none."""
    found = connection.exec_driver_sql("SELECT file FROM pragma_database_list WHERE name = 'main'").scalar()
    return Path(found) if found else None


def data_version(connection: Connection) -> int:
    """SQLite's own number, by the bare driver: a tenth of the time, for who asks at every wake-up."""
    bare = connection.connection.driver_connection
    return int(bare.execute("PRAGMA data_version").fetchone()[0])  # type: ignore[union-attr]


def copy(connection: Connection, path: Path) -> None:
    """Copy the database of this connection into a new file."""
    source = connection.connection.dbapi_connection
    target = sqlite3.connect(path)
    try:
        source.backup(target)  # type: ignore[union-attr]
    finally:
        target.close()


def compact_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sqlite_library() -> tuple[str, bool]:
    """The version of the SQLite library in use, and whether it has the race between processes in WAL mode.

    Versions before 3.51.3 can lose commits or damage a file when several processes write (sqlite.org/wal.html).
    """
    version = sqlite3.sqlite_version_info
    affected = version < RACY_BEFORE and version not in MENDED
    return sqlite3.sqlite_version, affected


def network_file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The kind of network file system that `path` lies on, or None. WAL needs memory that all its processes share."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    place, found = path.absolute(), ("", "")
    for line in lines:
        _, mount, kind, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        if place.is_relative_to(mount) and len(mount) >= len(found[0]):
            found = (mount, kind)
    return found[1] if found[1] in NETWORK_FILE_SYSTEMS else None
