"""Outlives the worker for a moment: kills what the processes of its handlers have started, once the worker is gone.

A child dies with its parent by a word to the kernel; what the child has started does not. `Warden` is the worker's
side; the file itself is the program that it runs, which needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable

ENDING = 5.0  # seconds


class Warden:
    """Knows the process groups of one worker. Its pipe closes with the worker, however that ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        self._tell(group)

    def forget(self, group: int) -> None:
        self._tell(-group)

    def _tell(self, number: int) -> None:
        pipe = self._process.stdin
        with self._lock, contextlib.suppress(OSError, ValueError):  # somebody killed it: the children die all the same
            if pipe is not None:
                pipe.write(b"%d\n" % number)
                pipe.flush()

    def close(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING)


def main(lines: Iterable[bytes]) -> None:
    """`5` watches group 5, `-5` forgets it; at the end of the lines what is left is killed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in lines:
        group = int(line)
        groups.add(group) if group > 0 else groups.discard(-group)
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.stdin.buffer)
