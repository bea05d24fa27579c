"""Waking the workers of other machines on PostgreSQL: a NOTIFY after the commit, heard by who listens.

It is a hint and no more: payloads say nothing, a lost one costs a second look, and where a pooler swallows them all
the workers look by themselves. A NOTIFY takes a lock of the whole database at its commit, so it is never part of a
transaction of ours (though it may go to the server behind one), and few are sent however many transactions there are.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import psycopg

from runner.storage.poke import CHANNEL, Bell

STATEMENT = f"NOTIFY {CHANNEL}"
GAP = 0.01  # seconds between two of ours
LINGER = 1.0  # seconds without any, after which the thread that sends them ends
PROOF = 3.0  # seconds in which a listener must hear its own trial
AGAIN = (0.1, 15.0)  # seconds until the next try to connect, doubled each time, at most the second

Connect = Callable[[], psycopg.Connection[Any]]


class NotifyBell(Bell):
    """Listeners of this process by a call, those of others by NOTIFY: the first at once, then one for each gap."""

    def __init__(self, connect: Connect) -> None:
        super().__init__()
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._sent = -GAP
        self._deciding = threading.Lock()
        self.backend: int | None = None  # what the server calls our connection: who hears it has told it himself

    def tell(self, names: Iterable[str]) -> None:
        self.ring()
        if time.monotonic() - self._sent >= GAP and self._lock.acquire(blocking=False):
            try:
                self._send()
            finally:
                self._lock.release()
            return
        with self._deciding:
            self._wanted.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="notify", daemon=True)
                self._thread.start()

    def along(self) -> str | None:
        """Where nobody here listens: whom our own connection tells, who listens here need not hear again."""
        if self._listeners or time.monotonic() - self._sent < GAP or not self._lock.acquire(blocking=False):
            return None
        self._sent = time.monotonic()
        self._wanted.clear()
        self._lock.release()
        return STATEMENT

    def _serve(self) -> None:
        while True:
            self._wanted.wait(LINGER)
            with self._deciding:
                if not self._wanted.is_set():
                    self._thread = None
                    return
            while (early := self._sent + GAP - time.monotonic()) > 0:  # what is committed meanwhile goes with this one
                time.sleep(early)
            with self._lock:  # under which it is cleared, so that who closes waits for what is being sent
                if self._wanted.is_set():
                    self._wanted.clear()
                    self._send()

    def _send(self) -> None:
        """Under the lock. What does not go is not repeated: who listens looks by himself after a while."""
        self._sent = time.monotonic()
        with suppress(psycopg.Error):
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()
                self.backend = self._connection.info.backend_pid
            try:
                self._connection.execute(STATEMENT)
            except psycopg.Error:
                self._connection.close()
                raise

    def listener(self) -> Listener:
        return Listener(self._connect, self)

    def close(self) -> None:
        began = time.monotonic()
        while self._wanted.is_set() and time.monotonic() - began < PROOF:
            time.sleep(GAP)  # until the thread has sent it
        with self._lock:
            if self._connection is not None:
                self._connection.close()


class Listener:
    """Rings the bell for each notification of others, on a connection of its own; a lost one is made again.

    While it hears nothing, not even its own trial, `bell.hears` is False.
    """

    def __init__(self, connect: Connect, bell: NotifyBell) -> None:
        self._connect = connect
        self._bell = bell
        self._closing, self._close = os.pipe()
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="listen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closed = True
        os.write(self._close, b"\0")
        self._thread.join(PROOF)
        if not self._thread.is_alive():  # else it waits for a server that does not answer, and ends with the process
            os.close(self._close)
            os.close(self._closing)

    def _serve(self) -> None:
        pause = AGAIN[0]
        while not self._is_closed:
            began = time.monotonic()
            with suppress(psycopg.Error, OSError), self._connect() as connection:
                self._listen(connection)
            self._bell.hears = False
            self._bell.ring()  # what was told meanwhile we have not heard
            pause = AGAIN[0] if time.monotonic() - began > AGAIN[1] else min(pause * 2, AGAIN[1])
            select.select([self._closing], [], [], 0 if self._is_closed else pause)

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        trial = uuid4().hex
        with self._connect() as another:
            another.execute("SELECT pg_notify(%s, %s)", (CHANNEL, trial))
        tried = time.monotonic()
        while not self._is_closed:
            left = None if self._bell.hears else max(PROOF - (time.monotonic() - tried), 0.0)
            ready, _, _ = select.select([connection.fileno(), self._closing], [], [], left)
            if self._closing in ready:
                return
            heard = list(connection.notifies(timeout=0))
            if any(one.payload == trial for one in heard):
                self._bell.hears = True
            if any(one.payload == "" and one.pid != self._bell.backend for one in heard):
                self._bell.ring()
            if not ready and not self._bell.hears:
                self._wait_in_silence()
                return

    def _wait_in_silence(self) -> None:
        """Something between us and the server swallows them: it is tried again now and then."""
        select.select([self._closing], [], [], AGAIN[1])
