"""A link that shows one job: a signed text that ends by itself, and at once where the key that made it is revoked."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from runner.domain.access import same

PREFIX = "rs_"
COOKIE = "runner_share"
TEXT = re.compile(r"rs_([A-Za-z0-9_]{1,64})\.([1-9][0-9]{0,17})\.([0-9]{1,11})\.[0-9a-f]{64}", re.ASCII)
LENGTHS: Mapping[str, timedelta] = {
    "1 hour": timedelta(hours=1),
    "1 day": timedelta(days=1),
    "7 days": timedelta(days=7),
    "30 days": timedelta(days=30),
}


@dataclass(frozen=True, slots=True)
class Link:
    """What a text says that it is."""

    key_id: str
    job_id: int
    ends: int

    @property
    def until(self) -> datetime:
        return datetime.fromtimestamp(self.ends, UTC)

    def sealed(self, digest: str) -> str:
        """Signed with what is kept of the key, as a session is, and never taken for one."""
        said = f"{self.key_id}.{self.job_id}.{self.ends}"
        return f"{PREFIX}{said}.{hmac.digest(digest.encode(), f'share {said}'.encode(), 'sha256').hex()}"


def read(text: str) -> Link | None:
    """None where it is no such text at all."""
    found = TEXT.fullmatch(text)
    return Link(found[1], int(found[2]), int(found[3])) if found else None


def is_valid(text: str, link: Link, digest: str, now: datetime) -> bool:
    """Whether it is one of ours that has not ended.

    >>> now, link = datetime(2026, 1, 1, tzinfo=UTC), Link("a1", 7, 1767225601)
    >>> text = link.sealed("digest")
    >>> [is_valid(text, link, digest, at) for digest, at in (("digest", now), ("other", now), ("digest", link.until))]
    [True, False, False]
    """
    return same(text, link.sealed(digest)) and now < link.until


def cookie_of(headers: Headers) -> str | None:
    """The link of a request, whatever it is worth."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE)
