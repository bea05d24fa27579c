"""Who calls: a key of the database or the environment, or nobody where no key is asked for."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from runner.domain import access
from runner.domain.access import FIRST_KEY, SHORTEST_OWN, Caller, Role
from runner.domain.access_rows import ApiKey
from runner.domain.errors import NotAllowed, UsageError
from runner.http.problems import Refused
from runner.storage.access import AccessStore

USE_TOLD = timedelta(minutes=1)  # how exactly the last use of a key is kept
NO_DIGEST = "0" * 64  # what the key of an unknown id is compared with, so that it takes as long


class KeyRing:
    """Once there is a key, or ever was one, every caller needs one. `changed`: see `Database.changes`."""

    def __init__(self, store: AccessStore, first: str | None, changed: Callable[[], bool]) -> None:
        self._store = store
        self._first = access.digest(first) if first else None
        self._changed = changed
        self._keys: dict[str, ApiKey] = {}
        self._lock = threading.Lock()
        if first is not None and first and len(first) < SHORTEST_OWN:
            raise UsageError(
                f"{FIRST_KEY} is too short: {len(first)} characters",
                f"at least {SHORTEST_OWN}, for example from: openssl rand -hex 32",
            )

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
            self._store.used(key.id, now)
            key.last_used_at = now
        return Caller(Role(key.role), None if key.projects is None else tuple(key.projects), key.id, address)

    def _known(self) -> dict[str, ApiKey]:
        with self._lock:
            if self._changed():
                self._keys = {key.id: key for key in self._store.keys(revoked=True)}
            return self._keys


def _unknown(message: str) -> Refused:
    return Refused(401, message, "Authorization: Bearer KEY, of runner keys create", WWW_Authenticate="Bearer")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_keys(ring: KeyRing, host: str, insecure: bool) -> None:
    """Nobody serves an open interface to a network by accident."""
    if ring.is_open and not is_loopback(host) and not insecure:
        raise NotAllowed(
            f"there are no keys yet, and {host} can be reached from other machines",
            f"runner keys create --role admin, or {FIRST_KEY}; --insecure where everybody may do everything",
        )
