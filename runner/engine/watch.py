"""Tells when something in a folder changed. Only a hint: who is told looks at the content itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from watchfiles import Change, watch

STEP = 200  # milliseconds between two looks of the library at its events: shorter costs CPU while nothing happens
GATHER = 400  # milliseconds over which events become one hint, so that a busy folder costs little
AGAIN = 2.0  # seconds until a folder that cannot be watched is tried again


class FolderWatch:
    """Watches the folder, not the file: after a save by rename the old file would be watched, and nobody writes it.

    Where the folder cannot be watched (gone, a network mount, no watches left), nothing is told; a poll is the net.
    """

    def __init__(self, folder: Path, ignored: str, changed: Callable[[], None]) -> None:
        self._folder = folder
        self._ignored = ignored
        self._changed = changed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()

    def _serve(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError, RuntimeError):
                self._watch()
            self._ended.wait(AGAIN)

    def _watch(self) -> None:
        """Until the end, or until another folder stands in the place of this one."""
        watched = self._folder.stat().st_ino
        for changes in watch(
            self._folder, watch_filter=self._counts, debounce=GATHER, step=STEP, stop_event=self._ended,
            yield_on_timeout=True, raise_interrupt=False, recursive=False,
        ):  # fmt: skip
            if changes:
                self._changed()
            elif self._folder.stat().st_ino != watched:
                return

    def _counts(self, change: Change, path: str) -> bool:
        """The database beside the file changes all the time."""
        return not Path(path).name.startswith(self._ignored)
