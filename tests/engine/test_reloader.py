"""The road of an edit: read, check, apply; and what happens when two take it at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.app import App
from runner.domain.errors import ConfigInvalid, NotFound, RemovalsRefused, StaleRevision
from tests.engine.bench import open_app
from tests.factories import HOUR, NOW

FILE = """
version: 1
runner: {handler_packages: [tests]}
job_types:
  ok: {handler: tests.engine.sample_handlers.ok}
schedules:
  often: {job: ok, every: 10m}
"""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    (tmp_path / "schedules.yaml").write_text(FILE)
    made = open_app(tmp_path)
    yield made
    made.close()


def edit(app: App, text: str) -> None:
    app.settings.config.write_text(text)


def apply(app: App, **values: Any) -> tuple[int, bool]:
    revision, is_new = app.reloader.apply(app.reloader.read(), NOW, **values)
    return revision.number, is_new


def test_a_file_is_applied_once(app: App) -> None:
    """The same definitions make no new revision, however the file is written."""
    assert apply(app) == (1, True)
    assert apply(app) == (1, False)
    edit(app, FILE + "# a comment\n")
    assert apply(app) == (1, False)
    edit(app, FILE.replace("10m", "20m"))
    assert apply(app) == (2, True)
    assert app.reloader.in_force().number == 2


def test_an_invalid_file_changes_nothing(app: App) -> None:
    """What cannot be used is never applied, and says all of its problems."""
    apply(app)
    edit(app, FILE.replace("sample_handlers.ok", "sample_handlers.okk").replace("10m", "often"))

    with pytest.raises(ConfigInvalid) as caught:
        apply(app)

    assert len(caught.value.problems) == 2
    assert app.reloader.in_force().number == 1


def test_a_mass_removal_must_be_meant(app: App) -> None:
    """An edit that leaves no schedule needs `--allow-removals`."""
    apply(app)
    edit(app, FILE.split("schedules:")[0])

    with pytest.raises(RemovalsRefused, match="would retire 1 schedule: often"):
        apply(app)
    assert apply(app, allow_removals=True) == (2, True)


def test_a_plan_that_is_stale_is_refused(app: App) -> None:
    """Who saw a plan against revision 0 does not apply it to another one."""
    apply(app)
    edit(app, FILE.replace("10m", "20m"))

    with pytest.raises(StaleRevision):
        apply(app, base=0)
    assert apply(app, base=1) == (2, True)


def test_a_plan_that_another_has_carried_out_is_done(app: App) -> None:
    """Several machines apply one file at the same time: what is in force is what each of them wanted."""
    assert apply(app) == (1, True)
    assert apply(app, base=0) == (1, False)


def test_without_a_plan_the_slower_one_begins_anew(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes start together: the slower one applies its file to what the other made; none fails."""
    store = type(app.revisions)
    write = store.apply
    other = open_app(app.settings.folder)

    def overtaken(self: Any, *given: Any, **values: Any) -> Any:
        monkeypatch.setattr(store, "apply", write)
        other.reloader.apply(other.reloader.read(), NOW)
        return write(self, *given, **values)

    monkeypatch.setattr(store, "apply", overtaken)
    assert apply(app) == (1, False)
    other.close()


def test_many_start_together(app: App) -> None:
    """Eight first starts at once make one revision."""
    start = threading.Barrier(8)
    made: list[tuple[int, bool]] = []

    def begin() -> None:
        mine = open_app(app.settings.folder)
        loaded = mine.reloader.read()
        start.wait()
        revision, is_new = mine.reloader.apply(loaded, NOW, lookback=HOUR)
        made.append((revision.number, is_new))
        mine.close()

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(made) == [(1, False)] * 7 + [(1, True)]
    assert app.schedules.get("often").cursor == NOW - HOUR


def test_an_endless_race_ends(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others are quicker again and again, the error is told at last."""

    def always(self: Any, *given: Any, **values: Any) -> Any:
        raise StaleRevision("another process was quicker")

    monkeypatch.setattr(type(app.revisions), "apply", always)
    with pytest.raises(StaleRevision):
        apply(app)


def test_nothing_is_in_force_at_first(app: App) -> None:
    """A process that does not apply files says what is missing."""
    with pytest.raises(NotFound, match="no revision yet"):
        app.reloader.in_force()


def test_a_new_schedule_may_look_back(app: App) -> None:
    """`--since` lets a schedule that this database has never seen look that far back, once."""
    apply(app, lookback=timedelta(hours=24))

    assert app.schedules.get("often").cursor == NOW - timedelta(hours=24)
    apply(app, lookback=timedelta(hours=48))
    assert app.schedules.get("often").cursor == NOW - timedelta(hours=24)
