"""A plan as JSON for programs and as Markdown for a pull request."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from syrupy.assertion import SnapshotAssertion

from runner.domain.job import InFlight
from runner.domain.plan import MISSING, Caution, Plan, Stored, plan
from runner.domain.plan.change import Change, FieldChange
from runner.domain.plan.fields import plain
from runner.domain.plan.report import as_json, as_markdown, as_text
from runner.domain.plan.words import text, value
from runner.domain.retry import RetryPolicy
from tests.unit.plan_texts import ALL, FILE, NOW, definitions, edit, edited, planned

JOBS = {("news", "news-fetch"): InFlight(1, 1, 1), ("sync", None): InFlight(2)}


def test_json(snapshot: SnapshotAssertion) -> None:
    """One document: durations in seconds, times with their offset, references as they are written."""
    document = json.dumps(as_json(planned(FILE, edited(*ALL), JOBS)), indent=2, ensure_ascii=False)
    assert document == snapshot


def test_json_of_no_changes() -> None:
    """The shape stays, and the summary counts what is unchanged."""
    assert as_json(planned(FILE, FILE)) == {
        "format_version": 1,
        "base_revision": 12,
        "now": "2026-03-27T09:00:00+00:00",
        "changes": [],
        "warnings": [],
        "removals": [],
        "summary": {"add": 0, "change": 0, "rename": 0, "retire": 0, "unchanged": 10},
    }


def test_json_of_a_clock_change() -> None:
    """A fire gives its instant, its wall time with the offset, its zone and what was done to it."""
    (change,) = as_json(planned(FILE, edit("clock-change")))["changes"]
    assert change["next_before"][1] == {
        "utc": "2026-03-29T01:00:00+00:00",
        "local": "2026-03-29T03:00:00+02:00",
        "timezone": "Europe/Berlin",
        "mark": "clock change: moved from 02:30",
    }


def test_markdown(snapshot: SnapshotAssertion) -> None:
    """A comment for a pull request: the summary first, then a list, then the warnings."""
    before, after = edited("concurrency: 4", "concurrency: 1"), edited(*ALL, "concurrency: 8", "concurrency: 1")
    assert as_markdown(planned(before, after, JOBS), source="schedules.yaml") == snapshot


def test_markdown_of_no_changes() -> None:
    """Only warnings can follow."""
    assert as_markdown(planned(FILE, FILE), source="a_b.yaml") == "No changes. a_b.yaml matches revision 12."


def test_markdown_takes_no_markup_from_the_file() -> None:
    """What users write in payloads, names and reasons is shown, never read as markup; nobody is called."""
    nasty = "`x` | <b> @anna\n# no"
    field = FieldChange("payload.a`b", MISSING, nasty)
    made = Plan(1, NOW, (Change("change", "schedule", "s", (field,)),), (Caution("paused", f"by {nasty} _x_ a_b"),))
    said = as_markdown(made, source="f").splitlines()
    assert said[5] == '  - ``payload.a`b``: `none` → ``"`x` | <b> @anna\\n# no"``'
    assert r"by \`x\` \| \<b> &#64;anna \# no \_x\_ a_b" in " ".join(said[-2:])


@pytest.mark.parametrize(
    ("name", "given", "shown"),
    [
        ("timeout", timedelta(minutes=90), "1h30m"),
        ("priority", 2, "high (2)"),
        ("priority", 3, "3"),
        ("limit", MISSING, "none"),
        ("payload.a", None, "null"),
        ("payload.a", True, "true"),
        ("payload.a", "true", '"true"'),
        ("payload.a", "none", '"none"'),
        ("payload.a", "3", '"3"'),
        ("payload.a", "1e5", '"1e5"'),
        ("payload.a", 2.5, "2.5"),
        ("payload.a", "${NAME}", '"${NAME}"'),
        ("payload.a", "\x1b[31m\u202e", '"\\u001b[31m\\u202e"'),
        ("payload.a", ["x", {"y": 1}], "[x, {y: 1}]"),
        ("payload.a", {}, "{}"),
        ("retry", RetryPolicy(delay=(timedelta(seconds=1),), max_attempts=4), "{max_attempts: 4, delay: 1s}"),
        ("from", datetime(2026, 4, 1, tzinfo=UTC), "2026-04-01T00:00:00+00:00"),
    ],
)
def test_values_read_as_in_the_file(name: str, given: object, shown: str) -> None:
    """A text that could be taken for something else is quoted; what does not print is escaped."""
    assert value(name, given) == shown


def test_a_priority_in_a_payload_is_a_number_like_any_other() -> None:
    assert value("payload.priority", 2) == "2"
    assert text(2) == "2"


def test_plain_data() -> None:
    """Durations are seconds, whole where they can be; a policy is a mapping."""
    assert plain(timedelta(minutes=1)) == 60
    assert plain(timedelta(milliseconds=1500)) == 1.5
    assert plain(MISSING) is None
    assert plain(RetryPolicy())["max_delay"] == 300


def test_the_head_names_what_is_compared() -> None:
    """A revision, an empty database, or another file by the name that the caller knows."""
    made = plan(Stored(), definitions(FILE), NOW)
    assert as_text(made, source="f").startswith("f against an empty database, now 2026-03-27 09:00 UTC\n")
    assert as_text(replace(made, is_first=False), source="f").startswith("f against the other file, now ")
    assert as_markdown(made, source="f", against="old.yaml").startswith("### Plan: f against old.yaml\n")
