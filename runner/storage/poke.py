"""Telling live workers, once a transaction is committed, that there may be work: a byte to the socket each one names.

A worker's row holds the bare name of its socket, which lies beside the database file. Nothing here ever waits or
fails: who was not reached looks for itself a second later.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

MARK = "runner.poke"
CHANNEL = "runner_wake"  # of PostgreSQL
LONGEST = 107  # bytes of a socket's path that the kernel takes
PREFIX = 16  # characters of the database's name that begin the name of a socket, which must not grow too long either

_SOCKETS = "SELECT wake_socket FROM workers WHERE wake_socket IS NOT NULL"


def socket_file(database: Path, worker_id: str) -> Path:
    """Where a worker's socket lies."""
    real = real_file(database)
    return real.with_name(f"{real.name[:PREFIX]}.{worker_id}.sock")


def real_file(database: Path) -> Path:
    """The file itself, by whatever links it was reached: all who use it look for sockets in the same folder."""
    return Path(os.path.realpath(database))


def reach(call: Callable[[str], object], file: Path) -> None:
    """A socket call with the address of this file. One whose path is too long is reached through its folder."""
    place = str(file)
    if len(os.fsencode(place)) <= LONGEST:
        call(place)
        return
    folder = os.open(file.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        call(f"/proc/self/fd/{folder}/{file.name}")
    finally:
        os.close(folder)


def send(folder: Path, names: Iterable[str]) -> None:
    """One byte to each of these sockets. One that is full has been told already; one that is dead does not matter."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        for name in names:
            if os.sep not in name:  # a row must not make us write anywhere else
                with suppress(OSError):
                    reach(partial(sender.sendto, b"\0"), folder / name)


def sweep(database: Path) -> None:
    """Remove the sockets that killed workers left: nobody listens there, and nobody ever will."""
    real = real_file(database)
    for file in real.parent.glob(f"{_literally(real.name[:PREFIX])}.*.sock"):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as caller:
            try:
                reach(caller.connect, file)
            except ConnectionRefusedError:
                file.unlink()


def _literally(name: str) -> str:
    return "".join(f"[{one}]" if one in "*?[" else one for one in name)


# ---- transactions of ours


class Listening(Protocol):
    def close(self) -> None: ...


class Bell:
    """Who is woken by the commits of one Database: the listeners of this process, by a call."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []
        self.hears = False  # whether what other processes commit rings here too, so that nobody need look
        self.rung = 0

    def listen(self, wake: Callable[[], None]) -> None:
        """`wake` is called from any thread, often for nothing, and must be quick."""
        self._listeners = [*self._listeners, wake]

    def forget(self, wake: Callable[[], None]) -> None:
        self._listeners = [one for one in self._listeners if one != wake]

    def ring(self) -> None:
        self.rung += 1
        for wake in self._listeners:
            wake()

    def whom(self, connection: Connection) -> list[str]:
        """Whom to tell besides, as this transaction sees them."""
        return []

    def tell(self, names: Iterable[str]) -> None:
        """After the commit."""
        self.ring()

    def along(self) -> str | None:
        """A statement to send behind a transaction, on the same journey, that tells the others; None: they are told
        by `tell`. What was to be told before goes with it."""
        return None

    def listener(self) -> Listening | None:
        """What rings for the commits of other processes, until it is closed; None where each worker has a socket."""
        return None

    def close(self) -> None:
        """After what is still to be told."""


class SocketBell(Bell):
    """Other workers are told by their sockets. `sockets` are our own, whose listeners the call has woken already."""

    def __init__(self, database: Path) -> None:
        super().__init__()
        self._folder = real_file(database).parent
        self.sockets: set[str] = set()

    def whom(self, connection: Connection) -> list[str]:
        bare = connection.connection.driver_connection  # a tenth of the time, and others wait for this transaction
        return [name for (name,) in bare.execute(_SOCKETS)]  # type: ignore[union-attr]

    def tell(self, names: Iterable[str]) -> None:
        self.ring()
        others = [name for name in names if name not in self.sockets]
        if others:
            send(self._folder, others)


def mark(connection: Connection) -> None:
    """Let this transaction, once committed, poke the live workers."""
    connection.info[MARK] = True


def was_marked(connection: Connection) -> bool:
    """Whether it was asked for since this was last asked."""
    return bool(connection.info.pop(MARK, False))


# ---- transactions of a program


NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', '')")


def file_of(connection: Connection) -> Path | None:
    """The file behind a connection, of whatever engine; None where there is none."""
    found = connection.exec_driver_sql("SELECT file FROM pragma_database_list WHERE name = 'main'").scalar()
    return Path(found) if found else None


@dataclass(frozen=True, slots=True)
class _Waiting:
    connection: Connection
    folder: Path
    names: list[str]


def after_commit(session: Session) -> None:
    """Poke when the program's own transaction is committed, never before. A savepoint is no commit."""
    session = getattr(session, "registry", lambda: session)()  # a scoped_session stands for the one behind it
    connection = session.connection()
    was_marked(connection)  # by our own insert: from here on the session knows
    if connection.dialect.name == "postgresql":
        connection.execute(NOTIFY)  # the server tells it after the commit, and at no other time
        return
    database = file_of(connection)
    try:
        names = list(connection.exec_driver_sql(_SOCKETS).scalars())  # a program may have any driver, asyncio's too
    except OperationalError:  # a schema from before there were sockets: its workers look for themselves
        return
    if not names or database is None:
        return
    session.info[MARK] = _Waiting(connection, real_file(database).parent, names)
    for moment, what in (("after_commit", _committed), ("after_rollback", _rolled_back)):
        if not event.contains(session, moment, what):
            event.listen(session, moment, what)


def _committed(session: Session) -> None:
    waiting = session.info.get(MARK)
    if waiting is None or waiting.connection.in_transaction():
        return  # not the end yet: of a savepoint, or of a session inside a transaction of somebody else
    del session.info[MARK]
    send(waiting.folder, waiting.names)


def _rolled_back(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info.pop(MARK, None)
