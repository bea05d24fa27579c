"""oban, on uvloop as its own command runs it. It awaits handlers, so plain functions go by asyncio.to_thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvloop
from oban import Oban, worker
from oban.schema import install
from program import Note, main


class Handled:
    """How this process handles a job, if it does."""

    kind = "async"
    note: Callable[[int], None] = print


@worker(queue="default")
class Due:
    async def process(self, job) -> None:
        if Handled.kind == "plain":
            await asyncio.to_thread(Handled.note, job.args["n"])
        else:
            Handled.note(job.args["n"])


class Client:
    def __init__(self, oban: Oban) -> None:
        self._oban = oban

    async def one(self, n: int) -> None:
        await self._oban.enqueue(Due.new({"n": n}))

    async def many(self, numbers: range) -> None:
        await self._oban.enqueue_many([Due.new({"n": n}) for n in numbers])


class Peer:
    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        pool = await Oban.create_pool(url)
        async with Oban(pool=pool) as oban:
            yield Client(oban)
        await pool.close()

    async def install(self, url: str) -> None:
        pool = await Oban.create_pool(url)
        await install(pool)
        await pool.close()

    async def serve(self, url: str, kind: str, places: int, note: Note, stop: asyncio.Event) -> None:
        Handled.kind, Handled.note = kind, staticmethod(note)
        pool = await Oban.create_pool(url)
        async with Oban(pool=pool, queues={"default": places}):
            await stop.wait()
        await pool.close()


if __name__ == "__main__":
    main(Peer(), uvloop.run)
