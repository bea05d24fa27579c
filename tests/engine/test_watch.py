"""The watch of the file: by real events of the kernel, however the file is saved."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.engine.watch import Watch, watched_place
from tests.waiting import eventually


def write(file: Path) -> None:
    file.write_text("written")


def append(file: Path) -> None:
    with file.open("a") as opened:
        opened.write("more")


def replace(file: Path) -> None:
    other = file.with_suffix(".new")
    other.write_text("another")
    other.rename(file)


def move_away_and_write(file: Path) -> None:
    file.rename(file.with_suffix(".old"))
    file.write_text("as vim does")


SAVES = (write, append, replace, move_away_and_write)


@contextmanager
def watching(place: Path, touch: Callable[[], object]) -> Iterator[threading.Event]:
    """Told from the first touch that is noticed on: the watch may not have begun at the one before."""
    told = threading.Event()
    watch = Watch(place, told.set)
    watch.start()
    eventually(lambda: touch() or told.wait(0.05), "the first change that is told")
    yield told
    watch.close()


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("by", ["file", "folder"])
def test_each_save_is_told(tmp_path: Path, save: Callable[[Path], None], by: str) -> None:
    """Again and again: after a save by rename another file is there, and it is that one which is watched."""
    file = tmp_path / "schedules.yaml"
    file.write_text("first")
    with watching(file if by == "file" else tmp_path, lambda: save(file)) as told:
        for _ in range(2):
            told.clear()
            eventually(lambda: save(file) or told.wait(0.05), f"what {save.__name__} did")


def test_a_file_that_is_gone_for_a_while_is_watched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told while there is nothing; the thread lives on."""
    monkeypatch.setattr("runner.engine.watch.AGAIN", 0.01)
    file = tmp_path / "schedules.yaml"
    file.write_text("first")
    with watching(file, lambda: append(file)) as told:
        told.clear()
        eventually(lambda: append(file) or told.wait(0.05), "that the watch goes on")
        file.unlink()
        file.write_text("back, often with the number of the old one")
        for _ in range(3):  # the first may still tell of the end of the old one
            told.clear()
            eventually(lambda: append(file) or told.wait(0.05), "the file that is back")


def test_writes_of_the_database_beside_the_file_are_no_events(tmp_path: Path) -> None:
    """In its folder the file alone is watched, by whatever path that is named; elsewhere the folder."""
    folder, elsewhere = tmp_path / "project", tmp_path / "data"
    folder.mkdir()
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to(folder)
    file = folder / "schedules.yaml"

    assert watched_place(file, folder / "runner.db") == file
    assert watched_place(file, tmp_path / "link" / "runner.db") == file
    assert watched_place(file, elsewhere / "runner.db") == folder
