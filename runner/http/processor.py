"""Keeps the threads that answer on one processor.

They share the interpreter. To hand it to a thread that sleeps on another processor takes longer than most of what they
do: a request takes a tenth to a fifth less like this (docs/performance.md). Which one, the kernel chooses, every few
seconds again. Threads and processes of handlers go wherever there is room.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

STAYS = 5.0  # seconds on one processor
CHOICE = 0.05  # seconds in which the kernel chooses another
NAMES = ("http", "hub", "recorder", "AnyIO worker thread")
LAST_USED = 36  # among what follows the name in `/proc/self/task/TID/stat`, see proc(5)

_allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def leave() -> None:
    """For a thread that one of these has started, before it starts others."""
    _put(threading.get_native_id(), _allowed)


class Processor:
    """Of one server, from `start` in the thread that answers until `close`."""

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._answers = 0
        self._thread = threading.Thread(target=self._serve, name="processor", daemon=True)

    def start(self) -> None:
        self._answers = threading.get_native_id()
        if len(_allowed) > 1:
            self._thread.start()

    def close(self) -> None:
        self._is_over.set()

    def _serve(self) -> None:
        leave()
        while True:
            _put(self._answers, _allowed)
            if self._is_over.wait(CHOICE):
                return
            with suppress(OSError):
                chosen = {_last_used(self._answers)}
                for one in _ours():
                    _put(one, chosen)
            if self._is_over.wait(STAYS):
                return


def _ours() -> Iterator[int]:
    for thread in threading.enumerate():
        if thread.name in NAMES and thread.native_id is not None:
            yield thread.native_id


def _last_used(thread: int) -> int:
    told = Path(f"/proc/self/task/{thread}/stat").read_text(encoding="utf-8")
    return int(told.rpartition(")")[2].split()[LAST_USED])


def _put(thread: int, processors: set[int]) -> None:
    """It may have ended, and where the kernel will not have it, it goes where it goes."""
    if processors:
        with suppress(OSError):
            os.sched_setaffinity(thread, processors)
