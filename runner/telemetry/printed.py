"""A stream in the place of stdout and stderr, so that what is printed does not break the form of the log."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import TextIO


class Printed(io.TextIOBase):
    """Hands each whole line to `tell`. Lines of several threads do not mix."""

    def __init__(self, tell: Callable[[str], None], under: TextIO) -> None:
        self._tell = tell
        self._under = under
        self._begun = threading.local()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """That of the stream below: what a program that is started writes goes there as it is."""
        return self._under.fileno()

    def end_line(self) -> None:
        """What this thread has printed without an end is a line too: what comes next is another's."""
        rest, self._begun.text = getattr(self._begun, "text", ""), ""
        if rest.strip():
            self._tell(rest.rstrip("\r"))

    def write(self, text: str) -> int:
        *whole, rest = (getattr(self._begun, "text", "") + text).split("\n")
        self._begun.text = rest
        for line in whole:
            if line.strip():
                self._tell(line.rstrip("\r"))
        return len(text)
