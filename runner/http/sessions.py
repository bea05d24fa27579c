"""The session of a browser: a signed text in a cookie that stands for a key until it ends or the key is revoked."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from runner.domain.access import same
from runner.http.limits import Buckets

if TYPE_CHECKING:
    from runner.http.keyring import KeyRing
    from runner.http.shares import Link

COOKIE = "runner_session"
LASTS = timedelta(days=7)
WRONG_KEYS = "wrong keys"


def sealed(key_id: str, digest: str, ends: int) -> str:
    """Signed with what is kept of the key: so every process of this database, also after a restart, can read it."""
    said = f"{key_id}.{ends}"
    return f"{said}.{hmac.digest(digest.encode(), f'session {said}'.encode(), 'sha256').hex()}"


def key_id_of(cookie: str) -> str:
    """Whose session it says it is."""
    return cookie.partition(".")[0]


def is_valid(cookie: str, digest: str, now: datetime) -> bool:
    """Whether it is one of ours that has not ended.

    >>> now = datetime(2026, 1, 1, tzinfo=UTC)
    >>> cookie = sealed("a1", "digest", int(now.timestamp()) + 1)
    >>> is_valid(cookie, "digest", now), is_valid(cookie, "other", now), is_valid(cookie, "digest", now + LASTS)
    (True, False, False)
    """
    key_id, _, rest = cookie.partition(".")
    ends = rest.partition(".")[0]
    if not (ends.isascii() and ends.isdecimal() and len(ends) < 12 and cookie.isascii()):
        return False
    return same(cookie, sealed(key_id, digest, int(ends))) and now < datetime.fromtimestamp(int(ends), UTC)


def cookie_of(headers: Headers) -> str | None:
    """The session of a request, whatever it is worth."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE)


@dataclass(frozen=True, slots=True)
class SignIn:
    """Makes sessions of keys, and looks at links. Who guesses is stopped as at every other door."""

    ring: KeyRing
    failures: Buckets
    now: Callable[[], datetime]

    def link(self, text: str, address: str) -> Link:
        """What this text of a link shows. Refused where it is none."""
        self.failures.look(address, WRONG_KEYS)
        found = self.ring.link(text, self.now())
        if found is None:
            self.failures.take(address, WRONG_KEYS)
            raise self.ring.ended()
        return found

    def begin(self, text: str, address: str) -> str:
        """The value of the cookie. Refused where it is no key."""
        self.failures.look(address, WRONG_KEYS)
        made = self.ring.begin(text, address, self.now())
        if made is None:
            self.failures.take(address, WRONG_KEYS)
            raise self.ring.unknown()
        return made
