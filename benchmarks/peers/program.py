"""What all programs have in common: the commands and their clocks. What they found goes out as one line of JSON.

Nothing but the standard library: this is imported in environments that hold a peer and nothing of ours.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

CALL = 1_000  # jobs in one call of a bulk enqueue
Note = Callable[[int], None]


class Client(Protocol):
    async def one(self, n: int) -> None:
        """Enqueue job `n`; on disk when this returns."""

    async def many(self, numbers: range) -> None:
        """Enqueue all of these in one call."""


class Peer(Protocol):
    def client(self, url: str) -> AbstractAsyncContextManager[Client]:
        """What enqueues, ready to."""

    async def install(self, url: str) -> None:
        """Make the tables."""

    async def serve(self, url: str, kind: str, places: int, note: Note, stop: asyncio.Event) -> None:
        """Work until `stop`, with `plain` or `async` handlers that only note the number of their job."""


async def enqueue(peer: Peer, url: str, count: str) -> float:
    """Jobs a second, one call each. The first makes the connection ready and is not counted."""
    async with peer.client(url) as client:
        await client.one(0)
        began = time.perf_counter()
        for n in range(1, int(count)):
            await client.one(n)
        return (int(count) - 1) / (time.perf_counter() - began)


async def bulk(peer: Peer, url: str, count: str) -> float:
    """Jobs a second, in calls of a thousand, of which the first is not counted."""
    async with peer.client(url) as client:
        await client.many(range(CALL))
        began = time.perf_counter()
        for start in range(CALL, int(count), CALL):
            await client.many(range(start, min(start + CALL, int(count))))
        return (int(count) - CALL) / (time.perf_counter() - began)


async def trickle(peer: Peer, url: str, count: str, pause: str) -> list[int]:
    """The moment before each of so many calls."""
    began = []
    async with peer.client(url) as client:
        for n in range(int(count)):
            await asyncio.sleep(float(pause))
            began.append(time.monotonic_ns())
            await client.one(n)
    return began


async def serve(peer: Peer, url: str, kind: str, places: str) -> list[tuple[int, int]]:
    """The number of each handled job, and when its handler began."""
    seen: list[tuple[int, int]] = []
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    def note(n: int) -> None:
        seen.append((n, time.monotonic_ns()))

    await peer.serve(url, kind, int(places), note, stop)
    return seen


async def install(peer: Peer, url: str) -> None:
    await peer.install(url)


COMMANDS: dict[str, Callable[..., Awaitable[Any]]] = {
    "install": install, "enqueue": enqueue, "bulk": bulk, "trickle": trickle, "serve": serve,
}  # fmt: skip


def main(peer: Peer, run: Callable[..., Any] = asyncio.run) -> None:
    command, url, *arguments = sys.argv[1:]
    found = getattr(peer, command) if command not in COMMANDS else None
    work = found(url, *arguments) if found else COMMANDS[command](peer, url, *arguments)
    print(json.dumps(run(work)))
