"""The form of a new job: what its schema says can be filled in, without a script; what does not fit is told there."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.domain.access import Role
from runner.storage.jobs import JobFilter
from runner.web.fields import fields_of
from runner.web.sending import payload_of
from tests.api.site import Client, Site
from tests.engine.bench import kind
from tests.web.test_session import signed_in

SHIPPED = Path(__file__).resolve().parents[2] / "schedules.yaml"
NESTED: dict[str, Any] = {
    "required": ["title", "range"],
    "$defs": {"mode": {"enum": ["fast", "slow", 3]}},
    "properties": {
        "title": {"type": "string", "description": "What stands <above>"},
        "count": {"type": "integer", "default": 7},
        "ratio": {"type": ["number", "null"], "default": 0.5},
        "mode": {"$ref": "#/$defs/mode", "default": "fast"},
        "draft": {"type": "boolean", "default": True},
        "loud": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "ids": {"type": "array", "items": {"type": "integer"}, "default": [1, 2]},
        "sources": {"type": "array", "items": {"enum": ["news", "video"]}, "default": ["news"]},
        "anything": {},
        "range": {
            "type": "object",
            "required": ["from"],
            "properties": {
                "from": {"type": "string", "format": "date"},
                "until": {
                    "type": "object",
                    "properties": {"day": {"type": "string", "format": "date"}, "open": {"type": "boolean"}},
                },
            },
        },
    },
}
GIVEN = {
    "payload.title": "A <b>", "payload.count": "123456789012345678901234567890", "payload.mode": "3",
    "payload.draft": "false", "payload.tags": "one\r\n\r\ntwo", "payload.ids": "3\n4",
    "payload.sources": ["news", "video"],
    "payload.ratio": "", "payload.anything": '{"a": [1]}', "payload.range.from": "2026-01-01",
    "payload.range.until.day": "2026-02-01", "once": "a",
}  # fmt: skip


@pytest.fixture
def form(site: Site) -> str:
    site.bench.define(kind("nested", "echo", payload_schema=NESTED), kind("echo"))
    return "/jobs/new?type=nested"


def test_a_form_has_a_control_for_each_kind_of_value(form: str, browser: Client) -> None:
    """With defaults, descriptions and what is required."""
    page = unescape(browser.get(form).text)
    for path in ("title", "count", "range.from", "range.until.day"):
        assert f'name="payload.{path}"' in page
    assert 'type="date" id="f-range.from" name="payload.range.from" required' in page
    assert 'name="payload.count" value="7"' in page
    assert "<option selected>fast</option>" in page
    assert re.search(r'value="true" id="f-draft" name="payload.draft"\s+checked', page)
    assert "\n1\n2</textarea>" in page
    assert "&lt;above&gt;" in browser.get(form).text


def test_what_was_filled_in_becomes_the_payload(form: str, site: Site, browser: Client) -> None:
    """In its types; what is empty is left to the defaults; pressed twice it is one job."""
    first = browser.post(form, data=GIVEN)
    assert (first.status_code, first.headers.get("location")) == (303, "/jobs/1"), first.text
    assert browser.post(form, data=GIVEN).headers["location"] == "/jobs/1"
    assert site.bench.job(1).payload == {
        "title": "A <b>", "count": 123456789012345678901234567890, "mode": 3, "draft": False, "tags": ["one", "two"],
        "ids": [3, 4], "sources": ["news", "video"], "ratio": None, "anything": {"a": [1]},
        "range": {"from": "2026-01-01", "until": {"day": "2026-02-01"}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "beside"),
    [
        ({"payload.count": "many"}, "f-count-problem-1"),
        ({"payload.title": ""}, "f-title-problem-1"),
        ({"payload.range.from": "soon"}, "f-range.from-problem-1"),
        ({"payload.range.from": "", "payload.range.until.day": ""}, "f-range.from-problem-1"),
        ({"payload.ids": "1\nx"}, "f-ids-problem-1"),
        ({"payload.mode": "quick"}, "f-mode-problem-1"),
        ({"payload.title": "a\x00b"}, "f-title-problem-1"),
        ({"run_at": "soon"}, None),
        ({"run_at": "9999-12-31T23:59", "zone": "America/New_York"}, None),
        ({"priority": "eleven"}, None),
    ],
)
def test_what_does_not_fit_is_told_beside_its_field(
    form: str, site: Site, browser: Client, changed: dict[str, str], beside: str | None
) -> None:
    """What was written stays; nothing is enqueued."""
    client = site.client(browser.headers | {"Cookie": f"runner_zone={changed.get('zone', 'UTC')}"})
    answer = client.post(form, data=GIVEN | changed)
    assert answer.status_code == 422
    assert 'value="A &lt;b&gt;"' in answer.text or "payload.title" in changed
    assert (f'class="problem" id="{beside}"' in answer.text) if beside else ('role="alert"' in answer.text)
    assert not site.bench.app.jobs.find(JobFilter())[0]


def test_a_time_is_meant_in_the_zone_of_the_reader(site: Site, browser: Client) -> None:
    """And so is said beside the field."""
    berlin = site.client(browser.headers | {"Cookie": "runner_zone=Europe%2FBerlin"})
    assert "in Europe/Berlin" in berlin.get("/jobs/new?type=echo").text
    berlin.post("/jobs/new?type=echo", data={"payload": "{}", "run_at": "2026-07-01T12:00", "priority": "high"})
    job = site.bench.job(1)
    assert (job.run_at.isoformat(), job.priority) == ("2026-07-01T10:00:00+00:00", 2)


@pytest.mark.parametrize("text", ['{"a": [1,', "[" * 100_000, '"open'])
def test_what_begins_as_json_is_not_taken_for_text(site: Site, browser: Client, text: str) -> None:
    """Where the schema takes whatever it is, nobody else would say so; it stays as written."""
    schema = {"properties": {"extra": {}}}
    site.bench.define(kind("echo", payload_schema=schema))
    answer = browser.post("/jobs/new?type=echo", data={"payload.extra": text})
    assert (answer.status_code, "is not JSON" in answer.text) == (422, True)
    assert not site.bench.app.jobs.find(JobFilter())[0]
    browser.post("/jobs/new?type=echo", data={"payload.extra": "a word"})
    assert site.bench.job(1).payload == {"extra": "a word"}


def test_a_type_without_a_schema_takes_json(site: Site, browser: Client) -> None:
    """What is none is told."""
    assert browser.post("/jobs/new?type=echo", data={"payload": '{"value": 1}'}).status_code == 303
    assert site.bench.job(1).payload == {"value": 1}
    assert browser.post("/jobs/new?type=echo", data={"payload": "{value"}).status_code == 422
    assert browser.get("/jobs/new?type=none").status_code == 422
    assert "type=echo" in browser.get("/jobs/new").text


def test_jobs_of_a_page_belong_to_the_projects_of_the_key(site: Site) -> None:
    """As by the API."""
    client = signed_in(site, Role.OPERATOR, "blog")
    assert client.post("/jobs/new?type=echo", data={"payload": "{}"}).headers["location"] == "/jobs/1"
    assert site.bench.job(1).project_id == "blog"
    assert client.post("/jobs/new?type=echo", data={"payload": "{}", "project": "shop"}).status_code == 403


@pytest.mark.parametrize("name", sorted(yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["job_types"]))
def test_each_shipped_schema_makes_a_form_of_plain_fields(name: str) -> None:
    """None needs JSON; sent as it is shown, it says what the defaults say."""
    schema = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["job_types"][name].get("payload_schema")
    fields = fields_of(schema)
    assert fields is not None
    assert not [field.path for field in fields if field.kind == "json"]
    given = {f"payload.{one.path}": _as_sent(one.shown) for one in fields}
    made = payload_of(fields, given)
    assert {key: made[key] for key in made if "default" in schema["properties"][key]} == {
        key: value["default"] for key, value in schema["properties"].items() if "default" in value
    }


def _as_sent(shown: Any) -> list[str]:
    if isinstance(shown, bool):
        return ["false", "true"] if shown else ["false"]
    return shown if isinstance(shown, list) else [shown]
