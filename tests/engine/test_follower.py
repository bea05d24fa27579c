"""The file is followed: what is good is in force soon, what is bad leaves the last good one, and who applies it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.app import App
from runner.config.load import load
from runner.domain.errors import ConfigInvalid, DatabaseUnavailable, RemovalsRefused
from runner.domain.schedule import Definitions
from runner.engine import follower as module
from runner.engine.follower import Follower, Reading
from runner.engine.reloader import Reloader
from runner.storage.revisions import Edit
from runner.telemetry import ConfigApplied, ConfigRejected, Event
from tests.engine.bench import open_app
from tests.factories import MINUTE, NOW, make_worker

FILE = """
version: 1
runner: {handler_packages: [tests]}
job_types:
  ok: {handler: tests.engine.sample_handlers.ok}
schedules:
  often: {job: ok, every: 10m}
"""
OTHER = FILE.replace("10m", "20m")
THIRD = FILE.replace("10m", "30m")
BROKEN = FILE.replace("10m", "often")


@dataclass
class Desk:
    """A file, and a follower whose time is moved by hand."""

    app: App
    follower: Follower
    events: list[Event]
    taken: list[Definitions]
    seconds: float = 1000.0

    def write(self, text: str) -> None:
        self.app.settings.config.write_text(text)

    def look(self, after: float = 0.0) -> float:
        self.seconds += after
        return self.follower.tick(NOW)

    def settle(self) -> None:
        """Two looks, far enough apart that the content counts as written."""
        self.look()
        self.look(1.0)

    @property
    def every(self) -> str:
        (row,) = self.app.schedules.all()
        return row.expression

    def of(self, kind: type[Event]) -> list[Any]:
        return [one for one in self.events if isinstance(one, kind)]


@pytest.fixture
def make_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Desk]]:
    made: list[App] = []

    def make(applies: bool = True) -> Desk:
        (tmp_path / "schedules.yaml").write_text(FILE)
        app = open_app(tmp_path)
        made.append(app)
        events: list[Event] = []
        app.events.subscribe(events.append)
        desk = Desk(app, app.follower(applies=applies), events, [])
        desk.follower.listeners.append(desk.taken.append)
        monkeypatch.setattr(module.time, "monotonic", lambda: desk.seconds)
        return desk

    yield make
    for app in made:
        app.close()


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    made = make_desk()
    made.follower.begin(made.app.reloader.read(), NOW)
    return made


def test_an_edit_is_in_force_once_the_file_rests(desk: Desk) -> None:
    """Not while somebody still writes: the same content must be there for a moment."""
    desk.write(OTHER)
    assert desk.look() == pytest.approx(module.SETTLE)
    assert desk.every == "every 10m"
    desk.look(module.SETTLE / 2)
    assert desk.every == "every 10m"
    assert desk.look(module.SETTLE) == module.POLL

    assert desk.every == "every 20m"
    assert [one.schedules["often"].every for one in desk.taken] == [20 * MINUTE]
    assert [one.revision for one in desk.of(ConfigApplied)] == [1, 2]


def test_many_edits_end_in_the_last(desk: Desk) -> None:
    """A file that changes at each look is applied once, when it rests."""
    for number in range(50):
        desk.write(FILE.replace("10m", f"{number + 1}m"))
        desk.look(0.02)
    desk.look(1.0)

    assert desk.every == "every 50m"
    assert [one.revision for one in desk.of(ConfigApplied)] == [1, 2]


@pytest.mark.parametrize("text", [BROKEN, "", "version: 1\njob_types: [", FILE.split("schedules:")[0]])
def test_what_cannot_be_used_leaves_the_last_good_file(desk: Desk, text: str) -> None:
    """Invalid, empty, torn, or leaving no schedule: told once for each content, with the place."""
    good = module.digest_of(desk.app.settings.config)
    desk.write(text)
    desk.settle()
    desk.look(module.AGAIN)
    desk.look(module.AGAIN)

    (told,) = desk.of(ConfigRejected)
    assert (told.in_force, desk.every, desk.taken) == (1, "every 10m", [])
    assert desk.follower.problem
    assert desk.follower.said()["config_sha256"] == good
    desk.write(OTHER)
    desk.settle()
    assert (desk.every, desk.follower.problem) == ("every 20m", None)


def test_a_file_that_is_gone_deletes_nothing(desk: Desk) -> None:
    """Missing is invalid, and told as missing; when it is back, nothing has happened."""
    content = desk.app.settings.config.read_text()
    desk.app.settings.config.unlink()
    desk.settle()
    assert "schedules.yaml" in str(desk.follower.problem)
    assert desk.every == "every 10m"
    desk.write(content)
    desk.settle()
    assert (desk.follower.problem, desk.app.revisions.current().number) == (None, 1)  # type: ignore[union-attr]


def test_a_comment_makes_no_revision(desk: Desk) -> None:
    """Read again, but the same definitions: nothing is new."""
    desk.write(FILE + "# a comment\n")
    desk.settle()
    assert [(one.revision, bool(one.changes)) for one in desk.of(ConfigApplied)] == [(1, True), (1, False)]


def test_a_handler_that_is_mended_is_found_without_an_edit(desk: Desk, tmp_path: Path) -> None:
    """A file that was refused is looked at again: its problem may lie in a module, not in the file."""
    text = FILE.replace("handler_packages: [tests]", "handler_packages: [tests, mended_later]")
    desk.write(text.replace("schedules:", "  new: {handler: mended_later.run}\nschedules:"))
    desk.settle()
    assert "mended_later" in str(desk.follower.problem)
    (tmp_path / "mended_later.py").write_text("def run(ctx, payload): ...\n")
    desk.look(module.AGAIN)
    desk.look(1.0)

    assert desk.follower.problem is None
    assert "new" in desk.taken[-1].job_types


@pytest.mark.parametrize("way", ["in place", "rename", "symlink"])
def test_a_save_of_any_kind_is_seen(desk: Desk, tmp_path: Path, way: str) -> None:
    """The path is read: neither a new inode nor a swapped link is missed."""
    path = desk.app.settings.config
    if way == "in place":
        desk.write(OTHER)
    elif way == "rename":
        (tmp_path / "new").write_text(OTHER)
        (tmp_path / "new").replace(path)
    else:
        (tmp_path / "v2").mkdir()
        (tmp_path / "v2" / "schedules.yaml").write_text(OTHER)
        path.unlink()
        path.symlink_to(tmp_path / "v2" / "schedules.yaml")
    desk.settle()
    assert desk.every == "every 20m"


# ---- the start


def test_an_invalid_file_stops_the_start(make_desk: Callable[..., Desk]) -> None:
    """Nothing runs yet that could go on."""
    desk = make_desk()
    desk.write(BROKEN)
    with pytest.raises(ConfigInvalid):
        desk.follower.begin(desk.app.reloader.read(), NOW)


def test_last_good_starts_from_the_stored_revision(make_desk: Callable[..., Desk]) -> None:
    """The file's problem is told, and a mended file is taken over."""
    desk = make_desk()
    desk.app.reloader.apply(desk.app.reloader.read(), NOW)
    desk.write(BROKEN)
    definitions = desk.follower.begin(desk.app.reloader.read(), NOW, last_good=True)
    assert list(definitions.schedules) == ["often"]
    assert len(desk.of(ConfigRejected)) == 1
    desk.write(OTHER)
    desk.settle()
    assert desk.every == "every 20m"


