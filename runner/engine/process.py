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
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from runner.domain.outcome import Cancelled, Completed, Failed, Outcome, Snoozed
from runner.domain.said import LogLine, OutputPiece, Progress
from runner.engine import outcomes
from runner.engine.capture import is_in_lines
from runner.engine.child import serve
from runner.engine.context import Child
from runner.engine.executor import NO_MORE, Done, Execution, not_started
from runner.engine.handlers import Limits
from runner.engine.lease import Lease
from runner.engine.warden import Warden

_spawn = multiprocessing.get_context("spawn")
PATIENCE = 0.4  # seconds that a killed child may take to end before the executor gives its run up
UNUSED = 300.0  # seconds after which an idle child is ended, when another job has ended
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
    """A slot is a thread here and a process there. A child that died is replaced at the next job of its limits."""

    def __init__(self, done: Done, lease: Lease | None = None) -> None:
        self._done = done
        self._lease = lease or Lease()
        self._nursery: Nursery | None = None
        self._lock = threading.Lock()
        self._idle: list[Slot] = []  # the longest idle one first
        self._all: list[Slot] = []

    def start(self, executions: Sequence[Execution]) -> None:
        for execution in executions:
            try:
                self._start(execution)
            except NO_MORE as error:  # this one's; the others may have a process that is there
                self._done(execution, not_started(error))

    def _start(self, execution: Execution) -> None:
        execution.patience = PATIENCE
        slot = self._slot(execution.handler.limits)
        threading.Thread(
            target=self._drive, args=(slot, execution), name=f"process-{execution.run.id}", daemon=True
        ).start()

    def _slot(self, limits: Limits) -> Slot:
        with self._lock:
            for slot in reversed(self._idle):
                if slot.limits == limits:
                    self._idle.remove(slot)
                    return slot
            if self._nursery is None:
                self._nursery = Nursery(self._lease)
            slot = Slot(self._nursery, limits)
            self._all.append(slot)
            return slot

    def _drive(self, slot: Slot, execution: Execution) -> None:
        try:
            with execution.around():
                outcome = slot.run(execution)
        except Exception as error:  # user code: what it sends is unpickled here, and may raise anything
            slot.retire()
            outcome = Failed(f"the process of the handler could not be used: {type(error).__name__}: {error}")
        with self._lock:
            slot.idle_since = time.monotonic()
            self._idle.append(slot)
            unused = [one for one in self._idle if one.idle_since < slot.idle_since - UNUSED]
            self._idle = [one for one in self._idle if one not in unused]
            self._all = [one for one in self._all if one not in unused]
        self._done(execution, outcome)
        for one in unused:
            one.retire()

    def close(self) -> None:
        with self._lock:
            for slot in self._all:
                slot.retire()
            if self._nursery is not None:
                self._nursery.close()


class Nursery:
    """Makes children, and sees to it that nothing of them is left when this process is gone."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._spawner = Spawner()
        self._warden = Warden()

    def child(self, limits: Limits) -> tuple[BaseProcess, Connection]:
        ours, theirs = _spawn.Pipe()
        process = _spawn.Process(
            target=serve, args=(theirs, os.getpid(), limits, self._lease, is_in_lines()), name="handler"
        )
        self._spawner.start(process.start)
        theirs.close()
        self._warden.watch(process.pid or 0)
        return process, ours

    def end(self, process: BaseProcess) -> None:
        """Kill it with its whole group: also where it is dead, for what it has started may be alive."""
        _signal_group(process, signal.SIGKILL)
        _await_end(process)
        process.is_alive()  # reaps it
        self._warden.forget(process.pid or 0)

    def close(self) -> None:
        self._spawner.close()
        self._warden.close()


class Slot:
    """One child and the pipe to it."""

    def __init__(self, nursery: Nursery, limits: Limits) -> None:
        self.limits = limits
        self.idle_since = 0.0
        self._nursery = nursery
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._lock = threading.Lock()
        self._execution: Execution | None = None  # the run that signals are meant for
        self._killer: threading.Timer | None = None

    def run(self, execution: Execution) -> Outcome:
        process, pipe = self._child()
        with self._lock:
            self._execution = execution
        execution.interrupt = lambda grace: self._terminate(process, execution, grace)
        try:
            if execution.stop.kind is not None:
                return outcomes.stopped(execution.stop)
            pipe.send((sys.path[0], execution.handler.path, execution.run))
            outcome = self._listen(process, pipe, execution)
        except (EOFError, OSError):
            outcome = self._died(process, execution)
        finally:
            self._leave(execution)
        if isinstance(outcome, Failed) and "builtins.MemoryError" in outcome.kinds:
            self.retire()  # what it keeps would be missing to the next job
        return outcome

    def _leave(self, execution: Execution) -> None:
        """From here on no signal meant for this run reaches the child, which may have the next one by then."""
        with self._lock:
            self._execution = None
            if self._killer is not None:
                self._killer.cancel()
                self._killer = None
        if execution.stop.kind is not None:  # a signal may still be on its way to it
            self.retire()

    def _listen(self, process: BaseProcess, pipe: Connection, execution: Execution) -> Outcome:
        while True:
            ready = wait([pipe, process.sentinel])
            if pipe not in ready:
                return self._died(process, execution)
            said = pipe.recv()
            match said:
                case Progress():
                    execution.sink.progress(said)
                case LogLine():
                    execution.sink.log(said)
                case OutputPiece():
                    execution.sink.output(said)
                case Child():
                    execution.children.append(said)
                case Completed() | Failed() | Cancelled() | Snoozed():
                    return said
                case _:
                    raise ValueError("something else than a word of ours came through its pipe")

    def _child(self) -> tuple[BaseProcess, Connection]:
        if self._process is None or self._pipe is None or not self._process.is_alive():
            self.retire()
            self._process, self._pipe = self._nursery.child(self.limits)
        return self._process, self._pipe

    def _died(self, process: BaseProcess, execution: Execution) -> Outcome:
        _await_end(process)
        is_dead = not (process.pid and _is_running(process.pid))
        self.retire()
        if execution.stop.kind is not None:
            return outcomes.stopped(execution.stop)
        limit = f"; its memory_limit is {self.limits.memory}" if self.limits.memory else ""
        return Failed(f"the process of the handler {_ended(process.exitcode if is_dead else None)}{limit}")

    def _terminate(self, process: BaseProcess, execution: Execution, grace: float) -> None:
        """SIGTERM to the handler's whole process group at once, SIGKILL after the grace."""
        with self._lock:
            if self._execution is not execution:
                return
            _signal_group(process, signal.SIGTERM)
            self._killer = threading.Timer(grace, lambda: _signal_group(process, signal.SIGKILL))
            self._killer.daemon = True
            self._killer.start()

    def retire(self) -> None:
        """End the child; the next job gets a new one."""
        process, self._process = self._process, None
        if process is not None:
            self._nursery.end(process)


def _ended(code: int | None) -> str:
    if code is None:
        return "closed its pipe; it was killed"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _signal_group(process: BaseProcess, number: signal.Signals) -> None:
    """To all that the child has started, also where it is dead itself. Nobody else can have its number before it is
    reaped."""
    if process.pid is None or not _is_unreaped(process.pid):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:  # it has not made its own group yet
            os.kill(process.pid, number)


def _await_end(process: BaseProcess) -> None:
    """Not `join`: where the child has closed its files, it takes it for dead and waits for it without end."""
    deadline = time.monotonic() + DYING
    while process.pid and _is_running(process.pid) and time.monotonic() < deadline:
        time.sleep(0.005)


def _is_unreaped(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    return False


def _is_running(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    return False
