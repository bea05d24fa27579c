"""A `runner serve` that is killed in the middle of a job, and another in its place: the page goes on by itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.test_live import shows
from tests.faults.projects import Project, make_project
from tests.faults.served import serve
from tests.waiting import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = make_project(tmp_path / "project")
    yield made
    made.kill_all()


def test_a_process_that_is_killed_is_found_again(project: Project, page: Page) -> None:
    """Its job runs again, and the page, which nobody has touched, shows the second run to its end."""
    first = serve(project, "--port", "0", RUNNER_HTTP="on")
    url = str(first.await_told("serving")[0]["address"])
    job = project.enqueue("turn")
    page.goto(f"{url}/jobs/{job}")
    eventually(lambda: shows(page, "#badge", "running") and shows(page, "#connection-text", "live"), "the first run")

    first.harm(signal.SIGKILL)
    first.end()

    eventually(lambda: shows(page, "#connection-text", "connection lost"), "the word that it is lost")
    second = serve(project, "--port", url.rpartition(":")[2], RUNNER_HTTP="on")
    eventually(lambda: shows(page, "#connection-text", "live"), "the connection")
    eventually(lambda: shows(page, '[data-region="attempts"]', "Run 2"), "the second run")
    assert shows(page, '[data-region="attempts"]', "stalled")
    (project.folder / "open-2").touch()
    eventually(lambda: shows(page, "#badge", "completed") and shows(page, "#connection-text", "ended"), "the end")
    second.stop()
