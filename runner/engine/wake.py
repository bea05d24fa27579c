"""The ear of a worker: what others commit wakes it, in the same process by a call, from another by its socket."""

from __future__ import annotations

import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from runner.storage import poke
from runner.storage.database import Database
from runner.storage.poke import Bell, Listening, SocketBell

BACKLOG = 64  # bytes taken at once: the kernel keeps about ten, and they all say the same


class Hearing(Protocol):
    """What calls `wake`, from any thread, after each commit that may have made work."""

    @property
    def name(self) -> str | None:
        """What the worker's row tells those who poke."""

    def close(self) -> None: ...


def hear(database: Database, worker_id: str, wake: Callable[[], None]) -> Hearing:
    listening = database.bell.listener()
    return Ear(database, worker_id, wake) if listening is None else FarEar(database.bell, listening, wake)


class FarEar:
    """Hears the commits of this process by a call, and those of others by what the server tells."""

    name = None

    def __init__(self, bell: Bell, listening: Listening, wake: Callable[[], None]) -> None:
        self._bell, self._listening, self._wake = bell, listening, wake
        self._bell.listen(wake)

    def close(self) -> None:
        self._bell.forget(self._wake)
        self._listening.close()


class Ear:
    """Calls `wake`, from any thread, after each commit that may have made work. Costs nothing while there is none.

    `name` is what the worker's row tells others. It is None where the file system has no sockets: the worker then
    sees what other processes enqueue when it looks itself. What comes by the socket wakes all who listen to
    `database.bell`.
    """

    def __init__(self, database: Database, worker_id: str, wake: Callable[[], None]) -> None:
        assert isinstance(database.bell, SocketBell), "other databases have other ears"
        self._bell, self._wake = database.bell, wake
        self._file = poke.socket_file(database.path, worker_id)
        self._socket = _bound(self._file, database.path)
        self._closed = False
        self._bell.listen(wake)
        if self._socket is not None:
            self._bell.sockets.add(self._file.name)
            self._thread = threading.Thread(target=self._serve, args=(self._socket,), name="wake", daemon=True)
            self._thread.start()

    @property
    def name(self) -> str | None:
        return self._file.name if self._socket is not None else None

    def close(self) -> None:
        self._bell.forget(self._wake)
        self._closed = True
        if self._socket is None:
            return
        with suppress(FileNotFoundError):
            self._file.unlink()
        self._socket.shutdown(socket.SHUT_RD)  # ends the wait of the thread
        self._thread.join()
        self._socket.close()
        self._bell.sockets.discard(self._file.name)

    def _serve(self, poked: socket.socket) -> None:
        while True:
            poked.recv(1)
            if self._closed:
                return
            with suppress(BlockingIOError):
                for _ in range(BACKLOG):
                    poked.recv(1, socket.MSG_DONTWAIT)
            self._bell.ring()


def _bound(file: Path, database: Path) -> socket.socket | None:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        poke.reach(made.bind, file)
    except OSError:
        made.close()
        return None
    with suppress(OSError):  # who may write the database may poke, whatever our umask is
        file.chmod(stat.S_IMODE(database.stat().st_mode) & 0o666)
    return made