def test_a_mass_removal_stops_the_start_unless_it_is_meant(make_desk: Callable[..., Desk]) -> None:
    """As for `apply`."""
    desk = make_desk()
    desk.app.reloader.apply(desk.app.reloader.read(), NOW)
    desk.write(FILE.split("schedules:")[0])
    with pytest.raises(RemovalsRefused):
        desk.follower.begin(desk.app.reloader.read(), NOW)
    desk.follower.begin(desk.app.reloader.read(), NOW, allow_removals=True)
    assert desk.app.schedules.all() == []


# ---- what a beat tells


def test_a_beat_tells_of_the_file_and_news_are_told_at_once(desk: Desk) -> None:
    """The hash of the last good file, the revision that it is the same as, and why the file as it is is refused."""
    told: list[dict[str, Any]] = []
    desk.follower.news = lambda: told.append(desk.follower.said())
    for text in (f"# a comment\n{FILE}", BROKEN, OTHER):
        desk.write(text)
        desk.settle()
    said = [(one["config_revision"], one["config_problem"]) for one in told]
    assert said == [(1, None), (1, said[1][1]), (2, None)]
    assert "schedules.yaml:7:" in str(said[1][1])
    assert len({one["config_sha256"] for one in told}) == 2


def test_a_file_that_is_not_in_force_is_of_no_revision(make_desk: Callable[..., Desk]) -> None:
    """With --no-sync the file may be one that nobody has applied."""
    desk = make_desk(applies=False)
    desk.app.reloader.apply(desk.app.reloader.read(), NOW)
    desk.follower.begin(desk.app.reloader.read(), NOW)
    assert desk.follower.said()["config_revision"] == 1
    desk.write(OTHER)
    desk.settle()
    assert desk.follower.said()["config_revision"] is None


