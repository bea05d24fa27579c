"""A real Chromium, where the machine has one: Debian's package, driven by Playwright."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import pytest

from runner.domain.schedule import JobType
from tests.engine.bench import DEADLINE, Bench, kind, make_bench
from tests.engine.sample_handlers import open_gates

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = which("chromium") or "/usr/bin/chromium"
SCHEMA = {
    "required": ["title"],
    "properties": {
        "title": {"type": "string"},
        "count": {"type": "integer", "minimum": 1, "default": 7},
        "range": {"type": "object", "required": ["from"], "properties": {"from": {"type": "string", "format": "date"}}},
    },
}


def reason() -> str | None:
    """Why there is no browser."""
    if not Path(CHROMIUM).exists():
        return f"there is no {CHROMIUM}: apt-get install chromium"
    try:
        import axe_playwright_python
        import playwright
    except ImportError:
        return "playwright or axe is not installed: make setup"
    assert axe_playwright_python
    assert playwright
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    told = reason()
    for item in items:
        if told is not None and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=told))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """For one module: while it lives, its loop is that of this thread, and other tests open their own."""
    from playwright.sync_api import sync_playwright

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library, about loops that it opens itself
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            yield browser
            browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A tab of a browser of its own, in which no script may fail."""
    context = chromium.new_context()
    context.set_default_timeout(DEADLINE * 1000)
    opened = context.new_page()
    failures: list[str] = []
    opened.on("pageerror", lambda error: failures.append(str(error)))
    opened.on("console", lambda said: failures.append(said.text) if "Content Security Policy" in said.text else None)
    yield opened
    context.close()
    assert not failures


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = make_bench(tmp_path)
    tells = JobType("tells", "tests.api.handlers.tells", steps=("reading", "writing"), payload_schema=SCHEMA)
    made.define(tells, kind("say_until_stopped"))
    yield made
    open_gates()
    made.app.close()
