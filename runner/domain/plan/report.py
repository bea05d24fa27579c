"""A plan as people and programs read it: text, Markdown for a pull request, and JSON."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

from runner.domain.plan import Plan
from runner.domain.plan.change import Change, FieldChange, Fire, moment
from runner.domain.plan.fields import plain, utc
from runner.domain.plan.words import NO_BREAK, arrow, times

WIDTH = 80
FORMAT_VERSION = 1
SIGNS = {"add": "+", "change": "~", "retire": "-", "rename": ">"}
VERBS = {"add": "to add", "change": "to change", "rename": "to rename", "retire": "to retire"}
KIND_WORDS = {"job_type": "job type", "notify": "notify target", "runner": "", "defaults": "", "timezone": ""}


def as_text(plan: Plan, *, source: str, against: str | None = None) -> str:
    """`source` is the file; `against` is what it is compared with, where that is no revision."""
    warned = [line for warning in plan.warnings for line in _wrapped("! ", warning.message)]
    if plan.is_empty:
        return "\n".join([nothing(plan, source, against), *_apart(warned)])
    told = [line for change in plan.changes for line in (headline(change), *_details(change, plan))]
    head = f"{source} against {base(plan, against)}, now {moment(plan.now)}"
    return "\n".join([head, "", *told, *_apart(warned), "", summary(plan)])


def as_markdown(plan: Plan, *, source: str, against: str | None = None) -> str:
    """The same for a comment on a pull request."""
    warned = [f"- {_prose(warning.message)}" for warning in plan.warnings]
    tail = ["", "**Warnings**", "", *warned] if warned else []
    if plan.is_empty:
        return "\n".join([_prose(nothing(plan, source, against)), *tail])
    head = [f"### Plan: {_prose(source)} against {_prose(base(plan, against))}", "", f"{summary(plan)[6:]}", ""]
    body = [line for change in plan.changes for line in _bullets(change, plan)]
    return "\n".join([*head, *body, *tail])


def shown(plan: Plan, form: str, *, source: str, against: str | None = None) -> str:
    """In words of this form; nothing where data alone is wanted."""
    words = {"text": as_text, "markdown": as_markdown}
    return words[form](plan, source=source, against=against) if form in words else ""


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


def _shown(change: Change, old: str, new: str, arrow: str = "->") -> str:
    """Both sides of a field; where an entry comes or goes, the one value that it has."""
    return {"add": new, "retire": old}.get(change.action, f"{old} {arrow} {new}")


def next_times(change: Change, plan: Plan) -> Iterator[tuple[str, str]]:
    """The lines that tell the next fire times, with their labels."""
    if change.kind != "schedule" or not plan.upcoming:
        return
    before, after = (_told(fires, plan.now.year) for fires in (change.next_before, change.next_after))
    if change.action == "add":
        yield "next", after or "never"
    elif change.action == "retire":
        yield "next before", before or "never"
    elif before == after:
        yield "next, as before", after or "never"
    else:
        yield "next before", before or "never"
        yield "next after", after or "never"


def _told(fires: tuple[Fire, ...], year: int) -> str:
    if not fires:
        return ""
    last = fires[-1]
    place = f"  {last.timezone}" if last.timezone != last.time.tzname() else ""
    return ", ".join(times(fires, year)) + place


def _apart(lines: list[str]) -> list[str]:
    return ["", *lines] if lines else []


def _details(change: Change, plan: Plan) -> Iterator[str]:
    for field in change.fields:
        yield from _field(change, field)
    for label, said in next_times(change, plan):
        yield from _wrapped(f"    {label}: ", said)
    for effect in change.effects:
        yield from _wrapped("    ", effect)


def _field(change: Change, field: FieldChange) -> Iterator[str]:
    """One line; where it is too long, one for each side."""
    old, new = arrow(field)
    line = f"    {field.field}: {_shown(change, old, new)}"
    if len(line) <= WIDTH or change.action in ("add", "retire"):
        yield line
        return
    yield from (f"    {field.field}:", f"        {old}", f"     -> {new}")


def _wrapped(lead: str, said: str) -> list[str]:
    follow = " " * len(lead)
    lines = textwrap.wrap(
        said, WIDTH, initial_indent=lead, subsequent_indent=follow, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(NO_BREAK, " ") for line in lines]


def _bullets(change: Change, plan: Plan) -> Iterator[str]:
    kind = KIND_WORDS.get(change.kind, change.kind)
    came = f" (was {_code(change.renamed_from)})" if change.renamed_from else ""
    yield f"- **{_code(SIGNS[change.action])}{f' {kind}' if kind else ''} {_code(change.name)}**{came}"
    for field in change.fields:
        old, new = (_code(side) for side in arrow(field))
        yield f"  - {_code(field.field)}: {_shown(change, old, new, '→')}"
    for label, said in next_times(change, plan):
        yield f"  - {label}: {_prose(said.replace(NO_BREAK, ' '))}"
    for effect in change.effects:
        yield f"  - {_prose(effect)}"


def _code(said: str) -> str:
    """A code span, whatever backticks the text holds."""
    ticks = "`" * (max((len(run) for run in re.findall("`+", said)), default=0) + 1)
    pad = " " if said.startswith("`") or said.endswith("`") else ""
    return f"{ticks}{pad}{said}{pad}{ticks}"


def _prose(said: str) -> str:
    """Text that is nothing but text: no emphasis, no markup, no mention of a user."""
    return re.sub(r"[\\`*\[\]<|#~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", said).replace("@", "&#64;")


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
