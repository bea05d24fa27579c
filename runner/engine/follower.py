"""Follows the file: what it says is in force a second after it was saved, or the last good one stays."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from runner.config.document import MAX_BYTES
from runner.config.load import Loaded
from runner.domain.errors import ConfigInvalid, DatabaseUnavailable, RunnerError
from runner.domain.problem import Problem
from runner.domain.sameness import same
from runner.domain.schedule import Definitions
from runner.engine.reloader import Reloader
from runner.storage.workers import WorkerStore
from runner.telemetry import ConfigApplied, ConfigRejected, Emit

POLL = 0.5  # seconds between two looks at the file: the net for what no event told
READ = 2.0  # seconds for which a file that has the same size and times is taken for unchanged
AGAIN = 10.0  # seconds until a file that was refused is looked at once more
SETTLE = 0.2  # seconds for which a content must stay the same: an editor may still be writing


@dataclass(slots=True)
class Follower:
    """`listeners` are told of each file that is good; where `applies` is False, no file is ever put in force.

    `news` is called when `said` has changed.
    """

    reloader: Reloader
    workers: WorkerStore
    emit: Emit
    listeners: list[Callable[[Definitions], None]] = field(default_factory=list)
    news: Callable[[], None] = lambda: None
    applies: bool = True
    sha256: str | None = None  # of the last good file
    revision: int | None = None  # the newest that the last good file is the same as
    problem: str | None = None  # why the file as it is now is not in force
    _seen: str | None = None
    _candidate: str | None = None
    _since: float = 0.0
    _waiting: Loaded | None = None  # good, but for others to put in force first
    _again_at: float = 0.0
    _look: tuple[object, str, float] = (None, "", -READ)  # what stat said, the digest, and when

    def begin(
        self, loaded: Loaded, now: datetime, *, last_good: bool = False, allow_removals: bool = False
    ) -> Definitions:
        """Start with this file, or with `last_good` from the stored revision where the file is invalid.

        Raises what refuses the file: at the start there is nothing yet that could go on as it was.
        """
        self._seen = loaded.sha256
        if last_good and not loaded.ok:
            revision = self.reloader.in_force()
            self.revision = revision.number
            self._reject(loaded, ConfigInvalid(str(loaded.path), loaded.problems))
            return revision.definitions
        if self.applies and self._is_mine_to_apply(loaded.sha256):
            self._put_in_force(loaded, now, allow_removals)
        elif self.applies:
            self._waiting = loaded
        definitions = loaded.require()
        self._is_followed(loaded, definitions)
        return definitions

    def said(self) -> dict[str, Any]:
        """What this process's beats tell of its file."""
        return {"config_sha256": self.sha256, "config_revision": self.revision, "config_problem": self.problem}

    def look_again(self) -> None:
        """Whatever was seen before: SIGHUP."""
        self._seen = ""

    def tick(self, now: datetime) -> float:
        """Take over the file once it has stopped changing; returns seconds until the next look."""
        found = self._digest()
        if found == self._seen and not self._is_due_again():
            self._candidate = None
            if self._waiting is not None and self._is_mine_to_apply(found):
                self._take(now)
            return POLL
        if found != self._candidate:
            self._candidate, self._since = found, time.monotonic()
        left = SETTLE - (time.monotonic() - self._since)
        if left > 0:
            return left
        self._take(now)
        return POLL

    def _digest(self) -> str:
        """Of the file as it is now; while nothing happens, it is read now and then only."""
        known, digest, read_at = self._look
        found, now = signature_of(self.reloader.path), time.monotonic()
        if found == known and now - read_at < READ and digest == self._seen:
            return digest
        digest = digest_of(self.reloader.path)
        self._look = found, digest, now
        return digest

    def _is_due_again(self) -> bool:
        """What was refused is looked at again now and then: a handler that could not be imported may be mended."""
        return self.problem is not None and time.monotonic() >= self._again_at

    def _take(self, now: datetime) -> None:
        """Not seen before it is done: where the database cannot be written now, the next tick tries again."""
        loaded = self.reloader.read()
        try:
            definitions = loaded.require()
            if self.applies:
                self._put_in_force(loaded, now)
        except DatabaseUnavailable:
            raise
        except RunnerError as error:
            self._reject(loaded, error)
        else:
            self._is_followed(loaded, definitions)
            for listener in self.listeners:
                listener(definitions)
        self._seen, self._candidate, self._waiting = loaded.sha256, None, None

    def _put_in_force(self, loaded: Loaded, now: datetime, allow_removals: bool = False) -> None:
        revision, is_new = self.reloader.apply(loaded, now, allow_removals=allow_removals)
        self.emit(ConfigApplied(revision.number, ("a new revision",) if is_new else ()))

    def _is_followed(self, loaded: Loaded, definitions: Definitions) -> None:
        """This file is good. Comments make another file, not another revision."""
        current = self.reloader.revisions.current()
        if current is not None and same(current.definitions, definitions):
            self.revision = current.number
        elif loaded.sha256 != self.sha256:
            self.revision = None
        self.problem, self.sha256 = None, loaded.sha256
        self.news()

    def _is_mine_to_apply(self, sha256: str) -> bool:
        """A file that was there at the start: a rolling deploy must not flap, and a deployed revert must land."""
        if not self.reloader.revisions.knows(sha256):
            return True
        return all(worker.config_sha256 in (None, sha256) for worker in self.workers.all())

    def _reject(self, loaded: Loaded, error: RunnerError) -> None:
        """Told once for each content and reason."""
        self._again_at = time.monotonic() + AGAIN
        problems = tuple(problem for problem in loaded.problems if problem.is_error)
        said = _in_short(loaded.path, problems) if problems else error.message
        if (said, loaded.sha256) == (self.problem, self._seen):
            return
        self.problem = said
        self.news()
        current = self.reloader.revisions.current()
        reason = None if problems else error.message
        self.emit(ConfigRejected(str(loaded.path), problems, reason, current.number if current else None))


def _in_short(path: Path, problems: Sequence[Problem]) -> str:
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{path}:{first.line}:{first.column}: {first.message}{more}"


def signature_of(path: Path) -> object:
    """Changes with every save, but where two of the same size fall into one tick of the file system's clock."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def digest_of(path: Path) -> str:
    """Of the content as `config.load` reads it; one of nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.sha256(file.read(MAX_BYTES + 1)).hexdigest()
    except (OSError, ValueError):
        return hashlib.sha256(b"").hexdigest()


class Reading:
    """The file as it is now, for who only looks: checked once for each content, and no handler is imported."""

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader
        self._last: tuple[object, Loaded] | None = None

    def __call__(self) -> Loaded:
        found = (signature_of(self._reloader.path) is None, digest_of(self._reloader.path))
        if self._last is None or self._last[0] != found:
            self._last = found, self._reloader.read(import_handlers=False)
        return self._last[1]
