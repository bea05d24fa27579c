"""Where handlers run that are CPU-bound or must be killable: a spawned process of their own, kept warm.

Own slots of spawn and pipe: pools break whole when one child dies, or report a job as cancelled that still runs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from runner.domain.outcome import Failed, Outcome
from runner.domain.said import LogLine, OutputPiece, Progress
from runner.engine import outcomes
from runner.engine.child import serve
from runner.engine.context import Child
from runner.engine.executor import GRACE, Done, Execution
from runner.engine.recorder import Recorder

_spawn = multiprocessing.get_context("spawn")
KILL_AFTER = GRACE * 0.9  # seconds from SIGTERM to SIGKILL, before the executor gives the run up
DYING = 2.0  # seconds that a child whose pipe has closed, or that was killed, may take to end


class Spawner:
    """Starts children from one long-lived thread: they are told of the death of the thread that started them."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="spawner", daemon=True).start()

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            make, answer = order
            try:
                answer.put(make())
            except Exception as error:  # handed to the caller, who raises it
                answer.put(error)

    def start(self, make: Callable[[], Any]) -> Any:
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._orders.put((make, answer))
        made = answer.get()
        if isinstance(made, Exception):
            raise made
        return made

    def close(self) -> None:
        self._orders.put(None)


class Processes:
    """A slot is a thread here and a process there. A child that died is replaced at the next job."""

    def __init__(self, done: Done, recorder: Recorder) -> None:
        self._done = done
        self._recorder = recorder
        self._spawner: Spawner | None = None
        self._lock = threading.Lock()
        self._idle: list[Slot] = []
        self._all: list[Slot] = []

    def start(self, execution: Execution) -> None:
        with self._lock:
            if self._spawner is None:
                self._spawner = Spawner()
            slot = self._idle.pop() if self._idle else None
        if slot is None:
            slot = Slot(self._spawner)
            with self._lock:
                self._all.append(slot)
        threading.Thread(
            target=self._drive, args=(slot, execution), name=f"process-{execution.run.id}", daemon=True
        ).start()

    def _drive(self, slot: Slot, execution: Execution) -> None:
        try:
            outcome = slot.run(execution, self._recorder)
        except (OSError, ValueError, EOFError) as error:
            outcome = Failed(f"the process of the handler could not be used: {error}")
        with self._lock:
            self._idle.append(slot)
        self._done(execution, outcome)

    def close(self) -> None:
        with self._lock:
            for slot in self._all:
                slot.retire()
            if self._spawner is not None:
                self._spawner.close()


class Slot:
    """One child and the pipe to it."""

    def __init__(self, spawner: Spawner) -> None:
        self._spawner = spawner
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._lock = threading.Lock()
        self._execution: Execution | None = None  # the run that signals are meant for
        self._killer: threading.Timer | None = None

    def run(self, execution: Execution, recorder: Recorder) -> Outcome:
        process, pipe = self._child()
        with self._lock:
            self._execution = execution
        execution.interrupt = lambda: self._terminate(process, execution)
        try:
            if execution.stop.kind is not None:
                return outcomes.stopped(execution.stop)
            pipe.send((sys.path[0], execution.handler.path, execution.run))
            return self._listen(process, pipe, execution, recorder)
        except (EOFError, OSError):
            return self._died(process, execution)
        finally:
            self._leave(process, execution)

    def _leave(self, process: BaseProcess, execution: Execution) -> None:
        """From here on no signal meant for this run reaches the child, which may have the next one by then."""
        with self._lock:
            self._execution = None
            if self._killer is not None:
                self._killer.cancel()
                self._killer = None
        if execution.stop.kind is not None:  # a signal may still be on its way to it
            self.retire(process)

    def _listen(self, process: BaseProcess, pipe: Connection, execution: Execution, recorder: Recorder) -> Outcome:
        while True:
            ready = wait([pipe, process.sentinel])
            if pipe not in ready:
                return self._died(process, execution)
            said = pipe.recv()
            match said:
                case Progress():
                    recorder.progress(execution.run, said)
                case LogLine():
                    recorder.log(execution.run, said)
                case OutputPiece():
                    recorder.output(execution.run, said)
                case Child():
                    execution.context.children.append(said)
                case _:
                    return said  # type: ignore[no-any-return]

    def _child(self) -> tuple[BaseProcess, Connection]:
        if self._process is None or self._pipe is None or not self._process.is_alive():
            ours, theirs = _spawn.Pipe()
            process = _spawn.Process(target=serve, args=(theirs, os.getpid()), name="handler")
            self._spawner.start(process.start)
            theirs.close()
            self._process, self._pipe = process, ours
        return self._process, self._pipe

    def _died(self, process: BaseProcess, execution: Execution) -> Outcome:
        _await_end(process)
        code = process.exitcode
        self.retire(process)
        if execution.stop.kind is not None:
            return outcomes.stopped(execution.stop)
        if code is None:
            return Failed("the process of the handler closed its pipe; it was killed")
        if code < 0:
            with contextlib.suppress(ValueError):
                return Failed(f"the process of the handler was killed by {signal.Signals(-code).name}")
        return Failed(f"the process of the handler ended with exit code {code}")

    def _terminate(self, process: BaseProcess, execution: Execution) -> None:
        """SIGTERM to the handler's whole process group at once, SIGKILL after the grace."""
        with self._lock:
            if self._execution is not execution:
                return
            _signal_group(process, signal.SIGTERM)
            self._killer = threading.Timer(KILL_AFTER, lambda: _signal_group(process, signal.SIGKILL))
            self._killer.daemon = True
            self._killer.start()

    def retire(self, process: BaseProcess | None = None) -> None:
        """End the child; the next job gets a new one."""
        process = process or self._process
        if process is not None and process.is_alive():
            _signal_group(process, signal.SIGKILL)
            _await_end(process)


def _await_end(process: BaseProcess) -> None:
    """Not `join`: where the child has closed its files, it takes it for dead and waits for it without end."""
    deadline = time.monotonic() + DYING
    while process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)


def _signal_group(process: BaseProcess, number: signal.Signals) -> None:
    if process.pid is None or not process.is_alive():
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:  # it has not made its own group yet
            os.kill(process.pid, number)
