"""Tells when a file may have changed. Only a hint: who is told looks at the content itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from watchfiles import watch

STEP = 200  # milliseconds between two looks of the library at its events: shorter costs CPU while nothing happens
GATHER = 400  # milliseconds over which events become one hint, so that a busy folder costs little
AGAIN = 2.0  # seconds until what cannot be watched is tried again


def watched_place(file: Path, database: Path | None) -> Path:
    """The folder of the file: a save by rename puts another file there, and nobody writes the old one.

    Where the database lies in it too, the file itself: each write of the database would be an event, a tenth of what
    a job costs.
    """
    if database is None:
        return file.parent
    return file if database.parent.resolve() == file.parent.resolve() else file.parent


class Watch:
    """Watches a folder, or a file, which is watched anew after each change: another may be in its place.

    Where it cannot be watched (gone, a network mount, no watches left), nothing is told; a poll is the net.
    """

    def __init__(self, place: Path, changed: Callable[[], None]) -> None:
        self._place = place
        self._changed = changed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                self._watch()
            except (OSError, RuntimeError):
                self._ended.wait(AGAIN)

    def _watch(self) -> None:
        """Until the end, or until another file or folder may stand in the place of this one."""
        watched = self._place.stat().st_ino
        is_file = self._place.is_file()
        for changes in watch(
            self._place, watch_filter=None, debounce=GATHER, step=STEP, stop_event=self._ended,
            yield_on_timeout=True, raise_interrupt=False, recursive=False,
        ):  # fmt: skip
            if changes:
                self._changed()
            if (changes and is_file) or self._place.stat().st_ino != watched:
                return  # not by the number alone where a file was written: a new one may have that of the old
