"""The live pages behind a real nginx that buffers, under a path prefix."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runner.domain.access import Role, new_key
from runner.domain.job import JobState
from runner.storage.access import AccessStore
from tests.api.nginx import PREFIX, behind_nginx, installed
from tests.browser.test_live import said, served, shows
from tests.engine.bench import Bench
from tests.engine.sample_handlers import gate

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = installed


def test_a_job_is_submitted_and_watched_under_a_prefix(bench: Bench, page: Page) -> None:
    """Signed in, by the form, live, to its output; cookies, scripts, styles and redirects stay under the prefix."""
    key = new_key()
    AccessStore(bench.app.database).add(key, Role.OPERATOR, None, bench.clock.now(), by="test")
    bench.app.settings = replace(bench.app.settings, root_path=PREFIX)
    failed: list[str] = []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    with bench.worker() as worker, served(bench, worker) as (direct, _), behind_nginx(direct) as url:
        page.goto(f"{url}/jobs/new?type=tells")
        page.get_by_label("API key").fill(key.text)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"**{PREFIX}/jobs/new?type=tells")
        page.get_by_label("Title").fill("Digest")
        page.get_by_label("From").fill("2026-01-01")
        page.get_by_role("button", name="Submit").click()
        page.wait_for_url(f"**{PREFIX}/jobs/1")
        bench.until(worker, lambda: shows(page, "#connection-text", "live") and said(page) == ["one <b>&\n"])
        gate().opened.set()
        bench.until(worker, lambda: bench.job(1).status == JobState.COMPLETED)
        page.wait_for_url(f"**{PREFIX}/jobs/1/output")
        assert [one["path"] for one in page.context.cookies() if one["name"] == "runner_session"] == [PREFIX]
    assert failed == []
