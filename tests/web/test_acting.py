"""Many jobs of the list at once: asked first, done up to a limit, and what could not be done is told."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runner.domain.access import Role
from runner.domain.job import JobState
from runner.http import acts
from runner.storage.access import AccessStore
from tests.api.site import Client, Site
from tests.web.test_session import signed_in

ASK = "/jobs/act"


def sent(page: str) -> list[tuple[str, str]]:
    """The fields of the question, as a browser sends them."""
    form = re.search(r'<form method="post" action="[^"]*" class="card narrow">.*?</form>', page, re.DOTALL)
    assert form is not None, page
    return re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form[0])


def answer(client: Client, page: str, **more: str) -> Any:
    fields = [*sent(page), *more.items()]
    given: dict[str, list[str]] = {}
    for name, value in fields:
        given.setdefault(name, []).append(value)
    return client.post(ASK, data=given)


@pytest.fixture
def failed(site: Site) -> list[int]:
    ids = [site.bench.enqueue("fail") for _ in range(3)]
    site.finish(*ids)
    return ids


def test_the_selected_are_asked_about_and_retried(site: Site, browser: Client, failed: list[int]) -> None:
    """Nothing is done by the question; each retry is audited."""
    page = browser.get(f"{ASK}?action=retry&id={failed[0]}&id={failed[2]}").text
    assert "Retry 2 jobs?" in page
    assert "2 failed." in page
    assert site.bench.state(failed[0]) == JobState.FAILED

    done = answer(browser, page)

    assert "Retried: 2 jobs" in done.text
    assert [site.bench.state(one) for one in failed] == ["pending", "failed", "pending"]
    audited = AccessStore(site.bench.app.database).audited()
    assert {(one.action, one.target) for one in audited} == {("retry", "job 1"), ("retry", "job 3")}


def test_what_could_not_be_done_is_told_with_its_reason(site: Site, browser: Client, failed: list[int]) -> None:
    """The rest is done; what had gone before the question is left alone."""
    waiting = site.bench.enqueue("echo")
    page = browser.get(f"{ASK}?action=retry&id=1&id=2&id={waiting}&id=99").text
    assert "2 of the selected cannot be retried" in page
    site.bench.app.jobs.retry(1, site.bench.clock.now())

    done = answer(browser, page).text

    assert "Retried: 1 job<" in done
    assert "job 1 is pending, not finished" in done
    assert "Nothing to retry" in browser.get(f"{ASK}?action=retry&id={waiting}").text
    assert "No job was selected" in browser.get(f"{ASK}?action=retry").text


def test_all_that_match_are_those_of_the_filter(site: Site, browser: Client, failed: list[int]) -> None:
    """Of the state and the type that are shown, and of that moment: who came later was not asked about."""
    site.bench.enqueue("echo")
    site.finish(4)
    page = browser.get(f"{ASK}?action=retry&all=yes&state=failed&type=fail").text
    assert "Retry 3 jobs?" in page
    later = site.bench.enqueue("fail")
    site.finish(later)

    assert "Retried: 3 jobs" in answer(browser, page).text

    assert [site.bench.state(one) for one in (1, 2, 3, 4, later)] == [*["pending"] * 3, "completed", "failed"]


def test_a_thousand_go_at_once_and_the_rest_is_offered(
    site: Site, browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same filter."""
    monkeypatch.setattr(acts, "MOST", 2)
    for _ in range(3):
        site.bench.enqueue("echo")
    page = browser.get(f"{ASK}?action=cancel&all=yes&state=pending&type=echo").text
    assert "Cancel 3 jobs?" in page
    assert "2 at a time" in page

    done = answer(browser, page, reason="not <wanted>").text

    assert [site.bench.state(one) for one in (1, 2, 3)] == ["pending", "cancelled", "cancelled"]
    assert site.bench.job(3).error == "not <wanted>"
    assert "Go on with the other 1" in done
    assert 'href="/jobs/act?state=pending&amp;type=echo&amp;action=cancel&amp;all=yes"' in done


@pytest.mark.parametrize("query", ["all=yes&since=soon", "all=yes&state=lost", "all=yes&until=x"])
def test_a_filter_that_cannot_be_read_makes_not_more_jobs_of_it(
    site: Site, browser: Client, failed: list[int], query: str
) -> None:
    """Neither asked about nor done."""
    assert browser.get(f"{ASK}?action=retry&{query}").status_code == 422
    given = dict(pair.split("=") for pair in query.split("&"))
    assert browser.post(ASK, data={"action": "retry", "upto": "9"} | given).status_code == 422
    assert browser.get(f"{ASK}?action=delete&all=yes").status_code == 422
    assert {site.bench.state(one) for one in failed} == {"failed"}


def test_a_key_of_a_project_reaches_its_jobs_alone(site: Site) -> None:
    """By their ids and by a filter; a viewer is not asked."""
    theirs, own = site.bench.enqueue("echo", project_id="shop"), site.bench.enqueue("echo", project_id="blog")
    client = signed_in(site, Role.OPERATOR, "blog")
    assert "Cancel 1 job?" in client.get(f"{ASK}?action=cancel&all=yes&state=pending").text
    forced = client.post(ASK, data={"action": "cancel", "id": [str(theirs), str(own)]}).text
    assert f"there is no job {theirs}" in forced
    assert (site.bench.state(theirs), site.bench.state(own)) == ("pending", "cancelled")
    assert client.post(ASK, data={"action": "cancel", "all": "yes", "state": "pending"}).status_code == 200
    assert site.bench.state(theirs) == "pending"
    assert signed_in(site, Role.VIEWER).get(f"{ASK}?action=cancel&all=yes").status_code == 403


def test_the_list_offers_what_can_be_done(site: Site, browser: Client, failed: list[int]) -> None:
    """To who may do it: a box for each job, one for all, and the filter goes with them."""
    page = browser.get("/jobs?state=failed&type=fail").text
    assert re.findall(r'name="id" value="(\d+)"', page) == ["3", "2", "1"]
    assert "All 3 that match" in page
    assert '<input type="hidden" name="type" value="fail">' in page
    assert 'value="retry"' in page
    assert 'value="cancel"' not in page
    assert 'name="id"' not in signed_in(site, Role.VIEWER).get("/jobs").text
