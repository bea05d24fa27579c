"""What is done to many jobs of the list: asked first, with how many they are; done; and told what could not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fastapi import Request
from starlette.responses import Response

from runner.domain.access import Caller
from runner.domain.errors import UsageError
from runner.domain.job import JobState
from runner.http import acts
from runner.http.acts import Action
from runner.http.callers import Operator
from runner.http.doors import Doors, In
from runner.web.filters import TABS, Filter, number
from runner.web.rendering import page, pages, reason
from runner.web.session import Form

acting = pages()

ADDRESS = "/jobs/act"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Jobs by their ids, or all that a filter finds. `upto`: the newest that was there when it was asked."""

    action: Action
    ids: tuple[int, ...]
    filter: Filter | None
    upto: int | None = None

    @classmethod
    def of(cls, given: Sequence[tuple[str, str]]) -> Wanted:
        one = dict(given)
        if one.get("action") not in acts.POSSIBLE:
            raise UsageError(f"{one.get('action', '')!r} is nothing that can be done to jobs", "cancel, retry")
        action = cast("Action", one["action"])
        if one.get("all") == "yes":
            return cls(action, (), _whole(Filter.of(one)), number(one.get("upto", "")))
        ids = {number(value): None for name, value in given if name == "id"}
        return cls(action, tuple(id_ for id_ in ids if id_ is not None)[: acts.MOST], None)

    @property
    def states(self) -> tuple[JobState, ...]:
        """Those of the filter in which it can be done."""
        asked = TABS[self.filter.state] if self.filter is not None else tuple(JobState)
        return tuple(state for state in asked if state in acts.POSSIBLE[self.action])


@dataclass(frozen=True, slots=True)
class Found:
    """Jobs to which it can be done, as many as go at once; how many of each state there are; to how many it cannot."""

    ids: tuple[int, ...]
    by_state: Mapping[str, int]
    others: int = 0

    @property
    def total(self) -> int:
        return sum(self.by_state.values())


@acting.get(ADDRESS)
def ask(request: Request, doors: In, caller: Operator) -> Response:
    wanted = Wanted.of(request.query_params.multi_items())
    found = _found(doors, caller, wanted)
    upto = wanted.upto or (found.ids[0] if found.ids else None)
    return page(request, "act.html", **_shown(wanted), found=found, upto=upto, most=acts.MOST)


@acting.post(ADDRESS)
def act(request: Request, doors: In, caller: Operator, form: Form) -> Response:
    """Up to 1,000; a page that asks for the rest is offered."""
    wanted = Wanted.of(form)
    found = _found(doors, caller, wanted)
    done = acts.many(doors, caller, wanted.action, wanted.ids or found.ids, reason(dict(form)))
    left = found.total - len(done) if wanted.filter is not None else 0
    return page(request, "acted.html", **_shown(wanted), **told(done), left=left)


def told(done: Sequence[acts.Done]) -> dict[str, Any]:
    """For the page that says what became of them."""
    return {
        "results": Counter(one.result for one in done if one.result is not None),
        "refused": [one for one in done if one.error is not None],
    }


def _shown(wanted: Wanted) -> dict[str, Any]:
    found = wanted.filter
    return {
        "action": wanted.action, "filter": found, "ids": wanted.ids,
        "back": found.address() if found is not None else "/jobs",
        "again": found.address(ADDRESS, action=wanted.action, all="yes") if found else None,
    }  # fmt: skip


def _found(doors: Doors, caller: Caller, wanted: Wanted) -> Found:
    with doors.reading():
        return _selected(doors, caller, wanted) if wanted.filter is None else _matching(doors, caller, wanted)


def _selected(doors: Doors, caller: Caller, wanted: Wanted) -> Found:
    heads = doors.jobs.heads(wanted.ids)
    states = {job_id: heads[job_id].status for job_id in heads if caller.sees(heads[job_id].project_id)}
    fit = sorted((job_id for job_id, state in states.items() if state in wanted.states), reverse=True)
    return Found(tuple(fit), Counter(states[job_id].value for job_id in fit), len(wanted.ids) - len(fit))


def _matching(doors: Doors, caller: Caller, wanted: Wanted) -> Found:
    if wanted.filter is None or not wanted.states:
        return Found((), {})
    now = doors.now()
    where = {state: wanted.filter.where((state,), caller, now) for state in wanted.states}
    counted = {state.value: doors.jobs.count(where[state]) for state in wanted.states}
    ids = doors.jobs.find_ids(wanted.filter.where(wanted.states, caller, now), limit=acts.MOST, upto=wanted.upto)
    return Found(tuple(ids), {state: count for state, count in counted.items() if count})


def _whole(found: Filter) -> Filter:
    """What cannot be read of an address must not make more jobs of it."""
    if found.problem is not None:
        raise UsageError(found.problem, "/jobs")
    return found
