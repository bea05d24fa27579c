"""How the others know a process: its row, its lock, its beat."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import runner
from runner.domain.worker import WorkerStatus
from runner.engine.heartbeat import Heart, Pulse, WorkerLock, introduce, new_worker_id
from runner.engine.worker import EVERYTHING, Selection

if TYPE_CHECKING:
    from runner.app import App
    from runner.engine.follower import Follower
    from runner.engine.wake import Hearing

Introduction = Callable[[WorkerLock, Mapping[str, Any]], WorkerStatus]


@contextmanager
def beating(
    app: App,
    worker_id: str,
    introduction: Introduction,
    follower: Follower | None,
    concurrency: Callable[[], int],
    taken_for_dead: Callable[[], None] = lambda: None,
    renewed: Callable[[Callable[[], None]], None] = lambda beat: beat(),
) -> Iterator[Heart]:
    """The lock, the row and the beat of a process. Where others took it for dead, it makes itself known again."""

    def said() -> dict[str, Any]:
        return {**(follower.said() if follower is not None else {}), "concurrency": concurrency()}

    def lost() -> None:
        app.workers.register(introduction(lock, heart.says()))
        taken_for_dead()

    def go_by_others() -> None:
        pulse.interval = heart.interval
        pulse.ring()

    lock = WorkerLock(_place_of_locks(app), worker_id)
    interval, stalled_after = app.settings.heartbeat.total_seconds(), app.settings.stalled_after.total_seconds()
    heart = Heart(app.workers, worker_id, interval, stalled_after, app.events.emit, lost, said, app.now)
    app.workers.register(introduction(lock, heart.says()))
    pulse = Pulse(lambda: renewed(heart.beat), interval, "heartbeat")
    heart.soon = pulse.ring
    heart.listeners.append(go_by_others)
    if follower is not None:
        follower.news = pulse.ring
    pulse.start()
    try:
        yield heart
    finally:
        app.workers.forget(worker_id)
        pulse.close()
        lock.close()


def presence(app: App, follower: Follower) -> AbstractContextManager[Heart]:
    """The row and the beat of a process that runs no jobs: what it says of its file is seen too."""
    worker_id = new_worker_id()
    introduction = partial(introduced, app, worker_id, EVERYTHING, None)
    return beating(app, worker_id, introduction, follower, lambda: 0)


def introduced(
    app: App, worker_id: str, selection: Selection, ear: Hearing | None, lock: WorkerLock, said: Mapping[str, Any]
) -> WorkerStatus:
    return introduce(
        lock,
        worker_id,
        version=runner.__version__,
        wake_socket=ear.name if ear is not None else None,
        queues=_told(selection),
        said=said,
        now=app.now(),
    )


def _place_of_locks(app: App) -> Path:
    """Beside the file; where there is none, in a folder of this machine: from another nobody can try a lock."""
    return app.database.path if app.database.is_file else Path(tempfile.gettempdir()) / "runner"


def _told(selection: Selection) -> dict[str, list[str]] | None:
    """The queues that a worker takes, for its row."""
    if selection.queues is not None:
        return {"only": sorted(selection.queues - selection.exclude_queues)}
    return {"except": sorted(selection.exclude_queues)} if selection.exclude_queues else None
