"""pgqueuer, by its asyncpg driver. It refuses plain functions and advises asyncio.to_thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries
from program import Note, main


class Client:
    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def one(self, n: int) -> None:
        await self._queries.enqueue("due", b"%d" % n)

    async def many(self, numbers: range) -> None:
        count = len(numbers)
        await self._queries.enqueue(["due"] * count, [b"%d" % n for n in numbers], [0] * count)


class Peer:
    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        connection = await asyncpg.connect(url)
        yield Client(Queries(AsyncpgDriver(connection)))
        await connection.close()

    async def install(self, url: str) -> None:
        connection = await asyncpg.connect(url)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    async def serve(self, url: str, kind: str, places: int, note: Note, stop: asyncio.Event) -> None:
        connection = await asyncpg.connect(url)
        worker = PgQueuer(AsyncpgDriver(connection))

        async def concurrent(job) -> None:
            note(int(job.payload))

        async def plain(job) -> None:
            await asyncio.to_thread(note, int(job.payload))

        worker.entrypoint("due")(plain if kind == "plain" else concurrent)
        ending = asyncio.create_task(_pass_on(stop, worker.shutdown))
        await worker.run(batch_size=places)
        await ending


async def _pass_on(told: asyncio.Event, tell: asyncio.Event) -> None:
    await told.wait()
    tell.set()


if __name__ == "__main__":
    main(Peer(), uvloop.run)
