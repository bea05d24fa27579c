"""Handlers for the tests of the engine, and the gates at which tests hold them."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner import Cancel, JobCancelled, JobContext, Retry, Snooze

LONG = 60.0  # seconds: longer than any test waits


class Gate:
    """Handlers report here and are held until it opens. `most` is how many were inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.opened = threading.Event()
        self.entered = 0
        self.inside = 0
        self.most = 0
        self.left = 0
        self.said: list[str] = []

    def enter(self) -> None:
        with self._lock:
            self.entered += 1
            self.inside += 1
            self.most = max(self.most, self.inside)

    def leave(self) -> None:
        with self._lock:
            self.inside -= 1
            self.left += 1


GATES: dict[str, Gate] = {}


def gate(name: str = "gate") -> Gate:
    return GATES.setdefault(name, Gate())


def open_gates() -> None:
    """At the end of a test: nothing stays behind in a thread."""
    for one in GATES.values():
        one.opened.set()
    GATES.clear()


Payload = dict[str, Any]


# ---- plain functions, in threads


def ok(ctx: JobContext, payload: Payload) -> Payload:
    return {"thread": threading.current_thread().name, "attempt": ctx.attempt}


def echo(ctx: JobContext, payload: Payload) -> Any:
    return payload.get("value")


def hold(ctx: JobContext, payload: Payload) -> None:
    """Never asks its context anything."""
    held = gate(payload.get("gate", "gate").format(attempt=ctx.attempt))
    held.enter()
    held.opened.wait(LONG)
    held.leave()


def hold_and_say(ctx: JobContext, payload: Payload) -> str:
    """Says something once its gate opens, as a handler does that was given up long ago."""
    hold(ctx, payload)
    try:
        ctx.progress(99, "late")
    except JobCancelled:
        gate().said.append("told")
    ctx.log("late")
    return "late"


def work(ctx: JobContext, payload: Payload) -> None:
    """Asks its context again and again; `except Exception` must not keep it from ending."""
    held = gate(payload.get("gate", "gate"))
    held.enter()
    deadline = time.monotonic() + LONG
    try:
        while time.monotonic() < deadline:
            try:
                ctx.check()
            except Exception:  # noqa: BLE001, S110, RUF100 - as careless handlers do
                held.said.append("swallowed")
            held.opened.wait(0.002)
    finally:
        ctx.log("cleaned up")
        held.said.append("finally")
        held.leave()


def say_until_stopped(ctx: JobContext, payload: Payload) -> None:
    gate().enter()
    deadline = time.monotonic() + LONG
    try:
        while time.monotonic() < deadline:
            ctx.progress(50, "talking")
            gate().opened.wait(0.002)
    finally:
        gate().said.append("finally")


def look(ctx: JobContext, payload: Payload) -> str:
    """Looks at `ctx.cancelled` and ends by itself."""
    gate().enter()
    while not ctx.cancelled:
        gate().opened.wait(0.002)
    return "ended by itself"


def fail(ctx: JobContext, payload: Payload) -> None:
    raise ValueError(payload.get("message", "no such address"))


def fail_first(ctx: JobContext, payload: Payload) -> str:
    if ctx.attempt <= payload["times"]:
        raise ConnectionResetError(f"attempt {ctx.attempt}")
    return "at last"


def retry(ctx: JobContext, payload: Payload) -> None:
    raise Retry("later please", after=payload.get("after"))


def cancel(ctx: JobContext, payload: Payload) -> None:
    reason: Any = ODD.get("reason", payload.get("reason", "not needed"))
    raise Cancel(reason)


def snooze(ctx: JobContext, payload: Payload) -> str:
    if gate().said:
        return "awake"
    gate().said.append("snoozed")
    raise Snooze(for_=payload["seconds"])


def leave(ctx: JobContext, payload: Payload) -> None:
    raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[payload["how"]]


RESULTS: dict[str, Callable[[], Any]] = {
    "set": lambda: {1, 2},
    "nan": lambda: {"ratio": float("nan")},
    "huge": lambda: "x" * (2 * 1024 * 1024),
    "circle": lambda: _circle(),  # noqa: PLW0108 - defined below
    "nul": lambda: {"text\x00": "a\x00b", "lone": "\ud800"},
    "bytes": lambda: b"raw",
}


def _circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def result(ctx: JobContext, payload: Payload) -> Any:
    return RESULTS[payload["of"]]()


