"""The road of an edit: read, check, apply. First start, `apply`, `run-once` and every reload take it."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from runner.config.load import Loaded, load
from runner.domain.applying import mass_removal
from runner.domain.errors import NotFound, RemovalsRefused, StaleRevision
from runner.domain.revision import Revision
from runner.domain.sameness import same
from runner.engine.handlers import check_handlers, import_from
from runner.storage.revisions import Edit, RevisionStore
from runner.storage.schedules import ScheduleStore

TRIES = 20  # how often an apply begins anew because another process was quicker


@dataclass(frozen=True, slots=True)
class Reloader:
    """Reads one file and keeps the database at it."""

    path: Path
    environ: Mapping[str, str]
    revisions: RevisionStore
    schedules: ScheduleStore

    def read(self, *, import_handlers: bool = True) -> Loaded:
        """The file as it is now, with all its problems. Handlers are imported from the file's own folder."""
        return read(self.path, self.environ, import_handlers=import_handlers)

    def apply(
        self,
        loaded: Loaded,
        now: datetime,
        *,
        allow_removals: bool = False,
        lookback: timedelta = timedelta(0),
        base: int | None = None,
    ) -> tuple[Revision, bool]:
        """Apply the file in one transaction; the revision in force, and whether it is a new one.

        Raises ConfigInvalid, RemovalsRefused, or StaleRevision where `base` is no longer the newest, and the newest is
        another than the file. Without `base` nobody has seen a plan: where another process was quicker, the file is
        applied to what it made.
        """
        for _ in range(TRIES if base is None else 1):
            try:
                return self._apply(loaded, now, allow_removals, lookback, base)
            except StaleRevision as error:
                stale = error
        current = self.revisions.current()
        if current is not None and same(current.definitions, loaded.require()):  # who was quicker wanted the same
            return self._apply(loaded, now, allow_removals, lookback, current.number)
        raise stale

    def _apply(
        self, loaded: Loaded, now: datetime, allow_removals: bool, lookback: timedelta, base: int | None
    ) -> tuple[Revision, bool]:
        definitions = loaded.require()
        before = self.revisions.current()
        if not allow_removals:
            _refuse_mass_removal(mass_removal(self.schedules.all(), definitions), self.path)
        found = before.number if before else 0
        edit = Edit(definitions, loaded.source, loaded.sha256, found if base is None else base, applied_by())
        number, _ = self.revisions.apply(edit, now, lookback=lookback)
        current = self.revisions.current()
        if current is None:
            raise NotFound(f"revision {number} is gone from the database")
        return current, number != found

    def in_force(self) -> Revision:
        """The stored revision, for a process that does not apply files."""
        revision = self.revisions.current()
        if revision is None:
            raise NotFound("the database holds no revision yet", "runner apply")
        import_from(self.path.absolute().parent)
        return revision


def read(path: Path, environ: Mapping[str, str], *, import_handlers: bool = True) -> Loaded:
    """Read and check a file, without any database."""
    import_from(path.absolute().parent)
    return load(path, environ=environ, check_handlers=check_handlers if import_handlers else None)


def _refuse_mass_removal(leaving: list[str], path: Path) -> None:
    if leaving:
        names = ", ".join(leaving[:5]) + (f" and {len(leaving) - 5} more" if len(leaving) > 5 else "")
        raise RemovalsRefused(
            f"{path} would retire {len(leaving)} schedule{'s' * (len(leaving) != 1)}: {names}",
            "if that is meant: runner apply --allow-removals",
        )


def applied_by() -> str:
    """Who applies: user and machine, for the revision's row."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
