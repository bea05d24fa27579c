"""A plan as people and programs read it: text, Markdown for a pull request, and JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from runner.domain.plan import Plan
from runner.domain.plan_change import Change, FieldChange, Fire, moment
from runner.domain.plan_fields import plain, utc
from runner.domain.plan_words import arrow, times

WIDTH = 80
FORMAT_VERSION = 1
SIGNS = {"add": "+", "change": "~", "retire": "-", "rename": ">"}
VERBS = {"add": "to add", "change": "to change", "rename": "to rename", "retire": "to retire"}
KIND_WORDS = {"job_type": "job type", "notify": "notify target", "runner": "", "defaults": "", "timezone": ""}


def as_text(plan: Plan, *, source: str, against: str | None = None) -> str:
    """`source` is the file; `against` is what it is compared with, where that is no revision."""
    if plan.is_empty:
        said = [nothing(plan, source, against)]
    else:
        said = [f"{source} against {base(plan, against)}, now {moment(plan.now)}", ""]
        for change in plan.changes:
            said += [headline(change), *_details(change, plan.now.year)]
        said.append("")
    warned = [line for warning in plan.warnings for line in _wrapped("! ", warning.message)]
    said += ["", *warned] if plan.is_empty and warned else [*warned, ""] if warned else []
    return "\n".join(said if plan.is_empty else [*said, summary(plan)]) + "\n"


def as_json(plan: Plan) -> dict[str, Any]:
    """Plain data: durations in seconds, times in ISO 8601 with their offset."""
    return {
        "format_version": FORMAT_VERSION,
        "base_revision": plan.base_revision,
        "now": utc(plan.now),
        "changes": [_change(change) for change in plan.changes],
        "warnings": [
            {"code": warning.code, "message": warning.message, "names": list(warning.names)}
            for warning in plan.warnings
        ],
        "removals": list(plan.removals),
        "summary": plan.summary,
    }


def nothing(plan: Plan, source: str, against: str | None) -> str:
    return f"No changes. {source} matches {base(plan, against)}."


def base(plan: Plan, against: str | None) -> str:
    """What the file was compared with."""
    if against is not None:
        return against
    if plan.base_revision:
        return f"revision {plan.base_revision}"
    return "an empty database" if plan.is_first else "the other file"


def headline(change: Change) -> str:
    kind = KIND_WORDS.get(change.kind, change.kind)
    came = f" (was {change.renamed_from})" if change.renamed_from else ""
    return f"{SIGNS[change.action]} {f'{kind} ' if kind else ''}{change.name}{came}"


def summary(plan: Plan) -> str:
    counts = plan.summary
    parts = [f"{counts[action]:,} {words}" for action, words in VERBS.items() if counts[action]]
    return f"Plan: {', '.join([*parts, f'{plan.unchanged:,} unchanged'])}."


def sides(change: Change, field: FieldChange) -> str:
    """`old -> new`; where an entry comes or goes, the one value that it has."""
    old, new = arrow(field)
    return {"add": new, "retire": old}.get(change.action, f"{old} -> {new}")


def next_times(change: Change, year: int) -> Iterator[tuple[str, str]]:
    """The lines that tell the next fire times, with their labels."""
    before, after = (_told(fires, year) for fires in (change.next_before, change.next_after))
    if change.kind != "schedule":
        return
    if change.action == "add":
        yield "next", after or "never"
    elif change.action == "retire":
        yield "next", f"none; it was {before}" if before else "none"
    elif before == after:
        yield "next", f"{after or 'never'}, as before"
    else:
        yield "next before", before or "never"
        yield "next after", after or "never"


def _told(fires: tuple[Fire, ...], year: int) -> str:
    if not fires:
        return ""
    last = fires[-1]
    place = f"  {last.timezone}" if last.timezone != last.time.tzname() else ""
    return ", ".join(times(fires, year)) + place


def _details(change: Change, year: int) -> Iterator[str]:
    for field in change.fields:
        yield from _field(change, field)
    for label, said in next_times(change, year):
        yield from _wrapped(f"    {label}: ", said)
    for effect in change.effects:
        yield from _wrapped("    ", effect)


def _field(change: Change, field: FieldChange) -> Iterator[str]:
    """One line; where it is too long, one for each side."""
    line = f"    {field.field}: {sides(change, field)}"
    if len(line) <= WIDTH or change.action in ("add", "retire"):
        yield line
        return
    old, new = arrow(field)
    yield from (f"    {field.field}:", f"        {old}", f"     -> {new}")


def _wrapped(lead: str, said: str) -> list[str]:
    follow = " " * len(lead)
    return textwrap.wrap(
        said, WIDTH, initial_indent=lead, subsequent_indent=follow, break_long_words=False, break_on_hyphens=False
    )


def _change(change: Change) -> dict[str, Any]:
    said = {
        "action": change.action,
        "kind": change.kind,
        "name": change.name,
        "fields": [
            {"field": field.field, "before": plain(field.before), "after": plain(field.after)}
            for field in change.fields
        ],
        "next_before": [_fire(fire) for fire in change.next_before],
        "next_after": [_fire(fire) for fire in change.next_after],
        "effects": list(change.effects),
        "touches": list(change.touches),
    }
    return said | ({"renamed_from": change.renamed_from} if change.renamed_from else {})


def _fire(fire: Fire) -> dict[str, str]:
    said = {"utc": utc(fire.utc), "local": fire.time.isoformat(), "timezone": fire.timezone}
    return said | ({"mark": fire.mark} if fire.mark else {})
