"""What the tests of the interfaces share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.app import App
from runner.http.binding import bind
from runner.http.doors import Engine
from runner.serving import serving
from runner.settings import Settings
from tests.interfaces.cli_project import BASE, NOW, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder with a small schedules.yaml; no database yet."""
    made = Project(tmp_path)
    made.write(BASE)
    return made


@contextmanager
def answered(project: Project) -> Iterator[Project]:
    """Its commands ask a server, in this process, on the database that is there."""
    app = App(Settings(project.folder / "schedules.yaml", project.env.get("DATABASE_URL", str(project.database))), {})
    scheduler, bound = app.scheduler(), bind("127.0.0.1", 0)
    with serving(app, bound, Engine(scheduler.trigger, scheduler.backfill, lambda: None)):
        project.server = bound.url
        yield project
        project.server = None
    app.close()


@pytest.fixture(params=["database", "server"])
def asked(request: pytest.FixtureRequest, project: Project) -> Iterator[Project]:
    """The small file is applied; its commands ask the database, and in another run of the test a server."""
    project.good("apply", "--now", NOW)
    if request.param == "database":
        yield project
        return
    with answered(project):
        yield project
