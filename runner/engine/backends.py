"""Where handlers run in this process: plain functions in threads, coroutines on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading

from runner.domain.outcome import Outcome
from runner.engine import outcomes
from runner.engine.executor import Done, Execution


class Threads:
    """Daemon threads of our own: an executor's would be joined at exit, and one stuck handler would hold it for ever.

    A thread is started where none is idle, so that a stuck one never keeps another job from starting.
    """

    def __init__(self, done: Done) -> None:
        self._done = done
        self._work: queue.SimpleQueue[Execution | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._count = 0

    def start(self, execution: Execution) -> None:
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            else:
                self._count += 1
                threading.Thread(target=self._serve, name=f"handler-{self._count}", daemon=True).start()
        self._work.put(execution)

    def _serve(self) -> None:
        while (execution := self._work.get()) is not None:
            outcome = call(execution)
            with self._lock:
                self._idle += 1
            self._done(execution, outcome)

    def close(self) -> None:
        with self._lock:
            for _ in range(self._count):
                self._work.put(None)


def call(execution: Execution) -> Outcome:
    """Run a plain handler to its end, whatever that is."""
    try:
        return outcomes.returned(execution.handler.function(execution.context, execution.run.payload))
    except BaseException as error:  # user code: even SystemExit ends its own job and nothing else
        return outcomes.raised(error, execution.stop)


class EventLoop:
    """One loop in one thread for all coroutines: a thousand that wait cost next to nothing."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, execution: Execution) -> None:
        loop = self._running()
        loop.call_soon_threadsafe(self._begin, loop, execution)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._serve, args=(self._loop,), name="handler-loop", daemon=True).start()
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._closed:
            with contextlib.suppress(SystemExit, KeyboardInterrupt):  # out of a task of a handler's own: others go on
                loop.run_forever()
        loop.close()

    def _begin(self, loop: asyncio.AbstractEventLoop, execution: Execution) -> None:
        task = loop.create_task(self._run(execution), name=f"job-{execution.run.id}")
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, execution))
        execution.interrupt = lambda: _cancel_soon(loop, task, execution)
        if execution.stop.kind is not None:
            _cancel(task, execution)

    async def _run(self, execution: Execution) -> None:
        try:
            value = await execution.handler.function(execution.context, execution.run.payload)
            outcome = outcomes.returned(value)
        except BaseException as error:  # user code, see call()
            outcome = outcomes.raised(error, execution.stop)
        self._done(execution, outcome)

    def _ended(self, task: asyncio.Task[None], execution: Execution) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # before its first step: the coroutine never ran
            self._done(execution, outcomes.stopped(execution.stop))

    def close(self) -> None:
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop, self._loop)

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """A coroutine that was given up keeps the loop: ended with it, one that catches everything would spin."""
        if all(task.done() for task in self._tasks):
            self._closed = True
            loop.stop()


def _cancel_soon(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], execution: Execution) -> None:
    loop.call_soon_threadsafe(_cancel, task, execution)


def _cancel(task: asyncio.Task[None], execution: Execution) -> None:
    """At its next await, unless the context was quicker: a handler that cleans up is not interrupted again."""
    if execution.stop.deliver():
        task.cancel()
