"""The list as a file: what the filter shows, as text that no spreadsheet works out, without secrets."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc

import pytest

from runner.domain.access import Role
from runner.web import exports
from tests.api.site import Client, Site
from tests.factories import NOW
from tests.web.test_session import signed_in

FORMULA = '=HYPERLINK("http://evil.example","x")'


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_both_files_hold_the_jobs_of_the_filter(
    site: Site, browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """All pages of it, the newest first, each once."""
    monkeypatch.setattr(exports, "ROWS", 3)
    for number in range(7):
        site.bench.app.jobs.cancel(site.bench.enqueue("echo", {"value": number}), NOW, "not wanted")
    site.bench.enqueue("urgent")
    table = browser.get("/jobs/export.csv?state=cancelled&type=echo")
    lines = browser.get("/jobs/export.jsonl?state=cancelled&type=echo")
    assert table.headers["content-disposition"] == 'attachment; filename="jobs.csv"'
    assert [row["id"] for row in rows(table.text)] == [str(one) for one in range(7, 0, -1)]
    assert [json.loads(line)["id"] for line in lines.text.splitlines()] == list(range(7, 0, -1))
    assert rows(table.text)[0] | {"payload": '{"value":6}', "error": "not wanted"} == rows(table.text)[0]
    assert browser.get("/jobs/export.csv?state=running").text.count("\n") == 1
    assert browser.get("/jobs/export.jsonl?state=running").text == ""


@pytest.mark.parametrize("text", [FORMULA, "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1"])
def test_no_cell_is_a_formula(site: Site, browser: Client, text: str) -> None:
    """Whatever a job or its canceller wrote; the JSON is as it was."""
    job = site.bench.enqueue("echo", {"value": text})
    site.bench.app.jobs.cancel(job, NOW, text)
    (row,) = rows(browser.get("/jobs/export.csv").text)
    assert row["error"] == f"'{text}"
    assert not row["payload"].startswith(tuple("=+-@"))
    assert json.loads(browser.get("/jobs/export.jsonl").text)["error"] == text


def test_quotes_and_lines_stay_in_their_cell(site: Site, browser: Client) -> None:
    """So that nothing begins a cell of its own."""
    job = site.bench.enqueue("echo")
    site.bench.app.jobs.cancel(job, NOW, 'a",=1,"\n=2\r\n;=3')
    (row,) = rows(browser.get("/jobs/export.csv").text)
    assert row["error"] == 'a",=1,"\n=2\r\n;=3'
    assert row["status"] == "cancelled"


def test_secrets_are_covered_and_other_projects_left_out(site: Site) -> None:
    """As on the pages."""
    for project in ("shop", "blog"):
        payload = {"value": project, "login": {"password": "hunter2"}}
        site.bench.app.jobs.cancel(site.bench.enqueue("echo", payload, project_id=project), NOW)
    client = signed_in(site, Role.VIEWER, "blog")
    for kind in ("csv", "jsonl"):
        text = client.get(f"/jobs/export.{kind}").text
        assert "hunter2" not in text
        assert "••••••" in text
        assert "shop" not in text
        assert "blog" in text


def test_a_filter_that_cannot_be_read_is_refused(browser: Client) -> None:
    """A file of all jobs would be taken for what was asked."""
    assert browser.get("/jobs/export.csv?since=soon").status_code == 422
    assert browser.get("/jobs/export.csv?state=lost").status_code == 422


def test_a_large_export_is_not_held_in_memory(site: Site) -> None:
    """Only as many jobs as are read at once."""
    from runner.storage.jobs import JobFilter

    doors = site.inner.state.doors
    for _ in range(5):
        site.bench.app.jobs.enqueue_many([_large() for _ in range(200)], NOW)
    tracemalloc.start()
    size = sum(map(len, exports._pieces(doors, JobFilter(), exports._json_lines, "")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 20_000_000
    assert peak < size / 2


def _large() -> object:
    from tests.factories import make_new_job

    return make_new_job("echo", payload={"value": "x" * 20_000})
