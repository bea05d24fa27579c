"""Failed jobs by what they said, the largest group first; and all of a group tried again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from starlette.responses import Response

from runner.domain.access import Caller
from runner.domain.duration import DurationError
from runner.domain.errors import NotFound
from runner.domain.failures import FailureGroup
from runner.http import acts
from runner.http.callers import Operator, Viewer
from runner.http.doors import Doors, In
from runner.storage.failures import NEWEST
from runner.web.acting import told
from runner.web.filters import moment, number, typed
from runner.web.rendering import page, pages
from runner.web.session import Form

failures = pages()

SHOWN = 100  # groups
ADDRESS = "/failures/retry"


@dataclass(frozen=True, slots=True)
class Asked:
    """`since` as the address says it; `problem`: why it cannot be read."""

    since: str
    moment: datetime | None
    problem: str | None = None

    @classmethod
    def of(cls, params: Mapping[str, str], now: datetime) -> Asked:
        text = typed(params, "since")
        try:
            return cls(text, moment(text, now) if text else None)
        except DurationError as error:
            return cls("", None, error.message)

    def address(self, path: str, **more: str) -> str:
        said = more | ({"since": self.since} if self.since else {})
        return path + (f"?{urlencode(said)}" if said else "")


@failures.get("/failures")
def look(request: Request, doors: In, caller: Viewer) -> Response:
    asked = Asked.of(request.query_params, doors.now())
    groups = doors.failures.groups(caller.projects, asked.moment)
    total = sum(group.count for group in groups)
    values: dict[str, Any] = {
        "asked": asked,
        "groups": groups[:SHOWN],
        "more": len(groups) - SHOWN,
        "total": total,
        "newest": NEWEST,
    }
    return page(request, "failures.html", retry=ADDRESS, **values)


@failures.get(ADDRESS)
def ask(request: Request, doors: In, caller: Operator, group: str = "") -> Response:
    asked = Asked.of(request.query_params, doors.now())
    found = _group(doors, caller, asked, group)
    return page(request, "failures_retry.html", asked=asked, group=found, most=acts.MOST)


@failures.post(ADDRESS)
def retry(request: Request, doors: In, caller: Operator, form: Form) -> Response:
    """Up to 1,000 of the group as it was when it was asked; a page that asks for the rest is offered."""
    given = dict(form)
    asked = Asked.of(given, doors.now())
    group = _group(doors, caller, asked, given.get("group", ""))
    upto = min(number(given.get("upto", "")) or group.newest, group.newest)
    ids = doors.failures.members(group, caller.projects, asked.moment, upto=upto, limit=acts.MOST)
    done = acts.many(doors, caller, "retry", ids)
    again = asked.address(ADDRESS, group=group.key)
    values = told(done) | {"left": group.count - len(done), "again": again, "back": asked.address("/failures")}
    return page(request, "acted.html", action="retry", **values)


def _group(doors: Doors, caller: Caller, asked: Asked, key: str) -> FailureGroup:
    found = doors.failures.groups(caller.projects, asked.moment) if asked.problem is None else ()
    group = next((one for one in found if one.key == key), None)
    if group is None:
        raise NotFound(asked.problem or "none of these jobs is failed now", asked.address("/failures"))
    return group
