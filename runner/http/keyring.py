"""Who calls: a key of the database or the environment, or nobody where no key is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from runner.domain import access
from runner.domain.access import FIRST_KEY, SHORTEST_OWN, Caller, Role
from runner.domain.access_rows import ApiKey
from runner.domain.errors import NotAllowed, RunnerError, UsageError
from runner.domain.urls import is_loopback
from runner.http import sessions, shares
from runner.http.problems import Refused
from runner.http.shares import Link
from runner.storage.access import AccessStore

USE_TOLD = timedelta(minutes=1)  # how exactly the last use of a key is kept
TRUSTED = 1.0  # seconds for which what was read of the keys counts
NO_DIGEST = "0" * 64  # what the key of an unknown id is compared with, so that it takes as long


class KeyRing:
    """Once there is a key, or ever was one, every caller needs one. `changed`: see `Database.changes`.

    Who calls is answered from what is known. Where that is not fresh, `refresh` comes first: it asks the database.
    """

    def __init__(
        self, store: AccessStore, first: str | None, changed: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._store = store
        self._first = access.digest(first) if first else None
        self._changed, self._clock = changed, clock
        self._keys: dict[str, ApiKey] = {}
        self._uses: dict[str, datetime] = {}  # that are still to be written
        self._read_at: float | None = None
        self._is_stale = True  # something was committed since the keys were read
        self._lock = threading.Lock()
        if first is not None and first and len(first) < SHORTEST_OWN:
            raise UsageError(
                f"{FIRST_KEY} is too short: {len(first)} characters",
                f"at least {SHORTEST_OWN}, for example from: openssl rand -hex 32",
            )

    @property
    def is_fresh(self) -> bool:
        return self._read_at is not None and self._clock() - self._read_at < TRUSTED

    def refresh(self) -> None:
        """Read the keys, if anything was committed since they were read."""
        with self._lock:
            now = self._clock()
            self._is_stale |= self._changed()
            if self._is_stale:
                self._keys = {key.id: key for key in self._store.keys(revoked=True)}
                self._is_stale = False
            self._read_at = now

    @property
    def has_uses(self) -> bool:
        return bool(self._uses)

    def write_uses(self) -> None:
        """What cannot be written is not worth a refusal: the next use is."""
        with self._lock:
            uses, self._uses = self._uses, {}
        if uses:
            with suppress(RunnerError):
                self._store.used(uses)

    def holds(self, key_id: str | None) -> bool:
        """Whether who came with this key, or with none, might still come."""
        return self.is_open if key_id is None else self._digest(key_id) is not None

    @property
    def is_open(self) -> bool:
        """Whether nobody needs a key."""
        return self._first is None and not self._known()

    def caller(self, text: str | None, address: str, now: datetime) -> Caller:
        """Whose key this is. Refused where it is none, or where one is missing."""
        known = self._known()
        if text is None:
            if self._first is None and not known:
                return Caller(Role.ADMIN, None, None, address)
            raise _unknown("this server asks for a key")
        if self._first is not None and access.same(access.digest(text), self._first):
            return Caller(Role.ADMIN, None, FIRST_KEY, address)
        key = known.get(access.key_id_of(text) or "")
        is_right = access.same(access.digest(text), key.digest if key is not None else NO_DIGEST)
        if key is None or not is_right or key.revoked_at is not None:
            raise _unknown("the key is unknown or was revoked")
        if key.last_used_at is None or now - key.last_used_at >= USE_TOLD:
            key.last_used_at = self._uses[key.id] = now
        return Caller(Role(key.role), None if key.projects is None else tuple(key.projects), key.id, address)

    def begin(self, text: str, address: str, now: datetime) -> str | None:
        """A session of this key, which may have been made just now; None where it is none."""
        self.refresh()
        try:
            caller = self.caller(text, address, now)
        except Refused:
            return None
        key_id = caller.key_id or ""
        digest = self._digest(key_id)
        return sessions.sealed(key_id, digest, int((now + sessions.LASTS).timestamp())) if digest else None

    def of_session(self, cookie: str, address: str, now: datetime) -> Caller:
        """Whose session it is. One that ended, or whose key was revoked, is as none."""
        key_id = sessions.key_id_of(cookie)
        is_right = sessions.is_valid(cookie, self._digest(key_id) or NO_DIGEST, now)
        if not is_right or self._digest(key_id) is None:
            return self.caller(None, address, now)
        if key_id == FIRST_KEY:
            return Caller(Role.ADMIN, None, FIRST_KEY, address)
        key = self._known()[key_id]
        return Caller(Role(key.role), None if key.projects is None else tuple(key.projects), key.id, address)

    def share(self, caller: Caller, job_id: int, until: datetime) -> str:
        """The text of a link to this job, which is worth something for as long as the caller's key is."""
        digest = self._digest(caller.key_id or "")
        if digest is None or caller.key_id is None:
            raise NotAllowed("nobody needs a key here", "share the address of the page")
        return Link(caller.key_id, job_id, int(until.timestamp())).sealed(digest)

    def link(self, text: str, now: datetime) -> Link | None:
        """One that is in force."""
        link = shares.read(text)
        digest = self._digest(link.key_id) if link is not None else None
        is_right = link is not None and shares.is_valid(text, link, digest or NO_DIGEST, now)
        return link if is_right and digest is not None else None

    def guest(self, text: str, address: str, now: datetime) -> Caller:
        """Who has a link and nothing else."""
        link = self.link(text, now)
        if link is None:
            raise self.ended()
        return Caller(Role.VIEWER, (), link.key_id, address, link.job_id, is_guest=True, shared_until=link.until)

    @staticmethod
    def ended() -> Refused:
        return _unknown("the link is unknown or has ended, or its key was revoked")

    @staticmethod
    def unknown() -> Refused:
        return _unknown("the key is unknown or was revoked")

    def _digest(self, key_id: str) -> str | None:
        """Of a key that is in force."""
        if key_id == FIRST_KEY:
            return self._first
        key = self._known().get(key_id)
        return key.digest if key is not None and key.revoked_at is None else None

    def _known(self) -> dict[str, ApiKey]:
        if not self.is_fresh:
            self.refresh()
        return self._keys


def _unknown(message: str) -> Refused:
    return Refused(401, message, "Authorization: Bearer KEY, of runner keys create", WWW_Authenticate="Bearer")


def require_keys(ring: KeyRing, host: str, insecure: bool) -> None:
    """Nobody serves an open interface to a network by accident."""
    ring.refresh()
    if ring.is_open and not is_loopback(host) and not insecure:
        raise NotAllowed(
            f"there are no keys yet, and {host} can be reached from other machines",
            f"runner keys create --role admin, or {FIRST_KEY}; --insecure where everybody may do everything",
        )
