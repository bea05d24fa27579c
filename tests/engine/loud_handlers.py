"""Handlers that print and log, for the tests of what becomes of it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from typing import Any

from runner import JobContext
from tests.engine.sample_handlers import gate

Payload = dict[str, Any]
LOGGER = logging.getLogger("shop.mail")
LOGGER.setLevel(logging.DEBUG)


def say_everything() -> None:
    print("printed", 1)
    print("on stderr", file=sys.stderr)
    sys.stdout.write("two\nlines\n")
    print()
    LOGGER.debug("looking for %s", "ada")
    LOGGER.info("found")
    LOGGER.warning("slow")
    LOGGER.critical("lost")
    logging.getLogger().error("of the root")
    print("no end", end="")


def loud(ctx: JobContext, payload: Payload) -> None:
    say_everything()


async def loud_async(ctx: JobContext, payload: Payload) -> None:
    await asyncio.sleep(0)
    say_everything()


def in_turn(ctx: JobContext, payload: Payload) -> None:
    """Two at once, each in the middle of a line of its own."""
    name = payload["name"]
    print(f"{name} begins", end=" ")
    gate().enter()
    gate().opened.wait(60)
    print("and", end=" ")
    LOGGER.info("of %s", name)
    print("ends")


async def in_turn_async(ctx: JobContext, payload: Payload) -> None:
    name = payload["name"]
    print(f"{name} begins", end=" ")
    gate().enter()
    while not gate().opened.is_set():
        await asyncio.sleep(0.002)
    await asyncio.create_task(_task(name))
    await asyncio.to_thread(LOGGER.info, "of %s", name)
    print("ends")


async def _task(name: str) -> None:
    print("and", end=" ")


def starts_a_thread(ctx: JobContext, payload: Payload) -> None:
    """One thread that ends within the run, one that goes on after it."""
    print("main", end=" ")
    inner = threading.Thread(target=lambda: print("from a thread"))
    inner.start()
    inner.join()
    print("goes on")
    threading.Thread(target=_late, daemon=True).start()


def _late() -> None:
    gate().enter()
    gate().opened.wait(60)
    print("too late")
    gate().leave()


def bar(ctx: JobContext, payload: Payload) -> None:
    for percent in range(0, 101, 5):
        print(f"\r{percent:3}% done", end="", file=sys.stderr)
    print(file=sys.stderr)
    print("with a carriage return\r")


def endless_line(ctx: JobContext, payload: Payload) -> None:
    for _ in range(10):
        print("x" * 50_000, end="")


def many(ctx: JobContext, payload: Payload) -> None:
    for number in range(payload["times"]):
        if payload.get("log"):
            LOGGER.info("number %d", number)
        else:
            print("number", number)


class Angry:
    def __str__(self) -> str:
        raise ValueError("no text")


def misformatted(ctx: JobContext, payload: Payload) -> None:
    LOGGER.warning(Angry())
    try:
        raise LookupError("deep")
    except LookupError:
        LOGGER.exception("it failed")
    print("odd \x00 \ud800")


def progress_and_print(ctx: JobContext, payload: Payload) -> None:
    ctx.progress(50)
    print("of the handler")


def forks(ctx: JobContext, payload: Payload) -> int:
    """A copy of the process prints, while other threads of the first one hold what locks they may."""
    print("before", end=" ")
    if payload.get("waits"):
        gate().enter()
        gate().opened.wait(60)
    child = os.fork()
    if child == 0:
        try:
            print("in the copy")
            LOGGER.info("in the copy")
            if payload.get("speaks"):
                ctx.log("in the copy")
        finally:
            os._exit(7)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            gate().leave()
            print("after")
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)  # between two looks: waitpid has no timeout
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -1


def configures_logging(ctx: JobContext, payload: Payload) -> None:
    """As a careless handler does, in the middle of a run."""
    logging.basicConfig(level=logging.INFO, format="<%(message)s>")
    LOGGER.info("said once")
