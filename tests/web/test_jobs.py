"""The list of jobs: what is in progress on top, the rest by state, all of it in the address."""

from __future__ import annotations

import re

import pytest

from runner.domain.access import Role
from tests.api.site import Client, Site
from tests.factories import NOW
from tests.web.test_session import signed_in


def section(page: str, region: str) -> str:
    found = re.search(rf'data-region="{region}".*?(?=data-region=|</main>)', page, re.DOTALL)
    assert found is not None
    return found[0]


def test_what_is_in_progress_stands_above_what_has_ended(site: Site, browser: Client) -> None:
    """Each with a way to its page, and to cancel it; the tabs count."""
    for _ in range(3):
        site.bench.enqueue("echo")
    site.finish(1, 2, 3)
    waiting = site.bench.enqueue("work")
    page = browser.get("/jobs").text
    live, rows = section(page, "live"), section(page, "rows")
    assert f'data-ids="{waiting}"' in live
    assert f'href="/jobs/{waiting}/cancel"' in live
    assert re.findall(r'id="job-(\d+)"', rows) == ["3", "2", "1"]
    assert re.findall(r"(\w+) <span class=\"count\">(\d+)<", page)[:2] == [("Finished", "3"), ("Completed", "3")]


def test_the_live_part_can_be_asked_for_alone(site: Site, browser: Client) -> None:
    """It is the same part, and nothing else."""
    site.bench.enqueue("echo")
    part, whole = browser.get("/jobs?part=live").text, browser.get("/jobs").text
    assert part.strip().startswith("<section")
    assert part.strip() in whole


def test_filters_are_in_the_address(site: Site, browser: Client) -> None:
    """They are kept by tabs and pages, and shown in the form, as text."""
    site.bench.enqueue("fail")
    site.bench.enqueue("echo")
    site.finish(1, 2)
    page = browser.get("/jobs?state=failed&type=fail&since=24h&q=%22%3E%3Cb%3E").text
    assert 'value="&#34;&gt;&lt;b&gt;"' in page
    assert "<b>" not in page
    assert 'href="/jobs?state=completed&amp;q=%22%3E%3Cb%3E&amp;type=fail&amp;since=24h"' in page
    assert re.findall(r'id="job-(\d+)"', browser.get("/jobs?type=fail").text) == ["1"]
    assert re.findall(r'id="job-(\d+)"', browser.get("/jobs?state=completed").text) == ["2"]


@pytest.mark.parametrize("query", ["state=lost", "since=x", "since=-1h", "since=999999999d", "after=x", "q=%00"])
def test_an_address_that_cannot_be_read_shows_what_it_can(browser: Client, query: str) -> None:
    """And says what it cannot."""
    answer = browser.get(f"/jobs?{query}")
    assert answer.status_code == 200
    assert ('class="problem"' in answer.text) is query.startswith(("state", "since"))


def test_older_pages_follow_the_last_row(site: Site, browser: Client) -> None:
    """Fifty at a time; new jobs move nothing."""
    for _ in range(60):
        site.bench.app.jobs.cancel(site.bench.enqueue("echo"), NOW)
    first = browser.get("/jobs").text
    assert 'href="/jobs?after=11" rel="next"' in first
    assert len(re.findall(r'id="job-', browser.get("/jobs?after=11").text)) == 10


def test_a_key_of_a_project_sees_its_jobs_and_their_number(site: Site) -> None:
    """A viewer is offered nothing that he may not do."""
    for project in ("shop", "blog"):
        site.bench.enqueue("echo", {"value": project}, project_id=project)
        site.bench.app.jobs.cancel(site.bench.enqueue("echo", project_id=project), NOW)
    page = signed_in(site, Role.VIEWER, "blog").get("/jobs").text
    assert re.findall(r"Finished <span class=\"count\">(\d+)<", page) == ["1"]
    assert 'data-ids="3"' in page
    assert "/cancel" not in page
    assert "New job" not in page


def test_a_cancel_from_the_list_leads_back_to_it(site: Site, browser: Client) -> None:
    """With its filters."""
    site.bench.enqueue("echo")
    answer = browser.post("/jobs/1/cancel", data={"next": "/jobs?type=echo"})
    assert answer.headers["location"] == "/jobs?type=echo"
