"""The other end of a process slot: imports the handler, runs it, says how it went."""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import Any

from runner.domain.job import Run
from runner.domain.outcome import Outcome
from runner.domain.said import LogLine, OutputPiece, Progress
from runner.engine import outcomes
from runner.engine.context import JobContext, Stop

PR_SET_PDEATHSIG = 1


def serve(pipe: Connection, parent: int) -> None:
    """Run one job after the other until the pipe closes or the parent is gone."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with(parent)
    while True:
        try:
            folder, path, run = pipe.recv()
        except (EOFError, OSError):
            return
        sink = PipeSink(pipe)
        outcome, context = _run(folder, path, run, sink)
        sink.close((*context.children, outcome))


class PipeSink:
    """Says everything to the parent, which writes it under the run's fence."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._is_open = True

    def _send(self, said: Any) -> None:
        with self._lock:
            if self._is_open:
                self._pipe.send(said)

    def close(self, last: Iterable[Any]) -> None:
        """Say the last of it. What a thread that the handler left behind says later belongs to no run."""
        with self._lock:
            self._is_open = False
            for said in last:
                self._pipe.send(said)

    def progress(self, progress: Progress) -> None:
        self._send(progress)

    def log(self, line: LogLine) -> None:
        self._send(line)

    def output(self, piece: OutputPiece) -> None:
        self._send(piece)


def _run(folder: str, path: str, run: Run, sink: PipeSink) -> tuple[Outcome, JobContext]:
    stop = Stop()
    context = JobContext(run, sink, stop)
    try:
        function = _function(folder, path)
        value = function(context, run.payload)
        if asyncio.iscoroutine(value):
            value = asyncio.run(value)
        outcome = outcomes.returned(value)
    except BaseException as error:  # user code, as in backends.call
        outcome = outcomes.raised(error, stop)
    return outcome, context


def _function(folder: str, path: str) -> Any:
    # The parent has checked the path and its packages; this is the same path.
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    module, _, attribute = path.rpartition(":") if ":" in path else path.rpartition(".")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _die_with(parent: int) -> None:
    """Ask the kernel for a SIGKILL when the thread that started us ends; look once whether it has already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
