"""Lists and links as people use them: select and act, a group of failures, a page shared with who has no key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.domain.access import Role, new_key
from runner.domain.job import JobState
from runner.storage.access import AccessStore
from tests.browser.test_live import said, served, shows
from tests.contract.test_failures import fail
from tests.engine.bench import Bench
from tests.engine.sample_handlers import gate

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def test_what_is_selected_stays_so_while_the_list_renews_itself(bench: Bench, page: Page) -> None:
    """The number is told; the box on top is of the page; nothing is done before the question is answered."""
    fail(bench.app.database, "OSError: a", "OSError: b", "OSError: c", type="tells")
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(f"{url}/jobs?state=failed")
        assert page.locator("#act-retry").is_disabled()
        page.get_by_label("Select job 2").check()
        assert page.locator("#picked").inner_text() == "1 selected"
        bench.enqueue("say_until_stopped")
        bench.until(worker, lambda: page.locator("#live-4").count() == 1)
        bench.until(worker, lambda: page.evaluate("performance.getEntriesByType('resource').length") > 3)
        assert page.get_by_label("Select job 2").is_checked()
        page.locator("#pick-page").check()
        assert page.locator("#picked").inner_text() == "3 selected"
        page.get_by_label("Select job 3").uncheck()
        page.locator("#act-retry").click()
        assert page.get_by_role("heading", name="Retry 2 jobs?").is_visible()
        assert bench.state(2) == JobState.FAILED
        page.get_by_role("button", name="Retry 2 jobs").click()
        page.get_by_role("heading", name="Retried: 2 jobs").wait_for()
        assert bench.state(3) == JobState.FAILED
        page.get_by_role("link", name="Back to the jobs").click()
        bench.until(worker, lambda: bench.state(4) == JobState.RUNNING)
        bench.app.jobs.cancel(4, bench.clock.now())
        bench.until(worker, lambda: bench.state(4) == JobState.CANCELLED)


@pytest.mark.parametrize("has_script", [True, False])
def test_the_box_for_all_rows_is_there_where_it_works(bench: Bench, chromium: Browser, has_script: bool) -> None:
    """It is a script that checks the others."""
    fail(bench.app.database, "OSError: a", type="tells")
    with bench.worker() as worker, served(bench, worker) as (url, _):
        context = chromium.new_context(java_script_enabled=has_script)
        tab = context.new_page()
        tab.goto(f"{url}/jobs?state=failed")
        assert tab.locator("#pick-1").is_visible()
        assert tab.locator("#pick-page").is_visible() == has_script
        context.close()


def test_all_that_match_without_a_script(bench: Bench, chromium: Browser) -> None:
    """Selected, asked, done; and a group of failures likewise."""
    fail(bench.app.database, "OSError: row 1", "OSError: row 22", type="tells")
    for _ in range(3):
        bench.enqueue("tells", {"title": "a"}, queue="later")
    with bench.worker() as worker, served(bench, worker) as (url, _):
        context = chromium.new_context(java_script_enabled=False)
        tab = context.new_page()
        tab.goto(f"{url}/jobs?state=pending&queue=later")
        tab.get_by_label("All 3 that match").check()
        tab.get_by_role("button", name="Cancel …").click()
        tab.get_by_label("Reason").fill("not wanted")
        tab.get_by_role("button", name="Cancel 3 jobs").click()
        assert tab.get_by_role("heading", name="Cancelled: 3 jobs").is_visible()
        tab.goto(f"{url}/failures")
        tab.get_by_role("link", name="Retry this group of 2").click()
        tab.get_by_role("button", name="Retry 2 jobs").click()
        assert tab.get_by_role("heading", name="Retried: 2 jobs").is_visible()
        with tab.expect_download() as download:
            tab.goto(f"{url}/jobs?state=cancelled")
            tab.get_by_role("link", name="CSV").click()
        assert download.value.path().read_text(encoding="utf-8").count("not wanted") == 3
        context.close()
    assert {bench.state(one) for one in (3, 4, 5)} == {"cancelled"}
    assert {bench.state(one) for one in (1, 2)} == {"pending"}


def test_whose_session_has_ended_is_asked_to_sign_in(bench: Bench, page: Page) -> None:
    """By itself, on the first page too, whose address begins every other."""
    key, access = new_key(), AccessStore(bench.app.database)
    access.add(key, Role.VIEWER, None, bench.clock.now(), by="test")
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(url)
        page.get_by_label("API key").fill(key.text)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Dashboard").wait_for()
        access.revoke(key.key_id, bench.clock.now())
        page.wait_for_url(lambda address: "/sign-in?next=" in address)


def test_who_waits_for_a_refresh_has_what_happened_before_it(bench: Bench, page: Page) -> None:
    """One that was running may have asked before: another follows, and both are waited for."""
    ask = """async (address) => {
      const { refresh } = await import(address);
      refresh();
      await refresh();
      return performance.getEntriesByType("resource").filter((one) => one.initiatorType === "fetch").length;
    }"""
    with bench.worker() as worker, served(bench, worker) as (url, _):
        page.goto(f"{url}/failures")
        assert page.evaluate(ask, f"{url}/static/regions.js") == 2


@pytest.mark.parametrize("has_script", [True, False])
def test_a_page_is_shared_by_a_link(bench: Bench, chromium: Browser, has_script: bool) -> None:
    """Made by an operator, opened in another browser, live, and of that job alone; no address holds its text."""
    key = new_key()
    AccessStore(bench.app.database).add(key, Role.OPERATOR, None, bench.clock.now(), by="test")
    job, other = bench.enqueue("tells", {"title": "a"}), bench.enqueue("tells", {"title": "b"}, queue="later")
    asked: list[str] = []
    with bench.worker() as worker, served(bench, worker) as (url, _):
        owner, guest = chromium.new_context(), chromium.new_context(java_script_enabled=has_script)
        tab = owner.new_page()
        tab.goto(f"{url}/jobs/{job}")
        tab.get_by_label("API key").fill(key.text)
        tab.get_by_role("button", name="Sign in").click()
        tab.wait_for_url(f"**/jobs/{job}")
        tab.get_by_text("Share this page").click()
        tab.get_by_role("button", name="Make a link").click()
        link = tab.get_by_label("Who has it").input_value()
        owner.close()

        page = guest.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(link)
        if not has_script:
            page.get_by_label("The link").fill(link)
            page.get_by_role("button", name="Open").click()
        page.wait_for_url(f"**/jobs/{job}")
        bench.until(worker, lambda: bench.lines(job) == ["one <b>&\n"])
        if has_script:
            bench.until(worker, lambda: shows(page, "#connection-text", "live") and said(page) == ["one <b>&\n"])
        gate().opened.set()
        bench.until(worker, lambda: bench.state(job) == JobState.COMPLETED)
        if has_script:
            page.wait_for_url("**/output")
        page.goto(f"{url}/jobs/{job}/output")
        assert "# Title" in page.locator("pre.text").inner_text()
        assert "/sign-in" in page.goto(f"{url}/jobs/{other}").url  # type: ignore[union-attr]
        assert "/sign-in" in page.goto(f"{url}/jobs").url  # type: ignore[union-attr]
        guest.close()
    text = link.partition("#")[2]
    assert len(text) > 80
    assert not [one for one in asked if text in one.partition("#")[0]]
