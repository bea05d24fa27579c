"""cache_cleanup removes by age and size, inside one folder and never outside it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from handlers.cache_folder import CacheFile, CacheFolder
from handlers.maintenance import cache_place, clean_cache
from handlers.places import ROOT
from runner import JobCancelled
from tests.unit.handler_context import RecordingContext, as_context

DAY = 86_400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("CACHE_DIR", str(folder))
    monkeypatch.setenv("CONTENT_DATABASE_URL", f"sqlite:///{tmp_path}/content.db")
    return folder


def put(path: Path, *, days: float = 0, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))
    return path


def clean(**payload: object) -> dict[str, Any]:
    return clean_cache(as_context(RecordingContext()), payload)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_age(cache: Path) -> None:
    """Files older than the payload says go, with the folders that this empties; younger ones stay."""
    put(cache / "a/b/old", days=40)
    put(cache / "a/young", days=20)
    put(cache / "c/old", days=31)
    (cache / "empty").mkdir()

    result = clean(older_than_days=30)

    assert names(cache) == {"a", "a/young", "empty"}
    assert (result["files_removed"], result["bytes_removed"], result["folders_removed"]) == (2, 20, 2)
    assert result["paths_removed"] == ["a/b/old", "c/old"]
    assert clean(older_than_days=30)["files_removed"] == 0


def test_default_age_is_thirty_days(cache: Path) -> None:
    """A payload without rules removes what is older than thirty days."""
    put(cache / "old", days=31)
    put(cache / "young", days=29)
    clean()
    assert names(cache) == {"young"}


def test_total_size(cache: Path) -> None:
    """Over the total size, the oldest files go until the rest fits."""
    for age in (3, 1, 2):
        put(cache / f"{age}-days", days=age, size=1024 * 1024)
    assert clean(older_than_days=None, max_total_mb=2)["paths_removed"] == ["3-days"]
    assert clean(older_than_days=None, max_total_mb=2)["files_removed"] == 0
    assert clean(older_than_days=None, max_total_mb=0)["files_removed"] == 2


def test_dry_run(cache: Path) -> None:
    """A dry run removes nothing and says what it would remove."""
    put(cache / "a/old", days=40, size=7)
    before = names(cache)
    context = RecordingContext()

    result = clean_cache(as_context(context), {"dry_run": True})

    assert names(cache) == before
    assert (result["files_would_remove"], result["bytes_would_remove"]) == (1, 7)
    assert result["paths_would_remove"] == ["a/old"]
    assert "would remove a/old" in context.logged_text()
    assert clean()["paths_removed"] == ["a/old"]


def test_links_are_not_followed(cache: Path, tmp_path: Path) -> None:
    """Links in the cache are left alone, and what they point to is neither removed nor counted."""
    outside = put(tmp_path / "outside/precious", days=400)
    (cache / "folder-link").symlink_to(outside.parent)
    (cache / "file-link").symlink_to(outside)
    (cache / "up").symlink_to("..")

    result = clean(older_than_days=0)

    assert outside.exists()
    assert (result["files_removed"], result["skipped"]) == (0, 3)


def test_hard_link_keeps_the_other_name(cache: Path, tmp_path: Path) -> None:
    """Removing a name in the cache leaves the file that has another name outside."""
    outside = put(tmp_path / "outside", days=400)
    os.link(outside, cache / "inside")
    assert clean()["files_removed"] == 1
    assert outside.exists()


def test_cache_folder_is_a_link(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that is itself a link to elsewhere is refused."""
    precious = put(tmp_path / "elsewhere/precious", days=400)
    (tmp_path / "link").symlink_to(precious.parent)
    monkeypatch.setenv("CACHE_DIR", str(tmp_path / "link"))
    with pytest.raises(ValueError, match="symbolic link"):
        clean()
    assert precious.exists()


@pytest.mark.parametrize("configured", ["..", "../elsewhere", ".runner/../..", ".", "/", str(ROOT), str(ROOT.parent)])
def test_folders_that_are_no_cache(configured: str) -> None:
    """A folder above or around the project is refused."""
    with pytest.raises(ValueError, match="CACHE_DIR"):
        cache_place(configured)


