"""Who may do what over HTTP: roles, callers, and the text of a key."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

SECRET_BYTES = 32
KEY = re.compile(r"rk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
SHORTEST_OWN = 32  # characters of a key that a user makes himself: to guess it must be hopeless
FIRST_KEY = "RUNNER_API_KEY"
INTERFACE_HEADER = "Runner-Interface"  # on every answer: how a client knows that a runner answers
INTERFACE = "1"  # counted up where what stood in the interface is changed or gone


class Role(StrEnum):
    """Each may do what the ones before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def may(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request. `projects` None: all of them. `key_id` None: nobody asked for a key.

    `shared` is a job that a link shows to him until then, of whatever project; a guest has that link and nothing else.
    """

    role: Role
    projects: tuple[str, ...] | None = None
    key_id: str | None = None
    address: str = ""
    shared: int | None = None
    is_guest: bool = False
    shared_until: datetime | None = None

    @property
    def is_bound(self) -> bool:
        return self.projects is not None

    @property
    def name(self) -> str:
        """As what is audited: the key, else the address."""
        if self.is_guest:
            return f"a link of key {self.key_id} to job {self.shared}"
        return f"key {self.key_id}" if self.key_id is not None else f"no key, {self.address or 'unknown address'}"

    def sees(self, project_id: str | None) -> bool:
        """Whether what belongs to this project (None: to none) is there for this caller."""
        return self.projects is None or project_id in self.projects

    def reads(self, job_id: int, project_id: str | None) -> bool:
        """Whether this job is there for this caller, if only to be looked at."""
        return self.sees(project_id) or self.shared == job_id


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is shown once. What is kept is its digest."""

    key_id: str
    text: str

    @property
    def digest(self) -> str:
        return digest(self.text)


def new_key() -> NewKey:
    key_id = secrets.token_hex(6)
    return NewKey(key_id, f"rk_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}")


def key_id_of(text: str) -> str | None:
    """The public part of a key of ours; None where the text is no such key."""
    match = KEY.fullmatch(text)
    return match.group(1) if match else None


def digest(text: str) -> str:
    """Of a key: it is random and long, so one fast hash is enough."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def same(one: str, other: str) -> bool:
    """Compared in a time that says nothing about how much of it is right."""
    return hmac.compare_digest(one, other)


def told(projects: Sequence[str] | None) -> str:
    """The projects of a key, in words.

    >>> told(None), told(["shop", "blog"])
    ('all', 'shop, blog')
    """
    return "all" if projects is None else ", ".join(projects)
