"""Every page on a phone, in both themes, and without a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.test_live import served
from tests.contract.test_failures import fail
from tests.engine.bench import Bench
from tests.engine.sample_handlers import gate

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ADDRESSES = ["/", "/jobs", "/jobs?state=failed&q=x", "/jobs/new", "/jobs/new?type=tells", "/jobs/1", "/jobs/1/output",
             "/jobs/1/cancel", "/zone", "/sign-in", "/jobs/99", "/jobs?state=running", "/jobs?state=failed&queue=a",
             "/jobs/act?action=retry&id=1&id=2", "/jobs/act?action=retry", "/failures", "/failures?since=x", "/shared",
             "/jobs/new?from=1", "/jobs/1?run=1"]  # fmt: skip
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def test_pages_fit_a_phone_and_follow_the_theme(bench: Bench, chromium: Browser) -> None:
    """Nothing is wider than the screen; light is light and dark is dark; axe finds nothing."""
    from axe_playwright_python.sync_playwright import Axe

    gate().opened.set()
    with bench.worker() as worker, served(bench, worker) as (url, _):
        bench.run(worker, bench.enqueue("tells", {"title": "a" * 300}))
        fail(bench.app.database, f"OSError: {'a' * 200}", "Job processor stopped responding", type="tells")
        grounds = {}
        schemes: tuple[Any, ...] = ("light", "dark")
        for scheme in schemes:
            context = chromium.new_context(viewport={"width": 360, "height": 700}, color_scheme=scheme, bypass_csp=True)
            tab = context.new_page()
            for address in ADDRESSES:
                tab.goto(url + address)
                assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
                found = Axe().run(tab).response["violations"]
                assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], address
                assert tab.locator("h1").count() == 1, address
            grounds[scheme] = tab.evaluate(BACKGROUND)
            context.close()
    assert grounds == {"light": "rgb(246, 247, 249)", "dark": "rgb(20, 23, 28)"}


@pytest.mark.parametrize("has_script", [True, False])
def test_a_form_can_be_sent_and_a_job_cancelled(bench: Bench, chromium: Browser, has_script: bool) -> None:
    """With a script and without; what does not fit is beside its field, and what was written is still there."""
    with bench.worker() as worker, served(bench, worker) as (url, _):
        context = chromium.new_context(java_script_enabled=has_script)
        tab = context.new_page()
        tab.goto(f"{url}/jobs/new?type=tells")
        tab.get_by_label("Title").fill("Digest")
        tab.get_by_label("Count").fill("none")
        tab.get_by_label("From").fill("2026-01-01")
        tab.get_by_role("button", name="Submit").click()
        assert "must be a whole number" in tab.locator("[id='f-count-problem-1']").inner_text()
        assert tab.get_by_label("Title").input_value() == "Digest"
        tab.get_by_label("Count").fill("3")
        tab.get_by_role("button", name="Submit").click()
        tab.wait_for_url("**/jobs/1")
        tab.get_by_role("link", name="Cancel").click()
        tab.get_by_role("button", name="Cancel the job").click()
        tab.get_by_role("link", name="Back to the dashboard").wait_for()
        context.close()
    assert bench.job(1).payload["count"] == 3
    assert bench.job(1).status == "cancelled"
