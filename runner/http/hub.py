"""The hub of events: one thread asks the database for all streams of this process, and tells each what is new.

However many streams there are, a look is a question whether anything was committed, and where it was, one statement
for all the jobs that are watched. What is said of a job is formatted once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from runner.domain.errors import RunnerError
from runner.domain.job import JobState
from runner.http import frames
from runner.http.problems import Refused
from runner.storage.jobs import JobStore
from runner.storage.logs import LogStore
from runner.storage.views import JobViews
from runner.storage.watching import Pulse, WatchStore

LOOK = 0.05  # seconds between two questions, while somebody watches
GAP = 0.01  # seconds between two looks, however often it is woken
NET = 2.0  # seconds after which is looked anyhow: time commits nothing
AWAY = 1.0  # seconds until the next try where the database cannot be read
PAGE = 1000  # lines read at once
MOST_WAITING = 1000  # pieces that a slow reader may be behind


@dataclass(eq=False, slots=True)
class Listener:
    """One stream: what it still has to send, and None at its end. Pieces come on the loop that it lives on."""

    job_id: int
    loop: asyncio.AbstractEventLoop
    pieces: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    cursor: int = 0  # the newest line of the log as its snapshot was made: what comes by the hub is newer

    def take(self, piece: bytes | None) -> None:
        """On its loop. A reader who is too slow is cut off: he comes again, and says what he has."""
        if piece is not None and self.pieces.qsize() >= MOST_WAITING:
            piece = None
        self.pieces.put_nowait(piece)


@dataclass(slots=True)
class _Topic:
    """A job that is watched, as it was told last."""

    pulse: Pulse
    display_state: str
    log: int
    listeners: list[Listener] = field(default_factory=list)


class Hub:
    """`watch` from any loop, `wake` and `close` from any thread. `watched` hears whether anybody watches."""

    def __init__(
        self, store: WatchStore, jobs: JobStore, views: JobViews, logs: LogStore, now: Callable[[], datetime]
    ) -> None:
        self._store, self._jobs, self._views, self._logs, self._now = store, jobs, views, logs, now
        self.watched: Callable[[bool], None] = lambda is_watched: None
        self.looks = 0  # how often all the jobs were read
        self._topics: dict[int, _Topic] = {}
        self._arriving: list[Listener] = []
        self._leaving: list[Listener] = []
        self._lock = threading.Lock()
        self._rung = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._version: int | None = None
        self._looked_at = 0.0

    def require_open(self) -> None:
        if self._closed:
            raise Refused(503, "the process stops", "connect again in a moment", Retry_After="1")

    def watch(self, job_id: int) -> Listener:
        """On the loop of who watches. Its first piece is the snapshot; None where the process stops."""
        listener = Listener(job_id, asyncio.get_running_loop())
        with self._lock:
            if self._closed:
                listener.take(None)
                return listener
            self._arriving.append(listener)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="hub", daemon=True)
                self._thread.start()
        self._rung.set()
        return listener

    def leave(self, listener: Listener) -> None:
        with self._lock:
            self._leaving.append(listener)
        self._rung.set()

    def wake(self) -> None:
        """Something may have been committed in this process."""
        self._rung.set()

    def end(self) -> None:
        """All streams end at once; there are no new ones."""
        with self._lock:
            self._closed = True
        self._rung.set()

    def close(self) -> None:
        """The same, and wait for it."""
        self.end()
        if self._thread is not None:
            self._thread.join(AWAY * 5)

    # ---- the thread of the hub

    def _serve(self) -> None:
        pause: float | None = LOOK
        while not self._closed:
            self._rung.wait(pause)
            self._rung.clear()
            try:
                self._look()
                pause = LOOK if self._topics else None
            except RunnerError:  # the streams stay open: the database comes back, or the process ends
                pause = AWAY
            time.sleep(GAP)
        self._part_with([one for topic in self._topics.values() for one in topic.listeners] + self._arriving)

    def _look(self) -> None:
        arriving = self._come_and_go()
        is_due = time.monotonic() - self._looked_at >= NET
        version = self._store.version() if self._topics or arriving else None
        if not arriving and not is_due and version == self._version:
            return
        self._looked_at = time.monotonic()
        try:
            self._round(arriving, is_due)
            self._version = version  # asked before it was read: what is committed meanwhile is seen again
        except RunnerError:
            with self._lock:
                self._arriving[:0] = arriving
            raise

    def _come_and_go(self) -> list[Listener]:
        with self._lock:
            arriving, leaving = self._arriving, self._leaving
            self._arriving, self._leaving = [], []
        for one in leaving:
            topic = self._topics.get(one.job_id)
            if one in arriving:
                arriving.remove(one)
            elif topic is not None and one in topic.listeners:
                topic.listeners.remove(one)
        before = bool(self._topics)
        self._topics = {job_id: topic for job_id, topic in self._topics.items() if topic.listeners}
        if before != bool(self._topics or arriving):
            self.watched(not before)
        return arriving

    def _round(self, arriving: list[Listener], is_due: bool) -> None:
        wanted = {one.job_id for one in arriving}
        if not wanted and not self._topics:
            return
        self.looks += 1
        pulses = self._store.pulses(wanted | set(self._topics))
        moved = {job_id for job_id, topic in self._topics.items() if self._has_moved(topic, pulses.get(job_id), is_due)}
        views = self._viewed(wanted | moved)
        posts: list[tuple[list[Listener], bytes | None]] = []
        for job_id, topic in list(self._topics.items()):
            pulse, view = pulses.get(job_id), views.get(job_id)
            if pulse is None:  # pruned
                posts.append((topic.listeners, None))
                del self._topics[job_id]
                continue
            pieces = self._news(topic, pulse, view)
            if pieces:
                posts.append((topic.listeners, pieces))
            if pulse.completed_at is not None and view is not None:
                posts += [(topic.listeners, frames.end(view)), (topic.listeners, None)]
                del self._topics[job_id]
        posts += self._welcome(arriving, pulses, views)
        _post(posts)

    def _has_moved(self, topic: _Topic, pulse: Pulse | None, is_due: bool) -> bool:
        """Whether its whole view is wanted. Of one that waits, time alone changes how it is shown."""
        if pulse is None:
            return False
        return pulse.state != topic.pulse.state or (is_due and pulse.status == JobState.PENDING)

    def _viewed(self, job_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
        jobs = self._jobs.get_many(sorted(job_ids))
        return {view["id"]: view for view in self._views.view(jobs, self._now())} if jobs else {}

    def _news(self, topic: _Topic, pulse: Pulse, view: Mapping[str, Any] | None) -> bytes:
        """What is new since it was told last, in the order in which it makes sense."""
        known, topic.pulse = topic.pulse, pulse
        made = b""
        if view is not None and (pulse.state != known.state or view["display_state"] != topic.display_state):
            topic.display_state = view["display_state"]
            made += frames.state(view)
        if pulse.said != known.said:
            made += frames.progress(pulse)
        while topic.log < pulse.log:
            lines = self._logs.lines(pulse.id, after=topic.log, limit=PAGE)
            topic.log = lines[-1].id or topic.log if lines else pulse.log
            made += frames.log(lines)
        if pulse.output != known.output:
            made += frames.outputs(pulse.id, self._logs.output_sizes(pulse.id))
        return made

    def _welcome(
        self, arriving: list[Listener], pulses: Mapping[int, Pulse], views: Mapping[int, Mapping[str, Any]]
    ) -> list[tuple[list[Listener], bytes | None]]:
        """A snapshot to each; from there on they hear what the others hear."""
        posts: list[tuple[list[Listener], bytes | None]] = []
        first: dict[int, bytes] = {}
        for one in arriving:
            pulse, view = pulses.get(one.job_id), views.get(one.job_id)
            if pulse is None or view is None:
                posts.append(([one], None))
                continue
            topic = self._topics.get(one.job_id)
            one.cursor = topic.log if topic is not None else pulse.log
            if one.job_id not in first:
                shown = dict(view) | {"outputs": [size._asdict() for size in self._logs.output_sizes(pulse.id)]}
                first[one.job_id] = frames.snapshot(shown)
            posts.append(([one], first[one.job_id]))
            if pulse.completed_at is not None:
                posts += [([one], frames.end(view)), ([one], None)]
            elif topic is None:
                self._topics[one.job_id] = _Topic(pulse, view["display_state"], pulse.log, [one])
            else:
                topic.listeners.append(one)
        return posts

    def _part_with(self, listeners: list[Listener]) -> None:
        _post([(listeners, None)])


def _post(posts: list[tuple[list[Listener], bytes | None]]) -> None:
    """One call to each loop, whatever the number of its streams."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Listener, bytes | None]]] = {}
    for listeners, piece in posts:
        for one in listeners:
            by_loop.setdefault(one.loop, []).append((one, piece))
    for loop, pieces in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_hand_out, pieces)


def _hand_out(pieces: list[tuple[Listener, bytes | None]]) -> None:
    for listener, piece in pieces:
        listener.take(piece)
