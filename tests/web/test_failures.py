"""Failures by what they said, and a whole group tried again."""

from __future__ import annotations

import re

import pytest

from runner.domain.access import Role
from runner.domain.job import JobState
from runner.http import acts
from runner.storage.access import AccessStore
from tests.api.site import Client, Site
from tests.contract.test_failures import fail
from tests.factories import DAY, NOW
from tests.web.test_acting import sent
from tests.web.test_session import signed_in


@pytest.fixture
def failed(site: Site) -> None:
    database = site.bench.app.database
    fail(database, *(f"OSError: disk {n} is <full>\n\nTraceback" for n in range(3)), type="echo")
    fail(database, "Job processor stopped responding", type="echo", completed_at=NOW - 2 * DAY)
    fail(database, "OSError: disk 1 is <full>", type="work", project_id="shop")


def groups(page: str) -> list[tuple[str, str, str]]:
    """Error, type and number, as shown."""
    row = r'<span class="problem">([^<]*)</span>.*?<span class="kind">(\w+)</span>.*?number-cell">(\d+)<'
    return re.findall(row, page, re.DOTALL)


def question(client: Client, page: str) -> str:
    link = re.search(r'href="(/failures/retry[^"]*)"', page)
    assert link is not None
    return client.get(link[1].replace("&amp;", "&")).text


@pytest.mark.usefixtures("failed")
def test_failures_are_grouped_by_what_they_said(browser: Client) -> None:
    """The largest first, with a job of each, and what a dead worker left marked; all of it text."""
    page = browser.get("/failures").text
    disk = "OSError: disk &lt;n&gt; is &lt;full&gt;"
    assert groups(page)[0] == (disk, "echo", "3")
    assert set(groups(page)[1:]) == {(disk, "work", "1"), ("Job processor stopped responding", "echo", "1")}
    assert 'href="/jobs/3"' in page
    assert page.count("state-stalled") == 1
    assert len(groups(browser.get("/failures?since=24h").text)) == 2
    assert "is not a duration" in browser.get("/failures?since=x").text


@pytest.mark.usefixtures("failed")
def test_a_group_is_tried_again_after_a_question(site: Site, browser: Client) -> None:
    """It alone, each audited; then there is no such group."""
    asked = question(browser, browser.get("/failures").text)
    assert "Retry 3 jobs?" in asked
    assert site.bench.state(1) == JobState.FAILED

    done = browser.post("/failures/retry", data=dict(sent(asked))).text

    assert "Retried: 3 jobs" in done
    assert [site.bench.state(one) for one in range(1, 6)] == [*["pending"] * 3, "failed", "failed"]
    assert len(AccessStore(site.bench.app.database).audited()) == 3
    assert browser.post("/failures/retry", data=dict(sent(asked))).status_code == 404


@pytest.mark.usefixtures("failed")
def test_of_a_large_group_a_part_goes_at_once(site: Site, browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest that were there at the question; the rest is offered."""
    monkeypatch.setattr(acts, "MOST", 2)
    asked = question(browser, browser.get("/failures").text)
    fail(site.bench.app.database, "OSError: disk 9 is <full>", type="echo")

    done = browser.post("/failures/retry", data=dict(sent(asked))).text

    assert [site.bench.state(one) for one in (1, 2, 3, 6)] == ["failed", "pending", "pending", "failed"]
    assert "Go on with the other 2" in done
    assert "Retry 2 jobs?" in question(browser, done)


@pytest.mark.usefixtures("failed")
@pytest.mark.parametrize("upto", ["9" * 5000, "x", "-1", ""])
def test_a_number_that_is_none_is_as_if_it_was_not_said(site: Site, browser: Client, upto: str) -> None:
    """All of the group, and no fault."""
    given = dict(sent(question(browser, browser.get("/failures").text))) | {"upto": upto}
    assert "Retried: 3 jobs" in browser.post("/failures/retry", data=given).text


@pytest.mark.usefixtures("failed")
def test_a_key_of_a_project_sees_and_touches_its_failures_alone(site: Site, browser: Client) -> None:
    """Also where it names the group of others; a viewer is offered nothing."""
    theirs = dict(sent(question(browser, browser.get("/failures").text)))
    client = signed_in(site, Role.OPERATOR, "shop")
    page = client.get("/failures").text
    assert [one[1:] for one in groups(page)] == [("work", "1")]
    assert client.post("/failures/retry", data=theirs).status_code == 404
    assert "Retried: 1 job<" in client.post("/failures/retry", data=dict(sent(question(client, page)))).text
    assert site.bench.state(1) == JobState.FAILED
    assert "/failures/retry" not in signed_in(site, Role.VIEWER).get("/failures").text


def test_where_nothing_failed_it_says_so(browser: Client) -> None:
    """And asks nothing of a group that is not there."""
    assert "No job has failed" in browser.get("/failures").text
    assert browser.get("/failures/retry?group=x").status_code == 404