def chatter(ctx: JobContext, payload: Payload) -> None:
    """Says a lot, then waits at its gate."""
    for number in range(payload["times"]):
        ctx.progress(100 * number / payload["times"], "counting", f"number {number}")
    ctx.log("first line")
    ctx.log("second line", "warning")
    ctx.output("preview", "text/plain", "one ")
    ctx.output("preview", "text/plain", "two", append=True)
    hold(ctx, payload)


def odd_text(ctx: JobContext, payload: Payload) -> None:
    ctx.progress(50, "st\x00ep", "mess\ud800age")
    ctx.log("line\x00\ud800")
    ctx.output("na\x00me\ud800", "text/\ud800plain", "\ud800")
    raise ValueError("err\x00or \ud800")


def parent(ctx: JobContext, payload: Payload) -> None:
    for child in payload["children"]:
        ctx.enqueue(child["type"], child.get("payload"), **child.get("options", {}))
    if payload.get("fails"):
        raise ValueError("after enqueue")
    if payload.get("gate"):
        hold(ctx, payload)


def odd_child(ctx: JobContext, payload: Payload) -> None:
    """Options that the context takes and the queue refuses."""
    ctx.enqueue("ok", None, **ODD["options"])


ODD: dict[str, Any] = {}  # what no payload can carry


# ---- coroutines


async def hold_async(ctx: JobContext, payload: Payload) -> str:
    held = gate(payload.get("gate", "gate"))
    held.enter()
    try:
        while not held.opened.is_set():
            await asyncio.sleep(0.005)
    finally:
        ctx.log("cleaned up")
        await asyncio.sleep(0)
        held.said.append("finally")
        held.leave()
    return threading.current_thread().name


async def asks_and_awaits(ctx: JobContext, payload: Payload) -> None:
    """Is interrupted by its context, in code that holds the loop; then cleans up, awaiting."""
    gate().enter()
    await asyncio.sleep(0)
    try:
        while True:
            time.sleep(0.001)  # holds the loop, which is the point
            ctx.check()
    except JobCancelled:
        gate().said.append("JobCancelled")
        for _ in range(5):
            await asyncio.sleep(0)
        gate().said.append("cleaned up")
        raise


async def stubborn_async(ctx: JobContext, payload: Payload) -> None:
    """Swallows its cancellation."""
    gate().enter()
    while not gate().opened.is_set():
        try:
            await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            gate().said.append("swallowed")


async def wait_for_all(ctx: JobContext, payload: Payload) -> None:
    """Waits on one event with all the others; no look at a clock in between."""
    gate().enter()
    if EVENTS and EVENTS[0]._loop is not asyncio.get_running_loop():  # type: ignore[attr-defined]
        EVENTS.clear()
    if not EVENTS:
        EVENTS.append(asyncio.Event())
        EVENTS[0]._loop = asyncio.get_running_loop()  # type: ignore[attr-defined]
    await EVENTS[0].wait()
    gate().leave()


EVENTS: list[asyncio.Event] = []


async def open_all(ctx: JobContext, payload: Payload) -> None:
    EVENTS.pop().set()


async def blocks(ctx: JobContext, payload: Payload) -> str:
    """Holds the event loop, in its own code, in a task of its own, or more than once."""
    held = gate("blocks")
    await asyncio.sleep(0)
    if payload.get("in_a_task"):
        await asyncio.create_task(_block(held))
    else:
        held.enter()
        held.opened.wait(LONG)
    for _ in range(payload.get("again", 0)):
        await asyncio.sleep(0)
        time.sleep(payload["seconds"])  # holds the loop for as long as the test wants told
    return "at last"


async def _block(held: Gate) -> None:
    held.enter()
    held.opened.wait(LONG)


async def fail_async(ctx: JobContext, payload: Payload) -> None:
    await asyncio.sleep(0)
    raise ValueError("no such address")


async def exit_in_a_task(ctx: JobContext, payload: Payload) -> None:
    """asyncio lets a SystemExit of a task end the whole loop."""

    async def inner() -> None:
        raise SystemExit(3)

    await asyncio.create_task(inner())


async def inner_cancel(ctx: JobContext, payload: Payload) -> None:
    """Awaits something that somebody else cancelled."""
    task = asyncio.create_task(asyncio.sleep(LONG))
    await asyncio.sleep(0)
    task.cancel()
    await task


# ---- processes: they are held by files


def process_id(ctx: JobContext, payload: Payload) -> int:
    ctx.progress(50, "half")
    ctx.log("from a process")
    ctx.output("preview", "text/plain", b"bytes")
    return os.getpid()