# ---- several machines


def stored(desk: Desk, *texts: str) -> None:
    """What other processes applied, one after the other."""
    for text in texts:
        desk.write(text)
        desk.app.reloader.apply(desk.app.reloader.read(), NOW)


def test_an_old_file_on_one_machine_does_not_undo_the_new_one(make_desk: Callable[..., Desk]) -> None:
    """A rolling deploy: a process that restarts with the file of before leaves the new revision in force."""
    desk = make_desk()
    stored(desk, FILE, OTHER)
    new = module.digest_of(desk.app.settings.config)
    desk.app.workers.register(make_worker("other", config_sha256=new))
    desk.write(FILE)
    desk.follower.begin(desk.app.reloader.read(), NOW)
    desk.settle()

    assert desk.every == "every 20m"
    assert desk.follower.sha256 != new, "its own file is what it reports, and what its handlers come from"


def test_a_deployed_revert_lands_when_all_live_workers_agree(make_desk: Callable[..., Desk]) -> None:
    """The content was applied before, but now everybody has it."""
    desk = make_desk()
    stored(desk, FILE, OTHER)
    new = module.digest_of(desk.app.settings.config)
    desk.app.workers.register(make_worker("other", config_sha256=new))
    desk.write(FILE)
    desk.follower.begin(desk.app.reloader.read(), NOW)
    desk.look()
    assert desk.every == "every 20m"
    desk.app.workers.beat("other", NOW, module.digest_of(desk.app.settings.config))
    desk.look(module.POLL)

    assert desk.every == "every 10m"


def test_a_content_that_was_never_applied_is_applied_at_the_start(make_desk: Callable[..., Desk]) -> None:
    """It is news, whatever the others have."""
    desk = make_desk()
    stored(desk, FILE, OTHER)
    desk.app.workers.register(make_worker("other", config_sha256="something else"))
    desk.write(THIRD)
    desk.follower.begin(desk.app.reloader.read(), NOW)
    assert desk.every == "every 30m"


def test_an_edit_that_was_seen_is_applied_whatever_the_others_have(desk: Desk) -> None:
    """Back to an old content, by hand, on this machine: that is meant."""
    desk.app.workers.register(make_worker("other", config_sha256="something else"))
    for text, every in ((OTHER, "every 20m"), (FILE, "every 10m")):
        desk.write(text)
        desk.settle()
        assert desk.every == every


def test_no_sync_never_applies_but_follows_the_handlers(make_desk: Callable[..., Desk]) -> None:
    """`serve --no-sync`."""
    desk = make_desk(applies=False)
    stored(desk, FILE)
    desk.follower.begin(desk.app.reloader.read(), NOW)
    desk.write(OTHER)
    desk.settle()

    assert (desk.every, len(desk.taken), desk.of(ConfigApplied)) == ("every 10m", 1, [])


def test_a_database_that_is_away_is_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The edit is not lost: it is not seen before it is applied."""

    def away(edit: Edit, now: Any, **values: Any) -> Any:
        raise DatabaseUnavailable("away")

    desk.write(OTHER)
    desk.look()
    with monkeypatch.context() as patched:
        patched.setattr(type(desk.app.revisions), "apply", lambda self, *given, **values: away(*given, **values))
        with pytest.raises(DatabaseUnavailable):
            desk.look(1.0)
    desk.look(1.0)
    assert desk.every == "every 20m"


def test_who_only_looks_reads_each_content_once(
    make_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its problems, without the import of handlers; a file that is gone is a problem too."""
    desk, read = make_desk(), []
    reloader = desk.follower.reloader
    look = Reading(reloader)
    monkeypatch.setattr(Reloader, "read", lambda self, **how: read.append(how) or load(self.path, environ={}))
    desk.write(FILE)
    assert look() is look()
    desk.write(BROKEN)
    assert [problem.line for problem in look().problems] == [7]
    desk.write(FILE)
    assert look().ok
    reloader.path.unlink()
    assert not look().ok
    assert read == [{"import_handlers": False}] * 4
