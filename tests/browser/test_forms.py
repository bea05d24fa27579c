"""Forms of payloads as people fill them in: each shipped type, and objects in objects, with a script and without."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from runner.web.fields import Field, fields_of
from tests.browser.test_live import served
from tests.engine.bench import DEADLINE, Bench, kind
from tests.web.test_new import NESTED, SHIPPED

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DEEP = {
    "required": ["house"],
    "properties": {
        "house": {
            "type": "object",
            "required": ["room"],
            "properties": {
                "name": {"type": "string"},
                "room": {
                    "type": "object",
                    "required": ["shelf"],
                    "properties": {
                        "doors": {"type": "integer", "minimum": 0},
                        "shelf": {
                            "type": "object",
                            "required": ["books"],
                            "properties": {
                                "books": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                                "since": {"type": "string", "format": "date"},
                                "order": {"enum": ["title", "author"], "default": "title"},
                                "is_full": {"type": "boolean", "default": True},
                            },
                        },
                    },
                },
            },
        }
    },
}
TYPES = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["job_types"]
JOB = re.compile(r"/jobs/\d+$")
SCHEMAS = {name: one.get("payload_schema") for name, one in TYPES.items()} | {"nested": NESTED, "deep": DEEP}


def fill(tab: Page, fields: Sequence[Field]) -> dict[str, Any]:
    """Something else than the default into each control, and what that comes to."""
    return {field.name: _fill(tab, field) for field in fields}


def _fill(tab: Page, field: Field) -> Any:
    control = tab.locator(f'[id="f-{field.path}"]')
    match field.kind:
        case "group":
            return fill(tab, field.fields)
        case "choice":
            value = field.choices[-1]
            control.select_option(value if isinstance(value, str) else str(value))
        case "choices":
            value = [field.choices[-1]]
            for box in tab.locator(f'input[name="payload.{field.path}"]').all():
                box.set_checked(box.get_attribute("value") == value[0])
        case "boolean":
            value = field.shown is not True
            if isinstance(field.shown, bool):
                control.set_checked(value)
            else:
                control.select_option("true" if value else "false")
        case _:
            value = _written(field)
            lines = value if field.kind == "list" else [value if isinstance(value, str) else json.dumps(value)]
            control.fill("\n".join(map(str, lines)))
    return value


def _written(field: Field) -> Any:
    match field.kind:
        case "list":
            return [5, 6] if field.items == "integer" else ["one <b>", "zwei ü"]
        case "json":
            return {"a": ["<b>", None]}
        case "number":
            value = 4 if field.items == "integer" else 2.5
            return max(value, field.schema.get("minimum", value))
        case "date":
            return "2026-02-28"
    return 'a "text" & <b>'


@pytest.mark.parametrize("has_script", [True, False])
def test_every_schema_can_be_submitted(bench: Bench, chromium: Browser, has_script: bool) -> None:
    """What is filled in is the payload, whatever the control; then the same job is run again as it was."""
    bench.define(*(kind(name, "echo", payload_schema=schema) for name, schema in SCHEMAS.items()))
    with bench.worker() as worker, served(bench, worker) as (url, _):
        context = chromium.new_context(java_script_enabled=has_script)
        context.set_default_timeout(DEADLINE * 1000)
        tab = context.new_page()
        for name, schema in SCHEMAS.items():
            tab.goto(f"{url}/jobs/new?type={name}")
            expected = fill(tab, fields_of(schema) or ())
            tab.get_by_role("button", name="Submit").click()
            tab.wait_for_url(JOB)
            job = bench.job(int(tab.url.rpartition("/")[2]))
            assert (name, job.payload) == (name, expected)
            tab.goto(f"{url}/jobs/new?from={job.id}")
            tab.get_by_role("button", name="Submit").click()
            tab.wait_for_url(JOB)
            again = bench.job(int(tab.url.rpartition("/")[2]))
            assert (again.id, again.payload) != (job.id, expected)
            assert again.payload == expected
        context.close()
    assert len(bench.all_jobs()) == 2 * len(SCHEMAS)
