"""SQLite: one file on one machine, one writer at a time, three ways in.

Durable writes (`synchronous=FULL`), relaxed writes (`NORMAL`: a power cut may lose the last of them) and reads.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Hashable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from runner.domain.errors import DatabaseUnavailable, UsageError
from runner.storage.dialects import Door, compact_json
from runner.storage.poke import SocketBell

NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "9p", "fuse.sshfs", "ceph", "glusterfs"}
BEGIN_WRITE = "BEGIN IMMEDIATE"
RACY_BEFORE = (3, 51, 3)
MENDED = {(3, 44, 6), (3, 50, 7)}
FAULTS = (DatabaseError, InterfaceError, sqlite3.Error)


def server(url: URL, busy_timeout: timedelta) -> Sqlite:
    if not url.database or url.database == ":memory:":
        raise UsageError("a database in memory is gone with its connection", "name a file: sqlite:///runner.db")
    return Sqlite(Path(url.database).expanduser().absolute(), busy_timeout)


class Sqlite:
    """One file."""

    name = "sqlite"
    faults = FAULTS

    def __init__(self, file: Path, busy_timeout: timedelta) -> None:
        self.file = file
        self.place = str(file)
        self.elsewhere = "name another file with --database-url"
        self.missing = f"there is no database at {file} yet", "runner apply creates it"
        self.url = f"sqlite:///{file}"
        self._busy_timeout = busy_timeout

    def engine(self, door: Door) -> Engine:
        return engine(
            self.file, self._busy_timeout, write=door in ("durable", "relaxed"),
            synchronous="FULL" if door == "durable" else "NORMAL", autocommit=door == "outside",
        )  # fmt: skip

    def turns(self) -> threading.Lock:
        """One at a time: the others would wait at the database, where nobody is first."""
        return threading.Lock()

    def begin(self, connection: Connection) -> None:
        """Take the write lock, by the driver itself: SQLAlchemy's own begin and commit cost as much as a claim."""
        connection.connection.dbapi_connection.execute(BEGIN_WRITE)  # type: ignore[union-attr]

    def is_alive(self, connection: Connection) -> bool:
        return True

    def alone(self, connection: Connection) -> None:
        """Every writer is."""

    def found(self) -> Hashable | None:
        """Which file is there now, by device and inode. An empty file is no database yet; what cannot be looked at is
        there: SQLite says what is wrong with it."""
        try:
            found = os.stat(self.place)  # noqa: PTH116 - asked at each transaction
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return (0, 0)
        is_empty = found.st_size == 0 and stat.S_ISREG(found.st_mode)
        return None if is_empty else (found.st_dev, found.st_ino)

    def explain(self, error: Exception) -> Exception:
        return explain(error, self.file, self._busy_timeout)

    def bell(self) -> SocketBell:
        return SocketBell(self.file)

    def version(self, connection: Connection) -> int:
        """SQLite's own number, by the bare driver: a tenth of the time, for who asks at every wake-up."""
        bare = connection.connection.dbapi_connection
        return int(bare.execute("PRAGMA data_version").fetchone()[0])  # type: ignore[union-attr]

    def check(self) -> None:
        kind = network_file_system(self.file)
        if kind is not None:
            raise DatabaseUnavailable(
                f"the database {self.file} lies on a network file system ({kind}), where SQLite's WAL mode loses data",
                "put it on a local disk",
            )
        if not self.file.parent.is_dir():
            raise DatabaseUnavailable(
                f"the folder of the database, {self.file.parent}, does not exist", "create it, or give another path"
            )

    def copy(self, connection: Connection, path: Path) -> None:
        source = connection.connection.dbapi_connection
        target = sqlite3.connect(path)
        try:
            source.backup(target)  # type: ignore[union-attr]
        finally:
            target.close()

    def trouble(self, connection: Connection) -> str | None:
        said = str(connection.execute(text("PRAGMA quick_check(1)")).scalar_one())
        return None if said == "ok" else said

    def sizes(self, connection: Connection) -> dict[str, Any]:
        mode = str(connection.execute(text("PRAGMA journal_mode")).scalar_one())
        beside = self.file.with_name(f"{self.file.name}-wal")
        return {"bytes": _size(self.file), "wal_bytes": _size(beside), "journal_mode": mode}

    def tables(self, connection: Connection) -> set[str]:
        return set(connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


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

    def start(connection: Any) -> None:
        bare = connection.dbapi_connection
        if not bare.in_transaction:  # which `Sqlite.begin` has begun
            bare.execute(begin)

    made.dialect.do_begin = start  # type: ignore[assignment, method-assign]  # an event would be asked about at each statement
    return made


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


MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("database is locked", "is locked by another process for longer than {busy:g} s", "end that process, or try again"),
    ("database table is locked", "is locked by another connection", "try again"),
    ("readonly database", "is read-only", "make the file and its folder writable for this user"),
    ("unable to open database file", "cannot be opened", "check that its folder exists and may be written"),
    ("file is not a database", "is not a SQLite database", "name another file with --database-url"),
    ("file is encrypted", "is not a SQLite database", "name another file with --database-url"),
    ("disk image is malformed", "is damaged", "restore a backup, or recover it: sqlite3 FILE .recover"),
    ("database or disk is full", "cannot grow: the disk is full", "free some space; nothing was changed"),
    ("disk i/o error", "cannot be read or written: disk error", "check the disk and the space left on it"),
    ("no such table", "is not one of ours, or was never set up", "runner migrate up"),
    ("no such column", "has an older schema", "runner migrate up"),
)


def explain(error: Exception, path: Path, busy: timedelta) -> Exception:
    """`error` is the driver's own, or SQLAlchemy's around it."""
    original = getattr(error, "orig", error)
    said = str(original).lower()
    for fragment, meaning, remedy in MEANINGS:
        if fragment in said:
            return DatabaseUnavailable(f"the database {path} {meaning.format(busy=busy.total_seconds())}", remedy)
    if isinstance(error, (OperationalError, sqlite3.OperationalError)):
        return DatabaseUnavailable(f"the database {path} answered: {original}", "runner doctor")
    return error
