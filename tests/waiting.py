"""Waiting for what comes by itself: no test sleeps for time to pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

LONGEST = 60.0  # seconds until a test has failed
LOOK = 0.005

Found = TypeVar("Found")


def eventually(condition: Callable[[], Found], what: str = "the condition", seconds: float = LONGEST) -> Found:
    """What it gives once that is true; a failure after the deadline."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(LOOK)  # between two looks
    return found
