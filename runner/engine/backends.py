"""Where coroutines run: on one event loop in this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence

from runner.engine import outcomes
from runner.engine.executor import Done, Execution
from runner.engine.pace import Pace

MANY = 64  # ends that are not told of yet: settled while others run


class EventLoop:
    """All coroutines on one loop in one thread: a thousand that wait cost next to nothing.

    While a handler holds the loop for longer than the grace, what is new starts on another one.
    """

    def __init__(self, done: Done, ring: Callable[[], None]) -> None:
        self._done = done
        self._ring = ring
        self._lock = threading.Lock()
        self._loops: list[LoopThread] = []

    def start(self, executions: Sequence[Execution]) -> None:
        with self._lock:
            loop = next((one for one in self._loops if not one.pace.is_stuck), None)
            if loop is None:
                loop = LoopThread(self._done, self._ring)
                self._loops.append(loop)
        loop.start(executions)

    def close(self) -> None:
        with self._lock:
            for loop in self._loops:
                loop.close()


class LoopThread:
    """A loop, and the tasks of handlers on it.

    To call into the loop from outside, and to wake the worker, take longer than a short handler: what is started
    together is called together, and what ends in one turn of the loop is told once.
    """

    def __init__(self, done: Done, ring: Callable[[], None]) -> None:
        self._done = done
        self._ring = ring
        self._untold = 0  # have ended, and the worker was not told
        self._lock = threading.Lock()
        self._new: list[Execution] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.pace = Pace()
        self._loop = asyncio.new_event_loop()
        self._loop.set_task_factory(self.pace.task)
        threading.Thread(target=self._serve, name="handler-loop", daemon=True).start()

    def start(self, executions: Sequence[Execution]) -> None:
        with self._lock:
            is_called, self._new = bool(self._new), [*self._new, *executions]
            if is_called:
                return
        self._loop.call_soon_threadsafe(self._begin_all)

    def _serve(self) -> None:
        while not self._closed:
            with contextlib.suppress(SystemExit, KeyboardInterrupt):  # out of a task of a handler's own: others go on
                self._loop.run_forever()
        self._loop.close()

    def _begin_all(self) -> None:
        with self._lock:
            new, self._new = self._new, []
        for execution in new:
            self._begin(execution)

    def _begin(self, execution: Execution) -> None:
        task = self._loop.create_task(self._run(execution), name=f"job-{execution.run.id}")
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, execution))
        execution.interrupt = lambda grace: self._cancel_soon(task, execution)
        if execution.stop.kind is not None:
            _cancel(task, execution)

    async def _run(self, execution: Execution) -> None:
        try:
            context, voice = execution.begin()
            with execution.around(), voice:
                try:
                    value = await execution.handler.function(context, execution.run.payload)
                finally:
                    self.pace.check()  # of the step that we are in: after it nothing is heard
            outcome = outcomes.returned(value)
        except BaseException as error:  # user code: even SystemExit ends its own job and nothing else
            outcome = outcomes.raised(error, execution.stop)
        self._done(execution, outcome, "leave")
        self._untold += 1
        if self._untold == 1:
            self._loop.call_soon(self._tell)
        elif self._untold >= MANY:
            self._tell()

    def _tell(self) -> None:
        if self._untold:
            self._untold = 0
            self._ring()

    def _ended(self, task: asyncio.Task[None], execution: Execution) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # before its first step: the coroutine never ran
            self._done(execution, outcomes.stopped(execution.stop))

    def _cancel_soon(self, task: asyncio.Task[None], execution: Execution) -> None:
        self._loop.call_soon_threadsafe(_cancel, task, execution)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        """A coroutine that was given up keeps the loop: ended with it, one that catches everything would spin."""
        if all(task.done() for task in self._tasks):
            self._closed = True
            self._loop.stop()


def _cancel(task: asyncio.Task[None], execution: Execution) -> None:
    """At its next await, unless the context was quicker: a handler that cleans up is not interrupted again."""
    if execution.stop.deliver():
        task.cancel()
