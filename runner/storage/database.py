"""The doors to the database: transactions, held connections, and what errors mean for a caller.

Durable writes, relaxed writes (a power cut may lose the last of them), and reads. What differs between databases is
behind `dialects.Server`. No transaction stays open while a handler runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine

from runner.domain.errors import BrokenOff, CommitInDoubt, DatabaseUnavailable, RunnerError
from runner.storage import dialects, poke

BUSY_TIMEOUT = timedelta(seconds=15)
CLOCK_KEPT = 60.0  # seconds for which what the database's clock said is trusted
PAUSES = (0.05, 0.25, 1.0)  # seconds before what was broken off is tried again
CLOCK_AGAIN = 1.0  # seconds until it is asked again, where it could not be asked
ASKED = 5  # times: the quickest answer counts. Who is a millisecond ahead enqueues what is not due yet for the others
NET = 8.0  # seconds after which who hears of every commit looks all the same
SPARE = 30.0  # seconds after which a second connection for writes that nobody has needed is closed


Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


class DatabaseMissing(DatabaseUnavailable):
    """There is no database yet, and the call is one of those that never create one."""


def persistent(call: Callable[Parameters, Answer]) -> Callable[Parameters, Answer]:
    """Of a store, what is one transaction: done again where it was broken off from outside, a few times."""

    @wraps(call)
    def tried(*given: Parameters.args, **named: Parameters.kwargs) -> Answer:
        for pause in PAUSES:
            try:
                return call(*given, **named)
            except BrokenOff:
                time.sleep(pause)
        return call(*given, **named)

    return tried


class Database:
    """The doors to one database. Safe to share between threads, not between processes (open it again there)."""

    def __init__(self, url: str, *, busy_timeout: timedelta = BUSY_TIMEOUT) -> None:
        self.server = dialects.server(url, busy_timeout)
        self.url = self.server.url
        self._durable: Engine = self.server.engine("durable")
        self._relaxed: Engine = self.server.engine("relaxed")
        self._reader: Engine = self.server.engine("reader")
        self._outside: Engine = self.server.engine("outside")
        self._turn = self.server.turns()
        self._writers: dict[Engine, list[tuple[Connection, float]]] = {}  # held, since when: to fetch one costs much
        self.bell = self.server.bell()
        self._reading = threading.local()  # the read transaction that each thread is in
        self._watching = threading.Lock()
        self._watcher: Connection | None = None
        self._watchers = 0
        self._there: Hashable | None = None  # which our connections have open
        self._files = self._held_of = 0
        # From this machine's clock to the database's, as that was last asked.
        self.offset, self._clock_due = timedelta(0), 0.0

    @property
    def place(self) -> str:
        """What messages call it."""
        return self.server.place

    @property
    def path(self) -> Path:
        """The file, of a database that is one."""
        assert self.server.file is not None, "only where there is a file"
        return self.server.file

    @property
    def is_file(self) -> bool:
        return self.server.file is not None

    @property
    def exists(self) -> bool:
        """Whether it was set up, as far as is seen from outside."""
        return self.server.found() is not None

    @contextmanager
    def write(
        self, *, durable: bool = True, urgent: bool = False, create: bool = False, alone: bool = False
    ) -> Iterator[Connection]:  # fmt: skip
        """A write transaction, committed at the end of the block or rolled back whole. What it marked is poked then.

        Writers of this process take turns; an `urgent` one (the heartbeat) queues at the database alone. Whoever wants
        to be `alone` is so among all processes who want it.
        """
        engine = self._durable if durable else self._relaxed
        if urgent:
            self._require()
            with self._transaction(engine) as connection:
                yield connection
            return
        with self._turn:
            held, is_committing = None, False
            try:
                held = self._writer(engine, create)
                self.server.begin(held)
                if alone:
                    self.server.alone(held)
                yield held
                names = self.bell.whom(held) if poke.was_marked(held) else None
                is_committing = True
                dialects.commit(held)
            except BaseException as error:
                if held is not None:
                    is_committing |= dialects.is_in_doubt(held)
                    self._discard(held, is_sound=not isinstance(error, self.server.faults))
                if isinstance(error, self.server.faults):
                    raise self._meaning(error, is_committing) from error
                raise
            self._keep(engine, held)
            if names is not None:
                self.bell.tell(names)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A short read transaction: one consistent snapshot. Inside another of the same thread: that one."""
        open_one: Connection | None = getattr(self._reading, "connection", None)
        if open_one is not None:
            with self._explained():
                yield open_one
            return
        self._require()
        with self._transaction(self._reader) as connection:
            self._reading.connection = connection
            try:
                yield connection
            finally:
                self._reading.connection = None

    def data_version(self) -> int:
        """A number that is another one when somebody committed since the last call, in whatever process and by whatever
        program; our own commits count too. Costs microseconds."""
        self._require()
        with self._watching:
            try:
                if self._watcher is None:
                    # Held, and outside any transaction: the number means something on its own connection alone.
                    self._watcher, self._watchers = self._outside.connect(), self._watchers + 1
                found = self.server.version(self._watcher)
            except self.server.faults as error:
                watcher, self._watcher = self._watcher, None
                if watcher is not None:
                    self._discard(watcher)
                raise self.explain(error) from error
        return (self._watchers << 32) + found

    def changes(self, *, asks: bool = True) -> Callable[[], bool]:
        """A question to ask again and again: did anybody commit since it was last asked? The first answer is yes.

        Where the bell hears what others commit, the answer costs nothing; it is yes now and then all the same. Where
        a server must be asked for it, and `asks` is False, it is yes each time.
        """
        known: tuple[str, int] | None = None
        asked = -NET

        def changed() -> bool:
            nonlocal known, asked
            before = known
            if not self.bell.hears and not (asks or self.is_file):
                return True
            if not self.bell.hears:
                known = ("version", self.data_version())
            elif time.monotonic() - asked < NET:
                known = ("rung", self.bell.rung)
            else:
                known, asked = ("rung", self.bell.rung), time.monotonic()
                return True
            return known != before

        return changed

    def _require(self) -> None:
        """An open connection would go on in a file that was deleted or replaced, where nobody finds what it writes."""
        found = self.server.found()
        if found is None:
            self._let_go()
            raise DatabaseMissing(*self.server.missing)
        if found != self._there:
            if self._there is not None:
                self._let_go()
            self._there = found

    def _let_go(self) -> None:
        """Of the file that was there. A connection that another thread is using is not closed under its feet."""
        self._files += 1
        self._close_watcher()
        self._dispose()

    def copy_to(self, path: Path) -> str:
        """A consistent copy of the whole database as it is now, in a new file, for a dry run; returns its URL."""
        if self.exists:
            with self.read() as connection:
                self.server.copy(connection, path)
        return f"sqlite:///{path}"

    def sizes(self) -> dict[str, Any]:
        """See `Server.sizes`."""
        with self.read() as connection:
            return self.server.sizes(connection)

    def now(self) -> datetime:
        """The time by which all go who share this database, from its clock as it was a minute ago at most."""
        if self.is_file:
            return datetime.now(UTC)
        if time.monotonic() >= self._clock_due:
            self._clock_due = time.monotonic() + CLOCK_AGAIN
            with suppress(RunnerError):  # while it cannot be asked, its clock is where it was
                self.offset = self.clock_offset()
                self._clock_due = time.monotonic() + CLOCK_KEPT
        return datetime.now(UTC) + self.offset

    def clock_offset(self) -> timedelta:
        """What is to be added to this machine's clock to have the database's; nothing for a file."""
        if self.is_file:
            return timedelta(0)
        with self.read() as connection:
            asked = [_asked(connection) for _ in range(1 + ASKED)]
        return min(asked[1:])[1]  # the first began the transaction

    def trouble(self) -> str | None:
        """What a quick check finds wrong, or None."""
        with self.read() as connection:
            return self.server.trouble(connection)

    def _keep(self, engine: Engine, held: Connection) -> None:
        """The last used is used first: what lies below it for long was for a busier time."""
        idle, now = self._writers.setdefault(engine, []), time.monotonic()
        idle.append((held, now))
        if len(idle) > 1:
            with suppress(IndexError):  # others take them at the same time
                if now - idle[0][1] > SPARE:
                    self._close_for_good(idle.pop(0)[0])

    def _writer(self, engine: Engine, create: bool) -> Connection:
        """Called by whose turn it is."""
        if not create:
            self._require()
        if self._held_of != self._files:
            self._close_writers()
            self._held_of = self._files
        idle = self._writers.setdefault(engine, [])
        while (held := _last(idle)) is not None:
            if not held.closed and not held.invalidated and self.server.is_alive(held):
                return held
            self._discard(held)
        held = engine.connect()
        poke.was_marked(held)  # what a transaction that was rolled back has left on it is forgotten
        return held

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        with self._explained(), engine.begin() as connection:
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self.server.faults as error:
            raise self.explain(error) from error

    def _meaning(self, error: Exception, is_committing: bool) -> Exception:
        told = self.explain(error)
        if is_committing and isinstance(told, DatabaseUnavailable):
            return CommitInDoubt(f"{told.message}, as it was to commit: whether it did is looked for", told.hint)
        return told

    def explain(self, error: Exception) -> Exception:
        """What the driver's error means for a caller; anything unknown is given back as it is."""
        return self.server.explain(error)

    def close(self) -> None:
        self.bell.close()
        self._close_watcher()
        self._close_writers()
        self._dispose()

    def _discard(self, held: Connection, *, is_sound: bool = False) -> None:
        """Whatever state it is in. What was not committed is rolled back: by itself, where no statement may reach it.

        A rollback that fails would hide what the commit has met, and keep the connection's place in the pool.
        """
        with suppress(*self.server.faults):
            if not is_sound and not held.closed:
                held.invalidate()
            held.close()

    def _close_watcher(self) -> None:
        with self._watching:
            watcher, self._watcher = self._watcher, None
            if watcher is not None:
                self._discard(watcher, is_sound=True)

    def _close_writers(self) -> None:
        while self._writers:
            _, idle = self._writers.popitem()
            for held, _ in idle:
                self._close_for_good(held)

    def _close_for_good(self, held: Connection) -> None:
        """Not back into its pool: that may be one that was disposed of, and then nobody would close it."""
        with suppress(*self.server.faults):
            held.detach()
        self._discard(held, is_sound=True)

    def _dispose(self) -> None:
        for engine in (self._durable, self._relaxed, self._reader, self._outside):
            engine.dispose()


def _asked(connection: Connection) -> tuple[timedelta, timedelta]:
    """How long the server's clock took to answer, and how far it was ahead in the middle of that time."""
    began = datetime.now(UTC)
    told = dialects.hot(connection).now(connection)
    took = datetime.now(UTC) - began
    return took, told - (began + took / 2)


def _last(idle: list[tuple[Connection, float]]) -> Connection | None:
    """Taken; others take at the same time."""
    try:
        return idle.pop()[0]
    except IndexError:
        return None