def test_folder_of_the_content_database(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder in which the content database lies is refused."""
    monkeypatch.setenv("CONTENT_DATABASE_URL", f"sqlite:///{cache}/content.db")
    with pytest.raises(ValueError, match="is no cache folder"):
        clean()


def test_missing_folder(cache: Path) -> None:
    """A cache that nothing has filled yet is clean."""
    cache.rmdir()
    assert clean()["files_seen"] == 0
    assert not cache.exists()


def test_file_replaced_by_a_link(cache: Path, tmp_path: Path) -> None:
    """A file that became a link between the listing and its removal stays, and so does what the link names."""
    outside = put(tmp_path / "precious", days=400)
    put(cache / "old", days=40)
    folder = CacheFolder(cache.parent, (cache.name,))
    (listed,) = folder.listing(lambda: None).files
    (cache / "old").unlink()
    (cache / "old").symlink_to(outside)
    assert not folder.remove(listed)
    folder.close()
    assert outside.exists()
    assert (cache / "old").is_symlink()


def test_parent_replaced_by_a_link(cache: Path, tmp_path: Path) -> None:
    """A folder that became a link to elsewhere after the listing is not walked through."""
    put(cache / "a/same-name", days=40)
    outside = tmp_path / "elsewhere"
    folder = CacheFolder(cache.parent, (cache.name,))
    (listed,) = folder.listing(lambda: None).files
    (cache / "a").rename(outside)  # the very same file, seen through a link from now on
    (cache / "a").symlink_to(outside)
    assert not folder.remove(listed)
    assert not folder.remove_empty(("a",))
    folder.close()
    assert (outside / "same-name").exists()


def test_file_used_meanwhile(cache: Path) -> None:
    """A file that was written again after the listing stays, and the result says that it changed."""
    old = put(cache / "old", days=40)

    def write_again(context: RecordingContext) -> None:
        if context.logged:
            os.utime(old)

    result = clean_cache(as_context(RecordingContext(write_again)), {})
    assert old.exists()
    assert (result["files_removed"], result["files_changed_meanwhile"]) == (0, 1)


def test_whole_cache_moved_away(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache path that is switched to another folder during the run does not redirect it."""
    put(cache / "a/old", days=40)
    elsewhere = put(tmp_path / "elsewhere/a/old", days=40)

    def switch(context: RecordingContext) -> None:
        if context.logged and not cache.is_symlink():
            cache.rename(tmp_path / "moved")
            cache.symlink_to(tmp_path / "elsewhere")

    assert clean_cache(as_context(RecordingContext(switch)), {})["files_removed"] == 1
    assert elsewhere.exists()
    assert not (tmp_path / "moved/a").exists()


def test_failures_are_reported(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be removed is named in the result; where none can, the job fails."""
    put(cache / "a", days=50)
    put(cache / "b", days=40)
    remove = CacheFolder.remove

    def refuse(self: CacheFolder, file: CacheFile) -> bool:
        if file.name in refused:
            raise PermissionError(1, "Operation not permitted")
        return remove(self, file)

    monkeypatch.setattr(CacheFolder, "remove", refuse)
    refused = {"a"}
    result = clean()
    assert result["failed"] == [{"path": "a", "error": "Operation not permitted"}]
    assert result["files_removed"] == 1
    with pytest.raises(PermissionError, match="none of 1"):
        clean()


def test_odd_names(cache: Path) -> None:
    """Names that are no text are removed too and shown in a form that JSON and databases take."""
    with open(os.fsencode(cache) + b"/\xff\xfe", "wb"):
        pass
    put(cache / "new\nline")
    result = clean(older_than_days=0)
    assert sorted(result["paths_removed"]) == ["\\xff\\xfe", "new\nline"]
    assert names(cache) == set()


def test_pipes_and_sockets(cache: Path) -> None:
    """What is no ordinary file is left alone, and no pipe is opened."""
    os.mkfifo(cache / "pipe")
    assert clean(older_than_days=0)["skipped"] == 1
    assert (cache / "pipe").exists()


@pytest.mark.parametrize(
    "payload",
    [
        {"older_than_days": -1},
        {"older_than_days": "7"},
        {"max_total_mb": True},
        {"max_total_mb": float("nan")},
        {"dry_run": "no"},
    ],
)
def test_wrong_payload(cache: Path, payload: dict[str, object]) -> None:
    """A payload that makes no sense is refused before anything is removed."""
    put(cache / "old", days=400)
    with pytest.raises(ValueError, match="payload: "):
        clean(**payload)
    assert (cache / "old").exists()


def test_cancel(cache: Path) -> None:
    """A cancel is seen between two files; what is left is left for the next run."""
    for number in range(10):
        put(cache / f"{number}", days=40)

    def after_three(context: RecordingContext) -> None:
        context.cancelled = len(list(cache.iterdir())) == 7

    with pytest.raises(JobCancelled):
        clean_cache(as_context(RecordingContext(after_three)), {})
    assert len(list(cache.iterdir())) == 7
    assert clean()["files_removed"] == 7
