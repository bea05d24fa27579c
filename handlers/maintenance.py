"""cache_cleanup: removes old cache files, by age and by total size, inside one folder and never outside it."""

from __future__ import annotations

import errno
import os
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlers.cache_folder import CacheFile, CacheFolder, Listing
from handlers.content import content_url
from handlers.places import ROOT

if TYPE_CHECKING:
    from runner import JobContext

DAY = 86_400.0
SHOWN = 100  # paths in a result, at most: the counts tell the rest


@dataclass(frozen=True, slots=True)
class Rules:
    """What a payload asks for. None switches a rule off."""

    older_than_days: float | None
    max_total_mb: float | None
    dry_run: bool


def clean_cache(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Remove files older than `older_than_days`, then the oldest until the rest fits into `max_total_mb`.

    The folder is the environment's CACHE_DIR, `.runner/cache` beside schedules.yaml if unset; a payload cannot name
    one. With `dry_run` nothing is removed and the result says what would be.
    """
    rules = _rules(payload)
    start, names = cache_place(os.environ.get("CACHE_DIR") or ".runner/cache")
    ctx.progress(0, message=f"looking through {start.joinpath(*names)}")
    try:
        folder = CacheFolder(start, names)
    except FileNotFoundError:
        ctx.log(f"{start.joinpath(*names)} does not exist yet: nothing to clean")
        return _result(rules, Listing([], []), _Done())
    except OSError as error:
        raise _refused(start.joinpath(*names), error) from error
    with closing(folder):
        return _clean(ctx, folder, rules, time.time())


def cache_place(configured: str) -> tuple[Path, tuple[str, ...]]:
    """Where to start and which steps to take to the cache folder; no step may be a link.

    A relative folder starts at the folder of schedules.yaml. A folder that holds the project, the home folder or the
    content database is refused: cleaning it would remove what nobody can make again.
    """
    path = Path(configured)
    if "\0" in configured or ".." in path.parts:
        raise ValueError(f"CACHE_DIR: {configured!r} must not contain `..`")
    start, names = (path.parent.resolve(), (path.name,)) if path.is_absolute() else (ROOT, path.parts)
    folder = start.joinpath(*names)
    for kept in _kept():
        if kept.is_relative_to(folder):
            raise ValueError(f"CACHE_DIR: {configured!r} holds {kept} and is no cache folder")
    return start, names


def choose(files: list[CacheFile], rules: Rules, now: float) -> list[CacheFile]:
    """The files to remove, oldest first."""
    oldest_first = sorted(files, key=lambda file: (file.modified, file.folders, file.name))
    chosen, left = [], sum(file.size for file in files)
    for file in oldest_first:
        too_old = rules.older_than_days is not None and now - file.modified > rules.older_than_days * DAY
        too_much = rules.max_total_mb is not None and left > rules.max_total_mb * 1024 * 1024
        if too_old or too_much:
            chosen.append(file)
            left -= file.size
    return chosen


@dataclass(slots=True)
class _Done:
    """What was removed, or in a dry run what would be."""

    files: int = 0
    bytes: int = 0
    folders: int = 0
    changed: int = 0
    paths: list[str] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)


def _clean(ctx: JobContext, folder: CacheFolder, rules: Rules, now: float) -> dict[str, Any]:
    listing = folder.listing(ctx.check)
    chosen = choose(listing.files, rules, now)
    ctx.log(f"{len(listing.files)} files, {len(chosen)} to remove{' (dry run)' if rules.dry_run else ''}")
    done = _Done()
    for number, file in enumerate(chosen):
        if number % 100 == 0:
            ctx.progress(100 * number / len(chosen), message=f"{number} of {len(chosen)} files")
        ctx.check()
        _remove(ctx, folder, file, rules, done)
    if not rules.dry_run:
        done.folders = sum(folder.remove_empty(names) for names in _emptied(chosen))
    if chosen and len(done.failed) == len(chosen):
        raise PermissionError(f"none of {len(chosen)} cache files could be removed; {done.failed[0]['error']}")
    ctx.progress(100, message=f"{done.files} files, {done.bytes} bytes")
    return _result(rules, listing, done)


def _remove(ctx: JobContext, folder: CacheFolder, file: CacheFile, rules: Rules, done: _Done) -> None:
    try:
        if not rules.dry_run and not folder.remove(file):
            done.changed += 1
            return
    except OSError as error:
        done.failed.append({"path": file.shown, "error": error.strerror or str(error)})
        return
    done.files += 1
    done.bytes += file.size
    if len(done.paths) < SHOWN:
        done.paths.append(file.shown)
        ctx.log(f"{'would remove' if rules.dry_run else 'removed'} {file.shown} ({file.size} bytes)")


def _emptied(chosen: list[CacheFile]) -> list[tuple[str, ...]]:
    """The folders above removed files, deepest first: parents can only be empty after their children are gone."""
    folders = {file.folders[:depth] for file in chosen for depth in range(1, len(file.folders) + 1)}
    return sorted(folders, key=len, reverse=True)


def _result(rules: Rules, listing: Listing, done: _Done) -> dict[str, Any]:
    total = sum(file.size for file in listing.files)
    verb = "would_remove" if rules.dry_run else "removed"
    return {
        "dry_run": rules.dry_run,
        "files_seen": len(listing.files),
        "bytes_seen": total,
        f"files_{verb}": done.files,
        f"bytes_{verb}": done.bytes,
        f"paths_{verb}": done.paths,
        "folders_removed": done.folders,
        "files_changed_meanwhile": done.changed,
        "skipped": len(listing.skipped),
        "failed": done.failed[:SHOWN],
    }


def _rules(payload: dict[str, Any]) -> Rules:
    dry_run = payload.get("dry_run", False)
    if not isinstance(dry_run, bool):
        raise ValueError(f"payload: `dry_run` must be true or false, not {dry_run!r}")
    return Rules(_amount(payload, "older_than_days", 30), _amount(payload, "max_total_mb", None), dry_run)


def _amount(payload: dict[str, Any], name: str, default: float | None) -> float | None:
    value = payload.get(name, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
        raise ValueError(f"payload: `{name}` must be a number of at least 0, or null, not {value!r}")
    return None if value is None else float(value)


def _kept() -> list[Path]:
    content = content_url()
    database = [Path(content.database or "").resolve()] if content.get_backend_name() == "sqlite" else []
    return [ROOT, Path.home().resolve(), *database]


def _refused(folder: Path, error: OSError) -> Exception:
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return ValueError(f"CACHE_DIR: {folder} is not a folder, or a part of it is a symbolic link")
    return OSError(error.errno, f"CACHE_DIR cannot be read: {error.strerror}", str(folder))
