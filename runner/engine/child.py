"""The other end of a process slot: imports the handler, runs it, says how it went."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import importlib
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any, TextIO, cast

from runner.domain.job import Run
from runner.domain.outcome import Failed, Outcome
from runner.domain.size import parse_size
from runner.engine import outcomes
from runner.engine.capture import Voice, capturing
from runner.engine.context import JobContext, Stop
from runner.engine.handlers import Limits
from runner.engine.lease import Lease
from runner.engine.outbox import Outbox
from runner.telemetry import bound
from runner.telemetry.printed import Printed

PR_SET_PDEATHSIG = 1
M_ARENA_MAX = -8
SPARE = 4 * 1024 * 1024  # bytes, to tell of the memory limit with: the handler may keep all the rest


def serve(pipe: Connection, parent: int, limits: Limits, lease: Lease, is_in_lines: bool = False) -> None:
    """Run one job after the other until the pipe closes or the parent is gone.

    `is_in_lines`: what is printed becomes lines of JSON, like all that the parent writes.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with(parent)
    _obey(limits)
    lines = Lines()
    if is_in_lines:
        sys.stdout, sys.stderr = lines.stream("stdout"), lines.stream("stderr")
    with capturing():
        while True:
            try:
                folder, path, run = pipe.recv()
            except (EOFError, OSError):
                return
            lines.run = run
            outbox = Outbox(pipe)
            outcome, context = _run(folder, path, run, outbox, lease, limits)
            _flush()
            try:
                outbox.close((*context.children, outcome))
            except Exception as error:  # user code: how a payload wants to be pickled
                pipe.send(Failed(f"ctx.enqueue: the payload is not JSON: {error}", for_good=True))


class Lines:
    """What this process prints, in the form of the service's log, bound to the run."""

    def __init__(self) -> None:
        self.run: Run | None = None

    def stream(self, name: str) -> TextIO:
        under: TextIO = getattr(sys, name)
        return cast("TextIO", Printed(lambda text: self._write(name, text, under), under))

    def _write(self, name: str, text: str, under: TextIO) -> None:
        time = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        fields: dict[str, Any] = {"time": time, "level": "info", "event": text, "logger": name}
        if self.run is not None:
            fields |= bound(self.run)
        with suppress(OSError, ValueError):
            under.write(json.dumps(fields) + "\n")
            under.flush()


def _run(
    folder: str, path: str, run: Run, outbox: Outbox, lease: Lease, limits: Limits
) -> tuple[Outcome, JobContext]:  # fmt: skip
    stop = Stop()
    context = JobContext(run, outbox, stop, is_held=lease.held_since)
    spare = bytearray(SPARE if limits.memory else 0)
    try:
        with Voice(outbox, lambda: datetime.now(UTC)):
            try:
                value = _function(folder, path)(context, run.payload)
                if asyncio.iscoroutine(value):
                    value = asyncio.run(value)
            finally:
                spare.clear()  # before anything is called: Python itself crashes where it has no memory for a frame
        outcome = outcomes.returned(value)
    except BaseException as error:  # user code, as in threads.call
        outcome = _out_of_memory(error, limits) or outcomes.raised(error, stop)
    return outcome, context


def _out_of_memory(error: BaseException, limits: Limits) -> Failed | None:
    is_out = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if not is_out or limits.memory is None:
        return None
    said = f"the memory_limit of {limits.memory} is used up: {outcomes.described(error)}"
    return Failed(said, outcomes.kinds_of(error))


def _function(folder: str, path: str) -> Any:
    # The parent has checked the path and its packages; this is the same path.
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    module, _, attribute = path.rpartition(":") if ":" in path else path.rpartition(".")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _flush() -> None:
    """What was printed is seen now: a child that is not needed any more is killed."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _obey(limits: Limits) -> None:
    if limits.nice:
        os.nice(limits.nice)
    if limits.memory is not None:
        # One heap for all threads: each would reserve 64 MiB of address space, which is what the limit counts.
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
        size = parse_size(limits.memory)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _die_with(parent: int) -> None:
    """Ask the kernel for a SIGKILL when the thread that started us ends; look once whether it has already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
