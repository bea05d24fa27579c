"""procrastinate, by its asynchronous psycopg connector. It takes plain functions, each in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from procrastinate import App, PsycopgConnector
from procrastinate.tasks import Task
from program import Note, main


def _app(url: str) -> App:
    return App(connector=PsycopgConnector(conninfo=url))


def _task(app: App, kind: str, note: Note) -> Task:
    if kind == "plain":

        def due(n: int) -> None:
            note(n)
    else:

        async def due(n: int) -> None:
            note(n)

    return app.task(name="due")(due)


class Client:
    def __init__(self, task: Task) -> None:
        self._task = task

    async def one(self, n: int) -> None:
        await self._task.defer_async(n=n)

    async def many(self, numbers: range) -> None:
        await self._task.batch_defer_async(*({"n": n} for n in numbers))


class Peer:
    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        app = _app(url)
        async with app.open_async():
            yield Client(_task(app, "async", lambda n: None))

    async def install(self, url: str) -> None:
        app = _app(url)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def serve(self, url: str, kind: str, places: int, note: Note, stop: asyncio.Event) -> None:
        app = _app(url)
        _task(app, kind, note)
        async with app.open_async():
            work = asyncio.create_task(app.run_worker_async(concurrency=places, install_signal_handlers=False))
            ended = asyncio.create_task(stop.wait())
            await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work


if __name__ == "__main__":
    main(Peer())