async def process_async(ctx: JobContext, payload: Payload) -> int:
    await asyncio.sleep(0)
    return os.getpid()


def process_hold(ctx: JobContext, payload: Payload) -> int:
    """Writes its process id beside its gate, a file, and waits for it to appear."""
    place = Path(payload["gate"])
    if payload.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if payload.get("answers"):
        signal.signal(signal.SIGTERM, lambda *_: place.touch())
    temporary = place.with_suffix(".tmp")
    temporary.write_text(str(os.getpid()))
    temporary.rename(place.with_suffix(".pid"))
    deadline = time.monotonic() + LONG
    while not place.exists() and time.monotonic() < deadline:
        time.sleep(0.01)  # between two looks for a file that another process makes
    return os.getpid()


def process_chatters(ctx: JobContext, payload: Payload) -> None:
    """As fast as it can; then it waits in silence where it has a gate."""
    for number in range(payload["times"]):
        ctx.progress(100 * (number + 1) / payload["times"], "counting", f"number {number}")
    if "gate" in payload:
        process_hold(ctx, payload)


def process_dies(ctx: JobContext, payload: Payload) -> Any:
    return DEATHS[payload["how"]](ctx)


def _close_all(ctx: JobContext) -> None:
    os.closerange(3, 256)
    time.sleep(LONG)  # a handler that does not end; the parent kills it


def _raise(error: BaseException) -> None:
    raise error


DEATHS: dict[str, Callable[[JobContext], Any]] = {
    "exit": lambda ctx: os._exit(3),
    "segfault": lambda ctx: os.kill(os.getpid(), signal.SIGSEGV),
    "pipe": _close_all,
    "raise": lambda ctx: _raise(Unpicklable("cannot travel")),
    "sys.exit": lambda ctx: _raise(SystemExit(4)),
    "unpicklable": lambda ctx: threading.Lock(),
    "not json": lambda ctx: {"when": {1, 2}},
    "child": lambda ctx: ctx.enqueue("ok", {"lock": threading.Lock()}),
    "memory": lambda ctx: _eaten(),
    "memory at once": lambda ctx: len(bytearray(1024**4)),
    "native": lambda ctx: os.abort(),
}


def _eaten() -> None:
    """In small pieces that stay, so that next to nothing is left at the end."""
    while True:
        KEPT.append([1.5, str(len(KEPT))])


KEPT: list[Any] = []


def process_starts(ctx: JobContext, payload: Payload) -> int:
    """Starts a program that outlives it, tells its number beside its gate, and waits or dies."""
    program = subprocess.Popen(["sleep", "300"], stdin=subprocess.DEVNULL)
    Path(payload["gate"]).with_suffix(".grandchild").write_text(str(program.pid))
    if payload.get("dies"):
        os._exit(3)
    return process_hold(ctx, payload)


def process_sees(ctx: JobContext, payload: Payload) -> list[int]:
    """Its number, how it gives way, and its limit of memory."""
    return [os.getpid(), os.nice(0), resource.getrlimit(resource.RLIMIT_AS)[0]]


class Unpicklable(Exception):
    """An exception that no pipe could carry as it is."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


def process_leaves_a_thread(ctx: JobContext, payload: Payload) -> int:
    """Ends, and a thread of it goes on talking."""

    def talk() -> None:
        while True:
            ctx.log("from the job before")
            time.sleep(0.001)  # goes on talking, without a processor to itself

    threading.Thread(target=talk, daemon=True).start()
    return os.getpid()


def asks_for_the_beat(ctx: JobContext, payload: Payload) -> str:
    """In a thread or a process: until its worker is silent."""
    temporary = Path(payload["told"]).with_suffix(".tmp")
    temporary.write_text(str(ctx.heartbeat_ok))
    temporary.rename(payload["told"])
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        if not ctx.heartbeat_ok:
            return "it is silent"
        time.sleep(0.002)  # between two looks, from another process
    return "it beats"


def process_parent(ctx: JobContext, payload: Payload) -> None:
    ctx.enqueue("ok", {"from": "process"})
    if payload.get("fails"):
        raise LookupError("after enqueue")


def not_a_handler() -> None:
    """Takes nothing."""


def takes_one(ctx: JobContext) -> None:
    """Takes too little."""


class Callable_:  # noqa: N801
    async def __call__(self, ctx: JobContext, payload: Payload) -> str:
        return "called"


async_object = Callable_()
CONSTANT = 5
