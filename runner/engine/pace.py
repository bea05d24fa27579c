"""How long the steps of coroutines hold their event loop: measured step by step, so that it is known whose it was."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any

from runner.engine.capture import current

BLOCKED = 1.0  # seconds: a step that took longer is told in its job's log
STUCK = 5.0  # seconds: a loop that is held for longer gets nothing new


class Pace:
    """Of one loop: since when the step has run that it is in."""

    def __init__(self) -> None:
        self._began: float | None = None

    @property
    def is_stuck(self) -> bool:
        began = self._began
        return began is not None and time.monotonic() - began > STUCK

    def task(self, loop: asyncio.AbstractEventLoop, steps: Any, **options: Any) -> asyncio.Task[Any]:
        """A task factory: also for the tasks that handlers make themselves."""
        return asyncio.Task(Measured(steps, self), loop=loop, **options)

    def begin(self) -> None:
        self._began = time.monotonic()

    def end(self) -> None:
        self.check()
        self._began = None

    def check(self) -> None:
        """Tell the run that this step belongs to, once, if the step has taken too long."""
        took = time.monotonic() - (self._began or math.inf)
        if took >= BLOCKED and (voice := current()) is not None:
            remedy = "what blocks belongs in a plain def or in isolation: process"
            voice.warn_once(f"the event loop was blocked for {took:.1f} s; {remedy}")


class Measured(Coroutine[Any, Any, Any]):
    """A coroutine whose steps are measured; in everything else it is the one within."""

    __slots__ = ("_pace", "_steps")

    def __init__(self, steps: Coroutine[Any, Any, Any], pace: Pace) -> None:
        self._steps = steps
        self._pace = pace

    def send(self, value: Any) -> Any:
        self._pace.begin()
        try:
            return self._steps.send(value)
        finally:
            self._pace.end()

    def throw(self, *error: Any) -> Any:
        self._pace.begin()
        try:
            return self._steps.throw(*error)
        finally:
            self._pace.end()

    def close(self) -> None:
        self._steps.close()

    def __await__(self) -> Any:
        return self._steps.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steps, name)
