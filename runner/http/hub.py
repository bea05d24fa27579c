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
KEYS = 1.0  # seconds between two looks whether the keys of the readers are still in force
NET = 2.0  # seconds after which is looked anyhow: time commits nothing
AWAY = 1.0  # seconds until the next try where the database cannot be read
PAGE = 1000  # lines read at once
MOST_WAITING = 1000  # pieces that a slow reader may be behind


@dataclass(eq=False, slots=True)
class Listener:
    """One stream: what it still has to send, and None at its end. Pieces come on the loop that it lives on."""

    job_id: int
    key_id: str | None
    loop: asyncio.AbstractEventLoop
    is_covered: bool = False  # he sees no secrets
    until: datetime | None = None  # when the link ends by which he came
    pieces: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    cursor: int = 0  # the newest line of the log as its snapshot was made: what comes by the hub is newer

    def has_ended(self, now: datetime) -> bool:
        return self.until is not None and self.until <= now

    def take(self, piece: bytes | None) -> None:
        """On its loop. A reader who is too slow is cut off: he comes again, and says what he has."""
        if piece is not None and self.pieces.qsize() >= MOST_WAITING:
            piece = None
        self.pieces.put_nowait(piece)


Posts = list[tuple[list[Listener], bytes | None]]  # to whom, what


@dataclass(slots=True)
class _Topic:
    """A job that is watched, as it was told last."""

    pulse: Pulse
    display_state: str
    log: int
    listeners: list[Listener] = field(default_factory=list)


class Hub:
    """`watch` from any loop, `wake` and `close` from any thread. `watched` hears whether anybody watches.

    `holds` says whether who came with a key, or with none, might still come.
    """

    def __init__(
        self, store: WatchStore, jobs: JobStore, views: JobViews, logs: LogStore, now: Callable[[], datetime],
        holds: Callable[[str | None], bool] = lambda key_id: True,
    ) -> None:  # fmt: skip
        self._holds = holds
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
        self._looked_at = self._asked_at = 0.0

    def require_open(self) -> None:
        if self._closed:
            raise Refused(503, "the process stops", "connect again in a moment", Retry_After="1")

    def watch(
        self, job_id: int, key_id: str | None = None, *, is_covered: bool = False, until: datetime | None = None
    ) -> Listener:
        """On the loop of who watches. Its first piece is the snapshot; None where the process stops."""
        listener = Listener(job_id, key_id, asyncio.get_running_loop(), is_covered, until)
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
                self._dismiss()
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

    def _dismiss(self) -> None:
        """Who came with a key that was revoked since, or by a link that has ended."""
        if time.monotonic() - self._asked_at < KEYS:
            return
        self._asked_at, now = time.monotonic(), self._now()
        keys = {one.key_id for topic in self._topics.values() for one in topic.listeners}
        lost = {key_id for key_id in keys if not self._holds(key_id)}
        for topic in self._topics.values():
            gone = [one for one in topic.listeners if one.key_id in lost or one.has_ended(now)]
            if gone:
                _post([(gone, None)])
                topic.listeners = [one for one in topic.listeners if one not in gone]

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
        posts: Posts = []
        try:
            self._tell(pulses, views, posts)
            self._welcome(arriving, pulses, views, posts)
        finally:
            _post(posts)  # also where the database went away in between: it is not told again

    def _tell(
        self, pulses: Mapping[int, Pulse], views: Mapping[int, Mapping[str, Any]], posts: Posts
    ) -> None:  # fmt: skip
        """To each topic its news. What cannot be read now is read, and told, at the next look."""
        for job_id, topic in list(self._topics.items()):
            pulse, view = pulses.get(job_id), views.get(job_id)
            if pulse is None:  # pruned
                posts.append((topic.listeners, None))
                del self._topics[job_id]
                continue
            pieces = self._news(topic, pulse, view)
            if pieces:
                posts.append((list(topic.listeners), pieces))  # not those who arrive now: theirs begins with a snapshot
            if pulse.completed_at is not None and view is not None:
                posts += [*_ends(topic.listeners, view), (topic.listeners, None)]
                del self._topics[job_id]

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
        known, log, shown = topic.pulse, topic.log, topic.display_state if view is None else view["display_state"]
        made = b""
        if view is not None and (pulse.state != known.state or shown != topic.display_state):
            made += frames.state(view)
        if pulse.said != known.said:
            made += frames.progress(pulse)
        while log < pulse.log:
            lines = self._logs.lines(pulse.id, after=log, limit=PAGE)
            log = lines[-1].id or log if lines else pulse.log
            made += frames.log(lines)
        if pulse.output != known.output:
            made += frames.outputs(pulse.id, self._logs.output_sizes(pulse.id))
        topic.pulse, topic.log, topic.display_state = pulse, log, shown  # once all of it was read
        return made

    def _welcome(
        self, arriving: list[Listener], pulses: Mapping[int, Pulse], views: Mapping[int, Mapping[str, Any]],
        posts: Posts,
    ) -> None:  # fmt: skip
        """A snapshot to each, who is not among the arriving then; from there on they hear what the others hear."""
        first: dict[tuple[int, bool], bytes] = {}
        while arriving:
            one = arriving[0]
            pulse, view = pulses.get(one.job_id), views.get(one.job_id)
            if pulse is None or view is None:
                posts.append(([arriving.pop(0)], None))
                continue
            topic = self._topics.get(one.job_id)
            one.cursor = topic.log if topic is not None else pulse.log
            kind = one.job_id, one.is_covered
            if kind not in first:
                shown = frames.covered(view) if one.is_covered else view
                sizes = [size._asdict() for size in self._logs.output_sizes(pulse.id)]
                first[kind] = frames.snapshot({**shown, "outputs": sizes})
            posts.append(([arriving.pop(0)], first[kind]))
            if pulse.completed_at is not None:
                posts += [*_ends([one], view), ([one], None)]
            elif topic is None:
                self._topics[one.job_id] = _Topic(pulse, view["display_state"], pulse.log, [one])
            else:
                topic.listeners.append(one)

    def _part_with(self, listeners: list[Listener]) -> None:
        _post([(listeners, None)])


def _ends(listeners: list[Listener], view: Mapping[str, Any]) -> Posts:
    """To each as much as he may see."""
    plain = [one for one in listeners if not one.is_covered]
    others = [one for one in listeners if one.is_covered]
    kinds = (plain, view), (others, frames.covered(view) if others else view)
    return [(some, frames.end(shown)) for some, shown in kinds if some]


def _post(posts: Posts) -> None:
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
