"""The connection to the database: engines, transactions, and what their errors mean for a caller.

On SQLite there is one writer at a time. Three engines speak to the one file: durable writes (`synchronous=FULL`),
relaxed writes (`NORMAL`: a power cut may lose the last of them) and reads. No transaction stays open while a
handler runs.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, OperationalError

from runner.domain.errors import DatabaseUnavailable, NotThereYet, UsageError
from runner.storage import dialects, poke

FAULTS = (DatabaseError, InterfaceError, dialects.DriverError)
BUSY_TIMEOUT = timedelta(seconds=15)


class DatabaseMissing(DatabaseUnavailable):
    """There is no database yet, and the call is one of those that never create one."""


class Database:
    """The doors to one database. Safe to share between threads, not between processes (open it again there)."""

    def __init__(self, url: str, *, busy_timeout: timedelta = BUSY_TIMEOUT) -> None:
        self.url = absolute_url(url)
        self.path = Path(make_url(self.url).database or "")
        self.busy_timeout = busy_timeout
        self._durable: Engine = dialects.engine(self.path, busy_timeout, write=True, synchronous="FULL")
        self._relaxed: Engine = dialects.engine(self.path, busy_timeout, write=True, synchronous="NORMAL")
        self._reader: Engine = dialects.engine(self.path, busy_timeout, write=False, synchronous="NORMAL")
        self._turn = threading.Lock()
        self._writers: dict[Engine, Connection] = {}  # held: fetching one costs more than a commit
        self.bell = poke.Bell(self.path)
        self._outside: Engine = dialects.engine(
            self.path, busy_timeout, write=False, synchronous="NORMAL", autocommit=True
        )
        self._watching = threading.Lock()
        self._watcher: Connection | None = None
        self._watchers = 0
        self._file: tuple[int, int] | None = None  # which our connections have open
        self._files = self._held_of = 0

    @property
    def exists(self) -> bool:
        """An empty file is no database yet. What cannot be looked at is there: SQLite says what is wrong with it."""
        return self._found() is not None

    def _found(self) -> tuple[int, int] | None:
        """Which file is there now, by device and inode."""
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return (0, 0)
        is_empty = found.st_size == 0 and stat.S_ISREG(found.st_mode)
        return None if is_empty else (found.st_dev, found.st_ino)

    @contextmanager
    def write(self, *, durable: bool = True, urgent: bool = False, create: bool = False) -> Iterator[Connection]:
        """A write transaction, committed at the end of the block or rolled back whole. What it marked is poked then.

        Writers of this process take turns; an `urgent` one (the heartbeat) queues at the database alone.
        """
        engine = self._durable if durable else self._relaxed
        if urgent:
            self._require()
            with self._transaction(engine) as connection:
                yield connection
            return
        with self._turn:
            held = None
            try:
                held = self._writer(engine, create)
                dialects.begin_write(held)
                yield held
                sockets = poke.take(held)
                dialects.commit(held)
            except BaseException as error:
                self._drop(engine, held)
                if isinstance(error, FAULTS):
                    raise self.explain(error) from error
                raise
            if sockets is not None:
                self.bell.tell(sockets)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A short read transaction: one consistent snapshot."""
        self._require()
        with self._transaction(self._reader) as connection:
            yield connection

    def data_version(self) -> int:
        """A number that is another one when somebody committed since the last call, in whatever process and by whatever
        program; our own commits count too. Costs microseconds."""
        self._require()
        with self._watching:
            try:
                if self._watcher is None:
                    # Held, and outside any transaction: the number means something on its own connection alone.
                    self._watcher, self._watchers = self._outside.connect(), self._watchers + 1
                found = dialects.data_version(self._watcher)
            except FAULTS as error:
                raise self.explain(error) from error
        return (self._watchers << 32) + found

    def changes(self) -> Callable[[], bool]:
        """A question to ask again and again: did anybody commit since it was last asked? The first answer is yes."""
        known: int | None = None

        def changed() -> bool:
            nonlocal known
            before, known = known, self.data_version()
            return known != before

        return changed

    def _require(self) -> None:
        """An open connection would go on in a file that was deleted or replaced, where nobody finds what it writes."""
        found = self._found()
        if found is None:
            self._let_go()
            raise DatabaseMissing(f"there is no database at {self.path} yet", "runner apply creates it")
        if found != self._file:
            if self._file is not None:
                self._let_go()
            self._file = found

    def _let_go(self) -> None:
        """Of the file that was there. A connection that another thread is using is not closed under its feet."""
        self._files += 1
        self._close_watcher()
        self._dispose()

    def copy_to(self, path: Path) -> str:
        """A consistent copy of the whole database as it is now, for a dry run; returns its URL."""
        if self.exists:
            with self._transaction(self._reader) as connection:
                dialects.copy(connection, path)
        return f"sqlite:///{path}"

    def integrity(self) -> str | None:
        """What SQLite's quick check finds wrong, or None."""
        with self.read() as connection:
            said = str(connection.execute(text("PRAGMA quick_check(1)")).scalar_one())
        return None if said == "ok" else said

    def _writer(self, engine: Engine, create: bool) -> Connection:
        """Called by whose turn it is."""
        if not create:
            self._require()
        if self._held_of != self._files:
            self._close_writers()
            self._held_of = self._files
        held = self._writers.get(engine)
        if held is None or held.closed or held.invalidated:
            held = self._writers[engine] = engine.connect()
            poke.unmark(held)  # what a transaction that was rolled back has left on it
        return held

    def _drop(self, engine: Engine, held: Connection | None) -> None:
        """Whatever state it is in; closing rolls back."""
        self._writers.pop(engine, None)
        if held is not None:
            held.close()

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        with self._explained(), engine.begin() as connection:
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except FAULTS as error:
            raise self.explain(error) from error

    def explain(self, error: Exception) -> Exception:
        """What the driver's error means for a caller; anything unknown is given back as it is."""
        return explain(error, self.path, self.busy_timeout)

    def close(self) -> None:
        self._close_watcher()
        self._close_writers()
        self._dispose()

    def _close_watcher(self) -> None:
        with self._watching:
            if self._watcher is not None:
                self._watcher.close()
                self._watcher = None

    def _close_writers(self) -> None:
        while self._writers:
            _, held = self._writers.popitem()
            held.close()

    def _dispose(self) -> None:
        for engine in (self._durable, self._relaxed, self._reader, self._outside):
            engine.dispose()


def absolute_url(url: str) -> str:
    """The URL with its file as an absolute path; a bare path is taken for a SQLite file."""
    if "://" not in url:
        url = f"sqlite:///{url}"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UsageError(f"not a database URL: {url}", "write sqlite:///runner.db or the path of a file") from None
    if parsed.get_backend_name() == "postgresql":
        raise NotThereYet("PostgreSQL comes with a later release", "use a SQLite file: sqlite:///runner.db")
    if parsed.get_backend_name() != "sqlite":
        raise UsageError(f"no such database: {parsed.get_backend_name()}", "write sqlite:///runner.db")
    if not parsed.database or parsed.database == ":memory:":
        raise UsageError("a database in memory is gone with its connection", "name a file: sqlite:///runner.db")
    return f"sqlite:///{Path(parsed.database).expanduser().absolute()}"


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
    if isinstance(error, (OperationalError, dialects.DriverOperationalError)):
        return DatabaseUnavailable(f"the database {path} answered: {original}", "runner doctor")
    return error
